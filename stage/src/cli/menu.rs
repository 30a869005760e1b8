//! `cato menu --demo`: the menu on the terminal it is called from, with a machine that is made up.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use config::{Access, Console, Terminal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

use crate::menu::demo::{Came, Demo};
use crate::menu::keys::{Decoder, Key};
use crate::menu::{Effect, Menu, Millis};

/// What is to be shown.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Show {
    has_failed: bool,
    is_plain: bool,
    is_locked: bool,
}

impl Show {
    pub(super) fn of(words: &[&OsStr]) -> Result<Self, String> {
        let mut show = Self::default();
        let mut is_demo = false;
        for word in words {
            match word.to_str() {
                Some("--demo") => is_demo = true,
                Some("--failed") => show.has_failed = true,
                Some("--plain") => show.is_plain = true,
                Some("--locked") => show.is_locked = true,
                _ => return Err(format!("unexpected `{}`", word.display())),
            }
        }
        if is_demo {
            Ok(show)
        } else {
            Err("add --demo: the menu of a machine is on its consoles".to_owned())
        }
    }
}

/// A terminal that gives each key at once, until it is dropped.
struct Raw {
    tty: File,
    before: Termios,
}

impl Raw {
    fn open() -> io::Result<Self> {
        let tty = File::options().read(true).write(true).open("/dev/tty")?;
        let before = tcgetattr(&tty)?;
        let mut mode = before.clone();
        mode.local_flags
            .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        mode.input_flags.remove(InputFlags::IXON | InputFlags::ICRNL);
        tcsetattr(&tty, SetArg::TCSANOW, &mode)?;
        Ok(Self { tty, before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // What is typed and not read is not for the shell.
        let _ = tcsetattr(&self.tty, SetArg::TCSAFLUSH, &self.before);
    }
}

/// A line of the log.
fn said(menu: &mut Menu, line: &str) -> String {
    let before = match menu.tell(line) {
        Some(Effect::Send(_, text)) => text,
        _ => String::new(),
    };
    match menu.has_screen() {
        Some(_) => before,
        None => format!("{before}{line}\n"),
    }
}

/// The menu, and the machine that it is shown with.
struct Shown {
    menu: Menu,
    demo: Demo,
    /// Bytes for the terminal.
    out: String,
}

impl Shown {
    /// Does what comes of a key. Gives the end, if that is it.
    fn take(&mut self, now: Millis, effects: impl IntoIterator<Item = Effect>) -> Option<String> {
        for effect in effects {
            match effect {
                Effect::Send(_, text) => self.out.push_str(&text),
                Effect::Tell(line) => self.out.push_str(&said(&mut self.menu, &line)),
                Effect::Do(command) => match self.demo.does(now, command) {
                    Some(Came::Said(line)) => self.out.push_str(&said(&mut self.menu, &line)),
                    Some(Came::Admitted) => self.menu.admit(Ok(())),
                    Some(Came::Text(text)) => self.menu.show(text),
                    Some(Came::Over(end)) => return Some(end),
                    None => {}
                },
            }
        }
        None
    }

    /// The same with these keys, one after the other, and then with the time.
    fn turn(&mut self, now: Millis, keys: Vec<Key>) -> Option<String> {
        for key in keys {
            let effects = self.menu.press(now, 0, key, &self.demo.view);
            if let Some(end) = self.take(now, effects) {
                return Some(end);
            }
        }
        let effects = self.menu.tick(now, &self.demo.view);
        if let Some(end) = self.take(now, effects) {
            return Some(end);
        }
        let painted = self.menu.refresh(now, &self.demo.view);
        self.take(now, painted)
    }
}

/// Runs it until somebody leaves it. Gives what would have come of that.
///
/// # Errors
/// There is no terminal.
pub(super) fn run(show: &Show) -> io::Result<String> {
    let mut terminal = Raw::open()?;
    let begin = Instant::now();
    let now = || Millis::try_from(begin.elapsed().as_millis()).unwrap_or(Millis::MAX);
    let console = Console {
        terminal: if show.is_plain { Terminal::Plain } else { Terminal::Auto },
        access: if show.is_locked {
            Access::Password(String::new())
        } else {
            Access::Open
        },
        ..Console::default()
    };
    let stop = console.stop.clone();
    let mut shown = Shown {
        menu: Menu::new(["tty".to_owned()], console),
        demo: Demo::new(show.has_failed, now()),
        out: String::new(),
    };
    let mut decoder = Decoder::default();
    // Nobody has to type it here.
    let mut bytes: Vec<u8> = stop.into();
    loop {
        let keys = decoder.feed(now(), &bytes);
        let end = shown.turn(now(), keys);
        let mut out = std::mem::take(&mut shown.out);
        if end.is_some() {
            out.extend(shown.menu.close());
        }
        terminal.tty.write_all(out.as_bytes())?;
        if let Some(end) = end {
            return Ok(end);
        }
        let mut fds = [PollFd::new(terminal.tty.as_fd(), PollFlags::POLLIN)];
        let wait = Duration::from_millis(100);
        let is_there = poll(&mut fds, PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO))? > 0;
        bytes.clear();
        if is_there {
            let mut read = [0; 256];
            match terminal.tty.read(&mut read)? {
                0 => return Ok("demo: the terminal has gone".to_owned()),
                count => bytes.extend(read.iter().take(count)),
            }
        }
    }
}
