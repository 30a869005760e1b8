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

use nix::sys::termios::{FlushArg, InputFlags, LocalFlags, SetArg, Termios, tcflush, tcgetattr, tcsetattr};

use crate::deadlines;
use crate::menu::keys::{Decoder, Key};
use crate::menu::{Millis, Place};
use crate::sys::tty::unsent;
use crate::text::cut;

/// Bytes kept for a console that does not take them.
const BACKLOG: usize = 64 * 1024;

/// The longest record that the kernel takes is a little more (PRINTKRB_RECORD_MAX, 1024 bytes).
const KMSG: usize = 900;

/// What is there without any console of the kernel: it may be no terminal.
const NOBODY: &str = "console";

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

/// Key by key in, and lines out: the mode of this terminal then; none where it is no terminal.
fn set_mode(file: &File) -> Option<Termios> {
    let mut mode = tcgetattr(file).ok()?;
    mode.local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    // A CR stays one: it is what the key for a new line sends. A NUL or a BREAK comes as a NUL.
    mode.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
    let _ = tcsetattr(file, SetArg::TCSANOW, &mode);
    Some(mode)
}

/// One terminal, or what takes its place.
#[derive(Debug)]
struct Tty {
    name: String,
    file: File,
    /// How it was left when it was opened.
    mode: Option<Termios>,
    decoder: Decoder,
    pending: VecDeque<u8>,
    dropped: usize,
    /// It hung up, and is readable for ever: nobody listens until then.
    deaf_until: Option<Millis>,
    /// A child has it: nothing is read from it, and nothing new is written.
    is_lent: bool,
    /// It did not take what was written.
    is_lost: bool,
    /// It was opened anew: nobody knows what it shows.
    is_new: bool,
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
        let mode = set_mode(&file);
        // Nothing else that may be named is written to.
        if mode.is_none() && name != NOBODY {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            file,
            mode,
            decoder: Decoder::default(),
            pending: VecDeque::new(),
            dropped: 0,
            deaf_until: None,
            is_lent: false,
            is_lost: false,
            is_new: false,
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

    /// It hung up, or can't be used: nobody listens for a while, then it is opened anew.
    fn lose(&mut self, now: Millis) {
        self.is_lost = false;
        let pause = u64::try_from(deadlines::HUNG_UP.as_millis()).unwrap_or(u64::MAX);
        self.deaf_until = Some(now.saturating_add(pause));
        self.decoder = Decoder::default();
    }

    /// Whoever was the last on it may have hung up on everybody (a shell's end does).
    fn open_again(&mut self) {
        if let Some(Self { file, mode, .. }) = Self::open(&self.name) {
            (self.file, self.mode, self.is_new) = (file, mode, true);
        }
    }

    /// Whether it can't be used now.
    fn is_away(&self) -> bool {
        self.is_lost || self.deaf_until.is_some()
    }

    /// Writes what it takes now.
    fn flush(&mut self) {
        while !self.pending.is_empty() && !self.is_away() {
            let (head, _) = self.pending.as_slices();
            match self.file.write(head) {
                Ok(0) => break,
                Ok(n) => drop(self.pending.drain(..n.min(self.pending.len()))),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_lost = true,
            }
        }
    }
}

/// All of them, and the kernel's log.
#[derive(Debug, Default)]
pub(crate) struct Consoles {
    ttys: Vec<Tty>,
    /// The names of those that are used; none are all of the kernel's.
    wanted: Vec<String>,
    /// The kernel's log, which a main system may find in pstore, and a shell in dmesg.
    kmsg: Option<File>,
}

impl Consoles {
    /// Opens them. A box without console boots all the same.
    pub(crate) fn open() -> Self {
        let consoles = fs::read_to_string("/proc/consoles").unwrap_or_default();
        let mut ttys: Vec<Tty> = names(&consoles).into_iter().filter_map(Tty::open).collect();
        if ttys.is_empty() {
            ttys.extend(Tty::open(NOBODY));
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
            ttys,
            wanted: Vec::new(),
            kmsg,
        }
    }

