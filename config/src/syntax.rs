//! From text to TOML trees, and what to say where the text is not TOML.
//!
//! Given a text; responsible for one complaint per mistake. An array that is never closed swallows the lines after it,
//! so the text is read again from the line where that shows.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, Error as TomlError};

use crate::diagnostic::quoted;
use crate::lines::BYTE_ORDER_MARK;
use crate::lookalike::{Lookalike, named};
use crate::problems::Problems;
use crate::survey::{MAX_ERRORS, Survey};
use crate::value::{BACKSLASH_HELP, PASTED_HELP};
use crate::{Diagnostic, DiagnosticKind, MAX_BYTES};

/// More unclosed brackets than this are not looked for: each one costs another reading of the rest.
const MAX_PIECES: usize = 16;

/// Nor is more than this read again for them.
const MAX_READ: usize = 2 * MAX_BYTES;

/// A part of the text that was read for itself; mostly the whole.
#[derive(Debug)]
pub(crate) struct Piece<'i> {
    /// What could be read; its places count in `text`.
    pub(crate) document: Spanned<DeTable<'i>>,
    errors: Vec<TomlError>,
    /// The header of the table that the first keys belong to, where that is above the piece, and the piece.
    pub(crate) text: &'i str,
    /// How much of `text` is that header.
    header: usize,
    /// Where the piece is in the whole text.
    start: usize,
}

