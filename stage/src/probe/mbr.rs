//! Classic partition tables: sector 0 (UEFI specification 2.10, 5.2) and the chain of logical partitions.
//!
//! Given sector 0; responsible for the partitions the kernel makes of it, under its numbers (block/partitions/msdos.c).

use super::partition::Slot;
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
/// No kernel follows the chain farther.
const LINKS: usize = 100;

impl Record {
    fn is_used(self) -> bool {
        self.kind != 0 && self.sectors != 0
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
    pub(crate) fn slots(&self, disk: &(impl ReadAt + ?Sized), sector: u32) -> Vec<Slot> {
        let slot = |number: u32, start: u64, sectors: u32| Slot {
            number,
            start: start.saturating_mul(sector.into()),
            length: u64::from(sectors).saturating_mul(sector.into()),
            partuuid: format!("{:08x}-{number:02x}", self.signature),
            partlabel: None,
        };
        let used = (1..).zip(&self.records).filter(|(_, record)| record.is_used());
        let mut slots: Vec<Slot> = used
            .clone()
            .map(|(number, r)| slot(number, r.start.into(), r.sectors))
            .collect();
        let mut number = 5;
        for (_, extended) in used.filter(|(_, record)| record.is_extended()) {
            let first = u64::from(extended.start);
            let mut here = first;
            for _ in 0..LINKS {
                let mut bytes = [0; 512];
                let read = disk.read_exact_at(&mut bytes, here.saturating_mul(sector.into()));
                let Some(link) = read.ok().and_then(|()| Self::parse(&bytes)) else {
                    break;
                };
                let used = link.records.into_iter().filter(|record| record.sectors != 0);
                let (next, data): (Vec<Record>, Vec<Record>) = used.partition(|record| record.is_extended());
                // Only the first two records of a link have their meaning; systems that fill the others are gone.
                for record in data.into_iter().take(2) {
                    slots.push(slot(number, here.saturating_add(record.start.into()), record.sectors));
                    number = number.saturating_add(1);
                }
                match next.first() {
                    Some(next) => here = first.saturating_add(next.start.into()),
                    None => break,
                }
            }
        }
        slots
    }
}
