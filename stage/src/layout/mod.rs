//! `Verified<Payload>` × [`Machine`] → [`Layout`]: what `kexec_load` takes, byte for byte. Pure, for both arches on any host.
//!
//! Given a payload that has been checked and the machine as plain data; responsible for what the main kernel is told about
//! the machine (`arm64.rs`: the device tree; `x86_64.rs`: the zero page), and for the purgatory with the digests of all of it.

mod arm64;
mod error;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fakes;
pub mod purgatory;
mod result;
mod segments;
#[cfg(test)]
mod tests;
mod x86_64;
pub(crate) mod zeropage;

use std::ops::Range;

use config::{Arch, Check};

use crate::formats::{Header, Kernel};
use crate::load::{Payload, Verified};
use crate::machine::Machine;
use crate::memory::hole::Free;
use crate::memory::{Slot, Span};
use crate::place::{Ask, Places, Regions, arrange};
pub(crate) use error::LayoutError;
pub(crate) use result::{Layout, Segment};

/// Finds a place for everything, writes the tables and the purgatory, and so turns a payload into what `kexec_load` takes.
/// The payload's own bytes are moved, not copied.
///
/// `blob` is the purgatory's ELF file, `record` the hand-over record; an empty one is left out.
///
/// # Errors
/// [`LayoutError`]: what was asked for, what there is, what to do.
pub(crate) fn lay_out(
    payload: Verified<Payload>,
    machine: &Machine,
    blob: &[u8],
    record: &[u8],
) -> Result<Layout, LayoutError> {
    lay_out_unverified(payload.into_inner(), machine, blob, record)
}

fn lay_out_unverified(payload: Payload, machine: &Machine, blob: &[u8], record: &[u8]) -> Result<Layout, LayoutError> {
    let companions = Companions {
        initrd: payload.initrd.filter(|i| !i.is_empty()),
        dtb: payload.dtb,
        cmdline: payload.cmdline,
        check: payload.check,
        resident: payload.resident,
        record,
    };
    let Kernel { header, bytes } = payload.kernel;
    match (header, machine.arch) {
        (Header::Image(header), Arch::Arm64) => arm64::lay_out(header, bytes, companions, machine, blob),
        (Header::BzImage(header), Arch::X86_64) => x86_64::lay_out(&header, bytes, companions, machine, blob),
        (Header::Image(_), machine) => Err(LayoutError::WrongArch {
            kernel: Arch::Arm64,
            machine,
        }),
        (Header::BzImage(_), machine) => Err(LayoutError::WrongArch {
            kernel: Arch::X86_64,
            machine,
        }),
    }
}

/// A payload less its kernel.
struct Companions<'a> {
    initrd: Option<Slot>,
    dtb: Option<Slot>,
    cmdline: String,
    check: Check,
    resident: Option<(Places, Slot)>,
    record: &'a [u8],
}

impl Companions<'_> {
    /// The places that were found before the payload was read, or else places for it now, if possible such that leave room for
    /// `regions`; what is left; and the memory for what tells the kernel about the machine, where that stays in place, too.
    fn places(&mut self, ask: &Ask, usable: &[Span], regions: &Regions) -> Result<(Places, Free, Slot), LayoutError> {
        let free = Free::new(usable.to_vec());
        let Some((places, info)) = self.resident.take() else {
            let (places, free) = arrange(ask, &free, regions)?;
            return Ok((places, free, Slot::from(Vec::new())));
        };
        let spans = [Some(places.kernel), places.initrd, Some(places.info)];
        let taken: Vec<Span> = spans.into_iter().flatten().collect();
        Ok((places, free.without(&taken), info))
    }
}

/// Where the record is, given where it starts.
fn record_at(start: Option<usize>, record: &[u8]) -> Range<usize> {
    match start {
        Some(start) if !record.is_empty() => start..start.saturating_add(record.len()),
        _ => 0..0,
    }
}

/// The bytes in the memory that was found for them, or in their own.
fn in_slot(bytes: Vec<u8>, mut slot: Slot, what: &'static str, place: Span) -> Result<Slot, LayoutError> {
    if slot.address().is_none() {
        return Ok(bytes.into());
    }
    if slot.push(&bytes) {
        Ok(slot)
    } else {
        Err(LayoutError::Contradiction { what, span: place })
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn sized(start: u64, bytes: &[u8]) -> Span {
    Span {
        start,
        end: start.saturating_add(length(bytes)),
    }
}
