//! Characters that look like others, or like nothing.
//!
//! Given a character; responsible for its name, and for what was meant where it came from a web page or a word
//! processor.

use std::ops::Range;

/// A character that hardly anybody types into a boot loader's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lookalike {
    /// With its article.
    pub(crate) name: &'static str,
    /// What was meant; empty where nothing was.
    pub(crate) meant: &'static str,
}

impl Lookalike {
    /// `c`, if it is one.
    pub(crate) fn of(c: char) -> Option<Self> {
        let (name, meant) = match c {
            '\u{a0}' | '\u{2007}' | '\u{202f}' => ("a no-break space", " "),
            '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{205f}' | '\u{3000}' => ("a typographic space", " "),
            '\u{b4}' | '\u{2bc}' | '\u{2018}'..='\u{201b}' | '\u{2032}' | '\u{2035}' => ("a typographic quote", "'"),
            '\u{ab}' | '\u{bb}' | '\u{201c}'..='\u{201f}' | '\u{2033}' | '\u{2036}' | '\u{2039}' | '\u{203a}' => {
                ("a typographic quote", "\"")
            }
            '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{fe58}' | '\u{fe63}' => ("a typographic dash", "-"),
            '\u{2026}' => ("an ellipsis", "..."),
            '\u{2044}' | '\u{2215}' => ("a typographic slash", "/"),
            '\u{2236}' | '\u{a789}' => ("a typographic colon", ":"),
            '\u{ff01}'..='\u{ff5e}' => ("a full-width character", full_width(c)),
            '\u{2028}' | '\u{2029}' => ("a line separator", ""),
            '\u{fffd}' => ("a stand-in for bytes that were lost", ""),
            _ if is_invisible(c) => ("an invisible character", ""),
            _ => return None,
        };
        Some(Self { name, meant })
    }
}

/// The ASCII character that is as wide as two in U+FF01 to U+FF5E.
fn full_width(c: char) -> &'static str {
    const ASCII: &str =
        "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
    let at = u32::from(c).checked_sub(0xff01).and_then(|at| usize::try_from(at).ok());
    at.and_then(|at| ASCII.get(at..at.saturating_add(1)))
        .unwrap_or_default()
}

/// Whether a terminal shows nothing for it, or shows other characters elsewhere because of it: format characters,
/// joiners, marks of direction, selectors of variants, tags, fillers.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{115f}' | '\u{1160}'
        | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// `c` for a message: itself and its code point where it can be seen, else its name.
pub(crate) fn named(c: char) -> String {
    let code = u32::from(c);
    match Lookalike::of(c) {
        _ if c == crate::lines::BYTE_ORDER_MARK => format!("a byte order mark (U+{code:04X})"),
        Some(found) => format!("{} (U+{code:04X})", found.name),
        None if c.is_control() || c.is_whitespace() => format!("U+{code:04X}"),
        None if c.is_ascii() => format!("`{c}`"),
        None => format!("`{c}` (U+{code:04X})"),
    }
}

/// The characters of a TOML string with where each is in `written`, which is the string with its quotes; `None` where
/// that is not what `value` was read from.
pub(crate) fn places(written: &str, value: &str) -> Option<Vec<(Range<usize>, char)>> {
    let quote = ["\"\"\"", "'''", "\"", "'"]
        .into_iter()
        .find(|q| written.starts_with(q))?;
    let end = written.len().checked_sub(quote.len())?;
    let is_basic = quote.starts_with('"');
    let mut places = Vec::new();
    let mut at = quote.len();
    if quote.len() == 3 {
        let first = ["\r\n", "\n"]
            .into_iter()
            .find(|line| written.get(at..).is_some_and(|rest| rest.starts_with(line)));
        at = at.saturating_add(first.map_or(0, str::len));
    }
    while at < end {
        let rest = written.get(at..end)?;
        let first = rest.chars().next()?;
        let (length, c) = if is_basic && first == '\\' {
            escaped(rest)?
        } else {
            (first.len_utf8(), Some(first))
        };
        let next = at.saturating_add(length);
        places.extend(c.map(|c| (at..next, c)));
        at = next;
    }
    // A parser may make one of two line ends of the other.
    let same = places
        .iter()
        .map(|(_, c)| *c)
        .filter(|c| *c != '\r')
        .eq(value.chars().filter(|c| *c != '\r'));
    same.then_some(places)
}

