//! Disk images described in code: a GPT, partitions with their names and identities, files in them.
//!
//! Made with the tools the file systems' authors ship, so that what Cato mounts is what a user's system would have
//! written. The same description gives the same table and identities each time; images are sparse.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use gpt::GptConfig;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::PartitionAttributes;
use gpt::partition_types;
use nix::sys::stat::Mode;
use uuid::Uuid;

use crate::journal;

/// Sectors of 512 bytes, as GPT counts them.
const SECTOR: u64 = 512;
/// Partitions start at multiples of 1 MiB, as every partitioning tool does.
const MIB: u64 = 1 << 20;
/// The time stamp of everything: 2020-09-13, late enough for FAT.
const EPOCH: &str = "1600000000";

/// A whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// In table order.
    pub partitions: Vec<Partition>,
    /// Rounds the size up to a power of two, which SD cards need.
    pub power_of_two: bool,
}

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
}

impl Filesystem {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Vfat, Self::Squashfs, Self::Erofs];

    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
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
    /// The legacy-boot attribute: U-Boot looks for `extlinux.conf` on the first partition that has it.
    pub bootable: bool,
    /// Its files.
    pub files: Files,
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
            bootable: false,
            files,
            unreplayed: Vec::new(),
            image: None,
        }
    }
}

/// Something with a path in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file of the host.
    Host(PathBuf),
    /// This many zero bytes, as a hole.
    Hole(u64),
    /// An empty folder.
    Folder,
    /// A symbolic link.
    Link(String),
    /// A named pipe.
    Pipe,
}

/// Files by their path from the file system's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Content>);

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// With something at `path`, in the place of what was there.
    #[must_use]
    pub fn with(mut self, path: &str, content: Content) -> Self {
        self.0.insert(path.trim_matches('/').to_owned(), content);
        self
    }

    /// With a file of these bytes.
    #[must_use]
    pub fn with_bytes(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, Content::Bytes(bytes.into()))
    }

    /// With a copy of a file of the host.
    #[must_use]
    pub fn with_file(self, path: &str, file: impl Into<PathBuf>) -> Self {
        self.with(path, Content::Host(file.into()))
    }

    /// Without what was at `path`.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path.trim_matches('/'));
        self
    }

    /// Writes them below `root` and returns how many bytes they are in all.
    fn stage(&self, root: &Path) -> Result<u64> {
        let mut total = 0_u64;
        for (path, content) in &self.0 {
            let inside = Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            ensure!(inside, "{path:?} would lie outside the file system");
            let at = root.join(path);
            let what = || format!("can't put {path} on the disk");
            if let Some(folder) = at.parent() {
                fs::create_dir_all(folder).with_context(what)?;
            }
            match content {
                Content::Bytes(bytes) => fs::write(&at, bytes).with_context(what)?,
                Content::Host(file) => {
                    fs::copy(file, &at).with_context(|| format!("{}: {}", what(), file.display()))?;
                }
                Content::Hole(size) => File::create(&at).and_then(|f| f.set_len(*size)).with_context(what)?,
                Content::Folder => fs::create_dir_all(&at).with_context(what)?,
                Content::Link(to) => std::os::unix::fs::symlink(to, &at).with_context(what)?,
                Content::Pipe => {
                    nix::unistd::mkfifo(&at, Mode::from_bits_truncate(0o644)).with_context(what)?;
                }
            }
            if matches!(content, Content::Bytes(_) | Content::Host(_) | Content::Hole(_)) {
                total += at.metadata()?.len();
            }
        }
        Ok(total)
    }
}

