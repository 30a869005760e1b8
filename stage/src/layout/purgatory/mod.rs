//! The purgatory's segment: the blob, the parameter block in its first page, the page tables behind it, and the digest table.
//!
//! Given what is checked, where to jump and where the segment goes; responsible for every byte of it. What the blob does
//! with them is in `purgatory/README.md`.
//!
//! A region's digests cover exactly the bytes that are loaded. The zeros up to the end of its segment are not checked.

mod blob;
mod descriptors;
mod tables;
mod tables_arm64;
mod tables_x86_64;
#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests;

use config::{Arch, Check, ReasonStore};
use purgatory::params::{self, PAGE};
use purgatory::{Params, Range, ReasonPlace, Record, reason};
use sha2::Digest as _;
use zerocopy::IntoBytes as _;

use crate::machine::{Conduit, Uart, UartKind};
use crate::memory::{Span, range};
pub use blob::BlobError;
use descriptors::Attributes;
use tables::Mapping;

/// Everything the purgatory is told.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Which purgatory.
    pub arch: Arch,
    /// What is checked, in this order.
    pub regions: &'a [Region<'a>],
    /// Physical address to jump to.
    pub entry: u64,
    /// x0 = device tree (arm64), RSI = zero page (x86_64).
    pub argument: u64,
    /// Where to speak; none is mute.
    pub uart: Option<Uart>,
    /// How to reset (arm64).
    pub conduit: Option<Conduit>,
    /// What to do with the regions.
    pub check: Check,
    /// Memory that must be mapped besides the regions, the purgatory and the UART. x86_64: whatever the kernel touches
    /// on these tables, before it has its own.
    pub map: &'a [(Span, MapKind)],
    /// arm64: what the main kernel reads and writes with the caches off, and what has to be clean for it: the Image and the
    /// device tree. A region that is checked is clean with that; what the purgatory writes, it cleans by itself.
    pub clean: &'a [Span],
    /// Ticks of the counter in a millisecond, for the message.
    pub ticks_per_ms: Option<u64>,
    /// Physical address of the [`Record`] that the purgatory completes: any alignment, and in no region.
    pub record: Option<u64>,
    /// Where the reason of a reset is left.
    pub reason: Option<ReasonStore>,
}

/// Bytes that are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region<'a> {
    /// At most 16 printable ASCII letters.
    pub name: &'a str,
    /// The memory it has; its bytes are at the start.
    pub span: Span,
    /// How many bytes.
    pub len: u64,
    /// Their digests, chunk by chunk: what `crate::memory::digest` makes of them.
    pub digests: &'a [u8],
}

impl Region<'_> {
    /// The memory of its bytes.
    fn checked(&self) -> Span {
        Span {
            start: self.span.start,
            end: self.span.start.saturating_add(self.len),
        }
    }
}

/// What a mapping is for. Where two overlap, their rights add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// Written and executed: memory in which the main kernel unpacks and moves itself.
    Code,
    /// Written.
    Data,
    /// Read.
    ReadOnly,
}

/// The segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgatoryImage {
    /// Its bytes, whole pages.
    pub bytes: Vec<u8>,
    /// Physical address of its first instruction.
    pub entry: u64,
    /// The digest table in it.
    pub digests: Span,
}

/// Upper bound of the segment's size for `job`, bytes, whole pages, wherever it goes.
///
/// # Errors
/// [`BlobError`], where no address can make it work.
pub fn footprint(job: &Job<'_>) -> Result<u64, BlobError> {
    let mut mappings = wanted(job)?;
    let tables = tables::Tables::build(job.arch, 0, &mut mappings)?.bytes();
    let rest = params::BLOB_MAX
        .saturating_add(tables)
        .saturating_add(digests_len(job).next_multiple_of(PAGE));
    // The segment's own pages need tables too: one for each 2 MiB it touches, and at most two of each upper level.
    let mut size = rest;
    for _ in 0..2 {
        let own = (size / (PAGE * 512)).saturating_add(2).saturating_add(4);
        size = rest.saturating_add(own.saturating_mul(PAGE));
    }
    Ok(size)
}

