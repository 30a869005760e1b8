//! What kind of failure something is: what PID 1 decides by, and says besides the text.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// The kind of a failure. Each error type says its own, in one method called `cause`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// What was named is not there: a source, a file, a driver.
    Missing,
    /// A device or the kernel could not read or write.
    Io,
    /// What was read is damaged, or of a kind that is not taken here.
    Format,
    /// A length or digest is not the one that was promised.
    Verification,
    /// There are no addresses for it.
    Placement,
    /// There is too little memory.
    Memory,
    /// The service kernel, or the machine, does not do it, whatever the entry.
    Refused,
    /// The kexec lock is taken, or CPUs can't be stopped.
    Busy,
    /// What every entry needs of the service Linux can't be read: its memory map, device tree, modules or events.
    Machine,
    /// It did not end in its time.
    Timeout,
    /// The process died, or did what only a mistake in it can do.
    Crash,
}

impl Cause {
    /// Whether it is the machine's, or the service kernel's: no entry can do better, and none is to blame.
    pub(crate) fn is_machines(self) -> bool {
        matches!(self, Self::Refused | Self::Busy | Self::Machine)
    }

    /// Of an error of the system.
    pub(crate) fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::TimedOut => Self::Timeout,
            io::ErrorKind::OutOfMemory => Self::Memory,
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::Format,
            _ => Self::Io,
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Missing => "missing",
            Self::Io => "input or output",
            Self::Format => "format",
            Self::Verification => "verification",
            Self::Placement => "placement",
            Self::Memory => "memory",
            Self::Refused => "refused by the kernel",
            Self::Busy => "busy",
            Self::Machine => "machine",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
        })
    }
}

/// A failure as it is told: its kind, and why in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Which kind.
    pub cause: Cause,
    /// Why, and what to do.
    pub text: String,
}

impl Failure {
    /// Of that kind, with these words.
    pub(crate) fn new(cause: Cause, text: impl Into<String>) -> Self {
        Self {
            cause,
            text: text.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
