//! As much of ext4's layout as it takes to find the journal's blocks.
//!
//! Given the superblock; responsible for the map from the journal's blocks to the volume's. Everything comes from the
//! disk and may be hostile: every number is checked, and the map has as many entries as a journal can have blocks.
//! Facts: `Documentation/filesystems/ext4/`.

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::ReplayError;
use crate::sys::read_at::ReadAt;

/// Where the superblock is, in bytes from the volume's start, and how long it is.
pub(super) const SUPERBLOCK: (u64, usize) = (1024, 1024);

/// `super.rst`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawSuperblock {
    skipped: [u8; 0x14],
    first_data_block: U32,
    log_block_size: U32,
    skipped2: [u8; 0x28 - 0x1C],
    inodes_per_group: U32,
    skipped3: [u8; 0x38 - 0x2C],
    magic: U16,
    skipped4: [u8; 0x58 - 0x3A],
    inode_size: U16,
    skipped5: [u8; 0x60 - 0x5A],
    feature_incompat: U32,
    skipped6: [u8; 0xE0 - 0x64],
    journal_inode: U32,
    journal_device: U32,
    skipped7: [u8; 0xFE - 0xE8],
    descriptor_size: U16,
}

/// What of the superblock is needed here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Bytes in a block: 1024 to 65536.
    pub(super) block_size: u32,
    inode_table: u64,
    inode_size: u16,
    journal_inode: u32,
}

const INCOMPAT_64BIT: u32 = 0x80;
/// Descriptors are this long without INCOMPAT_64BIT.
const SHORT_DESCRIPTOR: u16 = 32;

impl Geometry {
    pub(super) fn read(volume: &impl ReadAt) -> Result<Self, ReplayError> {
        let mut bytes = [0; SUPERBLOCK.1];
        volume.read_exact_at(&mut bytes, SUPERBLOCK.0)?;
        let (sb, _) = RawSuperblock::ref_from_prefix(&bytes).map_err(|_| ReplayError::Damaged("superblock"))?;
        if sb.magic.get() != 0xEF53 || sb.log_block_size.get() > 6 {
            return Err(ReplayError::Damaged("superblock"));
        }
        if sb.journal_device.get() != 0 || sb.journal_inode.get() == 0 {
            return Err(ReplayError::External);
        }
        let block_size = 1024_u32 << sb.log_block_size.get();
        // Inode 8 is always in the first group. Its descriptor follows the superblock's block, META_BG or not.
        if sb.journal_inode.get() > sb.inodes_per_group.get() || sb.inode_size.get() < 128 {
            return Err(ReplayError::Damaged("journal inode"));
        }
        let long = sb.feature_incompat.get() & INCOMPAT_64BIT != 0 && sb.descriptor_size.get() > SHORT_DESCRIPTOR;
        let descriptor_block = u64::from(sb.first_data_block.get()).saturating_add(1);
        let mut descriptor = [0; 64];
        volume.read_exact_at(&mut descriptor, descriptor_block.saturating_mul(u64::from(block_size)))?;
        let half = |at: usize| u64::from(le32(&descriptor, at).unwrap_or(0));
        Ok(Self {
            block_size,
            inode_table: half(0x08) | if long { half(0x28) << 32 } else { 0 },
            inode_size: sb.inode_size.get(),
            journal_inode: sb.journal_inode.get(),
        })
    }

    /// Fills `buf`, one block long, with block `number`.
    pub(super) fn block(&self, volume: &impl ReadAt, number: u64, buf: &mut [u8]) -> Result<(), ReplayError> {
        let offset = number
            .checked_mul(u64::from(self.block_size))
            .ok_or(ReplayError::Damaged("block number"))?;
        Ok(volume.read_exact_at(buf, offset)?)
    }

    /// A buffer for one block.
    pub(super) fn buffer(&self) -> Vec<u8> {
        vec![0; usize::try_from(self.block_size).unwrap_or(0)]
    }

    /// Where the journal's blocks are.
    pub(super) fn journal(&self, volume: &impl ReadAt) -> Result<Map, ReplayError> {
        let index = u64::from(self.journal_inode.saturating_sub(1));
        let offset = self
            .inode_table
            .checked_mul(u64::from(self.block_size))
            .and_then(|table| table.checked_add(index.checked_mul(u64::from(self.inode_size))?))
            .ok_or(ReplayError::Damaged("journal inode"))?;
        let mut inode = [0; 128];
        volume.read_exact_at(&mut inode, offset)?;
        let flags = le32(&inode, 0x20).unwrap_or(0);
        let root = inode.get(0x28..0x28 + 60).unwrap_or_default();
        let mut map = Map::default();
        if flags & EXTENTS != 0 {
            self.extents(volume, root, &mut map, EXTENT_DEPTH_MAX)?;
        } else {
            self.block_map(volume, root, &mut map)?;
        }
        map.runs.sort_by_key(|run| run.logical);
        Ok(map)
    }

