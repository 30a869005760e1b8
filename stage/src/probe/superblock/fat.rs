//! FAT12, FAT16, FAT32 (Microsoft FAT specification 1.03) and exFAT (Microsoft's exFAT specification): the boot sector,
//! and the root folder for the label.

use std::io;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{FileSystem, FileSystemKind, label, unless_cut_off};
use crate::sys::read_at::ReadAt;

/// The BIOS parameter block, "Boot Sector and BPB"; what FAT32 has from `sectors_per_fat_32` on is code on the others.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Bpb {
    jump: [u8; 3],
    oem: [u8; 8],
    bytes_per_sector: U16,
    sectors_per_cluster: u8,
    reserved_sectors: U16,
    fats: u8,
    root_entries: U16,
    total_sectors_16: U16,
    media: u8,
    sectors_per_fat_16: U16,
    skipped: [u8; 8],
    total_sectors_32: U32,
    sectors_per_fat_32: U32,
    skipped2: [u8; 4],
    root_cluster: U32,
    info_sector: U16,
}

/// Where FAT12/16 and FAT32 keep BS_BootSig, followed by the serial number.
const BOOT_SIGNATURE_AT: (usize, usize) = (0x26, 0x42);
/// Where they have their names, which only some tools write.
const NAMES: [(usize, &[u8]); 6] = [
    (0x52, b"MSWIN"),
    (0x52, b"FAT32   "),
    (0x36, b"MSDOS"),
    (0x36, b"FAT16   "),
    (0x36, b"FAT12   "),
    (0x36, b"FAT     "),
];
/// File systems that begin like a FAT.
const IN_DISGUISE: [(usize, &[u8]); 3] = [(0x36, b"JFS     "), (0x36, b"HPFS    "), (3, b"-FVE-FS-")];
/// Clusters of the largest FAT32 and FAT16.
const CLUSTERS_MAX: (u64, u64) = (0x0FFF_FFF6, 0xFFF4);
/// The most a folder of FAT can have: 65,536 entries.
const ROOT_MAX: u64 = 2 << 20;
const ENTRY: u64 = 32;

/// The FAT on `volume`, and whether its file allocation table begins as it must.
pub(super) fn vfat(volume: &(impl ReadAt + ?Sized), head: &[u8]) -> io::Result<Option<(FileSystem, bool)>> {
    let is = |(at, text): &(usize, &[u8])| head.get(*at..).is_some_and(|b| b.starts_with(text));
    let Ok((bpb, _)) = Bpb::ref_from_prefix(head) else {
        return Ok(None);
    };
    let named = NAMES.iter().any(is);
    if IN_DISGUISE.iter().any(is) || !(named || head.get(510..512) == Some(&[0x55, 0xAA])) {
        return Ok(None);
    }
    let Some(layout) = Layout::new(bpb) else {
        return Ok(None);
    };
    if layout.fat32 && !has_info(volume, u64::from(bpb.info_sector.get()).saturating_mul(layout.sector))? {
        return Ok(None);
    }
    let at = if layout.fat32 {
        BOOT_SIGNATURE_AT.1
    } else {
        BOOT_SIGNATURE_AT.0
    };
    let serial = match head.get(at..).and_then(|b| b.first_chunk::<5>()) {
        Some([signature, serial @ ..]) if layout.fat32 || matches!(signature, 0x28 | 0x29) => {
            Some(u32::from_le_bytes(*serial))
        }
        _ => None,
    };
    let mut first = [0];
    let whole = unless_cut_off(volume.read_exact_at(&mut first, layout.fat_at))?.is_some() && first == [bpb.media];
    let found = FileSystem {
        uuid: serial.map(serial_number),
        label: root_label(volume, layout.root, fat_entry)?,
        size: layout.size,
        sector: Some(bpb.bytes_per_sector.get().into()),
        ..FileSystem::new(FileSystemKind::Vfat)
    };
    Ok(Some((found, whole)))
}

/// As the tools print it.
fn serial_number(serial: u32) -> String {
    format!("{:04x}-{:04x}", serial >> 16, serial & 0xFFFF)
}

/// Where everything is, in bytes.
struct Layout {
    fat32: bool,
    sector: u64,
    size: u64,
    fat_at: u64,
    root: Root,
}

