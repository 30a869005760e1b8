//! Disks, partitions, file systems: from a `source` in the config to a tree of files.
//!
//! Given a [`Source`] and a deadline; responsible for finding the volume it means on whatever bus it is, with no driver
//! loaded and no device bound that this boot does not need, and for reading it without ever writing to the disk.
//! Runs in the worker: everything here may take as long as the disk does, and PID 1 ends it at its own deadline.

pub mod devices;
pub mod ext4;
pub mod gpt;
mod search;
pub mod superblock;
pub mod tree;

pub mod volumes;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use config::Source;
use config::modules::Index;
use nix::errno::Errno;

use crate::cause::Cause;
use crate::sys::block::set_read_only;
use crate::sys::module::{self, ModuleError};
use crate::sys::mount::Mounted;
pub use crate::sys::mount::{MountError, mount_basics};
use search::Search;
pub use search::Unfinished;
pub use tree::{DirTree, OpenFile, Tree, TreeError};
use volumes::{State, Volume};

/// Where the source is mounted.
const MOUNT_POINT: &str = config::paths::VOLUME;

/// A source whose files can be read.
pub struct Opened {
    /// Its files.
    pub tree: Box<dyn Tree>,
    /// For the console: `vda2 (ext4 LABEL=… PARTLABEL=boot-a)`, or the folder.
    pub describe: String,
    /// Devices that were asked for on the way and are still being bound.
    pub unfinished: Vec<Unfinished>,
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
pub enum ProbeError {
    /// The folder of the initramfs can't be opened.
    #[error("source {folder}: {cause}; it is a folder of the initramfs (packed with --add)")]
    Folder {
        /// As in the config.
        folder: String,
        /// What the system said.
        cause: io::Error,
    },
    /// Nothing has that name, as far as was looked.
    #[error("source {wanted}: not found within {:.1} s; {}", waited.as_secs_f64(), found_instead(seen, stuck, without_driver))]
    NotFound {
        /// As in the config.
        wanted: Source,
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
    #[error("source {wanted}: {volume}: {problem}")]
    Volume {
        /// As in the config.
        wanted: Source,
        /// Which one it is.
        volume: Box<Volume>,
        /// What is wrong with it.
        problem: VolumeProblem,
    },
    /// No way to hear of devices.
    #[error("kernel uevents: {}", .0.desc())]
    Events(Errno),
}

impl ProbeError {
    /// Its kind.
    pub fn cause(&self) -> Cause {
        match self {
            Self::Folder { cause, .. } => Cause::of(cause),
            Self::NotFound { .. } => Cause::Missing,
            Self::Volume { problem, .. } => problem.cause(),
            Self::Events(errno) => Cause::of(&(*errno).into()),
        }
    }
}

/// Why the files of a volume that was found can't be read.
#[derive(Debug, thiserror::Error)]
pub enum VolumeProblem {
    /// Nothing that is known here.
    #[error("no file system that Cato reads (ext2, ext3, ext4, vfat, squashfs, erofs)")]
    NoFileSystem,
    /// The volume's own text says why.
    #[error("can't be read")]
    Unreadable,
    /// The kernel has no such file system.
    #[error(
        "the service kernel has no {0} and the initramfs no module for it; pack it with `mkinitramfs --module {0}`"
    )]
    NoDriver(&'static str),
    /// A module the file system needs is refused.
    #[error("{0}")]
    Module(#[from] ModuleError),
    /// The device can't be opened or made read-only.
    #[error("{0}")]
    Device(#[from] io::Error),
    /// The kernel could not mount it.
    #[error("{0}")]
    Mount(#[from] MountError),
    /// Its journal can't be replayed.
    #[error("{0}")]
    Replay(#[from] ext4::ReplayError),
}

impl VolumeProblem {
    /// Its kind.
    pub fn cause(&self) -> Cause {
        match self {
            Self::NoFileSystem => Cause::Format,
            Self::Unreadable => Cause::Io,
            Self::NoDriver(_) => Cause::Missing,
            Self::Module(error) => error.cause(),
            Self::Device(error) => Cause::of(error),
            // mount(2) says EINVAL for whatever makes no sense to the file system.
            Self::Mount(error) if error.cause == Errno::EINVAL => Cause::Format,
            Self::Mount(error) => Cause::of(&error.cause.into()),
            Self::Replay(error) => error.cause(),
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

/// Finds `source` and makes its files readable. `say` gets a line for everything out of the ordinary, `late` the name of
/// each device that did not answer in its time; `known_late` are those of earlier calls.
///
/// # Errors
/// See [`ProbeError`]. Nothing is mounted then.
pub fn open_source(
    source: &Source,
    index: &Index,
    deadline: Instant,
    say: &mut dyn FnMut(&str),
    known_late: &[String],
    late: &mut dyn FnMut(&str),
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
        });
    }
    let mut search = Search::begin(
        Path::new("/sys"),
        Path::new("/dev"),
        index,
        deadline,
        say,
        known_late,
        late,
    )?;
    let volume = search.find(source)?;
    let unfinished = search.unfinished();
    match open_volume(&volume, index, say) {
        Ok(tree) => Ok(Opened {
            tree,
            describe: volume.to_string(),
            unfinished,
        }),
        Err(problem) => Err(ProbeError::Volume {
            wanted: source.clone(),
            volume: Box::new(volume),
            problem,
        }),
    }
}

fn open_volume(volume: &Volume, index: &Index, say: &mut dyn FnMut(&str)) -> Result<Box<dyn Tree>, VolumeProblem> {
    let fs = match &volume.state {
        State::FileSystem(fs) => fs,
        State::Unknown => return Err(VolumeProblem::NoFileSystem),
        State::Unreadable(_) | State::Silent => return Err(VolumeProblem::Unreadable),
    };
    let path = Path::new("/dev").join(&volume.name);
    // Belt: the mount options below are the braces. From here on the kernel itself writes nothing to it.
    let device = File::open(&path)?;
    set_read_only(&device).map_err(io::Error::from)?;
    if fs.needs_recovery {
        say(&format!("{volume}: was not unmounted; its journal has to be replayed"));
        return Ok(Box::new(ext4::open(device, say)?));
    }
    let driver = fs.kind.driver();
    load_filesystem(driver, index)?;
    // The journal is clean: there is nothing in it to load.
    let options = (driver == "ext4").then_some("noload");
    let mounted = Mounted::read_only(&path, Path::new(MOUNT_POINT), driver, options)?;
    let files = DirTree::new(mounted.target())?;
    Ok(Box::new(MountedTree {
        files,
        _mounted: mounted,
    }))
}

/// Makes sure that the kernel has the file system, with everything its module needs at mount time.
fn load_filesystem(driver: &'static str, index: &Index) -> Result<(), VolumeProblem> {
    let registered = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let is_there = || {
        registered
            .lines()
            .any(|l| l.trim_start_matches("nodev").trim() == driver)
    };
    match index.for_filesystem(driver) {
        Some(module) => {
            for module in index.closure(&module.name) {
                module::load(module)?;
            }
            Ok(())
        }
        None if is_there() => Ok(()),
        None => Err(VolumeProblem::NoDriver(driver)),
    }
}

/// A mounted file system's files. Fields are dropped in this order: first the root, then the mount.
struct MountedTree {
    files: DirTree,
    _mounted: Mounted,
}

impl Tree for MountedTree {
    fn open(&self, path: &str) -> Result<OpenFile, TreeError> {
        self.files.open(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn open(source: &Source) -> Result<Opened, ProbeError> {
        open_source(source, &Index::default(), Instant::now(), &mut |_| (), &[], &mut |_| ())
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
            wanted: Source::PartLabel("boot-x".into()),
            waited: Duration::from_secs(10),
            seen: vec![Volume {
                name: "vda1".into(),
                partlabel: Some("efi".into()),
                partuuid: None,
                state: State::Unknown,
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

    #[test]
    fn a_volume_without_file_system_or_driver_says_so() {
        let mut volume = Volume {
            name: "vda9".into(),
            partlabel: None,
            partuuid: None,
            state: State::Unknown,
        };
        let problem = |v: &Volume| open_volume(v, &Index::default(), &mut |_| ()).err().unwrap();
        assert!(matches!(problem(&volume), VolumeProblem::NoFileSystem));
        volume.state = State::Unreadable("Input/output error".into());
        assert!(matches!(problem(&volume), VolumeProblem::Unreadable));
        let missing = load_filesystem("no_such_fs", &Index::default()).unwrap_err();
        assert!(
            missing.to_string().contains("mkinitramfs --module no_such_fs"),
            "{missing}"
        );
    }
}
