//! The x86_64 side: the state of the 64-bit boot protocol.

use core::arch::global_asm;

use guest_entry::memory::Memory as _;
use guest_entry::out::Out;
use guest_entry::{paging, zero_page};

use super::common::{Physical, Uart, image_sum, print_initrd};
use super::hardware::power_off;

global_asm!(include_str!("entry.S"), options(att_syntax));

/// What entry.S saved, in its order.
#[repr(C)]
struct State {
    rsi: u64,
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rdi: u64,
    rbp: u64,
    rsp: u64,
    rflags: u64,
    load: u64,
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    cs: u64,
    ds: u64,
    es: u64,
    ss: u64,
    fs: u64,
    gs: u64,
    gdt_limit: u64,
    gdt: u64,
    idt_limit: u64,
    idt: u64,
}

#[unsafe(no_mangle)]
extern "C" fn entry_main(state: &State) -> ! {
    let mut out = Out::new(Uart);
    // On a line of its own.
    out.end();
    out.word("arch", "x86_64");
    out.number("load", state.load);
    out.number("rsi", state.rsi);
    out.number("rax", state.rax);
    out.number("rbx", state.rbx);
    out.number("rcx", state.rcx);
    out.number("rdx", state.rdx);
    out.number("rdi", state.rdi);
    out.number("rbp", state.rbp);
    out.number("rsp", state.rsp);
    out.number("rflags", state.rflags);
    out.number("cr0", state.cr0);
    out.number("cr3", state.cr3);
    out.number("cr4", state.cr4);
    out.number("efer", state.efer);
    out.number("cs", state.cs);
    out.number("ds", state.ds);
    out.number("es", state.es);
    out.number("ss", state.ss);
    out.number("fs", state.fs);
    out.number("gs", state.gs);
    out.number("gdt", state.gdt);
    out.number("gdt-limit", state.gdt_limit);
    out.number("idt", state.idt);
    out.number("idt-limit", state.idt_limit);
    descriptor(&mut out, state, "gdt-cs", state.cs);
    descriptor(&mut out, state, "gdt-ds", state.ds);
    image_sum(&mut out, state.load);
    match zero_page::print(&mut out, &Physical, state.rsi) {
        Some(pointers) => {
            maps(&mut out, state, &pointers);
            if pointers.ramdisk_size > 0 {
                print_initrd(&mut out, pointers.ramdisk, pointers.ramdisk_size);
            }
        }
        None => out.word("zp", "unreadable"),
    }
    out.text("entry: done").end();
    power_off()
}

/// What a selector stands for in the loader's table.
fn descriptor(out: &mut Out<Uart>, state: &State, key: &str, selector: u64) {
    let offset = selector & !7;
    let inside = offset.saturating_add(7) <= state.gdt_limit;
    match Physical.le64(state.gdt.wrapping_add(offset)) {
        Some(entry) if inside => out.number(key, entry),
        _ => out.word(key, "none"),
    }
}

/// What the loader's page tables make of everything the kernel goes to before it has its own.
fn maps(out: &mut Out<Uart>, state: &State, pointers: &zero_page::Pointers) {
    let mut look = |key: &str, start: u64, len: u64, code: bool| {
        let la57 = state.cr4 >> 12 & 1 == 1;
        out.key(key).hex(start).text(" ").hex(len).text(" ");
        match paging::span(&Physical, state.cr3, la57, start, len, code) {
            paging::Span::Identity => out.text("identity"),
            paging::Span::Hole(at) => out.text("hole ").hex(at),
            paging::Span::Other(at) => out.text("other ").hex(at),
            paging::Span::Table(at) => out.text("table ").hex(at),
        }
        .end();
    };
    look("map-kernel", state.load, pointers.init_size, true);
    look("map-zero-page", state.rsi, 4096, false);
    look(
        "map-cmdline",
        pointers.cmdline,
        pointers.cmdline_len.saturating_add(1),
        false,
    );
    look("map-low", 0, 0xa_0000, false);
    look("map-initrd", pointers.ramdisk, pointers.ramdisk_size, false);
}

#[unsafe(no_mangle)]
extern "C" fn entry_fault(vector: u64, frame: &[u64; 6], cr2: u64) -> ! {
    let mut out = Out::new(Uart);
    out.end();
    out.key("fault").hex(vector).text(" cr2 ").hex(cr2).text(" frame");
    for word in frame {
        out.text(" ").hex(*word);
    }
    out.end();
    power_off()
}
