//! The whole check, with the digests the blob would choose on this CPU, against every damage of a small payload: nothing gets
//! through, and the right chunk is named.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that overflows fails, as it should"
)]

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use purgatory::check::{Memory, Outcome, check};
use purgatory::{Check, Params};
use sha2::Digest as _;

use purgatory::cpu::Cpu;

const BASE: u64 = 0x4000_0000;
const PAGE: usize = 4096;
/// 64 KiB in all, and none of them whole pages but the first.
const SEGMENTS: [(&str, usize); 4] = [("kernel", 20480), ("initrd", 40001), ("dtb", 4900), ("boot-data", 155)];
const PAYLOAD: usize = 65536;
/// log2 of the bytes of a chunk: two pages, so that a segment has whole pairs of chunks, single ones and short ones.
const CHUNK_LOG2: u32 = 13;
const CHUNK: usize = 1 << CHUNK_LOG2;

/// Payload, then its digest table.
#[derive(Clone)]
struct Ram(Vec<u8>);

impl Memory for Ram {
    fn bytes(&self, base: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(base.checked_sub(BASE)?).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    }
}

/// Starts of the segments, and the end.
fn starts() -> [usize; 5] {
    let mut starts = [0; 5];
    for (n, (_, len)) in SEGMENTS.iter().enumerate() {
        starts[n + 1] = starts[n] + len;
    }
    assert_eq!(starts[4], PAYLOAD);
    starts
}

/// Bytes that no two pages have in common, with the digests as the crates make them. The table begins with segment `first` and
/// goes round: the check ends at the first mismatch, and a damage that is found at once lets a test try many.
fn payload(kind: Check, first: usize) -> (Params, Ram) {
    let mut bytes = Vec::with_capacity(PAYLOAD);
    let mut block = [0; 32];
    while bytes.len() < PAYLOAD {
        block = sha2::Sha256::digest(block).into();
        bytes.extend(block);
    }
    let mut params = Params::EMPTY;
    params.check = kind.code();
    params.chunk_log2 = CHUNK_LOG2;
    params.region_count = 4;
    let mut table = Vec::new();
    for n in 0..4 {
        let segment = (first + n) % 4;
        let (name, len) = SEGMENTS[segment];
        let start = starts()[segment];
        let slot = &mut params.regions[n];
        slot.name[..name.len()].copy_from_slice(name.as_bytes());
        slot.base = BASE + u64::try_from(start).unwrap();
        slot.len = u64::try_from(len).unwrap();
        for chunk in bytes[start..start + len].chunks(CHUNK) {
            match kind {
                Check::Off => {}
                Check::Fast => table.extend(xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes()),
                Check::Sha256 => table.extend(sha2::Sha256::digest(chunk)),
            }
        }
    }
    params.digests = BASE + u64::try_from(PAYLOAD).unwrap();
    params.digests_len = u64::try_from(table.len()).unwrap();
    params.digests_digest = sha2::Sha256::digest(&table).into();
    params.digest = sha2::Sha256::digest(params.digested()).into();
    bytes.extend(table);
    (params, Ram(bytes))
}

/// Segment and chunk of a byte.
fn home(at: usize) -> (usize, u64) {
    let starts = starts();
    let segment = starts.iter().rposition(|start| *start <= at).unwrap();
    (segment, u64::try_from((at - starts[segment]) / CHUNK).unwrap())
}

/// What the check finds must be the chunk of `first`, the lowest byte that differs, and no other.
fn found(params: &[Params; 4], ram: &Ram, cpu: Cpu, first: usize) {
    let (segment, number) = home(first);
    match check(&params[segment], ram, &cpu) {
        Outcome::Chunk {
            region,
            chunk,
            want,
            got,
            ..
        } => {
            assert!(region.name().eq(SEGMENTS[segment].0.bytes()), "byte {first:#x}");
            assert_eq!(chunk, number, "byte {first:#x}");
            assert_ne!(want, got);
        }
        other => panic!("byte {first:#x}: {other:?}"),
    }
}

/// A payload that is damaged by `damage`, which tells what it touched, is found; put back, it is good. Only damage that changes
/// something counts; the answer is how often that was.
fn each<D>(cases: usize, damage: D) -> usize
where
    D: Fn(usize, &mut [u8]) -> [Range<usize>; 2] + Sync,
{
    let cpu = Cpu::detect();
    let counted = AtomicUsize::new(0);
    for kind in [Check::Fast, Check::Sha256] {
        // The tables differ, so each set of parameters has one of its own behind the payload.
        let sets = [0, 1, 2, 3].map(|first| payload(kind, first));
        let mut ram = Ram(sets[0].1.0[..PAYLOAD].to_vec());
        let params = sets.map(|(mut params, with_table)| {
            params.digests = BASE + u64::try_from(ram.0.len()).unwrap();
            params.digest = sha2::Sha256::digest(params.digested()).into();
            ram.0.extend(&with_table.0[PAYLOAD..]);
            params
        });
        let bytes = u64::try_from(PAYLOAD).unwrap();
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(|| {
                    let mut here = ram.clone();
                    loop {
                        let start = next.fetch_add(256, Ordering::Relaxed);
                        if start >= cases {
                            break;
                        }
                        for case in start..cases.min(start + 256) {
                            let touched = damage(case, &mut here.0);
                            let differs = touched.clone().into_iter().flatten();
                            if let Some(first) = differs.filter(|at| here.0[*at] != ram.0[*at]).min() {
                                found(&params, &here, cpu, first);
                                counted.fetch_add(1, Ordering::Relaxed);
                            }
                            for range in touched {
                                here.0[range.clone()].copy_from_slice(&ram.0[range]);
                            }
                        }
                    }
                    assert!(here.0 == ram.0, "a damage touched more than it told");
                    for params in &params {
                        assert_eq!(check(params, &here, &cpu), Outcome::Good { bytes });
                    }
                });
            }
        });
    }
    counted.into_inner()
}

