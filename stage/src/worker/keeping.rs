//! The worker's part in what is known of the slots: finding the state, and writing it.
//!
//! Given the packed modules or the state partition's name; responsible for the device. What the state says is decided in
//! `state/` and by PID 1.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use config::SlotName;
use config::modules::Index;

use super::message::{Account, Answer, FoundState, FoundStored, Kept};
use crate::cause::Cause;
use crate::deadlines::{DEVICE_WAIT, LISTING};
use crate::machine::{self, LastReset};
use crate::probe::volumes::Volume;
use crate::probe::{self, Caller, ProbeError};
use crate::state::device::Device;
use crate::state::slots::Now;
use crate::state::store::{self, LoadError, SaveError, Stored};
use crate::state::{Reset, moment, words};
use crate::sys::mount::{PSTORE, mount_pstore};
use crate::sys::{counter, random};
use crate::text::cut;

/// Why the state is not known, or not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepingError {
    /// It can't be written.
    #[error("{device}: {error}")]
    Save { device: String, error: SaveError },
    /// Nobody waits for it twice.
    #[error(
        "{device}: the attempt can't be written down: the disk does not answer; only a slot that is good is booted without that"
    )]
    Stuck { device: String },
    /// The same, where that matters.
    #[error("{device}: the attempt can't be written down: {error}; only a slot that is good is booted without that")]
    Account { device: String, error: SaveError },
}

impl KeepingError {
    /// Its kind.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Save { .. } | Self::Account { .. } => Cause::Io,
            Self::Stuck { .. } => Cause::Timeout,
        }
    }
}

fn path(device: &str) -> PathBuf {
    Path::new("/dev").join(device)
}

/// Finds the state partition and reads it.
pub(super) fn find(index: &Index, caller: &mut Caller<'_>) -> FoundState {
    probe::load_pstore(index, caller.say);
    mount_pstore();
    let reset = reset();
    let mut partuuid = None;
    let (device, describe, stored) = match look(index, caller) {
        Ok((volume, stored)) => {
            let describe = cut(&volume.to_string(), LONGEST);
            partuuid = volume.partuuid;
            let stored = match stored {
                Ok(stored) => FoundStored::Known(stored),
                Err(lost @ LoadError::Lost { .. }) => FoundStored::Lost(lost.to_string()),
                Err(other) => FoundStored::Nothing(cut(&format!("{describe}: {other}"), LONGEST)),
            };
            (volume.name, describe, stored)
        }
        Err(error) => (
            String::new(),
            String::new(),
            FoundStored::Nothing(cut(&error.to_string(), LONGEST)),
        ),
    };
    let now = moment::now();
    FoundState {
        device,
        partuuid,
        describe,
        stored,
        kernel: now.kernel,
        kexecs: now.kexecs,
        machine: machine::identity(Path::new("/")),
        reset,
    }
}

/// Why the machine was reset, as far as this kernel knows.
pub(super) fn reset() -> Reset {
    match machine::last_reset(Path::new("/")) {
        LastReset::Unknown => Reset::Unknown,
        LastReset::Watchdog => Reset::Watchdog,
        LastReset::Panic => Reset::Panic,
        LastReset::PowerOn => Reset::PowerOn,
    }
}

/// Of why there is no state, bytes: many devices may be named in it.
const LONGEST: usize = 1024;

/// So many lines of a kernel's last words are told; all of them are kept.
const TOLD: usize = 12;

/// Says the end of what a kernel said as it died, and keeps all of it, before the main kernel's own drivers take the place. The
/// record is dropped then, whatever came of it: it would be taken for the reason of the next reset, too.
pub(super) fn keep_last_words(device: Option<&str>, say: &mut dyn FnMut(&str)) {
    let Some((names, text)) = machine::last_words(Path::new("/"), words::MOST) else {
        return;
    };
    let lines: Vec<_> = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
    // The trace comes behind what it is of.
    let from = lines.len().saturating_sub(TOLD);
    let what = lines.iter().take(from).rfind(|line| line.contains("Kernel panic"));
    for line in what.into_iter().chain(lines.iter().skip(from)) {
        say(&format!("last words: {line}"));
    }
    if let Some(name) = device {
        let kept = Device::open(&path(name), true).and_then(|mut device| device.keep_last_words(&text));
        if let Err(error) = kept {
            say(&format!(
                "warning: {name}: a kernel's last words can't be kept: {error}"
            ));
        }
    }
    for name in names {
        if let Err(error) = fs::remove_file(Path::new(PSTORE).join(&name)) {
            say(&format!(
                "warning: {PSTORE}/{name} can't be removed: {error}; the next reset will be taken for a panic, too"
            ));
        }
    }
}

