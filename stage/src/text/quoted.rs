//! Strings in quotes, as TOML (a basic string) and JSON both read them.

use std::fmt::Write as _;

/// `text` in quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // A String takes every write; all control characters are in the first plane.
            c if c.is_control() => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `text` for a terminal, whoever wrote it: all but printable ASCII as `\u{…}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' '..='~' => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// `text`, or its first `most` bytes and a word that there was more.
pub fn cut(text: &str, most: usize) -> String {
    match text.get(..text.floor_char_boundary(most)) {
        Some(begin) if begin.len() < text.len() => format!("{begin} [cut]"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_but_ascii_reaches_a_terminal() {
        let hostile = "a\u{1b}[2J\n\u{9b}31m\u{202e}\u{2028}\u{e9}\\~";
        assert_eq!(printable(hostile), r"a\u{1b}[2J\u{a}\u{9b}31m\u{202e}\u{2028}\u{e9}\~");
        assert_eq!(printable(&printable(hostile)), printable(hostile));
    }

    #[test]
    fn a_cut_is_between_characters_and_is_said() {
        assert_eq!(cut("a\u{e9}", 2), "a [cut]");
        assert_eq!(cut("a\u{e9}", 3), "a\u{e9}");
    }

    proptest! {
        #[test]
        fn any_text_comes_back_from_both(text: String) {
            let written = quoted(&text);
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text.as_str());
            let table: toml::Table = format!("key = {written}").parse().unwrap();
            prop_assert_eq!(table["key"].as_str(), Some(text.as_str()));
        }
    }
}
