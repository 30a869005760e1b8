//! The index of the kernel modules in the initramfs, `/etc/cato/modules`: written by mkinitramfs, read by the stage.
//!
//! Given text; responsible for what is loaded for a device or a file system, and in which order. The kernel packages
//! ship no `modules.dep`, and there is no modprobe in the initramfs, so the index carries what both would know.
//!
//! ```text
//! cato-modules 2
//! kernel 6.1.0-50-arm64
//! module virtio_ring
//! module virtio_blk
//! needs virtio_ring
//! alias virtio:d00000002v*
//! module iTCO_wdt
//! watchdog
//! module nls_ascii
//! builtin vfat
//! needs nls_ascii
//! ```
//!
//! A module needs only modules above it, so the order of the file is an order of loading, and there are no cycles. What is
//! built into the kernel is there when it needs modules all the same.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crate::paths::MODULE_FOLDER;

/// The first line, with the format's version.
const HEAD: &str = "cato-modules 2";

/// One module.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Module {
    /// As the kernel calls it, with `_` for `-`.
    pub name: String,
    /// It is in the kernel already, and has no file.
    pub builtin: bool,
    /// Names of the modules that are loaded before it: its dependencies, soft ones too.
    pub needs: Vec<String>,
    /// It drives a watchdog, or brings forth the device of one.
    pub watchdog: bool,
    /// What it serves: patterns for a device's `modalias`, and names such as `fs-ext4`.
    pub aliases: Vec<String>,
}

impl Module {
    /// Its file in the initramfs, uncompressed; `None` for what is built in.
    pub fn path(&self) -> Option<String> {
        (!self.builtin).then(|| format!("{MODULE_FOLDER}/{}.ko", self.name))
    }
}

/// All modules, each after those that it needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Index {
    /// The version of the kernel that they are built for, as `uname -r` says it; `None` when no module is packed.
    pub kernel: Option<String>,
    /// In load order.
    pub modules: Vec<Module>,
}

/// What is wrong with an index, and in which line (counted from 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexError {
    /// The line.
    pub line: usize,
    /// What is wrong with it.
    pub kind: IndexErrorKind,
}

/// What can be wrong with a line of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexErrorKind {
    /// Another first line than the one of this version.
    Head,
    /// A line that begins with no known word.
    Word(String),
    /// What should be a module's name is none.
    Name(String),
    /// `needs` or `alias` before the first module.
    Orphan,
    /// A module that is already there.
    Twice(String),
    /// A needed module that is not above the one that needs it.
    NotAbove(String),
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "module index, line {}: ", self.line)?;
        match &self.kind {
            IndexErrorKind::Head => write!(
                f,
                "expected {HEAD:?}; pack cato and the index with the same mkinitramfs"
            ),
            IndexErrorKind::Word(word) => {
                write!(
                    f,
                    "unknown word {word:?}; expected kernel, module, builtin, needs, watchdog or alias"
                )
            }
            IndexErrorKind::Name(name) => {
                write!(f, "{name:?} is not a module's name; expected letters, digits and _")
            }
            IndexErrorKind::Orphan => f.write_str("there is no module above this line that it could belong to"),
            IndexErrorKind::Twice(name) => write!(f, "module {name} appears twice"),
            IndexErrorKind::NotAbove(name) => write!(f, "module {name} is needed here, so it must be listed above"),
        }
    }
}

impl std::error::Error for IndexError {}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        if let Some(kernel) = &self.kernel {
            writeln!(f, "kernel {kernel}")?;
        }
        for module in &self.modules {
            let word = if module.builtin { "builtin" } else { "module" };
            writeln!(f, "{word} {}", module.name)?;
            if !module.needs.is_empty() {
                writeln!(f, "needs {}", module.needs.join(" "))?;
            }
            if module.watchdog {
                writeln!(f, "watchdog")?;
            }
            for alias in &module.aliases {
                writeln!(f, "alias {alias}")?;
            }
        }
        Ok(())
    }
}

/// A module's name as the kernel writes it: `-` in a file's name is `_` in the kernel.
pub fn canonical_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Reads a module's name, which becomes a part of a path.
fn module_name(text: &str) -> Result<String, IndexErrorKind> {
    let name = canonical_name(text);
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    is_name
        .then_some(name)
        .ok_or_else(|| IndexErrorKind::Name(text.to_owned()))
}

