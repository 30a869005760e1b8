//! Bytes of a terminal → keys. Pure.
//!
//! Given what a console sent; responsible for telling a key from noise. The escape sequences are those of ECMA-48 as VT100,
//! xterm and the Linux console send them.

use vte::{Params, Parser, Perform};

use super::Millis;

/// Something that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character, printable.
    Char(char),
    /// With the control key; the letter is lower case.
    Control(char),
    Enter,
    Tab,
    Backspace,
    Delete,
    Escape,
    Up,
    Down,
    Left,
    Right,
    Home,
    End,
    PageUp,
    PageDown,
    WordLeft,
    WordRight,
    /// What follows is pasted, up to [`PasteEnd`](Self::PasteEnd).
    PasteBegin,
    PasteEnd,
    /// The terminal says where its cursor is: row and column, from 1.
    Cursor(u16, u16),
    /// One that does nothing here: a function key, a letter with Alt.
    Other,
    /// What Cato sends, and no terminal: the line comes back.
    Echo,
    /// NULs, a BREAK, bytes that are no UTF-8: what a line makes by itself, though some keyboards have it, too.
    Noise,
}

/// So long after an ESC with nothing behind it, it was the key of that name, ms. A sequence takes 3 ms at 9600 baud, but
/// may come in two packets of a network.
pub(crate) const ALONE: Millis = 100;

/// So long after the last byte of a sequence that has not ended, nothing more of it comes, ms: a network's retransmission may.
const CUT: Millis = 1000;

const ESC: u8 = 0x1b;

/// Takes bytes as they come.
#[derive(Default)]
pub(crate) struct Decoder {
    /// It keeps at most a few bytes of a sequence.
    parser: Parser<16>,
    /// ESC O came, whose letter is the key.
    is_shifted: bool,
    /// So many characters belong to a sequence that ended too early.
    rest: u8,
    /// The last byte.
    before: u8,
    /// Two ESC came: the first was a key, if an answer follows, and Alt, if a key does.
    is_double: bool,
    /// When the last byte came, until that was long ago.
    last: Option<Millis>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder")
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// What these bytes mean.
    pub(crate) fn feed(&mut self, now: Millis, bytes: &[u8]) -> Vec<Key> {
        let mut keys: Vec<Key> = self.idle(now).into_iter().collect();
        if bytes.is_empty() {
            return keys;
        }
        let mut press = Press {
            keys: &mut keys,
            is_shifted: &mut self.is_shifted,
            rest: &mut self.rest,
            is_after_return: false,
        };
        for byte in bytes {
            let count = press.keys.len();
            let before = std::mem::replace(&mut self.before, *byte);
            // Two keys, and not a sequence with a key in it.
            if before == ESC && *byte < ESC {
                press.keys.push(Key::Escape);
                self.parser = Parser::default();
            }
            self.is_double |= (before, *byte) == (ESC, ESC);
            press.is_after_return = before == b'\r';
            self.parser.advance(&mut press, &[*byte]);
            if press.keys.len() > count && std::mem::take(&mut self.is_double) {
                let is_answer = matches!(press.keys.last(), Some(Key::Cursor(..)));
                press.keys.splice(count..count, is_answer.then_some(Key::Escape));
            }
        }
        self.last = Some(now);
        keys
    }

    /// The key that an ESC was, once nothing has followed it for [`ALONE`]; what else has begun and not ended is dropped after [`CUT`].
    pub(crate) fn idle(&mut self, now: Millis) -> Option<Key> {
        self.wake().filter(|at| now >= *at)?;
        let key = (self.before == ESC).then_some(Key::Escape);
        *self = Self::default();
        key
    }

    /// When [`idle`](Self::idle) is to be asked.
    pub(crate) fn wake(&self) -> Option<Millis> {
        let pause = if self.before == ESC { ALONE } else { CUT };
        self.last.map(|last| last.saturating_add(pause))
    }
}

