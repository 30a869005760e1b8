//! GUID partition tables (UEFI specification 2.10, 5.3).
//!
//! Given a disk and its MBR; responsible for finding a copy of the table that is whole, every CRC and bound checked, also where the
//! kernel does not look: the backup, at the end of the disk or where the end was, and a table for sectors of another size.
//! Bounded: six headers, and 1 MiB of entries for each.

use std::fmt::{self, Write as _};

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::partition::{Partition, Table};
use crate::memory::crc::crc32;
use crate::sys::read_at::ReadAt;

/// What is wrong with one copy of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Bad {
    /// No sector there.
    #[error("sector {0} can't be read")]
    Unreadable(u64),
    /// The eight letters are missing.
    #[error("no \"EFI PART\" in sector {0}")]
    Signature(u64),
    /// UEFI wants 92 to the sector size.
    #[error("bad header size {0}")]
    HeaderSize(u32),
    /// Header CRC.
    #[error("header CRC32 mismatch (computed {got:08x}, stored {stored:08x})")]
    HeaderCrc {
        /// Computed.
        got: u32,
        /// Stored.
        stored: u32,
    },
    /// The header says it lives elsewhere.
    #[error("header in sector {at} says it is in sector {says}")]
    Place {
        /// Where it was read.
        at: u64,
        /// Its MyLBA.
        says: u64,
    },
    /// Entries that no table has: UEFI wants 128 × 2ⁿ bytes each; more than 1 MiB in all is nobody's.
    #[error("bad entry table: {count} entries of {size} bytes")]
    Entries {
        /// How many.
        count: u32,
        /// Bytes each.
        size: u32,
    },
    /// Entries CRC.
    #[error("entries CRC32 mismatch (computed {got:08x}, stored {stored:08x})")]
    EntriesCrc {
        /// Computed.
        got: u32,
        /// Stored.
        stored: u32,
    },
}

/// A GUID as stored: the first three groups little-endian, the last two big-endian.
struct Guid([u8; 16]);

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0;
        for group in [0..4, 4..6, 6..8] {
            if let Some(group) = bytes.get_mut(group) {
                group.reverse();
            }
        }
        f.write_str(&dashed(bytes))
    }
}

/// `8-4-4-4-12` hex digits, in the order of the bytes: a UUID.
pub(crate) fn dashed(bytes: [u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}"); // a String takes everything
    }
    text
}

/// UEFI 5.3.2, table 5-5.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    signature: [u8; 8],
    revision: U32,
    size: U32,
    crc32: U32,
    reserved: U32,
    my_lba: U64,
    alternate_lba: U64,
    first_usable_lba: U64,
    last_usable_lba: U64,
    disk_guid: [u8; 16],
    entries_lba: U64,
    entry_count: U32,
    entry_size: U32,
    entries_crc32: U32,
}

/// UEFI 5.3.3, table 5-6.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    type_guid: [u8; 16],
    guid: [u8; 16],
    first_lba: U64,
    last_lba: U64,
    attributes: U64,
    name: [U16; 36],
}

const HEADER_CRC_AT: usize = 16;
const ENTRIES_MAX: u64 = 1 << 20;
/// What was found of a table.
pub(crate) enum Found {
    /// One copy that is whole.
    Table(Table),
    /// No copy is; why not.
    Damaged(String),
    /// There is no trace of one.
    None,
}

/// Looks for the table of `disk`, which has `size` bytes in sectors of `sector` bytes. `protected` is the last sector
/// the protective MBR names, None when there is no such MBR.
pub(crate) fn find(disk: &(impl ReadAt + ?Sized), sector: u32, size: u64, protected: Option<u64>) -> Found {
    // The disk's own sectors first: all kernels understand these.
    let other = if sector == 512 { 4096 } else { 512 };
    let mut damage = None;
    for unit in [sector, other] {
        let last = size.checked_div(unit.into()).unwrap_or(0).saturating_sub(1);
        let mut alternate = 0;
        let primary = match copy(disk, unit, 1, &mut alternate) {
            Ok(partitions) => return Found::Table(table(partitions, 1, None, (sector, unit), protected)),
            Err(bad) => bad,
        };
        // Where the disk ends, where it ended when the table was made, and where the damaged copy says.
        let mut places = vec![last];
        places.extend(
            protected
                .into_iter()
                .chain([alternate])
                .filter(|at| (2..last).contains(at)),
        );
        places.dedup();
        let mut backup = None;
        for at in places {
            match copy(disk, unit, at, &mut 0) {
                Ok(partitions) => {
                    return Found::Table(table(partitions, at, Some(&primary), (sector, unit), protected));
                }
                Err(bad) => backup = backup.or(Some(bad)),
            }
        }
        if let Some(backup) = backup.filter(|_| unit == sector) {
            damage = Some((primary, backup));
        }
    }
    match damage {
        // Announced, or half there.
        Some((primary, backup))
            if protected.is_some() || [&primary, &backup].iter().any(|bad| !matches!(bad, Bad::Signature(_))) =>
        {
            Found::Damaged(format!("GPT damaged: primary: {primary}; backup: {backup}"))
        }
        _ => Found::None,
    }
}

