use proptest::prelude::*;

use super::*;
use crate::load::fakes::{bzimage, gzip, image, machine, noise, put, zboot, zstd};
use config::Arch::{self, Arm64, X86_64};

fn look(file: &[u8], arch: Arch) -> Result<Plan, FormatError> {
    sniff(file, file.len() as u64, &machine(arch)).map(|s| s.plan)
}

fn refused(file: &[u8], arch: Arch) -> String {
    look(file, arch).unwrap_err().to_string()
}

#[test]
fn an_image_says_what_it_takes() {
    let file = image(0x12000);
    let plan = look(&file, Arm64).unwrap();
    let header = Header::Image(Image {
        text_offset: 0,
        image_size: 0x22000,
        anywhere: true,
    });
    assert_eq!((plan.skip, plan.least, plan.most), (0, 0x12000, 0x12000));
    assert_eq!(plan.header, header);
    // Signed: the signature follows the sections.
    let signed = [file, vec![7; 1472]].concat();
    let plan = look(&signed, Arm64).unwrap();
    assert_eq!((plan.least, plan.most), (0x12000, 0x125c0));
}

#[test]
fn a_bzimage_says_what_it_takes() {
    let file = bzimage(0x8000);
    let plan = look(&file, X86_64).unwrap();
    assert_eq!((plan.skip, plan.least, plan.most), (0x5000, 0x8000, 0x8000));
    let mut setup_header = [0; SETUP_HEADER];
    setup_header[..0x26c - 0x1f1].copy_from_slice(&file[0x1f1..0x26c]);
    let header = Header::BzImage(BzImage {
        setup_header,
        init_size: 0x300_0000,
        pref_address: 0x100_0000,
        alignment: 0x20_0000,
        cmdline_size: 2047,
        above_4g: true,
        efi_kexec: true,
        initrd_addr_max: 0x7fff_ffff,
        version: None,
    });
    assert_eq!(plan.header, header);
    // Signed.
    let signed = [file, vec![7; 1472]].concat();
    assert_eq!(look(&signed, X86_64).unwrap().most, 0x8000 + 1472);
    // "if the setup_sects field contains 0, the real value is 4"
    let mut old = bzimage(0x8000);
    old[0x1f1] = 0;
    assert_eq!(look(&old, X86_64).unwrap().skip, 5 * 512);
}

/// What is written into a good file, where, and what is said of it then.
type Spoilt<'a> = (usize, &'a [u8], &'a str);

#[test]
fn an_image_that_would_die_silently_is_refused() {
    let cases: &[Spoilt<'_>] = &[
        (24, &[0xb], "big-endian"),
        (
            24,
            &[0xc],
            "built for 16 KiB pages, but this CPU supports only 4 KiB, 64 KiB; build it with a page size the CPU supports",
        ),
        (16, &[0; 8], "no image_size in its header (Linux before 3.17)"),
        (16, &[0, 0x10, 1, 0], "its header allows only 69632"),
        (
            8,
            &[0, 0, 0x20],
            "damaged header: text_offset is 0x200000, expected a multiple of 4 KiB",
        ),
        (8, &[1], "damaged header: text_offset is 0x1,"),
        // The last section ends one byte behind the file.
        (0x40 + 24 + 160 + 40 + 16, &[1], "truncated (73728 of 73729 bytes)"),
    ];
    for (at, bytes, text) in cases {
        let mut file = image(0x12000);
        put(&mut file, *at, bytes);
        let said = refused(&file, Arm64);
        assert!(said.contains(text), "{said} / {text}");
    }
    for pages in [0x8, 0xa, 0xe] {
        let mut file = image(0x12000);
        file[24] = pages;
        assert!(look(&file, Arm64).is_ok(), "flags {pages:#x}");
    }
    // A CPU nothing is known of is not refused.
    let mut file = image(0x12000);
    file[24] = 0xc;
    let mut unknown = machine(Arm64);
    unknown.granules.clear();
    assert!(sniff(&file, file.len() as u64, &unknown).is_ok());
}

