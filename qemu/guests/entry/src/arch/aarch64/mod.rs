//! The arm64 side: the registers of the boot protocol.

use core::arch::global_asm;

use guest_entry::fdt;
use guest_entry::out::Out;

use super::common::{Physical, Uart, image_sum, print_initrd};
use super::hardware::power_off;

global_asm!(include_str!("entry.S"));

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
    image_sum(&mut out, state.load);
    if let Some(initrd) = fdt::print(&mut out, &Physical, x0) {
        let len = initrd.end.saturating_sub(initrd.start);
        out.number("initrd-at", initrd.start);
        out.number("initrd-size", len);
        print_initrd(&mut out, initrd.start, len);
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
