//! Bytes → the digests the purgatory will want of them, chunk by chunk, while they stream by.

use std::fmt;

use config::Check;
use purgatory::params::CHUNK;
use sha2::Digest as _;
use xxhash_rust::xxh3::Xxh3;

use crate::place::purgatory::kind;

/// Digests of a region whose bytes come in order. The crates find the CPU's instructions.
#[derive(Debug, Clone)]
pub struct Chunks {
    state: State,
    /// Bytes the chunk at work still takes.
    room: usize,
    digests: Vec<u8>,
}

#[derive(Clone)]
enum State {
    Off,
    Fast(Box<Xxh3>),
    Sha256(sha2::Sha256),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::Fast(_) => "Fast",
            Self::Sha256(_) => "Sha256",
        })
    }
}

/// [`CHUNK`].
fn full() -> usize {
    usize::try_from(CHUNK).unwrap_or(usize::MAX)
}

impl Chunks {
    /// For a region that starts with the next byte.
    pub fn new(check: Check) -> Self {
        let state = match check {
            Check::Off => State::Off,
            Check::Fast => State::Fast(Box::new(Xxh3::new())),
            Check::Sha256 => State::Sha256(sha2::Sha256::new()),
        };
        Self {
            state,
            room: full(),
            digests: Vec::new(),
        }
    }

    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(self.room));
            match &mut self.state {
                State::Off => return,
                State::Fast(hasher) => hasher.update(now),
                State::Sha256(hasher) => hasher.update(now),
            }
            self.room = self.room.saturating_sub(now.len());
            if self.room == 0 {
                self.end_of_chunk();
            }
            bytes = rest;
        }
    }

    /// The digests of all chunks, one behind the other.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if self.room != full() {
            self.end_of_chunk();
        }
        self.digests
    }

    fn end_of_chunk(&mut self) {
        match &mut self.state {
            State::Off => {}
            State::Fast(hasher) => {
                self.digests.extend_from_slice(&hasher.digest().to_le_bytes());
                hasher.reset();
            }
            State::Sha256(hasher) => self.digests.extend_from_slice(&hasher.finalize_reset()),
        }
        self.room = full();
    }
}

/// The digests of a region that is all there.
#[must_use]
pub fn of(check: Check, bytes: &[u8]) -> Vec<u8> {
    let one = kind(check).digest_len();
    let mut digests = Vec::with_capacity(bytes.len().div_ceil(full()).saturating_mul(one));
    for chunk in bytes.chunks(full()) {
        match check {
            Check::Off => {}
            Check::Fast => digests.extend_from_slice(&xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes()),
            Check::Sha256 => digests.extend_from_slice(&sha2::Sha256::digest(chunk)),
        }
    }
    digests
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CHECKS: [Check; 3] = [Check::Off, Check::Fast, Check::Sha256];

    fn data(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| (u32::try_from(i).unwrap().wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
            .collect()
    }

    #[test]
    fn a_chunk_has_its_published_digest() {
        let sha = of(Check::Sha256, b"abc");
        assert_eq!(sha[..4], [0xba, 0x78, 0x16, 0xbf]);
        // xxHash's own test program: XXH3_64bits of one byte of its buffer, seed 0.
        assert_eq!(of(Check::Fast, &[0x00]), 0xc44b_dff4_074e_ecdb_u64.to_le_bytes());
    }

    #[test]
    fn lengths_around_a_chunk() {
        for check in CHECKS {
            let one = kind(check).digest_len();
            for len in [0, 1, full() - 1, full(), full() + 1, 2 * full(), 2 * full() + 1] {
                let bytes = data(len);
                let whole = of(check, &bytes);
                assert_eq!(whole.len(), len.div_ceil(full()) * one);
                let mut chunks = Chunks::new(check);
                chunks.update(&bytes);
                assert_eq!(chunks.finish(), whole, "{check:?} {len}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn it_does_not_matter_how_they_come(pieces in prop::collection::vec(0_usize..300_000, 0..8)) {
            let bytes = data(pieces.iter().sum());
            for check in CHECKS {
                let mut chunks = Chunks::new(check);
                let mut rest = &bytes[..];
                for piece in &pieces {
                    let (now, later) = rest.split_at(*piece);
                    chunks.update(now);
                    rest = later;
                }
                prop_assert_eq!(chunks.finish(), of(check, &bytes));
            }
        }
    }
}
