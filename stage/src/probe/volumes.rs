//! Volumes: disks and partitions with what is known about them.
//!
//! Given sysfs and the devices' own bytes; responsible for a volume's names and for which one a source means.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use config::Source;

use super::devices::names;
use super::gpt::{self, Table};
use super::superblock::{self, FileSystem};
use crate::sys::read_at::ReadAt;

/// A block device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// In `/dev` and in `/sys/class/block`.
    pub name: String,
    /// Its folder in sysfs, without links.
    pub path: PathBuf,
    /// Partition number and the disk's name; None for a whole disk.
    pub partition: Option<(u32, String)>,
    /// In 512-byte units, as sysfs counts.
    pub size: u64,
    /// Bytes in a logical sector.
    pub sector: u32,
    /// PARTNAME, where the kernel says one.
    pub partname: Option<String>,
}

impl Block {
    /// The disk it is or is on.
    pub fn disk(&self) -> &str {
        self.partition.as_ref().map_or(&self.name, |(_, disk)| disk)
    }
}

/// Not disks, or disks on top of other disks, or removable media that nobody boots an appliance from.
const SKIPPED: [&str; 9] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock"];

/// Every disk and partition that is there and has a size, in the order of its place in the machine.
pub(crate) fn blocks(sys: &Path) -> Vec<Block> {
    let class = sys.join("class/block");
    let mut found: Vec<Block> = names(&class)
        .into_iter()
        .filter(|name| !SKIPPED.iter().any(|s| name.starts_with(s)))
        .filter_map(|name| block(&class, name))
        .collect();
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    found
}

fn place(block: &Block) -> (&Path, u32) {
    match (&block.partition, block.path.parent()) {
        (Some((number, _)), Some(disk)) => (disk, *number),
        _ => (&block.path, 0),
    }
}

fn block(class: &Path, name: String) -> Option<Block> {
    let path = class.join(&name).canonicalize().ok()?;
    let number = |file: &Path| -> Option<u64> { fs::read_to_string(file).ok()?.trim().parse().ok() };
    // One path of several to an NVMe namespace; the namespace itself is a disk of its own.
    if number(&path.join("hidden")) == Some(1) {
        return None;
    }
    let size = number(&path.join("size")).filter(|size| *size != 0)?;
    let partition = number(&path.join("partition")).and_then(|n| u32::try_from(n).ok());
    let disk = if partition.is_some() { path.parent()? } else { &path };
    let sector = number(&disk.join("queue/logical_block_size")).and_then(|n| u32::try_from(n).ok());
    let uevent = fs::read_to_string(path.join("uevent")).unwrap_or_default();
    let disk = disk.file_name()?.to_str()?.to_owned();
    Some(Block {
        partition: partition.map(|n| (n, disk)),
        size,
        sector: sector.unwrap_or(512),
        partname: uevent
            .lines()
            .find_map(|l| l.strip_prefix("PARTNAME="))
            .map(str::to_owned),
        name,
        path,
    })
}

/// What was read from a block device.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Of a whole disk.
    pub(crate) table: Option<Table>,
    /// A table that should be there but is damaged.
    pub(crate) table_problem: Option<String>,
    /// None when there is no file system that Cato knows.
    pub(crate) filesystem: Option<FileSystem>,
}

/// Reads partition table (of a whole disk) and superblock.
///
/// # Errors
/// The device's own.
pub(crate) fn read(device: &impl ReadAt, block: &Block) -> io::Result<Contents> {
    let mut contents = Contents {
        table: None,
        table_problem: None,
        filesystem: superblock::identify(device)?,
    };
    if block.partition.is_none() {
        let bytes = block.size.saturating_mul(512);
        let sectors = bytes.checked_div(u64::from(block.sector)).unwrap_or(0);
        match gpt::read(device, block.sector, sectors) {
            Ok(table) => contents.table = table,
            Err(gpt::GptError::Read(e)) => return Err(e),
            Err(damaged) => contents.table_problem = Some(damaged.to_string()),
        }
    }
    Ok(contents)
}

/// A block device with everything that was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// In `/dev`.
    pub name: String,
    /// GPT name.
    pub partlabel: Option<String>,
    /// GPT GUID or MBR `SSSSSSSS-PP`.
    pub partuuid: Option<String>,
    /// What is on it.
    pub state: State,
}