/// How long the escape is that `text` starts with, and what it stands for: nothing, at the end of a line.
fn escaped(text: &str) -> Option<(usize, Option<char>)> {
    let kind = text.chars().nth(1)?;
    let digits = match kind {
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ if kind.is_ascii_whitespace() => {
            let rest = text.get(1..)?.trim_start_matches([' ', '\t', '\r', '\n']);
            return Some((text.len().saturating_sub(rest.len()), None));
        }
        _ => 0,
    };
    let length = 2_usize.saturating_add(digits);
    let c = match kind {
        'b' => '\u{8}',
        't' => '\t',
        'n' => '\n',
        'f' => '\u{c}',
        'r' => '\r',
        'e' => '\u{1b}',
        'x' | 'u' | 'U' => char::from_u32(u32::from_str_radix(text.get(2..length)?, 16).ok()?)?,
        other => other,
    };
    Some((length, Some(c)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use toml::de::DeValue;

    use super::*;

    #[test]
    fn each_is_named_with_its_code_point() {
        for (c, name) in [
            ('a', "`a`"),
            (' ', "U+0020"),
            ('\u{a0}', "a no-break space (U+00A0)"),
            ('\u{201d}', "a typographic quote (U+201D)"),
            ('\u{2013}', "a typographic dash (U+2013)"),
            ('\u{435}', "`\u{435}` (U+0435)"),
            ('\u{200b}', "an invisible character (U+200B)"),
            ('\u{feff}', "a byte order mark (U+FEFF)"),
            ('\u{85}', "U+0085"),
            ('\u{ff1d}', "a full-width character (U+FF1D)"),
        ] {
            assert_eq!(named(c), name);
        }
        assert_eq!(Lookalike::of('\u{ff1d}').unwrap().meant, "=");
        assert_eq!(Lookalike::of('\u{ff01}').unwrap().meant, "!");
        assert_eq!(Lookalike::of('\u{ff5e}').unwrap().meant, "~");
        for c in ['\u{e4}', '\u{65e5}', '\u{1f600}', '"', '-'] {
            assert_eq!(Lookalike::of(c), None);
        }
    }

    #[test]
    fn each_character_of_a_string_has_its_place() {
        for (written, value, at, place) in [
            ("'a\u{a0}'", "a\u{a0}", 1, 2..4),
            (r#""\u00a0b""#, "\u{a0}b", 0, 1..7),
            (r#""\"\tb""#, "\"\tb", 2, 5..6),
            ("\"\"\"\nab\\\n  \t c\"\"\"", "abc", 2, 12..13),
            ("'''\r\n'b'''", "'b", 1, 6..7),
            (r#""\x41\e\U0001f600z""#, "A\u{1b}\u{1f600}z", 3, 17..18),
        ] {
            let places = places(written, value).unwrap();
            assert_eq!(places.get(at).unwrap().0, place, "{written}");
        }
        assert_eq!(places("'a'", "b"), None);
        assert_eq!(places("a", "a"), None);
    }

    proptest! {
        #[test]
        fn what_the_toml_parser_reads_has_places(text in r#"("|'|"""|''')([a-c"'\n\r \t]|\\[bte"nx]|\\u00e4|\\\n|\\x41|\u{a0}){0,12}("|'|"""|''')"#) {
            if let Ok(DeValue::String(value)) = DeValue::parse(&text).map(toml::Spanned::into_inner) {
                prop_assert!(places(&text, &value).is_some(), "{:?} {:?}", text, value);
            }
        }
    }
}
