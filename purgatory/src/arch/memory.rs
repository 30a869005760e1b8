//! Physical memory, which the tables map to itself.
#![expect(unsafe_code, reason = "addresses become references here, and nowhere else")]

use core::mem::offset_of;
use core::ptr::with_exposed_provenance_mut as at_mut;
use core::ptr::{with_exposed_provenance as at, write_unaligned};

use super::{clean_and_invalidate, params_address};
use purgatory::check::Memory;
use purgatory::params::RECORD_STAMPED;
use purgatory::{Params, Record};

/// The parameter block: the blob's first page.
pub(crate) fn params() -> &'static Params {
    // SAFETY: the stage wrote a whole block there (any bytes are one), its page is read-only, nobody writes it.
    unsafe { &*params_address() }
}

/// The payload's memory.
#[derive(Debug)]
pub(crate) struct Ram;

impl Memory for Ram {
    fn bytes(&self, base: u64, len: u64) -> Option<&[u8]> {
        let (start, end) = (base, base.checked_add(len)?);
        let base = usize::try_from(base).ok().filter(|b| *b != 0)?;
        let len = usize::try_from(len).ok().filter(|l| isize::try_from(*l).is_ok())?;
        clean_and_invalidate(start, end);
        // SAFETY: only called with regions of a block whose digest is right: the stage mapped them, read-only for us,
        // and no one else runs. A block that lies all the same takes an exception, which resets.
        Some(unsafe { core::slice::from_raw_parts(at(base), len) })
    }
}

/// Writes the purgatory's part of the record, last of all the time it is left. Word by word: a copy would be a call of
/// `memcpy`, through a GOT on x86_64.
pub(crate) fn stamp(params: &Params, entered: u64, checked: u64, bytes: u64) {
    let Some(place) = usize::try_from(params.record).ok().filter(|p| *p != 0) else {
        return;
    };
    for (offset, value) in [
        (offset_of!(Record, entered), entered),
        (offset_of!(Record, checked), checked),
        (offset_of!(Record, bytes), bytes),
        (offset_of!(Record, flags), RECORD_STAMPED),
        (offset_of!(Record, left), super::counter()),
    ] {
        // SAFETY: the stage says so in a block whose digest is right, and mapped these pages to be written.
        unsafe { write_unaligned(at_mut(place.wrapping_add(offset)), value) };
    }
}
