//! Why the purgatory reset the machine, where the next boot finds it: text in memory that survives, or one CMOS byte.

use core::fmt;

use crate::params::{REASON_TEXT as TEXT, ReasonParams, ReasonPlace};
use crate::uart::Bus;

/// First of all in memory: "CatoWhy1".
pub const MAGIC: [u8; 8] = *b"CatoWhy1";
/// As it is written.
const MAGIC_WORDS: [u32; 2] = [u32::from_le_bytes(*b"Cato"), u32::from_le_bytes(*b"Why1")];
/// Bytes that are written at most, and that must be there: the head and the longest text.
pub const SIZE: u64 = 128;
const _: () = assert!(HEAD + TEXT == 128, "head and text fill it");
/// Magic 8, length of the text 4, CRC-32 of the text 4.
const HEAD: usize = 16;

/// What went wrong, in three bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonKind {
    /// A segment does not have its digest.
    Segment,
    /// The digest table does not.
    Table,
    /// The parameter block does not.
    Block,
    /// An exception.
    Fault,
    /// A mistake in the purgatory itself.
    Panic,
}

impl ReasonKind {
    const fn number(self) -> u8 {
        match self {
            Self::Segment => 1,
            Self::Table => 2,
            Self::Block => 3,
            Self::Fault => 4,
            Self::Panic => 5,
        }
    }
}

/// The CMOS byte: bit 7 set, bits 6 to 3 which region (15: the 15th or a later one), bits 2 to 0 the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// What went wrong.
    pub kind: ReasonKind,
    /// The number of the region, from 0; counts only with [`ReasonKind::Segment`].
    pub region: u8,
}

impl Code {
    /// As a byte.
    pub const fn encode(self) -> u8 {
        let region = if self.region < 15 { self.region } else { 15 };
        0x80 | region << 3 | self.kind.number()
    }

    /// From a byte; none where that is no reason: what a CMOS that lost its power or a firmware leaves there.
    pub const fn decode(byte: u8) -> Option<Self> {
        let kind = match byte & 7 {
            1 => ReasonKind::Segment,
            2 => ReasonKind::Table,
            3 => ReasonKind::Block,
            4 => ReasonKind::Fault,
            5 => ReasonKind::Panic,
            _ => return None,
        };
        let region = byte >> 3 & 15;
        if byte & 0x80 == 0 || (region != 0 && !matches!(kind, ReasonKind::Segment)) {
            return None;
        }
        Some(Self { kind, region })
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ReasonKind::Segment => write!(f, "segment {}: mismatch", self.region),
            ReasonKind::Table => f.write_str("digest table: mismatch"),
            ReasonKind::Block => f.write_str("parameter block: mismatch"),
            ReasonKind::Fault => f.write_str("fault"),
            ReasonKind::Panic => f.write_str("panic"),
        }
    }
}

/// CRC-32 as in IEEE 802.3 (reflected, polynomial 0x04c11db7).
fn crc32(bytes: impl Iterator<Item = u8>) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

/// Leaves the reason where `place` says, with aligned 32-bit stores only: the page is mapped as a device. The magic comes
/// last, so that half a reason is none.
pub fn leave<B: Bus>(bus: &B, place: &ReasonParams, code: Code, text: &[u8]) {
    match ReasonPlace::from_code(place.kind) {
        ReasonPlace::None => {}
        ReasonPlace::Memory => {
            if !place.place.is_multiple_of(4) || place.place == 0 {
                return;
            }
            let at = |offset: u64| place.place.wrapping_add(offset);
            let text = text.get(..TEXT).unwrap_or(text);
            bus.write32(at(0), 0);
            let mut offset = 16_u64;
            for bytes in text.chunks(4) {
                let mut word = [0; 4];
                for (to, from) in word.iter_mut().zip(bytes) {
                    *to = *from;
                }
                bus.write32(at(offset), u32::from_le_bytes(word));
                offset = offset.wrapping_add(4);
            }
            bus.write32(at(8), u32::try_from(text.len()).unwrap_or(0));
            bus.write32(at(12), crc32(text.iter().copied()));
            let [first, second] = MAGIC_WORDS;
            bus.write32(at(4), second);
            bus.write32(at(0), first);
            // It has arrived when it can be read.
            bus.read32(at(0));
        }
        ReasonPlace::Cmos => {
            // What boot.toml may name: below is the clock and what all firmware keeps there, and the place may come from a
            // damaged block. The index port's eighth bit would turn the NMI off.
            if let Ok(index @ 0x30..=0x7f) = u8::try_from(place.place) {
                bus.port_write(0x70, index);
                bus.port_write(0x71, code.encode());
            }
        }
    }
}

