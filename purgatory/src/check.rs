//! Regions × digest table → [`Outcome`]: the whole decision of the purgatory, in safe code that also runs on the host.

use crate::params::{Check, MAGIC, Params, Region, VERSION};
use crate::sha256::{Blocks, sha256, sha256_pair};
use crate::xxh3::{Stripes, xxh3};

/// Access to physical memory.
pub trait Memory {
    /// The `len` bytes at `base`; none where they can't be a slice. Called once for each region that is checked: on arm64, that is
    /// where what caches have of it is dropped.
    fn bytes(&self, base: u64, len: u64) -> Option<&[u8]>;
}

/// A digest; a shorter one has zeros behind it.
pub type Digest = [u8; 32];

/// What the check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Everything is as it was loaded.
    Good {
        /// Bytes that were read for it.
        bytes: u64,
    },
    /// The parameter block is not what the stage wrote, so nothing it says counts.
    Block {
        /// Its digest as it should be.
        want: Digest,
        /// Its digest as it is.
        got: Digest,
    },
    /// The digest table is not what the stage wrote.
    Table {
        /// Its digest as it should be.
        want: Digest,
        /// Its digest as it is; equal to `want` where the table does not fit the regions.
        got: Digest,
    },
    /// A chunk changed between load and jump.
    Chunk {
        /// The number of its region.
        index: u32,
        /// The region.
        region: &'a Region,
        /// Its number in the region.
        chunk: u64,
        /// Its physical address.
        address: u64,
        /// Its digest as it should be.
        want: Digest,
        /// Its digest as it is; equal to `want` where its address makes no sense.
        got: Digest,
    },
}

/// XXH3-64 of `bytes`.
fn fast<E: Stripes>(engine: &E, bytes: &[u8]) -> Digest {
    padded(&xxh3(engine, bytes).to_le_bytes())
}

fn padded(digest: &[u8]) -> Digest {
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(digest) {
        *to = *from;
    }
    out
}

/// Equal, without a call of `memcmp`: that would go through a GOT on x86_64.
fn equal(a: &Digest, b: &Digest) -> bool {
    let words = |digest: &Digest| {
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    };
    words(a).iter().zip(words(b)).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Checks the parameter block, the digest table, then every chunk of every region in order; stops at the first that is
/// wrong.
pub fn check<'a, M: Memory, E: Blocks + Stripes>(params: &'a Params, memory: &M, engine: &E) -> Outcome<'a> {
    let got = sha256(engine, params.digested());
    let known = params.magic == MAGIC && params.version == VERSION;
    let kind = Check::from_code(params.check);
    let chunk = 1_usize.checked_shl(params.chunk_log2);
    let (true, Some(kind), Some(chunk)) = (equal(&got, &params.digest) && known, kind, chunk) else {
        return Outcome::Block {
            want: params.digest,
            got,
        };
    };
    let want = params.digests_digest;
    // An empty table need not be anywhere.
    let table = if params.digests_len == 0 {
        Some(&[][..])
    } else {
        memory.bytes(params.digests, params.digests_len)
    };
    let Some(table) = table else {
        return Outcome::Table { want, got: want };
    };
    let got = sha256(engine, table);
    if !equal(&got, &want) {
        return Outcome::Table { want, got };
    }
    let mut pass = Pass {
        kind,
        chunk,
        table,
        bytes: 0,
    };
    if kind == Check::Off {
        return Outcome::Good { bytes: 0 };
    }
    for (index, region) in (0_u32..).zip(params.regions()) {
        if let Err(wrong) = pass.region(region, memory, engine) {
            return match wrong {
                Wrong::Table => Outcome::Table { want, got: want },
                Wrong::Chunk { number, want, got } => Outcome::Chunk {
                    index,
                    region,
                    chunk: number,
                    address: region.base.wrapping_add(number.wrapping_shl(params.chunk_log2)),
                    want,
                    got,
                },
            };
        }
    }
    if !pass.table.is_empty() {
        return Outcome::Table { want, got: want };
    }
    Outcome::Good { bytes: pass.bytes }
}

/// Where the check is.
struct Pass<'t> {
    kind: Check,
    /// Bytes of a full chunk.
    chunk: usize,
    /// The digests that are left.
    table: &'t [u8],
    /// Bytes read.
    bytes: u64,
}

/// What a region can have wrong.
enum Wrong {
    /// More chunks than digests.
    Table,
    /// A chunk.
    Chunk { number: u64, want: Digest, got: Digest },
}

