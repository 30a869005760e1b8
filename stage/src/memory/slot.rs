//! Memory for one part of the payload.
//!
//! Given a size known beforehand; responsible for memory that is reserved once, whose absence is an error and not an abort,
//! that is never written past what was reserved, and whose bytes are hashed as they come, while they are in the cache.

use std::fmt;
use std::io::{self, Read};
use std::ops::Deref;

use config::Check;

use super::digest::{self, Chunks};

/// How much is read at a time, bytes: small enough for signs of life from a slow disk, large enough for a quick one.
const CHUNK: usize = 512 << 10;

/// Memory at its final physical address.
pub(crate) trait Resident: fmt::Debug {
    /// Its bytes.
    fn bytes(&self) -> &[u8];
    /// The same, to be written.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Physical address of the first byte, as it was when the memory was taken.
    fn address(&self) -> u64;
    /// Looks whether every byte still is where it was.
    ///
    /// # Errors
    /// Where the kernel does not say.
    fn is_still_there(&self) -> io::Result<bool>;
}

/// Memory for one part of the payload, filled from front to back. Reads as the bytes filled so far.
pub(crate) struct Slot {
    backing: Backing,
    len: usize,
    hash: Hash,
}

enum Backing {
    /// Ordinary memory of this process, which the kernel copies. Its length is what has been touched so far, its capacity
    /// what was reserved.
    Heap(Vec<u8>),
    /// Memory that stays where it is.
    Resident(Box<dyn Resident>),
}

enum Hash {
    /// Nobody asked.
    Off,
    Running(Check, Chunks),
    Done(Check, Vec<u8>),
}

/// The memory for a slot was not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("out of memory: can't allocate {bytes} bytes; use a smaller initrd or more memory")]
pub(crate) struct NoMemory {
    /// What was asked for.
    pub bytes: u64,
}

impl Slot {
    /// Reserves `bytes` bytes of ordinary memory.
    pub(crate) fn reserve(bytes: u64) -> Result<Self, NoMemory> {
        let mut memory = Vec::new();
        usize::try_from(bytes)
            .ok()
            .and_then(|n| memory.try_reserve_exact(n).ok())
            .ok_or(NoMemory { bytes })?;
        Ok(Self {
            backing: Backing::Heap(memory),
            len: 0,
            hash: Hash::Off,
        })
    }

    /// Fills memory that stays where it is.
    pub(crate) fn resident(memory: Box<dyn Resident>) -> Self {
        Self {
            backing: Backing::Resident(memory),
            len: 0,
            hash: Hash::Off,
        }
    }

    /// From now on makes the digests of `check`, chunk by chunk.
    pub(crate) fn hash(&mut self, check: Check) {
        let mut chunks = Chunks::new(check);
        chunks.catch_up(self);
        self.hash = Hash::Running(check, chunks);
    }

    /// The digests of `check` over the chunks of what was filled; made now where they were not made on the way.
    pub(crate) fn digests(&mut self, check: Check) -> Vec<u8> {
        match std::mem::replace(&mut self.hash, Hash::Off) {
            Hash::Running(made, chunks) if made == check => self.hash = Hash::Done(check, chunks.finish(self)),
            other => self.hash = other,
        }
        match &self.hash {
            Hash::Done(made, digests) if *made == check => digests.clone(),
            _ => digest::of(check, self),
        }
    }

    /// Where its first byte stays, if it does.
    pub(crate) fn address(&self) -> Option<u64> {
        match &self.backing {
            Backing::Heap(_) => None,
            Backing::Resident(memory) => Some(memory.address()),
        }
    }