impl Disk {
    /// Writes the image to `file`, in the place of what was there.
    pub fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let scratch = tempfile::tempdir_in(folder)?;
        let mut images = Vec::new();
        for (n, partition) in self.partitions.iter().enumerate() {
            if let Some(image) = &partition.image {
                images.push(image.clone());
                continue;
            }
            let image = scratch.path().join(format!("{n}.img"));
            partition
                .format(&image, &scratch.path().join(n.to_string()), identity(1, n))
                .with_context(|| format!("can't make partition {:?}", partition.name))?;
            images.push(image);
        }
        // Beside the target first: who sees the image sees it whole.
        let whole = scratch.path().join("disk.img");
        self.assemble(&whole, &images)
            .context("can't write the partition table")?;
        fs::rename(&whole, file).with_context(|| format!("can't write {}", file.display()))
    }

    fn assemble(&self, file: &Path, images: &[PathBuf]) -> Result<()> {
        let mut device = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(file)?;
        let mut table = BTreeMap::new();
        let mut next = MIB;
        for ((n, partition), (id, image)) in self.partitions.iter().enumerate().zip((1_u32..).zip(images)) {
            let size = image.metadata()?.len().next_multiple_of(MIB);
            let esp = partition.filesystem == Filesystem::Vfat && partition.bootable;
            table.insert(
                id,
                gpt::partition::Partition {
                    part_type_guid: if esp {
                        partition_types::EFI
                    } else {
                        partition_types::LINUX_FS
                    },
                    part_guid: partition.uuid.unwrap_or_else(|| identity(2, n)),
                    first_lba: next / SECTOR,
                    last_lba: (next + size) / SECTOR - 1,
                    flags: if partition.bootable {
                        PartitionAttributes::BOOTABLE.bits()
                    } else {
                        0
                    },
                    name: partition.name.clone(),
                },
            );
            copy_sparse(image, &mut device, next)?;
            next += size;
        }
        let size = next + MIB;
        let size = if self.power_of_two {
            size.next_power_of_two()
        } else {
            size
        };
        device.set_len(size)?;
        // A count of sectors that does not fit is written as the largest, says the UEFI specification.
        let last = u32::try_from(size / SECTOR - 1).unwrap_or(u32::MAX);
        ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut device)?;
        let mut disk = GptConfig::new()
            .writable(true)
            .create_from_device(device, Some(identity(0, 0)))?;
        disk.update_partitions(table)?;
        disk.write()?;
        Ok(())
    }
}

impl Partition {
    /// Makes the file system as a file of its own.
    pub(crate) fn format(&self, image: &Path, staged: &Path, default_uuid: Uuid) -> Result<()> {
        fs::create_dir_all(staged)?;
        let bytes = self.files.stage(staged)?;
        let uuid = self.fs_uuid.unwrap_or(default_uuid);
        match self.filesystem {
            Filesystem::Ext4 => {
                // A tenth for metadata, and a journal.
                let size = (bytes + bytes / 10 + 16 * MIB).next_multiple_of(MIB);
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
                    .args(["-E", &format!("hash_seed={uuid},root_owner=0:0"), "-d"])
                    .args([staged, image])
                    .arg(format!("{}k", size / 1024)))?;
                self.unreplayed
                    .iter()
                    .try_for_each(|(path, new)| journal::leave_unreplayed(image, path, new))
            }
            Filesystem::Vfat => {
                let size = (bytes + bytes / 50 + 8 * MIB).next_multiple_of(MIB);
                File::create(image)?.set_len(size)?;
                let id = uuid.as_u128() & 0xffff_ffff;
                run(tool("mkfs.vfat")
                    .args(["--invariant", "-n", &self.label, "-i", &format!("{id:08x}")])
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
            Filesystem::Squashfs => run(tool("mksquashfs").args([staged, image]).args([
                "-noappend",
                "-quiet",
                "-no-progress",
                "-all-root",
                "-comp",
                "zstd",
                "-Xcompression-level",
                "1",
            ])),
            Filesystem::Erofs => run(tool("mkfs.erofs")
                .args(["-T", EPOCH, "-U", &uuid.to_string()])
                .args([image, staged])),
        }
    }
}

/// A GUID that is the same each time: `what` it is for and its number.
fn identity(what: u8, n: usize) -> Uuid {
    let n = u32::try_from(n).unwrap_or(u32::MAX);
    Uuid::from_fields(
        0xca70_0000 | u32::from(what) << 8,
        0,
        0x4000,
        &[0x80, 0, 0, 0, 0, 0, 0, 0],
    )
    .as_u128()
    .checked_add(u128::from(n) + 1)
    .map_or(Uuid::nil(), Uuid::from_u128)
}

/// A command from the folders a system administrator's tools are in, whatever `PATH` the user has.
pub(crate) fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("MTOOLS_SKIP_CHECK", "1")
        .env("LC_ALL", "C");
    command
}

pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs it and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {name}; `cargo qemu setup` says which package brings it"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: Vec<&OsStr> = command.get_args().collect();
    bail!(
        "{name} failed ({}): {}{}\nits arguments: {said:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    )
}

/// Copies all that is not zero.
fn copy_sparse(from: &Path, to: &mut File, offset: u64) -> Result<()> {
    let mut from = File::open(from)?;
    let mut chunk = vec![0_u8; 256 * 1024];
    let zeroes = chunk.clone();
    let mut at = offset;
    loop {
        let n = from.read(&mut chunk)?;
        let (Some(read), Some(zero)) = (chunk.get(..n), zeroes.get(..n)) else {
            bail!("a read returned more than was asked for");
        };
        if n == 0 {
            return Ok(());
        }
        if read != zero {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(read)?;
        }
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn sample() -> Disk {
        let files = Files::new()
            .with_bytes("a/b.txt", "hello")
            .with("hole", Content::Hole(3 * MIB));
        Disk {
            partitions: vec![
                Partition {
                    bootable: true,
                    ..Partition::new("SERVICE", Filesystem::Vfat, files.clone())
                },
                Partition::new("boot-a", Filesystem::Ext4, files.with("p", Content::Pipe)),
            ],
            power_of_two: false,
        }
    }

    fn have(tools: &[&str]) -> bool {
        tools.iter().all(|t| {
            tool("sh")
                .args(["-c", &format!("command -v {t}")])
                .output()
                .unwrap()
                .status
                .success()
        })
    }

    #[test]
    fn the_table_and_the_files_read_back() {
        if !have(&["mke2fs", "mkfs.vfat", "mcopy", "debugfs"]) {
            eprintln!("skipped: no e2fsprogs, dosfstools or mtools here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        sample().write(&image).unwrap();
        let disk = GptConfig::new().open(&image).unwrap();
        assert_eq!(
            disk.primary_header().unwrap().disk_guid,
            disk.backup_header().unwrap().disk_guid
        );
        let names: Vec<_> = disk.partitions().values().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["SERVICE", "boot-a"]);
        let [service, boot] = [&disk.partitions()[&1], &disk.partitions()[&2]];
        assert_eq!(service.flags, 4);
        assert_eq!(boot.part_guid, identity(2, 1));
        let at = |lba: u64| (lba * SECTOR).to_string();

        let vfat = format!("{}@@{}", image.display(), at(service.first_lba));
        let out = tool("mtype").args(["-i", &vfat, "::/a/b.txt"]).output().unwrap();
        assert_eq!(out.stdout, b"hello");

        let ext4 = format!("{}?offset={}", image.display(), at(boot.first_lba));
        let out = tool("debugfs").args(["-R", "cat /a/b.txt", &ext4]).output().unwrap();
        assert_eq!(out.stdout, b"hello");
        let out = tool("debugfs").args(["-R", "stat /p", &ext4]).output().unwrap();
        assert!(String::from_utf8_lossy(&out.stdout).contains("FIFO"));
        assert!(
            image.metadata().unwrap().blocks() * 512 < 8 * MIB,
            "the image is not sparse"
        );
    }

    #[test]
    fn identities_differ_and_stay() {
        let all = [
            identity(0, 0),
            identity(1, 0),
            identity(1, 1),
            identity(2, 0),
            identity(2, 1),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[n + 1..].contains(one));
            assert_eq!(one.get_version_num(), 4);
        }
        assert_eq!(identity(1, 0).to_string(), "ca700100-0000-4000-8000-000000000001");
    }

    #[test]
    fn paths_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let error = Files::new().with_bytes("../x", "").stage(folder.path()).unwrap_err();
        assert!(error.to_string().contains("outside"));
    }
}
