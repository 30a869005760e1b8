//! Partition tables.
//!
//! Given a whole disk; responsible for its GUID partition table (UEFI specification 2.10, 5.3) with every CRC and bound
//! checked, from the backup where the primary is bad, or for the signature of an MBR.
//! Which partitions exist and where is the kernel's word (sysfs); this is for their names: `PARTUUID` came to sysfs late
//! (kernel 6.10) and `PARTNAME` there has every non-ASCII letter replaced.

use std::fmt::{self, Write as _};
use std::io;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::sys::read_at::ReadAt;

/// A GUID as stored: the first three groups little-endian, the last two big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// The one of an unused partition entry.
    pub const ZERO: Self = Self([0; 16]);
}

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

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What the first and last sectors of a disk say about its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// A GUID partition table.
    Gpt(Gpt),
    /// A classic table, known by its disk signature (bytes 440 to 443).
    Mbr {
        /// The `SSSSSSSS` of `PARTUUID=SSSSSSSS-PP`.
        signature: u32,
    },
}

impl Table {
    /// `PARTUUID` of partition `number` (the kernel's number, from 1), lower case.
    pub fn partuuid(&self, number: u32) -> Option<String> {
        match self {
            Self::Gpt(gpt) => gpt.partition(number).map(|p| p.guid.to_string()),
            Self::Mbr { signature } => (number != 0).then(|| format!("{signature:08x}-{number:02x}")),
        }
    }

    /// `PARTLABEL` of partition `number`; MBR partitions have none.
    pub fn partlabel(&self, number: u32) -> Option<&str> {
        match self {
            Self::Gpt(gpt) => gpt.partition(number).map(|p| p.name.as_str()).filter(|n| !n.is_empty()),
            Self::Mbr { .. } => None,
        }
    }
}

/// A checked GUID partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpt {
    /// Of the disk.
    pub disk: Guid,
    /// In table order, unused entries left out.
    pub partitions: Vec<Partition>,
    /// Why the primary was not used; the backup at the disk's end was.
    pub primary_bad: Option<Bad>,
}

impl Gpt {
    /// The one the kernel numbers `number`.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.iter().find(|p| p.number == number)
    }
}

/// One used entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Position in the table, from 1: the kernel's partition number.
    pub number: u32,
    /// Of the partition: its `PARTUUID`.
    pub guid: Guid,
    /// First sector, in logical sectors of the disk.
    pub first: u64,
    /// Last sector, that one included.
    pub last: u64,
    /// `PARTLABEL`.
    pub name: String,
}

/// Why a table that should be there was not taken.
#[derive(Debug, thiserror::Error)]
pub enum GptError {
    /// The disk could not be read.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// The protective MBR announces a GPT, and neither copy is whole.
    #[error("GPT damaged: primary: {primary}; backup: {backup}")]
    Damaged {
        /// What is wrong with the copy at sector 1.
        primary: Bad,
        /// What is wrong with the copy at the disk's end.
        backup: Bad,
    },
}

/// What is wrong with one copy of a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// No sector there.
    #[error("sector {0} can't be read")]
    Unreadable(u64),
    /// The eight letters are missing.
    #[error("no \"EFI PART\" in sector {0}")]
    Signature(u64),
    /// UEFI wants 92 to the sector size.
    #[error("header size {0}")]
    HeaderSize(u32),
    /// Header CRC.
    #[error("header CRC32 {got:08x}, stored {stored:08x}")]
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
    #[error("{count} entries of {size} bytes")]
    Entries {
        /// How many.
        count: u32,
        /// Bytes each.
        size: u32,
    },
    /// Entries CRC.
    #[error("entries CRC32 {got:08x}, stored {stored:08x}")]
    EntriesCrc {
        /// Computed.
        got: u32,
        /// Stored.
        stored: u32,
    },
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
const PROTECTIVE: u8 = 0xEE;

/// Reads the partition table of `disk`, which has `sectors` logical sectors of `sector_size` bytes.
/// None when it has none.
///
/// # Errors
/// See [`GptError`].
pub fn read(disk: &(impl ReadAt + ?Sized), sector_size: u32, sectors: u64) -> Result<Option<Table>, GptError> {
    let mut first = [0; 512];
    if sectors == 0 || sector_size < 512 {
        return Ok(None);
    }
    disk.read_exact_at(&mut first, 0)?;
    let Some(mbr) = mbr(&first) else { return Ok(None) };
    if !mbr.protective {
        return Ok(Some(Table::Mbr {
            signature: mbr.signature,
        }));
    }
    let backup_lba = sectors.saturating_sub(1);
    let gpt = match copy(disk, sector_size, 1) {
        Ok(gpt) => gpt,
        Err(primary) => match copy(disk, sector_size, backup_lba) {
            Ok(gpt) => Gpt {
                primary_bad: Some(primary),
                ..gpt
            },
            Err(backup) => return Err(GptError::Damaged { primary, backup }),
        },
    };
    Ok(Some(Table::Gpt(gpt)))
}

