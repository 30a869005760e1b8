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
    /// What could be read; its places count in `text`.
    pub(crate) document: Spanned<DeTable<'i>>,
    errors: Vec<TomlError>,
    /// The header of the table that the first keys belong to, where that is above the piece, and the piece.
    text: &'i str,
    /// How much of `text` is that header.
    header: usize,
    /// Where the piece is in the whole text.
    start: usize,
}

/// Visits the whole text, or piece after piece where brackets stay open.
pub(crate) fn for_each_piece(whole: &str, mut visit: impl FnMut(&Piece<'_>)) {
    let mut start = 0;
    for left in (0..MAX_PIECES).rev() {
        let Some(rest) = whole.get(start..) else {
            return;
        };
        let header = header_above(whole, start).filter(|_| !rest.trim_start().starts_with('['));
        let header = header.unwrap_or_default();
        let text = if header.is_empty() {
            Cow::Borrowed(rest)
        } else {
            Cow::Owned(format!("{header}{rest}"))
        };
        let piece = read(&text, header.len(), start);
        let end = piece.swallowed_from().filter(|end| left > 0 && *end > header.len());
        let before = end
            .and_then(|end| text.get(..end))
            .map(|before| read(before, header.len(), start));
        match before {
            Some(before) if !before.errors.is_empty() => {
                visit(&before);
                start = start.saturating_add(before.text.len().saturating_sub(header.len()));
            }
            _ => return visit(&piece),
        }
    }
}

/// The last header above `start`, closed and with a line end; `None` at the top of the file.
fn header_above(text: &str, start: usize) -> Option<String> {
    let above = text.get(..start)?;
    let is_header = |line: &&str| line.starts_with('[') && starts_afresh(line);
    let line = above.lines().rev().map(str::trim).find(is_header)?;
    let name = line.trim_start_matches('[').split([']', '#']).next()?.trim();
    Some(format!("[{name}]\n"))
}

fn read(text: &str, header: usize, start: usize) -> Piece<'_> {
    let (document, mut errors) = DeTable::parse_recoverable(text);
    errors.truncate(MAX_ERRORS);
    Piece {
        document,
        errors,
        text,
        header,
        start,
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

    /// `found` with its places counted in the whole text, except for what is about the repeated header.
    pub(crate) fn in_place(&self, found: Vec<Diagnostic>) -> impl Iterator<Item = Diagnostic> {
        found
            .into_iter()
            .filter(|d| d.span.start >= self.header)
            .map(|d| self.moved(d))
    }

    fn moved(&self, diagnostic: Diagnostic) -> Diagnostic {
        let moved = |at: usize| self.start.saturating_add(at.saturating_sub(self.header));
        let span = moved(diagnostic.span.start)..moved(diagnostic.span.end);
        Diagnostic { span, ..diagnostic }
    }
}

/// The text without the lines that are a key without a value, and what to say about those: the TOML parser builds no
/// tree of what follows such a line.
pub(crate) fn without_bare_keys(text: &str) -> (Cow<'_, str>, Vec<Diagnostic>) {
    let whole = read(text, 0, 0);
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
        all.push(explain(text, piece, error.message(), span));
    }
    piece.in_place(all).collect()
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