/// The segment for `job`, to be loaded at `base`, which is a multiple of 4096.
///
/// # Errors
/// [`BlobError`]: no blob, a blob that is none, or a job that can't be done.
pub fn build(job: &Job<'_>, base: u64, blob_elf: &[u8]) -> Result<PurgatoryImage, BlobError> {
    if !base.is_multiple_of(PAGE) || base == 0 {
        return Err(BlobError::Base { base });
    }
    let blob = blob::Blob::parse(job.arch, blob_elf)?;
    let tables_at = base
        .checked_add(blob.size())
        .ok_or(BlobError::TooHigh { end: u64::MAX })?;

    let mut mappings = wanted(job)?;
    for part in &blob.parts {
        let attributes = Attributes {
            write: part.write,
            execute: part.execute,
            device: false,
        };
        let span = part.at(base);
        mappings.push(Mapping { span, attributes });
    }
    let digests: Vec<u8> = job.regions.iter().flat_map(|r| r.digests).copied().collect();
    let digests_len = u64::try_from(digests.len()).unwrap_or(u64::MAX);
    let placed = Placed::new(job, tables_at, &mappings, digests_len)?;
    let segment = Span {
        start: base,
        end: placed.digests.end.next_multiple_of(PAGE),
    };
    for region in job.regions {
        if region.span.overlaps(&segment) {
            return Err(BlobError::Overlap {
                name: region.name.to_owned(),
                region: region.span,
                purgatory: segment,
            });
        }
    }

    let mut params = parameters(job)?;
    params.digests = placed.digests.start;
    params.digests_len = digests_len;
    params.digests_digest = sha2::Sha256::digest(&digests).into();
    params.digest = sha2::Sha256::digest(params.digested()).into();
    let mut bytes = blob.bytes;
    let Some(slot) = bytes.get_mut(..size_of::<Params>()) else {
        return Err(BlobError::Shape {
            what: "is shorter than its parameter block",
        });
    };
    slot.copy_from_slice(params.as_bytes());
    placed.tables.append(&mut bytes);
    let whole = |end: u64| usize::try_from(end.saturating_sub(base)).unwrap_or(usize::MAX);
    bytes.resize(whole(placed.digests.start), 0);
    bytes.extend_from_slice(&digests);
    bytes.resize(whole(segment.end), 0);
    let entry = base
        .checked_add(blob.entry)
        .ok_or(BlobError::TooHigh { end: u64::MAX })?;
    Ok(PurgatoryImage {
        bytes,
        entry,
        digests: placed.digests,
    })
}

/// What follows the blob.
struct Placed {
    tables: tables::Tables,
    /// The digest table, on pages of its own.
    digests: Span,
}

impl Placed {
    /// Tables at `at` for `mappings` and for what follows the blob: the digest table, and on x86_64 the tables themselves,
    /// which the main kernel's decompressor reads.
    fn new(job: &Job<'_>, at: u64, mappings: &[Mapping], digests_len: u64) -> Result<Self, BlobError> {
        // Mapping what follows may take further tables, which move what follows.
        let mut room = 0_u64;
        loop {
            let start = at.saturating_add(room);
            let digests = Span {
                start,
                end: start.saturating_add(digests_len),
            };
            let mut all = mappings.to_vec();
            if job.arch == Arch::X86_64 {
                all.push(Mapping {
                    span: Span { start: at, end: start },
                    attributes: Attributes::READ,
                });
            }
            all.push(Mapping {
                span: digests,
                attributes: Attributes::READ,
            });
            let tables = tables::Tables::build(job.arch, at, &mut all)?;
            if tables.bytes() <= room {
                return Ok(Self { tables, digests });
            }
            room = tables.bytes();
        }
    }
}

/// Bytes of the digest table.
fn digests_len(job: &Job<'_>) -> u64 {
    job.regions
        .iter()
        .fold(0, |sum: u64, r| sum.saturating_add(job.check.digests_len(r.len)))
}

