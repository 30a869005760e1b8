//! Physical memory, which the tables map to itself.
#![expect(unsafe_code, reason = "addresses become references here, and nowhere else")]

use core::ptr::with_exposed_provenance_mut as at_mut;
use core::ptr::{with_exposed_provenance as at, write_volatile};

use super::params_address;
use purgatory::check::Memory;
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
        let base = usize::try_from(base).ok().filter(|b| *b != 0)?;
        let len = usize::try_from(len).ok().filter(|l| isize::try_from(*l).is_ok())?;
        base.checked_add(len)?;
        // SAFETY: only called with regions of a block whose digest is right: the stage mapped them, read-only for us,
        // and no one else runs. A block that lies all the same takes an exception, which resets.
        Some(unsafe { core::slice::from_raw_parts(at(base), len) })
    }
}

/// Writes the record where the parameters want it.
pub(crate) fn record(params: &Params, record: Record) {
    let Ok(place) = usize::try_from(params.record) else {
        return;
    };
    if place == 0 || !place.is_multiple_of(align_of::<Record>()) {
        return;
    }
    // SAFETY: the stage points it at the start of our writable part, where `entry.S` left room for it.
    unsafe { write_volatile(at_mut(place), record) };
}
