//! The digests the blob would choose on this CPU, against published vectors, the crates, and plain Rust.

use proptest::prelude::*;
use purgatory::sha256::{Blocks as _, Scalar, sha256, sha256_pair};
use purgatory::xxh3::{Stripes as _, xxh3};
use sha2::Digest as _;

use purgatory::cpu::Cpu;

fn data(len: u32) -> Vec<u8> {
    (0..len)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0])
        .collect()
}

#[cfg(target_arch = "x86_64")]
#[test]
fn detection_agrees_with_the_standard_library() {
    let wanted = std::is_x86_feature_detected!("sha")
        && std::is_x86_feature_detected!("ssse3")
        && std::is_x86_feature_detected!("sse4.1");
    assert_eq!(Cpu::detect() == Cpu::ShaNi, wanted);
}

#[cfg(target_arch = "aarch64")]
#[test]
fn detection_agrees_with_the_standard_library() {
    let wanted = std::arch::is_aarch64_feature_detected!("sha2");
    assert_eq!(Cpu::detect() == Cpu::Sha2, wanted);
}

#[test]
fn nist_vectors() {
    // FIPS 180-4's examples: "abc", and a million times "a".
    let million = vec![b'a'; 1_000_000];
    let [abc, both] = sha256_pair(&Cpu::detect(), [b"abc", &million]);
    assert_eq!(abc[..4], [0xba, 0x78, 0x16, 0xbf]);
    for digest in [both, sha256(&Cpu::detect(), &million)] {
        assert_eq!(digest[..4], [0xcd, 0xc7, 0x6e, 0x5c]);
        assert_eq!(digest[28..], [0xc7, 0x11, 0x2c, 0xd0]);
    }
    let [first, second] = sha256_pair(&Cpu::detect(), [&million, &million]);
    assert_eq!((first, second), (both, both));
}

#[test]
fn sha256_of_every_length_around_a_block_agrees_with_the_crate() {
    let data = data(300);
    for len in 0..data.len() {
        assert_eq!(
            sha256(&Cpu::detect(), &data[..len])[..],
            sha2::Sha256::digest(&data[..len])[..],
            "{len}"
        );
    }
}

#[test]
fn xxh3_of_every_length_agrees_with_both_crates() {
    let data = data(5000);
    for len in 0..data.len() {
        let digest = xxh3(&Cpu::detect(), &data[..len]);
        assert_eq!(digest, xxhash_rust::xxh3::xxh3_64(&data[..len]), "{len} bytes");
        assert_eq!(digest, twox_hash::XxHash3_64::oneshot(&data[..len]), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn sha256_agrees_with_the_crate_wherever_it_starts(data in prop::collection::vec(any::<u8>(), 0..5000), skip in 0_usize..64) {
        let data = data.get(skip..).unwrap_or_default();
        let want = sha2::Sha256::digest(data);
        prop_assert_eq!(&sha256(&Cpu::detect(), data)[..], &want[..]);
    }

    #[test]
    fn pairs_agree_with_the_crate(data in prop::collection::vec(any::<u8>(), 0..9000), skip in 0_usize..64, even in any::<bool>()) {
        let (first, second) = data.split_at(data.len() / 2);
        let second = if even { second.get(..first.len()) } else { second.get(skip..) }.unwrap_or_default();
        let want = [first, second].map(|d| <[u8; 32]>::from(sha2::Sha256::digest(d)));
        prop_assert_eq!(sha256_pair(&Cpu::detect(), [first, second]), want);
    }

    #[test]
    fn sha256_leaves_nothing_of_one_call_to_the_next(states in any::<[[u32; 8]; 2]>(), blocks in prop::collection::vec(any::<[u8; 32]>(), 0..9)) {
        let blocks: Vec<[u8; 64]> = blocks.iter().map(|b| { let mut w = [7; 64]; w[..32].copy_from_slice(b); w }).collect();
        let other: Vec<[u8; 64]> = blocks.iter().rev().copied().collect();
        let [state, second] = states;
        let (mut whole, mut split, mut scalar) = (state, state, state);
        Cpu::detect().compress(&mut whole, &blocks);
        for block in &blocks {
            Cpu::detect().compress(&mut split, core::slice::from_ref(block));
        }
        Scalar.compress(&mut scalar, &blocks);
        prop_assert_eq!(whole, split);
        prop_assert_eq!(whole, scalar);
        let (mut first, mut both, mut alone) = (state, second, second);
        Cpu::detect().compress_pair([&mut first, &mut both], [&blocks, &other]);
        Scalar.compress(&mut alone, &other);
        prop_assert_eq!((first, both), (whole, alone));
    }

    #[test]
    fn xxh3_agrees_with_plain_rust(acc in any::<[u64; 8]>(), data in prop::collection::vec(any::<u8>(), 0..9000), skip in 0_usize..64) {
        let (stripes, _) = data.get(skip..).unwrap_or_default().as_chunks::<64>();
        let (blocks, _) = stripes.as_chunks::<16>();
        let (mut ours, mut plain) = (acc, acc);
        Cpu::detect().accumulate(&mut ours, blocks);
        Scalar.accumulate(&mut plain, blocks);
        prop_assert_eq!(ours, plain);
    }
}
