//! What `nix` does not know of terminals.
#![expect(unsafe_code, reason = "ioctls, of which one fills an integer")]

use std::os::fd::{AsFd, AsRawFd};

mod ioctl {
    nix::ioctl_read_bad!(output_queue, libc::TIOCOUTQ, libc::c_int);
    nix::ioctl_write_int_bad!(take_over, libc::TIOCSCTTY);
}

/// Makes the terminal that of this process's session, which it leads (`TIOCSCTTY`, tty_ioctl(4)), whoever had it.
///
/// # Errors
/// What ioctl(2) says.
pub(crate) fn take_over(tty: impl AsFd) -> nix::Result<()> {
    // SAFETY: the descriptor is open for the time of the call, and the argument is a number.
    unsafe { ioctl::take_over(tty.as_fd().as_raw_fd(), 1) }.map(drop)
}

/// Bytes the terminal has taken but not sent yet (`TIOCOUTQ`, tty_ioctl(4)); 0 for what is no terminal.
pub(crate) fn unsent(tty: impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the time of the call, and the kernel writes one int to a live one.
    let result = unsafe { ioctl::output_queue(tty.as_fd().as_raw_fd(), &raw mut bytes) };
    result.map_or(0, |_| usize::try_from(bytes).unwrap_or(0))
}
