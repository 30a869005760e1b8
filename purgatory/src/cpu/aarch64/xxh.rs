//! XXH3's inner loop.
#![expect(unsafe_code, reason = "assembler is called here")]

use core::arch::{asm, global_asm};

use crate::xxh3::{Block, SECRET, Stripes};

use super::Cpu;

global_asm!(include_str!("xxh.S"));

impl Stripes for Cpu {
    fn accumulate(&self, acc: &mut [u64; 8], blocks: &[Block]) {
        // SAFETY: the pointers are of whole values, and the assembler reads that many blocks and no more.
        unsafe {
            asm!(
                "bl purgatory_xxh3",
                in("x0") acc,
                in("x1") blocks.as_ptr(),
                in("x2") blocks.len(),
                in("x3") SECRET.as_ptr(),
                out("x20") _,
                out("x21") _,
                out("x22") _,
                clobber_abi("C"),
            );
        }
    }
}
