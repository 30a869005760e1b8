//! `Config` × what was tried × what is known of the slots → [`Choice`]: which entry is next, and why. Pure.

use config::{Config, Entry, SlotName};
use serde::{Deserialize, Serialize};

use crate::state::slots::Suspect;
use crate::state::{Condition, State};

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
    /// Its slot was to be booted next, once.
    Once,
    /// Its slot is bad, and nothing better boots.
    LastResort,
    /// Somebody picked it in the menu.
    Picked,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::First => "first in order",
            Self::Next => "next in order",
            Self::Once => "its slot is booted once",
            Self::LastResort => "its slot is bad, but what is better does not boot",
            Self::Picked => "picked in the menu",
        })
    }
}

/// What has been tried since the last start or retry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tried {
    /// When the first was begun, ms since boot.
    pub since: Option<u64>,
    /// Set when someone picked an entry: nothing else is tried.
    pub picked: Option<String>,
    /// Entries that failed, oldest first.
    pub failed: Vec<String>,
    /// The slot whose files the service Linux may have died of: it comes last, behind those that are bad where it is not good itself.
    /// Where it may be any of them, all come behind those, and behind what has no slot.
    pub suspect: Option<Suspect>,
    /// Everything failed before: bad slots are tried, too.
    pub all_failed: bool,
}

/// The entries of `order`, each with its slot's turn: where `order` has entries with slots, the slots come in the order
/// of the state, and those that are not to be booted are left out.
fn ordered<'c>(config: &'c Config, state: Option<&State>, tried: &Tried) -> Vec<(&'c Entry, Option<Why>)> {
    let listed: Vec<&Entry> = config.order.iter().filter_map(|name| config.entry(name)).collect();
    let Some(state) = state else {
        return listed.into_iter().map(|entry| (entry, None)).collect();
    };
    let of = |slot: &SlotName| -> Vec<&'c Entry> {
        let with = listed.iter().filter(|entry| entry.slot.as_ref() == Some(slot));
        with.copied().collect()
    };
    let is_suspect = |slot: &&SlotName| {
        let suspect = tried.suspect.as_ref();
        suspect.is_some_and(|suspect| suspect.again || suspect.slot == **slot)
    };
    let (mut suspect, choices): (Vec<_>, Vec<_>) = state.choices().into_iter().partition(is_suspect);
    suspect.sort_by_key(|slot| tried.suspect.as_ref().is_some_and(|suspect| suspect.slot == **slot));
    let mut slotted = choices.into_iter().flat_map(of);
    // It leaves its turn to the next slot.
    let in_turn = listed.iter().filter_map(|entry| match entry.slot {
        None => Some(*entry),
        Some(_) => slotted.next(),
    });
    let why = |entry: &Entry| (state.once.is_some() && entry.slot == state.once).then_some(Why::Once);
    let mut all: Vec<_> = in_turn.map(|entry| (entry, why(entry))).collect();
    let is_good = |slot: &&SlotName| state.slot(slot).is_some_and(|slot| slot.condition == Condition::Good);
    let is_unproven = suspect.iter().any(|slot| !is_good(slot));
    let again = tried.suspect.as_ref().is_some_and(|suspect| suspect.again);
    if tried.all_failed || is_unproven || again {
        let bad = state.last_resorts().into_iter().flat_map(of);
        all.extend(bad.map(|entry| (entry, Some(Why::LastResort))));
    }
    all.extend(suspect.into_iter().flat_map(of).map(|entry| (entry, None)));
    all
}

