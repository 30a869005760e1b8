//! A watchdog's timeout (include/uapi/linux/watchdog.h, Documentation/watchdog/watchdog-api.rst).
#![expect(unsafe_code, reason = "ioctl(2)")]

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

mod ioctls {
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
}

/// Sets how long the watchdog waits, which also feeds it; what it made of it.
///
/// # Errors
/// EINVAL where the driver's range is narrower, EOPNOTSUPP where it can't be set.
pub(crate) fn set_timeout(watchdog: &File, timeout: Duration) -> nix::Result<Duration> {
    let mut seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the descriptor is open, and the kernel reads and writes one int, which lives until the call returns.
    unsafe { ioctls::set_timeout(watchdog.as_raw_fd(), &raw mut seconds) }?;
    Ok(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}
