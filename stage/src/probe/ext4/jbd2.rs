//! The journal, replayed in memory.
//!
//! Given a volume whose journal holds committed changes that are not in place yet; responsible for saying, for every
//! block of the volume, which block of the journal has its newest content. Nothing is written, and nothing is copied:
//! a replay is a map.
//!
//! ext4-view has such a map too, but (1.0) it stops where the log wraps around, refuses escaped blocks and knows a
//! revocation in its own transaction only, so it is given the replayed volume instead.
//! Facts: `Documentation/filesystems/ext4/journal.rst`; the order of steps is the one any recovery has: find the last
//! commit, collect revocations, then take what is not revoked.

use std::collections::BTreeMap;

use super::ReplayError;
use super::layout::{Geometry, Map};
use crate::sys::read_at::ReadAt;

const MAGIC: u32 = 0xC03B_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;

/// Header of every block of the log: magic, type, sequence.
const HEADER: usize = 12;
/// Checksum at the end of descriptor and revocation blocks.
const TAIL: usize = 4;

/// JBD2_FEATURE_INCOMPAT_*.
const F_REVOKE: u32 = 0x01;
const F_64BIT: u32 = 0x02;
const F_CSUM_V2: u32 = 0x08;
const F_CSUM_V3: u32 = 0x10;
const F_FAST_COMMIT: u32 = 0x20;
const F_KNOWN: u32 = F_REVOKE | F_64BIT | F_CSUM_V2 | F_CSUM_V3 | F_FAST_COMMIT;

/// JBD2_FLAG_*.
const TAG_ESCAPED: u32 = 1;
const TAG_SAME_UUID: u32 = 2;
const TAG_LAST: u32 = 8;

/// JBD2_DEFAULT_FAST_COMMIT_BLOCKS, when the superblock says 0.
const FAST_COMMIT_BLOCKS: u32 = 256;
/// More changed or revoked blocks than this in one journal are nobody's; as many take some 100 MiB here.
const CHANGES_MAX: usize = 1 << 20;

/// CRC-32C as the kernel uses it: from all ones, without the final inversion.
const CRC32C: crc::Algorithm<u32> = crc::Algorithm {
    xorout: 0,
    ..crc::CRC_32_ISCSI
};
static CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&CRC32C);

/// CRC-32C of `parts`, one after the other, from all ones.
pub(super) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = CRC.digest();
    for part in parts {
        digest.update(part);
    }
    digest.finalize()
}

/// What the journal says about the volume.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The volume's blocks whose newest content is in the journal.
    pub(super) blocks: BTreeMap<u64, Source>,
    /// Transactions that were committed and not in place.
    pub(super) transactions: u32,
    /// What was left out, and why.
    pub(super) warning: Option<String>,
}

/// Where a block's newest content is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    /// The volume's block that belongs to the journal and holds it.
    pub(super) block: u64,
    /// Its first four bytes are the journal's magic, stored as zeroes so that nobody takes it for a header.
    pub(super) escaped: bool,
}

impl Source {
    /// Makes `content`, read from the journal, what the volume's block contains.
    pub(super) fn restore(self, content: &mut [u8]) {
        if let (true, Some(first)) = (self.escaped, content.first_chunk_mut()) {
            *first = MAGIC.to_be_bytes();
        }
    }
}

/// The journal's superblock, as far as it matters.
struct Log {
    incompat: u32,
    uuid: [u8; 16],
    /// The first block of the log, and the one after its last: the log is a ring.
    first: u32,
    end: u32,
    /// Where to start, and with which sequence number. No start: nothing to replay.
    start: u32,
    sequence: u32,
}

