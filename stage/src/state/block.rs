//! The state's bytes: one block of 4096, the same for ever.
//!
//! Given a block or a [`State`]; responsible for the layout, which other programs may read too. Numbers are little endian;
//! names end with zeros; what is not named here is zero. The manual has the same table.

use std::collections::BTreeSet;

use config::SlotName;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{
    Attempt, Because, Condition, ENTRY_BYTES, Event, EventKind, Failing, MOST_EVENTS, MOST_SLOTS, Reset, Slot, State,
};
use crate::cause::Cause;
use crate::memory::crc::crc32;
use crate::step::Step;

/// How long a block is, bytes.
pub(crate) const SIZE: usize = 4096;
/// A block.
pub(crate) type Block = [u8; SIZE];

const MAGIC: [u8; 8] = *b"catostat";
/// The format that is written here.
pub(crate) const VERSION: u16 = 1;

/// The whole block.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawState {
    /// 0
    magic: [u8; 8],
    /// 8
    version: U16,
    _10: [u8; 2],
    /// 12: CRC-32 (the one of zip) of the block, with zeros in this place.
    crc: U32,
    /// 16: one more than that of the state before.
    sequence: U64,
    /// 24
    machine: U64,
    /// 32
    nonce: U64,
    /// 40
    boots: U32,
    /// 44: [`HAS_ATTEMPT`], [`IS_CONFIRMED`], [`IS_OVER`].
    flags: u8,
    /// 45
    slot_count: u8,
    /// 46
    event_count: u8,
    /// 47: what a new generation gets.
    tries: u8,
    /// 48: empty where there was none.
    attempt: RawName,
    /// 64
    once: RawName,
    /// 80: how many blocks of this size the device had that it was written to.
    blocks: U64,
    _88: [u8; 40],
    /// 128
    slots: [RawSlot; MOST_SLOTS],
    _256: [u8; 256],
    /// 512
    events: [RawEvent; MOST_EVENTS],
    _2560: [u8; 1536],
}

const _: () = assert!(size_of::<RawState>() == SIZE);

type RawName = [u8; 16];

const HAS_ATTEMPT: u8 = 1 << 0;
const IS_CONFIRMED: u8 = 1 << 1;
const IS_OVER: u8 = 1 << 2;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawSlot {
    name: RawName,
    condition: u8,
    tries: u8,
    strikes: u8,
    failure: RawFailing,
    _22: [u8; 10],
}

/// 0 for none, else its kind with two details.
type RawFailing = [u8; 3];

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawEvent {
    kind: u8,
    /// What failed, or in the first byte why it was given up.
    detail: RawFailing,
    boot: U32,
    uptime_ms: U32,
    /// Major and minor.
    kernel: [u8; 2],
    kexecs: U16,
    time: U64,
    slot: RawName,
    entry: [u8; ENTRY_BYTES],
}

/// Why a block is no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BlockError {
    /// Nothing was ever written.
    #[error("all zeros")]
    Zeros,
    /// Something else.
    #[error("not a state of Cato's")]
    Magic,
    /// It may mean anything: it is neither read nor overwritten.
    #[error("format {0}, which is newer than this Cato's ({VERSION})")]
    Newer(u16),
    /// Torn, or rotten.
    #[error("checksum mismatch")]
    Checksum,
    /// An image was written over the first one, and this is what was there before it.
    #[error("it is of an older state: an image of another size was written over the first copy")]
    Before,
    /// The sum is right, so a program wrote it, and not ours.
    #[error("{0} makes no sense")]
    Value(&'static str),
}

/// The numbers of an enum's values: never another for the same.
macro_rules! numbers {
    ($to:ident, $from:ident, $type:ty: $($number:literal = $value:path,)*) => {
        fn $to(value: $type) -> u8 {
            match value { $($value => $number,)* }
        }
        fn $from(number: u8) -> Option<$type> {
            match number { $($number => Some($value),)* _ => None }
        }
    };
}

numbers! { step_number, step, Step:
    1 = Step::Select, 2 = Step::Probe, 3 = Step::Budget, 4 = Step::Reserve, 5 = Step::Load, 6 = Step::Verify,
    7 = Step::LayOut, 8 = Step::Kexec, 9 = Step::Loaded, 10 = Step::Jump, 11 = Step::Account, 12 = Step::Quiesce,
}
numbers! { cause_number, cause, Cause:
    1 = Cause::Missing, 2 = Cause::Io, 3 = Cause::Format, 4 = Cause::Verification, 5 = Cause::Placement,
    6 = Cause::Memory, 7 = Cause::Refused, 8 = Cause::Busy, 9 = Cause::Timeout, 10 = Cause::Crash,
    11 = Cause::Machine,
}
numbers! { reset_number, reset, Reset:
    0 = Reset::Unknown, 1 = Reset::PowerOn, 2 = Reset::Watchdog, 3 = Reset::Panic, 4 = Reset::Purgatory,
}
numbers! { because_number, because, Because:
    1 = Because::Marked, 2 = Because::Unproven, 3 = Because::Strikes, 4 = Because::Empty,
}

