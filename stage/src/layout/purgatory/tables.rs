//! Identity page tables of four levels with 512 entries each: x86_64's 4-level paging and arm64's 4 KiB granule are
//! the same but for the bits of an entry.

use config::Arch;
use purgatory::params::PAGE;

use super::blob::BlobError;
use super::descriptors::{Attributes, Format};
use super::{tables_arm64, tables_x86_64};
use crate::memory::Span;
use crate::memory::range::align_down;

/// A block mapping, bytes.
pub(super) const BLOCK: u64 = 2 << 20;
/// 47 bits: the lower half of x86_64's canonical addresses. No known machine has memory beyond.
const ADDRESS_LIMIT: u64 = 1 << 47;
/// 1024 tables of 2 MiB entries map 1 TiB.
const TABLE_LIMIT: usize = 1024;
const ENTRIES: usize = 512;

/// Addresses and what may be done with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) span: Span,
    pub(super) attributes: Attributes,
}

/// The tables; the first is the root. On x86_64 the second is the root for 5-level paging.
pub(super) struct Tables {
    base: u64,
    pages: Vec<[u64; ENTRIES]>,
}

impl Tables {
    /// Tables that will be at `base` and map `mappings` (rounded out to pages), and nothing else, to themselves.
    pub(super) fn build(arch: Arch, base: u64, mappings: &mut Vec<Mapping>) -> Result<Self, BlobError> {
        let format = match arch {
            Arch::Arm64 => tables_arm64::FORMAT,
            Arch::X86_64 => tables_x86_64::FORMAT,
        };
        let mut tables = Self {
            base,
            pages: vec![[0; ENTRIES]],
        };
        if arch == Arch::X86_64 {
            let root = (format.table)(base);
            let mut pml5 = [0; ENTRIES];
            if let Some(first) = pml5.first_mut() {
                *first = root;
            }
            tables.pages.push(pml5);
        }
        for mapping in disjoint(mappings)? {
            tables.map(&format, &mapping)?;
        }
        Ok(tables)
    }

    /// Their size.
    pub(super) fn bytes(&self) -> u64 {
        u64::try_from(self.pages.len()).unwrap_or(u64::MAX).saturating_mul(PAGE)
    }

    /// Adds them to the segment.
    pub(super) fn append(&self, to: &mut Vec<u8>) {
        for entry in self.pages.iter().flatten() {
            to.extend_from_slice(&entry.to_le_bytes());
        }
    }

    fn map(&mut self, format: &Format, mapping: &Mapping) -> Result<(), BlobError> {
        let Span { start: mut at, end } = mapping.span;
        while at < end {
            let block = at.is_multiple_of(BLOCK) && end.saturating_sub(at) >= BLOCK && !mapping.attributes.device;
            let (size, last, entry) = if block {
                (BLOCK, 21, (format.block)(at, mapping.attributes))
            } else {
                (PAGE, 12, (format.page)(at, mapping.attributes))
            };
            let mut table = 0;
            for shift in [39_u32, 30, 21].into_iter().filter(|s| *s > last) {
                table = self.next(format, table, index(at, shift))?;
            }
            if let Some(slot) = self.slot(table, index(at, last)) {
                *slot = entry;
            }
            at = at.saturating_add(size);
        }
        Ok(())
    }

    /// The table behind entry `index` of `table`, made when there is none.
    fn next(&mut self, format: &Format, table: usize, index: usize) -> Result<usize, BlobError> {
        let count = self.pages.len();
        let base = self.base;
        let address = |n: usize| base.saturating_add(u64::try_from(n).unwrap_or(u64::MAX).saturating_mul(PAGE));
        let Some(slot) = self.slot(table, index) else {
            return Ok(table);
        };
        if *slot == 0 {
            if count >= TABLE_LIMIT {
                return Err(BlobError::TooManyTables { limit: TABLE_LIMIT });
            }
            *slot = (format.table)(address(count));
            self.pages.push([0; ENTRIES]);
            return Ok(count);
        }
        // Entries carry the address of their table in bits 47..12, and no two formats differ in that.
        let offset = (*slot & 0x0000_ffff_ffff_f000).saturating_sub(base);
        Ok(usize::try_from(offset / PAGE).unwrap_or(usize::MAX))
    }

    fn slot(&mut self, table: usize, index: usize) -> Option<&mut u64> {
        self.pages.get_mut(table)?.get_mut(index)
    }
}

fn index(address: u64, shift: u32) -> usize {
    usize::try_from(address.wrapping_shr(shift) & 511).unwrap_or(0)
}

/// Whole pages, sorted, without overlaps: where mappings overlap, rights add up; a device overlaps nothing.
fn disjoint(mappings: &mut Vec<Mapping>) -> Result<Vec<Mapping>, BlobError> {
    mappings.retain(|m| !m.span.is_empty());
    for mapping in mappings.iter_mut() {
        let end = mapping.span.end;
        if end > ADDRESS_LIMIT {
            return Err(BlobError::TooHigh { end });
        }
        mapping.span.start = align_down(mapping.span.start, PAGE);
        mapping.span.end = end.next_multiple_of(PAGE);
    }
    let mut edges: Vec<u64> = mappings.iter().flat_map(|m| [m.span.start, m.span.end]).collect();
    edges.sort_unstable();
    edges.dedup();
    let mut out: Vec<Mapping> = Vec::new();
    for (&start, &end) in edges.iter().zip(edges.iter().skip(1)) {
        let mut here = mappings
            .iter()
            .filter(|m| m.span.start <= start && end <= m.span.end)
            .map(|m| m.attributes);
        let Some(first) = here.next() else { continue };
        let mut attributes = first;
        for other in here {
            if other.device != first.device {
                return Err(BlobError::DeviceMemory { page: start });
            }
            attributes.write |= other.write;
            attributes.execute |= other.execute;
        }
        match out.last_mut() {
            Some(last) if last.span.end == start && last.attributes == attributes => last.span.end = end,
            _ => out.push(Mapping {
                span: Span { start, end },
                attributes,
            }),
        }
    }
    Ok(out)
}