fn table(
    partitions: Vec<Partition>,
    at: u64,
    primary: Option<&Bad>,
    (sector, unit): (u32, u32),
    protected: Option<u64>,
) -> Table {
    let mut odd = Vec::new();
    if protected.is_none() {
        odd.push("no protective MBR".to_owned());
    }
    if unit != sector {
        odd.push(format!("the GPT is for sectors of {unit} bytes, the disk has {sector}"));
    }
    if let Some(bad) = primary {
        odd.push(format!("primary GPT: {bad}; using the backup in sector {at}"));
    }
    Table {
        partitions,
        odd: (!odd.is_empty()).then(|| odd.join("; ")),
        announced: protected.is_some(),
    }
}

/// One copy. `alternate` gets the place of the other, even when this one is damaged.
fn copy(disk: &(impl ReadAt + ?Sized), sector_size: u32, lba: u64, alternate: &mut u64) -> Result<Vec<Partition>, Bad> {
    let bytes_of = |lba: u64, len: usize| -> Result<Vec<u8>, Bad> {
        let offset = lba.checked_mul(u64::from(sector_size)).ok_or(Bad::Unreadable(lba))?;
        let mut bytes = vec![0; len];
        disk.read_exact_at(&mut bytes, offset)
            .map_err(|_| Bad::Unreadable(lba))?;
        Ok(bytes)
    };
    let sector = bytes_of(lba, usize::try_from(sector_size).unwrap_or(512))?;
    let (header, _) = Header::ref_from_prefix(&sector).map_err(|_| Bad::Unreadable(lba))?;
    if &header.signature != b"EFI PART" {
        return Err(Bad::Signature(lba));
    }
    *alternate = header.alternate_lba.get();
    let header_size = header.size.get();
    let checked = usize::try_from(header_size)
        .ok()
        .filter(|size| *size >= size_of::<Header>())
        .and_then(|size| sector.get(..size))
        .ok_or(Bad::HeaderSize(header_size))?;
    let (stored, got) = (header.crc32.get(), crc_without_itself(checked));
    if got != stored {
        return Err(Bad::HeaderCrc { got, stored });
    }
    if header.my_lba.get() != lba {
        return Err(Bad::Place {
            at: lba,
            says: header.my_lba.get(),
        });
    }

    let (count, size) = (header.entry_count.get(), header.entry_size.get());
    let total = u64::from(count)
        .checked_mul(u64::from(size))
        .filter(|total| (1..=ENTRIES_MAX).contains(total) && size >= 128 && size.is_power_of_two())
        .and_then(|total| usize::try_from(total).ok())
        .ok_or(Bad::Entries { count, size })?;
    let entries = bytes_of(header.entries_lba.get(), total)?;
    let (stored, got) = (header.entries_crc32.get(), crc32([entries.as_slice()]));
    if got != stored {
        return Err(Bad::EntriesCrc { got, stored });
    }
    Ok(partitions(
        &entries,
        usize::try_from(size).unwrap_or(usize::MAX),
        sector_size.into(),
    ))
}

fn partitions(entries: &[u8], size: usize, sector_size: u64) -> Vec<Partition> {
    (1_u32..)
        .zip(entries.chunks_exact(size))
        .filter_map(|(number, bytes)| {
            let (entry, _) = Entry::ref_from_prefix(bytes).ok()?;
            let (first, last) = (entry.first_lba.get(), entry.last_lba.get());
            let name = char::decode_utf16(entry.name.iter().map(|u| u.get()).take_while(|u| *u != 0));
            let name: String = name.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
            (entry.type_guid != [0; 16]).then(|| Partition {
                number,
                start: first.saturating_mul(sector_size),
                length: last.saturating_add(1).saturating_sub(first).saturating_mul(sector_size),
                partuuid: Guid(entry.guid).to_string(),
                partlabel: Some(name).filter(|name| !name.is_empty()),
                parttype: Some(Guid(entry.type_guid).to_string()),
            })
        })
        .collect()
}

/// "This field is set to 0 during the computation" (UEFI 5.3.2, HeaderCRC32).
fn crc_without_itself(header: &[u8]) -> u32 {
    let mut header = header.to_vec();
    let field = header.iter_mut().skip(HEADER_CRC_AT).take(4);
    field.for_each(|byte| *byte = 0);
    crc32([header.as_slice()])
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]
mod tests;