/// What is on a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// A file system.
    FileSystem(FileSystem),
    /// Nothing that Cato knows.
    Unknown,
    /// Could not be read; why.
    Unreadable(String),
    /// Not read, because its disk is not ready.
    Silent,
}

impl Volume {
    fn filesystem(&self) -> Option<&FileSystem> {
        match &self.state {
            State::FileSystem(fs) => Some(fs),
            _ => None,
        }
    }

    /// Whether it has a file system that is known here.
    pub fn is_readable(&self) -> bool {
        self.filesystem().is_some()
    }

    /// Whether `source` means this volume. Hexadecimal digits are compared without case.
    pub fn is(&self, source: &Source) -> bool {
        let same = |own: Option<&String>, wanted: &str| own.is_some_and(|own| own == wanted);
        let same_hex = |own: Option<&String>, wanted: &str| own.is_some_and(|own| own.eq_ignore_ascii_case(wanted));
        match source {
            Source::PartLabel(wanted) => same(self.partlabel.as_ref(), wanted),
            Source::PartUuid(wanted) => same_hex(self.partuuid.as_ref(), wanted),
            Source::Label(wanted) => same(self.filesystem().and_then(|f| f.label.as_ref()), wanted),
            Source::Uuid(wanted) => same_hex(self.filesystem().and_then(|f| f.uuid.as_ref()), wanted),
            Source::Initramfs(_) => false,
        }
    }
}

/// `vda2 (ext4 LABEL=x UUID=… PARTLABEL=boot-a)`.
impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.name)?;
        match &self.state {
            State::FileSystem(fs) => {
                write!(f, "{}", fs.kind)?;
                if let Some(label) = &fs.label {
                    write!(f, " LABEL={label}")?;
                }
                if let Some(uuid) = &fs.uuid {
                    write!(f, " UUID={uuid}")?;
                }
            }
            State::Unknown => f.write_str("no known file system")?,
            State::Unreadable(why) => write!(f, "unreadable: {why}")?,
            State::Silent => f.write_str("does not answer")?,
        }
        if let Some(name) = &self.partlabel {
            write!(f, " PARTLABEL={name}")?;
        }
        if let Some(uuid) = &self.partuuid {
            write!(f, " PARTUUID={uuid}")?;
        }
        f.write_str(")")
    }
}

/// What the devices' own bytes said so far, by name; a device that is missing here has not answered yet.
pub(crate) type Known = BTreeMap<String, Result<Contents, String>>;

