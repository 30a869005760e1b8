//! Where an Image and its companions go: Documentation/arch/arm64/booting.rst.
//!
//! Given sizes and the free memory; responsible for every rule of the protocol. Nothing here touches bytes.

use super::error::PlaceError;
use super::{Places, pages, part, take};
use crate::devicetree as dtb;
use crate::formats::Image;
use crate::memory::Span;
use crate::memory::hole::{End, Free, Want};
use crate::memory::range::{align_down, align_up};

const TWO_M: u64 = 2 << 20;
const ONE_G: u64 = 1 << 30;
const WINDOW: u64 = 32 << 30;
/// Physical addresses that a kernel without 52-bit support reaches.
const MAX: u64 = 1 << 48;

/// What is asked for, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// The Image's.
    pub header: Image,
    /// Of the Image file.
    pub kernel: u64,
    /// None when there is none.
    pub initrd: Option<u64>,
    /// Of the running kernel.
    pub page: u64,
}

/// Finds places in `free`, and says what is left. The top of memory comes first: the kernel's allocator hands out pages from
/// the other end, and `kexec_load` gets slow where source and destination pages mix.
pub(super) fn arrange(ask: &Ask, free: Free) -> Result<(Places, Free), PlaceError> {
    // booting.rst section 4, "flags", bit 3: without it the 2 MiB aligned base is as close as possible to the start of RAM, as
    // memory below it is lost to the kernel; with it, anywhere.
    if !ask.header.anywhere {
        return attempt(ask, free, End::Bottom);
    }
    let first = attempt(ask, free.clone(), End::Top);
    first.or_else(|error| attempt(ask, free, End::Bottom).map_err(|_| error))
}

fn attempt(ask: &Ask, mut free: Free, kernel_end: End) -> Result<(Places, Free), PlaceError> {
    let whole = Span { start: 0, end: MAX };
    // booting.rst section 4: the Image is text_offset bytes from a 2 MiB aligned base, and image_size bytes from its start are
    // free for the kernel.
    let header = |what, value| PlaceError::Header { what, value };
    if !ask.header.text_offset.is_multiple_of(ask.page) || ask.header.text_offset >= MAX {
        return Err(header("text_offset", ask.header.text_offset));
    }
    let room = pages(ask.header.image_size.max(ask.kernel), ask.page)
        .ok_or_else(|| header("image_size", ask.header.image_size))?;
    let kernel = take(
        &mut free,
        "kernel",
        &Want {
            offset: ask.header.text_offset,
            end: kernel_end,
            ..Want::top(room, TWO_M).within(whole).holding(ask.kernel)
        },
    )?;

    // booting.rst section 4: the initrd is entirely inside a 1 GiB aligned window of up to 32 GiB that covers the Image, too.
    let window = Span {
        start: align_up(kernel.end, ONE_G).unwrap_or(MAX).saturating_sub(WINDOW),
        end: align_down(kernel.start, ONE_G).saturating_add(WINDOW).min(MAX),
    };
    let initrd = ask
        .initrd
        .map(|len| part(&mut free, "initrd", len, ask.page, window))
        .transpose()?;

    // booting.rst section 2: the tree is 8-byte aligned, at most 2 MiB long, and as it is mapped with blocks of up to
    // 2 MiB it is in none that is mapped with other attributes: so it has one of its own.
    let info = take(
        &mut free,
        "device tree",
        &Want::top(dtb::MAX_SIZE, TWO_M.max(ask.page))
            .within(whole)
            .holding(dtb::MAX_SIZE),
    )?;
    Ok((Places { kernel, initrd, info }, free))
}
