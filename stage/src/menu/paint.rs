//! Rows → bytes for a terminal, as few as will do. Pure.
//!
//! Two kinds: one that knows nothing but CR, LF and printable characters, and one of the VT100's family (ECMA-48), of which no
//! more is used than what each of its followers has: CUP, EL, ED and SGR.

use std::fmt::Write as _;

/// A row of a screen. Clean: what came from outside is escaped before it gets here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub text: String,
    /// Shown in reverse.
    pub is_bar: bool,
}

impl Row {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_bar: false,
        }
    }
}

/// What a screen shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    pub rows: Vec<Row>,
    /// Where the cursor is, row and column from 0; out of the way where there is none.
    pub cursor: Option<(usize, usize)>,
}

/// All attributes off, and an empty screen. What is pasted is marked as such (xterm's mode 2004), where a terminal knows that.
const BEGIN: &str = "\u{1b}[?2004h\u{1b}[m\u{1b}[H\u{1b}[J";
const END: &str = "\u{1b}[?2004l\u{1b}[m";

/// What a VT100 shows, as far as Cato has painted it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Screenful {
    shown: Option<Frame>,
}

/// `CUP`, from 0.
fn go(out: &mut String, row: usize, column: usize) {
    // A String takes every write.
    _ = write!(out, "\u{1b}[{};{}H", row.saturating_add(1), column.saturating_add(1));
}

impl Screenful {
    /// Nobody knows what is on it any more.
    pub(crate) fn forget(&mut self) {
        self.shown = None;
    }

    /// The bytes that make what is shown into `frame`; none where it is that already. Row by row, and of a row what differs.
    pub(crate) fn paint(&mut self, frame: &Frame) -> String {
        let mut out = String::new();
        if self.shown.as_ref() == Some(frame) {
            return out;
        }
        let before = self.shown.take().unwrap_or_else(|| {
            out.push_str(BEGIN);
            Frame::default()
        });
        let empty = Row::default();
        let rows = frame.rows.len().max(before.rows.len());
        for at in 0..rows {
            let new = frame.rows.get(at).unwrap_or(&empty);
            let old = before.rows.get(at).unwrap_or(&empty);
            if new == old {
                continue;
            }
            let same = if new.is_bar == old.is_bar {
                new.text
                    .chars()
                    .zip(old.text.chars())
                    .take_while(|(a, b)| a == b)
                    .count()
            } else {
                0
            };
            go(&mut out, at, same);
            let (on, off) = if new.is_bar {
                ("\u{1b}[7m", "\u{1b}[m")
            } else {
                ("", "")
            };
            out.push_str(on);
            out.extend(new.text.chars().skip(same));
            out.push_str(off);
            if new.text.chars().count() < old.text.chars().count() {
                out.push_str("\u{1b}[K");
            }
        }
        let (row, column) = frame.cursor.unwrap_or((frame.rows.len().saturating_sub(1), 0));
        go(&mut out, row, column);
        self.shown = Some(frame.clone());
        out
    }

    /// What is on it, with another last row.
    pub(crate) fn says(&mut self, text: &str) -> String {
        let mut frame = self.shown.clone().unwrap_or_default();
        frame.cursor = None;
        frame.rows.pop();
        frame.rows.push(Row::new(text));
        self.paint(&frame)
    }

    /// Leaves the screen as it is, and the cursor below it for lines to come.
    pub(crate) fn leave(&mut self) -> String {
        let rows = self.shown.take().map_or(0, |frame| frame.rows.len());
        let mut out = END.to_owned();
        go(&mut out, rows, 0);
        out.push_str("\u{1b}[J");
        out
    }
}

/// The last row of a plain terminal, where something is typed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Typed {
    prompt: String,
    text: String,
    at: usize,
    is_shown: bool,
}

