//! What a page table entry says, whatever the CPU.

/// What may be done with a page. Reading is always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) write: bool,
    pub(super) execute: bool,
    pub(super) device: bool,
}

impl Attributes {
    pub(super) const READ: Self = Self {
        write: false,
        execute: false,
        device: false,
    };
    pub(super) const WRITE: Self = Self {
        write: true,
        execute: false,
        device: false,
    };
    pub(super) const ALL: Self = Self {
        write: true,
        execute: true,
        device: false,
    };
    pub(super) const DEVICE: Self = Self {
        write: true,
        execute: false,
        device: true,
    };
}

/// How a CPU writes entries.
pub(super) struct Format {
    /// A table at this address.
    pub(super) table: fn(u64) -> u64,
    /// A 4 KiB page at this address.
    pub(super) page: fn(u64, Attributes) -> u64,
    /// A 2 MiB block at this address.
    pub(super) block: fn(u64, Attributes) -> u64,
}
