//! Instructions that a Cortex-A53 may get wrong, in a program as it is linked.
//!
//! Given an arm64 ELF file; responsible for finding what the compiler and the linker were to avoid: their own code, assembler, and
//! the objects of musl alike. Pure.
//!
//! The errata are Arm's (Cortex-A53 MPCore Software Developers Errata Notice); the cores are in boards by the million, and nothing
//! tells which revision one has.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use goblin::elf::Elf;
use goblin::elf::program_header::{PF_X, PT_LOAD};

/// Where one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hit {
    /// Its number.
    erratum: Erratum,
    /// The address of its first instruction, as linked.
    address: u64,
}

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Erratum {
    /// A 64-bit multiply-accumulate right behind an access to memory may give a wrong sum.
    MultiplyAccumulate,
    /// An ADRP in the last two instructions of a page, an access to memory, and one that uses the ADRP's register as its base: that may
    /// use another address.
    AdrpAtTheEndOfAPage,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self.erratum {
            Erratum::MultiplyAccumulate => 835_769,
            Erratum::AdrpAtTheEndOfAPage => 843_419,
        };
        write!(f, "{:#x}: erratum {number}", self.address)
    }
}

/// All of them in what may be run.
///
/// # Errors
/// When it is no ELF file, or ends early.
fn scan(program: &[u8]) -> Result<Vec<Hit>> {
    let elf = Elf::parse(program).context("no ELF file")?;
    let mut hits = Vec::new();
    let runs = (elf.program_headers.iter()).filter(|header| header.p_type == PT_LOAD && header.p_flags & PF_X != 0);
    for header in runs {
        let bytes = program
            .get(header.file_range())
            .context("an ELF file that ends early")?;
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte)))
            .collect();
        hits.extend(in_code(&words, header.p_vaddr));
    }
    Ok(hits)
}

/// That there are none, in a program for that machine.
///
/// # Errors
/// With the places of some; or when it can't be read.
pub fn none(program: &[u8], arch: Arch) -> Result<()> {
    if arch != Arch::Arm64 {
        return Ok(());
    }
    let hits = scan(program)?;
    let some: Vec<String> = hits.iter().take(8).map(ToString::to_string).collect();
    ensure!(
        hits.is_empty(),
        "{} places that a Cortex-A53 gets wrong: {}",
        hits.len(),
        some.join(", ")
    );
    Ok(())
}

/// The encodings are those of the Arm Architecture Reference Manual, C4.1.
fn in_code(words: &[u32], from: u64) -> impl Iterator<Item = Hit> {
    let addresses = (from..).step_by(4);
    addresses
        .zip(words.windows(2).enumerate())
        .filter_map(move |(address, (at, pair))| {
            let [first, second] = *pair else { return None };
            let next = |n: usize| words.get(at.checked_add(n)?).copied();
            let erratum = if is_memory(first) && is_multiply_accumulate(second) {
                Erratum::MultiplyAccumulate
            } else if address & 0xfff >= 0xff8
                && let Some(register) = adrp(first)
                && is_memory(second)
                && [next(2), next(3)]
                    .into_iter()
                    .flatten()
                    .any(|word| base(word) == Some(register))
            {
                Erratum::AdrpAtTheEndOfAPage
            } else {
                return None;
            };
            Some(Hit { erratum, address })
        })
}

/// Loads, stores and prefetches.
fn is_memory(word: u32) -> bool {
    word & 0x0a00_0000 == 0x0800_0000
}

/// MADD, MSUB, SMADDL, SMSUBL, UMADDL, UMSUBL to a 64-bit register. With XZR as what is added to, they only multiply.
fn is_multiply_accumulate(word: u32) -> bool {
    let is_three_sources = word & 0xff00_0000 == 0x9b00_0000;
    is_three_sources && matches!(word >> 21 & 7, 0 | 1 | 5) && word >> 10 & 31 != 31
}

/// The register that an ADRP writes.
fn adrp(word: u32) -> Option<u32> {
    (word & 0x9f00_0000 == 0x9000_0000).then_some(word & 31)
}

/// The base of a load or store with an unsigned offset.
fn base(word: u32) -> Option<u32> {
    (word & 0x3b00_0000 == 0x3900_0000).then_some(word >> 5 & 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOP: u32 = 0xd503_201f;
    /// `ldr x1, [x2]`, `madd x8, x2, x22, x19`, `mul x8, x2, x3`.
    const LOAD: u32 = 0xf940_0041;
    const MADD: u32 = 0x9b16_4c48;
    const MUL: u32 = 0x9b03_7c48;
    /// `adrp x0, .`, `str x1, [x3]`, `ldr x4, [x0, #8]`, `ldr x4, [x5, #8]`
    const ADRP: u32 = 0x9000_0000;
    const STORE: u32 = 0xf900_0061;
    const BASED: u32 = 0xf940_0404;
    const ELSEWHERE: u32 = 0xf940_04a4;

    fn hits(words: &[u32], from: u64) -> Vec<(Erratum, u64)> {
        in_code(words, from).map(|hit| (hit.erratum, hit.address)).collect()
    }

    #[test]
    fn an_access_right_before_a_multiply_accumulate() {
        let planted = [NOP, LOAD, MADD, NOP];
        assert_eq!(hits(&planted, 0x1000), [(Erratum::MultiplyAccumulate, 0x1004)]);
        assert_eq!(hits(&[LOAD, NOP, MADD], 0), []);
        assert_eq!(hits(&[LOAD, MUL], 0), []);
        assert_eq!(hits(&[MADD, LOAD], 0), []);
    }

    #[test]
    fn an_adrp_at_the_end_of_a_page() {
        let planted = [ADRP, STORE, NOP, BASED];
        let found = |from| [(Erratum::AdrpAtTheEndOfAPage, from)];
        assert_eq!(hits(&planted, 0x1ff8), found(0x1ff8));
        assert_eq!(hits(&planted, 0x1ffc), found(0x1ffc));
        assert_eq!(hits(&[ADRP, STORE, BASED], 0x1ff8), found(0x1ff8));
        assert_eq!(hits(&planted, 0x1ff4), []);
        assert_eq!(hits(&planted, 0x2000), []);
        assert_eq!(hits(&[ADRP, NOP, NOP, BASED], 0x1ff8), []);
        assert_eq!(hits(&[ADRP, STORE, NOP, ELSEWHERE], 0x1ff8), []);
    }
}
