//! Disks, partitions, file systems: from a `source` in the config to a tree of files.
//!
//! Given a [`Source`] and a deadline; responsible for finding the volume it means on whatever bus it is, with no driver
//! loaded and no device bound that this boot does not need, and for reading it without ever writing to the disk.
//! Runs in the worker: everything here may take as long as the disk does, and PID 1 ends it at its own deadline.

pub(crate) mod block;
pub(crate) mod devices;
mod gpt;
mod mbr;
mod modules;
mod mounting;
pub(crate) mod partition;
mod search;
pub(crate) mod superblock;
mod table;
pub(crate) mod tree;
pub(crate) mod volumes;
mod watchdogs;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::Source;
use config::modules::Index;
use nix::errno::Errno;

pub(crate) use self::mounting::VolumeProblem;
use crate::cause::Cause;
use crate::deadlines::READ_SHARE;
use crate::sys::child::RemoteDevice;
pub(crate) use crate::sys::mount::mount_basics;
use modules::Modules;
use search::Search;
pub(crate) use search::{Caller, Seen, Unfinished};
pub(crate) use tree::{DirTree, FileTree, FileTreeError};
use volumes::{Fit, Volume};
pub(crate) use watchdogs::{SOFTDOG, bind_watchdogs, load_pstore};

/// What a search looks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'s> {
    /// A file system.
    Source(&'s Source),
    /// The partition with the state, but for those of these names in `/dev`.
    State(&'s [String]),
    /// What has this name in `/dev`.
    Device(&'s str),
    /// Nothing that could be there: all is looked at.
    Nothing,
}

/// The type of the partition with the state, in a GPT.
pub const STATE_TYPE: &str = "32a75679-f8ae-4ea2-b9ca-8255f57806eb";

impl Wanted<'_> {
    fn means(self, volume: &Volume) -> bool {
        match self {
            Self::Source(source) => volume.is(source),
            Self::State(but) => volume.parttype.as_deref() == Some(STATE_TYPE) && !but.contains(&volume.name),
            Self::Device(name) => volume.name == name,
            Self::Nothing => false,
        }
    }

    /// How sure that is, and whether it may be what an older file system left.
    fn fit(self, volume: &Volume) -> (Fit, bool) {
        match self {
            Self::Source(source) => (volume.fits(source), volume.is_ambiguous()),
            // Its content is looked at by whoever reads it.
            Self::State(_) | Self::Device(_) | Self::Nothing => (Fit::First, false),
        }
    }
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(source) => write!(f, "source {source}"),
            Self::State(_) => write!(f, "state partition (GPT type {STATE_TYPE})"),
            Self::Device(name) => f.write_str(name),
            Self::Nothing => f.write_str("nothing"),
        }
    }
}

/// A source whose files can be read.
pub(crate) struct Opened {
    /// Its files.
    pub tree: Box<dyn FileTree>,
    /// For the console: `vda2 (ext4 LABEL=… PARTLABEL=boot-a)`, or the folder.
    pub describe: String,
    /// Devices that were asked for on the way and are still being bound.
    pub unfinished: Vec<Unfinished>,
    /// The partition with the state was seen on the way.
    pub has_state: bool,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("describe", &self.describe)
            .field("unfinished", &self.unfinished)
            .finish_non_exhaustive()
    }
}

/// Why a source's files can't be read. The caller adds which entry and what happens next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    /// The folder of the initramfs can't be opened.
    #[error("source {folder}: {cause}; it is a folder of the initramfs (packed with --add)")]
    Folder {
        /// As in the config.
        folder: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Nothing has that name, as far as was looked.
    #[error("{wanted}: not found within {}.{} s; {}", waited.as_secs(), waited.subsec_millis() / 100, found_instead(seen, stuck, without_driver))]
    NotFound {
        /// What, as [`Wanted`] says it.
        wanted: String,
        /// How long was looked.
        waited: Duration,
        /// Every volume there is.
        seen: Vec<Volume>,
        /// Devices whose probe has not returned.
        stuck: Vec<String>,
        /// Disks and their controllers that no packed module is for.
        without_driver: Vec<String>,
    },
    /// It is there but its files can't be read.
    #[error("{wanted}: {volume}: {problem}")]
    Volume {
        /// What, as [`Wanted`] says it.
        wanted: String,
        /// Which one it is.
        volume: Box<Volume>,
        /// What is wrong with it.
        problem: VolumeProblem,
    },
    /// Any of these, where the kernel takes none of the packed modules.
    #[error("{error}; {doubt}")]
    Modules {
        /// What failed.
        error: Box<Self>,
        /// Why it takes none: [`Modules::doubt`].
        doubt: String,
    },
    /// No way to hear of devices.
    #[error("kernel uevents: {}", .0.desc())]
    Events(Errno),
}

