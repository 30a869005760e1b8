//! The consoles, without ever waiting for one: what it does not take is kept, up to a bound, then dropped.
//!
//! Every console of the kernel is one of Cato's, too (`/proc/consoles`, Documentation/filesystems/proc.rst). One that is not
//! there, has hung up or takes nothing costs its own lines.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::termios::{InputFlags, LocalFlags, SetArg, tcgetattr, tcsetattr};

use crate::deadlines;
use crate::menu::keys::{Decoder, Key};
use crate::menu::{Millis, Place};
use crate::sys::tty::unsent;
use crate::text::cut;

/// Bytes kept for a console that does not take them.
const BACKLOG: usize = 64 * 1024;

/// The longest record that the kernel takes is a little more (PRINTKRB_RECORD_MAX, 1024 bytes).
const KMSG: usize = 900;

/// The most consoles.
pub(crate) const MOST: usize = 8;

/// Whether records of the lowest level reach the console, as the first number of /proc/sys/kernel/printk says.
fn shows_everything(printk: &str) -> bool {
    let level = printk
        .split_ascii_whitespace()
        .next()
        .and_then(|level| level.parse::<u32>().ok());
    level.is_none_or(|level| level > 7)
}

/// The names in `/dev` of the consoles that `/proc/consoles` lists, the one behind `/dev/console` (flag C) first.
fn names(consoles: &str) -> Vec<&str> {
    let named = consoles.lines().filter_map(|line| {
        let (name, rest) = line.split_once(' ')?;
        let flags = rest.split_once('(')?.1.split_once(')')?.0;
        // What has no device (netconsole, pstore) has no numbers.
        let has_device = rest.rsplit(' ').next()?.contains(':');
        let is_first = flags.contains('C');
        // Writing to a screen waits for the kernel's console lock, whatever the flags: only where there is nothing else.
        let is_screen = (name.strip_prefix("tty")).is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        (has_device && (is_first || !is_screen)).then_some((name, is_first))
    });
    let (first, others): (Vec<_>, Vec<_>) = named.partition(|(_, is_first)| *is_first);
    first
        .into_iter()
        .chain(others)
        .map(|(name, _)| name)
        .take(MOST)
        .collect()
}

/// One terminal, or what takes its place.
#[derive(Debug)]
struct Tty {
    name: String,
    file: File,
    decoder: Decoder,
    pending: VecDeque<u8>,
    dropped: usize,
    /// It hung up, and is readable for ever: nobody listens until then.
    deaf_until: Option<Millis>,
}

impl Tty {
    /// Opens it for reading key by key.
    fn open(name: &str) -> Option<Self> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
        let path = Path::new("/dev").join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(flags)
            .open(path)
            .ok()?;
        if let Ok(mut mode) = tcgetattr(&file) {
            mode.local_flags
                .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
            // A CR stays one: it is what the key for a new line sends. A NUL or a BREAK comes as a NUL.
            mode.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
            // Not a terminal: then there is nothing to set.
            let _ = tcsetattr(&file, SetArg::TCSANOW, &mode);
        }
        Some(Self {
            name: name.to_owned(),
            file,
            decoder: Decoder::default(),
            pending: VecDeque::new(),
            dropped: 0,
            deaf_until: None,
        })
    }

    /// Queues a line, or drops it where there is no room.
    fn print(&mut self, line: &str) {
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
    }

    /// It hung up, or can't be read: nobody listens for a while.
    fn lose(&mut self, now: Millis) {
        let pause = u64::try_from(deadlines::HUNG_UP.as_millis()).unwrap_or(u64::MAX);
        self.deaf_until = Some(now.saturating_add(pause));
        self.decoder = Decoder::default();
    }

    /// Writes what it takes now.
    fn flush(&mut self) {
        while !self.pending.is_empty() {
            let (head, _) = self.pending.as_slices();
            match self.file.write(head) {
                Ok(0) => break,
                Ok(n) => drop(self.pending.drain(..n.min(self.pending.len()))),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.pending.clear(),
            }
        }
    }
}

/// All of them, and the kernel's log.
#[derive(Debug, Default)]
pub(crate) struct Consoles {
    ttys: Vec<Tty>,
    /// The kernel's log, which a main system may find in pstore, and a shell in dmesg.
    kmsg: Option<File>,
}

impl Consoles {
    /// Opens them. A box without console boots all the same.
    pub(crate) fn open() -> Self {
        let consoles = fs::read_to_string("/proc/consoles").unwrap_or_default();
        let mut ttys: Vec<Tty> = names(&consoles).into_iter().filter_map(Tty::open).collect();
        if ttys.is_empty() {
            ttys.extend(Tty::open("console"));
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
        Self { ttys, kmsg }
    }

    /// Their names, each at its [`Place`].
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.ttys.iter().map(|tty| tty.name.clone())
    }