/// Visits the whole text, or piece after piece where brackets stay open.
pub(crate) fn for_each_piece(whole: &str, mut visit: impl FnMut(&Piece<'_>)) {
    let (mut start, mut read_again) = (0, 0_usize);
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
        read_again = read_again.saturating_add(text.len().saturating_mul(2));
        let left = if read_again > MAX_READ { 0 } else { left };
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
    errors.sort_by_key(|error| error.span().map_or(text.len(), |span| span.start));
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

    /// Complains about the syntax errors of this piece. What is found next is in it, too.
    pub(crate) fn report(&self, survey: &Survey<'_>, problems: &mut Problems<'_>) {
        problems.enter(self.header, self.start);
        let (mut twice, mut odd_until): (Option<Range<usize>>, usize) = (None, 0);
        for error in &self.errors {
            let span = error.span().unwrap_or(self.text.len()..self.text.len());
            if error.message() == "duplicate key" {
                if twice.as_ref().is_some_and(|table| table.contains(&span.start)) {
                    continue; // the table is there twice, so its keys are
                }
                twice = table_around(self.text, span.start).or(twice);
            }
            if problems.is_past(span.start) || odd_until > span.start {
                continue;
            }
            let diagnostic = self.explain(survey, error.message(), span, problems);
            if diagnostic.help.as_deref() == Some(PASTED_HELP) {
                // What else is wrong with this line follows from that character.
                let rest = self.text.get(diagnostic.span.end..).unwrap_or_default();
                odd_until = diagnostic
                    .span
                    .end
                    .saturating_add(rest.find('\n').unwrap_or(rest.len()));
            }
            problems.syntax(diagnostic);
        }
    }

    /// What the TOML parser says, in our form: its `X, expected Y` becomes message and label.
    fn explain(&self, survey: &Survey<'_>, said: &str, span: Range<usize>, problems: &Problems<'_>) -> Diagnostic {
        let marked = self.text.get(span.clone()).unwrap_or_default();
        let (message, expected) = match said.split_once(", expected ") {
            Some((message, "nothing")) => (message, String::new()),
            Some((message, expected)) => (message, format!("expected {expected}")),
            None => (said, String::new()),
        };
        let mut diagnostic = Diagnostic {
            kind: DiagnosticKind::Syntax,
            message: message.to_owned(),
            span,
            label: expected,
            help: None,
        };
        // The parser guesses a type from the first letter, and is offended that `Image` is no `inf`.
        let is_word = marked.starts_with(char::is_alphabetic);
        let unquoted = message == "string values must be quoted" || message.starts_with("invalid ") && is_word;
        if let Some(odd) = odd(marked, message == "invalid unquoted key") {
            let place = diagnostic.span.start;
            diagnostic = odd;
            diagnostic.span = place.saturating_add(diagnostic.span.start)..place.saturating_add(diagnostic.span.end);
        } else if message == "duplicate key" {
            self.explain_duplicate(survey, problems, &mut diagnostic);
        } else if message.starts_with("cannot extend value of type inline table") {
            self.explain_extended(survey, problems, &mut diagnostic);
        } else if unquoted && marked.is_empty() {
            "the key has no value".clone_into(&mut diagnostic.message);
            "expected a value".clone_into(&mut diagnostic.label);
        } else if unquoted {
            "a string needs quotes".clone_into(&mut diagnostic.message);
            "expected a value".clone_into(&mut diagnostic.label);
            diagnostic.help = Some(format!("if it is text, write \"{}\"", quoted(marked).trim_matches('`')));
        } else if message.ends_with(" string")
            && diagnostic.label.ends_with(['`'])
            && diagnostic.label.contains(['"', '\''])
        {
            "the string is not closed".clone_into(&mut diagnostic.message);
        } else if message.contains("escape") || message.contains("unicode value") {
            diagnostic.help = Some(BACKSLASH_HELP.to_owned());
        } else if let Some((_, better)) = WORDING.iter().find(|(theirs, _)| *theirs == message) {
            (*better).clone_into(&mut diagnostic.message);
        }
        diagnostic
    }

    /// What belongs into an inline table, which nothing can be added to.
    fn explain_extended(&self, survey: &Survey<'_>, problems: &Problems<'_>, found: &mut Diagnostic) {
        let key = quoted(self.text.get(found.span.clone()).unwrap_or_default());
        let first = problems.in_text(&found.span).and_then(|span| survey.before(span.start));
        found.message = format!("{key} is an inline table, and nothing can be added to it");
        if let Some((first, _)) = first {
            let line = problems.lines().line_column(first.written.start).0;
            found.label = format!("defined in line {line}");
        }
        found.help = Some("write all of it between its braces, or below headers of its own".to_owned());
    }

    /// What is there twice.
    fn explain_duplicate(&self, survey: &Survey<'_>, problems: &Problems<'_>, found: &mut Diagnostic) {
        let key = quoted(self.text.get(found.span.clone()).unwrap_or_default());
        let table = table_around(self.text, found.span.start)
            .and_then(|table| self.text.get(table)?.lines().next()?.split_inclusive(']').next())
            .map(|header| quoted(header.trim()));
        let first = problems.in_text(&found.span).and_then(|span| survey.before(span.start));
        let (place, is_header) = match first {
            Some((first, written)) => {
                let line = problems.lines().line_column(first.written.start).0;
                let place = match (&table, first.is_header) {
                    (Some(_), true) => format!("first defined in line {line}"),
                    (Some(_), false) => format!("first defined by the key {} in line {line}", quoted(written)),
                    (None, true) => format!("{} is in line {line}", quoted(written)),
                    (None, false) => format!("first set in line {line}"),
                };
                (place, first.is_header)
            }
            None => (String::new(), false),
        };
        let (message, help) = match (table, is_header) {
            (Some(table), _) => (
                format!("table {table} is defined twice"),
                "a table may be defined only once",
            ),
            (None, true) => (
                format!("key {key} adds to a table with a header of its own"),
                "move the key below that header",
            ),
            (None, false) => (
                format!("key {key} appears twice"),
                "a key may appear only once in a table",
            ),
        };
        found.message = message;
        found.label = place;
        found.help = Some(help.to_owned());
    }
}

/// The text without byte order marks at the start of its lines, but for the first: they are left where files are joined.
pub(crate) fn without_marks<'t>(text: &'t str, problems: &mut Problems<'_>) -> Cow<'t, str> {
    let mut sound = Cow::Borrowed(text);
    for (line_end, _) in text.match_indices("\n\u{feff}") {
        let start = line_end.saturating_add(1);
        let span = start..start.saturating_add(BYTE_ORDER_MARK.len_utf8());
        sound.to_mut().replace_range(span.clone(), "   ");
        if let Some(mark) = odd("\u{feff}", false).filter(|_| !problems.is_past(start)) {
            problems.syntax(Diagnostic { span, ..mark });
        }
    }
    sound
}

/// The text as far as it is worth reading, without the lines behind which the TOML parser builds no tree: those with a
/// key without a value, or of too many parts.
pub(crate) fn without_stray_keys<'t>(text: &'t str, survey: &Survey<'_>, problems: &mut Problems<'_>) -> Cow<'t, str> {
    let mut sound = Cow::Borrowed(text.get(..survey.readable).unwrap_or(text));
    let no_value = survey
        .no_value
        .iter()
        .map(|span| ("the key has no value", "expected `=`", span.clone()));
    let deep = survey
        .deep_keys()
        .into_iter()
        .map(|span| ("the key has too many parts", "at most 80", span));
    for (message, label, span) in no_value.chain(deep) {
        let (start, line) = problems.lines().line(span.start);
        let end = start.saturating_add(line.len()).min(sound.len());
        if sound.get(start..end).is_some_and(|line| !line.trim().is_empty()) {
            sound
                .to_mut()
                .replace_range(start..end, &" ".repeat(end.saturating_sub(start)));
        }
        // A dash may stand for the `=`.
        let next = text
            .get(span.end..)
            .and_then(|rest| rest.trim_start_matches([' ', '\t']).chars().next());
        let next = next.and_then(|c| odd(c.encode_utf8(&mut [0; 4]), false));
        problems.syntax(Diagnostic {
            kind: DiagnosticKind::Syntax,
            message: message.to_owned(),
            span,
            label: next.map_or_else(|| label.to_owned(), |next| format!("{label}; {}", next.message)),
            help: None,
        });
    }
    sound
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