/// Swaps the `size` bytes at `a` and at `b`.
fn swap(ram: &mut [u8], a: usize, b: usize, size: usize) -> [Range<usize>; 2] {
    let (low, high) = ram.split_at_mut(b);
    low[a..][..size].swap_with_slice(&mut high[..size]);
    [a..a + size, b..b + size]
}

/// Flips a bit.
fn flip(ram: &mut [u8], bit: usize) -> Range<usize> {
    ram[bit / 8] ^= 1 << (bit % 8);
    bit / 8..bit / 8 + 1
}

#[test]
fn every_bit() {
    let bits = PAYLOAD * 8;
    assert_eq!(bits, 524_288);
    assert_eq!(each(bits, |bit, ram| [flip(ram, bit), 0..0]), 2 * bits);
}

#[test]
fn swapped_pages() {
    let pages = PAYLOAD / PAGE;
    let pairs: Vec<(usize, usize)> = (0..pages).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
    let swapped = |case: usize, ram: &mut [u8]| swap(ram, pairs[case].0 * PAGE, pairs[case].1 * PAGE, PAGE);
    assert_eq!(each(pairs.len(), swapped), 2 * pages * (pages - 1) / 2);
}

#[test]
fn swapped_chunks() {
    // Whole chunks of all segments, also of different ones.
    let chunks: Vec<usize> = starts()
        .iter()
        .zip(SEGMENTS)
        .flat_map(|(start, (_, len))| (0..len / CHUNK).map(move |n| start + n * CHUNK))
        .collect();
    assert_eq!(chunks.len(), 6);
    let pairs: Vec<(usize, usize)> = (0..6).flat_map(|b| (0..b).map(move |a| (a, b))).collect();
    let swapped = |case: usize, ram: &mut [u8]| swap(ram, chunks[pairs[case].0], chunks[pairs[case].1], CHUNK);
    assert_eq!(each(pairs.len(), swapped), 2 * 15);
}

#[test]
fn swapped_stripes_and_lanes() {
    // All neighbours of 8, 32 and 64 bytes: what an accumulator that forgets the order would miss.
    for size in [8, 32, 64] {
        let cases = PAYLOAD / size - 1;
        let swapped = |case: usize, ram: &mut [u8]| swap(ram, case * size, (case + 1) * size, size);
        assert_eq!(each(cases, swapped), 2 * cases, "{size}");
    }
}

#[test]
fn stale_and_empty_pages() {
    let pages = PAYLOAD / PAGE;
    let (_, ram) = payload(Check::Off, 0);
    // What was in a page before: another of the payload, or nothing at all, or what empty flash has.
    let stale = |case: usize, bytes: &mut [u8]| {
        let (page, other) = (case / (pages + 2), case % (pages + 2));
        let touched = page * PAGE..(page + 1) * PAGE;
        let page = &mut bytes[touched.clone()];
        match other.checked_sub(pages) {
            None => page.copy_from_slice(&ram.0[other * PAGE..][..PAGE]),
            Some(0) => page.fill(0),
            Some(_) => page.fill(0xff),
        }
        [touched, 0..0]
    };
    // A page that is its own predecessor changes nothing.
    assert_eq!(each(pages * (pages + 2), stale), 2 * pages * (pages + 1));
}

#[test]
fn two_flips_in_one_lane() {
    // The same bit of the same eight bytes of two stripes: in a plain sum, or an exclusive or, they may cancel out. All
    // distances up to two blocks, and then some, from stripes at the start, in the middle and across the segments' ends.
    let mut cases = Vec::new();
    for stripe in [0, 1, 15, 16, 100, 319, 320, 700] {
        for distance in (1..33).chain([64, 128, 256]) {
            for bit in 0..512 {
                cases.push((stripe * 512 + bit, (stripe + distance) * 512 + bit));
            }
        }
    }
    assert_eq!(cases.len(), 8 * 35 * 512);
    let flips = |case: usize, ram: &mut [u8]| [flip(ram, cases[case].0), flip(ram, cases[case].1)];
    assert_eq!(each(cases.len(), flips), 2 * cases.len());
}
