//! The counter that all of a boot shares: it goes on from the firmware through every kernel to the purgatory.
//!
//! arm64: `CNTVCT_EL0`, which Linux lets user space read, with its frequency in `CNTFRQ_EL0`. x86_64: the time stamp
//! counter, whose frequency the CPU does not say.
#![expect(unsafe_code, reason = "the counter is read by an instruction that no library wraps")]

/// The counter now; 0 on other architectures.
pub(crate) fn now() -> u64 {
    read()
}

/// Its ticks in a second, where the CPU says them.
pub(crate) fn frequency() -> Option<u64> {
    said().filter(|hz| *hz != 0)
}

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let value: u64;
    // SAFETY: reads a register that Linux leaves to EL0 (or emulates); nothing else changes. The barrier keeps the read from
    // going ahead of what was before it.
    unsafe {
        core::arch::asm!("isb", "mrs {}, cntvct_el0", out(reg) value, options(nostack, nomem, preserves_flags));
    }
    value
}

#[cfg(target_arch = "aarch64")]
fn said() -> Option<u64> {
    let value: u64;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!("mrs {}, cntfrq_el0", out(reg) value, options(nostack, nomem, preserves_flags));
    }
    Some(value)
}

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads the counter into two registers; nothing else changes. The barrier keeps the read from going ahead of what
    // was before it.
    unsafe {
        core::arch::asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack, nomem, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(not(target_arch = "aarch64"))]
fn said() -> Option<u64> {
    None
}

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
fn read() -> u64 {
    0
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_goes_on() {
        let (a, b) = (super::now(), super::now());
        assert!(a != 0 && b >= a, "{a} {b}");
    }
}