/// From the header in whose line `at` is to the next header; `None` where that line is no header.
fn table_around(text: &str, at: usize) -> Option<Range<usize>> {
    let start = line_start(text, at);
    let rest = text.get(start..).filter(|rest| rest.trim_start().starts_with('['))?;
    let length = rest.find("\n[").unwrap_or(rest.len());
    Some(start..start.saturating_add(length))
}

/// The first character of `text` that nobody types there, placed in it. A key without quotes has no more than ASCII.
fn odd(text: &str, is_key: bool) -> Option<Diagnostic> {
    let is_odd = |c: char| Lookalike::of(c).is_some() || is_key && !c.is_ascii();
    let (at, c) = text.char_indices().find(|(_, c)| is_odd(*c))?;
    let (label, help) = match Lookalike::of(c).map(|found| found.meant) {
        _ if c == BYTE_ORDER_MARK => (
            "belongs only at the start of a file".to_owned(),
            "remove it; were two files joined?",
        ),
        Some(" ") => ("expected an ordinary space".to_owned(), PASTED_HELP),
        Some("") => ("this should not be here".to_owned(), PASTED_HELP),
        Some(meant) => (format!("expected `{meant}`"), PASTED_HELP),
        None => (
            "a key without quotes has only A-Z a-z 0-9 _ -".to_owned(),
            "type the key again",
        ),
    };
    Some(Diagnostic {
        kind: DiagnosticKind::Syntax,
        message: format!("{} contains {}", if is_key { "the key" } else { "the line" }, named(c)),
        span: at..at.saturating_add(c.len_utf8()),
        label,
        help: Some(help.to_owned()),
    })
}

/// What the TOML parser says, and how we say it. The rest is clear enough.
const WORDING: [(&str, &str); 6] = [
    (
        "cannot recurse further; max recursion depth met",
        "the value is nested too deeply",
    ),
    (
        "carriage return must be followed by newline",
        "a carriage return stands alone",
    ),
    ("unclosed array", "the array is not closed"),
    ("unclosed table", "the table's header is not closed"),
    ("unclosed inline table", "the inline table is not closed"),
    ("unexpected key or value", "unexpected text after the value"),
];
