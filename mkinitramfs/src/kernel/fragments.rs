//! Fragments of configuration: which there are, and what is in them. Pure.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use config::Arch;

/// Fragments of this package that are taken when none is named, besides those that `always` names.
const USUAL: [&str; 8] = ["virtio", "nvme", "ahci", "usb", "mmc", "uefi", "pstore", "watchdog-pci"];

/// Fragments that every kernel of this arch has.
pub(super) fn always(arch: Arch) -> &'static [&'static str] {
    match arch {
        Arch::Arm64 => &["base", "arm64", "errata-arm64"],
        Arch::X86_64 => &["base", "x86_64"],
    }
}

/// Fragments that are taken when none is named.
pub fn usual(arch: Arch) -> Vec<String> {
    let own: &[&str] = match arch {
        Arch::Arm64 => &["uefi-arm64", "watchdog-arm64"],
        Arch::X86_64 => &["watchdog-pc"],
    };
    USUAL.iter().chain(own).map(ToString::to_string).collect()
}

/// An option, what it is set to, and where and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// `CONFIG_KEXEC`
    pub(super) name: String,
    /// As in `.config`; `n` is off.
    pub(super) value: String,
    /// For whoever wonders about it.
    pub(super) reason: String,
    /// `FILE:LINE`
    pub(super) place: String,
}

/// Reads a fragment: on each line an option, and its reason behind a `#`.
///
/// # Errors
/// On the first line that is neither, nor empty, nor a comment.
pub(super) fn parse(text: &str, file: &str) -> Result<Vec<Setting>> {
    let mut all = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let (line, place) = (line.trim(), format!("{file}:{}", n + 1));
        ensure!(
            !(line.starts_with("# CONFIG_") && line.ends_with(" is not set")),
            "{place}: write CONFIG_NAME=n and the reason behind a `#`; this line is a comment here"
        );
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (option, reason) = line
            .split_once('#')
            .with_context(|| format!("{place}: no reason; write it behind a `#`"))?;
        let (name, value) = option
            .trim()
            .split_once('=')
            .filter(|(name, value)| name.starts_with("CONFIG_") && !value.is_empty() && *value != "m")
            .with_context(|| format!("{place}: expected CONFIG_NAME=VALUE, and no modules: nothing here loads them"))?;
        ensure!(!reason.trim().is_empty(), "{place}: the reason is empty");
        all.push(Setting {
            name: name.to_owned(),
            value: value.to_owned(),
            reason: reason.trim().to_owned(),
            place,
        });
    }
    Ok(all)
}

/// All settings, each option once: the last fragment that has it decides.
pub(super) fn merged(fragments: &[(String, String)]) -> Result<BTreeMap<String, Setting>> {
    let mut all = BTreeMap::new();
    for (file, text) in fragments {
        for setting in parse(text, file)? {
            all.insert(setting.name.clone(), setting);
        }
    }
    Ok(all)
}

/// What a kernel does not have as it was asked for, by `.config`.
pub(super) fn refused<'s>(settings: &'s BTreeMap<String, Setting>, config: &str) -> Vec<&'s Setting> {
    let taken: BTreeMap<&str, &str> = config.lines().filter_map(|line| line.split_once('=')).collect();
    let is_taken = |setting: &&Setting| taken.get(setting.name.as_str()).copied().unwrap_or("n") == setting.value;
    settings.values().filter(|setting| !is_taken(setting)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_has_a_value_and_a_reason() {
        let text = "# Why.\n\nCONFIG_KEXEC=y   # the job\nCONFIG_PANIC_TIMEOUT=10 # a # b\n";
        let all = parse(text, "f").unwrap();
        let shown: Vec<_> = all
            .iter()
            .map(|s| (&*s.name, &*s.value, &*s.reason, &*s.place))
            .collect();
        assert_eq!(
            shown,
            [
                ("CONFIG_KEXEC", "y", "the job", "f:3"),
                ("CONFIG_PANIC_TIMEOUT", "10", "a # b", "f:4")
            ]
        );
        for wrong in [
            "CONFIG_X=y",
            "CONFIG_X=y #",
            "CONFIG_X=m # no",
            "X=y # no",
            "CONFIG_X= # no",
            "# CONFIG_X is not set",
        ] {
            assert!(parse(wrong, "f").is_err(), "{wrong}");
        }
    }

    /// What is shipped can be read, and two fragments that have the same option agree.
    #[test]
    fn the_shipped_fragments_agree() {
        let folder = crate::workspace().join("mkinitramfs/kernel");
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut all: BTreeMap<String, Setting> = BTreeMap::new();
        for name in &names {
            for setting in parse(&std::fs::read_to_string(folder.join(name)).unwrap(), name).unwrap() {
                if let Some(other) = all.insert(setting.name.clone(), setting.clone()) {
                    assert_eq!(other.value, setting.value, "{} and {}", other.place, setting.place);
                    assert_ne!(other.place.split(':').next(), setting.place.split(':').next());
                }
            }
        }
        assert!(all.contains_key("CONFIG_KEXEC"));
        for arch in Arch::ALL {
            for name in usual(arch)
                .iter()
                .map(String::as_str)
                .chain(always(arch).iter().copied())
            {
                assert!(names.contains(&format!("{name}.config")), "{name}");
            }
        }
    }

    #[test]
    fn what_is_not_taken_is_found() {
        let fragments = [
            (
                "a".to_owned(),
                "CONFIG_A=y # a\nCONFIG_B=y # b\nCONFIG_C=n # c\n".to_owned(),
            ),
            ("b".to_owned(), "CONFIG_B=3 # b\n".to_owned()),
        ];
        let settings = merged(&fragments).unwrap();
        let of = |config| {
            refused(&settings, config)
                .iter()
                .map(|s| s.name.clone())
                .collect::<Vec<_>>()
        };
        assert!(of("CONFIG_A=y\nCONFIG_B=3\n# CONFIG_C is not set\n").is_empty());
        assert_eq!(of("CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n"), ["CONFIG_B", "CONFIG_C"]);
    }
}
