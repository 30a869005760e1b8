//! Given something that reads aligned 64-bit words, reads everything else: with the MMU off all memory is Device memory on arm64, where an
//! unaligned access faults.

/// Physical memory.
pub trait Memory {
    /// The word at `at`, a multiple of 8; `None` where there is no memory to read.
    fn word(&self, at: u64) -> Option<u64>;

    /// One byte.
    fn byte(&self, at: u64) -> Option<u8> {
        let shift = (at & 7).wrapping_mul(8) & 63;
        Some((self.word(at & !7)? >> shift).to_le_bytes()[0])
    }

    /// Eight bytes at any address, the first one lowest.
    fn le64(&self, at: u64) -> Option<u64> {
        let shift = (at & 7).wrapping_mul(8) & 63;
        let low = self.word(at & !7)? >> shift;
        if shift == 0 {
            return Some(low);
        }
        let high = self.word((at & !7).wrapping_add(8))?;
        Some(low | high << (64_u64.wrapping_sub(shift) & 63))
    }

    /// Four bytes at any address, the first one lowest.
    fn le32(&self, at: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        for (i, byte) in (0_u64..).zip(&mut bytes) {
            *byte = self.byte(at.wrapping_add(i))?;
        }
        Some(u32::from_le_bytes(bytes))
    }

    /// Four bytes at any address, the first one highest.
    fn be32(&self, at: u64) -> Option<u32> {
        self.le32(at).map(u32::swap_bytes)
    }

    /// Eight bytes at any address, the first one highest.
    fn be64(&self, at: u64) -> Option<u64> {
        self.le64(at).map(u64::swap_bytes)
    }

    /// Length of the string at `at` without its NUL; `None` if there is no NUL within `most` bytes.
    fn strlen(&self, at: u64, most: u64) -> Option<u64> {
        (0..most).find(|i| self.byte(at.wrapping_add(*i)) == Some(0))
    }

    /// [`sum_of`] the bytes at `[at, at + len)`.
    fn sum(&self, at: u64, len: u64) -> Option<u64> {
        let mut sum = Sum::new();
        self.add_to(&mut sum, at, len)?;
        Some(sum.finish())
    }

    /// Adds the bytes at `[at, at + len)` to a sum.
    fn add_to(&self, sum: &mut Sum, at: u64, len: u64) -> Option<()> {
        let whole = len & !7;
        let mut offset = 0;
        while offset < whole {
            sum.word(self.le64(at.wrapping_add(offset))?);
            offset = offset.wrapping_add(8);
        }
        if len > whole {
            let mut bytes = [0; 8];
            for (i, byte) in (whole..len).zip(&mut bytes) {
                *byte = self.byte(at.wrapping_add(i))?;
            }
            sum.word(u64::from_le_bytes(bytes));
        }
        sum.count(len);
        Some(())
    }
}

/// A checksum of words: any change of one word changes it. No defence against intent, and quick on one word at a time.
#[derive(Debug, Clone, Copy)]
pub struct Sum {
    state: u64,
    len: u64,
}

impl Sum {
    /// Of nothing.
    #[expect(clippy::new_without_default, reason = "a sum is begun, not defaulted")]
    pub fn new() -> Self {
        Self {
            state: 0x6361_746f,
            len: 0,
        }
    }

    /// Takes the next eight bytes, the first one lowest.
    pub fn word(&mut self, word: u64) {
        // Each step is a bijection of the state for a given word, and of the word for a given state.
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    /// Takes note that the words taken were `len` bytes, padded with zeros.
    pub fn count(&mut self, len: u64) {
        self.len = self.len.wrapping_add(len);
    }

    /// The checksum.
    pub fn finish(mut self) -> u64 {
        self.word(self.len);
        self.state ^ self.state >> 32
    }
}

/// The checksum of some bytes.
pub fn sum_of(bytes: &[u8]) -> u64 {
    let mut sum = Sum::new();
    add_bytes(&mut sum, bytes);
    sum.finish()
}

/// Adds bytes to a sum; only the last piece may have a length that is no multiple of 8.
pub fn add_bytes(sum: &mut Sum, bytes: &[u8]) {
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(chunk) {
            *to = *from;
        }
        sum.word(u64::from_le_bytes(word));
        sum.count(chunk.len() as u64);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some bytes at some address; around them, up to the word's end, 0xa5.
    #[derive(Debug, Default)]
    pub(crate) struct Ram {
        words: std::collections::BTreeMap<u64, u64>,
    }

    impl Ram {
        pub(crate) fn new(at: u64, bytes: &[u8]) -> Self {
            let mut ram = Self::default();
            ram.put(at, bytes);
            ram
        }

        pub(crate) fn put(&mut self, at: u64, bytes: &[u8]) {
            for (i, byte) in (at..).zip(bytes) {
                let word = self.words.entry(i & !7).or_insert(0xa5a5_a5a5_a5a5_a5a5);
                let mut parts = word.to_le_bytes();
                parts[(i & 7) as usize] = *byte;
                *word = u64::from_le_bytes(parts);
            }
        }
    }

    impl Memory for Ram {
        fn word(&self, at: u64) -> Option<u64> {
            assert_eq!(at % 8, 0, "unaligned");
            self.words.get(&at).copied()
        }
    }

    proptest! {
        #[test]
        fn any_address_reads_what_was_put_there(at in 0x1000_u64..0x1010, bytes: [u8; 16], from in 0_usize..8) {
            let ram = Ram::new(at, &bytes);
            let here = at + from as u64;
            let eight: [u8; 8] = bytes[from..from + 8].try_into().unwrap();
            let four: [u8; 4] = bytes[from..from + 4].try_into().unwrap();
            prop_assert_eq!(ram.byte(here), Some(bytes[from]));
            prop_assert_eq!(ram.le64(here), Some(u64::from_le_bytes(eight)));
            prop_assert_eq!(ram.be64(here), Some(u64::from_be_bytes(eight)));
            prop_assert_eq!(ram.le32(here), Some(u32::from_le_bytes(four)));
            prop_assert_eq!(ram.be32(here), Some(u32::from_be_bytes(four)));
        }

        #[test]
        fn both_sums_agree_wherever_the_bytes_lie(at in 0x1000_u64..0x1008, bytes in prop::collection::vec(any::<u8>(), 0..50)) {
            prop_assert_eq!(Ram::new(at, &bytes).sum(at, bytes.len() as u64), Some(sum_of(&bytes)));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_lost_byte_changes_the_sum() {
        let bytes: Vec<u8> = (0..61).map(|i: u8| i.wrapping_mul(37)).collect();
        let sum = sum_of(&bytes);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(sum_of(&bad), sum, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_ne!(sum_of(&bytes[..len]), sum, "length {len}");
        }
        assert_ne!(sum_of(&[0; 8]), sum_of(&[0; 16]));
        assert_ne!(sum_of(&[0; 3]), sum_of(&[0; 4]));
    }

    #[test]
    fn memory_that_is_not_there_is_none() {
        let ram = Ram::new(0x1000, &[1; 8]);
        assert_eq!(ram.sum(0x1000, 9), None);
        assert_eq!(ram.le64(0x1001), None);
        assert_eq!(ram.strlen(0x1000, 100), None);
        assert_eq!(Ram::new(0x1002, b"abc\0d").strlen(0x1002, 4), Some(3));
    }
}