    /// Looks whether memory that stays has stayed.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub(crate) fn is_still_there(&self) -> io::Result<bool> {
        match &self.backing {
            Backing::Heap(_) => Ok(true),
            Backing::Resident(memory) => memory.is_still_there(),
        }
    }

    /// The next free bytes, at most `max`; none when the slot is full.
    pub(crate) fn spare(&mut self, max: usize) -> &mut [u8] {
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
            Backing::Resident(memory) => {
                let memory = memory.bytes_mut();
                let end = len.saturating_add(max).min(memory.len());
                memory.get_mut(len..end).unwrap_or_default()
            }
        }
    }

    /// Takes the first `n` bytes of [`spare`](Self::spare) as filled.
    pub(crate) fn filled(&mut self, n: usize) {
        self.len = self.len.saturating_add(n).min(self.touched().len());
        let mut hash = std::mem::replace(&mut self.hash, Hash::Off);
        if let Hash::Running(_, chunks) = &mut hash {
            chunks.catch_up(self);
        }
        self.hash = hash;
    }

    /// Adds `bytes`; says `false` and changes nothing when they do not fit.
    #[must_use]
    pub(crate) fn push(&mut self, bytes: &[u8]) -> bool {
        let spare = self.spare(bytes.len());
        if spare.len() < bytes.len() {
            return false;
        }
        spare.copy_from_slice(bytes);
        self.filled(bytes.len());
        true
    }

    /// Overwrites bytes that were filled, behind the digests' back; says `false` and changes nothing where there are none.
    #[must_use]
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) -> bool {
        let len = self.len;
        let memory = match &mut self.backing {
            Backing::Heap(memory) => memory.as_mut_slice(),
            Backing::Resident(memory) => memory.bytes_mut(),
        };
        let place = at
            .checked_add(bytes.len())
            .filter(|end| *end <= len)
            .and_then(|end| memory.get_mut(at..end));
        match place {
            Some(place) => {
                place.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Copies from `from` until one of the two ends; leaves out the first `skip` bytes. Says whether there was more than the
    /// slot took.
    ///
    /// # Errors
    /// Those of `from`.
    pub(crate) fn fill(&mut self, from: &mut dyn Read, skip: u64) -> io::Result<bool> {
        let skipped = io::copy(&mut Read::take(&mut *from, skip), &mut io::sink())?;
        if skipped < skip {
            return Ok(false);
        }
        loop {
            let room = self.spare(CHUNK);
            if room.is_empty() {
                return Ok(from.read(&mut [0])? > 0);
            }
            match from.read(room)? {
                0 => return Ok(false),
                n => self.filled(n),
            }
        }
    }

    fn touched(&self) -> &[u8] {
        match &self.backing {
            Backing::Heap(memory) => memory,
            Backing::Resident(memory) => memory.bytes(),
        }
    }
}

impl From<Vec<u8>> for Slot {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            len: bytes.len(),
            backing: Backing::Heap(bytes),
            hash: Hash::Off,
        }
    }
}

impl Deref for Slot {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.touched().get(..self.len).unwrap_or_default()
    }
}

impl PartialEq for Slot {
    /// By content and by place.
    fn eq(&self, other: &Self) -> bool {
        self.address() == other.address() && **self == **other
    }
}

impl Eq for Slot {}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({} bytes", self.len)?;
        if let Some(address) = self.address() {
            write!(f, " at {address:#x}")?;
        }
        f.write_str(")")
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
    fn digests_made_on_the_way_are_those_of_the_whole() {
        let bytes: Vec<u8> = (0..700_000_u32).map(|i| i.to_le_bytes()[1] ^ 0x5a).collect();
        for check in [Check::Fast, Check::Sha256] {
            let mut slot = Slot::reserve(700_000).unwrap();
            assert!(slot.push(&bytes[..5]));
            slot.hash(check);
            for part in bytes[5..].chunks(33_333) {
                assert!(slot.push(part));
            }
            assert_eq!(slot.digests(check), digest::of(check, &bytes));
            // Asked again, and for another kind.
            assert_eq!(slot.digests(check), digest::of(check, &bytes));
            assert_eq!(slot.digests(Check::Off), digest::of(Check::Off, &bytes));
        }
    }

    #[test]
    fn what_was_filled_can_be_patched_and_nothing_else() {
        let mut slot = Slot::reserve(10).unwrap();
        assert!(slot.push(b"01234567"));
        assert!(slot.patch(6, b"ab") && !slot.patch(7, b"cd") && !slot.patch(usize::MAX, b"e"));
        assert_eq!(&*slot, b"012345ab");
    }

    #[test]
    fn too_much_is_an_error_and_not_an_abort() {
        let error = Slot::reserve(u64::MAX).unwrap_err();
        assert!(error.to_string().contains("18446744073709551615 bytes"));
        assert!(Slot::reserve(1 << 62).is_err());
    }
}
