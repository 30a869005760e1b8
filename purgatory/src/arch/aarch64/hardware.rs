//! Entry, exit, registers, time and reset.
#![expect(unsafe_code, reason = "assembler and device registers")]

use core::arch::{asm, global_asm};

use purgatory::params::{ARGUMENT_AT, CONDUIT_AT, ENTRY_AT, MAGIC, RECORD_AT, UART_AT, VERSION};
use purgatory::reason::ReasonKind;
use purgatory::uart::Bus;
use purgatory::{Params, Record};

use crate::run;

global_asm!(
    include_str!("entry.S"),
    magic = const MAGIC,
    version = const VERSION,
    params_size = const size_of::<Params>(),
    argument = const ARGUMENT_AT,
    entry = const ENTRY_AT,
    uart = const UART_AT,
    conduit = const CONDUIT_AT,
    record = const RECORD_AT,
    record_size = const Record::SIZE,
);

/// Where `entry.S` put the parameter block.
pub(crate) fn params_address() -> *const Params {
    let address;
    // SAFETY: computes an address.
    unsafe {
        asm!(
            "adrp {0}, params",
            "add {0}, {0}, :lo12:params",
            out(reg) address,
            options(nomem, nostack, preserves_flags)
        );
    }
    address
}

#[unsafe(no_mangle)]
extern "C" fn purgatory_main(entered: u64, regime: u64) {
    // No `match` with texts as values: a table of them would need relocations.
    if regime == 0 {
        run::run(entered, "el1");
    } else if regime == 1 {
        run::run(entered, "el2");
    } else {
        run::run(entered, "el2 vhe");
    }
}

#[unsafe(no_mangle)]
extern "C" fn purgatory_fault(esr: u64, elr: u64, far: u64) -> ! {
    run::fault(ReasonKind::Fault, |console| {
        console
            .text(" esr ")
            .hex(esr)
            .text(" at ")
            .hex(elr)
            .text(" far ")
            .hex(far);
    })
}

/// Writes back what caches have of `[start, end)`, and drops it: the next to read it reads the memory. The pages of it are
/// mapped.
pub(crate) fn clean_and_invalidate(start: u64, end: u64) {
    // SAFETY: code of `entry.S` that changes no byte, and no register that a call preserves.
    unsafe {
        asm!(
            "bl clean_and_invalidate",
            inout("x0") start => _,
            in("x1") end,
            out("x2") _,
            out("x3") _,
            out("x30") _,
            options(nostack)
        );
    }
}

/// Device registers; there are no ports.
///
/// Each access is one load or store instruction of the simplest kind: a hypervisor can't emulate others.
#[derive(Debug)]
pub(crate) struct Hardware;

impl Bus for Hardware {
    fn port_read(&self, _port: u16) -> u8 {
        0xff
    }

    fn port_write(&self, _port: u16, _value: u8) {}

    fn read8(&self, address: u64) -> u8 {
        let value: u32;
        // SAFETY: the stage named it as a device and mapped its page as one; where it did not, a fault resets.
        unsafe { asm!("ldrb {:w}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags)) };
        value.to_le_bytes()[0]
    }

    fn write8(&self, address: u64, value: u8) {
        // SAFETY: as in `read8`.
        unsafe {
            asm!("strb {:w}, [{}]", in(reg) u32::from(value), in(reg) address, options(nostack, preserves_flags))
        };
    }

    fn read32(&self, address: u64) -> u32 {
        let value: u32;
        // SAFETY: as in `read8`.
        unsafe { asm!("ldr {:w}, [{}]", out(reg) value, in(reg) address, options(nostack, preserves_flags)) };
        value
    }

    fn write32(&self, address: u64, value: u32) {
        // SAFETY: as in `read8`.
        unsafe { asm!("str {:w}, [{}]", in(reg) value, in(reg) address, options(nostack, preserves_flags)) };
    }
}

/// The virtual counter, not read ahead of what it is to measure.
pub(crate) fn counter() -> u64 {
    let value;
    // SAFETY: reads a counter.
    unsafe { asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack, preserves_flags)) };
    value
}

/// Resets the machine through PSCI; where there is none, waits for the watchdog.
pub(crate) fn reset() -> ! {
    // SAFETY: code of `entry.S` that never returns.
    unsafe { asm!("b purgatory_reset", options(noreturn)) }
}