/// Mappings for everything but the segment itself.
fn wanted(job: &Job<'_>) -> Result<Vec<Mapping>, BlobError> {
    let mut mappings = Vec::new();
    let record = job.record.map(record_span).transpose()?;
    for region in job.regions {
        let Region { name, span, len, .. } = *region;
        if span.len() < len || span.start == 0 {
            return Err(BlobError::Region {
                name: name.to_owned(),
                span,
                len,
            });
        }
        if record.is_some_and(|record| region.checked().overlaps(&record)) {
            return Err(BlobError::RecordChecked { name: name.to_owned() });
        }
        // The x86_64 kernel writes to its zero page while it still runs on these tables.
        let attributes = if job.arch == Arch::X86_64 {
            Attributes::WRITE
        } else {
            Attributes::READ
        };
        mappings.push(Mapping { span, attributes });
    }
    mappings.extend(record.map(|span| Mapping {
        span,
        attributes: Attributes::WRITE,
    }));
    for (span, kind) in job.map {
        let attributes = match kind {
            MapKind::Code => Attributes::ALL,
            MapKind::Data => Attributes::WRITE,
            MapKind::ReadOnly => Attributes::READ,
        };
        mappings.push(Mapping {
            span: *span,
            attributes,
        });
    }
    for span in job.clean {
        mappings.push(Mapping {
            span: *span,
            attributes: Attributes::READ,
        });
    }
    if let Some(uart) = job.uart
        && uart.kind != UartKind::Port16550
    {
        // The last register used is number 7 (16550) or at 0x18 (PL011).
        let size = 8_u64.wrapping_shl(uart.reg_shift.min(3)).max(0x20);
        let end = uart
            .base
            .checked_add(size)
            .ok_or(BlobError::TooHigh { end: u64::MAX })?;
        mappings.push(Mapping {
            span: Span { start: uart.base, end },
            attributes: Attributes::DEVICE,
        });
    }
    if let Some(ReasonStore::Memory(start)) = job.reason {
        let end = start
            .checked_add(reason::SIZE)
            .filter(|_| start != 0 && start.is_multiple_of(4));
        let end = end.ok_or(BlobError::Reason { place: start })?;
        mappings.push(Mapping {
            span: Span { start, end },
            attributes: Attributes::DEVICE,
        });
    }
    Ok(mappings)
}

/// The bytes of the record.
fn record_span(start: u64) -> Result<Span, BlobError> {
    let end = start.checked_add(u64::try_from(Record::SIZE).unwrap_or(u64::MAX));
    let end = end.ok_or(BlobError::TooHigh { end: u64::MAX })?;
    Ok(Span { start, end })
}

fn parameters(job: &Job<'_>) -> Result<Params, BlobError> {
    let mut params = Params::EMPTY;
    let check = job.check;
    params.check = check.code();
    params.entry = job.entry;
    params.argument = job.argument;
    params.record = job.record.unwrap_or(0);
    let (kind, place) = match job.reason {
        None => (ReasonPlace::None, 0),
        Some(ReasonStore::Memory(address)) => (ReasonPlace::Memory, address),
        Some(ReasonStore::Cmos(index)) => (ReasonPlace::Cmos, u64::from(index)),
    };
    params.reason.kind = kind.code();
    params.reason.place = place;
    params.ticks_per_ms = job.ticks_per_ms.unwrap_or(0);
    if let Some(uart) = job.uart {
        params.uart.kind = uart.kind.code();
        params.uart.reg_shift = uart.reg_shift;
        params.uart.base = uart.base;
    }
    params.conduit = job.conduit.unwrap_or(Conduit::None).code();

    let regions = job.regions.iter().filter(|_| check != Check::Off);
    // A region is cleaned for the check; what the purgatory writes, it cleans by itself.
    let record = job.record.map(record_span).transpose()?;
    let others: Vec<Span> = regions.map(Region::checked).chain(record).collect();
    let cleans = range::subtract(job.clean, &others);
    let clean_count = cleans.len();
    if clean_count > params::CLEANS {
        return Err(BlobError::TooMany {
            what: "ranges to clean",
            count: clean_count,
            limit: params::CLEANS,
        });
    }
    for (slot, span) in params.clean.iter_mut().zip(cleans) {
        *slot = Range {
            start: span.start,
            end: span.end,
        };
    }
    params.clean_count = u32::try_from(clean_count).unwrap_or(u32::MAX);

    let region_count = job.regions.len();
    if region_count > params::REGIONS {
        return Err(BlobError::TooMany {
            what: "regions",
            count: region_count,
            limit: params::REGIONS,
        });
    }
    for (slot, region) in params.regions.iter_mut().zip(job.regions) {
        let Region {
            name,
            span,
            len,
            digests,
        } = *region;
        let letters = slot
            .name
            .get_mut(..name.len())
            .filter(|_| name.bytes().all(|b| matches!(b, b' '..=b'~')));
        let Some(letters) = letters else {
            return Err(BlobError::Name { name: name.to_owned() });
        };
        letters.copy_from_slice(name.as_bytes());
        slot.base = span.start;
        slot.len = len;
        if u64::try_from(digests.len()).ok() != Some(check.digests_len(len)) {
            return Err(BlobError::Digests {
                name: name.to_owned(),
                found: digests.len(),
                wanted: check.digests_len(len),
            });
        }
    }
    params.region_count = u32::try_from(region_count).unwrap_or(u32::MAX);
    Ok(params)
}
