//! `cato state`, `cato status`, `cato mark-good` and the others that read and change what is known of the slots, on a
//! main system or on an image.
//!
//! Given the words behind `cato`; responsible for what they mean, and for one change at a time.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use config::SlotName;

use super::{running, wdtest};
use crate::deadlines::{JUDGE_AGAIN, LOCK, LOCK_LOOK};
use crate::handover;
use crate::machine::record;
use crate::probe;
use crate::state::device::Device;
use crate::state::moment::now;
use crate::state::slots::Refusal;
use crate::state::store::{self, LoadError, SaveError, Stored};
use crate::state::{Condition, MOST_SLOTS, State};
use crate::text::{cmdline, printable, quoted};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    /// A state as it leaves the factory; over another one only by force.
    Init {
        place: &'a Path,
        good: Vec<SlotName>,
        force: bool,
    },
    /// What there is to know.
    Show { place: Option<&'a Path>, json: bool },
    /// The slot that was booted, or one that is named, is good; on a place that is named, or on this machine's.
    MarkGood {
        slot: Option<SlotName>,
        on: Option<&'a Path>,
    },
    /// What is known of a slot changes; on a place that is named, or on this machine's.
    Change {
        slot: SlotName,
        change: Change,
        on: Option<&'a Path>,
    },
    /// What a kernel said as it died.
    LastWords(Option<&'a Path>),
    /// Waits until the trial is over, and is answered with whether it was passed.
    Trial,
    /// What RAUC asks of its custom backend.
    Rauc(Request),
}

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is not to be booted, even if nothing else is left.
    Bad { force: bool },
    /// It is the first choice from now on.
    Next,
    /// It is booted next, and once.
    Once,
}

/// What RAUC asks (src/bootloaders/custom.c of RAUC 1.15): one word each on stdout, nothing else.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    GetPrimary,
    GetCurrent,
    GetState(SlotName),
    SetPrimary(SlotName),
    SetState(SlotName, bool),
}

/// The words that begin one of these commands.
pub(super) const WORDS: [&str; 8] = [
    "last-words",
    "state",
    "status",
    "mark-good",
    "mark-bad",
    "set-next",
    "trial",
    "rauc",
];

impl<'a> Command<'a> {
    /// From the words behind `cato`.
    pub(super) fn of(words: &[&'a OsStr]) -> Result<Self, String> {
        let is_option = |word: &&OsStr| word.as_encoded_bytes().starts_with(b"-");
        let (options, rest): (Vec<&'a OsStr>, Vec<&'a OsStr>) = words.iter().copied().partition(is_option);
        let place = rest.get(2).copied().map(Path::new);
        let rest: Vec<&str> = rest.iter().map(|word| word.to_str().unwrap_or_default()).collect();
        let mut options = Options(options);
        let slot = |name: &str| {
            let read = name.parse::<SlotName>();
            read.map_err(|fault| {
                [Some(fault.message), fault.help]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join("; ")
            })
        };
        let command = match (rest.as_slice(), place) {
            (["state", "init", _, good @ ..], Some(place)) => {
                let good: Vec<SlotName> = good.iter().map(|name| slot(name)).collect::<Result<_, _>>()?;
                if good.iter().collect::<BTreeSet<_>>().len() != good.len() {
                    return Err("state init: a slot is there twice".to_owned());
                }
                if good.len() > MOST_SLOTS {
                    return Err(format!("state init: more than {MOST_SLOTS} slots"));
                }
                Self::Init {
                    place,
                    good,
                    force: options.take("--force"),
                }
            }
            (["state", "show"] | ["status"], _) => Self::Show {
                place: None,
                json: options.take("--json"),
            },
            (["state", "show", _], place) => Self::Show {
                place,
                json: options.take("--json"),
            },
            (["state", "init"], _) => return Err("state init: no PLACE given".to_owned()),
            (["state", ..], _) => return Err("state: say init or show".to_owned()),
            (["mark-good"], _) => Self::MarkGood { slot: None, on: None },
            (["mark-good", name] | ["mark-good", name, _], on) => Self::MarkGood {
                slot: Some(slot(name)?),
                on,
            },
            ([command @ ("mark-bad" | "set-next"), name] | [command @ ("mark-bad" | "set-next"), name, _], on) => {
                Self::Change {
                    slot: slot(name)?,
                    change: match *command {
                        "mark-bad" => Change::Bad {
                            force: options.take("--force"),
                        },
                        _ if options.take("--once") => Change::Once,
                        _ => Change::Next,
                    },
                    on,
                }
            }
            (["last-words"], _) => Self::LastWords(None),
            (["last-words", _], _) => Self::LastWords(words.get(1).copied().map(Path::new)),
            (["trial"], _) => Self::Trial,
            (["rauc", "get-primary"], _) => Self::Rauc(Request::GetPrimary),
            (["rauc", "get-current"], _) => Self::Rauc(Request::GetCurrent),
            (["rauc", "get-state", name], _) => Self::Rauc(Request::GetState(slot(name)?)),
            (["rauc", "set-primary", name], _) => Self::Rauc(Request::SetPrimary(slot(name)?)),
            (["rauc", "set-state", name, "good"], _) => Self::Rauc(Request::SetState(slot(name)?, true)),
            (["rauc", "set-state", name, "bad"], _) => Self::Rauc(Request::SetState(slot(name)?, false)),
            (["rauc", ..], _) => {
                return Err("rauc: expected get-primary, get-current, get-state SLOT, set-primary SLOT, or set-state SLOT good|bad".to_owned());
            }
            ([command @ ("mark-bad" | "set-next")], _) => return Err(format!("{command}: no SLOT given")),
            ([command, ..], _) => return Err(format!("{command}: too many words")),
            ([], _) => return Err("no command given".to_owned()),
        };
        match options.0.first() {
            Some(option) => Err(format!("unknown option `{}`", option.display())),
            None => Ok(command),
        }
    }
}

struct Options<'a>(Vec<&'a OsStr>);

