//! SHA-256 with the SHA extensions, where the CPU has them.
//!
//! The bare target's Rust code has no SSE registers, so the compress function is assembler; it is the same in the tests.
#![expect(unsafe_code, reason = "assembler is called here")]

use core::arch::x86_64::__cpuid_count;
use core::arch::{asm, global_asm};

use crate::sha256::{Blocks, K, Scalar};

global_asm!(include_str!("sha.S"), K = sym K_TABLE);

/// The round constants where assembler finds them aligned.
#[repr(C, align(16))]
struct Aligned([[u32; 16]; 4]);
static K_TABLE: Aligned = Aligned(K);

/// The quickest way this CPU knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// SHA extensions, with SSSE3 and SSE4.1.
    ShaNi,
    /// None.
    Scalar,
}

impl Cpu {
    /// Asks the CPU.
    pub fn detect() -> Self {
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

    fn compress_pair(&self, states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        let [first, second] = states;
        let [first_blocks, second_blocks] = blocks;
        match self {
            Self::ShaNi if first_blocks.len() == second_blocks.len() => {
                // SAFETY: as in `compress`, for both.
                unsafe {
                    asm!(
                        "call purgatory_sha256_ni_pair",
                        in("rdi") first,
                        in("rsi") first_blocks.as_ptr(),
                        in("rdx") first_blocks.len(),
                        in("rcx") second,
                        in("r8") second_blocks.as_ptr(),
                        clobber_abi("sysv64"),
                    );
                }
            }
            _ => {
                self.compress(first, first_blocks);
                self.compress(second, second_blocks);
            }
        }
    }
}