struct Press<'k> {
    keys: &'k mut Vec<Key>,
    is_shifted: &'k mut bool,
    rest: &'k mut u8,
    /// A LF is no second key then, nor is a NUL (telnet's, RFC 854).
    is_after_return: bool,
}

/// `ESC [ letter` and `ESC O letter`.
fn named(letter: char) -> Key {
    match letter {
        'A' => Key::Up,
        'B' => Key::Down,
        'C' => Key::Right,
        'D' => Key::Left,
        'H' => Key::Home,
        'F' => Key::End,
        _ => Key::Other,
    }
}

/// `ESC [ number ~`.
fn numbered(number: u16) -> Key {
    match number {
        1 | 7 => Key::Home,
        3 => Key::Delete,
        4 | 8 => Key::End,
        5 => Key::PageUp,
        6 => Key::PageDown,
        200 => Key::PasteBegin,
        201 => Key::PasteEnd,
        _ => Key::Other,
    }
}

impl Perform for Press<'_> {
    fn print(&mut self, c: char) {
        if let Some(rest) = self.rest.checked_sub(1) {
            *self.rest = rest;
            return;
        }
        let key = match c {
            // Enter of the keypad.
            c if std::mem::take(self.is_shifted) => match c {
                'M' => Key::Enter,
                c => named(c),
            },
            '\u{7f}' => Key::Backspace,
            // vte takes one for a character that comes in two pieces.
            c if c.is_control() || c == char::REPLACEMENT_CHARACTER => Key::Noise,
            c => Key::Char(c),
        };
        self.keys.push(key);
    }

    fn execute(&mut self, byte: u8) {
        if matches!(byte, b'\n' | 0) && self.is_after_return {
            return;
        }
        let key = match byte {
            b'\r' | b'\n' => Key::Enter,
            b'\t' => Key::Tab,
            8 => Key::Backspace,
            1..=26 => Key::Control(char::from(byte | 0x60)),
            28..=31 => Key::Other,
            _ => Key::Noise,
        };
        self.keys.push(key);
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], is_cut: bool, action: char) {
        let mut numbers = params.iter().map(|param| param.first().copied().unwrap_or(0));
        let (first, second) = (numbers.next().unwrap_or(0), numbers.next());
        let key = match (action, second) {
            ('h' | 'l', _) if intermediates == b"?" => Key::Echo,
            _ if is_cut || !intermediates.is_empty() => Key::Other,
            ('R', Some(column)) => Key::Cursor(first, column),
            ('~', _) => numbered(first),
            ('n', _) => Key::Echo,
            // End of a VT100 as edk2 has it.
            ('K', None) => Key::End,
            // With a second number, a key has 1 for the first, and for that the keys held with it.
            ('H', Some(column)) if first != 1 || column == 1 => Key::Echo,
            // F1 to F5 of the Linux console, and a mouse (xterm's mode 9, 1000).
            ('[' | 'M', None) => {
                *self.rest = if action == 'M' { 3 } else { 1 };
                Key::Other
            }
            ('C', Some(3 | 5)) => Key::WordRight,
            ('D', Some(3 | 5)) => Key::WordLeft,
            (letter, _) => named(letter),
        };
        self.keys.push(key);
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _is_cut: bool, byte: u8) {
        match byte {
            b'O' if intermediates.is_empty() => *self.is_shifted = true,
            b'b' => self.keys.push(Key::WordLeft),
            b'f' => self.keys.push(Key::WordRight),
            _ => self.keys.push(Key::Other),
        }
    }

    fn osc_dispatch(&mut self, _params: &[&[u8]], _is_bell: bool) {
        self.keys.push(Key::Other);
    }

    fn unhook(&mut self) {
        self.keys.push(Key::Other);
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        Decoder::default().feed(0, bytes)
    }

    #[test]
    fn keys_of_common_terminals_are_known() {
        for (bytes, key) in [
            ("\u{1b}[A", Key::Up),
            ("\u{1b}OA", Key::Up),
            ("\u{1b}[1~", Key::Home),
            ("\u{1b}[H", Key::Home),
            ("\u{1b}OF", Key::End),
            ("\u{1b}[3~", Key::Delete),
            ("\u{1b}[1;5C", Key::WordRight),
            ("\u{1b}b", Key::WordLeft),
            ("\u{1b}[200~", Key::PasteBegin),
            ("\u{1b}[24;80R", Key::Cursor(24, 80)),
            ("\r", Key::Enter),
            ("\u{7f}", Key::Backspace),
            ("\u{8}", Key::Backspace),
            ("\u{1}", Key::Control('a')),
            ("\u{e9}", Key::Char('\u{e9}')),
            ("\0", Key::Noise),
            ("\u{1b}[?1;2c", Key::Other),
            ("\u{1b}OM", Key::Enter),
            ("\u{1b}[7m", Key::Other),
            ("\u{1b}[?2004h", Key::Echo),
            ("\u{1b}[6n", Key::Echo),
            ("\u{1b}[24;1H", Key::Echo),
            ("\u{1b}[1;1H", Key::Echo),
            ("\u{1b}[1;5H", Key::Home),
            // F1 of the Linux console, a mouse.
            ("\u{1b}[[A", Key::Other),
            ("\u{1b}[M r!", Key::Other),
            // Alt-8, F1, F5, Insert.
            ("\u{1b}8", Key::Other),
            ("\u{1b}OP", Key::Other),
            ("\u{1b}[15~", Key::Other),
            ("\u{1b}[2~", Key::Other),
        ] {
            assert_eq!(keys(bytes.as_bytes()), [key], "{bytes:?}");
        }
        assert_eq!(keys(b"\xff"), [Key::Noise]);
        assert_eq!(keys(b"\r\n\n"), [Key::Enter, Key::Enter]);
        assert_eq!(keys(b"\r\0\0"), [Key::Enter, Key::Noise]);
    }

    #[test]
    fn a_sequence_may_come_in_pieces_and_an_escape_is_one_when_nothing_follows() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.feed(0, b"\x1b"), []);
        assert_eq!(decoder.feed(50, b"[A"), [Key::Up]);
        assert_eq!(decoder.feed(60, b"\x1b"), []);
        assert_eq!(decoder.wake(), Some(160));
        assert_eq!(decoder.idle(159), None);
        assert_eq!(decoder.idle(160), Some(Key::Escape));
        assert_eq!((decoder.idle(300), decoder.wake()), (None, None));
        // A string that nobody ends does not swallow what is typed later.
        assert_eq!(decoder.feed(400, b"\x1bPx"), []);
        assert_eq!(decoder.feed(1400, b"1"), [Key::Char('1')]);
        // What has begun may go on later than an Escape would.
        assert_eq!(decoder.feed(3000, b"\x1b["), []);
        assert_eq!(decoder.feed(3300, b"24;80R"), [Key::Cursor(24, 80)]);
        assert_eq!(decoder.feed(5000, b"\x1b\r"), [Key::Escape, Key::Enter]);
        // An answer of the terminal comes right behind it; a key there is one with Alt.
        assert_eq!(decoder.feed(6000, b"\x1b"), []);
        assert_eq!(decoder.feed(6050, b"\x1b[24;80R"), [Key::Escape, Key::Cursor(24, 80)]);
        assert_eq!(decoder.feed(7000, b"\x1b\x1b[A"), [Key::Up]);
        assert_eq!(decoder.feed(8000, b"\x1b\x1b"), []);
        assert_eq!(decoder.idle(8100), Some(Key::Escape));
        assert_eq!(decoder.feed(9000, b"\x1b[24;80R"), [Key::Cursor(24, 80)]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_keys_or_noise(pieces: Vec<Vec<u8>>) {
            let mut decoder = Decoder::default();
            for (now, piece) in (0..).zip(&pieces) {
                let keys = decoder.feed(now, piece);
                prop_assert!(keys.len() <= piece.len() + 4);
                prop_assert!(keys.iter().all(|key| !matches!(key, Key::Char(c) if c.is_control())));
            }
        }
    }
}