impl Options<'_> {
    fn take(&mut self, option: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|word| *word != option);
        self.0.len() != before
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum SlotsError {
    /// No partition of that type.
    #[error(
        "there is no state partition (GPT type {}); name its place, or make one",
        probe::STATE_TYPE
    )]
    NoPartition,
    /// The device or image.
    #[error("{}: {error}", place.display())]
    Open { place: PathBuf, error: io::Error },
    /// Somebody else changes it.
    #[error("{}: another cato changes the state", place.display())]
    Locked { place: PathBuf },
    /// Nothing that can be read.
    #[error("{}: {error}", place.display())]
    Load { place: PathBuf, error: LoadError },
    /// It could not be written.
    #[error("{}: {error}", place.display())]
    Save { place: PathBuf, error: SaveError },
    /// What is in the other copy may be read again one day, and count.
    #[error("{}: one copy is written; the other one can't be, and may come back: {error}; use another place", place.display())]
    Half { place: PathBuf, error: SaveError },
    /// One is there.
    #[error("{}: there is a state; --force makes a new one", place.display())]
    Exists { place: PathBuf },
    /// Something else is.
    #[error("{}: not empty, or not readable: {error}; --force overwrites it", place.display())]
    Foreign { place: PathBuf, error: LoadError },
    /// The same, where there is no state.
    #[error("{}: not empty, or not readable, though there is no state in it; --force overwrites it", place.display())]
    NotEmpty { place: PathBuf },
    /// Cato has not booted this system from a slot.
    #[error(
        "this system was not booted from a slot: neither its command line nor a hand-over record of Cato names one"
    )]
    NotBooted,
    /// The slot has had its time.
    #[error("slot {slot} was not marked good within {} s: it is noted, and the machine is to be rebooted", limit.as_secs())]
    TrialOver { slot: SlotName, limit: Duration },
    /// Nothing is kept.
    #[error("{}: no kernel's last words are kept", place.display())]
    NoWords { place: PathBuf },
    /// No slot at all.
    #[error("no slot can be booted")]
    NoPrimary,
    /// The state says no.
    #[error("slot {slot}: {why}")]
    Refused { slot: SlotName, why: Refusal },
}

impl SlotsError {
    /// Whether it could be done, and is not.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::NotBooted | Self::Exists { .. } | Self::Foreign { .. } | Self::NotEmpty { .. }
        )
    }
}

