//! A whole disk for an appliance: what the firmware starts, the state, and two places for a main system.
//!
//! Given an EFI program and the main system's files; responsible for the table and what is in each partition.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use uuid::Uuid;

use crate::disk::image::{self, MIB};
use crate::disk::partition::ext4_size;
use crate::disk::{Disk, Files, Filesystem, Partition, identity};

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

/// The type of the state partition.
///
/// # Errors
/// When the stage's constant is no GUID.
pub fn state_type() -> Result<Uuid> {
    Uuid::parse_str(stage::STATE_TYPE).context("the type of the state partition")
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
    let wanted = ext4_size(files.room()?);
    ensure!(
        wanted <= room,
        "boot-a and boot-b want {} MiB each for these files; give --boot-size",
        wanted / MIB
    );
    let size = ESP.max((3 * u64::try_from(program.len())?).next_multiple_of(MIB));
    let mut partitions = vec![Partition {
        bootable: true,
        size: Some(size),
        mkfs: ["-F", "32"].map(str::to_owned).to_vec(),
        ..Partition::new("ESP", Filesystem::Vfat, Files::new().with_bytes(efi_path, program))
    }];
    let scratch = tempfile::tempdir()?;
    let made = |name: &str| scratch.path().join(name);
    if plan.has_state {
        let state = made("state");
        image::blank(&state, MIB)?;
        stage::cli::factory_state(&state).map_err(anyhow::Error::msg)?;
        partitions.push(Partition {
            type_guid: Some(state_type()?),
            ..Partition::made("cato-state", state)
        });
    }
    for (n, name) in BOOT.into_iter().enumerate() {
        let empty = Partition {
            size: Some(room),
            ..Partition::new(name, Filesystem::Ext4, Files::new())
        };
        empty.format(&made(name), &made("empty"), identity(3, n))?;
        files
            .put_into(&made(name), 0)
            .with_context(|| format!("can't fill {name}"))?;
        partitions.push(Partition::made(name, made(name)));
    }
    let disk = Disk {
        partitions,
        ..Disk::default()
    };
    disk.write(output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn plan(files: &Path) -> Plan {
        Plan {
            files: Some(files.to_owned()),
            boot_mib: 32,
            ..Plan::default()
        }
    }

    #[test]
    fn it_is_the_same_each_time_and_holds_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("files/a b")).unwrap();
        fs::write(at("files/a b/kernel"), vec![7; 100_000]).unwrap();
        fs::write(at("files/.debugfs"), "mine").unwrap();
        symlink("a b/kernel", at("files/vmlinuz")).unwrap();
        let write = |name: &str| write("EFI/BOOT/BOOTX64.EFI", b"MZ", &plan(&at("files")), &at(name));
        if let Err(error) = write("one") {
            assert!(format!("{error:#}").contains("can't start"), "{error:#}");
            eprintln!("skipped: no e2fsprogs, dosfstools or mtools here");
            return;
        }
        // Times of the host's files are of no account.
        fs::write(at("files/.debugfs"), "mine").unwrap();
        write("two").unwrap();
        assert!(fs::read(at("one")).unwrap() == fs::read(at("two")).unwrap());
        for name in BOOT {
            let start = image::partition(&at("one"), name).unwrap().start;
            let place = format!("{}?offset={start}", at("one").display());
            let cat = |path: &str| {
                let command = format!("cat \"{path}\"");
                crate::disk::tools::tool("debugfs")
                    .args(["-R", &command, &place])
                    .output()
                    .unwrap()
                    .stdout
            };
            assert_eq!(cat("/a b/kernel"), vec![7; 100_000]);
            assert_eq!(cat("/.debugfs"), b"mine");
        }
        let state = image::partition(&at("one"), "cato-state").unwrap();
        assert_eq!(state.end - state.start, MIB);
    }

    #[test]
    fn what_can_not_be_made_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("files")).unwrap();
        fs::File::create(at("files/large")).unwrap().set_len(40 * MIB).unwrap();
        let error = write("x", b"", &plan(&at("files")), &at("out")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "boot-a and boot-b want 60 MiB each for these files; give --boot-size"
        );
        fs::remove_file(at("files/large")).unwrap();
        fs::write(at("files/a\"b"), "").unwrap();
        let error = write("x", b"", &plan(&at("files")), &at("out")).unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("such a name") || error.contains("can't start"),
            "{error}"
        );
        assert!(!at("out").exists());
    }
}
