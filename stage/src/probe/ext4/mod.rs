//! An ext4 whose journal still has to be replayed, read without writing to it.
//!
//! Given a volume that lost its power; responsible for its files as they are after a replay. Mounting it read-only
//! would replay onto the disk, mounting it with `noload` would hide what was fsynced last (T14).

mod jbd2;
mod layout;

use std::io::{self, Read};

use ext4_view::{Ext4, Ext4Error, Ext4Read};

use super::superblock::EXT_RECOVER;
use crate::cause::Cause;
use crate::probe::{OpenFile, Tree, TreeError};
use crate::sys::read_at::ReadAt;
use jbd2::Replay;
use layout::SUPERBLOCK;

/// Why the journal can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The device's own.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Something makes no sense.
    #[error("journal to replay, but damaged: {0}; repair it with e2fsck")]
    Damaged(&'static str),
    /// Another device.
    #[error("journal to replay is on another device; mount it once on the main system")]
    External,
    /// Unknown JBD2_FEATURE_INCOMPAT bits.
    #[error("journal to replay has unknown features {0:#x}; mount it once on the main system")]
    Features(u32),
    /// A committed block is not what was committed.
    #[error("journal: transaction {sequence}: copy of block {block}: bad checksum; repair it with e2fsck")]
    Content {
        /// The volume's block.
        block: u64,
        /// The transaction's number.
        sequence: u32,
    },
    /// The file system itself.
    #[error("{0}")]
    FileSystem(#[from] Ext4Error),
}

impl ReplayError {
    /// Its kind.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Read(error) => Cause::of(error),
            Self::Damaged(_) | Self::External | Self::Features(_) | Self::Content { .. } | Self::FileSystem(_) => {
                Cause::Format
            }
        }
    }
}

/// A replayed volume's files.
pub struct ReplayedTree(Ext4);

impl std::fmt::Debug for ReplayedTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ReplayedTree").field(&self.0.uuid()).finish()
    }
}

/// Replays the journal of `volume` in memory and opens what is there then. `say` hears what was done.
///
/// # Errors
/// See [`ReplayError`].
pub fn open(volume: impl ReadAt + 'static, say: &mut dyn FnMut(&str)) -> Result<ReplayedTree, ReplayError> {
    let replay = jbd2::replay(&volume)?;
    say(&format!(
        "journal: {} blocks of {} transactions replayed in memory; the disk is left as it is",
        replay.blocks.len(),
        replay.transactions
    ));
    if let Some(warning) = &replay.warning {
        say(warning);
    }
    let mut superblock = [0; SUPERBLOCK.1];
    volume.read_exact_at(&mut superblock, SUPERBLOCK.0)?;
    let block_size = 1024_u64
        << superblock
            .get(0x18)
            .copied()
            .filter(|log| *log <= 6)
            .ok_or(ReplayError::Damaged("superblock"))?;
    let replayed = Replayed {
        volume,
        replay,
        block_size,
    };
    Ok(ReplayedTree(Ext4::load(Box::new(replayed))?))
}

/// A volume as it is after the replay.
struct Replayed<V> {
    volume: V,
    replay: Replay,
    block_size: u64,
}

impl<V: ReadAt> Replayed<V> {
    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
        let too_far = || io::Error::from(io::ErrorKind::UnexpectedEof);
        while !buf.is_empty() {
            let (block, within) = offset
                .checked_div(self.block_size)
                .zip(offset.checked_rem(self.block_size))
                .ok_or_else(too_far)?;
            let source = self.replay.blocks.get(&block).copied();
            // Up to the next block that is in the journal, in one read.
            let until = match source {
                Some(_) => block.checked_add(1),
                None => self.replay.blocks.range(block..).next().map(|(next, _)| *next),
            };
            let longest = until
                .and_then(|until| until.checked_mul(self.block_size)?.checked_sub(offset))
                .and_then(|bytes| usize::try_from(bytes).ok())
                .unwrap_or(usize::MAX);
            let (part, rest) = buf.split_at_mut(longest.min(buf.len()));
            match source {
                None => self.volume.read_exact_at(part, offset)?,
                Some(source) => {
                    let mut content = vec![0; usize::try_from(self.block_size).unwrap_or(0)];
                    let at = source.block.checked_mul(self.block_size).ok_or_else(too_far)?;
                    self.volume.read_exact_at(&mut content, at)?;
                    source.restore(&mut content);
                    let wanted = usize::try_from(within)
                        .ok()
                        .and_then(|within| content.get(within..within.checked_add(part.len())?))
                        .ok_or_else(too_far)?;
                    part.copy_from_slice(wanted);
                }
            }
            offset = offset
                .checked_add(u64::try_from(part.len()).unwrap_or(u64::MAX))
                .ok_or_else(too_far)?;
            buf = rest;
        }
        Ok(())
    }
}

impl<V: ReadAt> Ext4Read for Replayed<V> {
    fn read(&mut self, start: u64, dst: &mut [u8]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.read_at(dst, start)?;
        if start == SUPERBLOCK.0
            && let Some(superblock) = dst.first_chunk_mut()
        {
            as_replayed(superblock);
        }
        Ok(())
    }
}

/// Features that change nothing for who reads files, but that ext4-view refuses: protection against a mount on two
/// machines, and inodes that hold extended attributes.
const HARMLESS: u32 = 0x100 | 0x400;
/// RO_COMPAT_METADATA_CSUM: the superblock has a checksum.
const METADATA_CSUM: u32 = 0x400;

/// Makes a superblock that of a volume with nothing left to replay. Offsets: `super.rst`.
fn as_replayed(superblock: &mut [u8; SUPERBLOCK.1]) {
    const INCOMPAT: std::ops::Range<usize> = 0x60..0x64;
    const RO_COMPAT: std::ops::Range<usize> = 0x64..0x68;
    let incompat = le32(superblock, INCOMPAT) & !(EXT_RECOVER | HARMLESS);
    let has_checksum = le32(superblock, RO_COMPAT) & METADATA_CSUM != 0;
    if let Some(place) = superblock.get_mut(INCOMPAT) {
        place.copy_from_slice(&incompat.to_le_bytes());
    }
    if has_checksum && let Some((data, checksum)) = superblock.split_last_chunk_mut() {
        *checksum = jbd2::crc32c(&[data]).to_le_bytes();
    }
}

fn le32(bytes: &[u8], at: std::ops::Range<usize>) -> u32 {
    let bytes = bytes.get(at).and_then(|b| b.first_chunk());
    bytes.map_or(0, |b| u32::from_le_bytes(*b))
}

impl Tree for ReplayedTree {
    fn open(&self, path: &str) -> Result<OpenFile, TreeError> {
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            return Err(TreeError::Escapes);
        }
        let absolute = format!("/{path}");
        let file = self.0.open(absolute.as_str()).map_err(|e| match e {
            Ext4Error::NotFound => match self.0.read_link(absolute.as_str()) {
                Ok(target) => TreeError::Dangling(target.display().to_string()),
                Err(_) => TreeError::Missing,
            },
            Ext4Error::IsADirectory => TreeError::NotAFile("a directory"),
            Ext4Error::IsASpecialFile => TreeError::NotAFile("a device, FIFO or socket"),
            other => TreeError::Io(io::Error::other(other)),
        })?;
        match file.metadata().len() {
            0 => Err(TreeError::Empty),
            size => Ok(OpenFile {
                size,
                reader: Box::new(Reader(file)),
            }),
        }
    }
}

struct Reader(ext4_view::File);

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_bytes(buf).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests;
