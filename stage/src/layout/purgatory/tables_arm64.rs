//! arm64 translation table descriptors, 4 KiB granule (Arm ARM D8.3), valid in all three regimes: EL1, EL2 without
//! VHE, EL2 with VHE. MAIR index 0 is Device-nGnRE, 1 is Normal write-back, as `entry.S` sets it.

use super::descriptors::{Attributes, Format};

const BLOCK: u64 = 0b01;
const TABLE_OR_PAGE: u64 = 0b11;
const NORMAL: u64 = 1 << 2;
/// `AP[2]`: read-only. `AP[1]` stays 0: with EL0 able to write, EL1 could not execute; EL2 without VHE ignores it.
const READ_ONLY: u64 = 1 << 7;
const INNER_SHAREABLE: u64 = 3 << 8;
const ACCESSED: u64 = 1 << 10;
/// Privileged execute never (EL1, and EL2 with VHE), and XN of EL2 without VHE: set or clear together.
const NO_EXECUTE: u64 = 1 << 53 | 1 << 54;

pub(super) const FORMAT: Format = Format {
    table: |address| address | TABLE_OR_PAGE,
    page: |address, attributes| leaf(address, attributes) | TABLE_OR_PAGE,
    block: |address, attributes| leaf(address, attributes) | BLOCK,
};

fn leaf(address: u64, attributes: Attributes) -> u64 {
    let mut entry = address | ACCESSED;
    if !attributes.device {
        entry |= NORMAL | INNER_SHAREABLE;
    }
    if !attributes.write {
        entry |= READ_ONLY;
    }
    if !attributes.execute {
        entry |= NO_EXECUTE;
    }
    entry
}
