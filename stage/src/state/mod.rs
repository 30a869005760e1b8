//! What is known of the slots from one boot to the next.
//!
//! From the ground up: [`State`] (the data), [`block`] (its bytes), [`store`] (its two copies on a device). All pure but for
//! the device, which is behind a trait.

pub(crate) mod block;
pub(crate) mod device;
pub(crate) mod moment;
pub(crate) mod slots;
pub(crate) mod store;
pub(crate) mod words;

use std::fmt;

use config::SlotName;

use serde::{Deserialize, Serialize};

use crate::cause::Cause;
use crate::step::Step;

/// The most slots that a state has room for.
pub(crate) const MOST_SLOTS: usize = 4;
/// Bytes of an entry's name in an event.
pub(crate) const ENTRY_BYTES: usize = 24;
/// The most events that are kept.
pub(crate) const MOST_EVENTS: usize = 32;

/// All that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct State {
    /// Times the service Linux came up, as far as it was written down.
    pub boots: u32,
    /// Which machine it is about, as a hash; 0 when nobody has looked yet.
    pub machine: u64,
    /// Boots that a new generation gets, as `boot.toml` says.
    pub tries: u8,
    /// The first choice first; at most [`MOST_SLOTS`].
    pub slots: Vec<Slot>,
    /// Which slot is booted next, and then no more than any other.
    pub once: Option<SlotName>,
    /// The latest jump into a slot.
    pub attempt: Option<Attempt>,
    /// What happened, the oldest first; at most [`MOST_EVENTS`].
    pub events: Vec<Event>,
}

/// A generation: the entries that have its name as their `slot`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// As in `boot.toml`.
    pub name: SlotName,
    /// What it is worth.
    pub condition: Condition,
    /// Boots that are left to prove it, when it is untested.
    pub tries: u8,
    /// What failed boots of a good one sum up to.
    pub strikes: u8,
    /// Why it failed last.
    pub failure: Option<Failing>,
}

/// What a slot is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Condition {
    /// Nobody has marked it yet.
    Untested,
    /// Its main system said so.
    Good,
    /// It is not booted by itself, unless there is nothing better and the cause leaves a hope.
    Bad(Because),
}

/// Why a slot is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Because {
    /// Somebody said so: an updater that is about to write to it, for one. It is never booted by itself.
    Marked,
    /// It has used up its tries and was not marked good.
    Unproven,
    /// It was good, and failed too often since.
    Strikes,
    /// It left the factory with nothing in it, and nobody has said since that there is something.
    Empty,
}

/// A jump into a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Which.
    pub slot: SlotName,
    /// Random; the main system shows it to prove that it is that boot.
    pub nonce: u64,
    /// Whether that main system has marked itself good.
    pub is_confirmed: bool,
    /// Whether it is past, and has been counted.
    pub is_over: bool,
}

/// How a boot failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Failing {
    /// In the service Linux.
    Stage(Step, Cause),
    /// The main system came back without having marked itself good.
    NotMarked(Reset),
    /// The main system's own time for it was over.
    Trial,
    /// The service Linux died on its way to it, time and again.
    Died,
}

/// Why the machine was reset last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Reset {
    /// Nothing here can tell.
    #[default]
    Unknown,
    /// The power came.
    PowerOn,
    /// The watchdog.
    Watchdog,
    /// The main kernel panicked.
    Panic,
    /// The purgatory found that the payload had changed.
    Purgatory,
}

impl Reset {
    /// Whether the system that ran is to blame.
    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Watchdog | Self::Panic | Self::Purgatory)
    }
}

/// Something that happened, for whoever asks why.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Event {
    /// What.
    pub kind: EventKind,
    /// In which boot of the service Linux: [`State::boots`].
    pub boot: u32,
    /// Milliseconds since that kernel's start.
    pub uptime_ms: u32,
    /// Seconds since 1970, where a clock was set; 0 else.
    pub time: u64,
    /// The slot it is about.
    pub slot: Option<SlotName>,
    /// The entry it is about, at most [`ENTRY_BYTES`] of its name; empty where it is about none.
    pub entry: String,
    /// The version of the kernel that it was written down under, two numbers.
    pub kernel: [u8; 2],
    /// Jumps since power-on then.
    pub kexecs: u16,
}