impl Typed {
    /// Something else stands on the row now.
    pub(crate) fn forget(&mut self) {
        self.is_shown = false;
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// The bytes that make it `prompt` and `text`, with the cursor in column `at` of that.
    pub(crate) fn paint(&mut self, prompt: &str, text: &str, at: usize) -> String {
        let before = std::mem::replace(
            self,
            Self {
                prompt: prompt.to_owned(),
                text: text.to_owned(),
                at,
                is_shown: true,
            },
        );
        let (length, old) = (text.chars().count(), before.text.chars().count());
        let is_at_end = |at: usize, length: usize| at == length;
        if before.is_shown && before.prompt == prompt {
            if before.text == text && before.at == at {
                return String::new();
            }
            if is_at_end(before.at, old) && is_at_end(at, length) {
                if let Some(more) = text.strip_prefix(before.text.as_str()) {
                    return more.to_owned();
                }
                if before.text.starts_with(text) && old.saturating_sub(length) == 1 {
                    return "\u{8} \u{8}".to_owned();
                }
            }
        }
        let mut out = String::new();
        if before.is_shown {
            out.push('\r');
        }
        out.push_str(prompt);
        out.push_str(text);
        if before.is_shown {
            let rest = (before.prompt.chars().count().saturating_add(old))
                .saturating_sub(prompt.chars().count().saturating_add(length));
            out.extend(std::iter::repeat_n(' ', rest));
            if rest > 0 || at < length {
                out.push('\r');
                out.push_str(prompt);
                out.extend(text.chars().take(at));
            }
        } else if at < length {
            out.push('\r');
            out.push_str(prompt);
            out.extend(text.chars().take(at));
        }
        out
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a terminal shows that gets these bytes: enough of a VT100 to read them back.
    #[derive(Default)]
    pub(crate) struct Terminal {
        pub(crate) rows: Vec<Vec<char>>,
        at: (usize, usize),
    }

    impl Terminal {
        pub(crate) fn text(&self) -> String {
            let rows: Vec<String> = self.rows.iter().map(|row| row.iter().collect::<String>()).collect();
            let lines: Vec<&str> = rows.iter().map(|row| row.trim_end()).collect();
            lines.join("\n").trim_end().to_owned()
        }

        fn row(&mut self) -> &mut Vec<char> {
            while self.rows.len() <= self.at.0 {
                self.rows.push(Vec::new());
            }
            &mut self.rows[self.at.0]
        }

        pub(crate) fn take(&mut self, bytes: &str) {
            vte::Parser::<16>::default().advance(self, bytes.as_bytes());
        }
    }

    impl vte::Perform for Terminal {
        fn print(&mut self, c: char) {
            let column = self.at.1;
            let row = self.row();
            while row.len() <= column {
                row.push(' ');
            }
            row[column] = c;
            self.at.1 += 1;
        }

        fn execute(&mut self, byte: u8) {
            match byte {
                b'\r' => self.at.1 = 0,
                b'\n' => self.at = (self.at.0 + 1, 0),
                8 => self.at.1 = self.at.1.saturating_sub(1),
                _ => panic!("{byte}"),
            }
        }

        fn csi_dispatch(&mut self, params: &vte::Params, _: &[u8], _: bool, action: char) {
            let numbers: Vec<usize> = params.iter().map(|p| usize::from(p[0])).collect();
            match action {
                'H' if numbers.len() == 2 => self.at = (numbers[0] - 1, numbers[1] - 1),
                'H' => self.at = (0, 0),
                'J' => {
                    let (row, column) = self.at;
                    self.rows.truncate(row + 1);
                    self.row().truncate(column);
                }
                'K' => {
                    let column = self.at.1;
                    self.row().truncate(column);
                }
                'm' | 'n' | 'h' | 'l' => {}
                _ => panic!("{action}"),
            }
        }
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = ("[ -~]{0,12}", any::<bool>()).prop_map(|(text, is_bar)| Row { text, is_bar });
        prop::collection::vec(row, 0..6)
    }

    proptest! {
        #[test]
        fn a_screen_is_what_was_painted_last(frames in prop::collection::vec(rows(), 1..6)) {
            let (mut terminal, mut screen) = (Terminal::default(), Screenful::default());
            for rows in frames {
                let wanted: Vec<&str> = rows.iter().map(|row| row.text.trim_end()).collect();
                let wanted = wanted.join("\n").trim_end().to_owned();
                let frame = Frame { rows, cursor: None };
                terminal.take(&screen.paint(&frame));
                prop_assert_eq!(terminal.text(), wanted);
                prop_assert_eq!(screen.paint(&frame), "");
            }
        }

        #[test]
        fn a_row_is_what_was_typed_last(steps in prop::collection::vec(("[ -~]{0,10}", 0_usize..12), 1..8)) {
            let (mut terminal, mut typed) = (Terminal::default(), Typed::default());
            for (text, at) in steps {
                let at = at.min(text.len());
                terminal.take(&typed.paint("> ", &text, at));
                let wanted = format!("> {text}");
                prop_assert_eq!(terminal.text(), wanted.trim_end());
                prop_assert_eq!(terminal.at, (0, 2 + at));
            }
        }
    }

    #[test]
    fn moving_the_bar_paints_two_rows() {
        let frame = |bar: usize| Frame {
            rows: (0..20)
                .map(|at| Row {
                    text: format!("{at:>3}  entry-{at:<10} title of the entry {at:<20} slot A, good"),
                    is_bar: at == bar,
                })
                .collect(),
            cursor: None,
        };
        let mut screen = Screenful::default();
        screen.paint(&frame(3));
        let moved = screen.paint(&frame(4));
        assert!(moved.len() <= 200, "{} bytes: {moved:?}", moved.len());
    }
}