struct Mbr {
    signature: u32,
    protective: bool,
}

/// The four records at 446, 16 bytes each, type at 4; `55 AA` at 510 (UEFI 5.2.1).
fn mbr(sector: &[u8; 512]) -> Option<Mbr> {
    let (_, end) = sector.split_last_chunk::<2>()?;
    if end != &[0x55, 0xAA] {
        return None;
    }
    let signature = sector.get(440..)?.first_chunk::<4>()?;
    let types = sector.get(446..510)?.chunks_exact(16).filter_map(|r| r.get(4));
    Some(Mbr {
        signature: u32::from_le_bytes(*signature),
        protective: types.into_iter().any(|t| *t == PROTECTIVE),
    })
}

fn copy(disk: &(impl ReadAt + ?Sized), sector_size: u32, lba: u64) -> Result<Gpt, Bad> {
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
    let (stored, got) = (header.entries_crc32.get(), crc32fast::hash(&entries));
    if got != stored {
        return Err(Bad::EntriesCrc { got, stored });
    }
    Ok(Gpt {
        disk: Guid(header.disk_guid),
        partitions: partitions(&entries, usize::try_from(size).unwrap_or(usize::MAX)),
        primary_bad: None,
    })
}

fn partitions(entries: &[u8], size: usize) -> Vec<Partition> {
    (1_u32..)
        .zip(entries.chunks_exact(size))
        .filter_map(|(number, bytes)| {
            let (entry, _) = Entry::ref_from_prefix(bytes).ok()?;
            (Guid(entry.type_guid) != Guid::ZERO).then(|| Partition {
                number,
                guid: Guid(entry.guid),
                first: entry.first_lba.get(),
                last: entry.last_lba.get(),
                name: char::decode_utf16(entry.name.iter().map(|u| u.get()).take_while(|u| *u != 0))
                    .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                    .collect(),
            })
        })
        .collect()
}