/// The text in memory, given its first [`SIZE`] bytes or more; none where there is none.
pub fn decode(memory: &[u8]) -> Option<&str> {
    let (head, rest) = memory.split_at_checked(HEAD)?;
    let (magic, lengths) = head.split_first_chunk::<8>()?;
    let ([len, crc], _) = lengths.as_chunks::<4>() else {
        return None;
    };
    if *magic != MAGIC {
        return None;
    }
    let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|l| *l <= TEXT)?;
    let text = rest.get(..len)?;
    let good = crc32(text.iter().copied()) == u32::from_le_bytes(*crc) && text.iter().all(|b| matches!(b, b' '..=b'~'));
    core::str::from_utf8(text).ok().filter(|_| good)
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;

    const AT: u64 = 0x5f00_0100;
    const WORDS: &str = "segment \"initrd\" chunk 17 at 0x7bf74000: xxh3 mismatch (want 3fa9.., got 77c0..); resetting";

    /// Memory at [`AT`] that takes aligned words only, and a CMOS.
    struct Board {
        memory: RefCell<Vec<u8>>,
        ports: RefCell<Vec<(u16, u8)>>,
        /// Writes it still takes.
        power: RefCell<usize>,
    }

    impl Board {
        fn new() -> Self {
            Self {
                memory: RefCell::new(vec![0xa5; 512]),
                ports: RefCell::default(),
                power: RefCell::new(usize::MAX),
            }
        }

        fn leave(&self, kind: ReasonPlace, place: u64, code: Code, text: &[u8]) {
            let place = ReasonParams {
                kind: kind.code(),
                reserved: 0,
                place,
            };
            leave(self, &place, code, text);
        }
    }

    impl Bus for Board {
        fn port_read(&self, port: u16) -> u8 {
            panic!("{port:#x}")
        }
        fn port_write(&self, port: u16, value: u8) {
            self.ports.borrow_mut().push((port, value));
        }
        fn read8(&self, address: u64) -> u8 {
            panic!("{address:#x}")
        }
        fn write8(&self, address: u64, _: u8) {
            panic!("{address:#x}")
        }
        fn read32(&self, address: u64) -> u32 {
            assert!(address.is_multiple_of(4));
            0
        }
        fn write32(&self, address: u64, value: u32) {
            assert!(
                address.is_multiple_of(4) && (AT..AT + SIZE).contains(&address),
                "{address:#x}"
            );
            let mut power = self.power.borrow_mut();
            if *power != 0 {
                *power -= 1;
                let at = usize::try_from(address - AT).unwrap();
                self.memory.borrow_mut()[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
        }
    }

    const SEGMENT: Code = Code {
        kind: ReasonKind::Segment,
        region: 2,
    };

    #[test]
    fn the_published_check_value() {
        assert_eq!(crc32(b"123456789".iter().copied()), 0xcbf4_3926);
    }

    #[test]
    fn what_is_left_in_memory_is_found_there() {
        for len in [0, 1, 2, 3, 4, 93, TEXT] {
            let board = Board::new();
            let text: Vec<u8> = WORDS.bytes().cycle().take(len).collect();
            board.leave(ReasonPlace::Memory, AT, SEGMENT, &text);
            assert_eq!(decode(&board.memory.borrow()).map(str::as_bytes), Some(&text[..]));
        }
        let board = Board::new();
        board.leave(ReasonPlace::Memory, AT, SEGMENT, &[b'x'; 1000]);
        assert_eq!(decode(&board.memory.borrow()).map(str::len), Some(TEXT));
        assert_eq!(board.memory.borrow()[128..], [0xa5; 384], "no byte more than announced");
    }

    #[test]
    fn the_layout() {
        let board = Board::new();
        board.leave(ReasonPlace::Memory, AT, SEGMENT, b"123456789");
        assert_eq!(
            board.memory.borrow()[..28],
            *b"CatoWhy1\x09\0\0\0\x26\x39\xf4\xcb123456789\0\0\0"
        );
    }

    #[test]
    fn half_a_reason_is_none() {
        let whole = Board::new();
        whole.leave(ReasonPlace::Memory, AT, SEGMENT, WORDS.as_bytes());
        let writes = usize::MAX - *whole.power.borrow();
        for power in 0..writes {
            let board = Board::new();
            // Another one was there before.
            board.leave(ReasonPlace::Memory, AT, SEGMENT, b"old");
            *board.power.borrow_mut() = power;
            board.leave(ReasonPlace::Memory, AT, SEGMENT, WORDS.as_bytes());
            let memory = board.memory.borrow();
            assert_eq!(decode(&memory), (power == 0).then_some("old"), "{power} of {writes}");
        }
    }

    #[test]
    fn places_that_can_not_be_are_left_alone() {
        let board = Board::new();
        for place in [0, AT + 1, AT + 2] {
            board.leave(ReasonPlace::Memory, place, SEGMENT, b"text");
        }
        board.leave(ReasonPlace::Cmos, 0x80, SEGMENT, b"text");
        board.leave(ReasonPlace::Cmos, 0x2f, SEGMENT, b"text");
        board.leave(ReasonPlace::Cmos, 0, SEGMENT, b"text");
        board.leave(ReasonPlace::Cmos, u64::MAX, SEGMENT, b"text");
        board.leave(ReasonPlace::None, AT, SEGMENT, b"text");
        assert!(board.ports.borrow().is_empty());
        assert_eq!(*board.memory.borrow(), [0xa5; 512]);
    }

    #[test]
    fn a_cmos_byte_is_written_where_the_config_says() {
        let board = Board::new();
        board.leave(ReasonPlace::Cmos, 0x7e, SEGMENT, b"text");
        assert_eq!(*board.ports.borrow(), [(0x70, 0x7e), (0x71, 0x91)]);
    }

    #[test]
    fn every_byte_is_one_code_or_none() {
        let mut codes = 0;
        for byte in 0..=u8::MAX {
            if let Some(code) = Code::decode(byte) {
                assert_eq!(code.encode(), byte);
                codes += 1;
            }
        }
        assert_eq!(codes, 16 + 4);
        for byte in [0, 0x7f, 0x80, 0xff] {
            assert_eq!(Code::decode(byte), None, "{byte:#x}");
        }
        assert_eq!(SEGMENT.to_string(), "segment 2: mismatch");
        let many = Code {
            kind: ReasonKind::Segment,
            region: 200,
        };
        assert_eq!(Code::decode(many.encode()).map(|c| c.region), Some(15));
    }

    proptest! {
        #[test]
        fn garbage_is_no_reason(mut memory in prop::collection::vec(any::<u8>(), 0..400), head in any::<bool>()) {
            if head && memory.len() >= 8 {
                memory[..8].copy_from_slice(&MAGIC);
            }
            // A text of no bytes with its checksum may come by chance, others hardly.
            let found = decode(&memory);
            prop_assert!(found.is_none_or(str::is_empty));
        }

        #[test]
        fn a_flipped_bit_or_a_lost_end_is_no_reason(bit in 0_usize..(16 + WORDS.len()) * 8, cut in 0..16 + WORDS.len()) {
            let board = Board::new();
            board.leave(ReasonPlace::Memory, AT, SEGMENT, WORDS.as_bytes());
            let mut memory = board.memory.borrow().clone();
            prop_assert_eq!(decode(&memory[..cut]), None);
            memory[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&memory), None);
        }
    }
}
