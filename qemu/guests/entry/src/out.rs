//! Given values, prints `entry: key=value` lines byte by byte.
//!
//! Responsible for needing no address fixed up at load time: `core::fmt` works through tables of pointers, and a guest that
//! relocates itself could no longer tell whether it arrived unchanged.

use crate::memory::Memory;

/// What every line starts with.
pub const PREFIX: &str = "entry: ";

/// Where bytes go.
pub trait Sink {
    /// Takes one.
    fn byte(&mut self, byte: u8);
}

/// Prints on a [`Sink`].
#[derive(Debug)]
pub struct Out<S>(S);

impl<S: Sink> Out<S> {
    /// Prints on `sink`.
    pub fn new(sink: S) -> Self {
        Self(sink)
    }

    /// The sink with all that was printed.
    pub fn into_inner(self) -> S {
        self.0
    }

    /// Starts a line: `entry: KEY=`.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.text(PREFIX).text(key).text("=")
    }

    /// Ends a line.
    pub fn end(&mut self) {
        self.text("\r\n");
    }

    /// Prints text as it is.
    pub fn text(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            self.0.byte(byte);
        }
        self
    }

    /// Prints `0x1f`.
    pub fn hex(&mut self, value: u64) -> &mut Self {
        self.text("0x");
        let digits = u64::BITS.wrapping_sub(value.leading_zeros()).div_ceil(4).max(1);
        for digit in (0..digits).rev() {
            self.digit(value >> (digit.wrapping_mul(4) & 63));
        }
        self
    }

    /// A line with a number.
    pub fn number(&mut self, key: &str, value: u64) {
        self.key(key).hex(value).end();
    }

    /// A line with a word.
    pub fn word(&mut self, key: &str, word: &str) {
        self.key(key).text(word).end();
    }

    /// Prints memory: `"text"` when it is printable and ends in its only NUL, `hex:00ff…` else, at most `most` bytes of it.
    pub fn value(&mut self, memory: &impl Memory, at: u64, len: u64, most: u64) -> &mut Self {
        if is_text(memory, at, len) {
            return self.quoted(memory, at, len.saturating_sub(1));
        }
        self.bytes(memory, at, len.min(most));
        if len > most { self.text("...") } else { self }
    }

    /// Prints `hex:00ff…`.
    pub fn bytes(&mut self, memory: &impl Memory, at: u64, len: u64) -> &mut Self {
        self.text("hex:");
        for i in 0..len {
            let Some(byte) = memory.byte(at.wrapping_add(i)) else {
                return self.text("?");
            };
            self.digit(u64::from(byte >> 4));
            self.digit(u64::from(byte));
        }
        self
    }

    /// Prints `"text"`; what is not printable, a quote or a backslash as `\xNN`.
    pub fn quoted(&mut self, memory: &impl Memory, at: u64, len: u64) -> &mut Self {
        self.text("\"");
        for i in 0..len {
            match memory.byte(at.wrapping_add(i)) {
                None => break,
                Some(byte @ (b'"' | b'\\' | 0..=0x1f | 0x7f..)) => {
                    self.text("\\x");
                    self.digit(u64::from(byte >> 4));
                    self.digit(u64::from(byte));
                }
                Some(byte) => self.0.byte(byte),
            }
        }
        self.text("\"")
    }

    /// Prints the name that starts at `at`: up to NUL, 64 bytes at most.
    pub fn name(&mut self, memory: &impl Memory, at: u64) -> &mut Self {
        for i in 0..64 {
            match memory.byte(at.wrapping_add(i)) {
                Some(byte @ b'!'..=b'~') => self.0.byte(byte),
                _ => break,
            }
        }
        self
    }

    fn digit(&mut self, value: u64) {
        let nibble = value.to_le_bytes()[0] & 0xf;
        self.0
            .byte(nibble.wrapping_add(if nibble < 10 { b'0' } else { b'a' - 10 }));
    }
}

fn is_text(memory: &impl Memory, at: u64, len: u64) -> bool {
    let Some(last) = len.checked_sub(1) else { return false };
    let printable = |i| matches!(memory.byte(at.wrapping_add(i)), Some(b' '..=b'~'));
    memory.byte(at.wrapping_add(last)) == Some(0) && last > 0 && (0..last).all(printable)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::memory::tests::Ram;

    impl Sink for Vec<u8> {
        fn byte(&mut self, byte: u8) {
            self.push(byte);
        }
    }

    pub(crate) fn printed(print: impl FnOnce(&mut Out<Vec<u8>>)) -> String {
        let mut out = Out::new(Vec::new());
        print(&mut out);
        String::from_utf8(out.into_inner()).unwrap()
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 0xf, 0x10, 0x4008_0000, u64::MAX] {
            assert_eq!(printed(|o| o.number("k", value)), format!("entry: k={value:#x}\r\n"));
        }
    }

    #[test]
    fn text_is_quoted_and_the_rest_is_hex() {
        let cases: [(&[u8], &str); 6] = [
            (b"root=a ro\0", "\"root=a ro\""),
            (b"say \"x\"\\\0", "\"say \\x22x\\x22\\x5c\""),
            (b"\0", "hex:00"),
            (b"", "hex:"),
            (&[1, 2, 0xab], "hex:0102ab"),
            (b"two\0strings\0", "hex:74776f007374..."),
        ];
        for (bytes, want) in cases {
            let ram = Ram::new(0x1003, bytes);
            let got = printed(|o| {
                o.value(&ram, 0x1003, bytes.len() as u64, 6);
            });
            assert_eq!(got, want);
        }
    }
}