    /// For `poll`: those that can be listened to, and whether each wants room.
    pub(crate) fn fds(&self, now: Millis) -> impl Iterator<Item = (Place, BorrowedFd<'_>, bool)> {
        let listening = self.ttys.iter().enumerate();
        let listening = listening.filter(move |(_, tty)| tty.deaf_until.is_none_or(|until| now >= until));
        listening.map(|(place, tty)| (place, tty.file.as_fd(), !tty.pending.is_empty()))
    }

    /// When one that hung up is looked at again, or an ESC is known to be a key.
    pub(crate) fn wake(&self) -> Option<Millis> {
        let each = self.ttys.iter().flat_map(|tty| [tty.deaf_until, tty.decoder.wake()]);
        each.flatten().min()
    }

    /// It hung up.
    pub(crate) fn hung_up(&mut self, place: Place, now: Millis) {
        if let Some(tty) = self.ttys.get_mut(place) {
            tty.lose(now);
        }
    }

    /// Queues `line` for all but one, and writes what they take.
    pub(crate) fn print(&mut self, line: &str, but: Option<Place>) {
        if let Some(kmsg) = &mut self.kmsg {
            // Of the lowest level: the console has it already. The kernel's log never blocks, and nobody is to be told.
            let _ = kmsg.write_all(format!("<7>{}", cut(line, KMSG)).as_bytes());
        }
        for (place, tty) in self.ttys.iter_mut().enumerate() {
            if but != Some(place) {
                tty.print(line);
            }
        }
        self.flush();
    }

    /// Queues what the menu has for one of them.
    pub(crate) fn send(&mut self, place: Place, text: &str) {
        if let Some(tty) = self.ttys.get_mut(place)
            && tty.pending.len().saturating_add(text.len()) <= BACKLOG
        {
            tty.pending.extend(text.bytes());
            tty.flush();
        }
    }

    /// Whether it has taken all that it was sent.
    pub(crate) fn has_room(&self, place: Place) -> bool {
        self.ttys.get(place).is_some_and(|tty| tty.pending.is_empty())
    }

    /// Writes what they take now.
    pub(crate) fn flush(&mut self) {
        self.ttys.iter_mut().for_each(Tty::flush);
    }

    /// Gives what was printed up to `limit` to leave the machine: a reset or a jump does not wait for a serial line.
    pub(crate) fn drain(&mut self, limit: Duration) {
        let begin = Instant::now();
        loop {
            self.flush();
            let is_sent = |tty: &Tty| tty.pending.is_empty() && unsent(&tty.file) == 0;
            if self.ttys.iter().all(is_sent) || begin.elapsed() >= limit {
                return;
            }
            std::thread::sleep(deadlines::SENT_LOOK);
        }
    }

    /// The keys since the last call.
    pub(crate) fn keys(&mut self, now: Millis) -> Vec<(Place, Key)> {
        let mut keys = Vec::new();
        for (place, tty) in self.ttys.iter_mut().enumerate() {
            if tty.deaf_until.is_some_and(|until| now < until) {
                continue;
            }
            tty.deaf_until = None;
            let mut bytes = [0; 256];
            let read = match tty.file.read(&mut bytes) {
                Ok(read) if read > 0 => read,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
                Ok(_) | Err(_) => {
                    tty.lose(now);
                    0
                }
            };
            let bytes = bytes.get(..read).unwrap_or_default();
            let pressed = tty.decoder.feed(now, bytes);
            keys.extend(pressed.into_iter().map(|key| (place, key)));
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_console_with_a_device_is_opened_the_first_one_first() {
        let consoles = "tty0                 -WU (E   p  )    4:1\n\
                        ttyS1                -W- (E   p  )    4:65\n\
                        ttyS0                -W- (EC  p a)    4:64\n\
                        pstore-1             -W- (E   p  )\n\
                        netcon0              -W- (E      )\n";
        assert_eq!(names(consoles), ["ttyS0", "ttyS1"]);
        let screen_first = consoles.replace("(E   p  )    4:1\n", "(EC  p  )    4:1\n");
        assert_eq!(names(&screen_first)[0], "tty0");
        assert_eq!(names("junk\n\n x ( 1:2"), [""; 0]);
    }

    /// What can't be read does not keep PID 1 awake.
    #[test]
    fn one_that_is_lost_is_left_alone_for_a_while() {
        let mut consoles = Consoles::default();
        let file = File::open("/dev/null").unwrap();
        consoles.ttys.push(Tty {
            name: "x".to_owned(),
            file,
            decoder: Decoder::default(),
            pending: VecDeque::new(),
            dropped: 0,
            deaf_until: None,
        });
        consoles.ttys[0].decoder.feed(1000, b"\x1b");
        assert_eq!(consoles.keys(1000), []);
        assert_eq!(consoles.fds(1050).count(), 0);
        assert_eq!(consoles.wake(), Some(1100));
        assert_eq!(consoles.fds(1100).count(), 1);
    }
}
