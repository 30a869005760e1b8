//! Two copies of the state on a device that may lose power at any time.
//!
//! Given a device behind [`Copies`]; responsible for the order of writes: after a cut at any of them, the old state or the new
//! one is there. The older copy is written first, then both are equal. Every write is flushed and read back.

use std::io;

use serde::{Deserialize, Serialize};

use super::State;
use super::block::{Block, BlockError, Written, decode, encode};

/// A device with room for two copies, far apart.
pub(crate) trait Copies {
    /// Reads a copy: what is on the medium, not what a cache has.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, copy: Copy) -> io::Result<Block>;
    /// Writes a copy, and returns when it is on the medium.
    ///
    /// # Errors
    /// What the system says.
    fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()>;
    /// How many blocks it has: that decides where the second copy is.
    fn blocks(&self) -> u64;
}

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Copy {
    First,
    Second,
}

impl Copy {
    fn other(self) -> Self {
        match self {
            Self::First => Self::Second,
            Self::Second => Self::First,
        }
    }
}

/// Why a copy has no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// The device.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What is there.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The device can't even be opened.
    #[error(transparent)]
    Open(io::Error),
    /// A newer Cato's: nothing may be written then.
    #[error("the state has format {0}, which this Cato does not know; it is left alone")]
    Newer(u16),
    /// The device fails: what it has may be read another time, so nothing may be written.
    #[error("the state can't be read (first: {first}; second: {second})")]
    Unreadable {
        /// Why the first is none.
        first: CopyError,
        /// Why the second is none.
        second: CopyError,
    },
    /// Neither copy is any good.
    #[error("both copies of the state are lost (first: {first}; second: {second})")]
    Lost {
        /// Why the first is none.
        first: CopyError,
        /// Why the second is none.
        second: CopyError,
    },
}

impl LoadError {
    /// Whether nothing was ever written there.
    pub(crate) fn is_empty(&self) -> bool {
        let is_zeros = |copy: &CopyError| matches!(copy, CopyError::Block(BlockError::Zeros));
        matches!(self, Self::Lost { first, second } if is_zeros(first) && is_zeros(second))
    }
}

/// Why a state is not on the device.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    /// The device.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It took the write, and has something else.
    #[error("read back, it is not what was written")]
    NotKept,
}

/// A state on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The state.
    pub state: State,
    sequence: u64,
    /// The copy that is written first.
    older: Copy,
    /// What is wrong with that copy, for the log.
    pub damage: Option<String>,
}

fn read(device: &mut impl Copies, copy: Copy) -> Result<Written, CopyError> {
    Ok(decode(&device.read(copy)?)?)
}

/// Reads the newer of the two.
///
/// # Errors
/// [`LoadError`]
pub(crate) fn load(device: &mut impl Copies) -> Result<Stored, LoadError> {
    let (first, mut second) = (read(device, Copy::First), read(device, Copy::Second));
    // An image that is smaller than its place, or larger, was written there: it has brought its first copy only.
    let is_state = matches!(&second, Ok(_) | Err(CopyError::Block(BlockError::Newer(_))));
    if is_state && first.as_ref().is_ok_and(|first| first.blocks != device.blocks()) {
        second = Err(BlockError::Before.into());
    }
    let copies = (first, second);
    for copy in [&copies.0, &copies.1] {
        if let Err(CopyError::Block(BlockError::Newer(version))) = copy {
            return Err(LoadError::Newer(*version));
        }
    }
    let stored = |written: Written, older, damage: Option<String>| Stored {
        state: written.state,
        sequence: written.sequence,
        older,
        damage,
    };
    match copies {
        (Ok(first), Ok(second)) if first.sequence >= second.sequence => Ok(stored(first, Copy::Second, None)),
        (Ok(_), Ok(second)) => Ok(stored(second, Copy::First, None)),
        (Ok(first), Err(error)) => Ok(stored(first, Copy::Second, Some(error.to_string()))),
        (Err(error), Ok(second)) => Ok(stored(second, Copy::First, Some(error.to_string()))),
        (Err(first), Err(second)) => {
            let fails = |copy: &CopyError| matches!(copy, CopyError::Io(_));
            Err(if fails(&first) || fails(&second) {
                LoadError::Unreadable { first, second }
            } else {
                LoadError::Lost { first, second }
            })
        }
    }
}

impl Stored {
    /// A state for a device that has none.
    pub(crate) fn new(state: State) -> Self {
        Self {
            state,
            sequence: 0,
            older: Copy::First,
            damage: None,
        }
    }

    /// As somebody else has written it after this.
    #[cfg(test)]
    pub(crate) fn written_again(mut self) -> Self {
        self.sequence = self.sequence.saturating_add(1);
        self
    }

    /// Whether it was written after the other.
    pub(crate) fn is_newer_than(&self, other: &Self) -> bool {
        self.sequence > other.sequence
    }

    /// Puts the state on the device. Ends well when at least one copy has it; what kept it from the other is told then.
    ///
    /// # Errors
    /// [`SaveError`] when no copy has it.
    pub(crate) fn save(&mut self, device: &mut impl Copies) -> Result<Option<SaveError>, SaveError> {
        let sequence = self.sequence.saturating_add(1);
        let block = encode(&self.state, sequence, device.blocks());
        let (older, newer) = (self.older, self.older.other());
        if let Err(error) = put(device, older, &block) {
            // What mangles one copy may mangle the other, which is all there is.
            let is_mangled = matches!(read(device, older), Err(CopyError::Block(_)));
            if is_mangled && matches!(error, SaveError::NotKept) {
                return Err(error);
            }
            // A copy that can't be written any more: the other one has to do, better without a net than not at all.
            put(device, newer, &block)?;
            self.sequence = sequence;
            return Ok(Some(error));
        }
        self.sequence = sequence;
        let other = put(device, newer, &block);
        // An image that can't be written over goes on counting, whatever the second copy has.
        if other.is_err() && read(device, Copy::First).is_ok_and(|first| first.blocks != device.blocks()) {
            return other.map(|()| None);
        }
        self.older = newer;
        Ok(other.err())
    }
}

fn put(device: &mut impl Copies, copy: Copy, block: &Block) -> Result<(), SaveError> {
    device.write(copy, block)?;
    if device.read(copy)? == *block {
        Ok(())
    } else {
        Err(SaveError::NotKept)
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
