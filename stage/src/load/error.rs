//! Why an entry could not be loaded.

use std::io;

use super::in_place::WhyNot;
use super::payload::Role;
use crate::cause::Cause;
use crate::devicetree::DtbError;
use crate::formats::FormatError;
use crate::formats::initrd::InitrdError;
use crate::memory::NoMemory;
use crate::probe::FileTreeError;
use crate::text::Size;
use crate::text::cmdline::CmdlineError;
use config::Arch;

/// Why an entry could not be loaded. Reads on after `entry "a": `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A file could not be opened.
    #[error("{role}: {path}: {source}")]
    Open {
        /// Which file.
        role: Role,
        /// Its path in the source.
        path: String,
        /// What is wrong with it.
        source: FileTreeError,
    },
    /// A file could not be read.
    #[error("{role}: {path}: {source}")]
    Read {
        /// Which file.
        role: Role,
        /// Its path in the source.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel is not one this machine boots.
    #[error("kernel: {path}: {source}")]
    Format {
        /// Its path in the source.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The compressed kernel is damaged.
    #[error("kernel: {path}: can't unpack {format}: {source}; copy it again")]
    Unpack {
        /// Its path in the source.
        path: String,
        /// The outermost format.
        format: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// The kernel would not read all of an initrd.
    #[error("{role}: {path}: {source}")]
    Initrd {
        /// Which one.
        role: Role,
        /// Its path in the source.
        path: String,
        /// What is wrong with it.
        source: InitrdError,
    },
    /// The device tree is not one.
    #[error("dtb: {path}: {source}")]
    Dtb {
        /// Its path in the source.
        path: String,
        /// What is wrong with it.
        source: DtbError,
    },
    /// Not a machine with a device tree.
    #[error("dtb: {path}: {arch} boots without a device tree; remove `dtb` from the entry")]
    NoDtb {
        /// Its path in the source.
        path: String,
        /// The machine's.
        arch: Arch,
    },
    /// The kernel would not read all of the command line.
    #[error("cmdline: {0}")]
    Cmdline(#[from] CmdlineError),
    /// kexec takes at most half of the memory.
    #[error(
        "payload: {} (kernel {}, initrd {}, dtb {}) is too large: kexec takes at most half of RAM, {}; \
         use a smaller initrd or more memory",
        Size(*.needs), Size(*.kernel), Size(*.initrd), Size(*.dtb), Size(*.has)
    )]
    HalfOfMemory {
        /// Bytes that would be handed to kexec.
        needs: u64,
        /// Of these, the kernel.
        kernel: u64,
        /// Of these, the initrds.
        initrd: u64,
        /// Of these, the device tree.
        dtb: u64,
        /// Half of the memory, bytes.
        has: u64,
    },
    /// There is not enough free memory to load it.
    #[error(
        "payload: needs {} of free memory (twice {}, as kexec makes a copy, and {} to unpack), but only {} is free; \
         use a smaller initrd or more memory",
        Size(*.needs), Size(*.payload), Size(*.unpack), Size(*.has)
    )]
    FreeMemory {
        /// Bytes that loading takes at its peak.
        needs: u64,
        /// Bytes of the payload.
        payload: u64,
        /// Bytes that unpacking takes.
        unpack: u64,
        /// Bytes that are available.
        has: u64,
    },
    /// There is, but the kernel can't copy to all of it.
    #[error(
        "payload: kexec copies {}, but only {} is free for that, besides {} for devices (CMA); \
         use a smaller initrd or more memory, or a smaller cma= on the command line of the service kernel",
        Size(*.needs), Size(*.has), Size(*.cma)
    )]
    KernelMemory {
        /// Bytes of the copy.
        needs: u64,
        /// Bytes that are available to the kernel.
        has: u64,
        /// Bytes that are free besides.
        cma: u64,
    },
    /// Neither in place nor as segments.
    #[error("not in place: {in_place}; not in segments: {segments}")]
    NeitherWay {
        /// Why not in place.
        in_place: WhyNot,
        /// Why not as segments.
        segments: Box<LoadError>,
    },
    /// The memory that seemed to be there was not.
    #[error("{role}: {source}")]
    NoMemory {
        /// For which part.
        role: Role,
        /// How much.
        source: NoMemory,
    },
}

impl LoadError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Open { source, .. } => source.cause(),
            Self::Read { source, .. } => Cause::of(source),
            Self::Format { .. }
            | Self::Initrd { .. }
            | Self::Unpack { .. }
            | Self::Dtb { .. }
            | Self::NoDtb { .. }
            | Self::Cmdline(_) => Cause::Format,
            Self::HalfOfMemory { .. }
            | Self::FreeMemory { .. }
            | Self::KernelMemory { .. }
            | Self::NeitherWay { .. }
            | Self::NoMemory { .. } => Cause::Memory,
        }
    }
}