/// "This field is set to 0 during the computation" (UEFI 5.3.2, HeaderCRC32).
fn crc_without_itself(header: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (i, byte) in header.iter().enumerate() {
        let inside = (HEADER_CRC_AT..HEADER_CRC_AT.saturating_add(4)).contains(&i);
        crc.update(&[if inside { 0 } else { *byte }]);
    }
    crc.finalize()
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    struct Want {
        guid: [u8; 16],
        name: String,
    }

    fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
        to[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A disk as UEFI 5.3 draws it: PMBR, primary header, entries, …, backup entries, backup header.
    fn disk(sector: usize, sectors: usize, wants: &[Want]) -> Vec<u8> {
        let mut image = vec![0; sector * sectors];
        put(&mut image, 446 + 4, &[PROTECTIVE]);
        put(&mut image, 510, &[0x55, 0xAA]);
        let mut entries = vec![0; 128 * 128];
        for (i, want) in wants.iter().enumerate() {
            let at = i * 128;
            put(&mut entries, at, &[7; 16]);
            put(&mut entries, at + 16, &want.guid);
            put(&mut entries, at + 32, &(40 + i as u64).to_le_bytes());
            put(&mut entries, at + 40, &(40 + i as u64).to_le_bytes());
            for (j, unit) in want.name.encode_utf16().take(36).enumerate() {
                put(&mut entries, at + 56 + 2 * j, &unit.to_le_bytes());
            }
        }
        let table_sectors = entries.len().div_ceil(sector);
        for (my, other, table) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - table_sectors)] {
            let mut header = vec![0; 92];
            put(&mut header, 0, b"EFI PART");
            put(&mut header, 8, &0x0001_0000_u32.to_le_bytes());
            put(&mut header, 12, &92_u32.to_le_bytes());
            put(&mut header, 24, &(my as u64).to_le_bytes());
            put(&mut header, 32, &(other as u64).to_le_bytes());
            put(&mut header, 56, &[9; 16]);
            put(&mut header, 72, &(table as u64).to_le_bytes());
            put(&mut header, 80, &128_u32.to_le_bytes());
            put(&mut header, 84, &128_u32.to_le_bytes());
            put(&mut header, 88, &crc32fast::hash(&entries).to_le_bytes());
            let crc = crc32fast::hash(&header);
            put(&mut header, 16, &crc.to_le_bytes());
            put(&mut image, my * sector, &header);
            put(&mut image, table * sector, &entries);
        }
        image
    }

    fn a_name() -> Vec<Want> {
        vec![Want {
            guid: [0xAB; 16],
            name: "boot-ä".into(),
        }]
    }

    #[test]
    fn a_guid_prints_the_mixed_endian_way() {
        let bytes = [
            0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B,
        ];
        // The EFI system partition's GUID: UEFI 5.3.3, table 5-7.
        assert_eq!(Guid(bytes).to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    }

    #[test]
    fn both_sector_sizes_are_read() {
        for sector in [512_u32, 4096] {
            let image = disk(sector as usize, 100, &a_name());
            let table = read(&image, sector, 100).unwrap().unwrap();
            assert_eq!(table.partlabel(1), Some("boot-ä"), "{sector}");
            assert_eq!(table.partuuid(1).unwrap(), "abababab-abab-abab-abab-abababababab");
            assert_eq!(table.partlabel(2), None);
        }
    }

    #[test]
    fn the_backup_is_taken_when_the_primary_is_bad() {
        let mut image = disk(512, 100, &a_name());
        image[512 + 60] ^= 1;
        let Some(Table::Gpt(gpt)) = read(&image, 512, 100).unwrap() else {
            panic!("not a GPT")
        };
        assert!(matches!(gpt.primary_bad, Some(Bad::HeaderCrc { .. })), "{gpt:?}");
        assert_eq!(gpt.partition(1).unwrap().name, "boot-ä");
        image[99 * 512] ^= 1;
        let text = read(&image, 512, 100).unwrap_err().to_string();
        assert!(text.contains("primary: header CRC32") && text.contains("backup: no \"EFI PART\" in sector 99"));
    }

    #[test]
    fn damaged_entries_are_not_taken() {
        let mut image = disk(512, 100, &a_name());
        image[2 * 512 + 56] ^= 1;
        let Some(Table::Gpt(gpt)) = read(&image, 512, 100).unwrap() else {
            panic!("not a GPT")
        };
        assert!(matches!(gpt.primary_bad, Some(Bad::EntriesCrc { .. })));
        assert_eq!(gpt.partition(1).unwrap().name, "boot-ä");
    }

    #[test]
    fn sizes_nobody_writes_are_refused_before_any_memory_is_taken() {
        for (count, size) in [(u32::MAX, 128_u32), (128, 0), (128, 100), (0, 128), (1 << 16, 128)] {
            let mut image = disk(512, 100, &a_name());
            put(&mut image, 512 + 80, &count.to_le_bytes());
            put(&mut image, 512 + 84, &size.to_le_bytes());
            put(&mut image, 512 + 16, &[0; 4]);
            let crc = crc32fast::hash(&image[512..512 + 92]);
            put(&mut image, 512 + 16, &crc.to_le_bytes());
            assert_eq!(copy(&image, 512, 1), Err(Bad::Entries { count, size }));
        }
    }

    #[test]
    fn an_mbr_gives_signature_and_number() {
        let mut image = vec![0; 2048];
        put(&mut image, 440, &0x1234_abcd_u32.to_le_bytes());
        put(&mut image, 446 + 4, &[0x83]);
        put(&mut image, 510, &[0x55, 0xAA]);
        let table = read(&image, 512, 4).unwrap().unwrap();
        assert_eq!(table.partuuid(5).as_deref(), Some("1234abcd-05"));
        assert_eq!(table.partlabel(5), None);
        assert!(read(&vec![0; 2048], 512, 4).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            wants in prop::collection::vec((any::<[u8; 16]>(), "\\PC{1,18}"), 1..20),
            big in any::<bool>(),
            flip in 512_usize..92 + 512,
        ) {
            let wants: Vec<Want> = wants.into_iter().map(|(guid, name)| Want { guid, name }).collect();
            let sector = if big { 4096 } else { 512 };
            let mut image = disk(sector, 100, &wants);
            for _ in 0..2 {
                let table = read(&image, u32::try_from(sector).unwrap(), 100).unwrap().unwrap();
                for (number, want) in (1..).zip(&wants) {
                    prop_assert_eq!(table.partuuid(number).unwrap(), Guid(want.guid).to_string());
                    let units: Vec<u16> = want.name.encode_utf16().take(36).collect();
                    prop_assert_eq!(table.partlabel(number).unwrap(), String::from_utf16_lossy(&units));
                }
                image[flip - 512 + sector] ^= 0x10; // any one bit of the primary: the backup says the same
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4096), sectors in any::<u64>(),
                                  sector in prop::sample::select(vec![512_u32, 1024, 4096])) {
            if bytes.len() > 600 {
                put(&mut bytes, 446 + 4, &[PROTECTIVE]);
                put(&mut bytes, 510, &[0x55, 0xAA]);
                put(&mut bytes, 512, b"EFI PART");
            }
            let _ = read(&bytes, sector, sectors);
        }
    }
}
