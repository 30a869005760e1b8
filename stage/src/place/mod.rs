//! What a payload asks for × free memory → addresses. Pure, for both arches on any host.
//!
//! Given sizes, headers and free memory; responsible for every rule of the two boot protocols about addresses (`arm64.rs`,
//! `x86_64.rs`), for keeping all of it inside true System RAM and off everything reserved ([`usable`](mod@usable)), as `kexec_load`
//! would take any address, and for leaving room for what the main kernel places by itself (`unplaced.rs`). Nothing here touches a byte of the payload.

pub(crate) mod arm64;
mod error;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
pub(crate) mod tests;
mod unplaced;
mod usable;
pub(crate) mod x86_64;

use crate::devicetree;
use crate::formats::Header;
use crate::memory::Span;
use crate::memory::hole::{Free, Want};
use crate::memory::range::align_up;
pub(crate) use error::PlaceError;
pub(crate) use unplaced::{Regions, Shortage};
pub(crate) use usable::{LOW_MEMORY, corrections, main_tree, usable, usable_with, usable_x86_64, which_dtb};

/// What tells a kernel about the machine never needs more, bytes: a device tree has a 2 MiB block of its own.
pub(crate) const INFO_ROOM: u64 = devicetree::MAX_SIZE;

/// What a payload needs room for, known before it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask {
    /// An Image and its companions.
    Arm64(arm64::Ask),
    /// A bzImage and its companions.
    X86_64(x86_64::Ask),
}

/// Where it all goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// What the kernel uses before it knows the memory map; its bytes are at the start.
    pub kernel: Span,
    /// To the byte.
    pub initrd: Option<Span>,
    /// What tells the kernel about the machine. arm64: a whole block, the device tree at its start. x86_64: zero page,
    /// command line and setup_data, to the byte.
    pub info: Span,
}

impl Ask {
    /// What a kernel with that header asks for: `kernel` bytes of it, an initrd of that length, in pages of `page` bytes.
    pub(crate) fn new(header: &Header, kernel: u64, initrd: Option<u64>, page: u64) -> Self {
        match *header {
            Header::Image(header) => Self::Arm64(arm64::Ask {
                header,
                kernel,
                initrd,
                page,
            }),
            Header::BzImage(header) => Self::X86_64(x86_64::Ask {
                header,
                kernel,
                initrd,
                boot_data: x86_64::INFO_ROOM,
                page,
            }),
        }
    }

    /// Bytes of payload: kernel, initrd if there is one, and what tells the kernel about the machine.
    pub(crate) fn resident(&self) -> Vec<u64> {
        let (kernel, initrd, info) = match self {
            Self::Arm64(ask) => (ask.kernel, ask.initrd, devicetree::MAX_SIZE),
            Self::X86_64(ask) => (ask.kernel, ask.initrd, ask.boot_data),
        };
        [Some(kernel), initrd, Some(info)].into_iter().flatten().collect()
    }

    /// Bytes the kernel uses behind its own before it knows the memory map.
    pub(crate) fn room_behind_kernel(&self) -> u64 {
        match self {
            Self::Arm64(ask) => ask.header.image_size.saturating_sub(ask.kernel),
            Self::X86_64(ask) => ask.header.init_size.saturating_sub(ask.kernel),
        }
    }

    /// The same as addresses.
    pub(crate) fn resident_spans(&self, places: &Places) -> Vec<Span> {
        let starts = [Some(places.kernel), places.initrd, Some(places.info)];
        let sizes = self.resident();
        let spans = starts.into_iter().flatten().zip(sizes);
        spans
            .filter_map(|(place, size)| Span::sized(place.start, size))
            .collect()
    }
}

/// Finds places in `free` by the rules of the boot protocol, such that leave room for `regions` where there are any, and says
/// what is left.
///
/// # Errors
/// What finds no room.
pub(crate) fn arrange(ask: &Ask, free: &Free, regions: &Regions) -> Result<(Places, Free), PlaceError> {
    let attempt = |free: Free| match ask {
        Ask::Arm64(ask) => arm64::arrange(ask, free),
        Ask::X86_64(ask) => x86_64::arrange(ask, free),
    };
    let first = attempt(free.clone())?;
    // The memory below such a kernel is lost, and what was to be there with it.
    let must_be_low = matches!(ask, Ask::Arm64(ask) if !ask.header.anywhere);
    if must_be_low || regions.beside(&first.0).is_ok() {
        return Ok(first);
    }
    let mut others = regions
        .to_keep_free()
        .filter_map(|kept| attempt(free.clone().without(&kept)).ok());
    let other = others.find(|(places, _)| regions.beside(places).is_ok());
    Ok(other.unwrap_or(first))
}

/// `len` bytes in whole pages, at least one.
pub(crate) fn pages(len: u64, page: u64) -> Option<u64> {
    align_up(len.max(1), page)
}

/// Whole pages for `len` bytes inside `window`, as high as they fit; the answer is to the byte.
pub(crate) fn part(free: &mut Free, what: &'static str, len: u64, page: u64, window: Span) -> Result<Span, PlaceError> {
    let size = pages(len, page).ok_or(PlaceError::Header { what, value: len })?;
    let place = take(free, what, &Want::top(size, page).within(window).holding(size))?;
    Ok(Span {
        start: place.start,
        end: place.start.saturating_add(len),
    })
}

fn take(free: &mut Free, what: &'static str, want: &Want) -> Result<Span, PlaceError> {
    free.take(want).ok_or_else(|| no_room(what, want, free))
}

fn no_room(what: &'static str, want: &Want, free: &Free) -> PlaceError {
    PlaceError::NoRoom {
        what,
        asked: want.size,
        align: want.align,
        window: want.window,
        there: free.largest(&want.window),
    }
}
