//! Against the tools that make file systems, and against blkid.

use super::*;
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

/// A file for the tools of the host to work on.
struct Image {
    dir: tempfile::TempDir,
    path: PathBuf,
}

impl Image {
    fn new(size: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image");
        File::create(&path).unwrap().set_len(size).unwrap();
        Self { dir, path }
    }

    /// What the tool prints; `@` among its arguments is the image. None (said) where it is not installed.
    fn run(&self, command: &str) -> Option<String> {
        let mut words = command.split_ascii_whitespace();
        let mut command = Command::new(words.next().unwrap());
        command.args(words.map(|word| if word == "@" { self.path.to_str().unwrap() } else { word }));
        command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap()));
        command.env("MTOOLS_SKIP_CHECK", "1");
        match command.output() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                eprintln!(
                    "skipped: {} is not installed; `cargo qemu setup` brings it",
                    command.get_program().display()
                );
                None
            }
            Err(e) => panic!("{e}"),
            // blkid finds nothing.
            Ok(out) if out.status.code() == Some(2) && out.stderr.is_empty() => Some(String::new()),
            Ok(out) => {
                assert!(
                    out.status.success(),
                    "{command:?}: {}",
                    String::from_utf8_lossy(&out.stderr)
                );
                Some(String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
            }
        }
    }

    fn signatures(&self) -> Signatures {
        let file = File::open(&self.path).unwrap();
        let size = file.metadata().unwrap().len();
        identify(&file, size).unwrap()
    }

    fn only(&self, how: &str) -> FileSystem {
        let found = self.signatures();
        assert_eq!(
            (found.filesystems.len(), found.others.len()),
            (1, 0),
            "{how}: {found:?}"
        );
        found.filesystems[0].clone()
    }

    fn put(&self, at: u64, bytes: &[u8]) {
        File::options()
            .write(true)
            .open(&self.path)
            .unwrap()
            .write_all_at(bytes, at)
            .unwrap();
    }
}

fn made(size: u64, command: &str) -> Option<Image> {
    let image = Image::new(size);
    image.run(command).map(|_| image)
}

const MIB: u64 = 1 << 20;

/// What every tool makes has the names blkid prints, and is neither too large for its volume nor for other sectors.
#[test]
fn names_are_those_of_blkid() {
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("kernel"), "k").unwrap();
    let from = source.path().display();
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let cases = [
        (8, "mke2fs -q -F -t ext2 -L boot-a @".to_owned(), FileSystemKind::Ext2),
        (
            8,
            "mke2fs -q -F -t ext3 -L sixteen-letters! @".into(),
            FileSystemKind::Ext3,
        ),
        (8, format!("mke2fs -q -F -t ext4 -U {uuid} @"), FileSystemKind::Ext4),
        (
            8,
            "mke2fs -q -F -t ext4 -O ^metadata_csum,64bit -b 1024 @".into(),
            FileSystemKind::Ext4,
        ),
        (
            80,
            "mke2fs -q -F -t ext4 -b 4096 -O casefold,encrypt,large_dir,inline_data,meta_bg,^resize_inode @".into(),
            FileSystemKind::Ext4,
        ),
        (1, "mkfs.vfat -F 12 -n EFI @".into(), FileSystemKind::Vfat),
        (16, "mkfs.vfat -F 16 @".into(), FileSystemKind::Vfat),
        (
            64,
            "mkfs.vfat -F 32 -n BOOT-A -i deadbeef @".into(),
            FileSystemKind::Vfat,
        ),
        (300, "mkfs.vfat -F 32 -S 4096 -n FOURK @".into(), FileSystemKind::Vfat),
        (64, "mformat -i @ -F -v MTOOLS ::".into(), FileSystemKind::Vfat),
        (16, "mformat -i @ -h 16 -t 64 -s 32 ::".into(), FileSystemKind::Vfat),
        (16, "mkfs.exfat -L exFAT-label @".into(), FileSystemKind::Exfat),
        (16, "mkfs.exfat @".into(), FileSystemKind::Exfat),
        (320, "mkfs.xfs -q -f -L xfs-label @".into(), FileSystemKind::Xfs),
        (
            320,
            "mkfs.xfs -q -f -m crc=0 -s size=4096 @".into(),
            FileSystemKind::Xfs,
        ),
        (128, "mkfs.btrfs -q -f -L btrfs-label @".into(), FileSystemKind::Btrfs),
        (128, "mkfs.btrfs -q -f --csum xxhash @".into(), FileSystemKind::Btrfs),
        (
            0,
            format!("mksquashfs {from} @ -noappend -quiet -no-progress"),
            FileSystemKind::Squashfs,
        ),
        (0, format!("mkfs.erofs -U {uuid} @ {from}"), FileSystemKind::Erofs),
    ];
    for (size, command, kind) in cases {
        let Some(image) = made(size * MIB, &command) else {
            continue;
        };
        let found = image.only(&command);
        assert_eq!(found.kind, kind, "{command}");
        let size = std::fs::metadata(&image.path).unwrap().len();
        assert_eq!(found.misfit(size, 512), None, "{command}");
        assert!(
            found.misfit(found.size - 1, 512).unwrap().contains("cut off"),
            "{command}"
        );
        let journal = !matches!(
            kind,
            FileSystemKind::Ext2
                | FileSystemKind::Vfat
                | FileSystemKind::Exfat
                | FileSystemKind::Squashfs
                | FileSystemKind::Erofs
        );
        assert_eq!(found.has_journal, journal, "{command}");
        let blkid = |tag: &str| image.run(&format!("blkid -p -o value -s {tag} @"));
        let Some(label) = blkid("LABEL") else { continue };
        assert_eq!(found.label.clone().unwrap_or_default(), label, "{command}");
        assert_eq!(
            found.uuid.clone().unwrap_or_default(),
            blkid("UUID").unwrap().to_lowercase(),
            "{command}"
        );
        assert_eq!(found.kind.to_string(), blkid("TYPE").unwrap(), "{command}");
    }
}

