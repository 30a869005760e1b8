//! A volume's files, read by the kernel's own file system and without a byte written to the disk.
//!
//! The volume is made read-only and mounted like that. When that can't be, because its journal has to be replayed first
//! (only the kernel knows when and how), it is mounted on a device-mapper snapshot: the kernel replays there, and what it
//! writes stays in memory. A mount that leaves the journal out would hide what was synced before a power cut (T14).

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::Instant;

use config::paths;
use nix::errno::Errno;

use super::modules::Modules;
use super::superblock::FileSystem;
use super::tree::{DirTree, FileTree, FileTreeError, Listed, OpenFile};
use super::volumes::{State, Volume};
use crate::cause::Cause;
use crate::deadlines::{BUSY, BUSY_LOOK};
use crate::sys::block::set_read_only;
use crate::sys::dm::{Snapshot, SnapshotError};
use crate::sys::kernel_log::KernelLog;
use crate::sys::module::ModuleError;
use crate::sys::mount::{MountError, Mounted};

/// What a snapshot takes, by the names of their modules.
const SNAPSHOT_DRIVERS: [&str; 2] = ["dm_snapshot", "loop"];

/// Why the files of a volume that was found can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeProblem {
    /// Nothing that is known here.
    #[error("no file system that Cato reads (ext2, ext3, ext4, xfs, btrfs, vfat, exfat, squashfs, erofs)")]
    NoFileSystem,
    /// The volume's own text says why.
    #[error("can't be read")]
    Unreadable,
    /// The kernel has no such file system.
    #[error(
        "the service kernel has no {0} and the initramfs no module for it; pack it with `mkinitramfs --module {0}`, or build it into the kernel"
    )]
    NoDriver(&'static str),
    /// The same, though there is a module.
    #[error("the service kernel has no {0}, and did not take the module for it")]
    NotLoaded(&'static str),
    /// A module the file system needs is refused.
    #[error("{0}")]
    Module(ModuleError),
    /// The device can't be opened or made read-only.
    #[error("{0}")]
    Device(#[from] io::Error),
    /// The kernel could not mount it.
    #[error("{}", [&[error.to_string()], reasons.as_slice()].concat().join("; "))]
    Mount {
        /// What it said to the caller.
        error: MountError,
        /// What is known besides, and what it said in its log.
        reasons: Vec<String>,
    },
    /// It can be taken for two things, and is neither.
    #[error("{_0}; {_1}")]
    Neither(Box<Self>, Box<Self>),
    /// Its journal can't be replayed.
    #[error("not cleanly unmounted, and its journal can't be replayed in memory: {NO_SNAPSHOT}")]
    NoSnapshot,
    /// The same, though the kernel has all it takes.
    #[error("not cleanly unmounted, and its journal can't be replayed in memory: {0}")]
    Snapshot(#[from] SnapshotError),
    /// The same.
    #[error("not cleanly unmounted, and replaying its journal takes more than half of the free memory")]
    SnapshotFull,
}

impl VolumeProblem {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::NoFileSystem => Cause::Format,
            Self::Unreadable => Cause::Io,
            // Snapshots too: another entry's volume may need none.
            Self::NoDriver(_) | Self::NotLoaded(_) | Self::NoSnapshot | Self::Snapshot(_) => Cause::Missing,
            Self::Module(error) => error.cause(),
            Self::Device(error) => Cause::of(error),
            // mount(2) says EINVAL for whatever makes no sense to the file system.
            Self::Mount { error, .. } if error.cause == Errno::EINVAL => Cause::Format,
            Self::Mount { error, .. } => Cause::of(&error.cause.into()),
            Self::Neither(first, _) => first.cause(),
            Self::SnapshotFull => Cause::Memory,
        }
    }
}

/// Why not, and the remedy.
const NO_SNAPSHOT: &str = "the service kernel has no device-mapper snapshots; build it with CONFIG_DM_SNAPSHOT and \
                           CONFIG_BLK_DEV_LOOP, or pack their modules with `mkinitramfs --module dm_snapshot --module loop`";

/// Makes the files readable that are on `volume` in one of the `filesystems`, likeliest first. What can't be mounted is followed by what else it may be.
///
/// # Errors
/// See [`VolumeProblem`]. Nothing is mounted then.
pub(super) fn open(
    volume: &Volume,
    filesystems: &[&FileSystem],
    modules: &mut Modules<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<Box<dyn FileTree>, VolumeProblem> {
    if matches!(volume.state, State::Unreadable(_) | State::Silent | State::Empty) {
        return Err(VolumeProblem::Unreadable);
    }
    let mut problem = None;
    for fs in filesystems {
        if let Some(problem) = &problem {
            say(&format!("{volume}: {problem}; trying it as {}", fs.kind));
        }
        let next = match open_as(volume, fs, modules, say) {
            Ok(tree) => return Ok(tree),
            Err(next) => next,
        };
        problem = Some(match problem {
            None => next,
            Some(first) => VolumeProblem::Neither(Box::new(first), Box::new(next)),
        });
    }
    Err(problem.unwrap_or(VolumeProblem::NoFileSystem))
}

fn open_as(
    volume: &Volume,
    fs: &FileSystem,
    modules: &mut Modules<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<Box<dyn FileTree>, VolumeProblem> {
    let path = Path::new("/dev").join(&volume.name);
    // Belt: the mount options below are the braces. From here on the kernel itself writes nothing to it.
    set_read_only(&File::open(&path)?).map_err(io::Error::from)?;
    let driver = fs.kind.driver();
    load_filesystem(driver, modules, say)?;
    let misfit = fs.misfit(volume.size, volume.sector);
    if let Some(misfit) = &misfit {
        say(&format!("warning: {volume}: {misfit}"));
    }
    let disk = disk(&volume.name);
    // Of a snapshot, the kernel knows the name of the mapped device.
    let mut words = vec![
        volume.name.clone(),
        "(dm-".into(),
        "device dm-".into(),
        "SQUASHFS".into(),
    ];
    words.extend(disk);
    let log = KernelLog::from_now();
    let mounted = mount_or_replay(volume, fs, &path, modules, say).map_err(|problem| match problem {
        VolumeProblem::Mount { error, mut reasons } => {
            reasons.extend(misfit);
            reasons.extend(log.since(&words));
            VolumeProblem::Mount { error, reasons }
        }
        other => other,
    })?;
    Ok(Box::new(MountedTree {
        files: DirTree::new(mounted.target())?,
        _mounted: mounted,
        log: KernelLog::from_now(),
        words,
    }))
}

/// The disk of a partition: what the block layer names.
fn disk(name: &str) -> Option<String> {
    let path = fs::read_link(Path::new("/sys/class/block").join(name)).ok()?;
    let parent = path.parent()?.file_name()?.to_str()?;
    (parent != "block").then(|| parent.to_owned())
}

fn mount_or_replay(
    volume: &Volume,
    fs: &FileSystem,
    path: &Path,
    modules: &mut Modules<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<Mounted, VolumeProblem> {
    let driver = fs.kind.driver();
    let can_replay = SNAPSHOT_DRIVERS.iter().all(|name| modules.has(name));
    match mount(path, driver) {
        Ok(mounted) => {
            if fs.has_journal && !can_replay {
                say(&format!(
                    "warning: {volume}: after a power cut it could not be read: {NO_SNAPSHOT}"
                ));
            }
            Ok(mounted)
        }
        Err(error) if fs.has_journal && wants_replay(&error) => {
            say(&format!(
                "{volume}: not cleanly unmounted; its journal is replayed in memory"
            ));
            if !can_replay {
                return Err(VolumeProblem::NoSnapshot);
            }
            for name in SNAPSHOT_DRIVERS {
                modules.load(name, say);
            }
            let snapshot = Snapshot::of(path)?;
            match mount(snapshot.device(), driver) {
                Err(_) if snapshot.is_full() => Err(VolumeProblem::SnapshotFull),
                result => Ok(result?),
            }
        }
        Err(other) => Err(other.into()),
    }
}

impl From<MountError> for VolumeProblem {
    fn from(error: MountError) -> Self {
        let reasons = Vec::new();
        Self::Mount { error, reasons }
    }
}

/// Whether a mount failed because the journal can't be replayed on a device that takes no writes.
fn wants_replay(error: &MountError) -> bool {
    match error.cause {
        Errno::EROFS => true,
        // What btrfs says to it (fs/btrfs/disk-io.c, btrfs_replay_log).
        Errno::EIO => error.kind == "btrfs",
        _ => is_busy(error),
    }
}

/// Whether somebody else has the device.
fn is_busy(error: &MountError) -> bool {
    match error.cause {
        // A snapshot of an earlier worker may still hang on a disk that does not answer.
        Errno::EBUSY => true,
        // btrfs tries once more, for writing (fs/btrfs/super.c, btrfs_mount).
        Errno::EACCES => error.kind == "btrfs",
        _ => false,
    }
}

fn mount(device: &Path, driver: &'static str) -> Result<Mounted, MountError> {
    let options = match driver {
        // Instead of what the superblock says, which may be to panic.
        "ext4" => Some("errors=continue"),
        // An earlier snapshot of the same volume may not be gone yet.
        "xfs" => Some("nouuid"),
        _ => None,
    };
    let since = Instant::now();
    loop {
        match Mounted::read_only(device, Path::new(paths::VOLUME), driver, options) {
            Err(error) if is_busy(&error) && since.elapsed() < BUSY => thread::sleep(BUSY_LOOK),
            result => return result,
        }
    }
}

/// Makes sure that the kernel has the file system, with everything its module needs at mount time. What the kernel lists
/// decides: one that is built in needs no module, whatever becomes of those that are packed.
fn load_filesystem(
    driver: &'static str,
    modules: &mut Modules<'_>,
    say: &mut dyn FnMut(&str),
) -> Result<(), VolumeProblem> {
    let module = modules.index.for_filesystem(driver);
    if let Some(module) = module {
        modules.load(&module.name, say);
    }
    let registered = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let mut names = registered.lines().map(|l| l.trim_start_matches("nodev").trim());
    if names.any(|name| name == driver) {
        return Ok(());
    }
    Err(match module {
        Some(module) => modules
            .take_refusal(&module.name)
            .map_or(VolumeProblem::NotLoaded(driver), VolumeProblem::Module),
        None => VolumeProblem::NoDriver(driver),
    })
}

/// A mounted file system's files. Fields are dropped in this order: first the root, then the mount.
struct MountedTree {
    files: DirTree,
    _mounted: Mounted,
    /// Since the mount.
    log: KernelLog,
    /// What its lines have in them.
    words: Vec<String>,
}

impl FileTree for MountedTree {
    fn open(&self, path: &str) -> Result<OpenFile, FileTreeError> {
        self.files.open(path)
    }

    fn list(&self, path: &str) -> Result<Vec<Listed>, FileTreeError> {
        self.files.list(path)
    }

    fn kernel_said(&self) -> Vec<String> {
        self.log.since(&self.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::superblock::Signatures;
    use config::modules::Index;

    #[test]
    fn a_volume_without_file_system_or_driver_says_so() {
        let mut volume = Volume {
            name: "vda9".into(),
            partlabel: None,
            partuuid: None,
            parttype: None,
            size: 0,
            sector: 512,
            state: State::Read(Signatures::default()),
        };
        let problem = |v: &Volume| {
            let index = Index::default();
            open(v, &v.all_filesystems(), &mut Modules::new(&index), &mut |_| ())
                .err()
                .unwrap()
        };
        assert!(matches!(problem(&volume), VolumeProblem::NoFileSystem));
        volume.state = State::Unreadable("Input/output error".into());
        assert!(matches!(problem(&volume), VolumeProblem::Unreadable));
        let missing = load_filesystem("no_such_fs", &mut Modules::new(&Index::default()), &mut |_| ()).unwrap_err();
        assert!(
            missing.to_string().contains("mkinitramfs --module no_such_fs"),
            "{missing}"
        );
    }

    #[test]
    fn a_mount_that_wants_to_replay_is_known() {
        let wants = |kind, cause| {
            wants_replay(&MountError {
                kind,
                target: "/mnt".into(),
                cause,
            })
        };
        assert!(wants("ext4", Errno::EROFS) && wants("xfs", Errno::EBUSY) && wants("btrfs", Errno::EIO));
        assert!(wants("btrfs", Errno::EACCES) && !wants("ext4", Errno::EACCES));
        assert!(!wants("ext4", Errno::EIO) && !wants("btrfs", Errno::EINVAL));
    }
}
