//! What is going to be booted, in memory, as the boot protocols want it.

use std::fmt;

use config::{Check, Sha256};

use super::arena::{Kind as ArenaKind, Slot};
use crate::place::Places;

/// A kernel, its initrd, its device tree and its command line.
#[derive(Debug)]
pub struct Payload {
    /// The kernel, unpacked, with its header read.
    pub kernel: Kernel,
    /// All initrds, padded and joined; none when the entry names none.
    pub initrd: Option<Slot>,
    /// The device tree named by the config; none means the running one.
    pub dtb: Option<Slot>,
    /// The whole command line for the main kernel, without NUL.
    pub cmdline: String,
    /// What the purgatory is to check.
    pub check: Check,
    /// The files behind it, as stored.
    pub artefacts: Vec<Artefact>,
    /// In place: every address, and the memory for what tells the kernel about the machine.
    pub resident: Option<(Places, Slot)>,
    /// Where all that memory is.
    pub arena: ArenaKind,
}

/// What a stored file is for; printed as the config names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `kernel`
    Kernel,
    /// `initrd`, the only one.
    Initrd,
    /// `initrd[N]`, one of several, counted from 0 in the order of the config.
    InitrdAt(usize),
    /// `dtb`
    Dtb,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.pad("kernel"),
            Self::Initrd => f.pad("initrd"),
            Self::InitrdAt(i) => f.pad(&format!("initrd[{i}]")),
            Self::Dtb => f.pad("dtb"),
        }
    }
}

/// One stored file that went into a [`Payload`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// What it is for.
    pub role: Role,
    /// Its path in the source.
    pub path: String,
    /// Length in bytes when it was opened.
    pub size: u64,
    /// Bytes read before the end of the file.
    pub read: u64,
    /// SHA-256 over the bytes read; computed only where the config names one.
    pub sha256: Option<Sha256>,
    /// What the config demands.
    pub wanted: Option<Sha256>,
}

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
