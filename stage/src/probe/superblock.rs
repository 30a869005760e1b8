//! Which file system is on a volume, and what it is called.
//!
//! Given a volume's bytes; responsible for kind, UUID and label of ext2/3/4, XFS, btrfs, FAT, squashfs and erofs, from a few
//! reads near the start.

use std::fmt;
use std::io;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::gpt::dashed;
use crate::sys::read_at::ReadAt;

/// A kind of file system, and with that the kernel's driver for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
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
    /// squashfs 4.
    Squashfs,
    /// EROFS.
    Erofs,
}

impl Kind {
    /// The kernel's name of the driver, for mount(2).
    pub fn driver(self) -> &'static str {
        match self {
            Self::Ext2 | Self::Ext3 | Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

impl fmt::Display for Kind {
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
pub struct FileSystem {
    /// What it is.
    pub kind: Kind,
    /// As the tools write it, lower case.
    pub uuid: Option<String>,
    /// Without padding.
    pub label: Option<String>,
    /// After a power cut it may have to be replayed before it can be read.
    pub has_journal: bool,
}

/// The file system on `volume`; None when it is none that is known here.
///
/// # Errors
/// The device's own. A volume too short for a superblock has none.
pub fn identify(volume: &(impl ReadAt + ?Sized)) -> io::Result<Option<FileSystem>> {
    let mut head = [0; 4096];
    let found = match volume.read_exact_at(&mut head, 0) {
        Ok(()) => (ext(&head).or_else(|| xfs(&head))).or_else(|| squashfs(&head).or_else(|| erofs(&head))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(e) => return Err(e),
    };
    match found {
        Some(found) => Ok(Some(found)),
        None => match vfat(volume, &head)? {
            Some(found) => Ok(Some(found)),
            None => btrfs(volume),
        },
    }
}

/// `Documentation/filesystems/ext4/super.rst`: the superblock is at byte 1024.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct ExtSuperblock {
    skipped: [u8; 0x18],
    log_block_size: U32,
    skipped2: [u8; 0x38 - 0x1C],
    magic: U16,
    skipped3: [u8; 0x5C - 0x3A],
    feature_compat: U32,
    feature_incompat: U32,
    feature_ro_compat: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
}

const EXT_RECOVER: u32 = 0x4;
const EXT_HAS_JOURNAL: u32 = 0x4;
const EXT_JOURNAL_DEV: u32 = 0x8;
/// Of the incompat features, all ext3 knows: filetype, recover, journal_dev, meta_bg.
const EXT3_INCOMPAT: u32 = 0x2 | EXT_RECOVER | EXT_JOURNAL_DEV | 0x10;
/// Of the ro_compat features: sparse_super, large_file, btree_dir.
const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;

fn ext(head: &[u8; 4096]) -> Option<FileSystem> {
    let (sb, _) = ExtSuperblock::ref_from_prefix(head.get(1024..)?).ok()?;
    let (compat, incompat) = (sb.feature_compat.get(), sb.feature_incompat.get());
    // 64 KiB is the largest block; a journal device is no file system.
    if sb.magic.get() != 0xEF53 || sb.log_block_size.get() > 6 || incompat & EXT_JOURNAL_DEV != 0 {
        return None;
    }
    let kind = if incompat & !EXT3_INCOMPAT != 0 || sb.feature_ro_compat.get() & !EXT3_RO_COMPAT != 0 {
        Kind::Ext4
    } else if compat & EXT_HAS_JOURNAL != 0 {
        Kind::Ext3
    } else {
        Kind::Ext2
    };
    Some(FileSystem {
        kind,
        uuid: uuid(sb.uuid),
        label: label(&sb.volume_name),
        has_journal: compat & EXT_HAS_JOURNAL != 0,
    })
}

/// `fs/xfs/libxfs/xfs_format.h`, struct xfs_dsb: magic, block size, UUID at byte 32, name at byte 108.
fn xfs(head: &[u8; 4096]) -> Option<FileSystem> {
    let size = u32::from_be_bytes(*head.get(4..)?.first_chunk()?);
    (head.starts_with(b"XFSB") && size.is_power_of_two() && (512..=1 << 16).contains(&size)).then_some(FileSystem {
        kind: Kind::Xfs,
        uuid: uuid(*head.get(32..)?.first_chunk()?),
        label: label(head.get(108..120)?),
        has_journal: true,
    })
}

/// Where the superblock of a btrfs is (`include/uapi/linux/btrfs_tree.h`, struct btrfs_super_block).
const BTRFS_AT: u64 = 64 << 10;

fn btrfs(volume: &(impl ReadAt + ?Sized)) -> io::Result<Option<FileSystem>> {
    let mut sb = [0; 1024];
    match volume.read_exact_at(&mut sb, BTRFS_AT) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let read = || {
        let is_one = sb.get(0x40..0x48)? == b"_BHRfS_M";
        is_one.then_some(FileSystem {
            kind: Kind::Btrfs,
            uuid: uuid(*sb.get(0x20..)?.first_chunk()?),
            label: label(sb.get(0x12B..0x22B)?),
            has_journal: true,
        })
    };
    Ok(read())
}

/// squashfs 4.0: `hsqs`, version 4 at byte 28. It has neither label nor UUID.
fn squashfs(head: &[u8; 4096]) -> Option<FileSystem> {
    (head.starts_with(b"hsqs") && head.get(28..30)? == [4, 0]).then_some(FileSystem {
        kind: Kind::Squashfs,
        uuid: None,
        label: None,
        has_journal: false,
    })
}

/// `fs/erofs/erofs_fs.h`, struct erofs_super_block, at byte 1024.
fn erofs(head: &[u8; 4096]) -> Option<FileSystem> {
    let sb = head.get(1024..1024 + 128)?;
    if !sb.starts_with(&0xE0F5_E1E2_u32.to_le_bytes()) {
        return None;
    }
    Some(FileSystem {
        kind: Kind::Erofs,
        uuid: uuid(*sb.get(48..)?.first_chunk()?),
        label: label(sb.get(64..80)?),
        has_journal: false,
    })
}

/// The BIOS parameter block (Microsoft FAT specification 1.03, "Boot Sector and BPB").
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
}

/// Where FAT12/16 and FAT32 keep BS_BootSig, followed by serial and label.
const BOOT_SIGNATURE_AT: (usize, usize) = (0x26, 0x42);

fn vfat(volume: &(impl ReadAt + ?Sized), head: &[u8; 4096]) -> io::Result<Option<FileSystem>> {
    let Ok((bpb, _)) = Bpb::ref_from_prefix(head) else {
        return Ok(None);
    };
    let sector = bpb.bytes_per_sector.get();
    let fat_shaped = matches!(bpb.jump, [0xEB, _, 0x90] | [0xE9, _, _])
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && bpb.sectors_per_cluster.is_power_of_two()
        && bpb.reserved_sectors.get() != 0
        && bpb.fats != 0
        && (bpb.media == 0xF0 || bpb.media >= 0xF8)
        && (bpb.total_sectors_16.get() != 0 || bpb.total_sectors_32.get() != 0)
        && head.get(510..512) == Some(&[0x55, 0xAA]);
    let fat32 = bpb.sectors_per_fat_16.get() == 0;
    if !fat_shaped || (fat32 && bpb.sectors_per_fat_32.get() == 0) {
        return Ok(None);
    }
    let at = if fat32 {
        BOOT_SIGNATURE_AT.1
    } else {
        BOOT_SIGNATURE_AT.0
    };
    let extended = head.get(at..).and_then(|b| b.first_chunk::<16>());
    let (serial, in_bpb) = match extended {
        Some([0x29, a, b, c, d, name @ ..]) => (
            Some(u32::from_le_bytes([*a, *b, *c, *d])),
            label(name).filter(|l| l != "NO NAME"),
        ),
        _ => (None, None),
    };
    Ok(Some(FileSystem {
        kind: Kind::Vfat,
        uuid: serial.map(|s| format!("{:04x}-{:04x}", s >> 16, s & 0xFFFF)),
        // The root folder's label is the one the tools change and show; the one in the boot sector may be stale.
        label: fat_root_label(volume, bpb, fat32)?.or(in_bpb),
        has_journal: false,
    }))
}

/// First byte of a deleted entry, and two values of DIR_Attr.
const DELETED: u8 = 0xE5;
const VOLUME_ID: u8 = 0x08;
const LONG_NAME: u8 = 0x0F;

/// The entry with the volume ID attribute in the root folder's first 4 KiB, where every tool puts it.
fn fat_root_label(volume: &(impl ReadAt + ?Sized), bpb: &Bpb, fat32: bool) -> io::Result<Option<String>> {
    let fat_size = if fat32 {
        bpb.sectors_per_fat_32.get()
    } else {
        u32::from(bpb.sectors_per_fat_16.get())
    };
    let after_fats =
        u64::from(bpb.reserved_sectors.get()).saturating_add(u64::from(fat_size).saturating_mul(u64::from(bpb.fats)));
    let clusters_in = if fat32 {
        u64::from(bpb.root_cluster.get()).saturating_sub(2)
    } else {
        0
    };
    let sector = after_fats.saturating_add(clusters_in.saturating_mul(u64::from(bpb.sectors_per_cluster)));
    let mut entries = [0; 512];
    match volume.read_exact_at(
        &mut entries,
        sector.saturating_mul(u64::from(bpb.bytes_per_sector.get())),
    ) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => return Err(e),
    }
    let entry = entries
        .chunks_exact(32)
        .take_while(|e| e.first() != Some(&0))
        .find(|e| {
            let attributes = e.get(11).copied().unwrap_or(0);
            e.first() != Some(&DELETED) && attributes & VOLUME_ID != 0 && attributes & LONG_NAME != LONG_NAME
        });
    Ok(entry.and_then(|e| label(e.get(..11)?)))
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;
    use std::process::Command;

    fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
        to[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The image a tool of the host makes, or None (said) where the tool is not installed.
    fn made(size: usize, run: impl Fn(&Path) -> Command) -> Option<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        std::fs::write(&image, vec![0; size]).unwrap();
        let mut command = run(&image);
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
        match command.output() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                eprintln!("skipped: {} is not installed", command.get_program().display());
                None
            }
            Err(e) => panic!("{e}"),
            Ok(out) => {
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
                Some(std::fs::read(&image).unwrap())
            }
        }
    }

    fn command(program: &str, args: &[&str], image: &Path) -> Command {
        let mut c = Command::new(program);
        c.args(args).arg(image);
        c
    }

    #[test]
    fn ext_is_told_apart_by_features() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        for (kind, name) in [(Kind::Ext2, "ext2"), (Kind::Ext3, "ext3"), (Kind::Ext4, "ext4")] {
            let Some(image) = made(8 << 20, |i| {
                command("mke2fs", &["-q", "-F", "-t", name, "-L", "boot-a", "-U", uuid], i)
            }) else {
                return;
            };
            let found = identify(&image).unwrap().unwrap();
            assert_eq!(found.kind, kind);
            assert_eq!(found.kind.driver(), "ext4");
            assert_eq!(found.uuid.as_deref(), Some(uuid));
            assert_eq!(found.label.as_deref(), Some("boot-a"));
            assert_eq!(found.has_journal, kind != Kind::Ext2);
        }
    }

    #[test]
    fn xfs_and_btrfs_of_the_tools_are_known() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        for (kind, tool, set_uuid) in [
            (Kind::Xfs, "mkfs.xfs", ["-m", &format!("uuid={uuid}")]),
            (Kind::Btrfs, "mkfs.btrfs", ["-U", uuid]),
        ] {
            let Some(image) = made(320 << 20, |i| {
                command(tool, &["-L", "boot-a", set_uuid[0], set_uuid[1]], i)
            }) else {
                continue;
            };
            let found = identify(&image).unwrap().unwrap();
            assert_eq!((found.kind, found.has_journal), (kind, true));
            assert_eq!(found.uuid.as_deref(), Some(uuid));
            assert_eq!(found.label.as_deref(), Some("boot-a"));
        }
    }

    #[test]
    fn every_fat_is_known() {
        for (bits, size) in [("12", 1 << 20), ("16", 16 << 20), ("32", 64 << 20)] {
            let Some(image) = made(size, |i| {
                command("mkfs.vfat", &["-F", bits, "-n", "EFI SYS", "-i", "deadbeef"], i)
            }) else {
                return;
            };
            let found = identify(&image).unwrap().unwrap();
            assert_eq!(found.kind, Kind::Vfat, "FAT{bits}");
            assert_eq!(found.uuid.as_deref(), Some("dead-beef"));
            assert_eq!(found.label.as_deref(), Some("EFI SYS"));
        }
    }

    #[test]
    fn the_label_of_the_root_folder_wins() {
        let Some(mut image) = made(16 << 20, |i| command("mkfs.vfat", &["-F", "16", "-n", "NEW"], i)) else {
            return;
        };
        put(&mut image, 0x2B, b"OLD        ");
        assert_eq!(identify(&image).unwrap().unwrap().label.as_deref(), Some("NEW"));
    }

    #[test]
    fn squashfs_and_erofs_of_the_tools_are_known() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kernel"), "k").unwrap();
        let from = dir.path().to_owned();
        if let Some(image) = made(0, |i| {
            let mut c = Command::new("mksquashfs");
            c.arg(&from).arg(i).args(["-noappend", "-quiet", "-no-progress"]);
            c
        }) {
            let found = identify(&image).unwrap().unwrap();
            assert_eq!((found.kind, found.uuid, found.label), (Kind::Squashfs, None, None));
        }
        if let Some(image) = made(0, |i| {
            let mut c = Command::new("mkfs.erofs");
            c.args(["-U", "01234567-89ab-cdef-0123-456789abcdef"]).arg(i).arg(&from);
            c
        }) {
            let found = identify(&image).unwrap().unwrap();
            assert_eq!(found.kind, Kind::Erofs);
            assert_eq!(found.uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        }
    }

    fn handmade_ext(incompat: u32) -> Vec<u8> {
        let mut image = vec![0; 8192];
        put(&mut image, 1024 + 0x38, &0xEF53_u16.to_le_bytes());
        put(&mut image, 1024 + 0x5C, &EXT_HAS_JOURNAL.to_le_bytes());
        put(&mut image, 1024 + 0x60, &incompat.to_le_bytes());
        put(&mut image, 1024 + 0x78, b"sixteen-letters!");
        image
    }

    #[test]
    fn an_ext4_by_hand_has_its_label() {
        let found = identify(&handmade_ext(0x46)).unwrap().unwrap();
        assert_eq!((found.kind, found.has_journal), (Kind::Ext4, true));
        assert_eq!(found.label.as_deref(), Some("sixteen-letters!"));
        assert_eq!(found.uuid, None);
        assert!(identify(&handmade_ext(0x48)).unwrap().is_none(), "a journal device");
    }

    #[test]
    fn an_erofs_by_hand_has_its_label() {
        let mut image = vec![0; 8192];
        put(&mut image, 1024, &0xE0F5_E1E2_u32.to_le_bytes());
        put(&mut image, 1024 + 64, b"boot-b");
        let found = identify(&image).unwrap().unwrap();
        assert_eq!((found.kind, found.label.as_deref()), (Kind::Erofs, Some("boot-b")));
    }

    #[test]
    fn others_that_begin_with_a_jump_are_no_fat() {
        let mut ntfs = vec![0; 8192];
        put(&mut ntfs, 0, b"\xEB\x52\x90NTFS    ");
        put(&mut ntfs, 11, &512_u16.to_le_bytes());
        put(&mut ntfs, 13, &[8]);
        put(&mut ntfs, 510, &[0x55, 0xAA]);
        assert!(identify(&ntfs).unwrap().is_none());
        assert!(identify(&vec![0_u8; 100]).unwrap().is_none());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 4096..9000), which in 0..4) {
            match which {
                0 => put(&mut bytes, 1024 + 0x38, &0xEF53_u16.to_le_bytes()),
                1 => put(&mut bytes, 1024, &0xE0F5_E1E2_u32.to_le_bytes()),
                2 => {
                    put(&mut bytes, 0, b"\xEB\x3C\x90");
                    put(&mut bytes, 11, &512_u16.to_le_bytes());
                    put(&mut bytes, 13, &[8]);
                    put(&mut bytes, 16, &[2]);
                    put(&mut bytes, 21, &[0xF8]);
                    put(&mut bytes, 510, &[0x55, 0xAA]);
                }
                _ => {}
            }
            let _ = identify(&bytes);
        }
    }
}
