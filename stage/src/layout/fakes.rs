//! A purgatory for tests that run nothing.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "numbers that are here"
)]

use config::Arch;

/// An ELF file of the shape the purgatory has: parameter block, code, data, each on a page of its own.
pub(crate) fn blob(arch: Arch) -> Vec<u8> {
    let machine: u16 = if arch == Arch::Arm64 { 183 } else { 62 };
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    elf.extend(3u16.to_le_bytes());
    elf.extend(machine.to_le_bytes());
    elf.extend(1u32.to_le_bytes());
    for word in [0x2000u64, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 3, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for (flags, start, size) in [(4u32, 0u64, 0x2000u64), (5, 0x2000, 0x1000), (6, 0x3000, 0x1000)] {
        elf.extend(1u32.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for word in [0x1000 + start, start, start, size, size, 0x1000] {
            elf.extend(word.to_le_bytes());
        }
    }
    elf.resize(0x5000, 0);
    elf[0x1000..0x1008].copy_from_slice(b"CatoPurg");
    elf[0x1008..0x100c].copy_from_slice(&::purgatory::params::VERSION.to_le_bytes());
    elf
}