/// One transaction while it is read.
#[derive(Default)]
struct Transaction {
    tags: Vec<Tag>,
    revoked: Vec<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Tag {
    /// The volume's block.
    block: u64,
    source: Source,
    /// Of the content as stored, with sequence: 32 bits (v3) or 16 (v2).
    checksum: u32,
}

/// Reads the journal of `volume`.
///
/// # Errors
/// When the journal can't be read, is damaged or has features that are not known here.
pub(super) fn replay(volume: &impl ReadAt) -> Result<Replay, ReplayError> {
    let geometry = Geometry::read(volume)?;
    let map = geometry.journal(volume)?;
    let mut journal = Journal {
        volume,
        geometry,
        map,
        block: geometry.buffer(),
    };
    let log = journal.superblock()?;
    if log.start == 0 {
        return Ok(Replay::default());
    }
    journal.scan(&log)
}

struct Journal<'a, V> {
    volume: &'a V,
    geometry: Geometry,
    map: Map,
    /// The block read last.
    block: Vec<u8>,
}

impl<V: ReadAt> Journal<'_, V> {
    /// Reads the journal's block `logical` into `block` and gives the volume's number of it.
    fn read(&mut self, logical: u32) -> Result<u64, ReplayError> {
        let physical = self
            .map
            .physical(logical)
            .ok_or(ReplayError::Damaged("journal's block map"))?;
        self.geometry.block(self.volume, physical, &mut self.block)?;
        Ok(physical)
    }

    fn superblock(&mut self) -> Result<Log, ReplayError> {
        let damaged = || ReplayError::Damaged("journal superblock");
        self.read(0)?;
        let field = |at: usize| be32(&self.block, at).ok_or_else(damaged);
        let version = field(4)?;
        if field(0)? != MAGIC || !matches!(version, SUPERBLOCK_V1 | SUPERBLOCK_V2) {
            return Err(damaged());
        }
        let incompat = if version == SUPERBLOCK_V2 { field(0x28)? } else { 0 };
        if incompat & !F_KNOWN != 0 {
            return Err(ReplayError::Features(incompat & !F_KNOWN));
        }
        if incompat & (F_CSUM_V2 | F_CSUM_V3) != 0 {
            let (before, rest) = self.block.split_at_checked(0xFC).ok_or_else(damaged)?;
            let after = rest.get(4..0x400 - 0xFC).ok_or_else(damaged)?;
            if crc32c(&[before, &[0; 4], after]) != field(0xFC)? {
                return Err(damaged());
            }
        }
        let mut end = field(0x10)?;
        if incompat & F_FAST_COMMIT != 0 {
            let blocks = match field(0x54)? {
                0 => FAST_COMMIT_BLOCKS,
                blocks => blocks,
            };
            end = end.checked_sub(blocks).ok_or_else(damaged)?;
        }
        let log = Log {
            incompat,
            uuid: *self
                .block
                .get(0x30..)
                .and_then(|b| b.first_chunk())
                .ok_or_else(damaged)?,
            first: field(0x14)?,
            end,
            start: field(0x1C)?,
            sequence: field(0x18)?,
        };
        let fits = log.first >= 1
            && log.first < log.end
            && log.end <= self.map.blocks()
            && (log.start == 0 || (log.first..log.end).contains(&log.start));
        if field(0xC)? != self.geometry.block_size || !fits {
            return Err(damaged());
        }
        Ok(log)
    }

    /// Reads transactions in order until one is not complete: that is where the power went.
    fn scan(&mut self, log: &Log) -> Result<Replay, ReplayError> {
        let mut replay = Replay::default();
        let mut committed: Vec<(u32, Vec<Tag>)> = Vec::new();
        let mut changes = 0_usize;
        let mut revoked: BTreeMap<u64, u32> = BTreeMap::new();
        let mut sequence = log.sequence;
        let mut current = Transaction::default();
        let mut ring = Ring::new(log);
        while let Some(logical) = ring.next() {
            self.read(logical)?;
            if be32(&self.block, 0) != Some(MAGIC) || be32(&self.block, 8) != Some(sequence) {
                break;
            }
            match be32(&self.block, 4) {
                Some(DESCRIPTOR) if self.tail_is_good(log) => {
                    if self.descriptor(log, &mut ring, &mut current).is_none() {
                        break;
                    }
                }
                Some(REVOKE) if self.tail_is_good(log) => self.revocations(log, &mut current),
                Some(COMMIT) if self.commit_is_good(log) => {
                    let Transaction { tags, revoked: gone } = std::mem::take(&mut current);
                    self.check_contents(log, sequence, &tags)?;
                    revoked.extend(gone.into_iter().map(|block| (block, sequence)));
                    changes = changes.saturating_add(tags.len());
                    committed.push((sequence, tags));
                    replay.transactions = replay.transactions.saturating_add(1);
                    sequence = sequence.wrapping_add(1);
                }
                Some(DESCRIPTOR | REVOKE | COMMIT) => {
                    replay.warning = Some(format!(
                        "journal: transaction {sequence}: bad checksum; it and what follows are not replayed"
                    ));
                    break;
                }
                _ => break,
            }
            // One block adds a few thousand at most, and whether there will be a commit is not known yet.
            if changes.saturating_add(current.tags.len()) > CHANGES_MAX {
                return Err(ReplayError::Damaged("journal's number of changes"));
            }
            if revoked.len().saturating_add(current.revoked.len()) > CHANGES_MAX {
                return Err(ReplayError::Damaged("journal's number of revocations"));
            }
        }
        for (sequence, tags) in committed {
            for tag in tags {
                // A revocation is for its own transaction and all before it. Sequence numbers wrap.
                let is_revoked = revoked
                    .get(&tag.block)
                    .is_some_and(|by| by.wrapping_sub(sequence) < 1 << 31);
                if !is_revoked {
                    let _ = replay.blocks.insert(tag.block, tag.source);
                }
            }
        }
        if log.incompat & F_FAST_COMMIT != 0 && self.has_fast_commits(log, sequence)? {
            replay.warning = Some(
                "journal: fast commits are not replayed: the newest changes may be missing (tune2fs -O ^fast_commit)"
                    .to_owned(),
            );
        }
        Ok(replay)
    }

    /// Takes the tags of the descriptor in `block` and steps over the contents that follow it.
    /// None when the log ends before them.
    fn descriptor(&self, log: &Log, ring: &mut Ring, current: &mut Transaction) -> Option<()> {
        let size = log.tag_size();
        let end = self.block.len().checked_sub(log.tail())?;
        let mut rest = self.block.get(HEADER..end)?;
        while let Some((tag, after)) = rest.split_at_checked(size) {
            let (flags, checksum) = log.flags_and_checksum(tag)?;
            let block = self.map.physical(ring.next()?)?;
            current.tags.push(Tag {
                block: log.block_number(tag)?,
                source: Source {
                    block,
                    escaped: flags & TAG_ESCAPED != 0,
                },
                checksum,
            });
            rest = after;
            if flags & TAG_SAME_UUID == 0 {
                rest = rest.get(16..).unwrap_or_default();
            }
            if flags & TAG_LAST != 0 {
                break;
            }
        }
        Some(())
    }

    /// Takes the block numbers of the revocation block in `block`; their length in bytes, header included, is at 12.
    fn revocations(&self, log: &Log, current: &mut Transaction) {
        let used = be32(&self.block, HEADER)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(0);
        let end = used.min(self.block.len().saturating_sub(log.tail()));
        let numbers = self.block.get(HEADER.saturating_add(4)..end).unwrap_or_default();
        if log.incompat & F_64BIT != 0 {
            let (numbers, _) = numbers.as_chunks();
            current.revoked.extend(numbers.iter().map(|n| u64::from_be_bytes(*n)));
        } else {
            let (numbers, _) = numbers.as_chunks();
            current
                .revoked
                .extend(numbers.iter().map(|n| u64::from(u32::from_be_bytes(*n))));
        }
    }

    /// A committed transaction's contents were on the disk before its commit block; if they are not now, the disk is bad.
    fn check_contents(&mut self, log: &Log, sequence: u32, tags: &[Tag]) -> Result<(), ReplayError> {
        if log.tail() == 0 {
            return Ok(());
        }
        for tag in tags {
            self.geometry.block(self.volume, tag.source.block, &mut self.block)?;
            let got = crc32c(&[&log.uuid, &sequence.to_be_bytes(), &self.block]);
            let good = if log.incompat & F_CSUM_V3 != 0 {
                got == tag.checksum
            } else {
                got & 0xFFFF == tag.checksum
            };
            if !good {
                return Err(ReplayError::Content {
                    block: tag.block,
                    sequence,
                });
            }
        }
        Ok(())
    }

    fn tail_is_good(&self, log: &Log) -> bool {
        log.tail() == 0
            || self
                .block
                .split_last_chunk::<TAIL>()
                .is_some_and(|(data, stored)| crc32c(&[&log.uuid, data, &[0; TAIL]]) == u32::from_be_bytes(*stored))
    }

    /// h_chksum[0] is at 16.
    fn commit_is_good(&self, log: &Log) -> bool {
        log.tail() == 0
            || self.block.split_at_checked(16).is_some_and(|(before, rest)| {
                rest.split_first_chunk::<4>().is_some_and(|(stored, after)| {
                    crc32c(&[&log.uuid, before, &[0; 4], after]) == u32::from_be_bytes(*stored)
                })
            })
    }

    /// The area behind the log begins with a head (tag 9, little-endian) of the transaction that would come next.
    fn has_fast_commits(&mut self, log: &Log, next: u32) -> Result<bool, ReplayError> {
        let first = log.end.saturating_add(1);
        if first >= self.map.blocks() {
            return Ok(false);
        }
        self.read(first)?;
        let field = |at: usize| self.block.get(at..).and_then(|b| b.first_chunk::<4>());
        Ok(matches!(field(0), Some([9, 0, ..])) && field(8) == Some(&next.to_le_bytes()))
    }
}

