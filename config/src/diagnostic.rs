//! A problem in a text, as a value.
//!
//! Given what the checks find; responsible for keeping it in a form that a console, a tool and a test can use alike.

use std::fmt;
use std::ops::Range;

/// One problem of a `boot.toml`. Every kind is an error: nothing boots from a file that has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What sort of problem it is.
    pub kind: Kind,
    /// What is wrong, in one sentence without its place.
    pub message: String,
    /// Where, in bytes of the text; empty where something is missing. Lies in the text and on character boundaries.
    pub span: Range<usize>,
    /// What to write under the marked text; may be empty.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// What sort of problem a [`Diagnostic`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The bytes are not UTF-8.
    Encoding,
    /// The text is longer than [`MAX_BYTES`](crate::MAX_BYTES).
    Size,
    /// Not TOML.
    Syntax,
    /// A key that its table does not have.
    UnknownKey,
    /// A key that its table must have.
    MissingKey,
    /// A value of another type.
    WrongType,
    /// A value of the right type that can't be used.
    BadValue,
    /// There are more problems than are listed.
    TooMany,
}

impl fmt::Display for Diagnostic {
    /// The message and the help on one line, without the place: see [`line_column`] and [`render`](crate::render).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// U+FEFF, which some editors put in front of a text. It is not part of the first line.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// Line and column of the byte at `offset`, both counted from 1, columns in characters.
///
/// A tab is one character, a byte order mark at the start none, and so is the first half of a CRLF. An offset inside
/// of a character means that character, one beyond the end means the end.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..text.floor_char_boundary(offset)).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
    let line = before.matches('\n').count().saturating_add(1);
    let in_line = before.get(line_start..).unwrap_or_default();
    let marked = if line_start == 0 {
        in_line.strip_prefix(BYTE_ORDER_MARK)
    } else {
        None
    };
    let in_line = marked.unwrap_or(in_line);
    let at_end = text.get(before.len()..).is_some_and(|rest| rest.starts_with('\n'));
    let in_line = if at_end {
        in_line.strip_suffix('\r').unwrap_or(in_line)
    } else {
        in_line
    };
    (line, in_line.chars().count().saturating_add(1))
}

/// `text` between backquotes, with what a terminal would act on escaped and the middle of a long one left out.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 80;
    let mut out = String::from('`');
    for (at, c) in text.chars().enumerate() {
        if at == LONGEST {
            out.push_str("...");
            break;
        }
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    out.push('`');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_whatever_the_bytes() {
        let text = "\u{feff}a\tb\r\nüx\u{1f600}y\n";
        for (needle, place) in [
            ("a", (1, 1)),
            ("\t", (1, 2)),
            ("b", (1, 3)),
            ("\r", (1, 4)),
            ("\n", (1, 4)),
            ("ü", (2, 1)),
            ("x", (2, 2)),
            ("\u{1f600}", (2, 3)),
            ("y", (2, 4)),
        ] {
            assert_eq!(line_column(text, text.find(needle).unwrap()), place, "{needle:?}");
        }
        assert_eq!(line_column(text, 0), (1, 1), "the mark itself");
        assert_eq!(line_column(text, text.len()), (3, 1));
        assert_eq!(line_column(text, usize::MAX), (3, 1));
        assert_eq!(
            line_column(text, text.find('ü').unwrap() + 1),
            (2, 1),
            "inside of a character"
        );
        assert_eq!(line_column("", 0), (1, 1));
    }

    #[test]
    fn what_is_quoted_can_not_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\n\"ü"), "`a\\u{1b}[31m\\n\"ü`");
        assert_eq!(quoted("\u{202e}"), "`\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(1000)).len(), 85);
    }
}
