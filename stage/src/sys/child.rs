//! System calls that may never return, made by a process of their own.
//!
//! Given a file of sysfs to write to, a block device to read from, or mounts to detach; responsible for the caller's
//! freedom meanwhile.
//! A thread would do for waiting, but a process with a thread stuck in a driver can't be reaped and keeps its memory,
//! and that memory is where the payload lives. Opening a disk is enough to get stuck: it waits for the partition scan.
#![expect(unsafe_code, reason = "fork(2) and close_range(2) have no safe wrapper")]

use std::ffi::CString;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::uio::pread;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read, write};

use super::block::add_partition;
use super::read_at::ReadAt;

/// A write under way. Dropped, it goes on by itself.
#[derive(Debug)]
pub(crate) struct Write {
    pid: Pid,
    /// Readable when the write has returned.
    done: OwnedFd,
}

impl Write {
    /// Begins to write `text` to the file at `path`.
    ///
    /// # Errors
    /// What open(2), pipe(2) or fork(2) says; never what write(2) says.
    pub(crate) fn start(path: &Path, text: &str) -> io::Result<Self> {
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

    /// What the write returned, if it did so in this time; then it goes on by itself.
    pub(crate) fn finish_within(self, time: Duration) -> Option<nix::Result<()>> {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(self.done.as_fd(), PollFlags::POLLIN)], timeout);
        ready.is_ok_and(|n| n > 0).then(|| self.finish())
    }

    /// What the write returned, once its descriptor is readable; blocks until then.
    ///
    /// # Errors
    /// What write(2) said.
    pub(crate) fn finish(self) -> nix::Result<()> {
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

/// Detaches every mount on `target`, and waits for what the kernel does then no longer than `within`: it is for the last reads
/// of a disk, which may be dead.
///
/// # Errors
/// What pipe(2) or fork(2) says.
pub(crate) fn detach(target: &Path, within: Duration) -> nix::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let (done, end) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the child makes only system calls (no allocation, no locks) and leaves through _exit.
    match unsafe { fork() }? {
        ForkResult::Child => {
            keep_only(end.as_raw_fd(), end.as_raw_fd());
            while umount2(target.as_c_str(), MntFlags::MNT_DETACH).is_ok() {}
            // SAFETY: _exit(2) has no preconditions.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            drop(end);
            let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
            // Its end closes the pipe. One that is late, or was not waited for, goes on by itself, and PID 1 reaps it.
            let ended = poll(&mut [PollFd::new(done.as_fd(), PollFlags::POLLIN)], timeout);
            if ended.is_ok_and(|ready| ready > 0) {
                let _ = waitpid(child, None);
            }
            Ok(())
        }
    }
}

/// A block device that is opened and read by a child, so that a dead one costs no more than the time until `until`.
/// Dropped, it leaves the child to itself.
#[derive(Debug)]
pub(crate) struct RemoteDevice {
    pid: Pid,
    requests: OwnedFd,
    replies: OwnedFd,
    until: Instant,
}

/// Most bytes in one request: what a pipe takes at once.
const CHUNK: usize = 64 << 10;
/// Partition number, offset and length of a request; partition 0 is to be read from.
const REQUEST: usize = 24;

impl RemoteDevice {
    /// Starts the child, which begins to open the device.
    ///
    /// # Errors
    /// What pipe(2) or fork(2) says; the device's own errors come with the first read.
    pub(crate) fn start(path: &Path, until: Instant) -> io::Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let (orders, requests) = pipe2(OFlag::O_CLOEXEC)?;
        let (replies, answers) = pipe2(OFlag::O_CLOEXEC)?;
        let mut buffer = vec![0; CHUNK];
        // SAFETY: the child makes only system calls (no allocation, no locks) and leaves through _exit.
        match unsafe { fork() }? {
            ForkResult::Child => {
                keep_only(orders.as_raw_fd(), answers.as_raw_fd());
                let _ = serve(&path, &orders, &answers, &mut buffer);
                // SAFETY: _exit(2) has no preconditions.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self {
                pid: child,
                requests,
                replies,
                until,
            }),
        }
    }

    fn ask(&self, request: [u64; 3], part: &mut [u8]) -> nix::Result<()> {
        self.send(request)?;
        let mut errno = [0; 4];
        self.receive(&mut errno)?;
        match i32::from_ne_bytes(errno) {
            0 => self.receive(part),
            errno => Err(Errno::from_raw(errno)),
        }
    }

    fn send(&self, request: [u64; 3]) -> nix::Result<()> {
        let bytes: Vec<u8> = request.iter().flat_map(|number| number.to_ne_bytes()).collect();
        write(&self.requests, &bytes).map(drop)
    }

    /// Asks for the device to be opened, and for a byte; what comes back only makes the descriptor readable.
    ///
    /// # Errors
    /// What write(2) says.
    pub(crate) fn ask_later(&self) -> io::Result<()> {
        Ok(self.send([0, 0, 1])?)
    }

    /// Tells the kernel of a partition of this disk: its number, first byte and length in bytes.
    ///
    /// # Errors
    /// See [`add_partition`], and TimedOut.
    pub(crate) fn add_partition(&self, number: u32, start: u64, length: u64) -> io::Result<()> {
        Ok(self.ask([number.into(), start, length], &mut [])?)
    }

    fn receive(&self, mut buf: &mut [u8]) -> nix::Result<()> {
        while !buf.is_empty() {
            let left = self.until.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.replies.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Err(Errno::ETIMEDOUT),
                Err(Errno::EINTR) => continue,
                other => other?,
            };
            let length = read(&self.replies, buf)?;
            if length == 0 {
                return Err(Errno::EPIPE); // the child was killed
            }
            buf = buf.get_mut(length..).unwrap_or_default();
        }
        Ok(())
    }

    /// Ends the child, and never waits for it: it may be in the middle of an answer that is wanted no more, or in a
    /// driver, where a signal reaches it when the driver is done. PID 1 reaps it when this process is gone.
    pub(crate) fn finish(self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
    }
}

