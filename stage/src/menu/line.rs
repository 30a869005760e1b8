//! A line that is typed and changed, with the keys that shells have. Pure.
//!
//! Of our own: the crates that edit lines own a terminal, wait for it, or are under a licence that Cato does not carry.

use super::keys::Key;

/// The longest line, characters: the longest command line of a kernel, `COMMAND_LINE_SIZE` of arm64 and x86_64.
pub(crate) const MOST: usize = 2047;

/// What stands on the line, and where the cursor is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    text: Vec<char>,
    at: usize,
    killed: Vec<char>,
    /// Earlier lines, the latest last.
    history: Vec<String>,
    /// Which of them is shown; their number stands for what was typed.
    recalled: usize,
    draft: String,
    /// A line ended in what was pasted: a space, once something follows.
    has_gap: bool,
}

impl Line {
    /// With this on it, and the cursor behind it.
    pub(crate) fn of(text: &str, history: Vec<String>) -> Self {
        let mut line = Self {
            recalled: history.len(),
            history,
            ..Self::default()
        };
        line.put(text);
        line
    }

    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    fn put(&mut self, text: &str) {
        self.text = text.chars().take(MOST).collect();
        self.at = self.text.len();
    }

    /// Where the word before the cursor begins.
    fn word_left(&self) -> usize {
        let before = self.text.get(..self.at).unwrap_or_default();
        let end = before
            .iter()
            .rposition(|c| *c != ' ')
            .map_or(0, |last| last.saturating_add(1));
        let word = before.get(..end).unwrap_or_default();
        word.iter()
            .rposition(|c| *c == ' ')
            .map_or(0, |space| space.saturating_add(1))
    }

    /// Where the word behind the cursor ends.
    fn word_right(&self) -> usize {
        let after = self.text.get(self.at..).unwrap_or_default();
        let begin = after.iter().position(|c| *c != ' ').unwrap_or(after.len());
        let word = after.get(begin..).unwrap_or_default();
        let length = word.iter().position(|c| *c == ' ').unwrap_or(word.len());
        self.at.saturating_add(begin).saturating_add(length)
    }

    fn kill(&mut self, from: usize, to: usize) {
        let (from, to) = (from.min(self.text.len()), to.min(self.text.len()));
        if from < to {
            self.killed = self.text.drain(from..to).collect();
        }
        self.at = from;
    }

    fn insert(&mut self, c: char) {
        if self.text.len() < MOST {
            self.at = self.at.min(self.text.len());
            self.text.insert(self.at, c);
            self.at = self.at.saturating_add(1);
        }
    }

    fn recall(&mut self, to: usize) {
        if self.recalled == self.history.len() {
            self.draft = self.text();
        }
        let text = match self.history.get(to) {
            Some(text) => text.clone(),
            None if to == self.history.len() => self.draft.clone(),
            None => return,
        };
        self.recalled = to;
        self.put(&text);
    }

    /// Takes what is pasted: letters, and a space where there are more lines than one.
    pub(crate) fn paste(&mut self, key: Key) {
        match key {
            Key::Enter | Key::Tab => self.has_gap = true,
            Key::Char(_) => self.press(key),
            _ => {}
        }
    }

    /// Does what the key says. Enter is none of its keys.
    pub(crate) fn press(&mut self, key: Key) {
        let end = self.text.len();
        let has_gap = std::mem::take(&mut self.has_gap);
        match key {
            Key::Char(c) => {
                if has_gap {
                    self.insert(' ');
                }
                self.insert(c);
            }
            Key::Tab => self.insert(' '),
            Key::Left | Key::Control('b') => self.at = self.at.saturating_sub(1),
            Key::Right | Key::Control('f') => self.at = self.at.saturating_add(1).min(end),
            Key::Home | Key::Control('a') => self.at = 0,
            Key::End | Key::Control('e') => self.at = end,
            Key::WordLeft => self.at = self.word_left(),
            Key::WordRight => self.at = self.word_right(),
            Key::Backspace if self.at > 0 => {
                self.at = self.at.saturating_sub(1);
                self.text.remove(self.at);
            }
            Key::Delete | Key::Control('d') if self.at < end => drop(self.text.remove(self.at)),
            Key::Control('k') => self.kill(self.at, end),
            Key::Control('u') => self.kill(0, self.at),
            Key::Control('w') => self.kill(self.word_left(), self.at),
            Key::Control('y') => self.killed.clone().into_iter().for_each(|c| self.insert(c)),
            Key::Up | Key::Control('p') => self.recall(self.recalled.saturating_sub(1)),
            Key::Down | Key::Control('n') => self.recall(self.recalled.saturating_add(1)),
            _ => {}
        }
    }