    /// One node of an extent tree (`ifork.rst`, "Extent Tree").
    fn extents(&self, volume: &impl ReadAt, node: &[u8], map: &mut Map, depth_left: u16) -> Result<(), ReplayError> {
        let damaged = || ReplayError::Damaged("journal's extent tree");
        let count = le16(node, 2).ok_or_else(damaged)?;
        let depth = le16(node, 6).ok_or_else(damaged)?;
        if le16(node, 0) != Some(0xF30A) || depth > depth_left {
            return Err(damaged());
        }
        let entries = node.get(12..).unwrap_or_default().chunks_exact(12);
        if usize::from(count) > entries.len() {
            return Err(damaged());
        }
        for entry in entries.take(count.into()) {
            let logical = le32(entry, 0).ok_or_else(damaged)?;
            if depth == 0 {
                // A length above 32768 is an unwritten extent; a journal has none.
                let length = le16(entry, 4).filter(|l| *l <= 32768).ok_or_else(damaged)?;
                let physical = high_low(le16(entry, 6), le32(entry, 8)).ok_or_else(damaged)?;
                map.add(logical, physical, length.into())?;
            } else {
                let child = high_low(le16(entry, 8), le32(entry, 4)).ok_or_else(damaged)?;
                let mut block = self.buffer();
                self.block(volume, child, &mut block)?;
                // The depth must go down, or a tree that contains itself never ends.
                self.extents(volume, &block, map, depth.saturating_sub(1))?;
            }
        }
        Ok(())
    }

    /// ext2's way: 12 blocks, then one, two and three levels of blocks of block numbers (`blockmap.rst`).
    fn block_map(&self, volume: &impl ReadAt, root: &[u8], map: &mut Map) -> Result<(), ReplayError> {
        let mut logical = 0;
        for (slot, number) in (0_u32..).zip(numbers(root)) {
            let levels = slot.saturating_sub(11);
            self.indirect(volume, number, levels, &mut logical, map)?;
        }
        Ok(())
    }

    fn indirect(
        &self,
        volume: &impl ReadAt,
        number: u32,
        levels: u32,
        logical: &mut u32,
        map: &mut Map,
    ) -> Result<(), ReplayError> {
        // A journal has no holes: the first is its end.
        if number == 0 {
            return Ok(());
        }
        let Some(below) = levels.checked_sub(1) else {
            map.add(*logical, number.into(), 1)?;
            *logical = logical.saturating_add(1);
            return Ok(());
        };
        let mut block = self.buffer();
        self.block(volume, number.into(), &mut block)?;
        for number in numbers(&block) {
            self.indirect(volume, number, below, logical, map)?;
        }
        Ok(())
    }
}

/// Of an inode's flags.
const EXTENTS: u32 = 0x8_0000;
/// "The extent tree is at most 5 levels deep."
const EXTENT_DEPTH_MAX: u16 = 5;

/// From the journal's blocks to the volume's.
#[derive(Debug, Default)]
pub(super) struct Map {
    runs: Vec<Run>,
    blocks: u32,
}

#[derive(Debug)]
struct Run {
    logical: u32,
    physical: u64,
    length: u32,
}

/// mke2fs(8), -J size: "no more than 10,240,000 file system blocks".
const JOURNAL_BLOCKS_MAX: u32 = 10_240_000;
/// More pieces than this no journal is in.
const RUNS_MAX: usize = 1 << 18;

impl Map {
    fn add(&mut self, logical: u32, physical: u64, length: u32) -> Result<(), ReplayError> {
        self.blocks = self
            .blocks
            .checked_add(length)
            .filter(|blocks| length != 0 && *blocks <= JOURNAL_BLOCKS_MAX)
            .ok_or(ReplayError::Damaged("journal's length"))?;
        let is_full = self.runs.len() >= RUNS_MAX;
        match self.runs.last_mut() {
            Some(run)
                if run.logical.checked_add(run.length) == Some(logical)
                    && run.physical.checked_add(run.length.into()) == Some(physical) =>
            {
                run.length = run.length.saturating_add(length);
            }
            _ if is_full => return Err(ReplayError::Damaged("journal's number of extents")),
            _ => self.runs.push(Run {
                logical,
                physical,
                length,
            }),
        }
        Ok(())
    }

    /// Blocks in the journal.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// The volume's block that holds the journal's block `logical`.
    pub(super) fn physical(&self, logical: u32) -> Option<u64> {
        let after = self.runs.partition_point(|run| run.logical <= logical);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let within = logical.checked_sub(run.logical).filter(|w| *w < run.length)?;
        run.physical.checked_add(within.into())
    }
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b))
}

fn le16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn high_low(high: Option<u16>, low: Option<u32>) -> Option<u64> {
    Some(u64::from(high?) << 32 | u64::from(low?))
}