/// What was done, for stdout.
pub(super) fn run(command: &Command<'_>) -> Result<String, SlotsError> {
    match command {
        Command::Init { place, good, force } => init(place, good, *force),
        Command::Show { place, json } => {
            let stored = load(*place)?;
            Ok(if *json { as_json(&stored) } else { as_text(&stored) })
        }
        Command::MarkGood { slot: None, .. } => {
            let (slot, nonce) = booted().ok_or(SlotsError::NotBooted)?;
            mark_booted_good(None, &slot, nonce)
        }
        Command::MarkGood { slot: Some(slot), on } => mark_good(*on, slot),
        Command::Change { slot, change: how, on } => change(*on, slot, |state| match how {
            Change::Bad { force } => {
                // RAUC may say so of any: it is about to write to it.
                if state.is_last(slot) && !force {
                    return Err(Refusal::Last);
                }
                state.mark_bad(slot, now())
            }
            Change::Next => state.set_primary(slot, now()),
            Change::Once => state.set_once(slot, now()),
        }),
        Command::Trial => trial(),
        Command::LastWords(place) => {
            let place = place.map_or_else(partition, |place| Ok(place.to_owned()))?;
            let mut device = open(&place, false)?;
            let text = device.last_words().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => SlotsError::NoWords { place },
                _ => SlotsError::Open { place, error },
            })?;
            // A program of the main system may have written it.
            let text = String::from_utf8_lossy(&text).into_owned();
            Ok(text.lines().map(|line| printable(line) + "\n").collect())
        }
        Command::Rauc(request) => rauc(request),
    }
}

/// The slot and the number of this boot: from the command line, or, where nothing may be added to that, from the record.
fn booted() -> Option<(SlotName, u64)> {
    let parsed = |slot: &str, nonce: &str| Some((slot.parse().ok()?, u64::from_str_radix(nonce, 16).ok()?));
    let running = running(Path::new("/"));
    let word = |key| cmdline::value(&running, key);
    if let Some(found) = word("cato.slot").zip(word("cato.nonce")) {
        return parsed(found.0, found.1);
    }
    let record = record::find(Path::new("/")).ok()??;
    let (_, handover) = handover::parse(&record.bytes).ok()?;
    parsed(&handover.slot, &handover.nonce)
}

/// The one that runs has to prove that it is the boot that is counted, unless the state may be another machine's.
fn mark_good(on: Option<&Path>, slot: &SlotName) -> Result<String, SlotsError> {
    if let Some((_, nonce)) = booted().filter(|(booted, _)| booted == slot) {
        match mark_booted_good(on, slot, nonce) {
            Err(SlotsError::Refused { .. }) if on.is_some() => {}
            result => return result,
        }
    }
    change(on, slot, |state| state.mark_good(slot, now()))
}

/// A system that nobody has proven yet, and whose watchdog nobody has opened, is not well before it is clear that it is not reset
/// for that.
fn mark_booted_good(on: Option<&Path>, slot: &SlotName, nonce: u64) -> Result<String, SlotsError> {
    let known = load(on)?.state;
    let is_good = known.slot(slot).is_some_and(|slot| slot.condition == Condition::Good);
    let warning = wdtest::unopened(Path::new("/"), !is_good).unwrap_or_default();
    Ok(change(on, slot, |state| state.mark_booted_good(slot, nonce, now()))? + &warning)
}

/// Waits for as long as this system may be up without a mark, and notes it when there is none then. What can't be noted is tried
/// again: it does not lead to a reboot, which would be one without an end.
fn trial() -> Result<String, SlotsError> {
    let running = running(Path::new("/"));
    let limit = cmdline::value(&running, "cato.trial").and_then(|seconds| seconds.parse().ok());
    let Some((limit, (slot, nonce))) = limit.map(Duration::from_secs).zip(booted()) else {
        return Ok("no trial: neither cato.trial= nor a slot is on the command line\n".to_owned());
    };
    let up = Duration::from_millis(now().uptime_ms.into());
    thread::sleep(limit.saturating_sub(up));
    let mut is_told = false;
    loop {
        match change(None, &slot, |state| state.trial_over(&slot, nonce, now())) {
            // Noted just now, or by one that was killed before it could say so.
            Ok(_) | Err(SlotsError::Refused { why: Refusal::Over, .. }) => {
                return Err(SlotsError::TrialOver { slot, limit });
            }
            Err(SlotsError::Refused {
                why: Refusal::Marked, ..
            }) => return Ok(format!("slot {slot} was marked good in its time\n")),
            Err(error @ SlotsError::Refused { .. }) => {
                return Ok(format!("warning: there is no trial any more: {error}\n"));
            }
            Err(error) => {
                if !is_told {
                    super::tell(
                        format!("warning: the trial can't be judged yet: {error}; trying again\n").into_bytes(),
                    );
                    is_told = true;
                }
                thread::sleep(JUDGE_AGAIN);
            }
        }
    }
}

