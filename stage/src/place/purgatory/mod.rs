//! The purgatory's segment: the blob, the parameter block in its first page, and the page tables behind it.
//!
//! Given what is checked, where to jump and where the segment goes; responsible for every byte of it. What the blob does
//! with them is in `purgatory/README.md`.
//!
//! A region's digest covers exactly the bytes that are loaded. The zeros up to the end of its segment are not checked.

mod blob;
mod tables;
mod tables_arm64;
mod tables_x86_64;
#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "a test that overflows fails, as it should"
)]
mod tests;

use config::{Arch, Check};
use purgatory::params::{self, PAGE};
use purgatory::{Params, Range, Record};
use sha2::Digest as _;
use zerocopy::IntoBytes as _;

use super::{Conduit, Span, Uart, UartKind};
pub use blob::BlobError;
use tables::{Attributes, Mapping};

/// Everything the purgatory is told.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// Which purgatory.
    pub arch: Arch,
    /// What is checked: name (at most 16 ASCII letters), the memory it has, the bytes at the start of that memory.
    pub regions: &'a [(&'a str, Span, &'a [u8])],
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
    /// arm64: what the main kernel reads with the caches off, cleaned before the jump: the Image and the device tree.
    /// What the purgatory writes is added.
    pub clean: &'a [Span],
    /// x86_64: TSC ticks in a millisecond, for the message and the record.
    pub ticks_per_ms: Option<u64>,
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
}

/// Upper bound of the segment's size for `job`, bytes, whole pages, wherever it goes.
///
/// # Errors
/// [`BlobError`], where no address can make it work.
pub fn footprint(job: &Job<'_>) -> Result<u64, BlobError> {
    let mut mappings = wanted(job)?;
    let tables = tables::Tables::build(job.arch, 0, &mut mappings)?.bytes();
    // The segment's own pages need tables too: one for each 2 MiB it touches, and at most two of each upper level.
    let mut size = params::BLOB_MAX.saturating_add(tables);
    for _ in 0..2 {
        let own = (size / (PAGE * 512)).saturating_add(2).saturating_add(4);
        size = params::BLOB_MAX
            .saturating_add(tables)
            .saturating_add(own.saturating_mul(PAGE));
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
    let mut written = None;
    for part in &blob.parts {
        let attributes = Attributes {
            write: part.write,
            execute: part.execute,
            device: false,
        };
        let span = part.at(base);
        if part.write {
            written = Some(span);
        }
        mappings.push(Mapping { span, attributes });
    }
    let written = written.ok_or(BlobError::Shape {
        what: "has no writable part",
    })?;
    let mut tables = tables::Tables::build(job.arch, tables_at, &mut mappings.clone())?;
    if job.arch == Arch::X86_64 {
        // The main kernel's decompressor reads the tables it runs on. Mapping them may take further ones.
        loop {
            let span = Span {
                start: tables_at,
                end: tables_at.saturating_add(tables.bytes()),
            };
            let mut all = mappings.clone();
            all.push(Mapping {
                span,
                attributes: Attributes::READ,
            });
            let again = tables::Tables::build(job.arch, tables_at, &mut all)?;
            let done = again.bytes() == tables.bytes();
            tables = again;
            if done {
                break;
            }
        }
    }
    let segment = Span {
        start: base,
        end: tables_at.saturating_add(tables.bytes()),
    };
    for (name, span, _) in job.regions {
        if span.overlaps(&segment) {
            return Err(BlobError::Overlap {
                name: (*name).to_owned(),
                region: *span,
                purgatory: segment,
            });
        }
    }

    let params = parameters(job, written)?;
    let mut bytes = blob.bytes;
    let Some(slot) = bytes.get_mut(..size_of::<Params>()) else {
        return Err(BlobError::Shape {
            what: "is shorter than its parameter block",
        });
    };
    slot.copy_from_slice(params.as_bytes());
    tables.append(&mut bytes);
    let entry = base
        .checked_add(blob.entry)
        .ok_or(BlobError::TooHigh { end: u64::MAX })?;
    Ok(PurgatoryImage { bytes, entry })
}

/// Mappings for everything but the segment itself.
fn wanted(job: &Job<'_>) -> Result<Vec<Mapping>, BlobError> {
    let mut mappings = Vec::new();
    for (name, span, bytes) in job.regions {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if span.len() < len || span.start == 0 {
            return Err(BlobError::Region {
                name: (*name).to_owned(),
                span: *span,
                len,
            });
        }
        // The x86_64 kernel writes to its zero page while it still runs on these tables.
        let attributes = if job.arch == Arch::X86_64 {
            Attributes::WRITE
        } else {
            Attributes::READ
        };
        mappings.push(Mapping {
            span: *span,
            attributes,
        });
    }
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
    Ok(mappings)
}

fn parameters(job: &Job<'_>, written: Span) -> Result<Params, BlobError> {
    let mut params = Params::EMPTY;
    let check = match job.check {
        Check::Off => purgatory::Check::Off,
        Check::Fast => purgatory::Check::Fast,
        Check::Sha256 => purgatory::Check::Sha256,
    };
    params.check = check.code();
    params.entry = job.entry;
    params.argument = job.argument;
    // The linker script puts it first.
    params.record = written.start;
    if written.len() < u64::try_from(size_of::<Record>()).unwrap_or(u64::MAX) {
        return Err(BlobError::Shape {
            what: "has no room for its record",
        });
    }
    params.ticks_per_ms = job.ticks_per_ms.unwrap_or(0);
    if let Some(uart) = job.uart {
        let kind = match uart.kind {
            UartKind::Port16550 => purgatory::UartKind::Port16550,
            UartKind::Mmio16550 => purgatory::UartKind::Mmio16550,
            UartKind::Pl011 => purgatory::UartKind::Pl011,
        };
        params.uart.kind = kind.code();
        params.uart.reg_shift = uart.reg_shift;
        params.uart.base = uart.base;
    }
    let conduit = match job.conduit {
        None => purgatory::Conduit::None,
        Some(Conduit::Smc) => purgatory::Conduit::Smc,
        Some(Conduit::Hvc) => purgatory::Conduit::Hvc,
    };
    params.conduit = conduit.code();

    let cleans = || core::iter::once(&written).chain(job.clean).filter(|s| !s.is_empty());
    let clean_count = cleans().count();
    if clean_count > params::CLEANS {
        return Err(BlobError::TooMany {
            what: "ranges to clean",
            count: clean_count,
            limit: params::CLEANS,
        });
    }
    for (slot, span) in params.clean.iter_mut().zip(cleans()) {
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
    for (slot, (name, span, bytes)) in params.regions.iter_mut().zip(job.regions) {
        let letters = slot
            .name
            .get_mut(..name.len())
            .filter(|_| name.bytes().all(|b| matches!(b, b' '..=b'~')));
        let Some(letters) = letters else {
            return Err(BlobError::Name {
                name: (*name).to_owned(),
            });
        };
        letters.copy_from_slice(name.as_bytes());
        slot.base = span.start;
        slot.len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        slot.digest = match check {
            // The crate finds the CPU's instructions by itself.
            purgatory::Check::Sha256 => sha2::Sha256::digest(bytes).into(),
            other => purgatory::check::digest(other, &purgatory::sha256::Scalar, bytes),
        };
    }
    params.region_count = u32::try_from(region_count).unwrap_or(u32::MAX);
    params.digest = sha2::Sha256::digest(params.digested()).into();
    Ok(params)
}
