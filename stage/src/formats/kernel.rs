//! A kernel that was read: its header, which is read once and carried as it is to where the kernel is entered, and the bytes
//! that go to memory.

use super::initrd::BuiltIn;
use crate::memory::Slot;

/// A kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// What it says about itself.
    pub header: Header,
    /// What goes to memory: the whole Image, the protected-mode part of a bzImage.
    pub bytes: Slot,
}

impl Kernel {
    /// What it says about the compressions of an initrd that it unpacks.
    pub(crate) fn built_in(&self) -> BuiltIn {
        match &self.header {
            Header::Image(_) => BuiltIn::of_image(&self.bytes),
            Header::BzImage(header) => BuiltIn::of_version(header.version),
        }
    }
}

/// What a kernel says about itself, by boot protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    /// arm64 `Image`: Documentation/arch/arm64/booting.rst.
    Image(Image),
    /// x86_64 `bzImage`: Documentation/arch/x86/boot.rst.
    BzImage(BzImage),
}

/// The header of an arm64 `Image`.
#[expect(clippy::struct_field_names, reason = "the names of the kernel's documentation")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    /// Offset from a 2 MiB boundary at which it is placed, bytes.
    pub text_offset: u64,
    /// Memory the kernel uses from its start, bytes (never less than the file has).
    pub image_size: u64,
    /// Bit 3 of the header's flags: may be placed anywhere in memory.
    pub anywhere: bool,
}

/// Room for the longest setup header there may be, bytes: in the zero page the E820 table follows (zero-page.rst).
pub(crate) const SETUP_HEADER: usize = 0x290 - 0x1f1;

/// The header of an x86_64 `bzImage`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BzImage {
    /// The setup header, file offsets 0x1f1 up to its own end, then zeros; goes into the zero page at the same offset.
    pub setup_header: [u8; SETUP_HEADER],
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
    /// Major and minor version of Linux, where it says so.
    pub version: Option<(u16, u16)>,
}
