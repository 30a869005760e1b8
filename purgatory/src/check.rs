//! Regions × digest → [`Outcome`]: the whole decision of the purgatory, in safe code that also runs on the host.

use crate::params::{Check, MAGIC, Params, Region, VERSION};
use crate::sha256::{Blocks, sha256};

/// Access to physical memory.
pub trait Memory {
    /// The `len` bytes at `base`; none where they can't be a slice.
    fn bytes(&self, base: u64, len: u64) -> Option<&[u8]>;
}

/// What the check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Everything is as it was loaded.
    Good {
        /// Bytes that were read for it.
        bytes: u64,
    },
    /// The parameter block is not what the stage wrote, so nothing it says counts.
    Table {
        /// Its digest as it should be.
        want: [u8; 32],
        /// Its digest as it is.
        got: [u8; 32],
    },
    /// A region changed between load and jump.
    Region {
        /// Its place in the table.
        index: u32,
        /// The region.
        region: &'a Region,
        /// Its digest as it is; equal to `region.digest` where its address makes no sense.
        got: [u8; 32],
    },
}

/// The digest of one region's bytes, as it stands in [`Region::digest`].
pub fn digest<B: Blocks>(check: Check, engine: &B, bytes: &[u8]) -> [u8; 32] {
    match check {
        Check::Off => [0; 32],
        Check::Fast => {
            let mut digest = [0; 32];
            if let Some(slot) = digest.first_chunk_mut::<8>() {
                *slot = xxhash_rust::xxh64::xxh64(bytes, 0).to_le_bytes();
            }
            digest
        }
        Check::Sha256 => sha256(engine, bytes),
    }
}

/// Equal, without a call of `memcmp`: that would go through a GOT on x86_64.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let words = |digest: &[u8; 32]| {
        let mut words = [0_u64; 4];
        for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    };
    words(a).iter().zip(words(b)).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
}

/// Checks the parameter block, then every region in order; stops at the first that is wrong.
pub fn check<'a, M: Memory, B: Blocks>(params: &'a Params, memory: &M, engine: &B) -> Outcome<'a> {
    let got = sha256(engine, params.digested());
    let kind = Check::from_code(params.check);
    let known = params.magic == MAGIC && params.version == VERSION;
    let (true, Some(kind)) = (equal(&got, &params.digest) && known, kind) else {
        return Outcome::Table {
            want: params.digest,
            got,
        };
    };
    let mut total = 0_u64;
    if kind == Check::Off {
        return Outcome::Good { bytes: total };
    }
    for (index, region) in (0_u32..).zip(params.regions()) {
        let Some(bytes) = memory.bytes(region.base, region.len) else {
            return Outcome::Region {
                index,
                region,
                got: region.digest,
            };
        };
        let got = digest(kind, engine, bytes);
        if !equal(&got, &region.digest) {
            return Outcome::Region { index, region, got };
        }
        total = total.saturating_add(region.len);
    }
    Outcome::Good { bytes: total }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests {
    use super::*;
    use crate::sha256::Scalar;
    use proptest::prelude::*;

    /// Memory that starts at an address.
    struct Ram {
        base: u64,
        bytes: Vec<u8>,
    }

    impl Memory for Ram {
        fn bytes(&self, base: u64, len: u64) -> Option<&[u8]> {
            let start = usize::try_from(base.checked_sub(self.base)?).ok()?;
            self.bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        }
    }

    /// Three regions side by side, the last one shorter than a block.
    fn payload(kind: Check) -> (Params, Ram) {
        let ram = Ram {
            base: 0x4000_0000,
            bytes: (0..4096_u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
                .collect(),
        };
        let mut params = Params::EMPTY;
        params.check = kind.code();
        params.region_count = 3;
        for (slot, (name, start, len)) in
            params
                .regions
                .iter_mut()
                .zip([("kernel", 0, 2048), ("initrd", 2048, 2000), ("dtb", 4048, 48)])
        {
            slot.name[..name.len()].copy_from_slice(name.as_bytes());
            slot.base = ram.base + start;
            slot.len = len;
            slot.digest = digest(kind, &Scalar, ram.bytes(slot.base, len).unwrap());
        }
        params.digest = sha256(&Scalar, params.digested());
        (params, ram)
    }

    #[test]
    fn an_untouched_payload_is_good() {
        for (kind, read) in [(Check::Sha256, 4096), (Check::Fast, 4096), (Check::Off, 0)] {
            let (params, ram) = payload(kind);
            assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: read });
        }
    }

    #[test]
    fn every_flipped_bit_is_found_and_its_region_named() {
        for kind in [Check::Sha256, Check::Fast] {
            let (params, mut ram) = payload(kind);
            for bit in 0..4096 * 8 {
                ram.bytes[bit / 8] ^= 1 << (bit % 8);
                let name = match bit / 8 {
                    0..2048 => "kernel",
                    2048..4048 => "initrd",
                    _ => "dtb",
                };
                match check(&params, &ram, &Scalar) {
                    Outcome::Region { region, got, .. } => {
                        assert!(region.name().eq(name.bytes()), "bit {bit}");
                        assert_ne!(got, region.digest);
                    }
                    other => panic!("bit {bit}: {other:?}"),
                }
                ram.bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn every_flipped_bit_of_the_block_is_found_whatever_the_check() {
        for kind in [Check::Sha256, Check::Fast, Check::Off] {
            let (params, ram) = payload(kind);
            let bytes = zerocopy::IntoBytes::as_bytes(&params).to_vec();
            for bit in 0..bytes.len() * 8 {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let params: Params = zerocopy::FromBytes::read_from_bytes(&bytes[..]).unwrap();
                assert!(
                    matches!(check(&params, &ram, &Scalar), Outcome::Table { .. }),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_block_of_another_version_is_refused_even_with_a_right_digest() {
        let (mut params, ram) = payload(Check::Sha256);
        params.version += 1;
        params.digest = sha256(&Scalar, params.digested());
        assert!(matches!(check(&params, &ram, &Scalar), Outcome::Table { .. }));
    }

    #[test]
    fn off_reads_nothing() {
        let (params, mut ram) = payload(Check::Off);
        ram.bytes.clear();
        assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes: 0 });
    }

    #[test]
    fn an_address_that_is_no_memory_is_a_mismatch() {
        let (mut params, ram) = payload(Check::Sha256);
        params.regions[1].base = u64::MAX;
        params.digest = sha256(&Scalar, params.digested());
        assert!(matches!(
            check(&params, &ram, &Scalar),
            Outcome::Region { index: 1, .. }
        ));
    }

    proptest! {
        #[test]
        fn swapped_or_stale_or_zeroed_chunks_are_found(a in 0_usize..64, b in 0_usize..64, how in 0..3) {
            let (params, mut ram) = payload(Check::Fast);
            let (x, y) = (ram.bytes[a * 64..][..64].to_vec(), ram.bytes[b * 64..][..64].to_vec());
            prop_assume!(x != y);
            match how {
                0 => {
                    ram.bytes[a * 64..][..64].copy_from_slice(&y);
                    ram.bytes[b * 64..][..64].copy_from_slice(&x);
                }
                1 => ram.bytes[a * 64..][..64].copy_from_slice(&y),
                _ => ram.bytes[a * 64..][..64].fill(0),
            }
            let found = matches!(check(&params, &ram, &Scalar), Outcome::Region { .. });
            prop_assert!(found);
        }
    }
}
