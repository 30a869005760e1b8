//! From files to a verified payload, and every bad input on the way.

use std::fs;

use sha2::Digest;

use super::fakes::{Files, Jumpy, bzimage, entry, gzip, image, initrd, machine, put, zstd};
use super::*;
use crate::formats::initrd::bootconfig::tests::bootconfig;
use crate::formats::initrd::uboot::tests::mkimage;
use crate::formats::{Header, Image};
use crate::load::{Verified, verify};
use crate::memory::Pages;
use crate::probe::{DirTree, FileTree};
use config::Arch::{self, Arm64, X86_64};
use config::{Entry, Sha256};

const MIB: u64 = 1 << 20;

fn run(entry: &Entry, tree: &dyn FileTree, arch: Arch) -> Result<Payload, LoadError> {
    let budget = budget(
        entry,
        tree,
        &machine(arch),
        Free::new(512 * MIB, 0),
        "console=ttyS0 ro bootconfig".into(),
    )?;
    budget.reserve(&machine(arch), &mut [])?.load(&mut |_| ())
}

/// All the way, and what is said when it fails.
fn boot(entry: &Entry, tree: &dyn FileTree, arch: Arch) -> Result<Verified<Payload>, String> {
    let payload = run(entry, tree, arch).map_err(|e| e.to_string())?;
    verify(payload).map_err(|e| e.to_string())
}

fn said(entry: &Entry, tree: &dyn FileTree, arch: Arch) -> String {
    boot(entry, tree, arch).map(|_| ()).unwrap_err()
}

