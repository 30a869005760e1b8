//! ext2, ext3, ext4: `Documentation/filesystems/ext4/super.rst`. The superblock is at byte 1024.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{FileSystem, FileSystemKind, crc32c, label, uuid};

#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Superblock {
    skipped: [u8; 4],
    blocks_count: U32,
    skipped2: [u8; 0x18 - 8],
    log_block_size: U32,
    skipped3: [u8; 0x38 - 0x1C],
    magic: U16,
    skipped4: [u8; 0x5C - 0x3A],
    feature_compat: U32,
    feature_incompat: U32,
    feature_ro_compat: U32,
    uuid: [u8; 16],
    volume_name: [u8; 16],
    skipped5: [u8; 0x150 - 0x88],
    blocks_count_hi: U32,
    skipped6: [u8; 0x3FC - 0x154],
    checksum: U32,
}

pub(super) const HAS_JOURNAL: u32 = 0x4;
const JOURNAL_DEV: u32 = 0x8;
/// INCOMPAT_64BIT and RO_COMPAT_METADATA_CSUM.
const WIDE: u32 = 0x80;
const METADATA_CSUM: u32 = 0x400;
/// Of the incompat features, all ext3 knows: filetype, recover, journal_dev, meta_bg.
const EXT3_INCOMPAT: u32 = 0x2 | 0x4 | JOURNAL_DEV | 0x10;
/// Of the ro_compat features: sparse_super, large_file, btree_dir.
const EXT3_RO_COMPAT: u32 = 0x1 | 0x2 | 0x4;

pub(super) fn ext(head: &[u8]) -> Option<FileSystem> {
    let bytes = head.get(1024..2048)?;
    let (sb, _) = Superblock::ref_from_prefix(bytes).ok()?;
    let (compat, incompat, ro_compat) = (
        sb.feature_compat.get(),
        sb.feature_incompat.get(),
        sb.feature_ro_compat.get(),
    );
    // 64 KiB is the largest block; a journal device is no file system.
    if sb.magic.get() != 0xEF53 || sb.log_block_size.get() > 6 || incompat & JOURNAL_DEV != 0 {
        return None;
    }
    if ro_compat & METADATA_CSUM != 0 && crc32c(&[bytes.get(..0x3FC)?]) != sb.checksum.get() {
        return None;
    }
    let high = if incompat & WIDE == 0 {
        0
    } else {
        sb.blocks_count_hi.get()
    };
    let block = 1024_u32.checked_shl(sb.log_block_size.get())?;
    let journal = compat & HAS_JOURNAL != 0;
    Some(FileSystem {
        uuid: uuid(sb.uuid),
        label: label(&sb.volume_name),
        has_journal: journal,
        size: (u64::from(high) << 32 | u64::from(sb.blocks_count.get())).saturating_mul(block.into()),
        sector: Some(block),
        ..FileSystem::new(if incompat & !EXT3_INCOMPAT != 0 || ro_compat & !EXT3_RO_COMPAT != 0 {
            FileSystemKind::Ext4
        } else if journal {
            FileSystemKind::Ext3
        } else {
            FileSystemKind::Ext2
        })
    })
}
