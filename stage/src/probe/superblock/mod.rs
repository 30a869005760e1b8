//! What a volume's bytes can be taken for, and what it is called.
//!
//! Given a volume and its size; responsible for every signature that holds: kind, UUID, label and size of the file systems Cato reads,
//! and the names of others. A newer file system rarely wipes all of an older one, so there may be several; each is
//! checked as libblkid does (checksums, ranges), in its order, and carries the names it prints.
//! Bounded: one read of the first 68 KiB, and for a FAT label the root folder, 2 MiB of it at most.

mod ext;
mod fat;
mod other;

use std::fmt;
use std::io;

use super::gpt::dashed;
use crate::sys::read_at::ReadAt;
use crate::text::word;

/// A kind of file system, and with that the kernel's driver for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum FileSystemKind {
    /// ext2: the ext4 driver reads it.
    Ext2,
    /// ext3: the ext4 driver reads it.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs, on one device.
    Btrfs,
    /// FAT12, 16 or 32.
    Vfat,
    /// exFAT.
    Exfat,
    /// squashfs 4.
    Squashfs,
    /// EROFS.
    Erofs,
}

impl FileSystemKind {
    /// The kernel's name of the driver, for mount(2).
    pub(crate) fn driver(self) -> &'static str {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

impl fmt::Display for FileSystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            other => other.driver(),
        })
    }
}

/// What a superblock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// What it is.
    pub kind: FileSystemKind,
    /// As the tools write it, lower case.
    pub uuid: Option<String>,
    /// Without padding.
    pub label: Option<String>,
    /// After a power cut it may have to be replayed before it can be read.
    pub has_journal: bool,
    /// Bytes it claims of its volume.
    pub size: u64,
    /// Bytes of the largest sector it can live on; None when it does not matter.
    pub sector: Option<u32>,
}

impl FileSystem {
    fn new(kind: FileSystemKind) -> Self {
        Self {
            kind,
            uuid: None,
            label: None,
            has_journal: false,
            size: 0,
            sector: None,
        }
    }

    /// Why it can't be whole on a volume of `size` bytes in sectors of `sector` bytes; the kernel only says "I/O error"
    /// or "Invalid argument".
    pub(crate) fn misfit(&self, size: u64, sector: u32) -> Option<String> {
        if let Some(own) = self.sector.filter(|own| *own < sector) {
            return Some(format!(
                "made for sectors of {own} bytes, but the disk has sectors of {sector} bytes; reformat it on this disk"
            ));
        }
        (self.size > size).then(|| {
            format!(
                "the file system needs {} bytes, but its volume has only {size}; the image was cut off or the partition is too small",
                self.size
            )
        })
    }
}

/// `ext4 LABEL=x UUID=…`
impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(label) = &self.label {
            write!(f, " LABEL={}", word(label))?;
        }
        match &self.uuid {
            Some(uuid) => write!(f, " UUID={uuid}"),
            None => Ok(()),
        }
    }
}

/// All that a volume's bytes can be taken for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signatures {
    /// What Cato reads, likeliest first.
    pub filesystems: Vec<FileSystem>,
    /// What it does not, by libblkid's names.
    pub others: Vec<&'static str>,
}

impl Signatures {
    /// Nothing that is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.filesystems.is_empty() && self.others.is_empty()
    }
}

/// As far as a signature goes: the superblock of btrfs ends there.
const HEAD: u64 = 68 << 10;

/// What `volume`, which has `size` bytes, can be taken for.
///
/// # Errors
/// The device's own. What ends before a superblock does has none.
pub(crate) fn identify(volume: &(impl ReadAt + ?Sized), size: u64) -> io::Result<Signatures> {
    let mut head = vec![0; usize::try_from(size.min(HEAD)).unwrap_or(0)];
    if let Some(()) = unless_cut_off(volume.read_exact_at(&mut head, 0))? {
        let fat = fat::vfat(volume, &head)?;
        // A boot sector without its FAT is likely what is left of an older file system.
        let (vfat, remnant) = fat.map_or(
            (None, None),
            |(fat, whole)| if whole { (Some(fat), None) } else { (None, Some(fat)) },
        );
        let mut found: Vec<FileSystem> = [
            vfat,
            fat::exfat(volume, &head)?,
            other::xfs(&head),
            other::squashfs(&head),
            ext::ext(&head),
            other::erofs(&head),
            other::btrfs(&head),
            remnant,
        ]
        .into_iter()
        .flatten()
        .collect();
        // Likewise one that was larger than this volume.
        found.sort_by_key(|fs| fs.size > size);
        return Ok(Signatures {
            filesystems: found,
            others: other::foreign(&head)
                .into_iter()
                .chain(other::raid_at_the_end(volume, size)?)
                .collect(),
        });
    }
    Ok(Signatures::default())
}

/// None where the device ends too early.
fn unless_cut_off<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// As ext4 and EROFS store it; XFS and btrfs store the complement. Polynomial 0x1EDC6F41 (RFC 3720), no final inversion.
fn crc32c(parts: &[&[u8]]) -> u32 {
    static CASTAGNOLI: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI);
    let mut digest = CASTAGNOLI.digest();
    for part in parts {
        digest.update(part);
    }
    !digest.finalize()
}

/// The same with the four bytes at `hole` read as zeros, as where the checksum is stored.
fn crc32c_without(bytes: &[u8], hole: usize) -> Option<u32> {
    let (before, rest) = bytes.split_at_checked(hole)?;
    Some(crc32c(&[before, &[0; 4], rest.get(4..)?]))
}

fn uuid(bytes: [u8; 16]) -> Option<String> {
    (bytes != [0; 16]).then(|| dashed(bytes))
}

/// Up to the first zero byte, without the spaces FAT pads with; None when nothing is left.
fn label(bytes: &[u8]) -> Option<String> {
    let name = bytes.split(|b| *b == 0).next()?.trim_ascii_end();
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]
mod tests;
