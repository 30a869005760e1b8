//! A whole disk for an appliance: what the firmware starts, the state, and two places for a main system.
//!
//! Given an EFI program and the main system's files; responsible for the table and what is in each partition.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use crate::disk::image::{self, MIB};
use crate::disk::partition::ext4_size;
use crate::disk::{Disk, Files, Filesystem, Partition};

/// The places of a main system, by the names of their partitions.
const BOOT: [&str; 2] = ["boot-a", "boot-b"];

/// The smallest partition of the firmware that has room for a second program, and is FAT32, which UEFI wants.
const ESP: u64 = 64 * MIB;

/// Size of boot-a and boot-b where nothing is said, MiB: a kernel and an initrd of Debian, and as much again.
pub const BOOT_MIB: u32 = 512;

/// What is on it besides what the firmware starts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// There is a partition for the state of slots, as it leaves the factory.
    pub has_state: bool,
    /// What is in boot-a and in boot-b; nothing: both are empty.
    pub files: Option<PathBuf>,
    /// How large each of them is, MiB.
    pub boot_mib: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            has_state: true,
            files: None,
            boot_mib: BOOT_MIB,
        }
    }
}

/// Writes it to `output`, equal bytes for equal parts.
///
/// # Errors
/// When the files do not fit, or a tool that makes file systems is missing or fails.
pub fn write(efi_path: &str, program: &[u8], plan: &Plan, output: &Path) -> Result<()> {
    let files = match &plan.files {
        Some(folder) => Files::below(folder)?,
        None => Files::new(),
    };
    let room = u64::from(plan.boot_mib) * MIB;
    let wanted = ext4_size(files.bytes()?);
    ensure!(
        wanted <= room,
        "boot-a and boot-b want {} MiB each for these files; give --boot-size",
        wanted / MIB
    );
    let esp = Files::new().with_bytes(efi_path, program);
    let mut partitions = vec![Partition {
        bootable: true,
        size: Some(ESP.max((3 * esp.bytes()?).next_multiple_of(MIB))),
        mkfs: ["-F", "32"].map(str::to_owned).to_vec(),
        ..Partition::new("ESP", Filesystem::Vfat, esp)
    }];
    let scratch = tempfile::tempdir()?;
    if plan.has_state {
        let state = scratch.path().join("state");
        image::blank(&state, MIB)?;
        stage::cli::factory_state(&state).map_err(anyhow::Error::msg)?;
        partitions.push(Partition {
            type_guid: Some(Uuid::parse_str(stage::STATE_TYPE).context("the type of the state partition")?),
            ..Partition::made("cato-state", state)
        });
    }
    partitions.extend(BOOT.map(|name| Partition {
        size: Some(room),
        ..Partition::new(name, Filesystem::Ext4, Files::new())
    }));
    let disk = Disk {
        partitions,
        ..Disk::default()
    };
    disk.write(output)?;
    // By debugfs instead of mke2fs: root owns them, and no time is the one of a host's file.
    for name in BOOT {
        files.put_into(output, image::partition(output, name)?.start)?;
    }
    Ok(())
}