impl Event {
    /// An entry was booted, or could not be.
    pub(crate) fn is_try(&self) -> bool {
        matches!(self.kind, EventKind::Jumped | EventKind::Failed(_))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor] = self.kernel;
        write!(f, "boot {}, {} ms, kernel {major}.{minor}", self.boot, self.uptime_ms)?;
        if self.kexecs > 0 {
            write!(f, " after {} kexecs", self.kexecs)?;
        }
        f.write_str(":")?;
        if let Some(slot) = &self.slot {
            write!(f, " slot {slot}")?;
        }
        if !self.entry.is_empty() {
            write!(f, " entry {:?}", self.entry)?;
        }
        write!(f, " {}", self.kind)
    }
}

/// Kinds of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum EventKind {
    /// The jump.
    Jumped,
    /// A boot failed.
    Failed(Failing),
    /// The main system is up and well.
    MarkedGood,
    /// Somebody said that it is bad.
    MarkedBad,
    /// Somebody made it the first choice.
    Primary,
    /// Somebody made it the next to boot, once.
    Once,
    /// A main system was booted for the watchdog to reset it.
    Tested,
    /// The machine was reset, though the system in it had been marked as good.
    Reset(Reset),
    /// The service Linux was reset before it booted anything.
    Died(Reset),
    /// The slot was given up for another.
    GivenUp(Because),
    /// Both copies of the state were damaged.
    Lost,
    /// One copy of the state was.
    Damaged,
    /// Somebody stopped this start at the console: that nothing was booted says nothing of a slot.
    Stopped,
    /// The state is another machine's.
    Cloned,
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Marked => "marked as bad",
            Self::Unproven => "its tries are used up, and it was never marked good",
            Self::Empty => "nothing was installed in it yet",
            Self::Strikes => "it was good, but has failed too often since",
        })
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "nothing says why the machine was reset",
            Self::PowerOn => "the power was off",
            Self::Watchdog => "the watchdog reset the machine",
            Self::Panic => "its kernel panicked",
            Self::Purgatory => "the check between the kernels failed",
        })
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(step, cause) => write!(f, "not booted: step {step} failed ({cause})"),
            Self::NotMarked(reset) => write!(f, "booted, but not marked good: {reset}"),
            Self::Trial => f.write_str("booted, but not marked good within its trial"),
            Self::Died => f.write_str("not booted: the service Linux died on its way to it, time and again"),
        }
    }
}

/// `untested, 3 tries left; booted, but not marked good: …`
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.condition {
            Condition::Good => f.write_str("good")?,
            Condition::Untested if self.tries == 1 => f.write_str("untested, 1 try left")?,
            Condition::Untested => write!(f, "untested, {} tries left", self.tries)?,
            Condition::Bad(why) => write!(f, "bad: {why}")?,
        }
        match self.failure {
            Some(how) => write!(f, "; {how}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jumped => f.write_str("booted"),
            Self::Failed(how) => how.fmt(f),
            Self::MarkedGood => f.write_str("marked as good"),
            Self::MarkedBad => f.write_str("marked as bad"),
            Self::Primary => f.write_str("made the first choice"),
            Self::Once => f.write_str("to be booted next, once"),
            Self::Tested => f.write_str("booted for a test of the watchdog"),
            Self::Reset(reset) => write!(f, "marked good, and later: {reset}"),
            Self::Died(reset) => write!(f, "nothing was booted: {reset}"),
            Self::GivenUp(why) => write!(f, "given up: {why}"),
            Self::Lost => f.write_str("both copies of the state were lost"),
            Self::Damaged => f.write_str("one copy of the state was lost"),
            Self::Stopped => f.write_str("stopped at the console"),
            Self::Cloned => f.write_str("the state came from another machine"),
        }
    }
}
