//! SHA-256 with the SHA extensions, where the CPU has them.
//!
//! The bare target's Rust code has no SSE registers, so the compress function is assembler; it is the same in the tests.
#![expect(unsafe_code, reason = "assembler is called here")]

use core::arch::x86_64::__cpuid_count;
use core::arch::{asm, global_asm};

use purgatory::sha256::{Blocks, K, Scalar};
use purgatory::xxh3::{Block, Stripes};

global_asm!(include_str!("sha.S"), K = sym K_TABLE);

/// The round constants where assembler finds them aligned.
#[repr(C, align(16))]
struct Aligned([[u32; 16]; 4]);
static K_TABLE: Aligned = Aligned(K);

/// The quickest way this CPU knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// SHA extensions, with SSSE3 and SSE4.1.
    ShaNi,
    /// None.
    Scalar,
}

impl Cpu {
    /// Asks the CPU.
    pub(crate) fn detect() -> Self {
        let highest = __cpuid_count(0, 0).eax;
        let features = __cpuid_count(1, 0).ecx;
        let extended = if highest >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
        let (ssse3, sse41, sha) = (features & 1 << 9, features & 1 << 19, extended & 1 << 29);
        if ssse3 != 0 && sse41 != 0 && sha != 0 {
            Self::ShaNi
        } else {
            Self::Scalar
        }
    }
}

impl Stripes for Cpu {
    fn accumulate(&self, acc: &mut [u64; 8], blocks: &[Block]) {
        Scalar.accumulate(acc, blocks);
    }
}

impl Blocks for Cpu {
    fn compress(&self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        match self {
            Self::Scalar => Scalar.compress(state, blocks),
            Self::ShaNi => {
                // Called by name: an `extern` function would be called through a GOT, which needs relocations.
                // SAFETY: `detect` saw the instructions, `entry.S` has turned the SSE registers on (a host's kernel
                // too); both pointers are of whole values, and the assembler reads that many blocks and no more.
                unsafe {
                    asm!(
                        "call purgatory_sha256_ni",
                        in("rdi") state,
                        in("rsi") blocks.as_ptr(),
                        in("rdx") blocks.len(),
                        clobber_abi("sysv64"),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use purgatory::sha256::sha256;
    use sha2::Digest as _;

    #[test]
    fn detection_agrees_with_the_standard_library() {
        let wanted = std::is_x86_feature_detected!("sha")
            && std::is_x86_feature_detected!("ssse3")
            && std::is_x86_feature_detected!("sse4.1");
        assert_eq!(Cpu::detect() == Cpu::ShaNi, wanted);
    }

    #[test]
    fn nist_vector() {
        let million = vec![b'a'; 1_000_000];
        let digest = sha256(&Cpu::detect(), &million);
        assert_eq!(digest[..4], [0xcd, 0xc7, 0x6e, 0x5c]);
        assert_eq!(digest[28..], [0xc7, 0x11, 0x2c, 0xd0]);
    }

    #[test]
    fn every_length_around_a_block_agrees_with_the_crate() {
        let data: Vec<u8> = (0..300_u32).map(|i| i.to_le_bytes()[0] ^ 0xa5).collect();
        for len in 0..data.len() {
            assert_eq!(
                sha256(&Cpu::detect(), &data[..len])[..],
                sha2::Sha256::digest(&data[..len])[..],
                "{len}"
            );
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_crate_wherever_it_starts(data in proptest::collection::vec(any::<u8>(), 0..5000), skip in 0_usize..64) {
            let data = data.get(skip..).unwrap_or_default();
            let want = sha2::Sha256::digest(data);
            prop_assert_eq!(&sha256(&Cpu::detect(), data)[..], &want[..]);
        }

        #[test]
        fn leaves_nothing_of_one_call_to_the_next(state in any::<[u32; 8]>(), blocks in proptest::collection::vec(any::<[u8; 32]>(), 0..9)) {
            let blocks: Vec<[u8; 64]> = blocks.iter().map(|b| { let mut w = [7; 64]; w[..32].copy_from_slice(b); w }).collect();
            let (mut whole, mut split, mut scalar) = (state, state, state);
            Cpu::detect().compress(&mut whole, &blocks);
            for block in &blocks {
                Cpu::detect().compress(&mut split, core::slice::from_ref(block));
            }
            Scalar.compress(&mut scalar, &blocks);
            prop_assert_eq!(whole, split);
            prop_assert_eq!(whole, scalar);
        }
    }
}
