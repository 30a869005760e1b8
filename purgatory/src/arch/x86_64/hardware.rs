//! Entry, exit, ports, registers, time and reset.
#![expect(unsafe_code, reason = "assembler, ports and registers")]

use core::arch::x86_64::_rdtsc;
use core::arch::{asm, global_asm};
use core::ptr::{read_volatile, with_exposed_provenance as at, with_exposed_provenance_mut as at_mut, write_volatile};

use purgatory::Params;
use purgatory::params::{ARGUMENT_AT, ENTRY_AT, MAGIC, VERSION};
use purgatory::reason::ReasonKind;
use purgatory::uart::Bus;

use crate::run;

global_asm!(
    include_str!("entry.S"),
    magic = const MAGIC,
    version = const VERSION,
    params_size = const size_of::<Params>(),
    argument = const ARGUMENT_AT,
    entry = const ENTRY_AT,
);

/// Where `entry.S` put the parameter block. Not an `extern` static: that would be read through a GOT, which needs
/// relocations.
pub(crate) fn params_address() -> *const Params {
    let address;
    // SAFETY: computes an address.
    unsafe { asm!("lea {}, [rip + params]", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

#[unsafe(no_mangle)]
extern "sysv64" fn purgatory_main(entered: u64) {
    run::run(entered, "long mode");
}

/// What a gate leaves on the stack; the CPU's part is in the SDM, volume 3, 6.14.2.
#[repr(C)]
struct Frame {
    vector: u64,
    error: u64,
    rip: u64,
}

#[unsafe(no_mangle)]
extern "sysv64" fn purgatory_fault(frame: &Frame, cr2: u64, left: u32) -> ! {
    run::fault(ReasonKind::Fault, |console| {
        console.text(" ").decimal(frame.vector).text(" error ").hex(frame.error);
        console
            .text(if left == 0 { " at " } else { " after the jump at " })
            .hex(frame.rip)
            .text(" cr2 ")
            .hex(cr2);
    })
}

/// Nothing: the caches see what devices write, and the main kernel never runs without them.
pub(crate) fn clean_and_invalidate(_start: u64, _end: u64) {}

/// Ports and device registers.
#[derive(Debug)]
pub(crate) struct Hardware;

impl Bus for Hardware {
    fn port_read(&self, port: u16) -> u8 {
        let value: u8;
        // SAFETY: reads a port the stage named, or one of the reset; no memory is touched.
        unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) };
        value
    }

    fn port_write(&self, port: u16, value: u8) {
        // SAFETY: writes a port the stage named, or one of the reset; no memory is touched.
        unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) };
    }

    fn read8(&self, address: u64) -> u8 {
        let register = at::<u8>(usize::try_from(address).unwrap_or(0));
        // SAFETY: the stage named it as a device and mapped its page uncached; where it did not, a fault resets.
        unsafe { read_volatile(register) }
    }

    fn write8(&self, address: u64, value: u8) {
        let register = at_mut::<u8>(usize::try_from(address).unwrap_or(0));
        // SAFETY: as in `read8`.
        unsafe { write_volatile(register, value) };
    }

    fn read32(&self, address: u64) -> u32 {
        let register = at::<u32>(usize::try_from(address).unwrap_or(0) & !3);
        // SAFETY: as in `read8`; the address is aligned.
        unsafe { read_volatile(register) }
    }

    fn write32(&self, address: u64, value: u32) {
        let register = at_mut::<u32>(usize::try_from(address).unwrap_or(0) & !3);
        // SAFETY: as in `read8`; the address is aligned.
        unsafe { write_volatile(register, value) };
    }
}

/// The time stamp counter.
pub(crate) fn counter() -> u64 {
    // SAFETY: every CPU with 64-bit mode has it, and at CPL 0 CR4.TSD does not matter.
    unsafe { _rdtsc() }
}

/// Resets the machine: the chipset's reset register, the keyboard controller, and what can't fail.
pub(crate) fn reset() -> ! {
    let wait = |turns: u32| {
        for _ in 0..turns {
            // A read of port 0x80 takes about a microsecond.
            Hardware.port_read(0x80);
        }
    };
    // Reset control register (PIIX, ICH): 2 selects a hard reset, the change of bit 2 does it.
    Hardware.port_write(0xcf9, 2);
    wait(50);
    Hardware.port_write(0xcf9, 6);
    wait(50_000);
    // 8042: wait for its input buffer, then pulse the reset line.
    for _ in 0..10_000 {
        if Hardware.port_read(0x64) & 2 == 0 {
            break;
        }
        wait(1);
    }
    Hardware.port_write(0x64, 0xfe);
    wait(50_000);
    // SAFETY: code of `entry.S` that never returns.
    unsafe { asm!("jmp purgatory_triple_fault", options(noreturn)) }
}
