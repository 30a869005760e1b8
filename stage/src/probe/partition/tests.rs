//! Tables against what a kernel made of them.

use super::*;
use crate::probe::table::read;
use std::path::PathBuf;

const SECTOR: u64 = 512;

fn block(name: &str, partition: Option<u32>, start: Option<u64>, size: u64) -> Block {
    Block {
        name: name.into(),
        path: PathBuf::new(),
        partition: partition.map(|number| (number, "vda".into())),
        start: start.map(|start| start * SECTOR),
        size,
        sector: 512,
        partname: None,
    }
}

fn entry(number: u32, start: u64, sectors: u64) -> Partition {
    Partition {
        number,
        start: start * SECTOR,
        length: sectors * SECTOR,
        partuuid: format!("uuid-{number}"),
        partlabel: Some(format!("boot-{number}")),
        parttype: Some("type".into()),
    }
}

fn table(partitions: Vec<Partition>) -> Table {
    Table {
        partitions,
        ..Table::default()
    }
}

#[test]
fn what_the_kernel_has_is_left_alone() {
    let (one, five) = (
        block("vda1", Some(1), Some(40), 10),
        block("vda5", Some(5), Some(51), 9),
    );
    let difference =
        table(vec![entry(1, 40, 10), entry(5, 51, 9)]).compare(&block("vda", None, None, 100), &[&one, &five]);
    assert_eq!(difference, Difference::default());
}

#[test]
fn a_kernel_that_reads_no_tables_is_told_of_all_without_a_word() {
    let table = table(vec![entry(1, 40, 10), entry(2, 50, 10)]);
    let disk = block("vda", None, None, 100);
    let difference = table.compare(&disk, &[]);
    assert_eq!((&difference.missing, difference.lines.len()), (&table.partitions, 0));
    // One that has only a part of them has not taken the table as it is.
    let difference = table.compare(&disk, &[&block("vda1", Some(1), Some(40), 10)]);
    assert_eq!(
        difference.lines,
        ["vda: the kernel has only some of its partitions; adding what the kernel does not have: partition 2 (boot-2)"]
    );
}

#[test]
fn what_it_misses_is_added_and_said() {
    let mut table = table(vec![entry(1, 40, 10), entry(2, 50, 10)]);
    table.odd = Some("primary GPT: no \"EFI PART\" in sector 1; using the backup in sector 99".into());
    let disk = block("vda", None, None, 100);
    let difference = table.compare(&disk, &[]);
    assert_eq!(difference.missing, table.partitions);
    assert_eq!(
        difference.lines,
        [
            "vda: primary GPT: no \"EFI PART\" in sector 1; using the backup in sector 99; adding what the kernel does not have: \
          partition 1 (boot-1), partition 2 (boot-2)"
        ]
    );
    // With `gpt` on its command line the kernel took the backup itself.
    let both = [
        &block("vda1", Some(1), Some(40), 10),
        &block("vda2", Some(2), Some(50), 10),
    ];
    let difference = table.compare(&disk, &both);
    assert_eq!((difference.missing.len(), difference.lines.len()), (0, 1));
}

#[test]
fn a_table_for_smaller_sectors_is_told_from_a_disk_that_is_too_small() {
    let mut disk = block("vda", None, None, 100);
    (disk.sector, disk.size) = (4096, 800);
    let beyond = |start, length| {
        let mut table = table(vec![entry(1, 40, 10)]);
        (table.partitions[0].start, table.partitions[0].length) = (start, length);
        table.compare(&disk, &[]).lines[0].clone()
    };
    let says = "partition 1 (boot-1); the table may be for sectors of 512 bytes: partition the disk again as it is connected here";
    assert!(
        beyond(100 * 4096, 10 * 4096).ends_with(says),
        "{}",
        beyond(100 * 4096, 10 * 4096)
    );
    assert!(beyond(100 * 4096, 900 * 4096).ends_with("the disk is too small or its image was cut off"));
}

