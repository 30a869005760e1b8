//! Problems as text for people, in the form they know from rustc.
//!
//! Given a text and its problems; responsible for showing each with its place, whatever the bytes: the library that
//! draws panics on a place outside of the text, so it gets one line and a place in it.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::Diagnostic;
use crate::diagnostic::{BYTE_ORDER_MARK, line_column};

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
    let mut out = String::new();
    for diagnostic in diagnostics {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&one(file_name, text, diagnostic));
        out.push('\n');
    }
    out
}

fn one(file_name: &str, text: &str, diagnostic: &Diagnostic) -> String {
    let at = text.floor_char_boundary(diagnostic.span.start);
    let (number, _) = line_column(text, at);
    let before = text.get(..at).unwrap_or_default();
    let start = before.rfind('\n').map_or(0, |newline| newline.saturating_add(1));
    let line = text.get(start..).unwrap_or_default();
    let line = match line.split_once('\n') {
        Some((line, _)) => line.strip_suffix('\r').unwrap_or(line),
        None => line,
    };
    let mark = if start == 0 && line.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len_utf8()
    } else {
        0
    };
    let line = line.get(mark..).unwrap_or_default();

    let base = start.saturating_add(mark);
    let in_line = |offset: usize| line.floor_char_boundary(offset.saturating_sub(base).min(line.len()));
    let from = in_line(at);
    let to = line
        .ceil_char_boundary(diagnostic.span.end.saturating_sub(base).min(line.len()))
        .max(from);

    let mut annotation = AnnotationKind::Primary.span(from..to);
    if !diagnostic.label.is_empty() {
        annotation = annotation.label(diagnostic.label.as_str());
    }
    let snippet = Snippet::source(line)
        .line_start(number)
        .path(file_name)
        .annotation(annotation);
    let mut group = Level::ERROR.primary_title(diagnostic.message.as_str()).element(snippet);
    if let Some(help) = &diagnostic.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    Renderer::plain().render(&[group])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    fn drawn(text: &str, span: std::ops::Range<usize>) -> String {
        let diagnostic = Diagnostic {
            kind: Kind::BadValue,
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
