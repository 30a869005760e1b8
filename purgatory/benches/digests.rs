//! How quick the purgatory's digests are on this CPU, beside what else there is and beside how quick one core can read memory
//! at all. `cargo bench --package purgatory`.
//!
//! The inner loops of XXH3 and of SHA-256 with the CPU's instructions are the blob's assembler, so these numbers are the blob's.
//! What says `plain Rust` is not: a host's compiler has vector registers, the blob's has none.
#![expect(unsafe_code, reason = "instructions not every CPU has")]
#![expect(clippy::unwrap_used, reason = "a bench")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use purgatory::cpu::Cpu;
use purgatory::params::CHUNK;
use purgatory::sha256::{Scalar, sha256, sha256_pair};
use purgatory::xxh3::xxh3;
use sha2::Digest as _;

/// Far more than any cache has.
const BYTES: usize = 256 << 20;

/// Reads every byte once and does next to nothing with it.
fn sum(data: &[u8]) -> u64 {
    let mut lanes = [0_u64; 16];
    for wide in data.as_chunks::<8>().0.as_chunks::<16>().0 {
        for (lane, bytes) in lanes.iter_mut().zip(wide) {
            *lane = lane.wrapping_add(u64::from_le_bytes(*bytes));
        }
    }
    lanes.iter().fold(0, |sum, lane| sum ^ lane)
}

/// CRC32C of the three thirds at once, which is how the instruction is quick. Putting the three together is left out: it costs
/// nothing to speak of.
#[cfg(target_arch = "x86_64")]
fn crc32c(data: &[u8]) -> u64 {
    use std::arch::x86_64::_mm_crc32_u64;
    #[target_feature(enable = "sse4.2")]
    fn three(data: &[u8]) -> u64 {
        let (words, _) = data.as_chunks::<8>();
        let third = words.len() / 3;
        let (a, rest) = words.split_at(third);
        let (b, c) = rest.split_at(third);
        let mut crc = [u64::from(u32::MAX); 3];
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            crc[0] = _mm_crc32_u64(crc[0], u64::from_le_bytes(*a));
            crc[1] = _mm_crc32_u64(crc[1], u64::from_le_bytes(*b));
            crc[2] = _mm_crc32_u64(crc[2], u64::from_le_bytes(*c));
        }
        crc[0] ^ crc[1] ^ crc[2]
    }
    assert!(std::is_x86_feature_detected!("sse4.2"));
    // SAFETY: the CPU has it.
    unsafe { three(data) }
}

#[cfg(target_arch = "aarch64")]
fn crc32c(data: &[u8]) -> u64 {
    use std::arch::aarch64::__crc32cd;
    #[target_feature(enable = "crc")]
    fn three(data: &[u8]) -> u64 {
        let (words, _) = data.as_chunks::<8>();
        let third = words.len() / 3;
        let (a, rest) = words.split_at(third);
        let (b, c) = rest.split_at(third);
        let mut crc = [u32::MAX; 3];
        for ((a, b), c) in a.iter().zip(b).zip(c) {
            crc[0] = __crc32cd(crc[0], u64::from_le_bytes(*a));
            crc[1] = __crc32cd(crc[1], u64::from_le_bytes(*b));
            crc[2] = __crc32cd(crc[2], u64::from_le_bytes(*c));
        }
        u64::from(crc[0] ^ crc[1] ^ crc[2])
    }
    assert!(std::arch::is_aarch64_feature_detected!("crc"));
    // SAFETY: the CPU has it.
    unsafe { three(data) }
}

fn digests(criterion: &mut Criterion) {
    let chunk = usize::try_from(CHUNK).unwrap();
    // Not zeros: the kernel would map one page of them everywhere.
    let data: Vec<u8> = (0..u32::try_from(BYTES / 4).unwrap())
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let cpu = Cpu::detect();
    let mut group = criterion.benchmark_group("256 MiB");
    group
        .throughput(Throughput::Bytes(u64::try_from(BYTES).unwrap()))
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    let mut over = |name: &str, digest: &dyn Fn(&[u8])| {
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(&data[..]).chunks(chunk).for_each(digest));
        });
    };
    over("read: plain sum", &|chunk| {
        black_box(sum(chunk));
    });
    over("fast: xxh3, purgatory", &|chunk| {
        black_box(xxh3(&cpu, chunk));
    });
    over("xxh3, plain Rust", &|chunk| {
        black_box(xxh3(&Scalar, chunk));
    });
    over("xxh3, xxhash-rust", &|chunk| {
        black_box(xxhash_rust::xxh3::xxh3_64(chunk));
    });
    over("crc32c, three streams", &|chunk| {
        black_box(crc32c(chunk));
    });
    over("sha256, purgatory, one at a time", &|chunk| {
        black_box(sha256(&cpu, chunk));
    });
    over("sha256, sha2", &|chunk| {
        black_box(sha2::Sha256::digest(chunk));
    });
    over("sha256, plain Rust", &|chunk| {
        black_box(sha256(&Scalar, chunk));
    });
    group.bench_function("sha256: purgatory, two at a time", |bencher| {
        bencher.iter(|| {
            for pair in black_box(&data[..])
                .chunks(chunk)
                .collect::<Vec<_>>()
                .as_chunks::<2>()
                .0
            {
                black_box(sha256_pair(&cpu, *pair));
            }
        });
    });
}

criterion_group!(benches, digests);
criterion_main!(benches);
