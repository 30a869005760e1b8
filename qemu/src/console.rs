//! What a machine said on its serial console, line by line, with the time of each.
//!
//! [`Splitter`] makes lines of bytes and is pure. [`Console`] is where the thread that reads the machine and those
//! who wait for a line meet; the whole transcript stays in it.

use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use regex_lite::Regex;

/// One line of the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When its first byte came, in milliseconds since the machine was started.
    pub ms: u64,
    /// The text, without escape sequences and line end.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>4}.{:03} {}", self.ms / 1000, self.ms % 1000, self.text)
    }
}

/// Makes lines of a stream of bytes.
#[derive(Debug, Default)]
pub struct Splitter {
    bytes: Vec<u8>,
    since: u64,
}

impl Splitter {
    /// Takes the next bytes, read at `ms`, and returns the lines they complete.
    pub fn feed(&mut self, bytes: &[u8], ms: u64) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            if self.bytes.is_empty() {
                self.since = ms;
            }
            self.bytes.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                lines.extend(self.partial());
                self.bytes.clear();
            }
        }
        lines
    }

    /// The line that has begun and not ended yet: a prompt, for example.
    pub fn partial(&self) -> Option<Line> {
        (!self.bytes.is_empty()).then(|| Line {
            ms: self.since,
            text: plain(&self.bytes),
        })
    }
}

/// Text without escape sequences and control characters.
fn plain(bytes: &[u8]) -> String {
    let spaced: Vec<u8> = bytes.iter().map(|b| if *b == b'\t' { b' ' } else { *b }).collect();
    let stripped = strip_ansi_escapes::strip(spaced);
    String::from_utf8_lossy(&stripped).trim_end().to_owned()
}

/// Why a wait ended without its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSeen {
    /// The deadline passed.
    TooLate,
    /// The machine ended.
    Ended,
    /// A line came that must not.
    Forbidden(Line),
}

#[derive(Debug, Default)]
struct State {
    splitter: Splitter,
    lines: Vec<Line>,
    /// Where the next wait starts to look: line, and byte in it.
    cursor: (usize, usize),
    ended: bool,
}

/// The transcript, shared by the thread that reads the machine and those who wait for it.
#[derive(Debug, Default)]
pub struct Console {
    state: Mutex<State>,
    changed: Condvar,
}

impl Console {
    /// Adds what was read at `ms` and returns the lines that became complete.
    pub fn feed(&self, bytes: &[u8], ms: u64) -> Vec<Line> {
        let mut state = self.lock();
        let lines = state.splitter.feed(bytes, ms);
        state.lines.extend(lines.iter().cloned());
        drop(state);
        self.changed.notify_all();
        lines
    }

    /// Adds a line that did not come from the console: QEMU's own complaints.
    pub fn note(&self, line: Line) {
        self.lock().lines.push(line);
        self.changed.notify_all();
    }

    /// No more will come. Returns the line that never ended, if there is one.
    pub fn end(&self) -> Option<Line> {
        let mut state = self.lock();
        let rest = state.splitter.partial();
        state.splitter = Splitter::default();
        state.lines.extend(rest.clone());
        state.ended = true;
        drop(state);
        self.changed.notify_all();
        rest
    }