fn rauc(request: &Request) -> Result<String, SlotsError> {
    let state = || Ok::<_, SlotsError>(load(None)?.state);
    let line = |word: &dyn fmt::Display| Ok(format!("{word}\n"));
    match request {
        Request::GetPrimary => line(state()?.primary().ok_or(SlotsError::NoPrimary)?),
        Request::GetCurrent => line(&booted().ok_or(SlotsError::NotBooted)?.0),
        Request::GetState(slot) => {
            let state = state()?;
            match state.slot(slot) {
                Some(found) if state.is_well(found) => line(&"good"),
                // RAUC's journal has why.
                Some(found) => Ok(format!("warning: slot {slot}: {found}\nbad\n")),
                None => Err(SlotsError::Refused {
                    slot: slot.clone(),
                    why: Refusal::Unknown,
                }),
            }
        }
        Request::SetPrimary(slot) => change(None, slot, |state| state.set_primary(slot, now())),
        Request::SetState(slot, true) => mark_good(None, slot),
        Request::SetState(slot, false) => change(None, slot, |state| state.mark_bad(slot, now())),
    }
}

fn partition() -> Result<PathBuf, SlotsError> {
    let running = running(Path::new("/"));
    let uuid = cmdline::value(&running, "cato.state");
    let all = probe::present_states(Path::new("/sys"), Path::new("/dev"), uuid);
    // A disk that was copied has the same GUID, and not this boot.
    let nonce = booted().map(|(_, nonce)| nonce).filter(|_| all.len() > 1);
    let tells_of = |place: &&PathBuf, nonce| {
        let attempt = load(Some(place.as_path())).ok()?.state.attempt;
        Some(attempt?.nonce == nonce)
    };
    let ours = nonce.and_then(|nonce| all.iter().find(|place| tells_of(place, nonce) == Some(true)));
    // A new disk that was partitioned like the old one has a blank one.
    let one_of_many = || {
        all.iter()
            .find(|place| all.len() > 1 && load(Some(place.as_path())).is_ok())
    };
    let found = ours.or_else(one_of_many).or(all.first());
    found.cloned().ok_or(SlotsError::NoPartition)
}

/// What is on the place, or else on this machine's partition.
fn load(place: Option<&Path>) -> Result<Stored, SlotsError> {
    let place = place.map_or_else(partition, |place| Ok(place.to_owned()))?;
    let mut device = open(&place, false)?;
    store::load(&mut device).map_err(|error| SlotsError::Load { place, error })
}

fn open(place: &Path, write: bool) -> Result<Device, SlotsError> {
    let place = place.to_owned();
    Device::open(&place, write).map_err(|error| SlotsError::Open { place, error })
}

/// Opens it for a change, alone.
fn alone(place: &Path) -> Result<Device, SlotsError> {
    let device = open(place, true)?;
    let since = Instant::now();
    loop {
        match device.lock() {
            Ok(()) => return Ok(device),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && since.elapsed() < LOCK => {
                thread::sleep(LOCK_LOOK);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SlotsError::Locked {
                    place: place.to_owned(),
                });
            }
            Err(error) => {
                let place = place.to_owned();
                return Err(SlotsError::Open { place, error });
            }
        }
    }
}

fn init(place: &Path, good: &[SlotName], force: bool) -> Result<String, SlotsError> {
    let mut device = alone(place)?;
    let place = place.to_owned();
    let state = State::factory(good);
    match store::load(&mut device) {
        Ok(_) | Err(LoadError::Newer(_)) if !force => Err(SlotsError::Exists { place }),
        Err(error) if !force && !error.is_empty() => Err(SlotsError::Foreign { place, error }),
        Err(_) if !force && !device.is_blank().unwrap_or(false) => Err(SlotsError::NotEmpty { place }),
        // Newer than what is there.
        Ok(mut stored) => {
            stored.state = state;
            write(&place, &mut device, &mut stored)
        }
        Err(_) => match Stored::new(state).save(&mut device) {
            Ok(None) => Ok(String::new()),
            Ok(Some(error)) => Err(SlotsError::Half { place, error }),
            Err(error) => Err(SlotsError::Save { place, error }),
        },
    }
}