    /// Uses these terminals, by their names in `/dev`, and no others; none of them there is as good as none named. Gives the names
    /// of those that are not.
    pub(crate) fn only(&mut self, wanted: &[String]) -> Vec<String> {
        wanted.clone_into(&mut self.wanted);
        let (mut ttys, mut missing) = (Vec::new(), Vec::new());
        for name in wanted.iter().take(MOST) {
            let known = self.ttys.iter().position(|tty| tty.name == *name);
            match known.map(|at| self.ttys.remove(at)).or_else(|| Tty::open(name)) {
                Some(tty) => ttys.push(tty),
                None => missing.push(name.clone()),
            }
        }
        if !ttys.is_empty() {
            // What one that is closed has not sent yet would be waited for.
            for tty in &self.ttys {
                let _ = tcflush(&tty.file, FlushArg::TCOFLUSH);
            }
            self.ttys = ttys;
        }
        missing
    }

    /// Opens those that are named and have come since: a driver may be late. Gives their places. (What `/proc/consoles` says would
    /// be waited for while the kernel prints.)
    pub(crate) fn look(&mut self) -> Vec<Place> {
        let first = self.ttys.len();
        let is_new = |name: &&String| self.ttys.iter().all(|tty| tty.name != **name);
        let new: Vec<Tty> = (self.wanted.iter())
            .filter(is_new)
            .filter_map(|name| Tty::open(name))
            .take(MOST.saturating_sub(first))
            .collect();
        self.ttys.extend(new);
        (first..self.ttys.len()).collect()
    }

    /// Those that were opened anew since the last call.
    pub(crate) fn reopened(&mut self) -> Vec<Place> {
        let all = self.ttys.iter_mut().enumerate();
        all.filter_map(|(place, tty)| std::mem::take(&mut tty.is_new).then_some(place))
            .collect()
    }

    /// Their names, each at its [`Place`].
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.ttys.iter().map(|tty| tty.name.clone())
    }

    /// The name of one.
    pub(crate) fn name(&self, place: Place) -> Option<&str> {
        self.ttys.get(place).map(|tty| tty.name.as_str())
    }

    /// A child has the one of this name; those that none has are Cato's again.
    pub(crate) fn lend(&mut self, name: Option<&str>) {
        for tty in &mut self.ttys {
            let was_lent = std::mem::replace(&mut tty.is_lent, name == Some(&tty.name));
            if was_lent && !tty.is_lent {
                // What is left of it on the line is nobody's.
                let _ = tcflush(&tty.file, FlushArg::TCIFLUSH);
                // A shell's end hangs up on everybody.
                let is_there = tty
                    .mode
                    .as_ref()
                    .map(|mode| tcsetattr(&tty.file, SetArg::TCSANOW, mode));
                if is_there.is_some_and(|set| set.is_err()) {
                    tty.open_again();
                }
                tty.decoder = Decoder::default();
                // Below whatever stands there.
                tty.pending.push_back(b'\n');
            }
        }
    }

    /// For `poll`: those that can be listened to, and whether each wants room.
    pub(crate) fn fds(&self, now: Millis) -> impl Iterator<Item = (Place, BorrowedFd<'_>, bool)> {
        let listening = self.ttys.iter().enumerate();
        let listening =
            listening.filter(move |(_, tty)| !tty.is_lent && tty.deaf_until.is_none_or(|until| now >= until));
        listening.map(|(place, tty)| (place, tty.file.as_fd(), !tty.pending.is_empty()))
    }

