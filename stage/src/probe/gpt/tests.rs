//! Tables by hand, whole, damaged, misplaced and for other sectors.

use super::*;
use crate::probe::table::read;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Want {
    guid: [u8; 16],
    name: String,
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A disk as UEFI 5.3 draws it: PMBR, primary header, entries, …, backup entries, backup header.
fn disk(sector: usize, sectors: usize, wants: &[Want]) -> Vec<u8> {
    let mut image = vec![0; sector * sectors];
    put(&mut image, 446 + 4, &[0xEE]);
    put(&mut image, 446 + 8, &1_u32.to_le_bytes());
    put(&mut image, 446 + 12, &u32::try_from(sectors - 1).unwrap().to_le_bytes());
    put(&mut image, 510, &[0x55, 0xAA]);
    let mut entries = vec![0; 128 * 128];
    for (i, want) in wants.iter().enumerate() {
        let at = i * 128;
        put(&mut entries, at, &[7; 16]);
        put(&mut entries, at + 16, &want.guid);
        put(&mut entries, at + 32, &(40 + i as u64).to_le_bytes());
        put(&mut entries, at + 40, &(40 + i as u64).to_le_bytes());
        for (j, unit) in want.name.encode_utf16().take(36).enumerate() {
            put(&mut entries, at + 56 + 2 * j, &unit.to_le_bytes());
        }
    }
    let table_sectors = entries.len().div_ceil(sector);
    for (my, other, table) in [(1, sectors - 1, 2), (sectors - 1, 1, sectors - 1 - table_sectors)] {
        let mut header = vec![0; 92];
        put(&mut header, 0, b"EFI PART");
        put(&mut header, 8, &0x0001_0000_u32.to_le_bytes());
        put(&mut header, 12, &92_u32.to_le_bytes());
        put(&mut header, 24, &(my as u64).to_le_bytes());
        put(&mut header, 32, &(other as u64).to_le_bytes());
        put(&mut header, 56, &[9; 16]);
        put(&mut header, 72, &(table as u64).to_le_bytes());
        put(&mut header, 80, &128_u32.to_le_bytes());
        put(&mut header, 84, &128_u32.to_le_bytes());
        put(&mut header, 88, &crc32([entries.as_slice()]).to_le_bytes());
        let crc = crc32([header.as_slice()]);
        put(&mut header, 16, &crc.to_le_bytes());
        put(&mut image, my * sector, &header);
        put(&mut image, table * sector, &entries);
    }
    image
}

fn a_name() -> Vec<Want> {
    vec![Want {
        guid: [0xAB; 16],
        name: "boot-ä".into(),
    }]
}

fn table(image: &[u8], sector: u32) -> Table {
    read(image, sector, image.len() as u64).unwrap().unwrap().unwrap()
}

fn names(table: &Table) -> Vec<&str> {
    table
        .partitions
        .iter()
        .filter_map(|entry| entry.partlabel.as_deref())
        .collect()
}

#[test]
fn a_guid_prints_the_mixed_endian_way() {
    let bytes = [
        0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B,
    ];
    // The EFI system partition's GUID: UEFI 5.3.3, table 5-7.
    assert_eq!(Guid(bytes).to_string(), "c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
}

#[test]
fn both_sector_sizes_are_read() {
    for sector in [512_u32, 4096] {
        let image = disk(sector as usize, 100, &a_name());
        let table = table(&image, sector);
        assert_eq!(
            (names(&table).as_slice(), &table.odd),
            (["boot-\u{e4}"].as_slice(), &None),
            "{sector}"
        );
        assert_eq!(table.partitions[0].partuuid, "abababab-abab-abab-abab-abababababab");
        let bytes = u64::from(sector);
        assert_eq!(
            (table.partitions[0].start, table.partitions[0].length),
            (40 * bytes, bytes)
        );
    }
}

/// A disk that was copied to one with other sectors: the kernel sees nothing at all.
#[test]
fn a_table_for_other_sectors_is_read_with_its_own() {
    for (made, has) in [(512_u32, 4096_u32), (4096, 512)] {
        let image = disk(made as usize, 800, &a_name());
        let table = table(&image, has);
        assert_eq!(table.partitions[0].start, 40 * u64::from(made));
        assert_eq!(
            table.odd.unwrap(),
            format!("the GPT is for sectors of {made} bytes, the disk has {has}")
        );
    }
}

#[test]
fn the_backup_is_taken_when_the_primary_is_bad() {
    let mut image = disk(512, 100, &a_name());
    image[512 + 60] ^= 1;
    let found = table(&image, 512);
    let odd = found.odd.as_deref().unwrap();
    assert!(
        odd.starts_with("primary GPT: header CRC32") && odd.ends_with("; using the backup in sector 99"),
        "{odd}"
    );
    assert_eq!(names(&found), ["boot-\u{e4}"]);
    image[99 * 512] ^= 1;
    let text = read(&image, 512, 51_200).unwrap().unwrap_err();
    assert!(
        text.contains("primary: header CRC32") && text.contains("backup: no \"EFI PART\" in sector 99"),
        "{text}"
    );
}

/// A disk that grew keeps its backup where its end was: the protective MBR knows, or the damaged header itself.
#[test]
fn the_backup_is_found_where_the_end_was() {
    for hint in ["mbr", "header"] {
        let mut image = disk(512, 100, &a_name());
        image.resize(512 * 150, 0);
        if hint == "mbr" {
            image[512..1024].fill(0);
        } else {
            put(&mut image, 446 + 12, &u32::MAX.to_le_bytes());
            image[512 + 60] ^= 1;
        }
        let odd = table(&image, 512).odd.unwrap();
        assert!(odd.ends_with("; using the backup in sector 99"), "{hint}: {odd}");
    }
    // With its primary whole it is as good as any.
    let mut image = disk(512, 100, &a_name());
    image.resize(512 * 150, 0);
    assert_eq!(table(&image, 512).odd, None);
}

#[test]
fn a_gpt_without_its_mbr_or_beside_partitions_of_one() {
    let mut image = disk(512, 100, &a_name());
    image[..512].fill(0);
    assert_eq!(table(&image, 512).odd.unwrap(), "no protective MBR");
    // A hybrid MBR announces the GPT all the same.
    let mut image = disk(512, 100, &a_name());
    put(
        &mut image,
        462,
        &[0x80, 0, 0, 0, 0x0C, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0],
    );
    assert_eq!(
        (names(&table(&image, 512)).as_slice(), table(&image, 512).odd),
        (["boot-\u{e4}"].as_slice(), None)
    );
    // Without the announcement, what is left of a GPT does not count.
    put(&mut image, 446, &[0; 16]);
    let partitions = table(&image, 512).partitions;
    assert_eq!((partitions.len(), partitions[0].partuuid.as_str()), (1, "00000000-02"));
}

#[test]
fn damaged_entries_are_not_taken() {
    let mut image = disk(512, 100, &a_name());
    image[2 * 512 + 56] ^= 1;
    let table = table(&image, 512);
    assert!(table.odd.as_deref().unwrap().contains("entries CRC32"));
    assert_eq!(names(&table), ["boot-\u{e4}"]);
}

#[test]
fn sizes_nobody_writes_are_refused_before_any_memory_is_taken() {
    for (count, size) in [(u32::MAX, 128_u32), (128, 0), (128, 100), (0, 128), (1 << 16, 128)] {
        let mut image = disk(512, 100, &a_name());
        put(&mut image, 512 + 80, &count.to_le_bytes());
        put(&mut image, 512 + 84, &size.to_le_bytes());
        put(&mut image, 512 + 16, &[0; 4]);
        let crc = crc32([&image[512..512 + 92]]);
        put(&mut image, 512 + 16, &crc.to_le_bytes());
        assert_eq!(copy(&image, 512, 1, &mut 0), Err(Bad::Entries { count, size }));
    }
}

#[test]
fn a_blank_disk_has_no_table() {
    assert_eq!(read(&vec![0; 2048], 512, 2048).unwrap(), Ok(None));
    assert_eq!(read(&vec![0; 51_200], 4096, 51_200).unwrap(), Ok(None));
    assert_eq!(read(&vec![0; 100], 512, 100).unwrap(), Ok(None));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        wants in prop::collection::vec((any::<[u8; 16]>(), "\\PC{1,18}"), 1..20),
        big in any::<bool>(),
        flip in 512_usize..92 + 512,
    ) {
        let wants: Vec<Want> = wants.into_iter().map(|(guid, name)| Want { guid, name }).collect();
        let sector = if big { 4096 } else { 512 };
        let mut image = disk(sector, 100, &wants);
        for _ in 0..2 {
            let table = table(&image, u32::try_from(sector).unwrap());
            for (entry, want) in table.partitions.iter().zip(&wants) {
                prop_assert_eq!(&entry.partuuid, &Guid(want.guid).to_string());
                let units: Vec<u16> = want.name.encode_utf16().take(36).collect();
                prop_assert_eq!(entry.partlabel.as_ref().unwrap(), &String::from_utf16_lossy(&units));
            }
            image[flip - 512 + sector] ^= 0x10; // any one bit of the primary: the backup says the same
        }
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..4096), size in any::<u64>(),
                              sector in prop::sample::select(vec![512_u32, 1024, 4096]), kind: u8) {
        if bytes.len() > 600 {
            put(&mut bytes, 446, &[0]);
            put(&mut bytes, 446 + 4, &[kind]);
            put(&mut bytes, 510, &[0x55, 0xAA]);
            put(&mut bytes, 512, b"EFI PART");
        }
        let _ = read(&bytes, sector, size);
    }
}
