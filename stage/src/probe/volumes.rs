//! Volumes: disks and partitions with what is known about them.
//!
//! Given sysfs and the devices' own bytes; responsible for a volume's names and for which one a source means.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use config::Source;

use super::block::Block;
use super::partition::Table;
use super::superblock::{self, FileSystem, Signatures};
use super::table;
use crate::sys::read_at::ReadAt;
use crate::text::{printable, word};

/// What was read from a block device.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Of a whole disk; or why there is none although there should be.
    pub(crate) table: Result<Option<Table>, String>,
    /// What it can be taken for.
    pub(crate) signatures: Signatures,
}

/// Reads superblocks and, of a whole disk, the partition table.
///
/// # Errors
/// The device's own.
pub(crate) fn read(device: &impl ReadAt, block: &Block) -> io::Result<Contents> {
    Ok(Contents {
        signatures: superblock::identify(device, block.bytes())?,
        table: match block.partition {
            None => table::read(device, block.sector, block.bytes())?,
            Some(_) => Ok(None),
        },
    })
}

/// A block device with everything that was found out about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume {
    /// In `/dev`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Bytes in a logical sector.
    pub sector: u32,
    /// GPT name.
    pub partlabel: Option<String>,
    /// GPT GUID or MBR `SSSSSSSS-PP`.
    pub partuuid: Option<String>,
    /// GPT type GUID.
    pub parttype: Option<String>,
    /// What is on it.
    pub state: State,
}

/// What is on a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    /// What its bytes can be taken for, which may be nothing.
    Read(Signatures),
    /// Could not be read; why.
    Unreadable(String),
    /// Not read, because its disk is not ready.
    Silent,
    /// A reader without a card, or a disk without a size.
    Empty,
}

/// How sure it is that a source means a volume, surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// It means what the volume most likely holds.
    First,
    /// It means what an older file system left there, unless that is the newer one.
    Second,
    /// Nothing there can be read.
    Unreadable,
}

impl Volume {
    fn signatures(&self) -> Option<&Signatures> {
        match &self.state {
            State::Read(signatures) => Some(signatures),
            _ => None,
        }
    }

    /// Whether it can be taken for more than one thing, of which one at most is still there.
    pub(crate) fn is_ambiguous(&self) -> bool {
        self.signatures()
            .is_some_and(|s| s.filesystems.len().saturating_add(s.others.len()) > 1)
    }

    /// How sure it is that `source` means what is on this volume.
    pub(crate) fn fits(&self, source: &Source) -> Fit {
        let likeliest = self.signatures().and_then(|s| s.filesystems.first());
        match self.filesystems(source).first() {
            None => Fit::Unreadable,
            found if found.copied() == likeliest => Fit::First,
            Some(_) => Fit::Second,
        }
    }

    /// The file systems it may be, likeliest first.
    pub(crate) fn all_filesystems(&self) -> Vec<&FileSystem> {
        let all = self.signatures().into_iter().flat_map(|s| &s.filesystems);
        all.collect()
    }

    /// The file systems that `source` may mean on this volume, likeliest first.
    pub(crate) fn filesystems(&self, source: &Source) -> Vec<&FileSystem> {
        let same_hex = |own: Option<&String>, wanted: &str| own.is_some_and(|own| own.eq_ignore_ascii_case(wanted));
        let all = self.all_filesystems().into_iter();
        all.filter(|fs| match source {
            Source::Label(wanted) => fs.label.as_ref() == Some(wanted),
            Source::Uuid(wanted) => same_hex(fs.uuid.as_ref(), wanted),
            _ => true,
        })
        .collect()
    }

    /// Whether `source` means this volume. Hexadecimal digits are compared without case.
    pub(crate) fn is(&self, source: &Source) -> bool {
        match source {
            Source::PartLabel(wanted) => self.partlabel.as_ref() == Some(wanted),
            Source::PartUuid(wanted) => self
                .partuuid
                .as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(wanted)),
            Source::Label(_) | Source::Uuid(_) => !self.filesystems(source).is_empty(),
            Source::Initramfs(_) => false,
        }
    }
}

