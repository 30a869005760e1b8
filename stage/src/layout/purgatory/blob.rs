//! The purgatory's ELF → its pages.

use config::Arch;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64, ET_DYN};
use goblin::elf::program_header::{PF_W, PF_X, PT_DYNAMIC, PT_INTERP, PT_LOAD};
use goblin::elf::section_header::{SHT_REL, SHT_RELA};
use purgatory::params::{BLOB_MAX, MAGIC, PAGE, VERSION};
use thiserror::Error;

use crate::memory::Span;

/// Section type of packed relative relocations (ELF gABI); goblin does not name it.
const SHT_RELR: u32 = 19;

/// Why there is no purgatory segment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BlobError {
    /// A host build, or stage was built by hand.
    #[error("this cato was built without a purgatory; build it with `cargo mkinitramfs`")]
    NoBlob,
    /// The bytes are no ELF file.
    #[error("the purgatory is not an ELF file: {reason}")]
    NotElf {
        /// The parser's words.
        reason: String,
    },
    /// A blob for another machine.
    #[error("the purgatory is for ELF machine {found}, not {wanted}")]
    Machine {
        /// `e_machine`.
        found: u16,
        /// What was asked for.
        wanted: Arch,
    },
    /// The blob would have to be relocated, which nobody does.
    #[error("the purgatory has {count} relocations, but must have none")]
    Relocations {
        /// How many.
        count: u64,
    },
    /// The blob is not as its linker script makes it.
    #[error("the purgatory {what}")]
    Shape {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Blob and stage are of different builds.
    #[error("the purgatory's parameter block has version {found}, but this cato writes version {VERSION}")]
    Version {
        /// The blob's.
        found: u32,
    },
    /// More code than agreed.
    #[error("the purgatory is too large: {size} bytes, at most {BLOB_MAX}")]
    TooBig {
        /// Its size in memory.
        size: u64,
    },
    /// The segment can't start there.
    #[error("the purgatory can't be at {base:#x}; expected a nonzero multiple of {PAGE:#x}")]
    Base {
        /// The address asked for.
        base: u64,
    },
    /// An address that page tables of four levels don't reach.
    #[error("address {end:#x} is beyond the purgatory's page tables")]
    TooHigh {
        /// The end of what should be mapped.
        end: u64,
    },
    /// More memory mapped than the segment should carry tables for.
    #[error("the purgatory needs more than {limit} page tables")]
    TooManyTables {
        /// The limit.
        limit: usize,
    },
    /// A table of the parameter block is full.
    #[error("too many {what} for the purgatory: {count}, at most {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// As asked.
        count: usize,
        /// As possible.
        limit: usize,
    },
    /// Names are for the console.
    #[error("region name {name:?} is not valid: at most 16 printable ASCII characters")]
    Name {
        /// The name.
        name: String,
    },
    /// A region is shorter than its bytes, or at address 0.
    #[error("region {name:?} at {:#x}..{:#x} can't hold {len} bytes", span.start, span.end)]
    Region {
        /// The region.
        name: String,
        /// Its memory.
        span: Span,
        /// Bytes to be loaded.
        len: u64,
    },
    /// The purgatory would be on top of the payload.
    #[error("the purgatory at {:#x}..{:#x} overlaps region {name:?} at {:#x}..{:#x}",
        purgatory.start, purgatory.end, region.start, region.end)]
    Overlap {
        /// The region.
        name: String,
        /// Its memory.
        region: Span,
        /// The purgatory's.
        purgatory: Span,
    },
    /// A region's digests are not those of its bytes.
    #[error("region {name:?} has {found} bytes of digests, expected {wanted}")]
    Digests {
        /// The region.
        name: String,
        /// As given.
        found: usize,
        /// As its length asks for.
        wanted: u64,
    },
    /// What the purgatory writes can't be checked.
    #[error("region {name:?} contains the hand-over record; it must be split around it")]
    RecordChecked {
        /// The region.
        name: String,
    },
    /// No place for the reason of a reset.
    #[error("the reset reason can't be left at {place:#x}; expected a nonzero multiple of 4")]
    Reason {
        /// The address asked for.
        place: u64,
    },
    /// The UART's page is memory at the same time.
    #[error("page {page:#x} is mapped both as memory and as a device")]
    DeviceMemory {
        /// Its address.
        page: u64,
    },
}