#[test]
fn what_lies_beyond_the_disk_is_said_and_left_out() {
    let disk = block("vda", None, None, 55);
    let mut partitions = vec![
        entry(1, 40, 10),
        entry(2, 50, 10),
        entry(3, u64::MAX / SECTOR, 10),
        entry(4, 5, 0),
    ];
    partitions[2].partlabel = None;
    let difference = table(partitions).compare(&disk, &[]);
    assert_eq!(difference.missing.len(), 1);
    assert!(
        difference.lines[0]
            .starts_with("vda: beyond the end of the disk, which has 28160 bytes in sectors of 512: partition 2 (boot-2), partition 3"),
        "{difference:?}"
    );
}

#[test]
fn the_last_partition_of_an_mbr_is_cut_off_with_the_disk() {
    let mut last = entry(2, 50, 10);
    (last.partlabel, last.parttype) = (None, None);
    let behind = Partition {
        number: 3,
        start: 55 * SECTOR,
        ..last.clone()
    };
    let difference = table(vec![entry(1, 40, 10), last, behind]).compare(&block("vda", None, None, 55), &[]);
    assert_eq!(
        difference
            .missing
            .iter()
            .map(|p| (p.number, p.length))
            .collect::<Vec<_>>(),
        [(1, 10 * SECTOR), (2, 5 * SECTOR)]
    );
    assert_eq!(
        difference.lines[0],
        "vda: partition 2 is cut off at the end of the disk, which has 28160 bytes"
    );
    assert!(difference.lines[1].contains("beyond the end of the disk") && difference.lines[1].contains("partition 3"));
}

#[test]
fn a_partition_that_is_elsewhere_has_not_the_names_of_its_number() {
    let wrong = block("vda1", Some(1), Some(1), 99);
    let table = table(vec![entry(1, 40, 10)]);
    assert_eq!(table.entry(&wrong), None);
    let difference = table.compare(&block("vda", None, None, 100), &[&wrong]);
    assert_eq!(
        difference.lines[0],
        "vda1: the kernel has it at byte 512, the table at byte 20480; its names are ignored"
    );
    assert_eq!(difference.missing.len(), 1);
    // Under another number it is the same partition.
    assert_eq!(
        table.entry(&block("vda7", Some(7), Some(40), 10)),
        Some(&table.partitions[0])
    );
    // A kernel that does not say where is believed.
    assert_eq!(
        table.entry(&block("vda1", Some(1), None, 10)),
        Some(&table.partitions[0])
    );
}

#[test]
fn the_end_of_a_partition_is_that_of_a_sector() {
    let disk = Block {
        sector: 4096,
        ..block("vda", None, None, 200)
    };
    assert_eq!(
        table(vec![entry(1, 40, 10)]).compare(&disk, &[]).missing[0].length,
        4096
    );
}

#[test]
fn hostile_tables_cost_a_line() {
    let partitions: Vec<Partition> = (1..8000).map(|n| entry(n, 40, 10)).collect();
    let mut table = table(partitions);
    table.odd = Some("no protective MBR".into());
    let difference = table.compare(&block("vda", None, None, 100), &[]);
    assert_eq!(difference.missing.len(), 255);
    assert!(
        difference.lines.len() == 1 && difference.lines[0].ends_with("partition 8 (boot-8), 247 more"),
        "{difference:?}"
    );
}

fn record(image: &mut [u8], at: usize, kind: u8, start: u32, sectors: u32) {
    image[at + 4] = kind;
    image[at + 8..at + 12].copy_from_slice(&start.to_le_bytes());
    image[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
    let end = at / 512 * 512 + 510;
    image[end..end + 2].copy_from_slice(&[0x55, 0xAA]);
}

/// Answers only the first so many reads in time.
struct Slow(Vec<u8>, std::cell::Cell<usize>);

impl crate::sys::read_at::ReadAt for Slow {
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.1
            .set(self.1.get().checked_sub(1).ok_or(std::io::ErrorKind::TimedOut)?);
        self.0.read_exact_at(buf, offset)
    }
}

