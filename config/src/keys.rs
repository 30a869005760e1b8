//! The keys each table has, and the one somebody may have meant.
//!
//! Given a table's kind; responsible for its list of keys, which the parser, the schema and the manual share (the
//! latter two by tests).

/// The keys of the file itself.
pub const ROOT: &[&str] = &["version", "order", "console", "purgatory", "entry"];
/// The keys of `[console]`.
pub const CONSOLE: &[&str] = &["countdown", "retry"];
/// The keys of `[purgatory]`.
pub const PURGATORY: &[&str] = &["console", "reason"];
/// The keys of `[entry.NAME]`.
pub const ENTRY: &[&str] = &[
    "title",
    "source",
    "kernel",
    "initrd",
    "dtb",
    "cmdline",
    "cmdline_extra",
    "check",
    "arena",
    "sha256",
];
/// The keys of an entry's `sha256`.
pub const SHA256: &[&str] = &["kernel", "initrd", "dtb"];

/// What other boot loaders call the same thing.
const ALIASES: &[(&str, &str)] = &[
    ("linux", "kernel"),
    ("image", "kernel"),
    ("vmlinuz", "kernel"),
    ("initramfs", "initrd"),
    ("ramdisk", "initrd"),
    ("devicetree", "dtb"),
    ("fdt", "dtb"),
    ("append", "cmdline"),
    ("args", "cmdline"),
    ("bootargs", "cmdline"),
    ("options", "cmdline"),
    ("name", "title"),
    ("label", "title"),
    ("device", "source"),
    ("disk", "source"),
    ("root", "source"),
    ("verify", "check"),
    ("checksum", "check"),
    ("placement", "arena"),
    ("ramoops", "reason"),
    ("digest", "sha256"),
    ("timeout", "countdown"),
    ("default", "order"),
    ("entries", "entry"),
];

/// A kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Root,
    Console,
    Purgatory,
    Entry,
    Sha256,
}

impl Place {
    const ALL: [Self; 5] = [Self::Root, Self::Console, Self::Purgatory, Self::Entry, Self::Sha256];

    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Root => ROOT,
            Self::Console => CONSOLE,
            Self::Purgatory => PURGATORY,
            Self::Entry => ENTRY,
            Self::Sha256 => SHA256,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Root => "the top of the file, above the first `[table]`",
            Self::Console => "`[console]`",
            Self::Purgatory => "`[purgatory]`",
            Self::Entry => "`[entry.NAME]`",
            Self::Sha256 => "`sha256` of an entry",
        }
    }

    /// What to tell somebody who wrote `key` here.
    pub(crate) fn advice(self, key: &str) -> String {
        let alias = ALIASES
            .iter()
            .find(|(other, _)| key.eq_ignore_ascii_case(other))
            .map(|(_, ours)| *ours);
        let here = alias.filter(|ours| self.keys().contains(ours));
        if let Some(meant) = nearest(key, self.keys().iter().copied()).or(here) {
            return format!("did you mean `{meant}`?");
        }
        let key = alias.unwrap_or(key);
        if let Some(home) = Self::ALL.into_iter().find(|place| place.keys().contains(&key)) {
            return format!("`{key}` belongs in {}", home.described());
        }
        let list: Vec<String> = self.keys().iter().map(|key| format!("`{key}`")).collect();
        format!("known keys here: {}", list.join(", "))
    }
}

/// The candidate most like `word`, if one is near enough to be a slip of it. Case does not count.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words and further candidates are not looked at: the cost must stay small on any input.
    const LONGEST: usize = 64;
    const MOST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = word.chars().count().max(3).div_ceil(3);
    candidates
        .into_iter()
        .take(MOST)
        .filter(|candidate| candidate.len() <= LONGEST)
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        for (word, meant) in [
            ("kernl", Some("kernel")),
            ("Kernel", Some("kernel")),
            ("inird", Some("initrd")),
            ("cmdlne_extra", Some("cmdline_extra")),
            ("overlays", None),
            ("slot", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ENTRY.iter().copied()), meant, "{word}");
        }
        assert_eq!(nearest(&"kernel".repeat(1000), ENTRY.iter().copied()), None);
    }

    #[test]
    fn advice_knows_other_loaders_words_and_other_tables_keys() {
        assert_eq!(Place::Entry.advice("initramfs"), "did you mean `initrd`?");
        assert_eq!(Place::Entry.advice("countdown"), "`countdown` belongs in `[console]`");
        assert_eq!(Place::Root.advice("timeout"), "`countdown` belongs in `[console]`");
        assert_eq!(Place::Entry.advice("reason"), "`reason` belongs in `[purgatory]`");
        assert_eq!(Place::Console.advice("zzzzz"), "known keys here: `countdown`, `retry`");
    }
}
