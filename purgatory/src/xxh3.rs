//! XXH3-64 with seed 0 (the xxHash specification, "XXH3 Algorithm Overview"), with the inner loop as a parameter: scalar
//! here, and quicker where a CPU can.
//!
//! Our own and not a crate's, because a crate's takes 20 KiB in the blob, and its inner loop can't be chosen.

use crate::sha256::Scalar;

/// Something that can go over blocks: one pass over all of them is what makes it quick.
pub trait Stripes {
    /// Accumulates whole blocks, each with its scramble.
    fn accumulate(&self, acc: &mut [u64; 8], blocks: &[Block]);
}

/// Sixteen stripes of eight lanes, little-endian.
pub type Block = [[u8; 64]; 16];

/// The first 192 bytes of `kSecret`, as little-endian words.
#[rustfmt::skip]
pub const SECRET: [u64; 24] = [
    0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c, 0xdb97_9083_e96d_d4de, 0x1f67_b3b7_a4a4_4072,
    0x78e5_c0cc_4ee6_79cb, 0x2172_ffcc_7dd0_5a82, 0x8e24_43f7_7446_08b8, 0x4c26_3a81_e690_35e0,
    0xcb00_c391_bb52_283c, 0xa32e_531b_8b65_d088, 0x4ef9_0da2_9748_6471, 0xd8ac_dea9_46ef_1938,
    0x3f34_9ce3_3f76_faa8, 0x1d4f_0bc7_c7bb_dcf9, 0x3159_b4cd_4be0_518a, 0x6473_78d9_c97e_9fc8,
    0xc3eb_d334_83ac_c5ea, 0xeb63_13fa_ffa0_81c5, 0x49da_f0b7_51dd_0d17, 0x9e68_d429_2655_16d3,
    0xfca1_477d_58be_162b, 0xce31_d07a_d1b8_f88f, 0x2804_1695_8f3a_cb45, 0x7e40_4bbb_cafb_d7af,
];

const PRIME32: [u64; 3] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d];
const PRIME64: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];
const PRIME_MX1: u64 = 0x1656_6791_9e37_79f9;
const PRIME_MX2: u64 = 0x9fb2_1c65_1e98_df25;

/// What an accumulator starts with.
const START: [u64; 8] = [
    PRIME32[2], PRIME64[0], PRIME64[1], PRIME64[2], PRIME64[3], PRIME32[1], PRIME64[4], PRIME32[0],
];

/// The digest of `data`.
pub fn xxh3<S: Stripes>(engine: &S, data: &[u8]) -> u64 {
    match data.len() {
        0 => avalanche64(secret(56) ^ secret(64)),
        1..=3 => up_to_3(data),
        4..=8 => up_to_8(data),
        9..=16 => up_to_16(data),
        17..=128 => up_to_128(data),
        129..=240 => up_to_240(data),
        _ => long(engine, data),
    }
}

/// Eight bytes of the secret, from any byte.
fn secret(at: usize) -> u64 {
    let word = |n: usize| SECRET.get(n).copied().unwrap_or_default();
    let (n, bits) = (at / 8, u32::try_from(at % 8).unwrap_or_default().wrapping_mul(8));
    if bits == 0 {
        word(n)
    } else {
        word(n) >> bits | word(n.wrapping_add(1)) << 64_u32.wrapping_sub(bits)
    }
}

/// Eight bytes of `data`; every caller has seen that they are there.
fn word(data: &[u8], at: usize) -> u64 {
    let bytes = data.get(at..).and_then(|d| d.first_chunk::<8>());
    u64::from_le_bytes(bytes.copied().unwrap_or_default())
}

/// Four bytes.
fn half(data: &[u8], at: usize) -> u64 {
    let bytes = data.get(at..).and_then(|d| d.first_chunk::<4>());
    u64::from(u32::from_le_bytes(bytes.copied().unwrap_or_default()))
}

/// Both halves of the product, folded.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b)).to_le_bytes();
    word(&product, 0) ^ word(&product, 8)
}

/// The length as a number.
fn length(data: &[u8]) -> u64 {
    u64::try_from(data.len()).unwrap_or(u64::MAX)
}

