//! Classic partition tables: sector 0 (UEFI specification 2.10, 5.2) and the chain of logical partitions.
//!
//! Given sector 0; responsible for the partitions the kernel makes of it, under its numbers (block/partitions/msdos.c).

use super::partition::{NUMBERS, Partition};
use crate::sys::read_at::ReadAt;

/// Four records.
pub(crate) struct Mbr {
    signature: u32,
    records: [Record; 4],
}

#[derive(Debug, Clone, Copy)]
struct Record {
    flag: u8,
    kind: u8,
    start: u32,
    sectors: u32,
}

const PROTECTIVE: u8 = 0xEE;
const EXTENDED: [u8; 3] = [0x05, 0x0F, 0x85];
/// The kernel follows the chain so far without a partition in it.
const LINKS: usize = 100;

impl Record {
    fn is_used(self) -> bool {
        self.sectors != 0
    }

    fn is_extended(self) -> bool {
        EXTENDED.contains(&self.kind)
    }
}

impl Mbr {
    /// None without the `55 AA` at 510.
    pub(crate) fn parse(sector: &[u8; 512]) -> Option<Self> {
        let (_, end) = sector.split_last_chunk::<2>()?;
        let (mut records, _) = sector.get(446..510)?.as_chunks::<16>();
        let mut next = || {
            let (record, rest) = records.split_first()?;
            records = rest;
            let [flag, _, _, _, kind, _, _, _, numbers @ ..] = *record;
            let (start, sectors) = numbers.split_first_chunk::<4>()?;
            Some(Record {
                flag,
                kind,
                start: u32::from_le_bytes(*start),
                sectors: u32::from_le_bytes(*sectors.first_chunk()?),
            })
        };
        (end == &[0x55, 0xAA]).then_some(Self {
            signature: u32::from_le_bytes(*sector.get(440..)?.first_chunk()?),
            records: [next()?, next()?, next()?, next()?],
        })
    }

    /// The last sector of the GPT that this MBR, pure or hybrid, is there for; None when it is there for none.
    pub(crate) fn protects(&self) -> Option<u64> {
        let record = self.records.iter().find(|record| record.kind == PROTECTIVE)?;
        Some(
            u64::from(record.start)
                .saturating_add(record.sectors.into())
                .saturating_sub(1),
        )
    }

    /// Whether it has partitions. What is no flag is code: the boot sector of a FAT looks the same but for that.
    pub(crate) fn is_used(&self) -> bool {
        self.records.iter().all(|record| matches!(record.flag, 0 | 0x80))
            && self.records.iter().any(|record| record.is_used())
    }

    /// Its partitions. A link of the chain that can't be read ends it.
    pub(crate) fn partitions(&self, disk: &(impl ReadAt + ?Sized), sector: u32) -> Vec<Partition> {
        let entry = |number: u32, start: u64, sectors: u32| Partition {
            number,
            start: start.saturating_mul(sector.into()),
            length: u64::from(sectors).saturating_mul(sector.into()),
            partuuid: format!("{:08x}-{number:02x}", self.signature),
            partlabel: None,
            parttype: None,
        };
        let used = (1..).zip(&self.records).filter(|(_, record)| record.is_used());
        let mut partitions: Vec<Partition> = used
            .clone()
            .map(|(number, r)| {
                // Of the extended one the kernel takes room for a boot loader, so that the logical ones do not overlap it.
                let most = if r.is_extended() {
                    1024_u32.div_ceil(sector.max(1))
                } else {
                    u32::MAX
                };
                entry(number, r.start.into(), r.sectors.min(most))
            })
            .collect();
        let mut number = 5;
        for (_, extended) in used.filter(|(_, record)| record.is_extended()) {
            let first = u64::from(extended.start);
            let end = first.saturating_add(extended.sectors.into());
            let (mut here, mut length) = (first, u64::from(extended.sectors));
            let mut empty = 0;
            while empty < LINKS && number < NUMBERS {
                empty = empty.saturating_add(1);
                let mut bytes = [0; 512];
                let read = disk.read_exact_at(&mut bytes, here.saturating_mul(sector.into()));
                let Some(link) = read.ok().and_then(|()| Self::parse(&bytes)) else {
                    break;
                };
                let used = (0_u8..).zip(link.records).filter(|(_, record)| record.sectors != 0);
                for (i, record) in used.clone().filter(|(_, record)| !record.is_extended()) {
                    let start = here.saturating_add(record.start.into());
                    let behind = start.saturating_add(record.sectors.into());
                    // The third and fourth of a link are often garbage.
                    if i < 2 || (behind <= here.saturating_add(length) && behind <= end) {
                        partitions.push(entry(number, start, record.sectors));
                        number = number.saturating_add(1);
                        empty = 0;
                    }
                }
                let Some((_, next)) = used.clone().find(|(_, record)| record.is_extended()) else {
                    break;
                };
                (here, length) = (first.saturating_add(next.start.into()), next.sectors.into());
            }
        }
        partitions
    }
}
