//! XFS, btrfs, squashfs, EROFS, and the signatures of what is no file system for Cato.

use std::io;

use super::{FileSystem, FileSystemKind, crc32c, crc32c_without, label, uuid};
use crate::sys::read_at::ReadAt;

/// `N` bytes of a superblock at `at`.
fn field<const N: usize>(sb: &[u8], at: usize) -> Option<[u8; N]> {
    sb.get(at..)?.first_chunk().copied()
}

/// `fs/xfs/libxfs/xfs_format.h`, struct xfs_dsb, at byte 0, big-endian.
pub(super) fn xfs(sb: &[u8]) -> Option<FileSystem> {
    let block = u32::from_be_bytes(field(sb, 4)?);
    let version = u16::from_be_bytes(field(sb, 100)?);
    let sector = u16::from_be_bytes(field(sb, 102)?);
    let inode = u16::from_be_bytes(field(sb, 104)?);
    let [block_log, sector_log, inode_log, _] = field(sb, 120)?;
    let is = |size: u32, log: u8, from: u8, to: u8| {
        (from..=to).contains(&log) && 1_u32.checked_shl(log.into()) == Some(size)
    };
    if !sb.starts_with(b"XFSB")
        || !is(block, block_log, 9, 16)
        || !is(sector.into(), sector_log, 9, 15)
        || !is(inode.into(), inode_log, 8, 11)
    {
        return None;
    }
    // Version 5 has a checksum, of the whole sector, little-endian.
    if version & 0xF == 5 && !crc32c_without(sb.get(..sector.into())?, 224)? != u32::from_le_bytes(field(sb, 224)?) {
        return None;
    }
    Some(FileSystem {
        uuid: uuid(field(sb, 32)?),
        label: label(sb.get(108..120)?),
        has_journal: true,
        size: u64::from_be_bytes(field(sb, 8)?).saturating_mul(block.into()),
        sector: Some(sector.into()),
        ..FileSystem::new(FileSystemKind::Xfs)
    })
}

/// `include/uapi/linux/btrfs_tree.h`, struct btrfs_super_block, at 64 KiB. The size is this device's share.
pub(super) fn btrfs(head: &[u8]) -> Option<FileSystem> {
    const AT: u64 = 64 << 10;
    let sb = head.get(usize::try_from(AT).ok()?..)?.get(..4096)?;
    if sb.get(64..72)? != b"_BHRfS_M" || u64::from_le_bytes(field(sb, 48)?) != AT {
        return None;
    }
    // CRC-32C is what mkfs takes when nobody asks for another.
    let crc32c_is_used = field(sb, 196)? == [0, 0];
    if crc32c_is_used && !crc32c(&[sb.get(32..)?]) != u32::from_le_bytes(field(sb, 0)?) {
        return None;
    }
    Some(FileSystem {
        uuid: uuid(field(sb, 32)?),
        label: label(sb.get(299..299 + 256)?),
        has_journal: true,
        size: u64::from_le_bytes(field(sb, 209)?),
        sector: Some(u32::from_le_bytes(field(sb, 144)?)),
        ..FileSystem::new(FileSystemKind::Btrfs)
    })
}

/// squashfs 4.0: `hsqs`, version 4 at byte 28. It has neither label nor UUID.
pub(super) fn squashfs(sb: &[u8]) -> Option<FileSystem> {
    (sb.starts_with(b"hsqs") && field(sb, 28)? == [4, 0]).then_some(FileSystem {
        size: u64::from_le_bytes(field(sb, 40)?),
        ..FileSystem::new(FileSystemKind::Squashfs)
    })
}

