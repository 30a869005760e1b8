//! Text from outside on its way to a reader: strings in quotes, as TOML (a basic string) and JSON both read them, and
//! what a disk or another process says as plain ASCII, so that it can't pass for something else.

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

/// `text` as one word: as it is where nothing in it could be taken for what stands around it, else in quotes and ASCII.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.+:@/".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    printable(&quoted(text))
}

/// `text` for a terminal, whoever wrote it: all but printable ASCII as `\u{…}`.
pub(crate) fn printable(text: &str) -> String {
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
pub(crate) fn cut(text: &str, most: usize) -> String {
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

        #[test]
        fn a_word_is_one_line_of_ascii(text: String) {
            let shown = word(&text);
            prop_assert!(shown.bytes().all(|b| (b' '..=b'~').contains(&b)), "{}", shown);
        }
    }

    #[test]
    fn a_word_can_t_pass_for_more() {
        assert_eq!(word("boot-a"), "boot-a");
        assert_eq!(word("x) PARTLABEL=boot-a"), "\"x) PARTLABEL=boot-a\"");
        assert_eq!(word("a\" b"), r#""a\" b""#);
        assert_eq!(word(""), "\"\"");
        assert_eq!(
            word("boot\u{202e}\u{1f600}\n\u{85}"),
            r#""boot\u{202e}\u{1f600}\u000a\u0085""#
        );
    }
}