#[test]
fn a_bzimage_that_would_die_silently_is_refused() {
    let cases: &[Spoilt<'_>] = &[
        (0x206, &[0x0b, 2], "boot protocol 2.11 is too old (Cato needs 2.12"),
        (0x211, &[0], "LOADED_HIGH"),
        (0x236, &[0x7e], "32-bit x86 kernel"),
        (0x234, &[0], "not relocatable"),
        (0x230, &[1, 0, 0, 0], "damaged header: kernel_alignment is 0x1,"),
        (0x230, &[0, 0, 0x30, 0], "damaged header: kernel_alignment is 0x300000,"),
        (0x230, &[0, 0, 0, 0], "damaged header: kernel_alignment is 0x0,"),
        (0x260, &[0xff, 0x7f, 0, 0], "damaged header: init_size is 0x7fff,"),
        (0x1fe, &[0], "damaged header: boot_flag is 0xaa00,"),
        (0x201, &[0x65], "damaged header: jump is 0x65,"),
        (0x1f4, &[0, 0, 0, 0], "damaged header: syssize is 0x0,"),
        (0x1f4, &[1, 8, 0, 0], "truncated (53248 of 53249 bytes)"),
        // The last section ends one byte behind the file.
        (0x40 + 24 + 160 + 16, &[1], "truncated (53248 of 53249 bytes)"),
        (0x1f1, &[255], "truncated"),
    ];
    for (at, bytes, text) in cases {
        let mut file = bzimage(0x8000);
        put(&mut file, *at, bytes);
        let said = refused(&file, X86_64);
        assert!(said.contains(text), "{said} / {text}");
    }
    let long = [bzimage(0x8000), vec![0; 0x300_0000]].concat();
    assert!(refused(&long, X86_64).contains("but its header allows only"));
}

#[test]
fn five_level_paging_needs_a_kernel_that_knows_it() {
    let mut file = bzimage(0x8000);
    file[0x236] = 0x5f;
    assert!(look(&file, X86_64).is_ok());
    let mut la57 = machine(X86_64);
    la57.la57 = true;
    let error = sniff(&file, file.len() as u64, &la57).err().unwrap().to_string();
    assert!(error.contains("5-level paging") && error.contains("no5lvl"), "{error}");
    file[0x236] = 0x7f;
    assert!(sniff(&file, file.len() as u64, &la57).is_ok());
}

#[test]
fn a_kernel_of_the_other_machine_is_named() {
    assert_eq!(
        refused(&image(0x12000), X86_64),
        "an arm64 Image, but this machine is x86_64; name a kernel for x86_64"
    );
    assert_eq!(
        refused(&bzimage(0x8000), Arm64),
        "an x86 bzImage, but this machine is arm64; name a kernel for arm64"
    );
    for arch in Arch::ALL {
        let mut zimage = vec![0; 0x1000];
        put(&mut zimage, 0x24, &0x016f_2818_u32.to_le_bytes());
        assert!(refused(&zimage, arch).starts_with(&format!("a zImage for 32-bit Arm, but this machine is {arch}")));
    }
}

#[test]
fn truncation_is_seen_at_every_length() {
    let (a, x) = (image(0x12000), bzimage(0x8000));
    for len in (0..0x300).chain([0x1000, 0x5000, 0x7fff]) {
        let cut = |file: &[u8]| file[..len].to_vec();
        for (file, arch, magic) in [(cut(&a), Arm64, 60), (cut(&x), X86_64, 0x206)] {
            let said = refused(&file, arch);
            // Before its magic it is taken for whatever its first bytes look like.
            assert!(len < magic || said.contains("truncated"), "{arch} {len}: {said}");
        }
    }
    for (file, arch) in [(&a, Arm64), (&x, X86_64)] {
        let said = refused(&file[..file.len() - 1], arch);
        assert!(said.contains("truncated"), "{said}");
    }
}