    /// When one that hung up is looked at again, or an ESC is known to be a key.
    pub(crate) fn wake(&self) -> Option<Millis> {
        let own = self.ttys.iter().filter(|tty| !tty.is_lent);
        let each = own.flat_map(|tty| [tty.deaf_until, tty.decoder.wake()]);
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
            if but != Some(place) && !tty.is_lent {
                tty.print(line);
            }
        }
        self.flush();
    }

    /// Queues what the menu has for one of them.
    pub(crate) fn send(&mut self, place: Place, text: &str) {
        if let Some(tty) = self.ttys.get_mut(place)
            && !tty.is_lent
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
            let is_sent = |tty: &Tty| tty.is_lent || tty.is_away() || tty.pending.is_empty() && unsent(&tty.file) == 0;
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
            if tty.is_lent || tty.deaf_until.is_some_and(|until| now < until) {
                continue;
            }
            if tty.is_lost {
                tty.lose(now);
                continue;
            }
            if tty.deaf_until.take().is_some() {
                tty.open_again();
            }
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

    fn one() -> Consoles {
        let mut consoles = Consoles::default();
        let file = File::open("/dev/null").unwrap();
        consoles.ttys.push(Tty {
            name: "x".to_owned(),
            file,
            mode: None,
            decoder: Decoder::default(),
            pending: VecDeque::new(),
            dropped: 0,
            deaf_until: None,
            is_lent: false,
            is_lost: false,
            is_new: false,
        });
        consoles
    }

    /// A child reads and writes it, and PID 1 does neither, nor waits for it.
    #[test]
    fn one_that_is_lent_is_left_alone_until_it_comes_back() {
        let mut consoles = one();
        consoles.ttys[0].decoder.feed(1000, b"\r");
        consoles.lend(Some("x"));
        consoles.print("a line", None);
        consoles.send(0, "a screen");
        assert_eq!(consoles.ttys[0].pending.len(), 0);
        assert_eq!((consoles.fds(2000).count(), consoles.wake()), (0, None));
        assert_eq!(consoles.keys(2000), []);
        consoles.lend(Some("another"));
        assert_eq!(consoles.fds(3000).count(), 1);
        assert_eq!(consoles.wake(), None);
    }

    #[test]
    fn one_that_comes_late_is_used_as_well() {
        let mut consoles = one();
        assert_eq!(consoles.only(&["x".to_owned(), "ptmx".to_owned()]), [""; 0]);
        consoles.ttys.pop();
        assert_eq!(consoles.look(), [1]);
        assert_eq!(consoles.name(1), Some("ptmx"));
        assert_eq!(consoles.look(), [0_usize; 0]);
    }

    #[test]
    fn those_that_are_named_are_used_if_there_is_one() {
        let mut consoles = one();
        assert_eq!(consoles.only(&["no-such-tty".to_owned()]), ["no-such-tty"]);
        // It takes every write, and is no terminal.
        assert_eq!(consoles.only(&["null".to_owned()]), ["null"]);
        assert_eq!(consoles.names().collect::<Vec<_>>(), ["x"]);
        assert_eq!(consoles.only(&["ptmx".to_owned()]), [""; 0]);
        assert_eq!(consoles.names().collect::<Vec<_>>(), ["ptmx"]);
        assert_eq!(consoles.only(&[]), [""; 0]);
        assert_eq!(consoles.names().collect::<Vec<_>>(), ["ptmx"]);
    }

    /// What was printed meanwhile comes when it is there again.
    #[test]
    fn one_that_takes_nothing_is_opened_anew() {
        let mut consoles = one();
        consoles.ttys[0].name = "ptmx".to_owned();
        // It was opened for reading only: no write gets through.
        consoles.print("a line", None);
        assert!(consoles.ttys[0].is_lost);
        consoles.drain(Duration::from_mins(1));
        assert_eq!(consoles.keys(1000), []);
        assert_eq!(consoles.wake(), Some(1100));
        consoles.keys(1100);
        assert_eq!(
            (consoles.reopened().as_slice(), consoles.reopened().len()),
            ([0].as_slice(), 0)
        );
        consoles.ttys[0].deaf_until = None;
        consoles.flush();
        assert_eq!((consoles.ttys[0].pending.len(), consoles.ttys[0].is_lost), (0, false));
    }

    /// What can't be read does not keep PID 1 awake.
    #[test]
    fn one_that_is_lost_is_left_alone_for_a_while() {
        let mut consoles = one();
        consoles.ttys[0].decoder.feed(1000, b"\x1b");
        assert_eq!(consoles.keys(1000), []);
        assert_eq!(consoles.fds(1050).count(), 0);
        assert_eq!(consoles.wake(), Some(1100));
        assert_eq!(consoles.fds(1100).count(), 1);
    }
}
