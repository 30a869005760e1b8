//! Everything that reads what comes from outside, fed with any bytes at all: targets, their corpus and their limits.
//!
//! `tests/corpus.rs` is the smoke run of every `cargo test`, `tests/memory.rs` has each allocation fail; `src/bin/libfuzzer.rs` looks for
//! new inputs.

mod memory;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
pub use stage::fuzz::Target;

#[global_allocator]
static MEMORY: memory::Capped = memory::Capped;

/// All targets: the stage's, and those of what the host tools read.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    stage::fuzz::TARGETS.iter().chain(targets::TARGETS)
}

/// The folder of a target's inputs.
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// Runs `target` on `input` within its memory; one that wants more ends the process, after a line with `what` and the number.
/// Says how much CPU time it took.
pub fn run(target: &Target, input: &[u8], what: (&'static str, usize)) -> Duration {
    let now = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
    let before = now();
    memory::within(target.memory, what, || (target.run)(input));
    now().saturating_sub(before)
}

/// Runs `target` on `input`, and its `nth` allocation, from 1, fails. Says whether it came to that one.
pub fn run_without(target: &Target, input: &[u8], nth: usize) -> bool {
    memory::without(nth, || (target.run)(input))
}
