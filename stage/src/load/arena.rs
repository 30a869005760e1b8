//! Where the payload lives until the kernel takes it.
//!
//! Given sizes known beforehand; responsible for memory that is reserved once, whose absence is an error and not an
//! abort, and that is never written past what was reserved. Today the memory is ordinary and the kernel copies it
//! (*segments*); memory at its final physical address (*in place*) becomes another `Backing`.

use std::fmt;
use std::ops::Deref;

use super::budget::Budget;

/// Memory for a whole payload, reserved, and the open files it is for. [`load`](Self::load) fills it.
#[derive(Debug)]
pub struct Arena {
    pub(super) budget: Budget,
    pub(super) kernel: Slot,
    pub(super) initrd: Option<Slot>,
    pub(super) dtb: Option<Slot>,
}

/// Memory for one part of the payload, filled from front to back. Reads as the bytes filled so far.
#[derive(PartialEq, Eq)]
pub struct Slot {
    backing: Backing,
    len: usize,
}

#[derive(PartialEq, Eq)]
enum Backing {
    /// Ordinary memory of this process. Its length is what has been touched so far, its capacity what was reserved.
    Heap(Vec<u8>),
}

/// The memory for a slot was not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no memory for {bytes} bytes; boot a smaller payload or give the machine more memory")]
pub struct NoMemory {
    /// What was asked for.
    pub bytes: u64,
}

impl Slot {
    /// Reserves `bytes` bytes of ordinary memory.
    pub fn reserve(bytes: u64) -> Result<Self, NoMemory> {
        let mut memory = Vec::new();
        usize::try_from(bytes)
            .ok()
            .and_then(|n| memory.try_reserve_exact(n).ok())
            .ok_or(NoMemory { bytes })?;
        Ok(Self {
            backing: Backing::Heap(memory),
            len: 0,
        })
    }

    /// The next free bytes, at most `max`; none when the slot is full.
    pub fn spare(&mut self, max: usize) -> &mut [u8] {
        let len = self.len;
        match &mut self.backing {
            Backing::Heap(memory) => {
                let end = len.saturating_add(max).min(memory.capacity());
                if memory.len() < end {
                    // Within the capacity, so this never allocates.
                    memory.resize(end, 0);
                }
                memory.get_mut(len..end).unwrap_or_default()
            }
        }
    }

    /// Takes the first `n` bytes of [`spare`](Self::spare) as filled.
    pub fn filled(&mut self, n: usize) {
        let touched = match &self.backing {
            Backing::Heap(memory) => memory.len(),
        };
        self.len = self.len.saturating_add(n).min(touched);
    }

    /// Adds `bytes`; says `false` and changes nothing when they do not fit.
    #[must_use]
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let spare = self.spare(bytes.len());
        if spare.len() < bytes.len() {
            return false;
        }
        spare.copy_from_slice(bytes);
        self.filled(bytes.len());
        true
    }
}

impl From<Vec<u8>> for Slot {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len(),
            backing: Backing::Heap(bytes),
        }
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.backing {
            Backing::Heap(memory) => memory.get(..self.len).unwrap_or_default(),
        }
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_takes_what_was_reserved_and_no_byte_more() {
        let mut slot = Slot::reserve(10).unwrap();
        assert!(slot.push(b"0123456"));
        assert!(!slot.push(b"789a"));
        assert_eq!(&*slot, b"0123456");
        let spare = slot.spare(100);
        assert_eq!(spare.len(), 3);
        spare.copy_from_slice(b"789");
        assert_eq!(&*slot, b"0123456", "not filled yet");
        slot.filled(3);
        assert_eq!(&*slot, b"0123456789");
        assert!(slot.spare(1).is_empty());
        slot.filled(5);
        assert_eq!(slot.len(), 10);
    }

    #[test]
    fn too_much_is_an_error_and_not_an_abort() {
        let error = Slot::reserve(u64::MAX).unwrap_err();
        assert!(error.to_string().contains("18446744073709551615 bytes"));
        assert!(Slot::reserve(1 << 62).is_err());
    }
}
