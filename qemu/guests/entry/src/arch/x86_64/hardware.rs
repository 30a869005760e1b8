//! COM1 and the power button of q35.

use core::arch::asm;

/// First serial port; its line status register, and the bit for "transmitter empty".
const COM1: u16 = 0x3f8;
const STATUS: u16 = COM1 + 5;
const EMPTY: u8 = 1 << 5;

/// End of what the guest's own tables map (entry.S).
pub(super) const READABLE: u64 = 64 << 30;

/// One byte on the console.
pub(super) fn put(byte: u8) {
    // Bounded: a UART that is never ready costs output, not the test.
    for _ in 0..1_000_000 {
        let status: u8;
        // SAFETY: reads a register of the serial port.
        unsafe { asm!("in al, dx", in("dx") STATUS, out("al") status, options(nomem, nostack, preserves_flags)) };
        if status & EMPTY != 0 {
            break;
        }
    }
    // SAFETY: writes a register of the serial port.
    unsafe { asm!("out dx, al", in("dx") COM1, in("al") byte, options(nomem, nostack, preserves_flags)) };
}

/// ACPI's S5 where QEMU's machines have it with SeaBIOS and OVMF, then a reset, then for ever.
pub(super) fn power_off() -> ! {
    // q35, i440fx: PM1a control, SLP_EN with sleep type 0.
    for port in [0x604_u16, 0xb004] {
        // SAFETY: ends the machine, or is nothing to it.
        unsafe { asm!("out dx, ax", in("dx") port, in("ax") 0x2000_u16, options(nomem, nostack, preserves_flags)) };
    }
    // SAFETY: ends the machine: full reset.
    unsafe { asm!("out dx, al", in("dx") 0xcf9_u16, in("al") 6_u8, options(nomem, nostack, preserves_flags)) };
    loop {
        core::hint::spin_loop();
    }
}