/// 21 files first, and more than a cluster of them: the label is the last entry, and gone when it is deleted.
#[test]
fn a_fat_label_is_found_in_the_whole_root_folder() {
    for (size, command, files) in [
        (1, "mkfs.vfat -F 12 @", 21),
        (16, "mkfs.vfat -F 16 @", 300),
        (64, "mkfs.vfat -F 32 -s 1 @", 300),
    ] {
        let Some(image) = made(size * MIB, command) else { return };
        let folder = image.dir.path().join("files");
        std::fs::create_dir(&folder).unwrap();
        for n in 0..files {
            let file = folder.join(format!("F{n}"));
            std::fs::write(&file, "").unwrap();
            image.run(&format!("mcopy -i @ {} ::", file.display())).unwrap();
        }
        assert_eq!(image.only(command).label, None, "{command}");
        image.run("mlabel -i @ ::LAST").unwrap();
        assert_eq!(image.only(command).label.as_deref(), Some("LAST"), "{command}");
        if let Some(label) = image.run("blkid -p -o value -s LABEL @") {
            assert_eq!(label, "LAST", "{command}");
        }
        image.run("mlabel -i @ -c ::").unwrap();
        assert_eq!(image.only(command).label, None, "{command}");
    }
}

/// A root folder whose clusters lead in a circle, and one that ends behind the disk.
#[test]
fn a_root_folder_without_end_ends() {
    let Some(image) = made(64 * MIB, "mkfs.vfat -F 32 -s 1 @") else {
        return;
    };
    let mut head = vec![0; 64];
    FileExt::read_exact_at(&File::open(&image.path).unwrap(), &mut head, 0).unwrap();
    let (fat_at, fat) = (
        32 * 512,
        u64::from(u32::from_le_bytes(head[36..40].try_into().unwrap())),
    );
    let data = fat_at + 2 * fat * 512;
    image.put(
        data,
        &b"F          \x20"
            .iter()
            .copied()
            .chain([0; 20])
            .collect::<Vec<u8>>()
            .repeat(16),
    );
    image.put(fat_at + 8, &2_u32.to_le_bytes());
    assert_eq!(image.only("").label, None);
    image.put(fat_at + 8, &0x0FFF_FFF0_u32.to_le_bytes());
    assert_eq!(image.only("").label, None);
}