#[test]
fn what_is_known_and_not_taken_is_named() {
    let mut uki = bzimage(0x8000);
    put(&mut uki, 0x202, &[0; 4]);
    let program = uki.clone();
    put(&mut uki, 0x40 + 24 + 160, b".linux\0\0");
    let mut elf = vec![0; 64];
    put(&mut elf, 0, b"\x7fELF\x02\x01\x01");
    put(&mut elf, 18, &183_u16.to_le_bytes());
    put(&mut elf, 20, &[1]);
    for (file, text) in [
        (
            b"\xfd7zXZ\0\0\x04".to_vec(),
            "an xz stream, but Cato takes only Image, bzImage, EFI zboot, gzip, zstd; unpack it",
        ),
        (b"\x02\x21\x4c\x18".to_vec(), "an lz4 stream (legacy format)"),
        (b"\x04\x22\x4d\x18".to_vec(), "an lz4 frame"),
        (uki, "a unified kernel image (UKI)"),
        (program, "an EFI program for x86_64"),
        (elf, "an ELF file for arm64"),
        (b"\x27\x05\x19\x56".to_vec(), "a U-Boot uImage"),
        (b"\xd0\x0d\xfe\xed".to_vec(), "a FIT image or a device tree"),
        (b"070701".to_vec(), "a cpio archive"),
        (
            b"#!/bin/sh".to_vec(),
            "not a kernel (begins with 23 21 2f 62 69 6e 2f 73); Cato takes Image",
        ),
        (b"no".to_vec(), "not a kernel (begins with 6e 6f)"),
    ] {
        for arch in Arch::ALL {
            let said = refused(&file, arch);
            assert!(said.starts_with(text), "{said} / {text}");
            let said = refused(&gzip(&file), arch);
            assert!(said.starts_with(&format!("in gzip: {text}")), "{said} / {text}");
        }
    }
}

#[test]
fn the_header_is_seen_through_wrappers() {
    let file = image(0x8_0000);
    for (packed, names) in [
        (gzip(&file), vec!["gzip"]),
        (zstd(&file), vec!["zstd"]),
        (gzip(&zstd(&file)), vec!["gzip", "zstd"]),
        (zstd(&gzip(&file)), vec!["zstd", "gzip"]),
    ] {
        // As much of it as is read beforehand.
        let head = &packed[..packed.len().min(256 << 10)];
        let sniffed = sniff(head, packed.len() as u64, &machine(Arm64)).unwrap();
        assert_eq!(sniffed.wrappers.iter().map(|w| w.name).collect::<Vec<_>>(), names);
        assert_eq!((sniffed.plan.least, sniffed.plan.most), (0x8_0000, 0x9_0000));
    }
    let packed = gzip(&bzimage(0x8_0000));
    let plan = look(&packed, X86_64).unwrap();
    assert_eq!((plan.least, plan.most), (0x8_0000, 0x8_0000 + (1 << 20)));
    assert!(refused(&packed, Arm64).starts_with("in gzip: an x86 bzImage"));
    let deep = (0..5).fold(image(0x12000), |file, _| gzip(&file));
    assert_eq!(refused(&deep, Arm64), "compressed more than 4 times; unpack it");
    let four = (0..4).fold(image(0x12000), |file, _| gzip(&file));
    assert!(look(&four, Arm64).is_ok());
}

#[test]
fn a_zboot_image_is_the_image_inside() {
    let file = image(0x8_0000);
    for (comp_type, payload, names) in [
        ("gzip", gzip(&file), vec!["EFI zboot", "gzip"]),
        ("zstd22", zstd(&file), vec!["EFI zboot", "zstd"]),
        ("zstd", zstd(&file), vec!["EFI zboot", "zstd"]),
    ] {
        let zboot = zboot(comp_type, &payload);
        for (stored, names) in [
            (zboot.clone(), names.clone()),
            (gzip(&zboot), [&["gzip"], &names[..]].concat()),
        ] {
            let head = &stored[..stored.len().min(256 << 10)];
            let sniffed = sniff(head, stored.len() as u64, &machine(Arm64)).unwrap();
            assert_eq!(sniffed.wrappers.iter().map(|w| w.name).collect::<Vec<_>>(), names);
            assert_eq!((sniffed.plan.least, sniffed.plan.most), (0x8_0000, 0x9_0000));
            let mut out = Vec::new();
            let reader = BufReader::with_capacity(61, &stored[..]);
            unpack(&sniffed.wrappers, Box::new(reader))
                .read_to_end(&mut out)
                .unwrap();
            assert!(out == file);
        }
    }
}

