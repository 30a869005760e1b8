//! SHA-256 with the SHA2 instructions, where the CPU has them.
#![expect(unsafe_code, reason = "instructions not every CPU has")]

use core::arch::{asm, global_asm};

use crate::sha256::{Blocks, K, Scalar};

global_asm!(include_str!("sha.S"), options(raw));

/// The quickest way this CPU knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// FEAT_SHA256.
    Sha2,
    /// None.
    Scalar,
}

impl Cpu {
    /// Asks the CPU. On Linux the kernel answers for it (HWCAP_CPUID).
    pub fn detect() -> Self {
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

impl Blocks for Cpu {
    fn compress(&self, state: &mut [u32; 8], blocks: &[[u8; 64]]) {
        match self {
            Self::Scalar => Scalar.compress(state, blocks),
            Self::Sha2 => {
                // SAFETY: `detect` saw the instructions, and `entry.S` has turned the registers on (a host's kernel too); the pointers are of
                // whole values, and the assembler reads that many blocks and no more.
                unsafe {
                    asm!(
                        "bl purgatory_sha256",
                        in("x0") state,
                        in("x1") blocks.as_ptr(),
                        in("x2") blocks.len(),
                        in("x3") K.as_ptr(),
                        clobber_abi("C"),
                    );
                }
            }
        }
    }

    fn compress_pair(&self, states: [&mut [u32; 8]; 2], blocks: [&[[u8; 64]]; 2]) {
        let [first, second] = states;
        let [first_blocks, second_blocks] = blocks;
        match self {
            Self::Sha2 if first_blocks.len() == second_blocks.len() => {
                // SAFETY: as in `compress`, for both.
                unsafe {
                    asm!(
                        "bl purgatory_sha256_pair",
                        in("x0") first,
                        in("x1") first_blocks.as_ptr(),
                        in("x2") first_blocks.len(),
                        in("x3") K.as_ptr(),
                        in("x4") second,
                        in("x5") second_blocks.as_ptr(),
                        // The lower halves of these are the caller's.
                        out("v8") _, out("v9") _, out("v10") _, out("v11") _,
                        out("v12") _, out("v13") _, out("v14") _, out("v15") _,
                        clobber_abi("C"),
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
