//! Bytes → the digests the purgatory will want of them, chunk by chunk, as they come: by the purgatory's own code, while they are
//! in the cache.

use config::Check;
use purgatory::cpu::Cpu;
use purgatory::params::CHUNK;
use purgatory::sha256::{sha256, sha256_pair};
use purgatory::xxh3::xxh3;

/// Digests of a region that fills from its start.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    check: Check,
    cpu: Cpu,
    /// Bytes whose digests are made: whole chunks.
    done: usize,
    digests: Vec<u8>,
}

/// [`CHUNK`].
fn full() -> usize {
    usize::try_from(CHUNK).unwrap_or(usize::MAX)
}

impl Chunks {
    /// For a region that is empty so far.
    pub(crate) fn new(check: Check) -> Self {
        Self {
            check,
            cpu: Cpu::detect(),
            done: 0,
            digests: Vec::new(),
        }
    }

    /// Makes the digests of the chunks that are whole by now; `region` is all of it so far.
    pub(crate) fn catch_up(&mut self, region: &[u8]) {
        // SHA-256 takes two chunks at a time.
        let step = match self.check {
            Check::Off => return,
            Check::Fast => full(),
            Check::Sha256 => full().saturating_mul(2),
        };
        while let Some(chunks) = region.get(self.done..self.done.saturating_add(step)) {
            self.add(chunks);
            self.done = self.done.saturating_add(step);
        }
    }

    /// The digests of all chunks of `region`, one behind the other.
    #[must_use]
    pub(crate) fn finish(mut self, region: &[u8]) -> Vec<u8> {
        self.catch_up(region);
        let rest = region.get(self.done..).unwrap_or_default();
        for chunk in rest.chunks(full()) {
            self.add(chunk);
        }
        self.digests
    }

    /// One chunk, or two whole ones.
    fn add(&mut self, chunks: &[u8]) {
        match (self.check, chunks.split_at_checked(full())) {
            (Check::Off, _) => {}
            (Check::Fast, _) => self.digests.extend(xxh3(&self.cpu, chunks).to_le_bytes()),
            (Check::Sha256, Some((first, second))) if !second.is_empty() => {
                self.digests
                    .extend(sha256_pair(&self.cpu, [first, second]).as_flattened());
            }
            (Check::Sha256, _) => self.digests.extend(sha256(&self.cpu, chunks)),
        }
    }
}

/// The digests of a region that is all there.
#[must_use]
pub(crate) fn of(check: Check, region: &[u8]) -> Vec<u8> {
    Chunks::new(check).finish(region)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest as _;

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
    fn lengths_around_a_chunk_are_the_crate_s_chunk_by_chunk() {
        for len in [
            0,
            1,
            full() - 1,
            full(),
            full() + 1,
            2 * full(),
            2 * full() + 1,
            3 * full(),
            5 * full() + 7,
        ] {
            let bytes = data(len);
            let want: Vec<u8> = bytes.chunks(full()).flat_map(sha2::Sha256::digest).collect();
            assert_eq!(of(Check::Sha256, &bytes), want, "{len}");
            assert_eq!(
                of(Check::Fast, &bytes).len(),
                len.div_ceil(full()) * Check::Fast.digest_len()
            );
            assert!(of(Check::Off, &bytes).is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn a_region_that_fills_step_by_step_has_the_same(
            len in 0_usize..1_600_000, steps in proptest::collection::vec(1_usize..400_000, 1..20),
        ) {
            let bytes = data(len);
            for check in CHECKS {
                let mut chunks = Chunks::new(check);
                let mut filled = 0;
                for step in &steps {
                    filled = (filled + step).min(len);
                    chunks.catch_up(&bytes[..filled]);
                }
                prop_assert_eq!(chunks.finish(&bytes), of(check, &bytes));
            }
        }
    }
}
