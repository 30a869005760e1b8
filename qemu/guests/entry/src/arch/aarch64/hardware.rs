//! PL011 and PSCI of QEMU's `virt`.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering};

/// The PL011 of QEMU's `virt`.
const UART: usize = 0x0900_0000;
/// Its flag register and the bit for "transmit FIFO full" (PrimeCell UART TRM, 3.3.3).
const FLAGS: usize = UART + 0x18;
const FULL: u32 = 1 << 5;

/// End of what a CPU without larger addresses reaches with its MMU off.
pub(super) const READABLE: u64 = 1 << 48;

/// One byte on the console.
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