impl Pass<'_> {
    fn region<M: Memory, E: Blocks + Stripes>(&mut self, region: &Region, memory: &M, engine: &E) -> Result<(), Wrong> {
        if region.len == 0 {
            return Ok(());
        }
        let Some(mut bytes) = memory.bytes(region.base, region.len) else {
            let want = self.next()?;
            return Err(Wrong::Chunk {
                number: 0,
                want,
                got: want,
            });
        };
        let mut number = 0_u64;
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at_checked(self.chunk).unwrap_or((bytes, &[]));
            let second = rest.get(..self.chunk).filter(|_| self.kind == Check::Sha256);
            let (first, second, rest) = match second {
                // Two at once, which the CPU's instructions take little longer for than for one.
                Some(second) => {
                    let [first, second] = sha256_pair(engine, [now, second]);
                    (first, Some(second), rest.get(self.chunk..).unwrap_or_default())
                }
                None if self.kind == Check::Sha256 => (sha256(engine, now), None, rest),
                None => (fast(engine, now), None, rest),
            };
            for got in core::iter::once(first).chain(second) {
                let want = self.next()?;
                if !equal(&got, &want) {
                    return Err(Wrong::Chunk { number, want, got });
                }
                number = number.wrapping_add(1);
            }
            bytes = rest;
        }
        self.bytes = self.bytes.saturating_add(region.len);
        Ok(())
    }

    /// The next digest of the table.
    fn next(&mut self) -> Result<Digest, Wrong> {
        let (digest, rest) = self
            .table
            .split_at_checked(self.kind.digest_len())
            .ok_or(Wrong::Table)?;
        self.table = rest;
        Ok(padded(digest))
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
pub(crate) mod tests {
    use super::*;
    use crate::params::{CHUNK, CHUNK_LOG2};
    use crate::sha256::Scalar;
    use proptest::prelude::*;
    use sha2::Digest as _;

    /// Memory that starts at an address.
    pub(crate) struct Ram {
        pub(crate) base: u64,
        pub(crate) bytes: Vec<u8>,
    }

    impl Memory for Ram {
        fn bytes(&self, base: u64, len: u64) -> Option<&[u8]> {
            let start = usize::try_from(base.checked_sub(self.base)?).ok()?;
            self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        }
    }

    const BASE: u64 = 0x4000_0000;

    /// Regions of these lengths side by side, then the digest table, made with the crates.
    fn payload(kind: Check, chunk_log2: u32, regions: &[(&str, usize)]) -> (Params, Ram) {
        let total = regions.iter().map(|r| r.1).sum();
        let mut bytes: Vec<u8> = (0..total)
            .map(|i| (u32::try_from(i).unwrap().wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
            .collect();
        let mut params = Params::EMPTY;
        params.check = kind.code();
        params.chunk_log2 = chunk_log2;
        params.region_count = u32::try_from(regions.len()).unwrap();
        let mut table = Vec::new();
        let mut start = 0;
        for (slot, (name, len)) in params.regions.iter_mut().zip(regions) {
            slot.name[..name.len()].copy_from_slice(name.as_bytes());
            slot.base = BASE + u64::try_from(start).unwrap();
            slot.len = u64::try_from(*len).unwrap();
            for chunk in bytes[start..start + len].chunks(1 << chunk_log2) {
                match kind {
                    Check::Off => {}
                    Check::Fast => table.extend(xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes()),
                    Check::Sha256 => table.extend(sha2::Sha256::digest(chunk)),
                }
            }
            start += len;
        }
        params.digests = BASE + u64::try_from(start).unwrap();
        params.digests_len = u64::try_from(table.len()).unwrap();
        params.digests_digest = sha2::Sha256::digest(&table).into();
        bytes.extend(table);
        seal(&mut params);
        (params, Ram { base: BASE, bytes })
    }

    fn seal(params: &mut Params) {
        params.digest = sha256(&Scalar, params.digested());
    }

    const SMALL: [(&str, usize); 3] = [("kernel", 2048), ("initrd", 2000), ("dtb", 48)];

    #[test]
    fn an_untouched_payload_is_good() {
        for (kind, read) in [(Check::Sha256, 4096), (Check::Fast, 4096), (Check::Off, 0)] {
            for log2 in [6, 9, CHUNK_LOG2] {
                let (params, ram) = payload(kind, log2, &SMALL);
                assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: read });
            }
        }
    }

    #[test]
    fn chunks_of_the_real_size() {
        let chunk = usize::try_from(CHUNK).unwrap();
        for kind in [Check::Sha256, Check::Fast] {
            // 1, 2 and 3 full ones, a byte more and a byte less.
            let regions = [
                ("one", chunk),
                ("more", 2 * chunk + 1),
                ("less", 3 * chunk - 1),
                ("three", 3 * chunk),
            ];
            let (params, mut ram) = payload(kind, CHUNK_LOG2, &regions);
            let total = 9 * chunk;
            assert_eq!(ram.bytes.len(), total + 10 * kind.digest_len());
            assert_eq!(
                check(&params, &ram, &Scalar),
                Outcome::Good {
                    bytes: u64::try_from(total).unwrap()
                }
            );
            let mut start = 0;
            for (name, len) in regions {
                for at in [0, chunk - 1, chunk, 2 * chunk - 1, 2 * chunk, len - 1].map(|at| at.min(len - 1)) {
                    ram.bytes[start + at] ^= 1;
                    let number = u64::try_from(at / chunk).unwrap();
                    match check(&params, &ram, &Scalar) {
                        Outcome::Chunk {
                            region, chunk, address, ..
                        } => {
                            assert!(region.name().eq(name.bytes()));
                            assert_eq!((chunk, address), (number, region.base + number * CHUNK));
                        }
                        other => panic!("{kind:?} {name} {at}: {other:?}"),
                    }
                    ram.bytes[start + at] ^= 1;
                }
                start += len;
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_the_block_is_found_whatever_the_check() {
        for kind in [Check::Sha256, Check::Fast, Check::Off] {
            let (params, ram) = payload(kind, 9, &SMALL);
            let bytes = zerocopy::IntoBytes::as_bytes(&params).to_vec();
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let params: Params = zerocopy::FromBytes::read_from_bytes(&bytes[..]).unwrap();
                assert!(
                    matches!(check(&params, &ram, &Scalar), Outcome::Block { .. }),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_the_table_is_found() {
        for kind in [Check::Sha256, Check::Fast] {
            let (params, mut ram) = payload(kind, 9, &SMALL);
            let chunks = 4 + 4 + 1;
            assert_eq!(ram.bytes.len() - 4096, chunks * kind.digest_len());
            for bit in 4096 * 8..ram.bytes.len() * 8 {
                ram.bytes[bit / 8] ^= 1 << (bit % 8);
                match check(&params, &ram, &Scalar) {
                    Outcome::Table { want, got } => assert_ne!(want, got),
                    other => panic!("bit {bit}: {other:?}"),
                }
                ram.bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn a_table_that_does_not_fit_is_refused_even_with_a_right_digest() {
        for kind in [Check::Sha256, Check::Fast] {
            let one = u64::try_from(kind.digest_len()).unwrap();
            for (len, good) in [(9, true), (8, false), (0, false), (10, false)] {
                let (mut params, mut ram) = payload(kind, 9, &SMALL);
                ram.bytes.resize(ram.bytes.len() + 32, 0x33);
                params.digests_len = len * one;
                let table = ram.bytes(params.digests, params.digests_len).unwrap();
                params.digests_digest = sha256(&Scalar, table);
                seal(&mut params);
                let found = check(&params, &ram, &Scalar);
                if good {
                    assert_eq!(found, Outcome::Good { bytes: 4096 });
                } else {
                    assert!(matches!(found, Outcome::Table { .. }), "{len}: {found:?}");
                }
            }
            let (mut params, ram) = payload(kind, 9, &SMALL);
            params.digests = u64::MAX;
            seal(&mut params);
            assert!(matches!(check(&params, &ram, &Scalar), Outcome::Table { .. }));
        }
    }

    #[test]
    fn a_block_that_makes_no_sense_is_refused_even_with_a_right_digest() {
        let damages: [fn(&mut Params); 4] = [
            |p| p.version += 1,
            |p| p.magic ^= 1,
            |p| p.check = 3,
            |p| p.chunk_log2 = 64,
        ];
        for damage in damages {
            let (mut params, ram) = payload(Check::Sha256, 9, &SMALL);
            damage(&mut params);
            seal(&mut params);
            assert!(matches!(check(&params, &ram, &Scalar), Outcome::Block { .. }));
        }
    }

    #[test]
    fn off_reads_nothing() {
        let (params, mut ram) = payload(Check::Off, 9, &SMALL);
        ram.bytes.clear();
        assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: 0 });
    }

    #[test]
    fn an_address_that_is_no_memory_is_a_mismatch() {
        let (mut params, ram) = payload(Check::Sha256, 9, &SMALL);
        params.regions[1].base = u64::MAX;
        seal(&mut params);
        assert!(matches!(
            check(&params, &ram, &Scalar),
            Outcome::Chunk {
                index: 1,
                chunk: 0,
                address: u64::MAX,
                ..
            }
        ));
    }

    #[test]
    fn a_region_without_bytes_is_good() {
        for kind in [Check::Sha256, Check::Fast] {
            let (params, ram) = payload(kind, 9, &[("kernel", 700), ("nothing", 0), ("dtb", 9)]);
            assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: 709 });
        }
    }

    proptest! {
        #[test]
        fn any_lengths(lens in prop::collection::vec(0_usize..3000, 1..6), log2 in 6_u32..12, at in any::<prop::sample::Index>(), bit in 0..8) {
            let names = ["a", "b", "c", "d", "e"];
            let regions: Vec<(&str, usize)> = names.into_iter().zip(lens.iter().copied()).collect();
            let total: usize = lens.iter().sum();
            prop_assume!(total != 0);
            for kind in [Check::Sha256, Check::Fast] {
                let (params, mut ram) = payload(kind, log2, &regions);
                let all = u64::try_from(total).unwrap();
                prop_assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: all });
                let at = at.index(total);
                ram.bytes[at] ^= 1_u8 << bit;
                let hit = BASE + u64::try_from(at).unwrap();
                match check(&params, &ram, &Scalar) {
                    Outcome::Chunk { address, .. } => prop_assert!(address <= hit && hit < address + (1 << log2)),
                    other => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
