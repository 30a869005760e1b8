use super::*;
use crate::load::fakes::{cpio, gzip, zstd};
use proptest::prelude::*;

fn said(bytes: &[u8]) -> String {
    examine(bytes, Extent::Last).unwrap_err().to_string()
}

/// Blocks as `lz4 -l` writes them.
fn lz4(blocks: &[&[u8]]) -> Vec<u8> {
    let mut out = b"\x02\x21\x4c\x18".to_vec();
    for block in blocks {
        out.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
        out.extend_from_slice(block);
    }
    out
}

#[test]
fn what_the_kernel_reads_is_taken() {
    let early = cpio(&[("kernel", 0), ("kernel/x86/microcode/AuthenticAMD.bin", 33)]);
    let tables = cpio(&[("a", 1), ("kernel/firmware/acpi/dsdt.aml", 7)]);
    let plain = cpio(&[("init", 5), ("etc/kernel/x86/microcode/x", 0)]);
    for (file, is_early, packed) in [
        (early.clone(), true, vec![]),
        ([&[0; 4], &tables[..]].concat(), true, vec![]),
        (plain.clone(), false, vec![]),
        (gzip(&plain), false, vec![Packing::Gzip]),
        (zstd(&plain), false, vec![Packing::Zstd]),
        (
            [early, vec![0; 512], zstd(&plain), gzip(&plain)].concat(),
            true,
            vec![Packing::Zstd, Packing::Gzip],
        ),
        // What is behind something compressed is not looked for early.
        ([zstd(&plain), vec![0; 4]].concat(), false, vec![Packing::Zstd]),
        (b"\xfd7zXZ\0\0\x01rest".to_vec(), false, vec![Packing::Xz]),
        (b"BZh9rest".to_vec(), false, vec![Packing::Bzip2]),
    ] {
        for whole in [true, false] {
            let found = examine(&file, if whole { Extent::Last } else { Extent::Head }).unwrap();
            assert_eq!((found.early, &found.packed, found.junk), (is_early, &packed, None));
        }
    }
    let found = examine(&lz4(&[b"block", b"another"]), Extent::Last).unwrap();
    assert!(found.open && found.junk.is_none());
    let found = examine(&[lz4(&[b"block"]), vec![0; 4]].concat(), Extent::Last).unwrap();
    assert!(!found.open && found.packed == [Packing::Lz4]);
}

#[test]
fn what_is_no_initramfs_is_refused_by_name() {
    let plain = cpio(&[("init", 5)]);
    let mut squashfs = b"hsqs".to_vec();
    squashfs.resize(4096, 7);
    let mut ext2 = vec![1; 4096];
    ext2[0x438..0x43a].copy_from_slice(b"\x53\xef");
    for (file, says) in [
        (b"".to_vec(), "empty; copy it again"),
        (vec![0; 4096], "nothing but zeros; copy it again"),
        (
            b"random".to_vec(),
            "not an initramfs (begins with 72 61 6e 64 6f 6d); pack one with cpio -H newc, then gzip or zstd",
        ),
        (
            b"\xd0\x0d\xfe\xed\0\0\0\x48".to_vec(),
            "a FIT image or a device tree, not an initramfs; name the ramdisk inside it",
        ),
        (
            b"070707000000".to_vec(),
            "a cpio archive in the old portable format, not an initramfs; pack its files with cpio -H newc",
        ),
        (
            squashfs,
            "a squashfs image, not an initramfs; pack its files with cpio -H newc",
        ),
        (
            ext2,
            "an ext2, ext3 or ext4 image, not an initramfs; pack its files with cpio -H newc",
        ),
        (
            b"\x04\x22\x4d\x18\x64\x40".to_vec(),
            "an lz4 frame, not an initramfs; compress it with lz4 -l",
        ),
        (
            b"\x50\x2a\x4d\x18\x04\0\0\0".to_vec(),
            "zstd with a skippable frame first, not an initramfs; compress it with zstd, not pzstd",
        ),
        (
            b"ANDROID!".to_vec(),
            "an Android boot image, not an initramfs; name the initrd of the same build",
        ),
        (
            gzip(&uboot::tests::mkimage(3, &plain)),
            "a U-Boot image inside gzip, but the kernel takes only a cpio archive there; repack it",
        ),
        (
            zstd(b"hello"),
            "no cpio archive inside zstd, but the kernel takes only a cpio archive there; repack it",
        ),
        (gzip(b""), "gzip stream is truncated, damaged or empty; copy it again"),
        (
            b"\x1f\x8b\x08\x04rest".to_vec(),
            "gzip with fields in its header that the kernel does not skip, but the kernel takes only a file name there; \
             compress it with gzip itself",
        ),
        (
            b"\xfd7zXZ\0\0\x04rest".to_vec(),
            "xz with a CRC64 or SHA-256 check, but the kernel takes CRC32; use xz --check=crc32",
        ),
        (
            b"\x28\xb5\x2f\xfd\0\x90rest".to_vec(),
            "zstd with a window larger than 128 MiB, but the kernel takes at most that; use zstd without --long",
        ),
        (
            b"\x28\xb5\x2f\xfd\x01\x50\x07rest".to_vec(),
            "zstd with a dictionary, but the kernel takes none; use zstd without -D",
        ),
    ] {
        assert_eq!(said(&file), says);
    }
}

