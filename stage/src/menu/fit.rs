//! Text → what fits on a terminal: rows of bounded width, of letters it has. Pure.

use super::paint::Row;
use crate::text::printable;

/// What a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub columns: usize,
    pub rows: usize,
    /// Its cursor can be moved.
    pub is_full: bool,
    pub is_utf8: bool,
}

impl Form {
    /// The least that there is.
    pub(crate) const PLAIN: Self = Self {
        columns: 80,
        rows: 24,
        is_full: false,
        is_utf8: false,
    };
}

/// `text` for this terminal: the one place where what came from outside is cleaned.
pub(super) fn shown(text: &str, form: Form) -> String {
    // Letters of one column, in the scripts that a terminal can be expected to have.
    let is_letter = |c: char| matches!(c, '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{4ff}');
    if !form.is_utf8 || text.is_ascii() {
        return printable(text);
    }
    let each = text.chars().map(|c| {
        if is_letter(c) {
            c.to_string()
        } else {
            printable(c.encode_utf8(&mut [0; 4]))
        }
    });
    each.collect()
}

/// The first `width` columns, with a mark that there is more.
pub(super) fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{head}..")
}

/// Columns that are used: a character in the last one may wrap.
pub(super) fn width(form: Form) -> usize {
    form.columns.saturating_sub(1).max(20)
}

/// A word that is longer than a row, in pieces that are not.
fn pieces(word: &str, width: usize) -> Vec<String> {
    if word.chars().count() < width {
        return vec![word.to_owned()];
    }
    let letters: Vec<char> = word.chars().collect();
    letters
        .chunks(width.saturating_sub(1).max(1))
        .map(|piece| piece.iter().collect())
        .collect()
}

/// What is typed, one column a character.
pub(super) fn typed(text: &str, form: Form) -> String {
    let each = text.chars().map(|c| {
        let is_shown = shown(c.encode_utf8(&mut [0; 4]), form).chars().eq([c]);
        if is_shown { c } else { '?' }
    });
    each.collect()
}

/// `text` in rows of at most `width`, broken at spaces where that goes, the first one indented as it is; at most `most` of them.
pub(super) fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let text = text.trim_start_matches(' ');
    let mut rows = vec![" ".repeat(indent.min(width / 2))];
    let mut is_first = true;
    for word in text.split(' ').flat_map(|word| pieces(word, width)) {
        let length = |row: &str| row.chars().count();
        let count = rows.len();
        let Some(row) = rows.last_mut() else { break };
        if std::mem::take(&mut is_first) {
            row.push_str(&word);
        } else if length(row).saturating_add(word.chars().count()) < width {
            row.extend([" ", &word]);
        } else if count < most {
            rows.push(word);
        } else {
            row.push_str(" ..");
            break;
        }
    }
    rows.iter().map(|row| fitted(row, width)).collect()
}

/// As many side by side as a row has room for.
pub(super) fn packed(items: impl Iterator<Item = String>, width: usize) -> Vec<Row> {
    let mut rows: Vec<String> = Vec::new();
    for item in items {
        match rows.last_mut() {
            Some(row) if row.len().saturating_add(item.len()).saturating_add(4) < width => {
                row.extend(["    ", &item]);
            }
            _ => rows.push(format!("  {item}")),
        }
    }
    rows.into_iter().map(|row| Row::new(fitted(&row, width))).collect()
}
