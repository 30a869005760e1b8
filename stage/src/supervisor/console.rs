//! The serial console, without ever waiting for it: what it does not take is kept, up to a bound, then dropped.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::deadlines;
use crate::sys::tty::unsent;
use crate::text::cut;

/// Bytes kept for a console that does not take them.
const BACKLOG: usize = 64 * 1024;

/// The longest record that the kernel takes is a little more (PRINTKRB_RECORD_MAX, 1024 bytes).
const KMSG: usize = 900;

/// Whether records of the lowest level reach the console, as the first number of /proc/sys/kernel/printk says.
fn shows_everything(printk: &str) -> bool {
    let level = printk
        .split_ascii_whitespace()
        .next()
        .and_then(|level| level.parse::<u32>().ok());
    level.is_none_or(|level| level > 7)
}

/// `/dev/console`, or nothing where there is none.
#[derive(Debug, Default)]
pub(crate) struct Console {
    tty: Option<File>,
    /// The kernel's log, which a main system may find in pstore, and a shell in dmesg.
    kmsg: Option<File>,
    pending: VecDeque<u8>,
    dropped: usize,
}

impl Console {
    /// Opens it for reading key by key. A box without console boots all the same.
    pub(crate) fn open() -> Self {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let tty = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open("/dev/console")
            .ok();
        if let Some(tty) = &tty
            && let Ok(mut mode) = tcgetattr(tty)
        {
            mode.local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            mode.input_flags.remove(InputFlags::IXON);
            // Not a terminal: then there is nothing to set.
            let _ = tcsetattr(tty, SetArg::TCSANOW, &mode);
        }
        // Every line, not ten in five seconds (Documentation/admin-guide/sysctl/kernel.rst); where it is refused, some are lost.
        let _ = fs::write("/proc/sys/kernel/printk_devkmsg", "on");
        // Where the kernel shows everything, it would show these twice, and print them itself, however slow its console is.
        let kmsg = (!shows_everything(&fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default()))
            .then(|| {
                OpenOptions::new()
                    .write(true)
                    .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                    .open("/dev/kmsg")
            })
            .and_then(Result::ok);
        Self {
            tty,
            kmsg,
            ..Self::default()
        }
    }

    /// For `poll`.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.tty.as_ref().map(AsFd::as_fd)
    }

    /// Whether `poll` should wait for room.
    pub(crate) fn wants_room(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Queues `line` and writes what the console takes.
    pub(crate) fn print(&mut self, line: &str) {
        if let Some(kmsg) = &mut self.kmsg {
            // Of the lowest level: the console has it already. The kernel's log never blocks, and nobody is to be told.
            let _ = kmsg.write_all(format!("<7>{}", cut(line, KMSG)).as_bytes());
        }
        if self.dropped > 0 && self.pending.len() < BACKLOG / 2 {
            let note = format!(
                "cato: {} bytes of log lost, the console did not take them\n",
                self.dropped
            );
            self.pending.extend(note.bytes());
            self.dropped = 0;
        }
        if self.pending.len().saturating_add(line.len()) > BACKLOG {
            self.dropped = self.dropped.saturating_add(line.len());
        } else {
            self.pending.extend(line.bytes());
            self.pending.push_back(b'\n');
        }
        self.flush();
    }

    /// Writes what the console takes now.
    pub(crate) fn flush(&mut self) {
        let Some(tty) = &mut self.tty else {
            self.pending.clear();
            return;
        };
        while !self.pending.is_empty() {
            let (head, _) = self.pending.as_slices();
            match tty.write(head) {
                Ok(0) => break,
                Ok(n) => drop(self.pending.drain(..n.min(self.pending.len()))),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// Gives what was printed up to `limit` to leave the machine: a reset or a jump does not wait for a serial line.
    pub(crate) fn drain(&mut self, limit: Duration) {
        let begin = Instant::now();
        loop {
            self.flush();
            let unsent = self.tty.as_ref().map_or(0, unsent);
            if (self.pending.is_empty() && unsent == 0) || begin.elapsed() >= limit {
                return;
            }
            std::thread::sleep(deadlines::SENT_LOOK);
        }
    }

    /// The bytes typed since the last call.
    pub(crate) fn keys(&mut self) -> Vec<u8> {
        let mut keys = vec![0; 256];
        let read = self.tty.as_mut().and_then(|tty| tty.read(&mut keys).ok()).unwrap_or(0);
        keys.truncate(read);
        keys
    }
}