    /// Waits until a line, or a line that has only begun, matches, and goes on behind the match the next time.
    /// A line that matches one of `forbidden` before that ends the wait.
    pub fn wait_for(&self, wanted: &Regex, forbidden: &[Regex], deadline: Instant) -> Result<Line, NotSeen> {
        let mut state = self.lock();
        let mut looked = state.cursor;
        loop {
            let partial = state.splitter.partial();
            let mut found = None;
            for (n, line) in state.lines.iter().chain(partial.as_ref()).enumerate().skip(looked.0) {
                let from = if n == looked.0 {
                    looked.1.min(line.text.len())
                } else {
                    0
                };
                if let Some(hit) = wanted.find_at(&line.text, from) {
                    found = Some((n, hit.end(), line.clone()));
                    break;
                }
                // A line that is not whole yet may still say what it is about.
                let whole = n < state.lines.len();
                if let Some(at) = forbidden
                    .iter()
                    .filter(|_| whole)
                    .find_map(|f| f.find_at(&line.text, from))
                {
                    let (at, line) = (at.end(), line.clone());
                    state.cursor = (n, at);
                    return Err(NotSeen::Forbidden(line));
                }
            }
            if let Some((n, end, line)) = found {
                state.cursor = (n, end);
                return Ok(line);
            }
            // What is complete and did not match need not be looked at again.
            if state.lines.len() > looked.0 {
                looked = (state.lines.len(), 0);
            }
            if state.ended {
                return Err(NotSeen::Ended);
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return Err(NotSeen::TooLate);
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits for the end of the machine's output; false when the deadline passed first.
    pub fn wait_end(&self, deadline: Instant) -> bool {
        let mut state = self.lock();
        while !state.ended {
            let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) else {
                return false;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Everything so far, a line that has only begun included.
    pub fn lines(&self) -> Vec<Line> {
        let state = self.lock();
        state.lines.iter().cloned().chain(state.splitter.partial()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A waiter that panicked leaves the transcript whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Consoles for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::Line;

    /// Lines of milliseconds, a space and the text.
    pub(crate) fn lines(text: &str) -> Vec<Line> {
        text.lines()
            .map(|line| {
                let (ms, text) = line.trim().split_once(' ').unwrap();
                Line {
                    ms: ms.parse().unwrap(),
                    text: text.to_owned(),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|l| l.text.as_str()).collect()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(50)
    }

    fn re(text: &str) -> Regex {
        Regex::new(text).unwrap()
    }

    #[test]
    fn lines_have_the_time_of_their_first_byte_and_no_escapes() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(b"\x1b[2J\x1b[01;01HU-Boot ", 5), []);
        assert_eq!(
            splitter.partial().unwrap(),
            Line {
                ms: 5,
                text: "U-Boot".into()
            }
        );
        let lines = splitter.feed(b"2023\r\n\r\nlogin: ", 9);
        assert_eq!(texts(&lines), ["U-Boot 2023", ""]);
        assert_eq!(lines[0].ms, 5);
        assert_eq!(lines[1].ms, 9);
        assert_eq!(splitter.partial().unwrap().text, "login:");
        assert_eq!(lines[0].to_string(), "   0.005 U-Boot 2023");
    }

    #[test]
    fn bytes_that_are_not_text_do_no_harm() {
        let mut splitter = Splitter::default();
        assert_eq!(texts(&splitter.feed(b"a\xff\x00b\x1b[999999999m\n", 0)).len(), 1);
    }

    #[test]
    fn waits_go_on_behind_the_last_match() {
        let console = Console::default();
        console.feed(b"Linux version 6.1\nother\nLinux version 6.12\n", 1);
        assert_eq!(
            console.wait_for(&re("Linux version"), &[], soon()).unwrap().text,
            "Linux version 6.1"
        );
        assert_eq!(
            console.wait_for(&re("Linux version"), &[], soon()).unwrap().text,
            "Linux version 6.12"
        );
        assert_eq!(
            console.wait_for(&re("Linux version"), &[], soon()),
            Err(NotSeen::TooLate)
        );
        // A wait that failed has used up nothing.
        console.feed(b"Linux version 7\n", 2);
        assert_eq!(console.wait_for(&re("version 7"), &[], soon()).unwrap().ms, 2);
    }

    #[test]
    fn a_prompt_matches_before_its_line_ends_and_only_once() {
        let console = Console::default();
        console.feed(b"debian login: ", 1);
        assert_eq!(
            console.wait_for(&re("login:"), &[], soon()).unwrap().text,
            "debian login:"
        );
        assert_eq!(console.wait_for(&re("login:"), &[], soon()), Err(NotSeen::TooLate));
        console.feed(b"root\nlogin: ", 2);
        assert!(console.wait_for(&re("login:"), &[], soon()).is_ok());
    }

    #[test]
    fn a_forbidden_line_ends_the_wait_and_so_does_the_end() {
        let console = Console::default();
        console.feed(b"ok\nKernel panic - not syncing: x\nready\n", 1);
        let forbidden = [re("Kernel panic")];
        let Err(NotSeen::Forbidden(line)) = console.wait_for(&re("ready"), &forbidden, soon()) else {
            panic!("the panic went unseen");
        };
        assert!(line.text.ends_with(": x"));
        assert!(
            console.wait_for(&re("ready"), &forbidden, soon()).is_ok(),
            "it is reported once"
        );
        console.feed(b"half", 2);
        assert_eq!(console.end().unwrap().text, "half");
        assert_eq!(console.wait_for(&re("never"), &[], soon()), Err(NotSeen::Ended));
        assert!(console.wait_end(soon()));
        assert_eq!(texts(&console.lines()).last(), Some(&"half"));
    }

    #[test]
    fn a_waiter_wakes_when_its_line_comes() {
        let console = Console::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(20));
                console.feed(b"there\n", 20);
            });
            let deadline = Instant::now() + Duration::from_secs(5);
            assert_eq!(console.wait_for(&re("there"), &[], deadline).unwrap().ms, 20);
        });
    }

    proptest! {
        /// How the bytes are cut into reads makes no difference to the lines.
        #[test]
        fn cuts_do_not_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(0x1b), any::<u8>()], 0..200),
                              cut in 0usize..200) {
            let mut whole = Splitter::default();
            let mut parts = Splitter::default();
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut lines = parts.feed(head, 0);
            lines.extend(parts.feed(tail, 0));
            prop_assert_eq!(whole.feed(&bytes, 0), lines);
            prop_assert_eq!(whole.partial(), parts.partial());
        }
    }
}