fn digest(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

fn dtb() -> Vec<u8> {
    include_bytes!("../devicetree/samples/running.dtb").to_vec()
}

/// A cpio archive of one empty file.
fn cpio(name: &str) -> Vec<u8> {
    fakes::cpio(&[(name, 0)])
}

#[test]
fn a_whole_entry_becomes_a_payload() {
    let (kernel, packed, tree) = (image(900_000), gzip(&initrd(100_000)), dtb());
    for stored in [kernel.clone(), gzip(&kernel), zstd(&kernel)] {
        let mut entry = entry();
        entry.initrd = vec!["i".into(), "c".into()];
        entry.dtb = Some("d".into());
        entry.sha256.kernel = Some(digest(&stored));
        entry.sha256.initrd = vec![None, Some(digest(&cpio("etc")))];
        entry.sha256.dtb = Some(digest(&tree));
        let files = Files::new([
            ("k", stored.clone()),
            ("i", packed.clone()),
            ("c", cpio("etc")),
            ("d", tree.clone()),
        ]);
        let payload = boot(&entry, &files, Arm64).unwrap();
        assert!(*payload.kernel.bytes == *kernel);
        let header = Image {
            text_offset: 0,
            image_size: 965_536,
            anywhere: true,
        };
        assert_eq!(payload.kernel.header, Header::Image(header));
        let padding = packed.len().next_multiple_of(4) - packed.len();
        let joined = [packed.clone(), vec![0; padding], cpio("etc")].concat();
        assert!(payload.initrd.as_deref().unwrap() == joined);
        assert_eq!(payload.dtb.as_deref().unwrap(), tree);
        assert_eq!(payload.cmdline, "console=ttyS0 ro bootconfig");
        assert_eq!(payload.artefacts.len(), 4);
        assert_eq!(payload.artefacts[1].sha256, None, "nobody asked");
    }
}

#[test]
fn a_bzimage_is_split_where_its_setup_ends() {
    let kernel = bzimage(0x6_0000);
    for stored in [kernel.clone(), gzip(&kernel), zstd(&kernel)] {
        for signature in [0, 1472] {
            let mut file = kernel.clone();
            file.extend(vec![7; signature]);
            let stored = if stored == kernel { file.clone() } else { stored.clone() };
            let payload = boot(&entry(), &Files::new([("k", stored)]), X86_64).unwrap();
            assert!(payload.kernel.bytes.starts_with(&kernel[0x5000..]));
            assert!(matches!(payload.kernel.header, Header::BzImage(_)));
            assert!(payload.initrd.is_none() && payload.dtb.is_none());
        }
    }
}

#[test]
fn one_initrd_is_passed_on_byte_for_byte() {
    let mut entry = entry();
    entry.initrd = vec!["i".into()];
    let packed = zstd(&initrd(336));
    let files = Files::new([("k", image(0x12000)), ("i", packed.clone())]);
    let payload = boot(&entry, &files, Arm64).unwrap();
    assert_eq!(payload.initrd.as_deref().unwrap(), packed);
}

#[test]
fn initrds_stay_in_order_and_what_that_costs_is_said() {
    let notes = |files: &[&[u8]]| {
        let payload = joined(files).unwrap().into_inner();
        payload.notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let early = cpio("kernel/x86/microcode/GenuineIntel.bin");
    let packed = gzip(&cpio("x"));
    assert_eq!(notes(&[&early, &packed, &cpio("etc")]), [""; 0]);
    let late = notes(&[&packed, &early]);
    assert_eq!(late.len(), 1);
    assert!(
        late[0].starts_with("initrd[1]: 1: the kernel ignores its microcode"),
        "{}",
        late[0]
    );
    // What the kernel stops at is of no use behind the last one, and the end of all before another one.
    let junk = [&cpio("x")[..], b"junk"].concat();
    assert_eq!(
        notes(&[&cpio("x"), &junk]),
        ["initrd[1]: 1: the kernel stops at byte 236: no archive begins there"]
    );
    assert_eq!(
        joined(&[&junk, &cpio("x")]).unwrap_err(),
        "initrd[0]: 0: the kernel stops at byte 236, where no archive begins, so the next initrd would be lost; \
         repack it, or name it last"
    );
}

/// An entry with these initrds, all the way.
fn joined(files: &[&[u8]]) -> Result<Verified<Payload>, String> {
    let mut entry = entry();
    let paths = ["0", "1", "2"];
    entry.initrd = paths[..files.len()].iter().map(|p| (*p).to_owned()).collect();
    let of = |i: usize| files.get(i).map(|file| file.to_vec()).unwrap_or_default();
    let tree = Files::new([("k", image(0x12000)), ("0", of(0)), ("1", of(1)), ("2", of(2))]);
    boot(&entry, &tree, Arm64)
}

#[test]
fn the_header_u_boot_wants_is_taken_off() {
    let archive = initrd(300_000);
    let wrapped = mkimage(3, &archive);
    for (padding, byte) in [(0, 0), (512, 0), (4096, 0xff)] {
        let file = [&wrapped[..], &vec![byte; padding]].concat();
        let payload = joined(&[&file, &mkimage(3, &cpio("etc"))]).unwrap().into_inner();
        assert!(**payload.initrd.as_ref().unwrap() == *[&archive[..], &cpio("etc")].concat());
    }
    let refused = |file: &[u8]| joined(&[file]).unwrap_err();
    let mut damaged = wrapped.clone();
    damaged[200_000] ^= 1;
    let said = "initrd: 0: U-Boot image with a data checksum mismatch; copy it again";
    assert_eq!(refused(&damaged), said);
    damaged[20] ^= 1;
    assert_eq!(refused(&damaged), said.replace("data", "header"));
    assert_eq!(
        refused(&wrapped[..299_999]),
        "initrd: 0: truncated (299999 of at least 300064 bytes); copy it again"
    );
    assert_eq!(
        refused(&mkimage(2, &archive)),
        "initrd: 0: U-Boot image of a kernel, not of a ramdisk; make one with mkimage -T ramdisk"
    );
    let more = [&wrapped[..], &[0; 100], b"more"].concat();
    assert!(
        refused(&more).contains("other data after it (at byte 300164)"),
        "{}",
        refused(&more)
    );
    assert!(refused(&mkimage(3, b"hello")).contains("not an initramfs (begins with 68 65 6c 6c 6f)"));
}

#[test]
fn a_bootconfig_is_behind_all_of_them_and_whole() {
    let first = initrd(200_000);
    let config = bootconfig("kernel.debug = 1\n", first.len() + 2);
    let plain = cpio("etc");
    // Behind the first, with the padding boot loaders leave; in the middle of nothing; behind the last; in one of its own.
    let attached = [&first[..], &[0; 2], &config, &[0; 515]].concat();
    for files in [
        vec![&attached[..], &plain],
        vec![&first[..], &config, &plain],
        vec![&config[..], &first, &plain],
    ] {
        let payload = joined(&files).unwrap().into_inner();
        let whole = payload.initrd.as_ref().unwrap();
        assert!(whole.ends_with(&config) && whole.len().is_multiple_of(4));
        assert!(whole.starts_with(&first));
        let rest = &whole[first.len()..whole.len() - config.len()];
        let at = rest.windows(plain.len()).position(|w| *w == *plain).unwrap();
        assert!((first.len() + at).is_multiple_of(4));
        assert!(rest.iter().filter(|b| **b != 0).eq(plain.iter().filter(|b| **b != 0)));
        let note = payload.notes[0].to_string();
        assert!(
            note.ends_with("its bootconfig was moved to the end of the last initrd, where the kernel looks for it"),
            "{note}"
        );
    }
    let hidden = [&first[..], &[0; 2], &config, b"signature"].concat();
    assert_eq!(
        joined(&[&hidden]).unwrap_err(),
        "initrd: 0: its bootconfig is followed by other data, so the kernel does not find it; attach it again (bootconfig -a)"
    );
    // Behind the only one or the last one it stays.
    let attached = [&first[..], &[0; 2], &config].concat();
    let payload = joined(&[&attached]).unwrap().into_inner();
    assert!(**payload.initrd.as_ref().unwrap() == *attached && payload.notes.is_empty());
    let two = joined(&[&attached, &config]).unwrap_err();
    assert_eq!(
        two,
        "initrd[1]: 1: a second bootconfig, but the kernel reads only one; merge them"
    );
    let mut damaged = attached;
    damaged[200_003] ^= 1;
    assert_eq!(
        joined(&[&damaged, &plain]).unwrap_err(),
        "initrd[0]: 0: its bootconfig has a checksum mismatch; attach it again (bootconfig -a)"
    );
}

#[test]
fn what_the_kernel_will_not_look_at_is_said() {
    let mut entry = entry();
    entry.initrd = vec!["i".into()];
    let first = initrd(400);
    let with_config = [&first[..], &bootconfig("a = 1\n", first.len())].concat();
    let notes = |initrd: Vec<u8>, cmdline: &str| {
        let tree = Files::new([("k", image(0x12000)), ("i", initrd)]);
        let budget = budget(&entry, &tree, &machine(Arm64), Free::new(512 * MIB, 0), cmdline.into()).unwrap();
        let payload = budget
            .reserve(&machine(Arm64), &mut [])
            .unwrap()
            .load(&mut |_| ())
            .unwrap();
        payload.notes.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let said = notes(with_config.clone(), "ro -- bootconfig");
    assert_eq!(
        said,
        [
            "initrd: i: warning: the kernel ignores its bootconfig, unless it is built with CONFIG_BOOT_CONFIG_FORCE; add \
             bootconfig to `cmdline`"
        ]
    );
    assert_eq!(notes(with_config, "ro bootconfig"), [""; 0]);
    let endless = first[..first.len() - 124].to_vec();
    assert_eq!(
        notes(endless, "ro"),
        ["initrd: i: warning: its cpio archive has no TRAILER!!! at its end; was it cut off? copy or pack it again"]
    );
}

#[test]
fn a_device_tree_behind_the_kernel_is_not_lost_in_silence() {
    let mut kernel = image(0x12000);
    for padding in [0, 3, 4096] {
        kernel.truncate(0x12000);
        kernel.resize(0x12000 + padding, 0);
        kernel.extend(dtb());
        let files = Files::new([("k", kernel.clone())]);
        assert_eq!(
            said(&entry(), &files, Arm64),
            "kernel: k: a device tree follows the kernel, where it would be lost; take it off and name it as dtb"
        );
    }
}

#[test]
fn a_compression_the_kernel_was_built_without_is_refused() {
    let mut entry = entry();
    entry.initrd = vec!["i".into()];
    let mut old = bzimage(0x8000);
    put(&mut old, 0x20e, &0x100_u16.to_le_bytes());
    put(&mut old, 0x300, b"5.4.0-42-generic\0");
    let mut arm = image(0x12000);
    put(&mut arm, 0x3000, b"Linux version 5.8.18 (x)");
    for (kernel, arch) in [(old, X86_64), (arm, Arm64)] {
        let said = |initrd: Vec<u8>| said(&entry, &Files::new([("k", kernel.clone()), ("i", initrd)]), arch);
        let text = said(zstd(&cpio("etc")));
        assert!(
            text.starts_with("initrd: i: compressed with zstd, which the kernel can't unpack (Linux 5."),
            "{text}"
        );
        let files = Files::new([("k", kernel.clone()), ("i", gzip(&cpio("etc")))]);
        assert!(boot(&entry, &files, arch).is_ok());
    }
}

#[test]
fn memory_is_counted_for_every_frame_of_a_stream() {
    // A small frame, and one with a window of 16 MiB that its content does not need.
    let kernel = image(0x12000);
    let mut later = zstd(&kernel[60_000..]);
    assert_eq!(later[4] & 0x20, 0, "a window, no single segment");
    later[5] = 14 << 3;
    let stored = [zstd(&kernel[..60_000]), later].concat();
    let text = said(&entry(), &Files::new([("k", stored.clone())]), Arm64);
    assert!(
        text.contains("can't unpack zstd: ") && text.contains("window"),
        "{text}"
    );
    // 8 MiB is what is always counted.
    let at = zstd(&kernel[..60_000]).len() + 5;
    let mut stored = stored;
    stored[at] = 13 << 3;
    assert!(boot(&entry(), &Files::new([("k", stored.clone())]), Arm64).is_ok());
    let budget = budget(
        &entry(),
        &Files::new([("k", stored)]),
        &machine(Arm64),
        Free::new(512 * MIB, 0),
        String::new(),
    )
    .unwrap();
    assert!(budget.kernel.sniffed.memory >= 16 * MIB);
}

#[test]
fn progress_goes_up_to_the_end() {
    let mut entry = entry();
    entry.initrd = vec!["i".into()];
    let stored = zstd(&image(900_000));
    let size = stored.len() as u64 + 2_000_000;
    let files = Files::new([("k", stored), ("i", initrd(2_000_000))]);
    let budget = budget(&entry, &files, &machine(Arm64), Free::new(512 * MIB, 0), String::new()).unwrap();
    let mut seen = Vec::new();
    let payload = budget
        .reserve(&machine(Arm64), &mut [])
        .unwrap()
        .load(&mut |p| seen.push(p))
        .unwrap();
    assert!(seen.is_sorted_by_key(|p| p.read));
    assert!(seen.len() > 10);
    assert!(seen.iter().all(|p| p.size == size));
    assert_eq!(seen.last().map(|p| (p.role, p.read)), Some((Role::Initrd, size)));
    assert!(verify(payload).is_ok());
}

#[test]
fn a_wrong_digest_names_the_file_and_both_digests() {
    let kernel = zstd(&image(0x12000));
    let files = Files::new([("k", kernel.clone()), ("i", cpio("etc")), ("d", dtb())]);
    let mut good = entry();
    good.initrd = vec!["i".into()];
    good.dtb = Some("d".into());
    let wrong = Some(Sha256([0x3f; 32]));
    for (role, path, stored) in [
        ("kernel", "k", kernel),
        ("initrd", "i", cpio("etc")),
        ("dtb", "d", dtb()),
    ] {
        let mut entry = good.clone();
        match role {
            "kernel" => entry.sha256.kernel = wrong,
            "initrd" => entry.sha256.initrd = vec![wrong],
            _ => entry.sha256.dtb = wrong,
        }
        let got = digest(&stored);
        assert_eq!(
            said(&entry, &files, Arm64),
            format!("{role}: {path}: sha256 mismatch (want 3f3f.., got {got:.4})")
        );
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_refused() {
    for claimed in [600_001, 599_999, 1_200_000, 500_000, 100] {
        // Where the kernel's own header is not what stops it.
        let mut files = Files::new([("k", image(0x12000)), ("i", initrd(600_000))]);
        files.claim("i", claimed);
        let mut entry = entry();
        entry.initrd = vec!["i".into()];
        let error = said(&entry, &files, Arm64);
        let read = 600_000.min(claimed + 1);
        assert_eq!(
            error,
            format!("initrd: i: read {read} bytes, but the file had {claimed} when it was opened; copy it again")
        );
    }
    for stored in [image(600_000), zstd(&image(600_000))] {
        let len = stored.len() as u64;
        let mut files = Files::new([("k", stored)]);
        files.claim("k", len + 1000);
        let error = said(&entry(), &files, Arm64);
        assert_eq!(
            error,
            format!(
                "kernel: k: read {len} bytes, but the file had {} when it was opened; copy it again",
                len + 1000
            )
        );
        files.claim("k", len - 1);
        assert!(boot(&entry(), &files, Arm64).is_err());
    }
}

#[test]
fn a_truncated_kernel_is_refused_at_any_length() {
    let (a, x) = (image(700_000), bzimage(0x8_0000));
    for (file, arch) in [(&a, Arm64), (&x, X86_64)] {
        for stored in [file.clone(), gzip(file), zstd(file)] {
            for len in [1, 10, 64, 600, 0x5000, 300_000, stored.len() - 9, stored.len() - 1] {
                let files = Files::new([("k", stored[..len].to_vec())]);
                let error = said(&entry(), &files, arch);
                assert!(error.starts_with("kernel: k: "), "{error}");
                assert!(
                    len < 0x5000 || error.contains("truncated") || error.contains("unexpected end of file"),
                    "{error}"
                );
            }
            // A whole stream around a truncated kernel.
            let cut = &file[..file.len() - 1];
            for stored in [gzip(cut), zstd(cut)] {
                let error = said(&entry(), &Files::new([("k", stored)]), arch);
                assert!(error.contains("truncated ("), "{error}");
            }
        }
    }
}

#[test]
fn a_stream_that_unpacks_to_more_than_its_header_says_is_stopped() {
    // 65 MB of zeros behind a kernel that says 576 KiB.
    let bomb = [image(0x8_0000), vec![0; 65 << 20]].concat();
    for stored in [gzip(&bomb), zstd(&bomb)] {
        let error = said(&entry(), &Files::new([("k", stored)]), Arm64);
        assert_eq!(
            error,
            "kernel: k: 589825 bytes long, but its header allows only 589824; copy it again"
        );
    }
}

#[test]
fn what_follows_a_stream_is_refused_unless_it_is_padding() {
    for stored in [gzip(&image(0x8_0000)), zstd(&image(0x8_0000))] {
        let padded = [stored.clone(), vec![0; 3000]].concat();
        assert!(boot(&entry(), &Files::new([("k", padded)]), Arm64).is_ok());
        let appended = [stored, dtb()].concat();
        let error = said(&entry(), &Files::new([("k", appended)]), Arm64);
        assert!(error.contains("data after the end of the stream"), "{error}");
    }
}

#[test]
fn damage_inside_a_stream_is_found() {
    for stored in [gzip(&image(0x8_0000)), zstd(&image(0x8_0000))] {
        for at in [300_000, stored.len() - 1] {
            let mut stored = stored.clone();
            stored[at] ^= 0x10;
            let error = said(&entry(), &Files::new([("k", stored)]), Arm64);
            assert!(error.starts_with("kernel: k: can't unpack "), "{error}");
        }
    }
}

#[test]
fn slow_and_interrupted_reading_changes_nothing() {
    for stored in [image(300_000), gzip(&image(300_000)), zstd(&image(300_000))] {
        let mut entry = entry();
        entry.sha256.kernel = Some(digest(&stored));
        let payload = boot(&entry, &Jumpy(stored), Arm64).unwrap();
        assert!(*payload.kernel.bytes == image(300_000));
    }
}

#[test]
fn a_command_line_longer_than_the_kernel_takes_is_refused() {
    let tree = Files::new([("a", image(0x12000)), ("x", bzimage(0x8000))]);
    for (path, arch) in [("a", Arm64), ("x", X86_64)] {
        let mut entry = entry();
        entry.kernel = path.into();
        let with = |cmdline: String| budget(&entry, &tree, &machine(arch), Free::new(512 * MIB, 0), cmdline);
        assert!(with("a".repeat(2047)).is_ok());
        let error = with("a".repeat(2048)).unwrap_err().to_string();
        assert!(
            error.starts_with("cmdline: 2048 bytes, but the kernel takes at most 2047; shorten it"),
            "{error}"
        );
        assert!(
            with("a\0b".into())
                .unwrap_err()
                .to_string()
                .contains("NUL character at byte 1")
        );
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_read() {
    let tree = Files::new([("k", image(0x12000)), ("i", initrd(40 << 20))]);
    let mut entry = entry();
    entry.initrd = vec!["i".into()];
    let with = |total, available, cma| {
        let mut machine = machine(Arm64);
        machine.memory.total = total;
        budget(&entry, &tree, &machine, Free::new(available, cma), String::new()).map_err(|e| e.to_string())
    };
    let budget = with(1 << 30, 512 * MIB, 64 * MIB).unwrap();
    assert_eq!(
        budget.to_string(),
        "kernel k (72 KiB, Image), initrd i (40 MiB); loading takes up to 52 MiB of 512 MiB"
    );
    assert_eq!(
        with(90 * MIB, 90 * MIB, 0).unwrap_err(),
        "payload: 48 MiB (kernel 72 KiB, initrd 40 MiB, dtb 0 bytes) is too large: kexec takes at most half of RAM, \
         45 MiB; use a smaller initrd or more memory"
    );
    assert_eq!(
        with(1 << 30, 80 * MIB, 0).unwrap_err(),
        "payload: needs 88.1 MiB of free memory (twice 40 MiB, as kexec makes a copy, and 0 bytes to unpack), but only 80 MiB is free; \
         use a smaller initrd or more memory"
    );
    assert_eq!(
        with(1 << 30, 90 * MIB, 64 * MIB).unwrap_err(),
        "payload: kexec copies 48 MiB, but only 24.9 MiB is free for that, besides 64 MiB for devices (CMA); use a smaller initrd or more memory, \
         or a smaller cma= on the command line of the service kernel"
    );
    // A header that lies about its size.
    let mut liar = image(0x12000);
    put(&mut liar, 16, &[0xff; 8]);
    let error = said(&fakes::entry(), &Files::new([("k", gzip(&liar))]), Arm64);
    assert!(error.starts_with("payload: 17179869183.9 GiB"), "{error}");
}

#[test]
fn memory_for_devices_is_no_help_to_the_kernel() {
    for (available, cma, taken, left) in [
        (400, 0, 185, 215),
        // The payload is beside CMA until half of what is free is there.
        (400, 64, 185, 151),
        (160, 64, 40, 60),
        (160, 64, 0, 96),
        (160, 150, 10, 10),
        (10, 64, 10, 0),
    ] {
        let free = Free::new(available * MIB, cma * MIB);
        assert_eq!(
            free.left_to_kernel(taken * MIB),
            left * MIB,
            "{available} {cma} {taken}"
        );
    }
}

#[test]
fn memory_is_read_from_proc() {
    let text = "MemTotal:         498920 kB\nMemFree:          1 kB\nMemAvailable:     401236 kB\nBuffers: 0 kB\n";
    assert_eq!(Free::of(text), Some(Free::new(401_236 * 1024, 0)));
    let cma = format!("{text}CmaTotal:          65536 kB\nCmaFree:          64 kB\n");
    assert_eq!(Free::of(&cma), Some(Free::new(401_236 * 1024, 65_536)));
    for text in [
        "",
        "MemAvailable: 5 MB",
        "MemAvailable: x kB",
        "MemAvailable: 99999999999999999999 kB",
    ] {
        assert_eq!(Free::of(text), None);
    }
}

#[test]
fn a_device_tree_is_checked_before_anything_is_read() {
    let mut entry = entry();
    entry.dtb = Some("d".into());
    let tree = |d: Vec<u8>| Files::new([("k", image(0x12000)), ("d", d)]);
    assert_eq!(
        said(&entry, &tree(dtb()[..60].to_vec()), Arm64),
        "dtb: d: truncated (60 of 6151 bytes); copy it again"
    );
    assert!(
        said(&entry, &tree(vec![0; 3 << 20]), Arm64)
            .starts_with("dtb: d: too large: 3 MiB, the kernel takes at most 2 MiB")
    );
    let x86 = Files::new([("k", bzimage(0x8000)), ("d", dtb())]);
    assert_eq!(
        said(&entry, &x86, X86_64),
        "dtb: d: x86_64 boots without a device tree; remove `dtb` from the entry"
    );
}

/// Issue item 12, on a real folder: each refused with the object and the cause.
#[test]
fn bad_input_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::write(at("Image"), image(0x12000)).unwrap();
    fs::write(at("initrd"), cpio("etc")).unwrap();
    fs::write(at("bzImage"), bzimage(0x8000)).unwrap();
    fs::write(at("short"), &image(0x12000)[..0x11fff]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", at("out")).unwrap();
    let tree = DirTree::new(dir.path()).unwrap();

    let faults = [
        ("missing", "no such file"),
        ("folder", "a directory, not a regular file"),
        ("fifo", "a FIFO, not a regular file"),
        ("empty", "empty (0 bytes)"),
        ("out", "the link out points to \"/etc/passwd\", which does not exist"),
    ];
    for (path, cause) in faults {
        let mut entry = entry();
        entry.kernel = path.into();
        assert_eq!(said(&entry, &tree, Arm64), format!("kernel: {path}: {cause}"));
        entry.kernel = "Image".into();
        entry.initrd = vec![path.into()];
        assert_eq!(said(&entry, &tree, Arm64), format!("initrd: {path}: {cause}"));
        entry.initrd = vec!["initrd".into(), path.into()];
        assert_eq!(said(&entry, &tree, Arm64), format!("initrd[1]: {path}: {cause}"));
        entry.initrd.clear();
        entry.dtb = Some(path.into());
        assert_eq!(said(&entry, &tree, Arm64), format!("dtb: {path}: {cause}"));
    }
    for (path, arch, cause) in [
        ("bzImage", Arm64, "an x86 bzImage, but this machine is arm64"),
        ("Image", X86_64, "an arm64 Image, but this machine is x86_64"),
        ("short", Arm64, "truncated (73727 of 73728 bytes)"),
    ] {
        let mut entry = entry();
        entry.kernel = path.into();
        let error = said(&entry, &tree, arch);
        assert!(error.starts_with(&format!("kernel: {path}: {cause}")), "{error}");
    }
    let mut good = entry();
    good.kernel = "Image".into();
    assert!(boot(&good, &tree, Arm64).is_ok());
    good.sha256.kernel = Some(Sha256([0; 32]));
    assert!(said(&good, &tree, Arm64).starts_with("kernel: Image: sha256 mismatch (want 0000.., got "));
}

/// A machine whose memory is known well enough to lay a payload out in it.
fn roomy() -> crate::machine::Machine {
    let mut machine = machine(Arm64);
    let ram = crate::memory::Span {
        start: 0x4000_0000,
        end: 0x8000_0000,
    };
    machine.memory.usable = vec![ram];
    machine.memory.ram = vec![ram];
    machine.memory.total = 1 << 30;
    machine.fdt = Some(include_bytes!("../devicetree/samples/running.dtb").to_vec());
    machine
}

fn in_place(entry: &Entry, tree: &dyn FileTree, order: Vec<u64>) -> Payload {
    let machine = roomy();
    let pool: Box<dyn Pages> = Box::new(in_place::tests::Pool {
        order,
        ..Default::default()
    });
    let budget = budget(entry, tree, &machine, Free::new(512 * MIB, 0), "ro".into()).unwrap();
    budget
        .reserve(&machine, &mut [pool])
        .unwrap()
        .load(&mut |_| ())
        .unwrap()
}

#[test]
fn the_same_bytes_are_read_in_place_and_hashed_on_the_way() {
    let kernel = image(900_000);
    for stored in [kernel.clone(), gzip(&kernel), zstd(&kernel)] {
        let mut entry = entry();
        entry.initrd = vec!["i".into()];
        let files = Files::new([("k", stored), ("i", initrd(3 << 20))]);
        let mut payload = in_place(&entry, &files, (0..40).map(|n| 0x4800_0000 + n * 2 * MIB).collect());
        assert_eq!(payload.arena.to_string(), "in place, 4 pages of 2 MiB");
        let (places, _) = payload.resident.as_ref().unwrap();
        let places = *places;
        let k = &mut payload.kernel;
        assert!(*k.bytes == *kernel);
        assert_eq!(k.bytes.address(), Some(places.kernel.start));
        assert_eq!(
            k.bytes.digests(entry.check),
            crate::memory::digest::of(entry.check, &kernel)
        );
        let initrd = payload.initrd.as_ref().unwrap();
        assert!(**initrd == *fakes::initrd(3 << 20));
        assert_eq!(initrd.address(), places.initrd.map(|i| i.start));
        assert!(verify(payload).is_ok());
    }
}

#[test]
fn what_has_no_pages_is_said_and_read_all_the_same() {
    let files = Files::new([("k", image(900_000))]);
    let apart: Vec<u64> = (0..5).map(|n| 0x4800_0000 + n * 4 * MIB).collect();
    let machine = roomy();
    let budget = |change: fn(&mut crate::machine::Machine, &mut Entry), order: Vec<u64>| {
        let (mut machine, mut entry) = (machine.clone(), entry());
        change(&mut machine, &mut entry);
        let pool: Box<dyn Pages> = Box::new(in_place::tests::Pool {
            order,
            ..Default::default()
        });
        let budget = budget(&entry, &files, &machine, Free::new(512 * MIB, 0), "ro".into()).unwrap();
        let arena = budget.reserve(&machine, &mut [pool]).unwrap();
        let said = arena.kind().to_string();
        assert!(arena.load(&mut |_| ()).unwrap().resident.is_none());
        said
    };
    assert_eq!(
        budget(|_, entry| entry.arena = config::Arena::Segments, vec![]),
        "segments: set in boot.toml"
    );
    assert!(
        budget(
            |machine, _| machine.encryption = Some(crate::machine::encryption::Encryption::Own),
            vec![]
        )
        .contains("(SME)")
    );
    let said = budget(|_, _| (), apart[..1].to_vec());
    assert!(said.contains("1 huge page, longest contiguous run 2 MiB"), "{said}");
}