fn change(
    on: Option<&Path>,
    slot: &SlotName,
    change: impl FnOnce(&mut State) -> Result<(), Refusal>,
) -> Result<String, SlotsError> {
    let place = on.map_or_else(partition, |place| Ok(place.to_owned()))?;
    let mut device = alone(&place)?;
    let mut stored = match store::load(&mut device) {
        Ok(stored) => stored,
        Err(error) => return Err(SlotsError::Load { place, error }),
    };
    let slot = slot.clone();
    let before = stored.state.clone();
    change(&mut stored.state).map_err(|why| SlotsError::Refused { slot, why })?;
    if stored.state == before && stored.damage.is_none() {
        return Ok(String::new());
    }
    write(&place, &mut device, &mut stored)
}

fn write(place: &Path, device: &mut Device, stored: &mut Stored) -> Result<String, SlotsError> {
    let place = place.to_owned();
    match stored.save(device) {
        Ok(None) => Ok(String::new()),
        Ok(Some(error)) => Ok(format!(
            "warning: {}: only one copy is written: {error}\n",
            place.display()
        )),
        Err(error) => Err(SlotsError::Save { place, error }),
    }
}

fn as_text(stored: &Stored) -> String {
    let state = &stored.state;
    let mut lines: Vec<String> = state
        .slots
        .iter()
        .map(|slot| format!("slot {}: {slot}", slot.name))
        .collect();
    if state.slots.is_empty() {
        lines.push("no slots yet: Cato adds those of boot.toml when it boots".to_owned());
    }
    lines.extend(state.next_once().map(|slot| format!("next boot: slot {slot}, once")));
    lines.extend(state.attempt.iter().map(|attempt| {
        let mark = if attempt.is_confirmed {
            "marked good"
        } else {
            "not marked good"
        };
        format!("last boot: slot {}, {mark}", attempt.slot)
    }));
    lines.extend(
        stored
            .damage
            .iter()
            .map(|damage| format!("warning: one copy of the state is lost ({damage})")),
    );
    for event in &state.events {
        lines.push(event.to_string());
    }
    lines.into_iter().map(|line| line + "\n").collect()
}

fn as_json(stored: &Stored) -> String {
    let state = &stored.state;
    let word = |condition| match condition {
        Condition::Untested => "untested",
        Condition::Good => "good",
        Condition::Bad(_) => "bad",
    };
    let optional = |text: Option<String>| text.map_or_else(|| "null".to_owned(), |text| quoted(&text));
    let slots: Vec<String> = (state.slots.iter())
        .map(|slot| {
            format!(
                r#"{{"name":{},"condition":"{}","why":{},"tries":{},"failure":{}}}"#,
                quoted(slot.name.as_str()),
                word(slot.condition),
                optional(match slot.condition {
                    Condition::Bad(why) => Some(why.to_string()),
                    _ => None,
                }),
                slot.tries,
                optional(slot.failure.map(|how| how.to_string()))
            )
        })
        .collect();
    let events: Vec<String> = (state.events.iter())
        .map(|event| {
            format!(
                r#"{{"boot":{},"uptime_ms":{},"time":{},"kernel":"{}.{}","kexecs":{},"slot":{},"entry":{},"what":{}}}"#,
                event.boot,
                event.uptime_ms,
                event.time,
                event.kernel[0],
                event.kernel[1],
                event.kexecs,
                optional(event.slot.as_ref().map(ToString::to_string)),
                optional(Some(event.entry.clone()).filter(|name| !name.is_empty())),
                quoted(&event.kind.to_string())
            )
        })
        .collect();
    format!(
        "{{\"boots\":{},\"primary\":{},\"slots\":[{}],\"once\":{},\"booted\":{},\"marked_good\":{},\"damage\":{},\"events\":[{}]}}\n",
        state.boots,
        optional(state.primary().map(ToString::to_string)),
        slots.join(","),
        optional(state.next_once().map(ToString::to_string)),
        optional(state.attempt.as_ref().map(|attempt| attempt.slot.to_string())),
        state.attempt.as_ref().is_some_and(|attempt| attempt.is_confirmed),
        optional(stored.damage.clone()),
        events.join(",")
    )
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
