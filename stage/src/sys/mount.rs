//! Mounts: the kernel's own file systems, and the source of an entry.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::stat;

use super::child;

/// What mount(2) said.
#[derive(Debug, thiserror::Error)]
#[error("mount {kind} on {}: {}", target.display(), cause.desc())]
pub struct MountError {
    /// The file system's driver.
    pub kind: &'static str,
    /// Where.
    pub target: PathBuf,
    /// Why not.
    pub cause: Errno,
}

/// What user space needs from the kernel, each with its flags and options.
const BASICS: [(&str, &str, MsFlags, Option<&str>); 4] = [
    ("proc", "/proc", NOSUID_NODEV_NOEXEC, None),
    ("sysfs", "/sys", NOSUID_NODEV_NOEXEC, None),
    (
        "devtmpfs",
        "/dev",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        Some("mode=0755"),
    ),
    ("tmpfs", "/run", NOSUID_NODEV_NOEXEC, Some("mode=0755")),
];

const NOSUID_NODEV_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts proc, sysfs, devtmpfs and a tmpfs on `/run`; leaves alone what is a mount point already.
/// None of them touches a device, so PID 1 may call it. Gives what could not be mounted; each of the others is.
pub fn mount_basics() -> Vec<MountError> {
    let mut problems = Vec::new();
    for (kind, target, flags, data) in BASICS {
        // The folder is in the initramfs; on another system it may be missing, and mount(2) says so.
        let _ = std::fs::create_dir(target);
        if is_mount_point(Path::new(target)) {
            continue;
        }
        match mount(Some(kind), target, Some(kind), flags, data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(cause) => problems.push(MountError {
                kind,
                target: target.into(),
                cause,
            }),
        }
    }
    problems
}

fn is_mount_point(target: &Path) -> bool {
    matches!((stat(target), stat("/")), (Ok(there), Ok(root)) if there.st_dev != root.st_dev)
}

/// How long detaching what an earlier worker left may take. It is out of the way at once; what may take for ever is the
/// kernel waiting for the last reads of a disk that died.
const DETACH: Duration = Duration::from_secs(1);

/// A mounted source. It stays mounted, read-only, which harms nobody: with its disk dead, unmounting would hang.
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
}

impl Mounted {
    /// Mounts `device` on `target`, read-only. What an earlier worker left there is detached first.
    ///
    /// # Errors
    /// What mount(2) says.
    pub fn read_only(
        device: &Path,
        target: &Path,
        kind: &'static str,
        options: Option<&str>,
    ) -> Result<Self, MountError> {
        child::detach(target, DETACH).map_err(|cause| MountError {
            kind,
            target: target.to_owned(),
            cause,
        })?;
        let flags = MsFlags::MS_RDONLY | NOSUID_NODEV_NOEXEC;
        match mount(Some(device), target, Some(kind), flags, options) {
            Ok(()) => Ok(Self {
                target: target.to_owned(),
            }),
            Err(cause) => Err(MountError {
                kind,
                target: target.to_owned(),
                cause,
            }),
        }
    }

    /// Where it is.
    pub fn target(&self) -> &Path {
        &self.target
    }
}
