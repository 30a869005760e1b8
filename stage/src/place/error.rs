//! Why a payload has no place, in words that say what was asked for, what there is, and what to do.

use config::Arch;

use super::cmdline::CmdlineError;
use super::dtb::DtbError;
use super::purgatory::BlobError;
use super::{MAX_SEGMENTS, Span};

/// Why there is no layout.
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
    /// The kernel's own limit for what it copies.
    #[error(
        "the payload fills {asked} bytes of segments; kexec_load takes at most half of the machine's memory, {there} bytes: \
         give the machine more memory or make the initrd smaller"
    )]
    TooMuch {
        /// Bytes.
        asked: u64,
        /// Bytes.
        there: u64,
    },
    /// The kernel would not read all of the command line.
    #[error("cmdline: {0}")]
    Cmdline(#[from] CmdlineError),
    /// Memory that changes under the main kernel.
    #[error(
        "the GICv3 ITS of this machine writes interrupts into memory that the running kernel keeps to itself, and the main kernel \
         would be placed over it: boot the service kernel with irqchip.gicv3_nolpi=1, or through EFI"
    )]
    LiveLpis,
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
    /// Not for this machine.
    #[error("the kernel is for {kernel} and this machine is {machine}")]
    WrongArch {
        /// The kernel's.
        kernel: Arch,
        /// The machine's.
        machine: Arch,
    },
    /// Numbers in a kernel header that no kernel has.
    #[error("the kernel's header asks for {what} {value:#x}, which no kernel needs: the file is damaged")]
    Header {
        /// Which number.
        what: &'static str,
        /// It.
        value: u64,
    },
    /// The purgatory's own words.
    #[error(transparent)]
    Purgatory(#[from] BlobError),
    /// More than `kexec_load` takes.
    #[error("the layout needs more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A mistake in this program, caught before it does harm.
    #[error("the {what} at {:#x}..{:#x} breaks a rule of placement: this is a mistake in Cato, please report it", span.start, span.end)]
    Contradiction {
        /// Which segment.
        what: &'static str,
        /// Where.
        span: Span,
    },
}