/// The volumes among `blocks`: every partition, and every disk that has none.
pub(crate) fn volumes(blocks: &[Block], known: &Known) -> Vec<Volume> {
    let has_partitions = |disk: &str| {
        blocks
            .iter()
            .any(|b| b.partition.as_ref().is_some_and(|(_, d)| d == disk))
    };
    blocks
        .iter()
        .filter(|b| b.partition.is_some() || !has_partitions(&b.name))
        .map(|b| {
            let number = b.partition.as_ref().map(|(n, _)| *n);
            let table = known.get(b.disk()).and_then(|c| c.as_ref().ok()?.table.as_ref());
            let in_table = table.zip(number);
            Volume {
                name: b.name.clone(),
                partlabel: in_table
                    .and_then(|(t, n)| t.partlabel(n).map(str::to_owned))
                    .or_else(|| b.partname.clone()),
                partuuid: in_table.and_then(|(t, n)| t.partuuid(n)),
                state: match known.get(&b.name) {
                    None => State::Silent,
                    Some(Err(why)) => State::Unreadable(why.clone()),
                    Some(Ok(contents)) => match &contents.filesystem {
                        Some(fs) => State::FileSystem(fs.clone()),
                        None => State::Unknown,
                    },
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::gpt::{Gpt, Guid, Partition};
    use crate::probe::superblock::Kind;
    use std::os::unix::fs::symlink;

    fn block_folder(sys: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = sys.join("devices").join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            let file = folder.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let class = sys.join("class/block");
        fs::create_dir_all(&class).unwrap();
        symlink(&folder, class.join(folder.file_name().unwrap())).unwrap();
    }

    fn machine(sys: &Path) {
        block_folder(sys, "virtual/block/loop0", &[("size", "100\n")]);
        block_folder(
            sys,
            "pci/04/block/vdb",
            &[("size", "2048\n"), ("queue/logical_block_size", "4096\n")],
        );
        block_folder(
            sys,
            "pci/03/block/vda",
            &[("size", "409600\n"), ("queue/logical_block_size", "512\n")],
        );
        let part = |n: &'static str| {
            [
                ("size", "2048\n"),
                ("partition", n),
                ("uevent", "PARTN=1\nPARTNAME=old!\n"),
            ]
        };
        block_folder(sys, "pci/03/block/vda/vda10", &part("10\n"));
        block_folder(sys, "pci/03/block/vda/vda2", &part("2\n"));
        block_folder(sys, "pci/05/block/sdb", &[("size", "0\n")]);
        block_folder(sys, "pci/06/nvme0c0n1", &[("size", "9\n"), ("hidden", "1\n")]);
    }

    fn fs_of(kind: Kind, label: &str) -> Contents {
        Contents {
            table: None,
            table_problem: None,
            filesystem: Some(FileSystem {
                kind,
                uuid: Some("dead-beef".into()),
                label: Some(label.into()),
                has_journal: true,
            }),
        }
    }

    #[test]
    fn disks_and_partitions_are_listed_in_the_order_of_their_place() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let found = blocks(dir.path());
        let names: Vec<_> = found.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["vda", "vda2", "vda10", "vdb"]);
        assert_eq!(found[1].disk(), "vda");
        assert_eq!(found[1].sector, 512);
        assert_eq!(found[3].sector, 4096);
        assert_eq!(found[1].partname.as_deref(), Some("old!"));
        assert!(blocks(&dir.path().join("absent")).is_empty());
    }

    #[test]
    fn names_come_from_the_table_and_the_superblock() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let blocks = blocks(dir.path());
        let table = Table::Gpt(Gpt {
            disk: Guid::ZERO,
            partitions: vec![Partition {
                number: 2,
                guid: Guid([0xAB; 16]),
                first: 0,
                last: 0,
                name: "boöt".into(),
            }],
            primary_bad: None,
        });
        let disk = Contents {
            table: Some(table),
            table_problem: None,
            filesystem: None,
        };
        let mut known = Known::new();
        let _ = known.insert("vda".into(), Ok(disk));
        let _ = known.insert("vda2".into(), Ok(fs_of(Kind::Ext4, "one")));
        let _ = known.insert("vdb".into(), Err("Input/output error".into()));
        let volumes = volumes(&blocks, &known);
        let shown: Vec<String> = volumes.iter().map(Volume::to_string).collect();
        assert_eq!(
            shown,
            [
                "vda2 (ext4 LABEL=one UUID=dead-beef PARTLABEL=boöt PARTUUID=abababab-abab-abab-abab-abababababab)",
                "vda10 (does not answer PARTLABEL=old!)",
                "vdb (unreadable: Input/output error)",
            ]
        );
        let is = |source: &Source| {
            volumes
                .iter()
                .filter(|v| v.is(source))
                .map(|v| v.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(is(&Source::PartLabel("boöt".into())), ["vda2"]);
        assert_eq!(
            is(&Source::PartUuid("ABABABAB-abab-abab-abab-abababababab".into())),
            ["vda2"]
        );
        assert_eq!(is(&Source::Label("one".into())), ["vda2"]);
        assert_eq!(is(&Source::Label("ONE".into())), Vec::<String>::new());
        assert_eq!(is(&Source::Uuid("DEAD-BEEF".into())), ["vda2"]);
        assert_eq!(is(&Source::Initramfs("one".into())), Vec::<String>::new());
    }

    #[test]
    fn an_mbr_partition_is_known_by_signature_and_the_kernels_number() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let mut known = Known::new();
        let disk = Contents {
            table: Some(Table::Mbr { signature: 0x1234 }),
            table_problem: None,
            filesystem: None,
        };
        let _ = known.insert("vda".into(), Ok(disk));
        let volumes = volumes(&blocks(dir.path()), &known);
        assert_eq!(volumes[1].partuuid.as_deref(), Some("00001234-0a"));
    }
}