/// `fs/erofs/erofs_fs.h`, struct erofs_super_block, at byte 1024. Its checksum goes to the end of the block.
pub(super) fn erofs(head: &[u8]) -> Option<FileSystem> {
    const SB_CHKSUM: u8 = 1;
    let sb = head.get(1024..)?;
    let bits = *sb.get(12)?;
    let block = 1_u32.checked_shl(bits.into()).filter(|_| (9..=16).contains(&bits))?;
    if !sb.starts_with(&0xE0F5_E1E2_u32.to_le_bytes()) {
        return None;
    }
    if sb.get(8)? & SB_CHKSUM != 0 {
        let covered = usize::try_from(block).ok()?.checked_sub(1024)?;
        if crc32c_without(sb.get(..covered)?, 4)? != u32::from_le_bytes(field(sb, 4)?) {
            return None;
        }
    }
    Some(FileSystem {
        uuid: uuid(field(sb, 48)?),
        label: label(sb.get(64..80)?),
        size: u64::from(u32::from_le_bytes(field(sb, 36)?)).saturating_mul(block.into()),
        sector: Some(block),
        ..FileSystem::new(FileSystemKind::Erofs)
    })
}

/// Name, byte and magic number. They tell why a volume can't be read, and make one of two alike the second choice;
/// what can be mounted is mounted in spite of them, since each may be the remnant.
const FOREIGN: [(&str, usize, &[u8]); 19] = [
    ("crypto_LUKS", 0, b"LUKS\xBA\xBE"),
    ("LVM2_member", 0x018, b"LVM2 001"),
    ("LVM2_member", 0x218, b"LVM2 001"),
    ("LVM2_member", 0x418, b"LVM2 001"),
    ("LVM2_member", 0x618, b"LVM2 001"),
    ("linux_raid_member", 0, b"\xFC\x4E\x2B\xA9\x01\0\0\0"),
    ("linux_raid_member", 0x1000, b"\xFC\x4E\x2B\xA9\x01\0\0\0"),
    ("swap", 0xFF6, b"SWAPSPACE2"),
    ("swap", 0x3FF6, b"SWAPSPACE2"),
    ("swap", 0xFFF6, b"SWAPSPACE2"),
    ("DM_verity_hash", 0, b"verity\0\0"),
    (
        "bcache",
        0x1018,
        b"\xC6\x85\x73\xF6\x4E\x1A\x45\xCA\x82\x65\xF5\x7F\x48\xBA\x6D\x81",
    ),
    ("iso9660", 0x8001, b"CD001"),
    ("ntfs", 3, b"NTFS    "),
    ("BitLocker", 3, b"-FVE-FS-"),
    ("f2fs", 1024, b"\x10\x20\xF5\xF2"),
    ("cramfs", 0, b"\x45\x3D\xCD\x28"),
    ("apfs", 32, b"NXSB"),
    ("hfsplus", 1024, b"H+\0\x04"),
];

pub(super) fn foreign(head: &[u8]) -> Vec<&'static str> {
    let there = FOREIGN
        .iter()
        .filter(|(_, at, magic)| head.get(*at..).is_some_and(|b| b.starts_with(magic)));
    let mut names: Vec<_> = there.map(|(name, ..)| *name).collect();
    names.dedup();
    names
}

/// What md keeps at the end of each disk of a mirror, so that the file system in front can be read without it: format 1.0
/// (drivers/md/md.c, super_1_load) 8 KiB before the end, 0.90 (super_90_load) in the last whole 64 KiB.
///
/// # Errors
/// The device does not answer. That it can't be read there says nothing of the rest.
pub(super) fn raid_at_the_end(volume: &(impl ReadAt + ?Sized), size: u64) -> io::Result<Option<&'static str>> {
    const MAGIC: u32 = 0xa92b_4efc;
    const LAST: u64 = 64 << 10;
    let places = [
        (1, size.checked_sub(8 << 10).map(|at| at & !0xfff)),
        (0, (size & !(LAST - 1)).checked_sub(LAST)),
    ];
    for (major, at) in places {
        let Some(at) = at else { continue };
        let mut found = [0; 8];
        match volume.read_exact_at(&mut found, at) {
            Err(e) if e.kind() == io::ErrorKind::TimedOut => return Err(e),
            Ok(()) if u64::from_le_bytes(found) == u64::from(MAGIC) | major << 32 => {
                return Ok(Some("linux_raid_member"));
            }
            _ => {}
        }
    }
    Ok(None)
}