impl Index {
    /// Reads what [`Index`]'s `Display` writes. Empty lines and lines that begin with `#` mean nothing.
    ///
    /// # Errors
    /// The first line that breaks the format.
    pub fn parse(text: &str) -> Result<Self, IndexError> {
        let mut index = Self::default();
        // Name of each module to its place, to find doubles and what is above without a search for each.
        let mut places: HashMap<String, usize> = HashMap::new();
        if text.lines().next().map(str::trim) != Some(HEAD) {
            let kind = IndexErrorKind::Head;
            return Err(IndexError { line: 1, kind });
        }
        for (text, line) in text.lines().map(str::trim).zip(1..).skip(1) {
            if !text.is_empty() && !text.starts_with('#') {
                index
                    .take(text, &mut places)
                    .map_err(|kind| IndexError { line, kind })?;
            }
        }
        Ok(index)
    }

    fn take(&mut self, line: &str, places: &mut HashMap<String, usize>) -> Result<(), IndexErrorKind> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let rest = rest.trim_start();
        match word {
            "kernel" => self.kernel = Some(rest.to_owned()),
            "module" | "builtin" => {
                let name = module_name(rest)?;
                if places.insert(name.clone(), self.modules.len()).is_some() {
                    return Err(IndexErrorKind::Twice(name));
                }
                self.modules.push(Module {
                    name,
                    builtin: word == "builtin",
                    ..Module::default()
                });
            }
            "watchdog" => self.modules.last_mut().ok_or(IndexErrorKind::Orphan)?.watchdog = true,
            "needs" | "alias" => {
                let own = self.modules.len().saturating_sub(1);
                let module = self.modules.last_mut().ok_or(IndexErrorKind::Orphan)?;
                if word == "alias" {
                    module.aliases.push(rest.to_owned());
                    return Ok(());
                }
                for name in rest.split_whitespace() {
                    let name = module_name(name)?;
                    if places.get(&name).is_none_or(|&place| place >= own) {
                        return Err(IndexErrorKind::NotAbove(name));
                    }
                    module.needs.push(name);
                }
            }
            _ => return Err(IndexErrorKind::Word(word.to_owned())),
        }
        Ok(())
    }

    /// The module of that name; `-` and `_` are the same.
    pub fn find(&self, name: &str) -> Option<&Module> {
        let name = canonical_name(name);
        self.modules.iter().find(|m| m.name == name)
    }

    /// The modules that serve a device, by its `modalias` as sysfs shows it.
    pub fn for_modalias(&self, modalias: &str) -> impl Iterator<Item = &Module> {
        self.modules
            .iter()
            .filter(move |m| m.aliases.iter().any(|pattern| alias_matches(pattern, modalias)))
    }

    /// The module that brings a file system, by the name mount(2) takes.
    pub fn for_filesystem(&self, filesystem: &str) -> Option<&Module> {
        let alias = format!("fs-{filesystem}");
        self.find(filesystem).or_else(|| self.for_modalias(&alias).next())
    }

    /// A module and all that it needs, in load order; empty when there is no such module.
    pub fn closure(&self, name: &str) -> Vec<&Module> {
        let mut wanted: HashSet<&str> = self.find(name).into_iter().map(|m| m.name.as_str()).collect();
        // From the last to the first: who needs a module stands below it.
        let mut found: Vec<&Module> = Vec::new();
        for module in self.modules.iter().rev() {
            if wanted.contains(module.name.as_str()) {
                wanted.extend(module.needs.iter().map(String::as_str));
                found.push(module);
            }
        }
        found.reverse();
        found
    }
}

fn dash(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Whether an alias matches a name, as modprobe(8) does it: `*`, `?` and `[…]` as in fnmatch(3), `-` the same as `_`
/// outside of brackets. One `*` is tried again at a time, so no pattern costs exponential time.
pub fn alias_matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.as_bytes(), text.as_bytes());
    // Where to go on when a byte doesn't match: behind the last `*`, which then takes one byte more.
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        if let [b'*', rest @ ..] = pattern {
            pattern = rest;
            star = Some((pattern, text));
            continue;
        }
        let step = match text {
            [] => return pattern.is_empty(),
            [byte, rest @ ..] => one(pattern, *byte).map(|p| (p, rest)),
        };
        if let Some(next) = step {
            (pattern, text) = next;
            continue;
        }
        let Some((after, [_, rest @ ..])) = star else {
            return false;
        };
        star = Some((after, rest));
        (pattern, text) = (after, rest);
    }
}

