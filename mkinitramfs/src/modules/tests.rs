//! A tree like Debian's, made of files with nothing but a `.modinfo`.

use std::io::Read as _;

use goblin::elf::header::EM_X86_64;

use super::*;

/// A relocatable ELF file with nothing but a `.modinfo` section.
pub(super) fn ko(machine: u16, modinfo: &[&str]) -> Vec<u8> {
    let text: Vec<u8> = modinfo.iter().flat_map(|e| e.bytes().chain([0])).collect();
    let names = b"\0.modinfo\0.shstrtab\0";
    let section = |name: u32, kind: u32, offset: usize, size: usize| {
        let mut s = Vec::new();
        s.extend(name.to_le_bytes());
        s.extend(kind.to_le_bytes());
        s.extend([0; 16]); // flags, address
        s.extend(offset.to_le_bytes());
        s.extend(size.to_le_bytes());
        s.extend([0; 8]); // link, info
        s.extend([1, 0, 0, 0, 0, 0, 0, 0]); // alignment
        s.extend([0; 8]);
        s
    };
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(1u16.to_le_bytes()); // ET_REL
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend([0; 16]); // entry, program headers
    out.extend((64 + names.len() + text.len()).to_le_bytes());
    out.extend([0; 4]);
    for half in [64u16, 0, 0, 64, 3, 2] {
        out.extend(half.to_le_bytes());
    }
    assert_eq!(out.len(), 64);
    out.extend(names);
    out.extend(&text);
    out.extend(section(0, 0, 0, 0));
    out.extend(section(1, 1, 64 + names.len(), text.len()));
    out.extend(section(10, 3, 64, names.len()));
    out
}

fn tree(files: &[(&str, &[&str])]) -> (tempfile::TempDir, ModuleTree) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("lib/modules/1.2.3");
    for (path, modinfo) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = ko(EM_X86_64, modinfo);
        let packed = match path.extension().unwrap().to_str().unwrap() {
            "zst" => zstd::encode_all(bytes.as_slice(), 3).unwrap(),
            "gz" => {
                let mut packed = Vec::new();
                flate2::read::GzEncoder::new(bytes.as_slice(), flate2::Compression::fast())
                    .read_to_end(&mut packed)
                    .unwrap();
                packed
            }
            "xz" => {
                let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
                std::io::Write::write_all(&mut writer, &bytes).unwrap();
                writer.finish().unwrap()
            }
            _ => bytes,
        };
        fs::write(path, packed).unwrap();
    }
    fs::write(
        root.join("modules.builtin"),
        "kernel/drivers/virtio/virtio.ko\nkernel/lib/crc16.ko\n",
    )
    .unwrap();
    fs::write(
        root.join("modules.builtin.modinfo"),
        b"crc32_generic.alias=crypto-crc32\0crc32_generic.license=GPL\0",
    )
    .unwrap();
    let tree = ModuleTree::open(dir.path(), Arch::X86_64).unwrap();
    (dir, tree)
}

fn names(resolved: &Resolved) -> Vec<&str> {
    resolved.index.modules.iter().map(|m| m.name.as_str()).collect()
}

fn debian_like() -> (tempfile::TempDir, ModuleTree) {
    tree(&[
        (
            "kernel/fs/ext4/ext4.ko.xz",
            &["alias=fs-ext4", "softdep=pre: crypto-crc32c", "depends=jbd2,crc16"],
        ),
        ("kernel/fs/jbd2/jbd2.ko.gz", &["depends=", "softdep=pre: crypto-crc32"]),
        ("kernel/fs/fat/vfat.ko", &["alias=fs-vfat", "depends=fat"]),
        ("kernel/fs/fat/fat.ko.zst", &[]),
        ("kernel/fs/nls/nls_ascii.ko", &[]),
        ("kernel/fs/nls/nls_iso8859-1.ko", &[]),
        (
            "kernel/crypto/crc32c_generic.ko",
            &["alias=crc32c", "alias=crypto-crc32c"],
        ),
        (
            "kernel/arch/x86/crypto/crc32c-intel.ko",
            &["alias=crypto-crc32c", "alias=cpu:type:x86,*"],
        ),
        ("kernel/crypto/crc32c_other.ko", &["alias=crypto-else"]),
        (
            "kernel/drivers/block/virtio_blk.ko",
            &["alias=virtio:d00000002v*", "depends=virtio"],
        ),
        ("kernel/a.ko", &["softdep=pre: b post: c"]),
        ("kernel/b.ko", &["depends=a"]),
        ("kernel/c.ko", &[]),
        ("kernel/broken.ko", &["depends=gone"]),
    ])
}