impl Layout {
    /// None when no FAT has such numbers.
    fn new(bpb: &Bpb) -> Option<Self> {
        let sector = u64::from(bpb.bytes_per_sector.get());
        let cluster = u64::from(bpb.sectors_per_cluster);
        let or = |short: U16, long: U32| {
            if short.get() == 0 {
                long.get()
            } else {
                short.get().into()
            }
        };
        let fat = u64::from(or(bpb.sectors_per_fat_16, bpb.sectors_per_fat_32));
        let sectors = u64::from(or(bpb.total_sectors_16, bpb.total_sectors_32));
        let reserved = u64::from(bpb.reserved_sectors.get());
        if !matches!(sector, 512 | 1024 | 2048 | 4096)
            || !bpb.sectors_per_cluster.is_power_of_two()
            || reserved == 0
            || bpb.fats == 0
            || fat == 0
            || !(bpb.media == 0xF0 || bpb.media >= 0xF8)
        {
            return None;
        }
        let fat32 = bpb.sectors_per_fat_16.get() == 0;
        let after_fats = reserved.checked_add(fat.checked_mul(bpb.fats.into())?)?;
        let root_length = u64::from(bpb.root_entries.get()).checked_mul(ENTRY)?;
        let data = after_fats.checked_add(root_length.div_ceil(sector))?;
        let clusters = sectors.checked_sub(data)?.checked_div(cluster)?;
        if clusters > if fat32 { CLUSTERS_MAX.0 } else { CLUSTERS_MAX.1 } {
            return None;
        }
        let fat_at = reserved.checked_mul(sector)?;
        Some(Self {
            fat32,
            sector,
            size: sectors.checked_mul(sector)?,
            fat_at,
            root: if fat32 {
                Root::Chain(Chain {
                    fat_at,
                    data_at: data.checked_mul(sector)?,
                    cluster_size: cluster.checked_mul(sector)?,
                    clusters,
                    next: bpb.root_cluster.get(),
                })
            } else {
                Root::Span(after_fats.checked_mul(sector)?, root_length)
            },
        })
    }
}

/// FSInfo has its two signatures, or is empty: not every tool fills it. It is there unless its sector is 0.
fn has_info(volume: &(impl ReadAt + ?Sized), at: u64) -> io::Result<bool> {
    let mut info = [0; 512];
    if at == 0 || unless_cut_off(volume.read_exact_at(&mut info, at))?.is_none() {
        return Ok(at == 0);
    }
    let (lead, middle) = (info.first_chunk::<4>(), info.get(484..488));
    Ok(matches!(lead, Some(b"RRaA" | b"RRdA" | b"\0\0\0\0")) && matches!(middle, Some(b"rrAa" | b"\0\0\0\0")))
}

/// exFAT, sections 3.1 and 3.4. The checksum is of the first 11 sectors.
pub(super) fn exfat(volume: &(impl ReadAt + ?Sized), head: &[u8]) -> io::Result<Option<FileSystem>> {
    Ok(match boot_region(head) {
        Some((mut found, chain)) => {
            found.label = root_label(volume, Root::Chain(chain), exfat_entry)?;
            Some(found)
        }
        None => None,
    })
}

fn boot_region(head: &[u8]) -> Option<(FileSystem, Chain)> {
    let word = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (sector_bits, cluster_bits) = (*head.get(108)?, *head.get(109)?);
    if !head.starts_with(b"\xEB\x76\x90EXFAT   ") || head.get(510..512)? != [0x55, 0xAA] {
        return None;
    }
    if head.get(11..64)?.iter().any(|b| *b != 0)
        || !(9..=12).contains(&sector_bits)
        || cluster_bits > 25_u8.checked_sub(sector_bits)?
    {
        return None;
    }
    let sector = 1_u64 << sector_bits;
    let covered = usize::try_from(sector).ok()?.checked_mul(11)?;
    let sum = (0..)
        .zip(head.get(..covered)?)
        .filter(|(at, _)| !matches!(at, 106 | 107 | 112));
    let sum = sum.fold(0_u32, |sum, (_, byte)| sum.rotate_right(1).wrapping_add((*byte).into()));
    if sum != word(covered)? {
        return None;
    }
    let size = u64::from_le_bytes(*head.get(72..)?.first_chunk()?).saturating_mul(sector);
    let found = FileSystem {
        uuid: Some(serial_number(word(100)?)),
        size,
        sector: u32::try_from(sector).ok(),
        ..FileSystem::new(FileSystemKind::Exfat)
    };
    let chain = Chain {
        fat_at: u64::from(word(80)?).checked_mul(sector)?,
        data_at: u64::from(word(88)?).checked_mul(sector)?,
        cluster_size: sector.checked_shl(cluster_bits.into())?,
        clusters: word(92)?.into(),
        next: word(96)?,
    };
    Some((found, chain))
}