fn condition_number(condition: Condition) -> u8 {
    const BAD: u8 = 16;
    match condition {
        Condition::Untested => 0,
        Condition::Good => 1,
        Condition::Bad(why) => BAD | because_number(why),
    }
}

fn condition(number: u8) -> Option<Condition> {
    match number {
        0 => Some(Condition::Untested),
        1 => Some(Condition::Good),
        16..=31 => because(number & 15).map(Condition::Bad),
        _ => None,
    }
}

fn failing_bytes(failing: Option<Failing>) -> RawFailing {
    match failing {
        None => [0; 3],
        Some(Failing::Stage(step, cause)) => [1, step_number(step), cause_number(cause)],
        Some(Failing::NotMarked(reset)) => [2, reset_number(reset), 0],
        Some(Failing::Trial) => [3, 0, 0],
        Some(Failing::Died) => [4, 0, 0],
    }
}

fn failing(bytes: RawFailing) -> Option<Failing> {
    Some(match bytes {
        [1, at, why] => Failing::Stage(step(at)?, cause(why)?),
        [2, why, 0] => Failing::NotMarked(reset(why)?),
        [3, 0, 0] => Failing::Trial,
        [4, 0, 0] => Failing::Died,
        _ => return None,
    })
}

fn kind_bytes(kind: EventKind) -> (u8, RawFailing) {
    match kind {
        EventKind::Jumped => (1, [0; 3]),
        EventKind::Failed(how) => (2, failing_bytes(Some(how))),
        EventKind::MarkedGood => (3, [0; 3]),
        EventKind::MarkedBad => (4, [0; 3]),
        EventKind::Primary => (5, [0; 3]),
        EventKind::Once => (6, [0; 3]),
        EventKind::GivenUp(why) => (7, [because_number(why), 0, 0]),
        EventKind::Lost => (8, [0; 3]),
        EventKind::Cloned => (9, [0; 3]),
        EventKind::Reset(reset) => (10, [reset_number(reset), 0, 0]),
        EventKind::Died(reset) => (11, [reset_number(reset), 0, 0]),
        EventKind::Tested => (12, [0; 3]),
        EventKind::Stopped => (13, [0; 3]),
        EventKind::Damaged => (14, [0; 3]),
    }
}

fn kind(number: u8, detail: RawFailing) -> Option<EventKind> {
    Some(match (number, detail) {
        (1, [0, 0, 0]) => EventKind::Jumped,
        (2, detail) => EventKind::Failed(failing(detail)?),
        (3, [0, 0, 0]) => EventKind::MarkedGood,
        (4, [0, 0, 0]) => EventKind::MarkedBad,
        (5, [0, 0, 0]) => EventKind::Primary,
        (6, [0, 0, 0]) => EventKind::Once,
        (7, [why, 0, 0]) => EventKind::GivenUp(because(why)?),
        (8, [0, 0, 0]) => EventKind::Lost,
        (9, [0, 0, 0]) => EventKind::Cloned,
        (10, [why, 0, 0]) => EventKind::Reset(reset(why)?),
        (11, [why, 0, 0]) => EventKind::Died(reset(why)?),
        (12, [0, 0, 0]) => EventKind::Tested,
        (13, [0, 0, 0]) => EventKind::Stopped,
        (14, [0, 0, 0]) => EventKind::Damaged,
        _ => return None,
    })
}

fn name_bytes(name: Option<&SlotName>) -> RawName {
    let mut bytes = [0; 16];
    if let Some(name) = name {
        for (to, from) in bytes.iter_mut().zip(name.as_str().bytes()) {
            *to = from;
        }
    }
    bytes
}

/// `Ok(None)` for an empty one.
fn name(bytes: RawName) -> Result<Option<SlotName>, BlockError> {
    if bytes == [0; 16] {
        return Ok(None);
    }
    let name = text(&bytes).and_then(|text| text.parse().ok());
    name.map(Some).ok_or(BlockError::Value("a slot's name"))
}

/// What is before the zeros.
fn text(bytes: &[u8]) -> Option<String> {
    let length = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rest) = bytes.split_at_checked(length)?;
    let text = str::from_utf8(text).ok()?;
    rest.iter().all(|byte| *byte == 0).then(|| text.to_owned())
}

/// What a block has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// The state.
    pub state: State,
    /// One more than that of the state before.
    pub sequence: u64,
    /// How many blocks the device had, which says where the copies are.
    pub blocks: u64,
}