/// `vda2 (ext4 LABEL=x UUID=… PARTLABEL=boot-a)`. Whatever a disk says is shown by [`word`].
impl fmt::Display for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", word(&self.name))?;
        match &self.state {
            State::Read(Signatures { filesystems, others }) => {
                let mut found: Vec<String> = filesystems.iter().map(FileSystem::to_string).collect();
                found.extend(others.iter().map(ToString::to_string));
                match found.as_slice() {
                    [] => f.write_str("no known file system")?,
                    found => f.write_str(&found.join(" or "))?,
                }
            }
            State::Unreadable(why) => write!(f, "unreadable: {}", printable(why))?,
            State::Silent => f.write_str("does not answer")?,
            State::Empty => f.write_str("no medium")?,
        }
        if let Some(name) = &self.partlabel {
            write!(f, " PARTLABEL={}", word(name))?;
        }
        if let Some(uuid) = &self.partuuid {
            write!(f, " PARTUUID={uuid}")?;
        }
        f.write_str(")")
    }
}

/// What the devices' own bytes said so far, by name; a device that is missing here has not answered yet.
pub(crate) type Known = BTreeMap<String, Result<Contents, String>>;

/// The partitions of `disk` that the kernel has.
pub(crate) fn partitions<'a>(blocks: &'a [Block], disk: &str) -> Vec<&'a Block> {
    blocks
        .iter()
        .filter(|b| b.partition.as_ref().is_some_and(|(_, d)| d == disk))
        .collect()
}