fn avalanche64(mut h: u64) -> u64 {
    h = (h ^ h >> 33).wrapping_mul(PRIME64[1]);
    h = (h ^ h >> 29).wrapping_mul(PRIME64[2]);
    h ^ h >> 32
}

fn avalanche(mut h: u64) -> u64 {
    h = (h ^ h >> 37).wrapping_mul(PRIME_MX1);
    h ^ h >> 32
}

fn up_to_3(data: &[u8]) -> u64 {
    let byte = |at: usize| u64::from(data.get(at).copied().unwrap_or_default());
    let last = data.len().wrapping_sub(1);
    let combined = byte(0) << 16 | byte(data.len() / 2) << 24 | byte(last) | length(data) << 8;
    avalanche64(combined ^ (secret(0) ^ secret(0) >> 32) & 0xffff_ffff)
}

fn up_to_8(data: &[u8]) -> u64 {
    let input = half(data, data.len().wrapping_sub(4)).wrapping_add(half(data, 0) << 32);
    let mut h = input ^ secret(8) ^ secret(16);
    h ^= h.rotate_left(49) ^ h.rotate_left(24);
    h = h.wrapping_mul(PRIME_MX2);
    h ^= (h >> 35).wrapping_add(length(data));
    h = h.wrapping_mul(PRIME_MX2);
    h ^ h >> 28
}

fn up_to_16(data: &[u8]) -> u64 {
    let low = word(data, 0) ^ secret(24) ^ secret(32);
    let high = word(data, data.len().wrapping_sub(8)) ^ secret(40) ^ secret(48);
    avalanche(
        length(data)
            .wrapping_add(low.swap_bytes())
            .wrapping_add(high)
            .wrapping_add(folded(low, high)),
    )
}

/// Sixteen bytes of `data`.
fn mixed(data: &[u8], at: usize, key: usize) -> u64 {
    folded(
        word(data, at) ^ secret(key),
        word(data, at.wrapping_add(8)) ^ secret(key.wrapping_add(8)),
    )
}

fn up_to_128(data: &[u8]) -> u64 {
    let mut acc = length(data).wrapping_mul(PRIME64[0]);
    // Pairs from both ends, as many as it takes to meet.
    for pair in 0..data.len().wrapping_add(31) / 32 {
        let (at, key) = (pair.wrapping_mul(16), pair.wrapping_mul(32));
        let from_end = data.len().wrapping_sub(at).wrapping_sub(16);
        acc = acc
            .wrapping_add(mixed(data, at, key))
            .wrapping_add(mixed(data, from_end, key.wrapping_add(16)));
    }
    avalanche(acc)
}

fn up_to_240(data: &[u8]) -> u64 {
    let mut acc = length(data).wrapping_mul(PRIME64[0]);
    for at in (0..128).step_by(16) {
        acc = acc.wrapping_add(mixed(data, at, at));
    }
    acc = avalanche(acc);
    for at in (128..data.len() & !15).step_by(16) {
        acc = acc.wrapping_add(mixed(data, at, at.wrapping_sub(128).wrapping_add(3)));
    }
    acc = acc.wrapping_add(mixed(data, data.len().wrapping_sub(16), 119));
    avalanche(acc)
}

fn long<S: Stripes>(engine: &S, data: &[u8]) -> u64 {
    let mut acc = START;
    // The last byte is in no block: the last stripe comes without a scramble.
    let before = data.get(..data.len().wrapping_sub(1)).unwrap_or_default();
    let (stripes, _) = before.as_chunks::<64>();
    let (blocks, rest) = stripes.as_chunks::<16>();
    engine.accumulate(&mut acc, blocks);
    for (n, stripe) in rest.iter().enumerate() {
        accumulate(&mut acc, stripe, n.wrapping_mul(8));
    }
    if let Some(last) = data.last_chunk::<64>() {
        accumulate(&mut acc, last, 121);
    }
    let mut h = length(data).wrapping_mul(PRIME64[0]);
    for (n, [a, b]) in acc.as_chunks::<2>().0.iter().enumerate() {
        let key = n.wrapping_mul(16).wrapping_add(11);
        h = h.wrapping_add(folded(a ^ secret(key), b ^ secret(key.wrapping_add(8))));
    }
    avalanche(h)
}