/// Cut off between two files, or its end lost to zeros: the kernel reads on and finds no header.
#[test]
fn an_archive_without_its_trailer_may_have_been_cut_off() {
    const TRAILER: usize = 124;
    let whole = cpio(&[("init", 5), ("etc", 3)]);
    let cut = &whole[..whole.len() - TRAILER];
    let endless = |bytes: &[u8]| examine(bytes, Extent::Last).unwrap().endless;
    assert!(!endless(&whole) && !endless(&[&whole[..], &[0; 512]].concat()) && !endless(&gzip(&whole)));
    assert!(endless(cut) && endless(&[cut, &[0; 512]].concat()));
    // Another archive begins where the header is looked for.
    assert!(!endless(&[cut, &whole].concat()));
    assert_eq!(
        examine(cut, Extent::Followed).unwrap_err().to_string(),
        "its cpio archive has no TRAILER!!! at its end, so the next initrd may be lost; was it cut off? copy or pack it again"
    );
    assert!(!examine(cut, Extent::Head).unwrap().endless);
    let junk = |bytes: &[u8]| examine(bytes, Extent::Last).unwrap().junk;
    let at = u64::try_from(cut.len()).unwrap();
    assert_eq!(junk(&[cut, &gzip(&whole)].concat()), Some(at));
    assert_eq!(junk(&[cut, &[0; 8], &whole].concat()), Some(at + 8));
    // The kernel reads its name up to the first zero, however long the field is.
    let mut padded = whole.clone();
    let name = cut.len() + 94;
    padded[name..name + 8].copy_from_slice(b"0000000c");
    assert!(!endless(&padded));
    // Behind a trailer, whatever comes has to begin at a multiple of 4: do_reset() in init/initramfs.c.
    let at = u64::try_from(whole.len()).unwrap();
    assert_eq!(junk(&[&whole[..], &[0; 2], &gzip(&whole)].concat()), Some(at + 2));
    assert_eq!(junk(&[&whole[..], &[0; 4], &gzip(&whole)].concat()), None);
}

#[test]
fn sums_are_compared_as_the_kernel_does() {
    let mut summed = cpio(&[("init", 5), ("etc", 0)]);
    let plain = summed.clone();
    let data = 110 + 6; // the header, the name, no padding
    let sum: u32 = plain[data..data + 5].iter().map(|byte| u32::from(*byte)).sum();
    for at in (0..summed.len()).filter(|at| plain[*at..].starts_with(b"070701")) {
        summed[at + 5] = b'2';
    }
    summed[102..110].copy_from_slice(format!("{sum:08x}").as_bytes());
    let found = examine(&summed, Extent::Last).unwrap();
    assert!(found.sums && !examine(&plain, Extent::Last).unwrap().sums);
    summed[data] ^= 1;
    assert_eq!(
        said(&summed),
        "checksum mismatch in the cpio archive, file at byte 0; copy it again"
    );
    let old = BuiltIn::of_version(Some((5, 18)));
    assert_eq!(
        old.takes_sums().unwrap_err().to_string(),
        "cpio archive with checksums (-H crc), which Linux 5.18 does not read; pack it with cpio -H newc"
    );
    for version in [None, Some((5, 19)), Some((6, 1))] {
        BuiltIn::of_version(version).takes_sums().unwrap();
    }
}