#[test]
fn dependencies_of_every_kind_come_first() {
    let (_dir, tree) = debian_like();
    let resolved = tree.resolve(&["ext4".into()]).unwrap();
    assert_eq!(names(&resolved), ["jbd2", "crc32c_generic", "ext4"]);
    let ext4 = resolved.index.for_filesystem("ext4").unwrap();
    assert_eq!(ext4.needs, ["jbd2", "crc32c_generic"]);
    // The text the stage reads says the same, and every file is an unpacked module.
    assert_eq!(Index::parse(&resolved.index.to_string()).unwrap(), resolved.index);
    assert_eq!(resolved.files.len(), 3);
    assert!(resolved.files.iter().all(|(_, f)| f.starts_with(b"\x7fELF")));
}

#[test]
fn a_filesystem_gets_the_tables_it_asks_for_at_mount() {
    let (_dir, tree) = debian_like();
    let resolved = tree.resolve(&["vfat".into()]).unwrap();
    assert_eq!(names(&resolved), ["fat", "nls_ascii", "nls_iso8859_1", "vfat"]);
}

#[test]
fn a_filesystem_gets_its_checksums_and_what_replays_its_log() {
    let (_dir, tree) = tree(&[
        ("btrfs.ko", &["softdep=pre: blake2b-256", "softdep=pre: xxhash64"]),
        ("blake2b_generic.ko", &["alias=crypto-blake2b-256", "alias=blake2b-256"]),
        ("xxhash_generic.ko", &["alias=xxhash64"]),
        ("xxhash_other.ko", &["alias=xxhash32"]),
        ("dm-snapshot.ko", &["depends=dm-mod"]),
        ("dm-mod.ko", &[]),
        ("loop.ko", &[]),
    ]);
    let resolved = tree.resolve(&["btrfs".into()]).unwrap();
    let index = &resolved.index;
    let closure = |name| -> Vec<_> { index.closure(name).iter().map(|m| m.name.as_str()).collect() };
    assert_eq!(closure("btrfs"), ["blake2b_generic", "xxhash_generic", "btrfs"]);
    assert_eq!(closure("dm-snapshot"), ["dm_mod", "dm_snapshot"]);
    assert_eq!(names(&resolved).len(), 6);
}

#[test]
fn a_soft_circle_is_cut_and_what_comes_after_is_packed() {
    let (_dir, tree) = debian_like();
    let resolved = tree.resolve(&["a".into()]).unwrap();
    assert_eq!(names(&resolved), ["a", "c"]);
    assert!(resolved.index.modules[0].needs.is_empty());
    assert_eq!(names(&tree.resolve(&["b".into()]).unwrap()), ["a", "b", "c"]);
}

#[test]
fn defaults_that_are_not_there_are_left_out_and_names_that_are_not_there_refused() {
    let (_dir, tree) = debian_like();
    let resolved = tree.resolve_for_service(&[]).unwrap();
    assert!(names(&resolved).contains(&"virtio_blk") && names(&resolved).contains(&"ext4"));
    let error = tree.resolve(&["virtio-blx".into()]).unwrap_err().to_string();
    assert!(error.contains("did you mean virtio_blk?"), "{error}");
    let error = tree.resolve(&["broken".into()]).unwrap_err().to_string();
    assert!(error.contains("module broken needs gone"), "{error}");
    assert!(tree.resolve(&["virtio".into()]).unwrap().files.is_empty());
}

/// Or a machine whose disk's driver is named would have none.
#[test]
fn watchdogs_are_packed_whatever_is_named() {
    let (_dir, tree) = tree(&[
        ("kernel/a.ko", &[]),
        ("kernel/drivers/watchdog/i6300esb.ko", &[]),
        ("kernel/fs/pstore/ramoops.ko", &["depends=gone"]),
        ("kernel/drivers/block/virtio_blk.ko", &[]),
    ]);
    let resolved = tree.resolve_for_service(&["a".into()]).unwrap();
    assert_eq!(names(&resolved), ["i6300esb", "a"]);
    let [warning] = &*resolved.warnings else {
        panic!("{:?}", resolved.warnings)
    };
    assert!(
        warning.contains("ramoops is left out: module ramoops needs gone"),
        "{warning}"
    );
}

