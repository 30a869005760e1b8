//! The smoke run: every input of every target as it is, and changed here and there, the same way each time.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "test helpers"
)]

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fuzz::Target;

/// Changes made to each input.
const CHANGES: usize = 300;
/// CPU time of one run, far more than any needs: without optimization, on a slow machine.
const MOST: Duration = Duration::from_secs(5);

/// Numbers without a pattern (xorshift), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

/// One to four changes: a bit, a byte, a number, an end, a piece of itself or of another input.
fn change(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let rest = &mut bytes[at..];
        match numbers.below(8) {
            0 => bytes.truncate(at),
            1 => {
                let end = at + numbers.below(64).min(rest.len());
                bytes.drain(at..end);
            }
            2 => {
                let from = numbers.below(other.len());
                let piece = other[from..].iter().take(numbers.below(64));
                bytes.splice(at..at, piece.copied());
            }
            kind => {
                let len = [1, 1, 2, 4, 8][numbers.below(5)];
                let byte = u8::try_from(numbers.below(256)).unwrap();
                for place in rest.iter_mut().take(len) {
                    match kind {
                        3 => *place = 0,
                        4 => *place = 0xff,
                        5 => *place ^= 1 << (byte & 7),
                        6 => *place = place.wrapping_add(1),
                        _ => *place = byte,
                    }
                }
            }
        }
    }
    bytes
}

/// Every input of a target, by name.
fn inputs(target: &Target) -> Vec<(&'static str, Vec<u8>)> {
    let folder = fuzz::corpus(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<(&str, Vec<u8>)> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            let name = format!("{}/{name}", target.name);
            (&*name.leak(), fs::read(path).unwrap())
        })
        .collect();
    inputs.sort_unstable();
    assert!(!inputs.is_empty(), "{} has no input", target.name);
    inputs
}

#[test]
fn every_input_is_an_answer_in_time_and_memory() {
    let targets: Vec<&Target> = fuzz::targets().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            let inputs = inputs(target);
            for (n, (name, input)) in inputs.iter().enumerate() {
                let (_, other) = &inputs[(n + 1) % inputs.len()];
                let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
                for number in 0..=CHANGES {
                    let bytes = match number {
                        0 => input.clone(),
                        _ => change(input, other, &mut numbers),
                    };
                    let run = || fuzz::run(target, &bytes, (name, number));
                    let took = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("{name}, change {number}"));
                    assert!(took < MOST, "{name}, change {number} took {took:?}");
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}

#[test]
fn memory_has_an_end() {
    let target = Target {
        memory: 1 << 20,
        ..Target::new("memory", |_| {
            let mut bytes: Vec<u8> = Vec::new();
            assert!(bytes.try_reserve_exact(2 << 20).is_err());
            assert!(bytes.try_reserve_exact(1 << 19).is_ok());
        })
    };
    for number in 0..2 {
        let _ = fuzz::run(&target, b"", ("the 2 MiB of a test", number));
    }
}

#[test]
fn every_folder_of_inputs_is_a_target_s() {
    let target = fuzz::targets().next().unwrap();
    let all = fuzz::corpus(target).parent().unwrap().to_owned();
    for entry in fs::read_dir(all).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(fuzz::targets().any(|target| target.name == name), "{name}");
    }
}
