//! Why a payload has no place, in words that say what was asked for, what there is, and what to do.

use crate::cause::Cause;
use crate::devicetree::DtbError;
use crate::memory::Span;

/// Why there are no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No hole is large enough.
    #[error(
        "no room for the {what}: {asked} bytes in one piece, aligned to {align:#x}, inside {:#x}..{:#x}, are needed; \
         the largest free piece there has {there} bytes: give the machine more memory or make the payload smaller",
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
    #[error("the running kernel shows no device tree (/sys/firmware/fdt): name one with dtb = in the entry")]
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
        "the firmware's memory map is not known: the service kernel needs CONFIG_FIRMWARE_MEMMAP or /sys/kernel/boot_params"
    )]
    NoFirmwareMap,
    /// Numbers in a kernel header that no kernel has.
    #[error("the kernel's header asks for {what} {value:#x}, which no kernel needs: the file is damaged")]
    Header {
        /// Which number.
        what: &'static str,
        /// It.
        value: u64,
    },
}

impl PlaceError {
    /// Its kind.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoRoom { .. } => Cause::Memory,
            // Whatever the entry is.
            Self::NoFirmwareMap => Cause::Refused,
            Self::NoDtb => Cause::Missing,
            Self::Dtb { .. } | Self::Header { .. } => Cause::Format,
        }
    }
}