/// The state partition, and what is on it. A blank one is taken only where there is no other: a new disk that was partitioned like the
/// old one has a blank one.
fn look(index: &Index, caller: &mut Caller<'_>) -> Result<(Volume, Result<Stored, LoadError>), ProbeError> {
    let after = |time| Instant::now().checked_add(time).unwrap_or_else(Instant::now);
    let begun = Instant::now();
    let first = probe::find_state(&[], index, after(DEVICE_WAIT), caller)?;
    let stored = read(&first.name);
    if !stored.as_ref().is_err_and(LoadError::is_empty) {
        return Ok((first, stored));
    }
    let but = [first.name.clone()];
    // Where the first was late, the others have had their time.
    let wait = LISTING.saturating_sub(begun.elapsed());
    if let Ok(other) = probe::find_state(&but, index, after(wait), caller) {
        let stored = read(&other.name);
        if !stored.as_ref().is_err_and(LoadError::is_empty) {
            (caller.say)(&format!(
                "{first} is a state partition, too, with nothing in it: {other} is taken"
            ));
            return Ok((other, stored));
        }
    }
    Ok((first, stored))
}

/// What is on the partition.
fn read(name: &str) -> Result<Stored, LoadError> {
    let mut device = Device::open(&path(name), false).map_err(LoadError::Open)?;
    store::load(&mut device)
}

fn save(device: &str, stored: &mut Stored) -> Result<Option<SaveError>, SaveError> {
    stored.save(&mut Device::open(&path(device), true)?)
}

/// Writes the state down.
pub(super) fn keep(kept: Kept) -> Result<Answer, KeepingError> {
    let Kept { device, mut stored, .. } = kept;
    match save(&device, &mut stored) {
        Ok(other) => Ok(Answer::Kept(Box::new(stored), other.map(|error| error.to_string()))),
        Err(error) => Err(KeepingError::Save { device, error }),
    }
}

/// Writes the attempt down; the new state. Where it is not needed and fails, that is told, and the boot goes on.
pub(super) fn account(
    account: &Account,
    entry: &str,
    nonce: u64,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Stored>, KeepingError> {
    let Kept { device, mut stored, .. } = account.kept.clone();
    if account.is_stuck {
        return if account.is_needed {
            Err(KeepingError::Stuck { device })
        } else {
            Ok(None)
        };
    }
    let now = Now { entry, ..moment::now() };
    match &account.slot {
        Some(slot) => stored.state.jump(slot, nonce, now),
        None => stored.state.leave(account.is_test, now),
    }
    let (stored, warning) = match save(&device, &mut stored) {
        Ok(None) => (Some(stored), None),
        Ok(Some(error)) => (
            Some(stored),
            Some(format!("only one copy of the state is written: {error}")),
        ),
        Err(error) if account.is_needed => return Err(KeepingError::Account { device, error }),
        Err(error) => (None, Some(format!("the attempt can't be written down: {error}"))),
    };
    if let Some(warning) = warning {
        say(&format!("warning: {device}: {warning}"));
    }
    Ok(stored)
}

/// A number that no other start has, as far as the kernel's chance goes. Each worker of this one has the same: a write that was given
/// up may land all the same, and it is the next worker that jumps.
pub(super) fn nonce() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    if let Ok(nonce) = u64::from_str_radix(&digits, 16) {
        return nonce;
    }
    let mut bytes = [0; 8];
    if random::fill(&mut bytes) {
        u64::from_le_bytes(bytes)
    } else {
        counter::now()
    }
}

/// What tells the main system which boot it is, and where that is written down.
pub(super) fn words(account: &Account, slot: &SlotName, nonce: u64) -> Vec<String> {
    let mut words = vec![format!("cato.slot={slot}"), format!("cato.nonce={nonce:016x}")];
    words.extend(account.kept.partuuid.as_ref().map(|uuid| format!("cato.state={uuid}")));
    words
}
