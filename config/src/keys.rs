//! The keys each table has, and the one somebody may have meant.
//!
//! Given a table's kind; responsible for its list of keys, which the parser, the schema and the manual share (the
//! latter two by tests).

/// The keys of the file itself.
pub const ROOT: &[&str] = &[
    "version",
    "order",
    "console",
    "purgatory",
    "slots",
    "watchdog",
    "quiesce",
    "entry",
];
/// The keys of `[console]`.
pub const CONSOLE: &[&str] = &[
    "countdown",
    "retry",
    "devices",
    "stop",
    "menu_timeout",
    "terminal",
    "access",
    "password",
];
/// The keys of `[purgatory]`.
pub const PURGATORY: &[&str] = &["console", "reason"];
/// The keys of `[slots]`.
pub const SLOTS: &[&str] = &["tries", "trial"];
/// The keys of `[watchdog]`.
pub const WATCHDOG: &[&str] = &["timeout"];
/// The keys of `[quiesce]`.
pub const QUIESCE: &[&str] = &["unbind"];
/// The keys of `[entry.NAME]`.
pub const ENTRY: &[&str] = &[
    "title",
    "slot",
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
    ("bootname", "slot"),
    ("generation", "slot"),
    ("attempts", "tries"),
    ("bootlimit", "tries"),
];

/// A kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    Root,
    Console,
    Purgatory,
    Slots,
    Watchdog,
    Quiesce,
    Entry,
    Sha256,
}

impl TableKind {
    const ALL: [Self; 8] = [
        Self::Root,
        Self::Console,
        Self::Purgatory,
        Self::Slots,
        Self::Watchdog,
        Self::Quiesce,
        Self::Entry,
        Self::Sha256,
    ];

    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Root => ROOT,
            Self::Console => CONSOLE,
            Self::Purgatory => PURGATORY,
            Self::Slots => SLOTS,
            Self::Watchdog => WATCHDOG,
            Self::Quiesce => QUIESCE,
            Self::Entry => ENTRY,
            Self::Sha256 => SHA256,
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Root => "the top of the file, above the first `[table]`",
            Self::Console => "`[console]`",
            Self::Purgatory => "`[purgatory]`",
            Self::Slots => "`[slots]`",
            Self::Watchdog => "`[watchdog]`",
            Self::Quiesce => "`[quiesce]`",
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
        if let Some(home) = Self::ALL.into_iter().find(|table| table.keys().contains(&key)) {
            return format!("`{key}` belongs in {}", home.described());
        }
        let list: Vec<String> = self.keys().iter().map(|key| format!("`{key}`")).collect();
        format!("known keys: {}", list.join(", "))
    }
}

/// The candidate most like `word`, if one is near enough to be a slip of it. Case does not count.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Longer words and further candidates are not looked at: the cost must stay small on any input.
    const LONGEST: usize = 40;
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let length = word.chars().count();
    let allowed = length.max(3).div_ceil(3);
    candidates
        .into_iter()
        .take(MAX_CANDIDATES)
        .filter(|candidate| candidate.len() <= LONGEST && candidate.chars().count().abs_diff(length) <= allowed)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many candidates a word is compared with.
pub(crate) const MAX_CANDIDATES: usize = 64;

fn distance(a: &str, b: &str) -> usize {
    #[cfg(test)]
    tests::COMPARED.set(tests::COMPARED.get().saturating_add(1));
    strsim::osa_distance(a, b)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::problems::MAX_LISTED;

    thread_local! {
        /// The words compared in this thread.
        pub(super) static COMPARED: Cell<usize> = const { Cell::new(0) };
    }

    /// 3,839 names in `order` that no entry has, 64 entries: each problem once looked for its nearest, for 17 seconds.
    #[test]
    fn only_what_is_listed_is_compared() {
        let many = |count: usize, unit: &str| {
            let all: Vec<String> = (0..count).map(|n| unit.replace('#', &format!("{n:04}"))).collect();
            all.concat()
        };
        let names = many(3839, "\"an-entry-that-is-not-there-#\",");
        let entries = many(64, "[entry.an-entry-that-is-there-#]\n");
        let reversed = many(2000, "entry.x#.titl=1\n") + &many(2000, "entry.x#.kernl=1\n");
        for text in [
            &format!("order=[{names}]\n{entries}"),
            &many(5000, "kernel#=1\n"),
            &many(2000, "[entry.x#]\ncheck=\"sha25\"\n"),
            &reversed,
        ] {
            COMPARED.set(0);
            assert_eq!(crate::parse(text).unwrap_err().len(), MAX_LISTED + 1);
            let compared = COMPARED.get();
            assert!((1..=MAX_LISTED * MAX_CANDIDATES).contains(&compared), "{compared}");
        }
    }

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        for (word, meant) in [
            ("kernl", Some("kernel")),
            ("Kernel", Some("kernel")),
            ("inird", Some("initrd")),
            ("cmdlne_extra", Some("cmdline_extra")),
            ("overlays", None),
            ("slots", Some("slot")),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ENTRY.iter().copied()), meant, "{word}");
        }
        assert_eq!(nearest(&"kernel".repeat(1000), ENTRY.iter().copied()), None);
    }

    #[test]
    fn advice_knows_other_loaders_words_and_other_tables_keys() {
        assert_eq!(TableKind::Entry.advice("initramfs"), "did you mean `initrd`?");
        assert_eq!(
            TableKind::Entry.advice("countdown"),
            "`countdown` belongs in `[console]`"
        );
        assert_eq!(TableKind::Root.advice("timeout"), "`countdown` belongs in `[console]`");
        assert_eq!(TableKind::Entry.advice("reason"), "`reason` belongs in `[purgatory]`");
        assert_eq!(
            TableKind::Console.advice("zzzzz"),
            "known keys: `countdown`, `retry`, `devices`, `stop`, `menu_timeout`, `terminal`, `access`, `password`"
        );
    }
}