/// Readable when a late answer has come.
impl AsFd for RemoteDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.replies.as_fd()
    }
}

impl ReadAt for RemoteDevice {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for part in buf.chunks_mut(CHUNK) {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            self.ask([0, at, length], part).map_err(|errno| match errno {
                Errno::ENODATA => io::ErrorKind::UnexpectedEof.into(),
                Errno::ETIMEDOUT => io::ErrorKind::TimedOut.into(),
                other => io::Error::from(other),
            })?;
            at = at.saturating_add(length);
        }
        Ok(())
    }
}

/// The child's side: one reply (an errno, then the bytes when it is 0) for each request, until there are no more.
/// The end of the device is ENODATA.
fn serve(path: &CString, orders: &OwnedFd, answers: &OwnedFd, buffer: &mut [u8]) -> nix::Result<()> {
    let device = open(path.as_c_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
    loop {
        let mut request = [0; REQUEST];
        if read(orders, &mut request)? != REQUEST {
            return Ok(());
        }
        let ([number, offset, length], _) = request.as_chunks::<8>() else {
            return Err(Errno::EINVAL);
        };
        let [number, offset, length] = [number, offset, length].map(|bytes| u64::from_ne_bytes(*bytes));
        let wanted = match (number, usize::try_from(length)) {
            (0, Ok(length)) => buffer.get_mut(..length).ok_or(Errno::EINVAL)?,
            _ => &mut [],
        };
        let result = match (&device, number) {
            (Ok(device), 0) => read_all(device, wanted, offset),
            (Ok(device), number) => add_partition(device, number, offset, length),
            (Err(errno), _) => Err(*errno),
        };
        let errno = result.err().map_or(0, |errno| errno as i32);
        send(answers, &errno.to_ne_bytes())?;
        if errno == 0 {
            send(answers, wanted)?;
        }
    }
}

fn read_all(device: &OwnedFd, mut buf: &mut [u8], mut offset: u64) -> nix::Result<()> {
    while !buf.is_empty() {
        let length = match pread(device, buf, i64::try_from(offset).map_err(|_| Errno::ENODATA)?) {
            Ok(0) => return Err(Errno::ENODATA),
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        buf = buf.get_mut(length..).unwrap_or_default();
        offset = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
    }
    Ok(())
}

fn send(to: &OwnedFd, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        let length = write(to, bytes)?;
        bytes = bytes.get(length..).unwrap_or_default();
    }
    Ok(())
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
    #[test]
    fn a_device_is_read_from_afar() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&file, &bytes).unwrap();
        let soon = Instant::now() + Duration::from_secs(20);
        let remote = RemoteDevice::start(&file, soon).unwrap();
        for (offset, length) in [(0, 1), (5, 300_000), (799_999, 1), (0, 800_000)] {
            let mut got = vec![0; length];
            remote.read_exact_at(&mut got, offset).unwrap();
            let start = usize::try_from(offset).unwrap();
            assert!(got == bytes[start..start + length], "{length} bytes at {offset}");
        }
        for (offset, length) in [(800_000, 1), (799_999, 2), (u64::MAX, 1)] {
            let error = remote.read_exact_at(&mut vec![0; length], offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length} bytes at {offset}");
        }
        remote.finish();
        let missing = RemoteDevice::start(&dir.path().join("missing"), soon).unwrap();
        let error = missing.read_exact_at(&mut [0], 0).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
        missing.finish();
    }

    #[test]
    fn a_child_in_the_middle_of_an_answer_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("image");
        std::fs::write(&file, vec![0; CHUNK]).unwrap();
        let remote = RemoteDevice::start(&file, Instant::now()).unwrap();
        // More than a pipe takes, and nobody reads it.
        let mut request = [0; REQUEST];
        request[16..].copy_from_slice(&CHUNK.to_ne_bytes());
        assert_eq!(write(&remote.requests, &request), Ok(REQUEST));
        let mut fds = [PollFd::new(remote.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, 20_000_u16), Ok(1));
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            remote.finish();
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(20)).unwrap();
    }

    #[test]
    fn a_device_that_never_opens_costs_its_time_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo"); // open(2) waits for a writer
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let begin = Instant::now();
        let remote = RemoteDevice::start(&fifo, begin + Duration::from_millis(50)).unwrap();
        let error = remote.read_exact_at(&mut [0], 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(10));
        // Let it go, or the child outlives the test.
        let writer = std::fs::File::options().write(true).open(&fifo).unwrap();
        drop(writer);
        remote.finish();
    }
}