#[test]
fn what_is_cut_short_is_refused_once_all_of_it_is_there() {
    let archive = cpio(&[("init", 5), ("etc/config", 300)]);
    // The padding behind the trailer is nothing to be missed.
    for (file, cuts) in [
        (archive.clone(), [5, 30]),
        (zstd(&archive.repeat(1000)), [1, 5]),
        (lz4(&[b"block"]), [1, 5]),
    ] {
        for cut in cuts {
            let file = &file[..file.len() - cut];
            let whole = examine(&[&[0; 4], file].concat(), Extent::Last);
            assert!(whole.is_err(), "{:x?} {cut}", &file[..4]);
        }
        assert!(examine(&file[..file.len() / 2 + 4], Extent::Head).is_ok());
    }
    let mut damaged = archive;
    damaged[60] = b'g';
    assert_eq!(said(&damaged), "damaged cpio header at byte 0; copy it again");
}

#[test]
fn what_the_kernel_stops_at_is_told_where() {
    let archive = cpio(&[("init", 4)]);
    let at = archive.len() as u64;
    for junk in [&b"junk"[..], b"\xff\xff", b"070707"] {
        let found = examine(&[&archive, junk].concat(), Extent::Last).unwrap();
        assert_eq!(found.junk, Some(at));
    }
    // An archive that does not begin at a multiple of 4.
    let found = examine(&[zstd(&archive), vec![0; 1], archive.clone()].concat(), Extent::Last).unwrap();
    let aligned = (zstd(&archive).len() + 1).is_multiple_of(4);
    assert_eq!(found.junk.is_none(), aligned);
}

#[test]
fn what_follows_is_aligned_and_not_swallowed() {
    for (at, open, zeros) in [
        (0, false, 0),
        (8, false, 0),
        (9, false, 3),
        (11, false, 1),
        (12, true, 4),
        (13, true, 7),
    ] {
        assert_eq!(padding(at, open), zeros, "{at} {open}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(
        fields in "[0-9a-fA-F]{104}", magic in 0..12_usize, extent in prop_oneof![Just(Extent::Head), Just(Extent::Last), Just(Extent::Followed)],
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let magics: [&[u8]; 12] = [
            b"", b"\0\0\0\0", b"070702", b"\x1f\x8b\x08\0", b"\x02\x21\x4c\x18", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0",
            b"BZh", b"\x5d\0", b"\x89LZO", b"\x27\x05\x19\x56", b"hsqs",
        ];
        let _ = examine(&[magics[magic], &bytes].concat(), extent);
        let _ = examine(&[b"070701", fields.as_bytes(), &bytes[..]].concat(), extent);
        let archive = cpio(&[("init", 9)]);
        let _ = examine(&[&archive, magics[magic], &bytes].concat(), extent);
    }
}

#[test]
fn what_is_behind_gzip_is_found_where_something_would_be_lost() {
    let archive = cpio(&[("init", 9)]);
    let (packed, footer) = (gzip(&archive), b"signature".as_slice());
    let file = [&packed, footer].concat();
    let junk = |extent| examine(&file, extent).unwrap().junk;
    assert_eq!(junk(Extent::Followed), Some(packed.len() as u64));
    assert_eq!(junk(Extent::Last), None);
    let padded = [&packed[..], &[0; 9]].concat();
    assert_eq!(examine(&padded, Extent::Followed).unwrap().junk, None);
    let cut = &packed[..packed.len() - 3];
    assert!(examine(cut, Extent::Last).is_ok());
    let error = examine(cut, Extent::Followed).unwrap_err().to_string();
    assert!(error.starts_with("gzip stream is truncated"), "{error}");
}

#[test]
fn an_archive_in_two_streams_is_refused() {
    let archive = cpio(&[("init", 9)]);
    let whole = [zstd(&archive), zstd(&archive)].concat();
    let padded = [zstd(&archive), zstd(&[&[0; 8], &archive[..]].concat())].concat();
    for good in [whole, padded] {
        assert!(examine(&good, Extent::Last).is_ok());
    }
    let (first, second) = archive.split_at(116);
    let split = [zstd(first), zstd(second)].concat();
    assert!(said(&split).contains("inside zstd"), "{}", said(&split));
}