/// Matches one byte against the pattern's first element (anything but `*`); the pattern's rest when it fits.
fn one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [] => None,
        [b'?', rest @ ..] => Some(rest),
        [b'[', rest @ ..] => match class(rest, byte) {
            Some((true, rest)) => Some(rest),
            Some((false, _)) => None,
            // Never closed: an ordinary character.
            None => (byte == b'[').then_some(rest),
        },
        [first, rest @ ..] => (dash(*first) == dash(byte)).then_some(rest),
    }
}

/// Reads a bracket expression behind its `[`: whether `byte` is in it, and what follows its `]`. `None` if never closed.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (not, mut rest) = match pattern {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, pattern),
    };
    let mut found = false;
    let mut first = true;
    loop {
        rest = match rest {
            [] => return None,
            [b']', rest @ ..] if !first => return Some((found != not, rest)),
            [low, b'-', high, rest @ ..] if *high != b']' => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                found |= *single == byte;
                rest
            }
        };
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn module(name: &str, needs: &[&str], aliases: &[&str]) -> Module {
        let own = |list: &[&str]| list.iter().map(|&x| x.to_owned()).collect();
        Module {
            name: name.to_owned(),
            builtin: name == "vfat",
            needs: own(needs),
            watchdog: name == "virtio_blk",
            aliases: own(aliases),
        }
    }

    fn sample() -> Index {
        Index {
            kernel: Some("6.1.0-50-arm64".to_owned()),
            modules: vec![
                module("virtio", &[], &[]),
                module("virtio_ring", &["virtio"], &[]),
                module("virtio_blk", &["virtio", "virtio_ring"], &["virtio:d00000002v*"]),
                module("crc32c_generic", &[], &["crypto-crc32c"]),
                module("mbcache", &[], &[]),
                module("ext4", &["mbcache", "crc32c_generic"], &["fs-ext4", "fs-ext3", "ext3"]),
                module(
                    "sdhci_pci",
                    &[],
                    &["pci:v*d*sv*sd*bc08sc05i*", "of:N*T*Cbrcm,bcm2835-sdhciC*"],
                ),
                module("nls_ascii", &[], &[]),
                module("vfat", &["nls_ascii"], &[]),
            ],
        }
    }

    fn names(list: &[&Module]) -> Vec<String> {
        list.iter().map(|m| m.name.clone()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Index::parse(&sample().to_string()), Ok(sample()));
    }

    #[test]
    fn lookups() {
        let index = sample();
        let found: Vec<_> = index.for_modalias("virtio:d00000002v00001AF4").collect();
        assert_eq!(names(&found), ["virtio_blk"]);
        assert_eq!(index.for_modalias("virtio:d00000003v00001AF4").count(), 0);
        assert_eq!(
            index
                .for_modalias("pci:v00001B36d00000007sv00001AF4sd00001100bc08sc05i01")
                .count(),
            1
        );
        assert_eq!(index.for_modalias("of:NmmcT(null)Cbrcm,bcm2835_sdhciCx").count(), 1);
        assert_eq!(index.for_filesystem("ext4").unwrap().name, "ext4");
        assert_eq!(index.for_filesystem("ext3").unwrap().name, "ext4");
        assert!(index.for_filesystem("xfs").is_none());
        assert_eq!(
            index.find("virtio-blk").unwrap().path().unwrap(),
            "/lib/modules/virtio_blk.ko"
        );
        let vfat = index.closure("vfat");
        assert_eq!(names(&vfat), ["nls_ascii", "vfat"]);
        assert_eq!(vfat[1].path(), None);
        assert_eq!(index.find("sdhci-pci").unwrap().name, "sdhci_pci");
        assert_eq!(
            names(&index.closure("virtio-blk")),
            ["virtio", "virtio_ring", "virtio_blk"]
        );
        assert_eq!(names(&index.closure("ext4")), ["crc32c_generic", "mbcache", "ext4"]);
        assert!(index.closure("xfs").is_empty());
    }

    #[test]
    fn errors_name_their_line() {
        for (text, line, kind) in [
            ("", 1, IndexErrorKind::Head),
            ("cato-modules 1\n", 1, IndexErrorKind::Head),
            ("cato-modules 2\n\nneeds a\n", 3, IndexErrorKind::Orphan),
            ("cato-modules 2\nmodule\n", 2, IndexErrorKind::Name(String::new())),
            ("cato-modules 2\nmodule ../a\n", 2, IndexErrorKind::Name("../a".into())),
            ("cato-modules 2\nmodule a /b\n", 2, IndexErrorKind::Name("a /b".into())),
            ("cato-modules 2\nmodul a\n", 2, IndexErrorKind::Word("modul".into())),
            (
                "cato-modules 2\nmodule a-b\nbuiltin a_b",
                3,
                IndexErrorKind::Twice("a_b".into()),
            ),
            (
                "cato-modules 2\nmodule a\nneeds a\n",
                3,
                IndexErrorKind::NotAbove("a".into()),
            ),
            (
                "cato-modules 2\nmodule a\nneeds c\nmodule c",
                3,
                IndexErrorKind::NotAbove("c".into()),
            ),
        ] {
            let error = Index::parse(text).unwrap_err();
            assert_eq!(error, IndexError { line, kind });
            assert!(error.to_string().contains(&format!("line {line}")));
        }
    }

    #[test]
    fn patterns() {
        for (pattern, text, want) in [
            ("", "", true),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "xababab", true),
            ("x[0-9a]z", "x5z", true),
            ("x[0-9a]z", "xbz", false),
            ("x[!0-9]z", "xbz", true),
            ("x[]]z", "x]z", true),
            ("x[a-]z", "x-z", true),
            ("x[a-]z", "x_z", false),
            ("x[az", "x[az", true),
            ("snd-hda", "snd_hda", true),
            ("dmi*:bvn*:pn?*:", "dmi:bvnQEMU:bvr1:pnX:", true),
        ] {
            assert_eq!(alias_matches(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn a_pattern_cannot_cost_exponential_time() {
        let pattern = "*a".repeat(2_000) + "b";
        assert!(!alias_matches(&pattern, &"a".repeat(20_000)));
    }

    /// The textbook definition, exponential, for short texts.
    fn slow(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => slow(rest, text),
            (Some(('*', rest)), Some((_, less))) => slow(rest, text) || slow(pattern, less),
            (Some((p, rest)), Some((t, less))) => (p == t || *p == '?') && slow(rest, less),
            _ => false,
        }
    }

    /// An index in which each module needs some of those above it.
    fn any_index() -> impl Strategy<Value = Index> {
        let one = (
            prop::collection::vec(any::<prop::sample::Index>(), 0..4),
            prop::collection::vec("[!-~][ -~]{0,8}[!-~]", 0..3),
        );
        prop::collection::vec(one, 0..20).prop_map(|list| {
            let name = |i: usize| format!("m_{i}");
            let modules = list.into_iter().enumerate().map(|(i, (needs, aliases))| Module {
                name: name(i),
                builtin: i % 5 == 4,
                watchdog: i % 3 == 1,
                needs: if i == 0 {
                    vec![]
                } else {
                    needs.into_iter().map(|n| name(n.index(i))).collect()
                },
                aliases,
            });
            Index {
                kernel: None,
                modules: modules.collect(),
            }
        })
    }

    proptest! {
        #[test]
        fn any_index_survives_the_text(index in any_index()) {
            prop_assert_eq!(Index::parse(&index.to_string()), Ok(index));
        }

        #[test]
        fn no_text_panics(text in "(cato-modules 2\n)?([ -~\n]|module |builtin |kernel |needs |alias |\\PC){0,200}") {
            if let Ok(index) = Index::parse(&text) {
                prop_assert_eq!(Index::parse(&index.to_string()), Ok(index));
            }
        }

        #[test]
        fn patterns_mean_what_the_textbook_says(pattern in "[ab*?]{0,7}", text in "[ab]{0,9}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(alias_matches(&pattern, &text), slow(&chars(&pattern), &chars(&text)));
        }

        #[test]
        fn any_pattern_ends(pattern in "\\PC{0,30}", text in "\\PC{0,30}") {
            let _ = alias_matches(&pattern, &text);
        }

        #[test]
        fn a_closure_is_complete_and_in_order(index in any_index()) {
            for module in &index.modules {
                let closure = index.closure(&module.name);
                prop_assert_eq!(closure.last().map(|m| &m.name), Some(&module.name));
                for (place, part) in closure.iter().enumerate() {
                    for need in &part.needs {
                        prop_assert!(closure.iter().take(place).any(|m| m.name == *need));
                    }
                }
            }
        }
    }
}