/// The state as a block. What is more than there is room for is left out: the oldest events, the last slots.
pub(crate) fn encode(state: &State, sequence: u64, blocks: u64) -> Block {
    let slots = state.slots.get(..MOST_SLOTS).unwrap_or(&state.slots);
    let events = state
        .events
        .get(state.events.len().saturating_sub(MOST_EVENTS)..)
        .unwrap_or_default();
    let mut raw = RawState::read_from_bytes(&[0; SIZE]).unwrap_or_else(|_| zerocopy::FromZeros::new_zeroed());
    raw.magic = MAGIC;
    raw.version = VERSION.into();
    raw.sequence = sequence.into();
    raw.blocks = blocks.into();
    raw.machine = state.machine.into();
    raw.boots = state.boots.into();
    raw.tries = state.tries;
    raw.once = name_bytes(state.once.as_ref());
    if let Some(attempt) = &state.attempt {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        raw.flags = HAS_ATTEMPT | flag(attempt.is_confirmed, IS_CONFIRMED) | flag(attempt.is_over, IS_OVER);
        raw.nonce = attempt.nonce.into();
        raw.attempt = name_bytes(Some(&attempt.slot));
    }
    for (to, slot) in raw.slots.iter_mut().zip(slots) {
        to.name = name_bytes(Some(&slot.name));
        to.condition = condition_number(slot.condition);
        to.tries = slot.tries;
        to.strikes = slot.strikes;
        to.failure = failing_bytes(slot.failure);
        raw.slot_count = raw.slot_count.saturating_add(1);
    }
    for (to, event) in raw.events.iter_mut().zip(events) {
        (to.kind, to.detail) = kind_bytes(event.kind);
        to.boot = event.boot.into();
        to.uptime_ms = event.uptime_ms.into();
        to.time = event.time.into();
        to.slot = name_bytes(event.slot.as_ref());
        to.kernel = event.kernel;
        to.kexecs = event.kexecs.into();
        for (byte, from) in to.entry.iter_mut().zip(event.entry.bytes()) {
            *byte = from;
        }
        raw.event_count = raw.event_count.saturating_add(1);
    }
    raw.crc = checksum(&raw).into();
    zerocopy::transmute!(raw)
}

fn checksum(raw: &RawState) -> u32 {
    let bytes = raw.as_bytes();
    let around = bytes
        .split_at_checked(12)
        .and_then(|(front, rest)| Some((front, rest.get(4..)?)));
    let (front, behind) = around.unwrap_or_default();
    crc32([front, &[0; 4], behind])
}

/// What is in a block.
///
/// # Errors
/// [`BlockError`]
pub(crate) fn decode(block: &Block) -> Result<Written, BlockError> {
    if block.iter().all(|byte| *byte == 0) {
        return Err(BlockError::Zeros);
    }
    let raw = RawState::ref_from_bytes(block).map_err(|_| BlockError::Magic)?;
    if raw.magic != MAGIC {
        return Err(BlockError::Magic);
    }
    if raw.crc.get() != checksum(raw) {
        return Err(BlockError::Checksum);
    }
    // Whatever the format is, its magic, version and sum are where they are.
    if raw.version.get() != VERSION {
        return Err(BlockError::Newer(raw.version.get()));
    }
    let slots = raw
        .slots
        .get(..usize::from(raw.slot_count))
        .ok_or(BlockError::Value("the number of slots"))?;
    let events = raw
        .events
        .get(..usize::from(raw.event_count))
        .ok_or(BlockError::Value("the number of events"))?;
    let attempt = if raw.flags & HAS_ATTEMPT == 0 {
        None
    } else {
        Some(Attempt {
            slot: name(raw.attempt)?.ok_or(BlockError::Value("the attempt"))?,
            nonce: raw.nonce.get(),
            is_confirmed: raw.flags & IS_CONFIRMED != 0,
            is_over: raw.flags & IS_OVER != 0,
        })
    };
    let slots: Vec<Slot> = slots.iter().map(slot).collect::<Result<_, _>>()?;
    let names: BTreeSet<&SlotName> = slots.iter().map(|slot| &slot.name).collect();
    if names.len() != slots.len() {
        return Err(BlockError::Value("a slot's name that is there twice"));
    }
    let state = State {
        boots: raw.boots.get(),
        machine: raw.machine.get(),
        tries: raw.tries,
        slots,
        once: name(raw.once)?,
        attempt,
        events: events
            .iter()
            .filter_map(|raw| event(raw).transpose())
            .collect::<Result<_, _>>()?,
    };
    Ok(Written {
        state,
        sequence: raw.sequence.get(),
        blocks: raw.blocks.get(),
    })
}

fn slot(raw: &RawSlot) -> Result<Slot, BlockError> {
    Ok(Slot {
        name: name(raw.name)?.ok_or(BlockError::Value("a slot's name"))?,
        condition: condition(raw.condition).ok_or(BlockError::Value("a slot's condition"))?,
        tries: raw.tries,
        strikes: raw.strikes,
        // One that only a newer Cato knows is as good as none: nothing is decided by it that matters as much as the rest.
        failure: failing(raw.failure),
    })
}

/// `Ok(None)` for one that a newer Cato knows: the others are worth as much without it.
fn event(raw: &RawEvent) -> Result<Option<Event>, BlockError> {
    let Some(kind) = kind(raw.kind, raw.detail) else {
        return Ok(None);
    };
    Ok(Some(Event {
        kind,
        boot: raw.boot.get(),
        uptime_ms: raw.uptime_ms.get(),
        time: raw.time.get(),
        slot: name(raw.slot)?,
        entry: text(&raw.entry).ok_or(BlockError::Value("an entry's name"))?,
        kernel: raw.kernel,
        kexecs: raw.kexecs.get(),
    }))
}
