//! XXH3's inner loop. The bare target's Rust code has no SSE registers, so it is assembler; it is the same in the tests.
#![expect(unsafe_code, reason = "assembler is called here")]

use core::arch::{asm, global_asm};

use crate::xxh3::{Block, SECRET, Stripes};

use super::Cpu;

global_asm!(include_str!("xxh.S"));

impl Stripes for Cpu {
    fn accumulate(&self, acc: &mut [u64; 8], blocks: &[Block]) {
        // SAFETY: every x86_64 has SSE2, and `entry.S` has turned its registers on (a host's kernel too); the pointers are
        // of whole values, and the assembler reads that many blocks and no more.
        unsafe {
            asm!(
                "call purgatory_xxh3_sse2",
                in("rdi") acc,
                in("rsi") blocks.as_ptr(),
                in("rdx") blocks.len(),
                in("rcx") SECRET.as_ptr(),
                clobber_abi("sysv64"),
            );
        }
    }
}
