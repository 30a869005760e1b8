//! Problems as text for people, in the form they know from rustc.
//!
//! Given a text and its problems; responsible for showing each with its place, whatever the bytes: the library that
//! draws panics on a place outside of the text, so it gets one line and a place in it; it reads a whole line for each
//! problem, so it gets no more of a long one than can be seen; and it shows some characters as they are that a terminal
//! acts on, so they are replaced.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::Diagnostic;
use crate::lines::Lines;
use crate::lookalike::is_invisible;

/// How many bytes of a line are drawn in front of a place, and how many from there on: more than the width of a console.
const AROUND: usize = 400;

/// Draws `diagnostics` of `text`, without colours, each one like
///
/// ```text
/// error: unknown key `kernl`
///  --> boot.toml:7:1
///   |
/// 7 | kernl = "Image"
///   | ^^^^^ not a key of `[entry.a]`
///   |
///   = help: did you mean `kernel`?
/// ```
///
/// with an empty line between two. A place that spans lines is drawn in its first one.
pub fn render(file_name: &str, text: &str, diagnostics: &[Diagnostic]) -> String {
    let lines = Lines::new(text);
    let all: Vec<String> = diagnostics.iter().map(|d| one(file_name, text, &lines, d)).collect();
    all.join("\n")
}

fn one(file_name: &str, text: &str, lines: &Lines<'_>, diagnostic: &Diagnostic) -> String {
    let at = text.floor_char_boundary(diagnostic.span.start);
    let (number, column) = lines.line_column(at);
    let (start, line) = lines.line(at);
    let from = line.floor_char_boundary(at.saturating_sub(start));
    let to = line
        .ceil_char_boundary(diagnostic.span.end.saturating_sub(start))
        .max(from);
    let (line, marked) = window(line, from..to);
    let in_window = line.get(..marked.start).unwrap_or_default().chars().count();

    let mut annotation = AnnotationKind::Primary.span(marked);
    if !diagnostic.label.is_empty() {
        annotation = annotation.label(diagnostic.label.as_str());
    }
    let snippet = Snippet::source(line)
        .line_start(number)
        .path(file_name)
        .annotation(annotation);
    let level = if diagnostic.is_warning() {
        Level::WARNING
    } else {
        Level::ERROR
    };
    let mut group = level.primary_title(diagnostic.message.as_str()).element(snippet);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let drawn = Renderer::plain().render(&[group]) + "\n";
    // The library counts in what it was given.
    let place = |column: usize| format!("{file_name}:{number}:{column}\n");
    drawn.replacen(&place(in_window.saturating_add(1)), &place(column), 1)
}

/// What is drawn of a line with the place `marked`, and that place in it. Each character is one.
fn window(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    let start = line.floor_char_boundary(marked.start.saturating_sub(AROUND));
    let end = line.floor_char_boundary(marked.start.saturating_add(AROUND));
    let shown = |part: Range<usize>| -> String {
        let part = line.get(part.start.min(end)..part.end.min(end)).unwrap_or_default();
        part.chars().map(visible).collect()
    };
    let mut out = shown(start..marked.start);
    let from = out.len();
    out.push_str(&shown(marked.clone()));
    let to = out.len();
    out.push_str(&shown(marked.end..line.len()));
    (out, from..to)
}

/// A stand-in for what a terminal acts on or does not show. The library has others for what is below U+0080.
fn visible(c: char) -> char {
    if is_invisible(c) || matches!(c, '\u{80}'..='\u{9f}') {
        char::REPLACEMENT_CHARACTER
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DiagnosticKind, line_column};

    fn drawn(text: &str, span: Range<usize>) -> String {
        let diagnostic = Diagnostic {
            kind: DiagnosticKind::BadValue,
            message: "message".into(),
            span,
            label: "label".into(),
            help: Some("help".into()),
        };
        render("f.toml", text, &[diagnostic])
    }

    #[test]
    fn looks_like_rustc() {
        assert_eq!(
            drawn("a = 1\nbc = 22\n", 11..13),
            "error: message\n --> f.toml:2:6\n  |\n2 | bc = 22\n  |      ^^ label\n  |\n  = help: help\n"
        );
    }

    #[test]
    fn marks_tabs_and_line_ends_do_not_move_the_column() {
        for (text, place) in [
            ("\u{feff}X = 1\r\n", "f.toml:1:1\n"),
            ("\tX = 1\r\n", "f.toml:1:2\n"),
            ("üü\u{1f600}X = 1", "f.toml:1:4\n"),
            ("a = 1\r\n\u{65e5}\u{672c}X\r\n", "f.toml:2:3\n"),
        ] {
            let at = text.find('X').unwrap();
            let drawn = drawn(text, at..at + 1);
            assert!(drawn.contains(place), "{drawn}");
            let (line, column) = line_column(text, at);
            assert_eq!(place, format!("f.toml:{line}:{column}\n"));
        }
    }

    #[test]
    fn nothing_that_a_terminal_acts_on_is_drawn() {
        for c in [
            '\u{9b}', '\u{85}', '\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{200d}', '\u{feff}',
        ] {
            let drawn = drawn(
                &format!("a = {c}31mX{c}\n"),
                "a = ".len() + c.len_utf8() + 3..("a = ".len() + c.len_utf8() + 4),
            );
            assert_eq!(
                drawn,
                "error: message\n --> f.toml:1:9\n  |\n1 | a = \u{fffd}31mX\u{fffd}\n  |         ^ label\n  |\n  = help: help\n"
            );
        }
    }

    #[test]
    fn no_more_of_a_long_line_is_drawn_than_can_be_seen() {
        let text = format!("{}X = \"{}\"", "\u{e4}".repeat(100_000), "y".repeat(100_000));
        for end in [200_001, 300_000] {
            let drawn = drawn(&text, 200_000..end);
            assert!(drawn.len() < 2000 && drawn.contains("f.toml:1:100001\n"), "{drawn}");
        }
    }

    #[test]
    fn any_place_can_be_drawn() {
        for text in [
            "",
            "\n",
            "\r\n",
            "\u{feff}",
            "\u{feff}a\r\nü\u{301}\n\0",
            "\t\t\u{200b}x\u{202e}\n\n",
        ] {
            for start in 0..text.len() + 3 {
                for end in 0..text.len() + 3 {
                    assert!(drawn(text, start..end).contains(" f.toml:"), "{text:?} {start} {end}");
                }
            }
        }
    }
}