    /// The part around the cursor that has room in `width` columns, and the cursor's column in it, from 0. A `<` and a `>`
    /// stand for what is left out.
    pub(crate) fn window(&self, width: usize) -> (String, usize) {
        let width = width.max(8);
        let length = self.text.len();
        if length < width {
            return (self.text(), self.at);
        }
        // In steps, so that it does not move with each key.
        let step = (width / 2).max(1);
        let pages = self.at.checked_div(step).unwrap_or(0).saturating_sub(1);
        let begin = pages
            .saturating_mul(step)
            .min(length.saturating_sub(width.saturating_sub(1)));
        let end = begin.saturating_add(width.saturating_sub(1)).min(length);
        let mut shown: Vec<char> = self.text.get(begin..end).unwrap_or_default().to_vec();
        if let (true, Some(first)) = (begin > 0, shown.first_mut()) {
            *first = '<';
        }
        if let (true, Some(last)) = (end < length, shown.last_mut()) {
            *last = '>';
        }
        (shown.into_iter().collect(), self.at.saturating_sub(begin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::keys::Decoder;
    use proptest::prelude::*;

    fn typed(line: &mut Line, bytes: &str) {
        for key in Decoder::default().feed(0, bytes.as_bytes()) {
            line.press(key);
        }
    }

    #[test]
    fn it_is_edited_as_in_a_shell() {
        let mut line = Line::of("root=/dev/vda2 ro quiet", vec!["root=/dev/vda2 ro quiet".to_owned()]);
        for (keys, text) in [
            ("\u{17}", "root=/dev/vda2 ro "),
            ("\u{1}x\u{4}", "xoot=/dev/vda2 ro "),
            ("\u{1b}f\u{b}", "xoot=/dev/vda2"),
            ("\u{19}", "xoot=/dev/vda2 ro "),
            ("\u{15}", ""),
            ("\u{19}", "xoot=/dev/vda2 ro "),
            ("\u{1b}[A", "root=/dev/vda2 ro quiet"),
            ("\u{1b}[B", "xoot=/dev/vda2 ro "),
            ("\u{1b}[D\u{1b}[D\u{7f}\u{1b}[3~", "xoot=/dev/vda2  "),
            ("\u{1b}[H\u{1b}[C\u{8}r\u{1b}[F1", "root=/dev/vda2  1"),
            ("\u{1b}[1;5D\u{1b}[1;5D-", "-root=/dev/vda2  1"),
        ] {
            typed(&mut line, keys);
            assert_eq!(line.text(), text, "after {keys:?}");
        }
    }

    #[test]
    fn a_long_line_shows_what_is_around_the_cursor() {
        let mut line = Line::of("0123456789abcdefghij", Vec::new());
        assert_eq!(line.window(40), ("0123456789abcdefghij".to_owned(), 20));
        assert_eq!(line.window(11), ("<bcdefghij".to_owned(), 10));
        line.press(Key::Home);
        assert_eq!(line.window(11), ("012345678>".to_owned(), 0));
    }

    proptest! {
        #[test]
        fn any_keys_leave_a_line(bytes: Vec<u8>, width in 0_usize..100) {
            let mut line = Line::of("a b", vec!["c".to_owned()]);
            for key in Decoder::default().feed(0, &bytes) {
                line.press(key);
                let (shown, column) = line.window(width);
                let length = shown.chars().count();
                prop_assert!(length < width.max(8), "{shown:?} in {width}");
                prop_assert!(column <= length);
            }
        }

        #[test]
        fn it_is_never_longer_than_a_command_line(text in ".{0,3000}") {
            let mut line = Line::default();
            text.chars().for_each(|c| line.press(Key::Char(c)));
            prop_assert!(line.text().chars().count() <= MOST);
        }
    }
}