/// The volumes among `blocks`: every partition, and every disk that has none.
pub(crate) fn volumes(blocks: &[Block], known: &Known) -> Vec<Volume> {
    blocks
        .iter()
        .filter(|b| b.partition.is_some() || partitions(blocks, &b.name).is_empty())
        .map(|b| {
            let table = known
                .get(b.disk())
                .and_then(|c| c.as_ref().ok()?.table.as_ref().ok()?.as_ref());
            let entry = table.and_then(|table| table.entry(b));
            Volume {
                name: b.name.clone(),
                size: b.bytes(),
                sector: b.sector,
                partlabel: (entry.and_then(|entry| entry.partlabel.clone())).or_else(|| b.partname.clone()),
                partuuid: entry.map(|entry| entry.partuuid.clone()),
                parttype: entry.and_then(|entry| entry.parttype.clone()),
                state: match known.get(&b.name) {
                    _ if b.size == 0 => State::Empty,
                    None => State::Silent,
                    Some(Err(why)) => State::Unreadable(why.clone()),
                    Some(Ok(contents)) => State::Read(contents.signatures.clone()),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::block::blocks;
    use crate::probe::partition::Partition;
    use crate::probe::superblock::FileSystemKind;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

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
        fs::write(sys.join("devices/pci/03/block/vda/vda2/start"), "2048\n").unwrap();
        block_folder(sys, "pci/05/block/sdb", &[("size", "0\n")]);
        block_folder(sys, "pci/06/nvme0c0n1", &[("size", "9\n"), ("hidden", "1\n")]);
    }

    fn fs_of(kind: FileSystemKind, label: &str) -> FileSystem {
        FileSystem {
            kind,
            uuid: Some("dead-beef".into()),
            label: Some(label.into()),
            has_journal: false,
            size: 0,
            sector: None,
        }
    }

    fn contents(filesystems: Vec<FileSystem>) -> Contents {
        let others = Vec::new();
        Contents {
            table: Ok(None),
            signatures: Signatures { filesystems, others },
        }
    }

    fn with_slot(number: u32, start: u64, partlabel: &str) -> Contents {
        let entry = Partition {
            number,
            start,
            length: 0,
            partuuid: "abababab-abab-abab-abab-abababababab".into(),
            partlabel: Some(partlabel.into()),
            parttype: None,
        };
        let partitions = vec![entry];
        Contents {
            table: Ok(Some(Table {
                partitions,
                ..Table::default()
            })),
            signatures: Signatures::default(),
        }
    }

    #[test]
    fn disks_and_partitions_are_listed_in_the_order_of_their_place() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let found = blocks(dir.path());
        let names: Vec<_> = found.iter().map(|b| b.name.as_str()).collect();
        assert_eq!(names, ["vda", "vda2", "vda10", "vdb", "sdb"]);
        assert_eq!(
            (found[1].start, found[2].start, found[4].size),
            (Some(1_048_576), None, 0)
        );
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
        let mut known = Known::new();
        let _ = known.insert("vda".into(), Ok(with_slot(2, 1 << 20, "boöt")));
        let _ = known.insert("vda2".into(), Ok(contents(vec![fs_of(FileSystemKind::Ext4, "one")])));
        let _ = known.insert("vdb".into(), Err("Input/output error".into()));
        let volumes = volumes(&blocks, &known);
        let shown: Vec<String> = volumes.iter().map(Volume::to_string).collect();
        assert_eq!(
            shown,
            [
                "vda2 (ext4 LABEL=one UUID=dead-beef PARTLABEL=\"bo\\u{f6}t\" PARTUUID=abababab-abab-abab-abab-abababababab)",
                "vda10 (does not answer PARTLABEL=\"old!\")",
                "vdb (unreadable: Input/output error)",
                "sdb (no medium)",
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
    fn names_of_a_partition_that_is_elsewhere_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        machine(dir.path());
        let mut known = Known::new();
        let _ = known.insert("vda".into(), Ok(with_slot(2, 4096, "boot-a")));
        let volumes = volumes(&blocks(dir.path()), &known);
        assert_eq!(
            (volumes[0].partlabel.as_deref(), &volumes[0].partuuid),
            (Some("old!"), &None)
        );
    }

    fn volume(filesystems: Vec<FileSystem>, others: Vec<&'static str>, partlabel: &str) -> Volume {
        Volume {
            name: "vda1".into(),
            size: 0,
            sector: 512,
            partlabel: Some(partlabel.into()),
            partuuid: None,
            parttype: None,
            state: State::Read(Signatures { filesystems, others }),
        }
    }

    #[test]
    fn a_source_means_what_it_names_of_several() {
        let both = volume(
            vec![fs_of(FileSystemKind::Vfat, "NEW"), fs_of(FileSystemKind::Ext4, "old")],
            vec!["swap"],
            "boot-a",
        );
        let kinds = |source: Source| both.filesystems(&source).iter().map(|fs| fs.kind).collect::<Vec<_>>();
        assert_eq!(
            kinds(Source::PartLabel("boot-a".into())),
            [FileSystemKind::Vfat, FileSystemKind::Ext4]
        );
        assert_eq!(kinds(Source::Label("old".into())), [FileSystemKind::Ext4]);
        assert_eq!(both.fits(&Source::Label("NEW".into())), Fit::First);
        assert_eq!(both.fits(&Source::Label("old".into())), Fit::Second);
        assert_eq!(both.fits(&Source::Label("none".into())), Fit::Unreadable);
        assert!(both.is_ambiguous() && !volume(vec![fs_of(FileSystemKind::Vfat, "x")], vec![], "x").is_ambiguous());
        assert_eq!(
            both.to_string(),
            "vda1 (vfat LABEL=NEW UUID=dead-beef or ext4 LABEL=old UUID=dead-beef or swap PARTLABEL=boot-a)"
        );
    }

    /// A label can't say what only Cato says.
    #[test]
    fn a_label_forges_nothing() {
        let shown = volume(
            vec![fs_of(FileSystemKind::Ext4, "x) PARTLABEL=boot-a\x1b[2J")],
            vec![],
            "y), vdb1 (ext4",
        )
        .to_string();
        assert_eq!(
            shown,
            r#"vda1 (ext4 LABEL="x) PARTLABEL=boot-a\u001b[2J" UUID=dead-beef PARTLABEL="y), vdb1 (ext4")"#
        );
    }
}