/// Pages of the blob with equal rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    /// Offset from the blob's start, bytes.
    pub(super) start: u64,
    /// End, bytes, a multiple of [`PAGE`].
    pub(super) end: u64,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Part {
    /// Its addresses when the blob is at `base`.
    pub(super) fn at(&self, base: u64) -> Span {
        Span {
            start: base.saturating_add(self.start),
            end: base.saturating_add(self.end),
        }
    }
}

/// The blob as it will be in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blob {
    /// Whole pages, with zeros where the file has none.
    pub(super) bytes: Vec<u8>,
    /// The first instruction, bytes from the start.
    pub(super) entry: u64,
    /// By address, disjoint, whole pages.
    pub(super) parts: Vec<Part>,
}

impl Blob {
    /// Reads `elf`, as the purgatory's linker script makes it: PT_LOAD from 0, each on pages of its own, parameter
    /// block first, no relocations.
    pub(super) fn parse(arch: Arch, elf: &[u8]) -> Result<Self, BlobError> {
        if elf.is_empty() {
            return Err(BlobError::NoBlob);
        }
        let file = Elf::parse(elf).map_err(|e| BlobError::NotElf { reason: e.to_string() })?;
        let machine = match arch {
            Arch::Arm64 => EM_AARCH64,
            Arch::X86_64 => EM_X86_64,
        };
        if file.header.e_machine != machine {
            return Err(BlobError::Machine {
                found: file.header.e_machine,
                wanted: arch,
            });
        }
        if file.header.e_type != ET_DYN {
            return Err(BlobError::Shape {
                what: "is not position independent",
            });
        }
        let count = file
            .section_headers
            .iter()
            .filter(|s| matches!(s.sh_type, SHT_REL | SHT_RELA | SHT_RELR))
            .fold(0_u64, |n, s| {
                n.saturating_add(s.sh_size.checked_div(s.sh_entsize).unwrap_or(s.sh_size))
            });
        if count != 0 {
            return Err(BlobError::Relocations { count });
        }
        if file
            .program_headers
            .iter()
            .any(|p| matches!(p.p_type, PT_INTERP | PT_DYNAMIC))
        {
            return Err(BlobError::Shape {
                what: "needs a dynamic linker",
            });
        }

        let mut bytes = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        for load in file
            .program_headers
            .iter()
            .filter(|p| p.p_type == PT_LOAD && p.p_memsz != 0)
        {
            let start = load.p_vaddr;
            let end = start
                .checked_add(load.p_memsz)
                .and_then(|e| e.checked_next_multiple_of(PAGE))
                .filter(|e| *e <= BLOB_MAX)
                .ok_or(BlobError::TooBig {
                    size: start.saturating_add(load.p_memsz),
                })?;
            let previous = parts.last().map_or(0, |p| p.end);
            if start != previous {
                return Err(BlobError::Shape {
                    what: "has segments that share a page or leave a gap",
                });
            }
            let Some(content) = elf.get(load.file_range()).filter(|_| load.p_filesz <= load.p_memsz) else {
                return Err(BlobError::Shape {
                    what: "has a segment beyond the end of its file",
                });
            };
            bytes.extend_from_slice(content);
            bytes.resize(usize::try_from(end).unwrap_or(usize::MAX).min(1 << 20), 0);
            let (write, execute) = (load.p_flags & PF_W != 0, load.p_flags & PF_X != 0);
            if write && (execute || parts.iter().any(|p| p.write)) {
                return Err(BlobError::Shape {
                    what: "has writable code, or two writable segments",
                });
            }
            parts.push(Part {
                start,
                end,
                write,
                execute,
            });
        }
        let entry = file.header.e_entry;
        if !parts.iter().any(|p| p.execute && p.start <= entry && entry < p.end) {
            return Err(BlobError::Shape {
                what: "has no code at its entry point",
            });
        }
        // magic and version, the block's first fields
        let magic = bytes.first_chunk::<8>().copied().map(u64::from_le_bytes);
        if magic != Some(MAGIC) {
            return Err(BlobError::Shape {
                what: "has no parameter block at its start",
            });
        }
        let version = bytes
            .get(8..)
            .and_then(|b| b.first_chunk::<4>())
            .copied()
            .map_or(0, u32::from_le_bytes);
        if version != VERSION {
            return Err(BlobError::Version { found: version });
        }
        Ok(Self { bytes, entry, parts })
    }

    /// Bytes it takes in memory, whole pages.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }
}
