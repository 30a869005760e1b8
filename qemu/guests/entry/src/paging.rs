//! Given the page tables an x86_64 kernel was entered with, says what they map.
//!
//! Layout: Intel SDM volume 3, 4.5. Walked after the guest has installed its own tables, so that the walk can read any of them.

use crate::memory::Memory;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What a virtual address is mapped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub to: u64,
    /// Bytes that the table entry covers: 4 KiB, 2 MiB, 1 GiB.
    pub size: u64,
    /// Writable at every level.
    pub writable: bool,
    /// Executable at every level.
    pub executable: bool,
}

/// Looks `at` up in the tables at `cr3`, of 5 levels if `la57`; answers `None` where it is not mapped. Each table visited is given to
/// `visit`.
pub fn translate(memory: &impl Memory, cr3: u64, la57: bool, at: u64, mut visit: impl FnMut(u64)) -> Option<Mapping> {
    let mut table = cr3 & ADDRESS;
    let (mut writable, mut executable) = (true, true);
    let mut shift = if la57 { 48_u32 } else { 39 };
    loop {
        visit(table);
        let index = at.checked_shr(shift)? & 511;
        let entry = memory.word(table.wrapping_add(index.wrapping_mul(8)))?;
        if entry & PRESENT == 0 {
            return None;
        }
        writable &= entry & WRITABLE != 0;
        executable &= entry & NO_EXECUTE == 0;
        let size = 1_u64.checked_shl(shift)?;
        let offset = size.wrapping_sub(1);
        if shift == 12 || (shift <= 30 && entry & LARGE != 0) {
            return Some(Mapping {
                to: (entry & ADDRESS & !offset) | (at & offset),
                size,
                writable,
                executable,
            });
        }
        table = entry & ADDRESS;
        shift = shift.checked_sub(9)?;
    }
}

/// How a span of memory is mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// All of it to itself, with the rights that are needed.
    Identity,
    /// Not mapped here.
    Hole(u64),
    /// Mapped elsewhere, or without a right, here.
    Other(u64),
    /// A page table lies inside it, here.
    Table(u64),
}

/// Looks up all of `[start, start + len)`, which must be writable and, where `code` runs, executable.
pub fn span(memory: &impl Memory, cr3: u64, la57: bool, start: u64, len: u64, code: bool) -> Span {
    let end = start.saturating_add(len);
    let mut at = start;
    let mut inside = None;
    while at < end {
        let visit = |table| {
            if (start..end).contains(&table) {
                inside = Some(table);
            }
        };
        let Some(found) = translate(memory, cr3, la57, at, visit) else {
            return Span::Hole(at);
        };
        if found.to != at || !found.writable || (code && !found.executable) {
            return Span::Other(at);
        }
        at = (at & !found.size.wrapping_sub(1)).saturating_add(found.size);
    }
    inside.map_or(Span::Identity, Span::Table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::Ram;

    const MIB: u64 = 1 << 20;

    /// PML5 at 0x1000, PML4 0x2000, PDPT 0x3000, PD 0x4000, PT 0x5000: the first GiB by 2 MiB pages but [2, 4) MiB by 4 KiB, without page
    /// 0x300000, and the second GiB by one page that can't be written.
    fn tables() -> Ram {
        let mut ram = Ram::default();
        for page in 1..6 {
            ram.put(page * 0x1000, &[0; 0x1000]);
        }
        let mut put = |at: u64, entry: u64| ram.put(at, &entry.to_le_bytes());
        put(0x1000, 0x2003);
        put(0x2000, 0x3003);
        put(0x3000, 0x4003);
        put(0x3008, 0x4000_0081);
        for i in 0..512 {
            put(0x4000 + i * 8, (i * 2 * MIB) | 0x83);
            put(0x5000 + i * 8, (2 * MIB + i * 0x1000) | 3);
        }
        put(0x4008, 0x5003);
        put(0x5000 + 256 * 8, 0);
        put(0x4000 + 8 * 8, (16 * MIB) | 0x83 | NO_EXECUTE);
        ram
    }

    #[test]
    fn four_and_five_levels() {
        let ram = tables();
        for (cr3, la57) in [(0x2000, false), (0x1000, true), (0x1018, true)] {
            let mut seen = Vec::new();
            let found = translate(&ram, cr3, la57, 2 * MIB + 0x1234, |t| seen.push(t)).unwrap();
            assert_eq!((found.to, found.size), (2 * MIB + 0x1234, 0x1000));
            assert_eq!(seen.last(), Some(&0x5000));
            assert_eq!(seen.len(), if la57 { 5 } else { 4 });
            let found = translate(&ram, cr3, la57, 0x4567_8901, |_| {}).unwrap();
            assert_eq!((found.to, found.size, found.writable), (0x4567_8901, 1 << 30, false));
            assert_eq!(translate(&ram, cr3, la57, 3 * MIB, |_| {}), None);
            assert_eq!(translate(&ram, cr3, la57, 1 << 31, |_| {}), None);
        }
    }

    #[test]
    fn spans() {
        let ram = tables();
        let look = |start, len| span(&ram, 0x2000, false, start, len, true);
        assert_eq!(look(4 * MIB, 12 * MIB), Span::Identity);
        assert_eq!(look(2 * MIB + 5, MIB - 5), Span::Identity);
        assert_eq!(look(2 * MIB, 2 * MIB), Span::Hole(3 * MIB));
        assert_eq!(look(14 * MIB, 4 * MIB), Span::Other(16 * MIB));
        assert_eq!(span(&ram, 0x2000, false, 14 * MIB, 4 * MIB, false), Span::Identity);
        assert_eq!(look(1023 * MIB, 2 * MIB), Span::Other(1024 * MIB));
        assert_eq!(look(0x4000, 0x1000), Span::Table(0x4000));
        assert_eq!(look(0x6000, 0), Span::Identity);
    }
}
