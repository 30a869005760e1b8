//! SHA-256 with the SHA2 instructions, where the CPU has them.
#![expect(unsafe_code, reason = "instructions not every CPU has")]

use core::arch::aarch64::{
    uint32x4_t, vaddq_u32, vld1q_u8, vld1q_u32, vreinterpretq_u32_u8, vrev32q_u8, vsha256h2q_u32, vsha256hq_u32,
    vsha256su0q_u32, vsha256su1q_u32, vst1q_u32,
};
use core::arch::asm;

use purgatory::sha256::{Blocks, K, Scalar};
use purgatory::xxh3::{Block, Stripes};

/// The quickest way this CPU knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cpu {
    /// FEAT_SHA256.
    Sha2,
    /// None.
    Scalar,
}

impl Cpu {
    /// Asks the CPU. On Linux the kernel answers for it (HWCAP_CPUID).
    pub(crate) fn detect() -> Self {
        let features: u64;
        // SAFETY: reads an identification register.
        unsafe { asm!("mrs {}, id_aa64isar0_el1", out(reg) features, options(nomem, nostack, preserves_flags)) };
        // Bits 15..12: 1 is SHA256, 2 is SHA512 too.
        if features >> 12 & 15 != 0 {
            Self::Sha2
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
            // SAFETY: `detect` saw the instructions, and `entry.S` has turned the registers on.
            Self::Sha2 => unsafe { compress(state, blocks) },
        }
    }
}

/// Sixteen bytes as four big-endian words.
#[target_feature(enable = "neon,sha2")]
fn words(bytes: &[u8; 16]) -> uint32x4_t {
    // SAFETY: reads 16 bytes.
    let bytes = unsafe { vld1q_u8(bytes.as_ptr()) };
    vreinterpretq_u32_u8(vrev32q_u8(bytes))
}

#[target_feature(enable = "neon,sha2")]
fn load(words: &[u32; 4]) -> uint32x4_t {
    // SAFETY: reads 16 bytes.
    unsafe { vld1q_u32(words.as_ptr()) }
}

#[target_feature(enable = "neon,sha2")]
fn store(words: &mut [u32; 4], value: uint32x4_t) {
    // SAFETY: writes 16 bytes.
    unsafe { vst1q_u32(words.as_mut_ptr(), value) };
}

/// Four rounds (Arm ARM C7.2, SHA256H, SHA256H2).
#[target_feature(enable = "neon,sha2")]
fn rounds(state: &mut (uint32x4_t, uint32x4_t), words: uint32x4_t, k: &[u32; 4]) {
    let added = vaddq_u32(words, load(k));
    let (abcd, efgh) = *state;
    *state = (vsha256hq_u32(abcd, efgh, added), vsha256h2q_u32(efgh, abcd, added));
}

#[target_feature(enable = "neon,sha2")]
fn compress(state: &mut [u32; 8], blocks: &[[u8; 64]]) {
    let ([abcd, efgh], _) = state.as_chunks_mut::<4>() else {
        return;
    };
    let mut now = (load(abcd), load(efgh));
    for block in blocks {
        let ([b0, b1, b2, b3], _) = block.as_chunks::<16>() else {
            return;
        };
        let before = now;
        let mut w = (words(b0), words(b1), words(b2), words(b3));
        for (group, k) in K.iter().enumerate() {
            if group != 0 {
                w.0 = vsha256su1q_u32(vsha256su0q_u32(w.0, w.1), w.2, w.3);
                w.1 = vsha256su1q_u32(vsha256su0q_u32(w.1, w.2), w.3, w.0);
                w.2 = vsha256su1q_u32(vsha256su0q_u32(w.2, w.3), w.0, w.1);
                w.3 = vsha256su1q_u32(vsha256su0q_u32(w.3, w.0), w.1, w.2);
            }
            let ([k0, k1, k2, k3], _) = k.as_chunks::<4>() else {
                return;
            };
            rounds(&mut now, w.0, k0);
            rounds(&mut now, w.1, k1);
            rounds(&mut now, w.2, k2);
            rounds(&mut now, w.3, k3);
        }
        now = (vaddq_u32(now.0, before.0), vaddq_u32(now.1, before.1));
    }
    store(abcd, now.0);
    store(efgh, now.1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use purgatory::sha256::sha256;
    use sha2::Digest as _;

    proptest! {
        #[test]
        fn agrees_with_the_crate(data in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let want = sha2::Sha256::digest(&data);
            prop_assert_eq!(&sha256(&Cpu::detect(), &data)[..], &want[..]);
        }
    }
}
