//! Why a payload has no place, in words that say what was asked for, what there is, and what to do.

use crate::cause::Cause;
use crate::devicetree::DtbError;
use crate::memory::Span;

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceError {
    /// No hole is large enough.
    #[error(
        "no room for the {what}: needs {asked} bytes, contiguous, aligned to {align:#x}, in {:#x}..{:#x}; \
         the largest free range there has {there} bytes; use a smaller payload or more memory",
        window.start, window.end
    )]
    NoRoom {
        /// Which part.
        what: &'static str,
        /// Bytes.
        asked: u64,
        /// Bytes.
        align: u64,
        /// Where it may be.
        window: Span,
        /// Bytes.
        there: u64,
    },
    /// No device tree to hand over.
    #[error("the running kernel has no device tree (/sys/firmware/fdt); name one with `dtb` in the entry")]
    NoDtb,
    /// A device tree is of no use.
    #[error("{which}: {error}")]
    Dtb {
        /// `dtb` or `/sys/firmware/fdt`.
        which: &'static str,
        /// What is wrong with it.
        error: DtbError,
    },
    /// The main kernel has to know where memory is.
    #[error(
        "the firmware's memory map is unknown; the service kernel needs CONFIG_FIRMWARE_MEMMAP or /sys/kernel/boot_params"
    )]
    NoFirmwareMap,
    /// Numbers in a kernel header that no kernel has.
    #[error("damaged kernel header: {what} {value:#x} is out of range; copy the kernel again")]
    Header {
        /// Which number.
        what: &'static str,
        /// It.
        value: u64,
    },
}

impl PlaceError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::NoRoom { .. } => Cause::Memory,
            // Whatever the entry is.
            Self::NoFirmwareMap => Cause::Refused,
            Self::NoDtb => Cause::Missing,
            Self::Dtb { .. } | Self::Header { .. } => Cause::Format,
        }
    }
}