/// One made on the same bytes as another: both are seen, and the one that is there comes first.
#[test]
fn what_an_older_file_system_left_is_the_second_choice() {
    let image = Image::new(128 * MIB);
    let both = image
        .run("mke2fs -q -F -t ext4 -L old @")
        .and(image.run("mformat -i @ -F -v NEW ::"));
    let names = |image: &Image| {
        let found = image.signatures().filesystems;
        found
            .iter()
            .map(|fs| (fs.kind, fs.label.clone().unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    if both.is_some() {
        assert_eq!(
            names(&image),
            [
                (FileSystemKind::Vfat, "NEW".into()),
                (FileSystemKind::Ext4, "old".into())
            ]
        );
    }
    if let Some(old) = made(128 * MIB, "mkfs.btrfs -q -f -L old @")
        && let Some(new) = made(128 * MIB, "mke2fs -q -F -t ext4 -L NEW @")
    {
        let mut superblock = vec![0; 4096];
        FileExt::read_exact_at(&File::open(&old.path).unwrap(), &mut superblock, 64 << 10).unwrap();
        new.put(64 << 10, &superblock);
        assert_eq!(
            names(&new),
            [
                (FileSystemKind::Ext4, "NEW".into()),
                (FileSystemKind::Btrfs, "old".into())
            ]
        );
    }
    // The boot sector of an older FAT, the rest of which is overwritten.
    let Some(fat) = made(64 * MIB, "mkfs.vfat -F 32 -n OLD @") else {
        return;
    };
    let mut boot = vec![0; 1024];
    FileExt::read_exact_at(&File::open(&fat.path).unwrap(), &mut boot, 0).unwrap();
    let Some(image) = made(64 * MIB, "mke2fs -q -F -t ext4 -L NEW @") else {
        return;
    };
    image.put(0, &boot);
    let kinds: Vec<_> = image.signatures().filesystems.iter().map(|fs| fs.kind).collect();
    assert_eq!(kinds, [FileSystemKind::Ext4, FileSystemKind::Vfat]);
    // What claims more than there is comes last, wherever it is.
    File::options()
        .write(true)
        .open(&image.path)
        .unwrap()
        .set_len(50 * MIB)
        .unwrap();
    let found = image.signatures().filesystems;
    assert!(found[0].misfit(50 * MIB, 512).is_some() && found[1].misfit(50 * MIB, 512).is_some());
}

#[test]
fn damaged_superblocks_are_none() {
    for (size, command, at) in [
        (8, "mke2fs -q -F -t ext4 @", 1024 + 0x20),
        (320, "mkfs.xfs -q -f @", 0x90),
        (128, "mkfs.btrfs -q -f @", (64 << 10) + 0x300),
        (16, "mkfs.exfat @", 200),
    ] {
        let Some(image) = made(size * MIB, command) else {
            continue;
        };
        image.put(at, &[0x55]);
        assert_eq!(image.signatures().filesystems, [], "{command}");
    }
}

/// A disk of a mirror looks like its file system: md's formats 1.0 and 0.90 are at the end.
#[test]
fn half_of_a_mirror_is_told() {
    const SIZE: u64 = 1 << 20;
    for (at, major) in [(SIZE - 8192, 1), (SIZE - 65536, 0)] {
        let mut bytes = vec![0_u8; usize::try_from(SIZE).unwrap() + 512];
        put(&mut bytes, usize::try_from(at).unwrap(), b"\xfc\x4e\x2b\xa9");
        bytes[usize::try_from(at).unwrap() + 4] = major;
        // The end of a partition is at no multiple of 4 KiB.
        for size in [SIZE, SIZE + 512] {
            let found = identify(&bytes, size).unwrap();
            assert_eq!(found.others, ["linux_raid_member"], "{major}");
        }
    }
    assert_eq!(identify(&vec![0_u8; 70_000], 70_000).unwrap(), Signatures::default());
}

#[test]
fn what_cato_does_not_read_is_named() {
    if let Some(image) = made(8 * MIB, "mkswap @") {
        assert_eq!(image.signatures().others, ["swap"]);
    }
    let mut bytes = vec![0; 70_000];
    put(&mut bytes, 0, b"LUKS\xBA\xBE");
    put(&mut bytes, 512 + 24, b"LVM2 001");
    put(&mut bytes, 0x8001, b"CD001");
    assert_eq!(
        identify(&bytes, 70_000).unwrap().others,
        ["crypto_LUKS", "LVM2_member", "iso9660"]
    );
    // A remnant of a container hides no file system.
    if let Some(image) = made(8 * MIB, "mke2fs -q -F -t ext4 @") {
        image.put(0, b"LUKS\xBA\xBE");
        let found = image.signatures();
        assert_eq!(
            (found.filesystems.len(), found.others.as_slice()),
            (1, ["crypto_LUKS"].as_slice())
        );
    }
}

fn handmade_ext(incompat: u32) -> Vec<u8> {
    let mut image = vec![0; 8192];
    put(&mut image, 1024 + 0x38, &0xEF53_u16.to_le_bytes());
    put(&mut image, 1024 + 0x5C, &ext::HAS_JOURNAL.to_le_bytes());
    put(&mut image, 1024 + 0x60, &incompat.to_le_bytes());
    put(&mut image, 1024 + 0x78, b"sixteen-letters!");
    image
}

#[test]
fn a_journal_is_seen() {
    let one = |incompat: u32| identify(&handmade_ext(incompat), 8192).unwrap().filesystems.pop();
    let found = one(0x46).unwrap();
    assert_eq!((found.kind, found.has_journal), (FileSystemKind::Ext4, true));
    assert_eq!((found.label.as_deref(), found.uuid), (Some("sixteen-letters!"), None));
    assert!(one(0x48).is_none(), "a journal device");
}

#[test]
fn an_erofs_by_hand_has_its_label() {
    let mut image = vec![0; 8192];
    put(&mut image, 1024, &0xE0F5_E1E2_u32.to_le_bytes());
    put(&mut image, 1024 + 12, &[12]);
    put(&mut image, 1024 + 64, b"boot-b");
    let found = identify(&image, 8192).unwrap().filesystems.pop().unwrap();
    assert_eq!(
        (found.kind, found.label.as_deref()),
        (FileSystemKind::Erofs, Some("boot-b"))
    );
}

#[test]
fn others_that_begin_with_a_jump_are_no_fat() {
    let mut ntfs = vec![0; 8192];
    put(&mut ntfs, 0, b"\xEB\x52\x90NTFS    ");
    put(&mut ntfs, 11, &512_u16.to_le_bytes());
    put(&mut ntfs, 13, &[8]);
    put(&mut ntfs, 510, &[0x55, 0xAA]);
    let found = identify(&ntfs, 8192).unwrap();
    assert_eq!(
        (found.filesystems.len(), found.others.as_slice()),
        (0, ["ntfs"].as_slice())
    );
    assert_eq!(identify(&vec![0_u8; 100], 100).unwrap(), Signatures::default());
    assert_eq!(
        identify(&vec![0_u8; 100], 8192).unwrap(),
        Signatures::default(),
        "cut off"
    );
}

#[test]
fn a_file_system_for_smaller_sectors_says_so() {
    let Some(image) = made(64 * MIB, "mkfs.vfat @") else {
        return;
    };
    let text = image.only("").misfit(64 * MIB, 4096).unwrap();
    assert!(
        text.starts_with("made for sectors of 512 bytes, but the disk has sectors of 4096 bytes"),
        "{text}"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in prop::collection::vec(any::<u8>(), 4096..9000), which in 0..7, size: u64) {
        match which {
            0 => put(&mut bytes, 1024 + 0x38, &0xEF53_u16.to_le_bytes()),
            1 => put(&mut bytes, 1024, &0xE0F5_E1E2_u32.to_le_bytes()),
            2 | 3 => {
                put(&mut bytes, 11, &512_u16.to_le_bytes());
                put(&mut bytes, 13, &[8]);
                put(&mut bytes, 16, &[2]);
                put(&mut bytes, 21, &[0xF8]);
                put(&mut bytes, 510, &[0x55, 0xAA]);
                if which == 3 {
                    put(&mut bytes, 22, &[0, 0]);
                    put(&mut bytes, 48, &[0, 0]);
                }
            }
            4 => {
                put(&mut bytes, 0, b"\xEB\x76\x90EXFAT   ");
                put(&mut bytes, 11, &[0; 53]);
                put(&mut bytes, 108, &[9, 1]);
                put(&mut bytes, 510, &[0x55, 0xAA]);
            }
            5 => put(&mut bytes, 0, b"XFSB"),
            _ => put(&mut bytes, 0, b"hsqs"),
        }
        let len = u64::try_from(bytes.len()).unwrap();
        let _ = identify(&bytes, len);
        let _ = identify(&bytes, size % 100_000);
    }
}
