//! Disk images described in code: a GPT, partitions with their names and identities, files in them.
//!
//! Made with the tools the file systems' authors ship, so that what Cato mounts is what a user's system would have
//! written. The same description gives the same table and identities each time; images are sparse.

pub mod files;
pub mod image;
pub mod journal;
pub mod partition;
pub mod tools;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::PartitionAttributes;
use gpt::partition_types;
use uuid::Uuid;

pub use files::{Content, Files};
pub use image::MIB;
pub use partition::{Filesystem, Partition};

/// A whole disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// In table order.
    pub partitions: Vec<Partition>,
    /// Rounds the size up to a power of two, which SD cards need.
    pub power_of_two: bool,
    /// The table is for sectors of 4096 bytes (4Kn) instead of 512. The drive must say that it has such sectors:
    /// `logical_block_size=4096,physical_block_size=4096` in the properties of the drive.
    pub sectors_4k: bool,
}

impl Disk {
    /// Writes the image to `file`, in the place of what was there.
    pub fn write(&self, file: &Path) -> Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        ensure!(
            file.metadata().map_or(true, |there| there.is_file()),
            "{} is no file; write the image to one, and copy that with dd",
            file.display()
        );
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
            .with_context(|| format!("can't put {} together", file.display()))?;
        fs::rename(&whole, file).with_context(|| format!("can't write {}", file.display()))
    }

    fn assemble(&self, file: &Path, images: &[PathBuf]) -> Result<()> {
        let mut device = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(file)?;
        let block = if self.sectors_4k {
            LogicalBlockSize::Lb4096
        } else {
            LogicalBlockSize::Lb512
        };
        let sector = block.as_u64();
        let mut table = BTreeMap::new();
        let mut next = MIB;
        for ((n, partition), (id, image)) in self.partitions.iter().enumerate().zip((1_u32..).zip(images)) {
            let size = image.metadata()?.len().next_multiple_of(MIB);
            let esp = partition.filesystem == Filesystem::Vfat && partition.bootable;
            table.insert(
                id,
                gpt::partition::Partition {
                    part_type_guid: match partition.type_guid {
                        Some(guid) => partition_types::Type {
                            guid,
                            ..partition_types::LINUX_FS
                        },
                        None if esp => partition_types::EFI,
                        None => partition_types::LINUX_FS,
                    },
                    part_guid: partition.uuid.unwrap_or_else(|| identity(2, n)),
                    first_lba: next / sector,
                    last_lba: (next + size) / sector - 1,
                    flags: if partition.bootable {
                        PartitionAttributes::BOOTABLE.bits()
                    } else {
                        0
                    },
                    name: partition.name.clone(),
                },
            );
            image::copy_sparse(image, &mut device, next)?;
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
        let last = u32::try_from(size / sector - 1).unwrap_or(u32::MAX);
        ProtectiveMBR::with_lb_size(last).overwrite_lba0(&mut device)?;
        let mut disk = GptConfig::new()
            .writable(true)
            .logical_block_size(block)
            .create_from_device(device, Some(identity(0, 0)))?;
        disk.update_partitions(table)?;
        disk.write()?;
        Ok(())
    }
}

/// A GUID that is the same each time: `what` it is for and its number.
pub fn identity(what: u8, n: usize) -> Uuid {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::tools::tool;
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
            ..Disk::default()
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
        let at = |lba: u64| (lba * 512).to_string();

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
    fn a_partition_is_found_with_sectors_of_either_size() {
        let folder = tempfile::tempdir().unwrap();
        let (content, image) = (folder.path().join("fs"), folder.path().join("disk.img"));
        fs::write(&content, "made elsewhere").unwrap();
        for sectors_4k in [false, true] {
            let disk = Disk {
                partitions: vec![Partition::made("one", &content), Partition::made("two", &content)],
                sectors_4k,
                ..Disk::default()
            };
            disk.write(&image).unwrap();
            let at = image::partition(&image, "two").unwrap();
            assert_eq!(at, 2 * MIB..3 * MIB);
            let bytes = fs::read(&image).unwrap();
            assert!(bytes[usize::try_from(at.start).unwrap()..].starts_with(b"made elsewhere"));
        }
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
}
