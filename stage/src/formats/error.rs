//! Why a kernel file is not booted.

use config::Arch;

use super::FORMATS;
use crate::text::{Listed, Size};

/// Why a kernel file is refused. Reads on after `kernel: PATH: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormatError {
    /// No format of the registry.
    #[error("not a kernel (begins with {first}); Cato takes {}", taken())]
    Unknown {
        /// Its first bytes.
        first: First,
    },
    /// A format that is known and not taken.
    #[error("{what}, but Cato takes only {}; {remedy}", taken())]
    NotTaken {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A kernel for another machine.
    #[error("{what}, but this machine is {arch}; name a kernel for {arch}")]
    WrongArch {
        /// What it is.
        what: &'static str,
        /// What it would have to be.
        arch: Arch,
    },
    /// arm64 flags bit 0. Nothing but the kernel's own code would change the endianness back, and it does not.
    #[error("big-endian kernel; use a little-endian one")]
    BigEndian,
    /// arm64 flags bits 1 and 2.
    #[error("built for {} pages, but this CPU supports only {}; build it with a page size the CPU supports", Size(*.wants), Listed(.has))]
    PageSize {
        /// The kernel's, bytes.
        wants: u64,
        /// The CPU's, bytes.
        has: Vec<u64>,
    },
    /// arm64 before Linux 3.17.
    #[error("no image_size in its header (Linux before 3.17); use a newer kernel")]
    NoImageSize,
    /// x86 boot protocol.
    #[error("boot protocol {}.{:02} is too old (Cato needs 2.12, Linux 3.8); use a newer kernel", .version >> 8, .version & 0xff)]
    TooOld {
        /// Major in the high byte.
        version: u16,
    },
    /// x86 xloadflags bit 0.
    #[error("32-bit x86 kernel (no 64-bit entry point); use an x86_64 kernel")]
    Not64Bit,
    /// x86 loadflags bit 0.
    #[error("zImage for low memory (LOADED_HIGH is not set); use a bzImage")]
    NotLoadedHigh,
    /// x86 `relocatable_kernel`.
    #[error("not relocatable; build it with CONFIG_RELOCATABLE=y")]
    NotRelocatable,
    /// x86 xloadflags bit 5.
    #[error(
        "no support for 5-level paging, which is on in this machine; boot the service kernel with \"no5lvl\", or use Linux 4.14 or newer"
    )]
    No5Level,
    /// Shorter than its own header says.
    #[error("truncated ({have} of {need} bytes); copy it again")]
    Truncated {
        /// What there is, bytes.
        have: u64,
        /// What there should be, bytes.
        need: u64,
    },
    /// Longer than its own header allows.
    #[error("{have} bytes long, but its header allows only {most}; copy it again")]
    TooLong {
        /// What there is, bytes; when unpacking was stopped, only so far.
        have: u64,
        /// What there may be, bytes.
        most: u64,
    },
    /// A device tree behind it, as some boot loaders take it.
    #[error("a device tree follows the kernel, where it would be lost; take it off and name it as dtb")]
    Appended,
    /// A header field that makes no sense.
    #[error("damaged header: {field} is {value:#x}, expected {rule}; copy it again")]
    Header {
        /// The field, by its name in the kernel's documentation.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        rule: &'static str,
    },
    /// A compressed file that gives nothing.
    #[error("{wrapper} stream is truncated, damaged or empty; copy it again")]
    Nothing {
        /// Its format.
        wrapper: &'static str,
    },
    /// Wrapped too often.
    #[error("compressed more than {most} times; unpack it")]
    TooDeep {
        /// How often is taken.
        most: usize,
    },
    /// Any of these inside a compressed file.
    #[error("in {wrapper}: {error}")]
    Inside {
        /// The format around it.
        wrapper: &'static str,
        /// What is wrong inside.
        error: Box<FormatError>,
    },
}

impl FormatError {
    /// It is a kernel that Cato would take elsewhere, or in another state; else it may be anything.
    pub(crate) fn is_of_a_kernel(&self) -> bool {
        match self {
            Self::Unknown { .. } | Self::Nothing { .. } | Self::NotTaken { .. } => false,
            Self::Inside { error, .. } => error.is_of_a_kernel(),
            _ => true,
        }
    }

    pub(super) fn unknown(bytes: &[u8]) -> Self {
        Self::Unknown {
            first: First::of(bytes),
        }
    }
}

/// The first bytes of a file, printed as hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    bytes: [u8; 8],
    len: usize,
}

impl First {
    /// Of a file that begins with `head`.
    pub(crate) fn of(head: &[u8]) -> Self {
        let mut bytes = [0; 8];
        let mut len = 0_usize;
        for (to, from) in bytes.iter_mut().zip(head) {
            *to = *from;
            len = len.saturating_add(1);
        }
        Self { bytes, len }
    }
}

impl std::fmt::Display for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut space = "";
        for byte in self.bytes.iter().take(self.len) {
            write!(f, "{space}{byte:02x}")?;
            space = " ";
        }
        Ok(())
    }
}

/// The names of what is taken, from the registry.
fn taken() -> Taken {
    Taken
}

struct Taken;

impl std::fmt::Display for Taken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        for format in FORMATS {
            if !matches!(format.kind, super::FormatKind::Refused(_)) {
                write!(f, "{comma}{}", format.name)?;
                comma = ", ";
            }
        }
        Ok(())
    }
}