#[test]
fn a_disk_that_is_late_has_not_ended_its_table() {
    let mut image = vec![0; 100 * 512];
    record(&mut image, 446, 0x0F, 20, 70);
    record(&mut image, 20 * 512 + 446, 0x83, 2, 8);
    record(&mut image, 20 * 512 + 462, 0x05, 30, 10);
    record(&mut image, 50 * 512 + 446, 0x83, 2, 8);
    let numbers = |reads: usize| {
        let table = read(&Slow(image.clone(), reads.into()), 512, 100 * 512)?
            .unwrap()
            .unwrap();
        Ok::<_, std::io::Error>(table.partitions.iter().map(|p| p.number).collect::<Vec<_>>())
    };
    assert_eq!(numbers(3).unwrap(), [1, 5, 6]);
    for reads in 0..3 {
        assert_eq!(
            numbers(reads).unwrap_err().kind(),
            std::io::ErrorKind::TimedOut,
            "{reads}"
        );
    }
}

#[test]
fn a_chain_is_followed_as_far_as_the_kernel_does() {
    const PARTITIONS: u32 = 150;
    let image = |used: bool| {
        let mut image = vec![0; 1000 * 512];
        record(&mut image, 446, 0x0F, 20, 900);
        for n in 0..PARTITIONS {
            let at = (20 + n as usize * 4) * 512;
            if used || n == PARTITIONS - 1 {
                record(&mut image, at + 446, 0x83, 2, 1);
            }
            if n < PARTITIONS - 1 {
                record(&mut image, at + 462, 0x05, (n + 1) * 4, 4);
            }
        }
        read(&image, 512, 1000 * 512).unwrap().unwrap().unwrap().partitions
    };
    let last = image(true).last().map(|p| (p.number, p.start / SECTOR));
    assert_eq!(last, Some((4 + PARTITIONS, 20 + 149 * 4 + 2)));
    assert_eq!(
        image(false).len(),
        1,
        "the extended one: 100 links with nothing in them end it"
    );
}

/// As sfdisk numbers them.
#[test]
fn logical_partitions_have_the_numbers_of_the_kernel() {
    let mut image = vec![0; 100 * 512];
    image[440..444].copy_from_slice(&0x1234_abcd_u32.to_le_bytes());
    record(&mut image, 446, 0x83, 10, 5);
    record(&mut image, 446 + 32, 0x0F, 20, 70);
    record(&mut image, 20 * 512 + 446, 0x83, 2, 8);
    record(&mut image, 20 * 512 + 462, 0x05, 20, 30);
    record(&mut image, 40 * 512 + 446, 0x83, 2, 28);
    let found = read(&image, 512, 51_200).unwrap().unwrap().unwrap();
    let all: Vec<_> = found
        .partitions
        .iter()
        .map(|s| (s.number, s.start / SECTOR, s.length / SECTOR))
        .collect();
    // Of the extended one, no more than a boot loader takes.
    assert_eq!(all, [(1, 10, 5), (3, 20, 2), (5, 22, 8), (6, 42, 28)]);
    assert_eq!(found.partitions[3].partuuid, "1234abcd-06");
    assert_eq!(found.partitions[3].partlabel, None);
    // Garbage in the third record of a link has no number; what fits has one.
    record(&mut image, 20 * 512 + 478, 0x83, 5, 900);
    record(&mut image, 20 * 512 + 494, 0x83, 10, 4);
    let numbers = |image: &[u8]| {
        let found = read(image, 512, 51_200).unwrap().unwrap().unwrap();
        found
            .partitions
            .iter()
            .map(|s| (s.number, s.start / SECTOR))
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(&image), [(1, 10), (3, 20), (5, 22), (6, 30), (7, 42)]);
    image[20 * 512 + 478..20 * 512 + 510].fill(0);
    // A chain that leads back to itself ends.
    record(&mut image, 40 * 512 + 462, 0x05, 0, 30);
    assert!(read(&image, 512, 51_200).unwrap().unwrap().unwrap().partitions.len() <= 255);
    // Code where flags should be is the boot sector of a FAT.
    image[446] = 0x41;
    assert_eq!(read(&image, 512, 51_200).unwrap(), Ok(None));
}
