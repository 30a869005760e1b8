//! One write(2) that may never return, done by a process of its own.
//!
//! Given a file of sysfs and a text; responsible for the write, and for the caller's freedom meanwhile. A thread would
//! do for waiting, but a process with a thread stuck in a driver's probe can't be reaped and keeps its memory, and
//! that memory is where the payload lives.
#![expect(unsafe_code, reason = "fork(2) and close_range(2) have no safe wrapper")]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, pipe2, read, write};

/// A write under way. Dropped, it goes on by itself.
#[derive(Debug)]
pub struct Write {
    pid: Pid,
    /// Readable when the write has returned.
    done: OwnedFd,
}

impl Write {
    /// Begins to write `text` to the file at `path`.
    ///
    /// # Errors
    /// What open(2), pipe(2) or fork(2) says; never what write(2) says.
    pub fn start(path: &Path, text: &str) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).open(path)?;
        let (done, result) = pipe2(OFlag::O_CLOEXEC)?;
        // SAFETY: the child makes only system calls (no allocation, no locks) and leaves through _exit.
        match unsafe { fork() }? {
            ForkResult::Child => {
                keep_only(file.as_raw_fd(), result.as_raw_fd());
                let errno = match write(&file, text.as_bytes()) {
                    Ok(_) => 0,
                    Err(errno) => errno as i32,
                };
                let _ = write(&result, &errno.to_ne_bytes());
                // SAFETY: _exit(2) has no preconditions.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self { pid: child, done }),
        }
    }

    /// What the write returned, once its descriptor is readable; blocks until then.
    ///
    /// # Errors
    /// What write(2) said.
    pub fn finish(self) -> nix::Result<()> {
        let mut errno = [0; 4];
        let length = read(&self.done, &mut errno)?;
        // It has nothing left to do but to leave, so this does not block.
        let _ = waitpid(self.pid, None);
        match i32::from_ne_bytes(errno) {
            _ if length != errno.len() => Err(Errno::EINTR), // killed
            0 => Ok(()),
            errno => Err(Errno::from_raw(errno)),
        }
    }
}

impl AsFd for Write {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}

/// Closes every descriptor but two: one that PID 1 waits on must not stay open in a child that never ends.
fn keep_only(a: RawFd, b: RawFd) {
    let (low, high) = (a.min(b), a.max(b));
    for (first, last) in [
        (0, low.saturating_sub(1)),
        (low.saturating_add(1), high.saturating_sub(1)),
        (high.saturating_add(1), RawFd::MAX),
    ] {
        if first <= last {
            // SAFETY: close_range(2) takes three plain numbers; nothing in this process uses what it closes.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_tells_its_result() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("bind");
        std::fs::write(&file, "").unwrap();
        Write::start(&file, "virtio0").unwrap().finish().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "virtio0");
        let full = Write::start(Path::new("/dev/full"), "x").unwrap();
        assert_eq!(full.finish(), Err(Errno::ENOSPC));
        assert!(Write::start(&dir.path().join("missing"), "x").is_err());
    }
}
