//! A problem in a text, as a value.
//!
//! Given what the checks find; responsible for keeping it in a form that a console, a tool and a test can use alike.

use std::fmt;
use std::ops::Range;

/// One problem of a `boot.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What sort of problem it is.
    pub kind: DiagnosticKind,
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
pub enum DiagnosticKind {
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
    /// A value that can be used, but hardly means what it says.
    Doubtful,
    /// There are more problems than are listed.
    TooMany,
}

impl Diagnostic {
    /// Whether the file can be booted from all the same. All kinds but one are errors.
    pub fn is_warning(&self) -> bool {
        self.kind == DiagnosticKind::Doubtful
    }
}

impl fmt::Display for Diagnostic {
    /// The message and the help on one line, without the place: see [`line_column`](crate::line_column) and
    /// [`render`](crate::render()).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
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
    fn what_is_quoted_can_not_drive_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\n\"ü"), "`a\\u{1b}[31m\\n\"ü`");
        assert_eq!(quoted("\u{202e}"), "`\\u{202e}`");
        assert_eq!(quoted(&"x".repeat(1000)).len(), 85);
    }
}
