//! x86_64 page table entries (Intel SDM volume 3, 4.5).

use super::descriptors::{Attributes, Format};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
/// Write-through and cache disable: PAT entry 3, which is UC both after reset and in Linux' table.
const UNCACHED: u64 = 1 << 3 | 1 << 4;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// EFER.NXE is on when the purgatory is entered, and the purgatory makes sure of it.
const NO_EXECUTE: u64 = 1 << 63;

pub(super) const FORMAT: Format = Format {
    table: |address| address | PRESENT | WRITABLE | ACCESSED,
    page: leaf,
    block: |address, attributes| leaf(address, attributes) | LARGE,
};

/// Accessed and dirty are set beforehand: the CPU then never writes to the tables.
fn leaf(address: u64, attributes: Attributes) -> u64 {
    let mut entry = address | PRESENT | ACCESSED;
    if attributes.write {
        entry |= WRITABLE | DIRTY;
    }
    if attributes.device {
        entry |= UNCACHED;
    }
    if !attributes.execute {
        entry |= NO_EXECUTE;
    }
    entry
}
