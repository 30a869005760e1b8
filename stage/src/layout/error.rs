//! Why there is no layout, in words that say what was asked for, what there is, and what to do.

use config::Arch;

use super::purgatory::BlobError;
use crate::cause::Cause;
use crate::memory::Span;
use crate::place::PlaceError;
use crate::sys::kexec::MAX_SEGMENTS;
use crate::text::cmdline::CmdlineError;

/// Why there is no layout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    /// No addresses.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The kernel's own limit for what it copies.
    #[error(
        "the payload's segments are too large: {asked} bytes, kexec_load takes at most half of RAM, {there} bytes; \
         use a smaller initrd or more memory"
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
        "the GICv3 ITS keeps writing to memory that only the running kernel knows of, and the main kernel could be placed there; \
         boot the service kernel with irqchip.gicv3_nolpi=1, or through EFI"
    )]
    LiveLpis,
    /// Not for this machine.
    #[error("the kernel is for {kernel}, but this machine is {machine}")]
    WrongArch {
        /// The kernel's.
        kernel: Arch,
        /// The machine's.
        machine: Arch,
    },
    /// The purgatory's own words.
    #[error(transparent)]
    Purgatory(#[from] BlobError),
    /// More than `kexec_load` takes.
    #[error("the layout needs more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// A mistake in this program, caught before it does harm.
    #[error("the {what} at {:#x}..{:#x} breaks a placement rule: this is a bug in Cato, please report it", span.start, span.end)]
    Contradiction {
        /// Which segment.
        what: &'static str,
        /// Where.
        span: Span,
    },
}

impl LayoutError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Place(error) => error.cause(),
            Self::TooMuch { .. } => Cause::Memory,
            Self::Cmdline(_) | Self::WrongArch { .. } => Cause::Format,
            // Whatever the entry is.
            Self::LiveLpis => Cause::Refused,
            Self::Purgatory(_) | Self::TooManySegments | Self::Contradiction { .. } => Cause::Placement,
        }
    }
}