#[test]
fn a_zboot_image_with_numbers_that_cannot_be_is_refused() {
    let good = zboot("gzip", &gzip(&image(0x8_0000)));
    let len = u32::try_from(good.len()).unwrap();
    let rest = len - 0x4000;
    for (at, value, text) in [
        (
            8,
            0_u32,
            "damaged header: payload_offset is 0x0, expected an offset after the headers; copy it again",
        ),
        (
            8,
            0x107,
            "damaged header: payload_offset is 0x107, expected an offset after the headers; copy it again",
        ),
        (8, len - 1, "truncated ("),
        (8, u32::MAX, "truncated ("),
        (
            12,
            0,
            "damaged header: payload_size is 0x0, expected the size of the kernel; copy it again",
        ),
        (12, rest + 1, "truncated ("),
        (12, u32::MAX, "truncated ("),
        (
            12,
            4,
            "in EFI zboot: gzip stream is truncated, damaged or empty; copy it again",
        ),
        (8, 0x4001, "in EFI zboot: not a kernel (begins with "),
    ] {
        let mut file = good.clone();
        if (at, value) == (8, 0x4001) {
            put(&mut file, 12, &1_u32.to_le_bytes());
        }
        put(&mut file, at, &value.to_le_bytes());
        let said = refused(&file, Arm64);
        assert!(said.starts_with(text), "{said} / {text}");
    }
    let mut far = good.clone();
    put(&mut far, 8, &0x4_0000_u32.to_le_bytes());
    put(&mut far, 12, &1_u32.to_le_bytes());
    let said = sniff(&far, 1 << 30, &machine(Arm64)).err().unwrap().to_string();
    assert!(said.contains("expected an offset in the first 256 KiB"), "{said}");
    for (comp_type, text) in [
        ("xzkern", "an EFI zboot image with an xz payload"),
        ("lzma", "an EFI zboot image with an lzma payload"),
        ("lzo", "an EFI zboot image with an lzo payload"),
        ("lz4", "an EFI zboot image with an lz4 payload"),
        ("new", "an EFI zboot image with a payload of an unknown kind"),
    ] {
        let said = refused(&zboot(comp_type, b"payload"), Arm64);
        assert!(said.starts_with(text) && said.contains("CONFIG_KERNEL_ZSTD"), "{said}");
    }
    assert!(refused(&good[..32], Arm64).starts_with("truncated (32 of "));
    assert!(refused(&good, X86_64).starts_with("in EFI zboot: in gzip: an arm64 Image"));
}

#[test]
fn an_empty_or_broken_stream_is_refused() {
    for file in [
        gzip(b""),
        b"\x1f\x8b\x08".to_vec(),
        b"\x28\xb5\x2f\xfd".to_vec(),
        zstd(b""),
        [b"\x28\xb5\x2f\xfd\xff".to_vec(), vec![0xff; 100]].concat(),
    ] {
        let said = refused(&file, Arm64);
        assert!(said.contains("is truncated, damaged or empty"), "{said}");
    }
}

fn wrapper(format: &Format) -> Wrapper {
    let FormatKind::Stream(stream) = format.kind else {
        panic!("no stream")
    };
    Wrapper {
        name: format.name,
        content: Content::Stream(stream),
    }
}

