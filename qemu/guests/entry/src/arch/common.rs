//! What both machines print and read.

use core::panic::PanicInfo;

use guest_entry::memory::{Memory, Sum};
use guest_entry::out::{Out, Sink};

use super::hardware;

/// All of physical memory, at the addresses it has.
pub(super) struct Physical;

impl Memory for Physical {
    fn word(&self, at: u64) -> Option<u64> {
        if at >= hardware::READABLE {
            return None;
        }
        let at = usize::try_from(at & !7).ok()?;
        let at = core::ptr::with_exposed_provenance::<u64>(at);
        // SAFETY: aligned, and below the end of what the CPU (arm64, MMU off) or the guest's own tables (x86_64) reach; where
        // there is no memory, the CPU's fault is what the test is told.
        Some(unsafe { at.read_volatile() })
    }
}

/// QEMU's UART.
pub(super) struct Uart;

impl Sink for Uart {
    fn byte(&mut self, byte: u8) {
        hardware::put(byte);
    }
}

/// Where the record of `image::RECORD` lies in the loaded image; written by the builder.
const RECORD: u64 = 0x40;

/// Sums what the image's record says was summed. The words up to the record's end are left out: the builder writes them last.
pub(super) fn image_sum(out: &mut Out<Uart>, load: u64) {
    let record = |i: u64| Physical.word(load.wrapping_add(RECORD).wrapping_add(i)).unwrap_or(0);
    let (len, skip_start, skip_end, want) = (record(0), record(8), record(16), record(24));
    let mut sum = Sum::new();
    let start = RECORD.wrapping_add(32);
    let sane = start <= skip_start && skip_start <= skip_end;
    if sane {
        let _ = Physical.add_to(&mut sum, load.wrapping_add(start), skip_start.wrapping_sub(start));
        if len > skip_end {
            let _ = Physical.add_to(&mut sum, load.wrapping_add(skip_end), len.wrapping_sub(skip_end));
        }
    }
    let got = sum.finish();
    out.number("image-len", len);
    out.number("image-end", load.wrapping_add(len.max(skip_end)));
    if sane && got == want {
        out.word("image-sum", "ok");
    } else {
        out.key("image-sum")
            .text("bad: want ")
            .hex(want)
            .text(" got ")
            .hex(got)
            .end();
    }
}

/// Prints the start of the initrd and the checksum of all of it.
pub(super) fn print_initrd(out: &mut Out<Uart>, start: u64, len: u64) {
    out.key("initrd-head").bytes(&Physical, start, len.min(16)).end();
    if let Some(sum) = Physical.sum(start, len) {
        out.number("initrd-sum", sum);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    Out::new(Uart).word("fault", "panic");
    hardware::power_off()
}