impl ProbeError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Folder { cause, .. } => Cause::of(cause),
            Self::NotFound { .. } => Cause::Missing,
            Self::Volume { problem, .. } => problem.cause(),
            Self::Modules { error, .. } => error.cause(),
            Self::Events(_) => Cause::Machine,
        }
    }
}

fn found_instead(seen: &[Volume], stuck: &[String], without_driver: &[String]) -> String {
    let list = |volumes: &[Volume]| volumes.iter().map(Volume::to_string).collect::<Vec<_>>().join(", ");
    let mut text = if seen.is_empty() {
        "no disk was seen".to_owned()
    } else {
        format!("seen: {}", list(seen))
    };
    if !stuck.is_empty() {
        text.push_str("; never answered: ");
        text.push_str(&stuck.join(", "));
    }
    if !without_driver.is_empty() {
        text.push_str("; no module packed for: ");
        text.push_str(&without_driver.join(", "));
        text.push_str(" (mkinitramfs --module)");
    }
    text
}

/// Finds `source` and makes its files readable.
///
/// # Errors
/// See [`ProbeError`]. Nothing is mounted then.
pub(crate) fn open_source(
    source: &Source,
    index: &Index,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Opened, ProbeError> {
    if let Source::Initramfs(folder) = source {
        let tree = DirTree::new(Path::new(folder)).map_err(|cause| ProbeError::Folder {
            folder: folder.clone(),
            cause,
        })?;
        return Ok(Opened {
            tree: Box::new(tree),
            describe: format!("initramfs {folder}"),
            unfinished: Vec::new(),
            has_state: false,
        });
    }
    open_device(Wanted::Source(source), index, deadline, caller)
}

/// Says besides why the kernel takes none of the packed modules, where that is so.
fn open_device(
    wanted: Wanted<'_>,
    index: &Index,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Opened, ProbeError> {
    let mut modules = Modules::new(index);
    open_found(wanted, &mut modules, deadline, caller).map_err(|error| match modules.doubt() {
        Some(doubt) => ProbeError::Modules {
            error: Box::new(error),
            doubt,
        },
        None => error,
    })
}

fn open_found(
    wanted: Wanted<'_>,
    modules: &mut Modules<'_>,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Opened, ProbeError> {
    let mut search = Search::begin(Path::new("/sys"), Path::new("/dev"), modules, caller)?;
    let volume = search.find(wanted, deadline)?;
    let has_state = search.sees(Wanted::State(&[]));
    let unfinished = search.unfinished();
    let filesystems = match wanted {
        Wanted::Source(source) => volume.filesystems(source),
        _ => volume.all_filesystems(),
    };
    match mounting::open(&volume, &filesystems, modules, caller.say) {
        Ok(tree) => Ok(Opened {
            tree,
            describe: volume.to_string(),
            unfinished,
            has_state,
        }),
        Err(problem) => Err(ProbeError::Volume {
            wanted: wanted.to_string(),
            volume: Box::new(volume),
            problem,
        }),
    }
}

/// Finds the partition with the state, but for those of the names in `but`: its name in `/dev`, and what is known of it for the
/// console.
///
/// # Errors
/// See [`ProbeError`].
pub(crate) fn find_state(
    but: &[String],
    index: &Index,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Volume, ProbeError> {
    let mut modules = Modules::new(index);
    let (sys, dev) = (Path::new("/sys"), Path::new("/dev"));
    Search::begin(sys, dev, &mut modules, caller)?.find(Wanted::State(but), deadline)
}

/// Every volume that shows itself up to the deadline.
///
/// # Errors
/// [`ProbeError::Events`].
pub(crate) fn find_volumes(
    index: &Index,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Vec<Volume>, ProbeError> {
    let mut modules = Modules::new(index);
    let (sys, dev) = (Path::new("/sys"), Path::new("/dev"));
    match Search::begin(sys, dev, &mut modules, caller)?.find(Wanted::Nothing, deadline) {
        Ok(volume) => Ok(vec![volume]),
        Err(ProbeError::NotFound { seen, .. }) => Ok(seen),
        Err(other) => Err(other),
    }
}

/// The same as [`open_source`] for the volume of this name in `/dev`, whatever file system it has.
///
/// # Errors
/// See [`ProbeError`]. Nothing is mounted then.
pub(crate) fn open_volume(
    name: &str,
    index: &Index,
    deadline: Instant,
    caller: &mut Caller<'_>,
) -> Result<Opened, ProbeError> {
    open_device(Wanted::Device(name), index, deadline, caller)
}

/// The state partitions of a running system, as it is: nothing is loaded or bound for them. With a GUID, those that have it: one,
/// unless a disk was copied. A disk that does not answer has none.
pub(crate) fn present_states(sys: &Path, dev: &Path, partuuid: Option<&str>) -> Vec<PathBuf> {
    let blocks = block::blocks(sys);
    let is_meant = |uuid: &str| partuuid.is_none_or(|wanted| wanted == uuid);
    let disks = blocks.iter().filter(|b| b.partition.is_none() && b.size != 0);
    disks
        .filter_map(|disk| {
            let until = Instant::now().checked_add(READ_SHARE)?;
            let remote = RemoteDevice::start(&dev.join(&disk.name), until).ok()?;
            let table = table::read(&remote, disk.sector, disk.bytes());
            remote.finish();
            Some((disk, table.ok()?.ok()??))
        })
        .flat_map(|(disk, table)| {
            let is_it = |b: &&block::Block| {
                table
                    .entry(b)
                    .is_some_and(|entry| entry.parttype.as_deref() == Some(STATE_TYPE) && is_meant(&entry.partuuid))
            };
            let found = volumes::partitions(&blocks, &disk.name).into_iter().filter(is_it);
            found.map(|b| dev.join(&b.name)).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn open(source: &Source) -> Result<Opened, ProbeError> {
        let caller = &mut Caller {
            seen: &mut None,
            say: &mut |_| (),
            known_late: &[],
            late: &mut |_| (),
        };
        open_source(source, &Index::default(), Instant::now(), caller)
    }

    #[test]
    fn a_folder_needs_no_devices() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("kernel"), "k").unwrap();
        let opened = open(&Source::Initramfs(dir.path().display().to_string())).unwrap();
        assert_eq!(opened.describe, format!("initramfs {}", dir.path().display()));
        let mut text = String::new();
        opened
            .tree
            .open("kernel")
            .unwrap()
            .reader
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "k");
        let absent = open(&Source::Initramfs("/no/such".into())).unwrap_err().to_string();
        assert!(
            absent.starts_with("source /no/such: No such file or directory"),
            "{absent}"
        );
    }

    #[test]
    fn what_was_seen_instead_is_named() {
        let error = ProbeError::NotFound {
            wanted: Wanted::Source(&Source::PartLabel("boot-x".into())).to_string(),
            waited: Duration::from_secs(10),
            seen: vec![Volume {
                name: "vda1".into(),
                partlabel: Some("efi".into()),
                partuuid: None,
                parttype: None,
                size: 0,
                sector: 512,
                state: volumes::State::Read(superblock::Signatures::default()),
            }],
            stuck: vec!["virtio virtio1".into()],
            without_driver: vec!["pci 0000:00:05.0 (pci:v…)".into()],
        };
        assert_eq!(
            error.to_string(),
            "source PARTLABEL=boot-x: not found within 10.0 s; seen: vda1 (no known file system PARTLABEL=efi); \
             never answered: virtio virtio1; no module packed for: pci 0000:00:05.0 (pci:v…) (mkinitramfs --module)"
        );
    }
}
