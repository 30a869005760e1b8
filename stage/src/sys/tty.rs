//! What `nix` does not know of terminals.
#![expect(unsafe_code, reason = "an ioctl that fills an integer")]

use std::os::fd::{AsFd, AsRawFd};

mod ioctl {
    nix::ioctl_read_bad!(output_queue, libc::TIOCOUTQ, libc::c_int);
}

/// Bytes the terminal has taken but not sent yet (`TIOCOUTQ`, tty_ioctl(4)); 0 for what is no terminal.
pub(crate) fn unsent(tty: impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for the time of the call, and the kernel writes one int to a live one.
    let result = unsafe { ioctl::output_queue(tty.as_fd().as_raw_fd(), &raw mut bytes) };
    result.map_or(0, |_| usize::try_from(bytes).unwrap_or(0))
}
