//! From text to TOML trees, and what to say where the text is not TOML.
//!
//! Given a text; responsible for one complaint per mistake. An array that is never closed swallows the lines after it,
//! so the text is read again from the line where that shows.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error as TomlError};

use crate::diagnostic::{line_column, quoted};
use crate::value::BACKSLASH_HELP;
use crate::{Diagnostic, Kind};

/// More unclosed brackets than this are not looked for: each one costs another reading of the rest.
const MAX_PIECES: usize = 16;

/// More errors than this are not looked at: each one costs a look at its line, which may be long.
const MAX_ERRORS: usize = 1000;

/// A part of the text that was read for itself; mostly the whole.
#[derive(Debug)]
pub(crate) struct Piece<'i> {
    /// What could be read; its spans count from the start of the piece.
    pub(crate) document: Spanned<DeTable<'i>>,
    errors: Vec<TomlError>,
    start: usize,
    text: &'i str,
}

/// The whole text, or what is left of it where brackets stay open.
pub(crate) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut rest = text;
    loop {
        let piece = read(rest, start);
        let end = piece.swallowed_from().filter(|_| pieces.len() < MAX_PIECES);
        let Some((head, tail)) = end.and_then(|end| rest.split_at_checked(end)) else {
            pieces.push(piece);
            return pieces;
        };
        let before = read(head, start);
        if before.errors.is_empty() {
            pieces.push(piece);
            return pieces;
        }
        pieces.push(before);
        start = start.saturating_add(head.len());
        rest = tail;
    }
}

fn read(text: &str, start: usize) -> Piece<'_> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.truncate(MAX_ERRORS);
    Piece {
        document,
        errors,
        start,
        text,
    }
}

impl Piece<'_> {
    /// Where to start again: the TOML parser takes all that follows an unclosed bracket for what is in it.
    fn swallowed_from(&self) -> Option<usize> {
        self.errors.iter().filter_map(|error| self.swallowed_after(error)).min()
    }

    fn swallowed_after(&self, error: &TomlError) -> Option<usize> {
        let at = error.span()?.start;
        let line = line_start(self.text, at);
        let rest = self.text.get(line..)?;
        if ["unclosed table", "unclosed inline table"]
            .iter()
            .any(|unclosed| error.message().starts_with(unclosed))
        {
            let next = line.saturating_add(rest.find('\n')?.saturating_add(1));
            return (next < self.text.len()).then_some(next);
        }
        // A line that reads like a key or a header and yet has an error at its start: something above is not closed.
        let indent = self.text.get(line..at)?;
        let at_start = indent.chars().all(|c| c.is_whitespace() || c == '[');
        (line > 0 && at_start && !is_about_keys(error.message()) && starts_afresh(rest.trim_start())).then_some(line)
    }

    /// `found` with its places counted in the whole text. The keys at the start of a later piece belong to a table
    /// that is not in it, so nothing is said about them.
    pub(crate) fn in_place(&self, found: Vec<Diagnostic>) -> impl Iterator<Item = Diagnostic> {
        let first_header = match self.start {
            0 => 0,
            _ if self.text.trim_start().starts_with('[') => 0,
            _ => self.text.find("\n[").unwrap_or(self.text.len()),
        };
        found
            .into_iter()
            .filter(move |d| d.span.start >= first_header)
            .map(|d| self.moved(d))
    }

    fn moved(&self, diagnostic: Diagnostic) -> Diagnostic {
        let Range { start, end } = diagnostic.span;
        let span = self.start.saturating_add(start)..self.start.saturating_add(end);
        Diagnostic { span, ..diagnostic }
    }
}

/// The text without the lines that are a key without a value, and what to say about those: the TOML parser builds no
/// tree of what follows such a line.
pub(crate) fn without_bare_keys(text: &str) -> (Cow<'_, str>, Vec<Diagnostic>) {
    let whole = read(text, 0);
    let mut problems = Vec::new();
    let mut sound = Cow::Borrowed(text);
    for error in &whole.errors {
        let Some(span) = error
            .span()
            .filter(|_| error.message().starts_with("key with no value"))
        else {
            continue;
        };
        let start = line_start(text, span.start);
        let line = text
            .get(start..)
            .and_then(|rest| rest.lines().next())
            .unwrap_or_default();
        sound
            .to_mut()
            .replace_range(start..start.saturating_add(line.len()), &" ".repeat(line.len()));
        problems.push(explain(text, &whole, error.message(), span));
    }
    (sound, problems)
}

