//! Where a bzImage and its companions go: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".
//!
//! Given sizes and the free memory; responsible for every rule of the protocol. Nothing here touches bytes.

use super::error::PlaceError;
use super::{Places, no_room, pages, part};
use crate::formats::BzImage;
use crate::memory::Span;
use crate::memory::hole::{End, Free, Want};

/// Below are the real-mode vectors, the BIOS's data and the trampolines of the next kernel.
const LOW: Span = Span { start: 0, end: 1 << 20 };
const FOUR_G: u64 = 1 << 32;
/// `MAXMEM` of a kernel with 4-level paging, which is what `kexec_load` compares with.
const MAX: u64 = 1 << 46;

/// Bytes that zero page, command line (64 KiB at most), setup_data and EFI memory map never fill.
pub(crate) const INFO_ROOM: u64 = 256 << 10;

/// What is asked for, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    /// The bzImage's.
    pub header: BzImage,
    /// Of the protected-mode part.
    pub kernel: u64,
    /// None when there is none.
    pub initrd: Option<u64>,
    /// Zero page, command line and setup_data.
    pub boot_data: u64,
    /// Of the running kernel.
    pub page: u64,
}

/// Finds places in `free`, and says what is left. The top of memory comes first: the kernel's allocator hands out pages from
/// the other end, and `kexec_load` gets slow where source and destination pages mix.
pub(super) fn arrange(ask: &Ask, free: Free) -> Result<(Places, Free), PlaceError> {
    let free = free.without(&[LOW]);
    let want = kernel_room(ask)?;
    let mut why = None;
    // The room behind the kernel may be what the initrd needs, wherever the kernel does best by itself.
    for end in [End::Top, End::Bottom] {
        for place in free.places(&Want { end, ..want }) {
            match companions(ask, place, free.clone().without(&[place])) {
                Ok(found) => return Ok(found),
                Err(error) => why = why.or(Some(error)),
            }
        }
    }
    Err(why.unwrap_or_else(|| no_room("kernel", &want, &free)))
}

/// Below which address everything is.
fn limit(ask: &Ask) -> u64 {
    // boot.rst, xloadflags, XLF_CAN_BE_LOADED_ABOVE_4G: only with this bit may kernel, boot_params, command line and
    // initrd be above 4 GiB.
    if ask.header.above_4g { MAX } else { FOUR_G }
}

/// What the kernel needs: its bytes and the room behind them.
fn kernel_room(ask: &Ask) -> Result<Want, PlaceError> {
    // boot.rst, "kernel_alignment": a relocatable kernel is loaded at a multiple of it.
    // boot.rst, "pref_address": below it the kernel moves itself up, over whatever is there.
    // boot.rst, "init_size": this much from the load address on is used before the kernel looks at the memory map. The file
    // may be longer.
    let room = pages(ask.header.init_size.max(ask.kernel), ask.page).ok_or(PlaceError::Header {
        what: "init_size",
        value: ask.header.init_size,
    })?;
    if !ask.header.alignment.is_power_of_two() {
        return Err(PlaceError::Header {
            what: "kernel_alignment",
            value: ask.header.alignment,
        });
    }
    let limit = limit(ask);
    let window = Span {
        start: ask.header.pref_address.min(limit),
        end: limit,
    };
    let align = ask.header.alignment.max(ask.page);
    Ok(Want::top(room, align).within(window).holding(ask.kernel))
}

/// Places for the rest, where the kernel is at `kernel`.
fn companions(ask: &Ask, kernel: Span, mut free: Free) -> Result<(Places, Free), PlaceError> {
    let limit = limit(ask);

    // boot.rst, "initrd_addr_max": the initrd's last byte is not above it. With the bit above, ext_ramdisk_image takes
    // any address.
    let initrd_limit = if ask.header.above_4g {
        MAX
    } else {
        ask.header.initrd_addr_max.saturating_add(1).min(FOUR_G)
    };
    let initrd = ask
        .initrd
        .map(|len| {
            part(
                &mut free,
                "initrd",
                len,
                ask.page,
                Span {
                    start: 0,
                    end: initrd_limit,
                },
            )
        })
        .transpose()?;

    // boot.rst, "64-bit Boot Protocol": the setup data is outside the kernel's range. So are the page tables, the stack and
    // the descriptor table of the purgatory, which the kernel takes its first steps with: it gets what is left.
    let info = part(
        &mut free,
        "boot-data",
        ask.boot_data,
        ask.page,
        Span { start: 0, end: limit },
    )?;
    Ok((Places { kernel, initrd, info }, free))
}