/// Where the root folder is.
enum Root {
    /// From this byte on, so many bytes.
    Span(u64, u64),
    /// Cluster by cluster.
    Chain(Chain),
}

struct Chain {
    fat_at: u64,
    data_at: u64,
    cluster_size: u64,
    clusters: u64,
    next: u32,
}

impl Chain {
    /// Where the next cluster is; None behind the last.
    fn advance(&mut self, volume: &(impl ReadAt + ?Sized)) -> io::Result<Option<u64>> {
        let number = u64::from(self.next);
        let Some(index) = number.checked_sub(2).filter(|index| *index < self.clusters) else {
            return Ok(None);
        };
        let mut entry = [0; 4];
        let entry_at = self.fat_at.saturating_add(number.saturating_mul(4));
        if unless_cut_off(volume.read_exact_at(&mut entry, entry_at))?.is_none() {
            return Ok(None);
        }
        // FAT32 keeps something of its own in the four bits above; exFAT's last cluster is as far out either way.
        self.next = u32::from_le_bytes(entry) & 0x0FFF_FFFF;
        Ok(Some(
            self.data_at.saturating_add(index.saturating_mul(self.cluster_size)),
        ))
    }
}

/// What an entry of the root folder says about the label.
enum Entry {
    Other,
    End,
    Label(Option<String>),
}

/// Reads the root folder until there is a label, to its end, and never more than [`ROOT_MAX`].
fn root_label(volume: &(impl ReadAt + ?Sized), mut root: Root, read: fn(&[u8]) -> Entry) -> io::Result<Option<String>> {
    let mut left = ROOT_MAX;
    while left != 0 {
        let (at, length) = match &mut root {
            Root::Span(at, length) => (*at, std::mem::take(length)),
            Root::Chain(chain) => match chain.advance(volume)? {
                Some(at) => (at, chain.cluster_size),
                None => return Ok(None),
            },
        };
        let length = length.min(left);
        left = if matches!(root, Root::Span(..)) {
            0
        } else {
            left.saturating_sub(length)
        };
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        if unless_cut_off(volume.read_exact_at(&mut bytes, at))?.is_none() {
            return Ok(None);
        }
        for entry in bytes.chunks_exact(32) {
            match read(entry) {
                Entry::Other => {}
                Entry::End => return Ok(None),
                Entry::Label(label) => return Ok(label),
            }
        }
    }
    Ok(None)
}

/// FAT specification, "Directory structure": the entry with the volume ID attribute that is no part of a long name.
/// The label in the boot sector is not looked at: the tools change and show this one.
fn fat_entry(entry: &[u8]) -> Entry {
    const VOLUME_ID: u8 = 0x08;
    const FOLDER: u8 = 0x10;
    const LONG_NAME: u8 = 0x0F;
    const ALL: u8 = 0x3F;
    let byte = |at: usize| entry.get(at).copied().unwrap_or(0);
    let (first, attributes) = (byte(0), byte(11));
    let cluster = [20, 21, 26, 27].map(byte);
    match first {
        0 => Entry::End,
        // Deleted; the letter itself is stored as 5.
        0xE5 => Entry::Other,
        _ if cluster == [0; 4] && attributes & ALL != LONG_NAME && attributes & (VOLUME_ID | FOLDER) == VOLUME_ID => {
            let mut name: Vec<u8> = entry.iter().take(11).copied().collect();
            if let Some(first) = name.first_mut().filter(|first| **first == 5) {
                *first = 0xE5;
            }
            Entry::Label(label(&name))
        }
        _ => Entry::Other,
    }
}

/// exFAT, section 7.3: 0x83, the count of letters, the letters in UTF-16.
fn exfat_entry(entry: &[u8]) -> Entry {
    match entry {
        [0, ..] => Entry::End,
        [0x83, count, letters @ ..] => {
            let units = letters.chunks_exact(2).take((*count).min(11).into());
            let units = units.filter_map(|unit| unit.first_chunk().copied().map(u16::from_le_bytes));
            let name: String = char::decode_utf16(units)
                .map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect();
            Entry::Label(label(name.as_bytes()))
        }
        _ => Entry::Other,
    }
}
