//! Partitions of a table against those the kernel made of it.
//!
//! Given both; responsible for which of a table's partitions the kernel does not have, and for which names are whose. Names are this table's: `PARTUUID` came to sysfs late (kernel 6.10) and `PARTNAME` there has every
//! non-ASCII letter replaced.

use super::block::Block;
use crate::text::word;

/// A partition as a table has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Its number in the kernel, from 1.
    pub number: u32,
    /// First byte on the disk.
    pub start: u64,
    /// In bytes.
    pub length: u64,
    /// GUID, or `SSSSSSSS-PP`; lower case.
    pub partuuid: String,
    /// Only a GPT has it.
    pub partlabel: Option<String>,
    /// The GUID of its type, lower case; only a GPT has it.
    pub parttype: Option<String>,
}

/// What a disk says about its partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    /// In table order, unused ones left out.
    pub partitions: Vec<Partition>,
    /// Why the kernel may not have taken it.
    pub odd: Option<String>,
    /// Sector 0 tells of it.
    pub announced: bool,
}

/// The most partitions a disk has in the kernel (DISK_MAX_PARTS), the disk itself included.
pub(crate) const NUMBERS: u32 = 256;

/// What to do about a table that the kernel did not take as it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Not in the kernel, to be added under their numbers.
    pub(crate) missing: Vec<Partition>,
    /// What is out of the ordinary, a line each.
    pub(crate) lines: Vec<String>,
}

impl Table {
    /// The entry of a partition of the kernel: the one that begins where it does.
    pub(crate) fn entry(&self, partition: &Block) -> Option<&Partition> {
        let (number, _) = partition.partition.as_ref()?;
        self.partitions.iter().find(|entry| match partition.start {
            Some(start) => entry.start == start,
            None => entry.number == *number,
        })
    }

    /// Compares with the `partitions` the kernel has of `disk`.
    pub(crate) fn compare(&self, disk: &Block, partitions: &[&Block]) -> Difference {
        let mut lines = Vec::new();
        for partition in partitions {
            let number = partition.partition.as_ref().map(|(number, _)| *number);
            let same = self.partitions.iter().find(|entry| Some(entry.number) == number);
            if let (None, Some(entry)) = (self.entry(partition), same) {
                lines.push(format!(
                    "{}: the kernel has it at byte {}, the table at byte {}; its names are ignored",
                    partition.name,
                    partition.start.unwrap_or(0),
                    entry.start
                ));
            }
        }
        let size = disk.bytes();
        let odd_bytes = |length: u64| length.checked_rem(disk.sector.into()).unwrap_or(0);
        let absent = self.partitions.iter().filter(|entry| entry.number < NUMBERS);
        let absent = absent.filter(|entry| !partitions.iter().any(|p| self.entry(p) == Some(entry)));
        let mut absent: Vec<Partition> = absent.cloned().collect();
        // An MBR is often that of a disk which was a little larger, and the kernel cuts its last partition off, too.
        for entry in absent
            .iter_mut()
            .filter(|entry| entry.parttype.is_none() && disk.sector == 512)
        {
            let room = size.saturating_sub(entry.start);
            if room != 0 && entry.length > room {
                lines.push(format!(
                    "{}: {entry} is cut off at the end of the disk, which has {size} bytes",
                    disk.name
                ));
                entry.length = room;
            }
        }
        let (missing, beyond): (Vec<_>, Vec<_>) = absent.into_iter().partition(|entry| {
            entry.start.checked_add(entry.length).is_some_and(|end| end <= size) && entry.length != 0
        });
        if !beyond.is_empty() {
            // As from a disk, or an adapter, with sectors of 512 bytes.
            let ratio = u64::from(disk.sector).checked_div(512).unwrap_or(1).max(1);
            let end = |p: &Partition| p.start.saturating_add(p.length).checked_div(ratio);
            let why = if ratio > 1 && beyond.iter().all(|p| end(p).is_some_and(|end| end <= size)) {
                "the table may be for sectors of 512 bytes: partition the disk again as it is connected here"
            } else {
                "the disk is too small or its image was cut off"
            };
            lines.push(format!(
                "{}: beyond the end of the disk, which has {size} bytes in sectors of {}: {}; {why}",
                disk.name,
                disk.sector,
                list(&beyond)
            ));
        }
        // The kernel takes whole sectors only.
        let missing: Vec<Partition> = (missing.into_iter())
            .map(|entry| Partition {
                length: entry.length.saturating_sub(odd_bytes(entry.length)),
                ..entry
            })
            .collect();
        // A kernel that reads no tables, like the one made for Cato, has none of them: nothing is odd about that.
        let partly =
            (!partitions.is_empty() && !missing.is_empty()).then_some("the kernel has only some of its partitions");
        if let Some(odd) = self.odd.as_deref().or(partly) {
            let adding = match missing.as_slice() {
                [] => String::new(),
                missing => format!("; adding what the kernel does not have: {}", list(missing)),
            };
            lines.push(format!("{}: {odd}{adding}", disk.name));
        }
        Difference { missing, lines }
    }
}

/// `partition 1 (boot-a), partition 2`, the first few.
fn list(partitions: &[Partition]) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<String> = partitions.iter().take(SHOWN).map(Partition::to_string).collect();
    if let Some(more @ 1..) = partitions.len().checked_sub(SHOWN) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

impl std::fmt::Display for Partition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "partition {}", self.number)?;
        match &self.partlabel {
            Some(name) => write!(f, " ({})", word(name)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of the tests' own")]
mod tests;
