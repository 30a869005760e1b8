//! The lines of a text: which one a byte is in, and where in it.

/// U+FEFF, which some editors put in front of a text. It is not part of the first line.
pub(crate) const BYTE_ORDER_MARK: char = '\u{feff}';

/// A text with the starts of its lines, so that a place in it costs no search.
#[derive(Debug)]
pub(crate) struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let next = text.match_indices('\n').map(|(at, _)| at.saturating_add(1));
        Self {
            text,
            starts: std::iter::once(0).chain(next).collect(),
        }
    }

    pub(crate) fn text(&self) -> &'t str {
        self.text
    }

    /// The line that the byte at `at` is in, counted from 0.
    pub(crate) fn index(&self, at: usize) -> usize {
        self.starts.partition_point(|start| *start <= at).saturating_sub(1)
    }

    /// Where the line that `at` is in starts, behind a byte order mark, and the line without its end.
    pub(crate) fn line(&self, at: usize) -> (usize, &'t str) {
        let index = self.index(at);
        let start = self.starts.get(index).copied().unwrap_or_default();
        let end = self.starts.get(index.saturating_add(1)).copied();
        let line = self.text.get(start..end.unwrap_or(self.text.len())).unwrap_or_default();
        let line = match line.strip_suffix('\n') {
            Some(line) => line.strip_suffix('\r').unwrap_or(line),
            None => line,
        };
        match line.strip_prefix(BYTE_ORDER_MARK).filter(|_| start == 0) {
            Some(line) => (BYTE_ORDER_MARK.len_utf8(), line),
            None => (start, line),
        }
    }

    /// See [`line_column`].
    pub(crate) fn line_column(&self, at: usize) -> (usize, usize) {
        let at = self.text.floor_char_boundary(at);
        let (start, line) = self.line(at);
        let before = at.saturating_sub(start).min(line.len());
        let column = line.get(..before).unwrap_or_default().chars().count();
        (self.index(at).saturating_add(1), column.saturating_add(1))
    }
}

/// Line and column of the byte at `offset`, both counted from 1, columns in characters.
///
/// A tab is one character, a byte order mark at the start none, and so is the first half of a CRLF. An offset inside
/// of a character means that character, one beyond the end means the end.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    Lines::new(text).line_column(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_characters_whatever_the_bytes() {
        let text = "\u{feff}a\tb\r\nüx\u{1f600}y\n";
        for (needle, place) in [
            ("a", (1, 1)),
            ("\t", (1, 2)),
            ("b", (1, 3)),
            ("\r", (1, 4)),
            ("\n", (1, 4)),
            ("ü", (2, 1)),
            ("x", (2, 2)),
            ("\u{1f600}", (2, 3)),
            ("y", (2, 4)),
        ] {
            assert_eq!(line_column(text, text.find(needle).unwrap()), place, "{needle:?}");
        }
        assert_eq!(line_column(text, 0), (1, 1), "the mark itself");
        assert_eq!(line_column(text, text.len()), (3, 1));
        assert_eq!(line_column(text, usize::MAX), (3, 1));
        assert_eq!(
            line_column(text, text.find('ü').unwrap() + 1),
            (2, 1),
            "inside of a character"
        );
        assert_eq!(line_column("", 0), (1, 1));
    }
}
