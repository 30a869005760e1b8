//! The digests' inner loops with what this CPU has: assembler that is the same in the blob and in the stage, whose digests the
//! blob compares with. `tests/differential.rs` compares those of the machine that builds with the
//! crates; arm64's are, besides, compared in QEMU (`qemu/tests/scenarios/reset.rs`).

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64::Cpu;
#[cfg(target_arch = "x86_64")]
pub use x86_64::Cpu;