impl Log {
    fn tail(&self) -> usize {
        if self.incompat & (F_CSUM_V2 | F_CSUM_V3) == 0 {
            0
        } else {
            TAIL
        }
    }

    /// journal_tag_bytes(): v3 16; else 8, and 4 for 64 bits, and 2 for v2.
    fn tag_size(&self) -> usize {
        match (
            self.incompat & F_CSUM_V3 != 0,
            self.incompat & F_64BIT != 0,
            self.incompat & F_CSUM_V2 != 0,
        ) {
            (true, _, _) => 16,
            (false, true, true) => 14,
            (false, true, false) => 12,
            (false, false, true) => 10,
            (false, false, false) => 8,
        }
    }

    fn block_number(&self, tag: &[u8]) -> Option<u64> {
        let low = u64::from(be32(tag, 0)?);
        if self.incompat & F_64BIT == 0 {
            return Some(low);
        }
        Some(u64::from(be32(tag, 8)?) << 32 | low)
    }

    /// v3: flags at 4, checksum at 12, 32 bits each. Else: checksum at 4, flags at 6, 16 bits each.
    fn flags_and_checksum(&self, tag: &[u8]) -> Option<(u32, u32)> {
        if self.incompat & F_CSUM_V3 != 0 {
            return Some((be32(tag, 4)?, be32(tag, 12)?));
        }
        let both = be32(tag, 4)?;
        Some((both & 0xFFFF, both >> 16))
    }
}

/// The log's blocks from its start, each at most once.
struct Ring {
    next: u32,
    left: u32,
    first: u32,
    end: u32,
}

impl Ring {
    fn new(log: &Log) -> Self {
        Self {
            next: log.start,
            left: log.end.saturating_sub(log.first),
            first: log.first,
            end: log.end,
        }
    }

    fn next(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let this = self.next;
        self.next = this.checked_add(1).filter(|n| *n < self.end).unwrap_or(self.first);
        Some(this)
    }
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}