#[test]
fn a_circle_of_hard_dependencies_does_not_hang() {
    let (_dir, tree) = tree(&[("x.ko", &["depends=y"]), ("y.ko", &["depends=x"])]);
    assert!(tree.resolve(&["x".into()]).is_err());
}

#[test]
fn two_kernels_in_one_root_are_ambiguous() {
    let (dir, _) = debian_like();
    fs::create_dir(dir.path().join("lib/modules/1.2.4")).unwrap();
    let error = ModuleTree::open(dir.path(), Arch::X86_64).unwrap_err().to_string();
    assert!(error.contains("1.2.3, 1.2.4"), "{error}");
}

#[test]
fn what_is_built_in_gets_the_modules_it_takes_all_the_same() {
    let (dir, _) = tree(&[("nls_ascii.ko", &[]), ("dm-snapshot.ko", &[]), ("loop.ko", &[])]);
    let builtin = dir.path().join("lib/modules/1.2.3/modules.builtin");
    fs::write(&builtin, "kernel/fs/fat/vfat.ko\nkernel/fs/ext4/ext4.ko\n").unwrap();
    let tree = ModuleTree::open(dir.path(), Arch::X86_64).unwrap();
    for wanted in [&[][..], &["vfat".to_owned(), "ext4".to_owned()]] {
        let resolved = tree.resolve_for_service(wanted).unwrap();
        assert_eq!(names(&resolved), ["nls_ascii", "vfat", "loop", "dm_snapshot"]);
        let closure = resolved.index.closure("vfat");
        assert_eq!(closure.iter().map(|m| m.builtin).collect::<Vec<_>>(), [false, true]);
        let files: Vec<_> = resolved.files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(
            files,
            [
                "/lib/modules/nls_ascii.ko",
                "/lib/modules/loop.ko",
                "/lib/modules/dm_snapshot.ko"
            ]
        );
        assert_eq!(Index::parse(&resolved.index.to_string()).unwrap(), resolved.index);
        assert!(resolved.warnings.is_empty(), "{:?}", resolved.warnings);
    }
    // Without the list nobody knows.
    fs::remove_file(builtin).unwrap();
    let tree = ModuleTree::open(dir.path(), Arch::X86_64).unwrap();
    let error = tree.resolve(&["vfat".into()]).unwrap_err().to_string();
    assert!(error.contains("has no modules.builtin"), "{error}");
}

#[test]
fn the_index_names_the_kernel_and_a_module_of_another_is_a_warning() {
    let (_dir, tree) = tree(&[
        ("a.ko", &["vermagic=6.1.0 SMP"]),
        ("b.ko", &["vermagic=6.1.0 SMP"]),
        ("c.ko", &["vermagic=6.12.0 SMP"]),
        ("xfs.ko", &[]),
    ]);
    let resolved = tree.resolve(&["a".into(), "b".into()]).unwrap();
    assert_eq!(resolved.index.kernel.as_deref(), Some("6.1.0"));
    assert!(resolved.warnings.is_empty());
    let resolved = tree.resolve(&["a".into(), "c".into()]).unwrap();
    assert!(resolved.warnings[0].contains("module c is built for kernel 6.12.0, others for 6.1.0"));
    let resolved = tree.resolve(&["xfs".into()]).unwrap();
    assert!(
        resolved.warnings[0].contains("dm_snapshot and loop, neither in"),
        "{:?}",
        resolved.warnings
    );
}

#[test]
fn a_module_in_updates_is_taken_instead_of_the_kernel_s_own() {
    for (one, other) in [
        ("kernel/drivers/nic.ko", "updates/dkms/nic.ko"),
        ("updates/nic.ko", "extra/nic.ko"),
    ] {
        let (_dir, tree) = tree(&[(one, &[]), (other, &[])]);
        let taken = tree.files.get("nic").unwrap();
        assert!(taken.starts_with(tree.root.join("updates")), "{}", taken.display());
    }
    let dir = tempfile::tempdir().unwrap();
    for folder in ["kernel", "extra"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        fs::write(dir.path().join(folder).join("nic.ko"), ko(EM_X86_64, &[])).unwrap();
    }
    let error = ModuleTree::open(dir.path(), Arch::X86_64).unwrap_err().to_string();
    assert!(error.ends_with("two modules with the same name"), "{error}");
}
