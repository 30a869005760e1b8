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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
