//! What is going to be booted, in memory, as the boot protocols want it.

use std::fmt;

use config::{Check, Sha256};

use super::in_place::ArenaKind;
use crate::devicetree::Correction;
use crate::formats::Kernel;
use crate::memory::Slot;
use crate::place::Places;

/// A kernel, its initrd, its device tree and its command line.
#[derive(Debug)]
pub(crate) struct Payload {
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
    /// What is worth knowing about the initrds; for the console.
    pub notes: Vec<Note>,
}

/// What a stored file is for; printed as the config names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Role {
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
pub(crate) struct Artefact {
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

/// Something about an initrd that is not an error and may explain what the main kernel does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Which one.
    pub role: Role,
    /// Its path in the source.
    pub path: String,
    /// What there is to know.
    pub what: What,
}

/// What there is to know about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// Microcode or ACPI tables behind something compressed: the kernel looks for them before it can unpack.
    LateEarlyFiles,
    /// The kernel stops before the end.
    Junk {
        /// Offset in the initrd.
        at: u64,
    },
    /// Its bootconfig was put behind the last initrd.
    Bootconfig,
    /// Its bootconfig is for another kernel.
    NoBootconfig,
    /// Nor does the kernel look at it without a word for it.
    NotAskedFor,
    /// It may have been cut off.
    Endless,
    /// A device tree that says otherwise than the machine.
    Correction(Correction),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.role, self.path)?;
        match &self.what {
            What::LateEarlyFiles => f.write_str(
                "the kernel ignores its microcode or ACPI tables: it looks for them only in uncompressed archives before \
                 the first compressed one; name this initrd first",
            ),
            What::Junk { at } => write!(f, "the kernel stops at byte {at}: no archive begins there"),
            What::Bootconfig => {
                f.write_str("its bootconfig was moved to the end of the last initrd, where the kernel looks for it")
            }
            What::NoBootconfig => f.write_str(
                "warning: the kernel ignores its bootconfig (CONFIG_BOOT_CONFIG is not set); use a kernel built with it",
            ),
            What::NotAskedFor => f.write_str(
                "warning: the kernel ignores its bootconfig, unless it is built with CONFIG_BOOT_CONFIG_FORCE; add bootconfig to \
                 `cmdline`",
            ),
            What::Endless => f.write_str(
                "warning: its cpio archive has no TRAILER!!! at its end; was it cut off? copy or pack it again",
            ),
            What::Correction(correction) => correction.fmt(f),
        }
    }
}