/// The entry to try next; none when all have failed. `state` is what is known of the slots.
pub(crate) fn select(config: &Config, tried: &Tried, state: Option<&State>) -> Option<Choice> {
    let open = |name: &&String| !tried.failed.contains(name);
    if let Some(picked) = &tried.picked {
        let entry = config.entry(Some(picked).filter(open)?)?;
        return Some(Choice {
            entry: entry.clone(),
            why: Why::Picked,
        });
    }
    let (entry, why) = ordered(config, state, tried)
        .into_iter()
        .find(|(entry, _)| open(&&entry.name))?;
    let in_order = if tried.failed.is_empty() { Why::First } else { Why::Next };
    Some(Choice {
        entry: entry.clone(),
        why: why.unwrap_or(in_order),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::state::Reset;
    use crate::state::slots::{Now, Rules};

    /// A config with entries of these names, tried in this order.
    pub(crate) fn config(names: &[&str]) -> Config {
        let entry = |name: &&str| Entry {
            name: (*name).to_owned(),
            title: format!("title of {name}"),
            slot: None,
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
            console: config::Console::default(),
            purgatory: config::Purgatory {
                console: true,
                reason: None,
            },
            slots: config::Slots { tries: 3, trial: None },
            watchdog: None,
            unbind: Vec::new(),
            entries: names.iter().map(entry).collect(),
        }
    }

    #[test]
    fn order_is_followed_and_ends() {
        let config = config(&["a", "b"]);
        let mut tried = Tried::default();
        let names: Vec<_> = std::iter::from_fn(|| {
            let choice = select(&config, &tried, None)?;
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
            ..Tried::default()
        };
        assert_eq!(select(&config, &tried, None).unwrap().why, Why::Picked);
        tried.failed.push("b".to_owned());
        assert_eq!(select(&config, &tried, None), None);
    }

    /// A config whose entries `a1`, `a2`, `b1` have the slots A and B, and `r` has none.
    fn slotted(order: &[&str]) -> Config {
        let mut config = config(order);
        for entry in &mut config.entries {
            entry.slot = match entry.name.as_bytes() {
                [b'a', ..] => "A".parse().ok(),
                [b'b', ..] => "B".parse().ok(),
                _ => None,
            };
        }
        config
    }

    fn in_turn(config: &Config, state: &State, all_failed: bool) -> Vec<(String, Why)> {
        let mut tried = Tried {
            all_failed,
            ..Tried::default()
        };
        std::iter::from_fn(|| {
            let choice = select(config, &tried, Some(state))?;
            tried.failed.push(choice.entry.name.clone());
            Some((choice.entry.name, choice.why))
        })
        .collect()
    }

    fn names(all: &[(String, Why)]) -> Vec<&str> {
        all.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn slots_take_turns_where_order_has_them() {
        let config = slotted(&["u", "a1", "b1", "a2", "r"]);
        let (a, b): (SlotName, SlotName) = ("A".parse().unwrap(), "B".parse().unwrap());
        let rules = Rules::of(&config);
        let mut state = State::new(&rules);
        let now = Now::default();
        assert_eq!(names(&in_turn(&config, &state, false)), ["u", "a1", "a2", "b1", "r"]);
        state.set_primary(&b, now).unwrap();
        assert_eq!(names(&in_turn(&config, &state, false)), ["u", "b1", "a1", "a2", "r"]);
        state.mark_bad(&b, now).unwrap();
        assert_eq!(names(&in_turn(&config, &state, false)), ["u", "a1", "a2", "r"]);
        // Marked as bad, it is not even the last resort; one that was given up is.
        assert_eq!(names(&in_turn(&config, &state, true)), ["u", "a1", "a2", "r"]);
        for _ in 0..3 {
            state.jump(&a, 1, now);
            state.wake(&rules, 1, Reset::Watchdog, now);
        }
        assert_eq!(names(&in_turn(&config, &state, false)), ["u", "r"]);
        let all = in_turn(&config, &state, true);
        assert_eq!(names(&all), ["u", "r", "a1", "a2"]);
        assert_eq!(all.last().unwrap().1, Why::LastResort);
    }

    #[test]
    fn what_the_service_linux_may_die_of_comes_last() {
        let config = slotted(&["a1", "b1", "r"]);
        let mut state = State::new(&Rules::of(&config));
        let [a, b]: [SlotName; 2] = ["A", "B"].map(|name| name.parse().unwrap());
        let in_turn = |state: &State, slot: &SlotName, again| {
            let mut tried = Tried {
                suspect: Some(Suspect {
                    slot: slot.clone(),
                    again,
                    is_new: false,
                }),
                ..Tried::default()
            };
            let all = std::iter::from_fn(|| {
                let choice = select(&config, &tried, Some(state))?;
                tried.failed.push(choice.entry.name.clone());
                Some(choice.entry.name)
            });
            all.collect::<Vec<_>>()
        };
        assert_eq!(in_turn(&state, &a, false), ["b1", "r", "a1"]);
        assert_eq!(in_turn(&state, &b, true), ["r", "a1", "b1"]);
        // One that was given up is better than one that nobody has marked, but not than a good one that may be innocent.
        for _ in 0..3 {
            state.jump(&b, 1, Now::default());
            state.wake(&Rules::of(&config), 1, Reset::Watchdog, Now::default());
        }
        assert_eq!(in_turn(&state, &a, false), ["r", "b1", "a1"]);
        state.mark_good(&a, Now::default()).unwrap();
        assert_eq!(in_turn(&state, &a, false), ["r", "a1"]);
        assert_eq!(in_turn(&state, &a, true), ["r", "b1", "a1"]);
    }

    #[test]
    fn once_is_said() {
        let config = slotted(&["a1", "b1"]);
        let mut state = State::new(&Rules::of(&config));
        state.set_once(&"B".parse().unwrap(), Now::default()).unwrap();
        let all = in_turn(&config, &state, false);
        assert_eq!(names(&all), ["b1", "a1"]);
        assert_eq!((all[0].1, all[1].1), (Why::Once, Why::Next));
    }
}