#[test]
fn unpacking_gives_back_what_was_packed() {
    let file = noise(400_000);
    let (first, second) = file.split_at(150_000);
    let skippable = [b"\x53\x2a\x4d\x18\x05\0\0\0".to_vec(), vec![9; 5]].concat();
    for (wrappers, stored) in [
        (vec![], file.clone()),
        (vec![&gzip::FORMAT], [gzip(first), gzip(second)].concat()),
        (vec![&gzip::FORMAT], [gzip(&file), vec![0; 5000]].concat()),
        (
            vec![&zstd::FORMAT],
            [zstd(first), skippable.clone(), zstd(second), skippable, vec![0; 3]].concat(),
        ),
        (vec![&zstd::FORMAT, &gzip::FORMAT], zstd(&gzip(&file))),
    ] {
        let wrappers: Vec<Wrapper> = wrappers.into_iter().map(wrapper).collect();
        let run = |stored: &[u8]| {
            let mut out = Vec::new();
            // Small buffers, so that every boundary is met somewhere.
            let reader = BufReader::with_capacity(61, stored);
            unpack(&wrappers, Box::new(reader)).read_to_end(&mut out).map(|_| out)
        };
        assert!(run(&stored).unwrap() == file);
        if !wrappers.is_empty() {
            assert!(run(&stored[..100_000]).is_err(), "truncated");
            let garbage = [stored.clone(), b"\xd0\x0d\xfe\xed".to_vec()].concat();
            assert!(
                run(&garbage)
                    .unwrap_err()
                    .to_string()
                    .contains("data after the end of the stream")
            );
            let mut flipped = stored.clone();
            flipped[60_000] ^= 1;
            assert!(run(&flipped).is_err(), "one bit in the data");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1200), len: u64) {
        for arch in Arch::ALL {
            let _ = sniff(&bytes, len, &machine(arch));
        }
    }

    #[test]
    fn no_bytes_behind_a_magic_panic(
        which in 0..9_usize,
        bytes in proptest::collection::vec(any::<u8>(), 0x300..0x600),
        len: u64,
    ) {
        let mut file = bytes;
        let (at, magic) = [
            (56, &b"ARM\x64"[..]),
            (0x202, b"HdrS"),
            (0, b"\x1f\x8b\x08"),
            (0, b"\x28\xb5\x2f\xfd"),
            (0, b"MZ"),
            (0, b"\x7fELF"),
            (0, b"\x7fELF\x02\x01\x01"),
            (0, b"MZ"),
            (0, b"MZ\0\0zimg"),
        ][which];
        put(&mut file, at, magic);
        if which == 8 {
            put(&mut file, 10, &[0; 2]);
            put(&mut file, 24, b"gzip\0");
        }
        if which == 7 {
            put(&mut file, 0x3c, &0x40_u32.to_le_bytes());
            put(&mut file, 0x40, b"PE\0\0");
        }
        for arch in Arch::ALL {
            let _ = sniff(&file, len, &machine(arch));
        }
    }

    #[test]
    fn a_plan_is_never_contradictory(
        x86: bool,
        changes in proptest::collection::vec((0..0x280_usize, any::<u8>()), 0..8),
        len in 0..0x20000_usize,
        wrapped: bool,
    ) {
        let (mut file, arch) = if x86 { (bzimage(0x8000), X86_64) } else { (image(0x12000), Arm64) };
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(len.max(0x280));
        let packed = if wrapped { gzip(&file) } else { file.clone() };
        if let Ok(sniffed) = sniff(&packed, packed.len() as u64, &machine(arch)) {
            let Plan { skip, least, most, header } = sniffed.plan;
            prop_assert!(least > 0 && least <= most, "{least} {most}");
            if !wrapped {
                prop_assert_eq!(skip + most, file.len() as u64);
            }
            match header {
                Header::Image(header) => prop_assert!(most <= header.image_size),
                Header::BzImage(header) => {
                    prop_assert!(most <= header.init_size && header.alignment.is_power_of_two());
                }
            }
        }
    }

    #[test]
    fn a_damaged_stream_never_panics(
        kind in 0..2_usize,
        changes in proptest::collection::vec((0..5000_usize, any::<u8>()), 1..4),
    ) {
        let text: Vec<u8> = (0..9000_u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let (mut stored, format) = vec![(gzip(&text), &gzip::FORMAT), (zstd(&text), &zstd::FORMAT)].swap_remove(kind);
        for (at, byte) in changes {
            let at = at % stored.len();
            stored[at] = byte;
        }
 let mut out = Vec::new();
        let _ = unpack(&[wrapper(format)], Box::new(&stored[..])).take(1 << 20).read_to_end(&mut out);
        let _ = sniff(&stored, stored.len() as u64, &machine(Arm64));
    }
}
