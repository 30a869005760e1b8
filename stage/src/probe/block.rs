//! Block devices as sysfs shows them.
//!
//! Given sysfs; responsible for the list of disks and partitions, and for what each file says.

use std::fs;
use std::path::{Path, PathBuf};

use super::devices::names;

/// A block device as sysfs shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    /// In `/dev` and in `/sys/class/block`.
    pub name: String,
    /// Its folder in sysfs, without links.
    pub path: PathBuf,
    /// Partition number and the disk's name; None for a whole disk.
    pub partition: Option<(u32, String)>,
    /// First byte on its disk, as far as the kernel says; a whole disk has none.
    pub start: Option<u64>,
    /// In 512-byte units, as sysfs counts; 0 when there is no medium.
    pub size: u64,
    /// Bytes in a logical sector.
    pub sector: u32,
    /// PARTNAME, where the kernel says one.
    pub partname: Option<String>,
}

impl Block {
    /// Its size.
    pub(crate) fn bytes(&self) -> u64 {
        self.size.saturating_mul(512)
    }

    /// The disk it is or is on.
    pub(crate) fn disk(&self) -> &str {
        self.partition.as_ref().map_or(&self.name, |(_, disk)| disk)
    }
}

/// Not disks, or disks on top of other disks, or removable media that nobody boots an appliance from.
const SKIPPED: [&str; 9] = ["loop", "ram", "zram", "sr", "fd", "dm-", "md", "nbd", "mtdblock"];

/// Every disk and partition that is there, in the order of its place in the machine. Of disks without a size there are those only that
/// may get one.
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
    parse(name, path.clone(), |file| fs::read_to_string(path.join(file)).ok())
}

/// What the files of a folder in sysfs, `read` by their names, say about a block device.
pub(crate) fn parse(name: String, path: PathBuf, read: impl Fn(&str) -> Option<String>) -> Option<Block> {
    let number = |file: &str| -> Option<u64> { read(file)?.trim().parse().ok() };
    // One path of several to an NVMe namespace; the namespace itself is a disk of its own.
    if number("hidden") == Some(1) {
        return None;
    }
    let size = number("size")?;
    let partition = number("partition").and_then(|n| u32::try_from(n).ok());
    let disk = if partition.is_some() { path.parent()? } else { &path };
    let queue = if partition.is_some() {
        "../queue/logical_block_size"
    } else {
        "queue/logical_block_size"
    };
    let sector = number(queue).and_then(|n| u32::try_from(n).ok());
    let disk = disk.file_name()?.to_str()?.to_owned();
    let uevent = read("uevent").unwrap_or_default();
    Some(Block {
        start: partition.and(number("start")).map(|start| start.saturating_mul(512)),
        partition: partition.map(|n| (n, disk)),
        size,
        sector: sector.unwrap_or(512),
        partname: (uevent.lines().find_map(|l| l.strip_prefix("PARTNAME="))).map(str::to_owned),
        name,
        path,
    })
    .filter(|block| block.size != 0 || block.partition.is_none())
}
