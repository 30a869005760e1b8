//! `Config` × what was tried → [`Choice`]: which entry is next, and why. Pure.

use config::{Config, Entry};
use serde::{Deserialize, Serialize};

/// An entry and the reason it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Choice {
    /// The entry.
    pub entry: Entry,
    /// For the log.
    pub why: Why,
}

/// Why an entry was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    /// First in `order`.
    First,
    /// The ones before it in `order` failed.
    Next,
    /// Someone picked it at the prompt.
    Picked,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::First => "first in order",
            Self::Next => "next in order",
            Self::Picked => "picked at the prompt",
        })
    }
}

/// What has been tried since the last start or retry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// Set when someone picked an entry: nothing else is tried.
    pub picked: Option<String>,
    /// Entries that failed, oldest first.
    pub failed: Vec<String>,
}

/// The entry to try next; none when all have failed.
pub(crate) fn select(config: &Config, tried: &Tried) -> Option<Choice> {
    let open = |name: &&String| !tried.failed.contains(name);
    if let Some(picked) = &tried.picked {
        let entry = config.entry(Some(picked).filter(open)?)?;
        return Some(Choice {
            entry: entry.clone(),
            why: Why::Picked,
        });
    }
    let entry = config.order.iter().filter(open).find_map(|name| config.entry(name))?;
    Some(Choice {
        entry: entry.clone(),
        why: if tried.failed.is_empty() { Why::First } else { Why::Next },
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A config with entries of these names, tried in this order.
    pub(crate) fn config(names: &[&str]) -> Config {
        let entry = |name: &&str| Entry {
            name: (*name).to_owned(),
            title: format!("title of {name}"),
            source: config::Source::Initramfs("/boot".to_owned()),
            kernel: "kernel".to_owned(),
            initrd: Vec::new(),
            dtb: None,
            cmdline: String::new(),
            cmdline_extra: true,
            check: config::Check::Sha256,
            arena: config::Arena::Auto,
            sha256: config::WantedDigests::default(),
        };
        Config {
            order: names.iter().map(|n| (*n).to_owned()).collect(),
            console: config::Console {
                countdown: std::time::Duration::from_secs(3),
                retry: std::time::Duration::from_mins(1),
            },
            purgatory: config::Purgatory {
                console: true,
                reason: None,
            },
            entries: names.iter().map(entry).collect(),
        }
    }

    #[test]
    fn order_is_followed_and_ends() {
        let config = config(&["a", "b"]);
        let mut tried = Tried::default();
        let names: Vec<_> = std::iter::from_fn(|| {
            let choice = select(&config, &tried)?;
            tried.failed.push(choice.entry.name.clone());
            Some((choice.entry.name.clone(), choice.why))
        })
        .collect();
        assert_eq!(names, [("a".to_owned(), Why::First), ("b".to_owned(), Why::Next)]);
    }

    #[test]
    fn a_picked_entry_is_the_only_one() {
        let config = config(&["a", "b"]);
        let mut tried = Tried {
            picked: Some("b".to_owned()),
            failed: Vec::new(),
        };
        assert_eq!(select(&config, &tried).unwrap().why, Why::Picked);
        tried.failed.push("b".to_owned());
        assert_eq!(select(&config, &tried), None);
    }
}