/// One stripe, with the secret from byte `key` on.
fn accumulate(acc: &mut [u64; 8], stripe: &[u8; 64], key: usize) {
    for lane in 0..8 {
        let at = lane_at(lane);
        step(acc, lane, word(stripe, at), secret(key.wrapping_add(at)));
    }
}

fn lane_at(lane: usize) -> usize {
    lane.wrapping_mul(8)
}

/// One lane: the data goes to the neighbour, and the product of its two halves under the key to the lane itself.
#[inline]
fn step(acc: &mut [u64; 8], lane: usize, data: u64, key: u64) {
    let keyed = data ^ key;
    if let Some(neighbour) = acc.get_mut(lane ^ 1) {
        *neighbour = neighbour.wrapping_add(data);
    }
    if let Some(own) = acc.get_mut(lane) {
        *own = own.wrapping_add((keyed & 0xffff_ffff).wrapping_mul(keyed >> 32));
    }
}

impl Stripes for Scalar {
    fn accumulate(&self, acc: &mut [u64; 8], blocks: &[Block]) {
        let mut now = *acc;
        for block in blocks {
            for (stripe, keys) in block.iter().zip(SECRET.windows(8)) {
                for (lane, (data, key)) in stripe.as_chunks::<8>().0.iter().zip(keys).enumerate() {
                    step(&mut now, lane, u64::from_le_bytes(*data), *key);
                }
            }
            for (lane, key) in now.iter_mut().zip(SECRET.iter().skip(16)) {
                *lane = (*lane ^ *lane >> 47 ^ key).wrapping_mul(PRIME32[0]);
            }
        }
        *acc = now;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The buffer of xxHash's own tests.
    fn buffer(len: usize) -> Vec<u8> {
        let mut generator = PRIME32[0];
        (0..len)
            .map(|_| {
                let byte = generator.to_be_bytes()[0];
                generator = generator.wrapping_mul(11_400_714_785_074_694_797);
                byte
            })
            .collect()
    }

    #[test]
    fn published_vectors() {
        // tests/sanity_test_vectors.h of xxHash, XSUM_XXH3_testdata, seed 0: one of each way through the algorithm.
        for (len, digest) in [
            (0, 0x2d06_8005_38d3_94c2),
            (1, 0xc44b_dff4_074e_ecdb),
            (6, 0x27b5_6a84_cd2d_7325),
            (12, 0xa713_daf0_dfbb_77e7),
            (24, 0xa3fe_70bf_9d35_10eb),
            (48, 0x397d_a259_ecba_1f11),
            (80, 0xbcde_fbbb_2c47_c90a),
            (195, 0xcd94_217e_e362_ec3a),
            (403, 0xcdeb_804d_65c6_dea4),
            (512, 0x617e_4959_9013_cb6b),
            (2048, 0xdd59_e2c3_a5f0_38e0),
            (2240, 0x6e73_a905_39cf_2948),
            (2367, 0xcb37_aeb9_e5d3_61ed),
        ] {
            assert_eq!(xxh3(&Scalar, &buffer(len)), digest, "{len} bytes");
        }
    }

    #[test]
    fn every_length_agrees_with_both_crates() {
        let data = buffer(5000);
        for len in 0..data.len() {
            let data = &data[data.len() - len..];
            let digest = xxh3(&Scalar, data);
            assert_eq!(digest, xxhash_rust::xxh3::xxh3_64(data), "{len} bytes");
            assert_eq!(digest, twox_hash::XxHash3_64::oneshot(data), "{len} bytes");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_crates(data in proptest::collection::vec(any::<u8>(), 0..9000), skip in 0_usize..64) {
            let data = data.get(skip..).unwrap_or_default();
            let digest = xxh3(&Scalar, data);
            prop_assert_eq!(digest, xxhash_rust::xxh3::xxh3_64(data));
            prop_assert_eq!(digest, twox_hash::XxHash3_64::oneshot(data));
        }
    }
}
