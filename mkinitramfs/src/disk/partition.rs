//! A partition and the file system in it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use uuid::Uuid;

use super::files::Files;
use super::image::MIB;
use super::journal;
use super::tools::{EPOCH, run, tool};

/// What is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Filesystem {
    /// ext4 with mke2fs's default features, checksums among them.
    Ext4,
    /// FAT, 16 or 32 as the size wants.
    Vfat,
    /// Squashfs, zstd. It has no label and no UUID.
    Squashfs,
    /// EROFS. Its label is left empty: not every mkfs.erofs can set one.
    Erofs,
    /// XFS. Its files are regular ones, in no folder.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Filesystem {
    /// What is tried on every bus. The others are for their journals.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Vfat, Self::Squashfs, Self::Erofs];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// PARTLABEL.
    pub name: String,
    /// PARTUUID; none is derived from the place in the table.
    pub uuid: Option<Uuid>,
    /// What it is formatted with.
    pub filesystem: Filesystem,
    /// LABEL, where the file system has one; at most 11 characters on FAT.
    pub label: String,
    /// UUID, where the file system has one; FAT uses its last four bytes. None is derived from the place in the table.
    pub fs_uuid: Option<Uuid>,
    /// Its type; the usual one for its file system when nothing is said.
    pub type_guid: Option<Uuid>,
    /// The legacy-boot attribute: U-Boot looks for `extlinux.conf` on the first partition that has it.
    pub bootable: bool,
    /// How large an ext4 or a FAT is, bytes; as its files want where nothing is said.
    pub size: Option<u64>,
    /// Its files.
    pub files: Files,
    /// More arguments of its mkfs, such as `-O`, `casefold`.
    pub mkfs: Vec<String>,
    /// debugfs's commands for an ext4, each after those before it.
    pub debugfs: Vec<String>,
    /// Files of the same length whose new content is in ext4's journal only, as after a power cut.
    pub unreplayed: Vec<(String, Vec<u8>)>,
    /// A file system that was made before, taken as it is: then only the partition's name and identity count.
    pub image: Option<PathBuf>,
}

impl Partition {
    /// A partition with a name, which is its file system's label too.
    pub fn new(name: &str, filesystem: Filesystem, files: Files) -> Self {
        Self {
            name: name.to_owned(),
            uuid: None,
            filesystem,
            label: name.to_owned(),
            fs_uuid: None,
            type_guid: None,
            bootable: false,
            size: None,
            files,
            mkfs: Vec::new(),
            debugfs: Vec::new(),
            unreplayed: Vec::new(),
            image: None,
        }
    }

    /// A partition whose content is in the file `image`: what a program of your own made, or any bytes.
    pub fn made(name: &str, image: impl Into<PathBuf>) -> Self {
        Self {
            image: Some(image.into()),
            ..Self::new(name, Filesystem::Ext4, Files::new())
        }
    }
}

/// What an ext4 with so many bytes of files wants: a tenth for metadata, and a journal.
pub fn ext4_size(files: u64) -> u64 {
    (files + files / 10 + 16 * MIB).next_multiple_of(MIB)
}

impl Partition {
    /// Makes the file system as a file of its own.
    pub fn format(&self, image: &Path, staged: &Path, default_uuid: Uuid) -> Result<()> {
        fs::create_dir_all(staged)?;
        let bytes = self.files.stage(staged)?;
        let uuid = self.fs_uuid.unwrap_or(default_uuid);
        match self.filesystem {
            Filesystem::Ext4 => {
                let size = self.size.unwrap_or_else(|| ext4_size(bytes));
                run(tool("mke2fs")
                    .args([
                        "-q",
                        "-F",
                        "-t",
                        "ext4",
                        "-m",
                        "0",
                        "-L",
                        &self.label,
                        "-U",
                        &uuid.to_string(),
                    ])
                    .args(&self.mkfs)
                    .args(["-E", &format!("hash_seed={uuid},root_owner=0:0"), "-d"])
                    .args([staged, image])
                    .arg(format!("{}k", size / 1024)))?;
                for command in &self.debugfs {
                    run(tool("debugfs").args(["-w", "-R", command]).arg(image))?;
                }
                self.unreplayed
                    .iter()
                    .try_for_each(|(path, new)| journal::leave_unreplayed(image, path, new))
            }
            Filesystem::Vfat => {
                let wanted = (bytes + bytes / 50 + 8 * MIB).next_multiple_of(MIB);
                let size = self.size.unwrap_or(wanted);
                File::create(image)?.set_len(size)?;
                let id = uuid.as_u128() & 0xffff_ffff;
                run(tool("mkfs.vfat")
                    .args(["--invariant", "-n", &self.label, "-i", &format!("{id:08x}")])
                    .args(&self.mkfs)
                    .arg(image))?;
                let mut files: Vec<_> = fs::read_dir(staged)?
                    .map(|entry| Ok(entry?.path()))
                    .collect::<Result<_>>()?;
                files.sort();
                if files.is_empty() {
                    return Ok(());
                }
                run(tool("mcopy").args(["-s", "-Q", "-i"]).arg(image).args(files).arg("::/"))
            }
            Filesystem::Squashfs => run(tool("mksquashfs")
                .args([staged, image])
                .args(["-noappend", "-quiet", "-no-progress", "-all-root"])
                .args(["-comp", "zstd", "-Xcompression-level", "1"])
                .args(&self.mkfs)),
            Filesystem::Erofs => run(tool("mkfs.erofs")
                .args(["-T", EPOCH, "-U", &uuid.to_string()])
                .args(&self.mkfs)
                .args([image, staged])),
            Filesystem::Xfs => {
                // The smallest that mkfs.xfs makes is 300 MiB.
                File::create(image)?.set_len((bytes + 320 * MIB).next_multiple_of(MIB))?;
                let file = |name| format!("{name} ---644 0 0 {}\n", staged.join(name).display());
                let files: String = self.files.names().map(file).collect();
                let proto = format!("/\n0 0\nd--755 0 0\n{files}");
                let list = staged.with_extension("proto");
                fs::write(&list, proto + "$\n$\n")?;
                run(tool("mkfs.xfs")
                    .args(["-q", "-f", "-L", &self.label, "-m", &format!("uuid={uuid}"), "-p"])
                    .arg(&list)
                    .args(&self.mkfs)
                    .arg(image))
            }
            Filesystem::Btrfs => {
                File::create(image)?.set_len((bytes + bytes / 10 + 256 * MIB).next_multiple_of(MIB))?;
                run(tool("mkfs.btrfs")
                    .args(["-q", "-L", &self.label, "-U", &uuid.to_string(), "--rootdir"])
                    .arg(staged)
                    .args(&self.mkfs)
                    .arg(image))
            }
        }
    }
}