fn is_about_keys(message: &str) -> bool {
    message == "duplicate key" || message.starts_with("cannot extend")
}

/// Whether `text` starts like `key =`, `[table]` or `[[table]]`, and not like an element of an array.
fn starts_afresh(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    let bare = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match line.strip_prefix('[') {
        Some(header) => header.trim_start_matches('[').starts_with(bare),
        None => line.starts_with(bare) && line.trim_start_matches(bare).trim_start().starts_with('='),
    }
}

fn line_start(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    before.rfind('\n').map_or(0, |newline| newline.saturating_add(1))
}

/// The syntax errors of a piece, placed in the whole text.
pub(crate) fn problems(text: &str, piece: &Piece<'_>) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    let mut twice: Option<Range<usize>> = None;
    for error in &piece.errors {
        let span = error.span().unwrap_or(piece.text.len()..piece.text.len());
        if error.message() == "duplicate key" {
            if twice.as_ref().is_some_and(|table| table.contains(&span.start)) {
                continue; // the table is there twice, so its keys are
            }
            twice = table_around(piece.text, span.start).or(twice);
        }
        all.push(piece.moved(explain(text, piece, error.message(), span)));
    }
    all
}

/// From the header in whose line `at` is to the next header; `None` where that line is no header.
fn table_around(text: &str, at: usize) -> Option<Range<usize>> {
    let start = line_start(text, at);
    let rest = text.get(start..).filter(|rest| rest.trim_start().starts_with('['))?;
    let length = rest.find("\n[").unwrap_or(rest.len());
    Some(start..start.saturating_add(length))
}

/// What the TOML parser says, in our form: its `X, expected Y` becomes message and label.
fn explain(text: &str, piece: &Piece<'_>, said: &str, span: Range<usize>) -> Diagnostic {
    let marked = piece.text.get(span.clone()).unwrap_or_default();
    let (message, expected) = match said.split_once(", expected ") {
        Some((message, "nothing")) => (message, String::new()),
        Some((message, expected)) => (message, format!("expected {expected}")),
        None => (said, String::new()),
    };
    // The parser guesses a type from the first letter, and is offended that `Image` is no `inf`.
    let is_word = marked.starts_with(char::is_alphabetic);
    let unquoted = message == "string values must be quoted" || message.starts_with("invalid ") && is_word;
    let (message, label, help) = if message == "duplicate key" {
        duplicate(text, piece, &span)
    } else if unquoted && marked.is_empty() {
        ("missing value".to_owned(), "expected a value".to_owned(), None)
    } else if unquoted {
        let help = format!("if it is text: \"{}\"", quoted(marked).trim_matches('`'));
        (
            "a string without quotes".to_owned(),
            "expected a value".to_owned(),
            Some(help),
        )
    } else if message.ends_with(" string") && (expected.ends_with("`\"`") || expected.ends_with("`'`")) {
        ("unclosed string".to_owned(), expected, None)
    } else if message.contains("escape") || message.contains("unicode value") {
        (message.to_owned(), expected, Some(BACKSLASH_HELP.to_owned()))
    } else {
        (message.to_owned(), expected, None)
    };
    Diagnostic {
        kind: Kind::Syntax,
        message,
        span,
        label,
        help,
    }
}

fn duplicate(text: &str, piece: &Piece<'_>, span: &Range<usize>) -> (String, String, Option<String>) {
    let Some(table) = table_around(piece.text, span.start) else {
        let key = piece.text.get(span.clone()).unwrap_or_default();
        let help = "each key may be there once in its table".to_owned();
        return (format!("duplicate key {}", quoted(key)), String::new(), Some(help));
    };
    let header = piece
        .text
        .get(table)
        .and_then(|table| table.lines().next())
        .unwrap_or_default();
    let header = header.split_inclusive(']').next().unwrap_or_default().trim();
    let first = text.find(header).map_or(1, |at| line_column(text, at).0);
    (
        format!("duplicate table {}", quoted(header)),
        format!("there is one in line {first}"),
        None,
    )
}
