//! The arm64 side: PL011, PSCI, and the registers of the boot protocol.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

use guest_entry::fdt;
use guest_entry::out::Out;

use super::{Physical, Uart};

global_asm!(include_str!("entry.S"));

/// The PL011 of QEMU's `virt`.
const UART: usize = 0x0900_0000;
/// Its flag register and the bit for "transmit FIFO full" (PrimeCell UART TRM, 3.3.3).
const FLAGS: usize = UART + 0x18;
const FULL: u32 = 1 << 5;

/// End of what a CPU without larger addresses reaches with its MMU off.
pub(super) const READABLE: u64 = 1 << 48;

/// What entry.S saved, in its order.
#[repr(C)]
struct State {
    x: [u64; 4],
    sp: u64,
    load: u64,
    current_el: u64,
    daif: u64,
    spsel: u64,
    cntfrq: u64,
    midr: u64,
    mmfr0: u64,
    sctlr: u64,
    vbar: u64,
    tcr: u64,
    cpacr: u64,
    hcr: u64,
    cntvoff: u64,
    cnthctl: u64,
}

#[unsafe(no_mangle)]
extern "C" fn entry_main(state: &State) -> ! {
    let mut out = Out::new(Uart);
    // On a line of its own.
    out.end();
    out.word("arch", "arm64");
    let level = state.current_el >> 2 & 3;
    out.number("el", level);
    if level == 2 {
        out.number("e2h", state.hcr >> 34 & 1);
        out.number("hcr", state.hcr);
        out.number("cntvoff", state.cntvoff);
        out.number("cnthctl", state.cnthctl);
    }
    let [x0, x1, x2, x3] = state.x;
    out.number("load", state.load);
    out.number("x0", x0);
    out.number("x1", x1);
    out.number("x2", x2);
    out.number("x3", x3);
    out.number("sp", state.sp);
    out.number("sctlr", state.sctlr);
    out.number("mmu", state.sctlr & 1);
    out.number("dcache", state.sctlr >> 2 & 1);
    out.number("icache", state.sctlr >> 12 & 1);
    out.number("big-endian", state.sctlr >> 25 & 1);
    out.number("daif", state.daif);
    out.number("spsel", state.spsel);
    out.number("vbar", state.vbar);
    out.number("tcr", state.tcr);
    out.number("cpacr", state.cpacr);
    out.number("cntfrq", state.cntfrq);
    out.number("midr", state.midr);
    out.number("mmfr0", state.mmfr0);
    super::image_sum(&mut out, state.load);
    if let Some(initrd) = fdt::print(&mut out, &Physical, x0) {
        let len = initrd.end.saturating_sub(initrd.start);
        out.number("initrd-at", initrd.start);
        out.number("initrd-size", len);
        super::initrd(&mut out, initrd.start, len);
    }
    out.text("entry: done").end();
    power_off()
}

#[unsafe(no_mangle)]
extern "C" fn entry_fault(vector: u64, esr: u64, elr: u64, far: u64) -> ! {
    let mut out = Out::new(Uart);
    out.end();
    out.key("fault").hex(vector).text(" esr ").hex(esr);
    out.text(" elr ").hex(elr).text(" far ").hex(far).end();
    power_off()
}

pub(super) fn put(byte: u8) {
    // Bounded: a UART that is never ready costs output, not the test.
    for _ in 0..1_000_000 {
        if register(FLAGS).load(Ordering::Relaxed) & FULL == 0 {
            break;
        }
    }
    register(UART).store(u32::from(byte), Ordering::Relaxed);
}

fn register(at: usize) -> &'static AtomicU32 {
    let at = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: QEMU's UART is there for as long as the machine is; loads and stores of 32 bits are how it is used.
    unsafe { AtomicU32::from_ptr(at) }
}

/// PSCI `SYSTEM_OFF`, by the instruction that QEMU's `virt` listens to: `smc` when the guest owns EL2, `hvc` else.
pub(super) fn power_off() -> ! {
    const SYSTEM_OFF: u64 = 0x8400_0008;
    let level: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack)) };
    if level >> 2 & 3 == 2 {
        // SAFETY: ends the machine.
        unsafe { asm!("smc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C")) };
    } else {
        // SAFETY: ends the machine.
        unsafe { asm!("hvc #0", inout("x0") SYSTEM_OFF => _, clobber_abi("C")) };
    }
    loop {
        core::hint::spin_loop();
    }
}
