//! A kernel that was read: its header and the bytes that go to memory.

use crate::memory::Slot;

/// A kernel by boot protocol. Both hold the bytes that go to memory and the header fields that say where.
#[derive(Debug, PartialEq, Eq)]
pub enum Kernel {
    /// arm64 `Image`: Documentation/arch/arm64/booting.rst.
    Image(Image),
    /// x86_64 `bzImage`: Documentation/arch/x86/boot.rst.
    BzImage(BzImage),
}

/// An arm64 `Image`.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// The file, from its first byte.
    pub bytes: Slot,
    /// Offset from a 2 MiB boundary at which it is placed, bytes.
    pub text_offset: u64,
    /// Memory the kernel uses from its start, bytes (never less than `bytes.len()`).
    pub image_size: u64,
    /// Bit 3 of the header's flags: may be placed anywhere in memory.
    pub anywhere: bool,
}

/// An x86_64 `bzImage`.
#[derive(Debug, PartialEq, Eq)]
pub struct BzImage {
    /// The setup header, file offsets 0x1f1 up to its own end; goes into the zero page at the same offset.
    pub setup_header: Vec<u8>,
    /// The protected-mode part: what goes to the load address.
    pub bytes: Slot,
    /// Memory the kernel uses from its load address before it knows the memory map, bytes.
    pub init_size: u64,
    /// Where it would like to be.
    pub pref_address: u64,
    /// Alignment of the load address, bytes.
    pub alignment: u64,
    /// Longest command line, bytes without NUL.
    pub cmdline_size: u64,
    /// xloadflags bit 1: kernel, zero page, command line and initrd may be above 4 GiB.
    pub above_4g: bool,
    /// xloadflags bit 4: takes EFI data from kexec.
    pub efi_kexec: bool,
    /// Highest address an initrd may end at (inclusive) when `above_4g` is not set.
    pub initrd_addr_max: u64,
}

impl Kernel {
    /// The bytes that go to memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Image(k) => &k.bytes,
            Self::BzImage(k) => &k.bytes,
        }
    }
}
