//! Mounts: the kernel's own file systems, and the source of an entry.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::stat;

use super::child;
use crate::deadlines;

/// What mount(2) said.
#[derive(Debug, thiserror::Error)]
#[error("mount {kind} on {}: {}", target.display(), cause.desc())]
pub(crate) struct MountError {
    /// The file system's driver.
    pub kind: &'static str,
    /// Where.
    pub target: PathBuf,
    /// Why not.
    pub cause: Errno,
}

/// What user space needs from the kernel, each with its flags and options.
const BASICS: [(&str, &str, MsFlags, Option<&str>); 5] = [
    ("proc", "/proc", NOSUID_NODEV_NOEXEC, None),
    ("sysfs", "/sys", NOSUID_NODEV_NOEXEC, None),
    (
        "devtmpfs",
        "/dev",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        Some("mode=0755"),
    ),
    ("tmpfs", "/run", NOSUID_NODEV_NOEXEC, Some("mode=0755")),
    ("securityfs", SECURITY, NOSUID_NODEV_NOEXEC, None),
];

/// Made by kernels that have the file system, and by no one else.
const SECURITY: &str = "/sys/kernel/security";

const NOSUID_NODEV_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Mounts proc, sysfs, devtmpfs, a tmpfs on `/run` and, where the kernel has it, securityfs; leaves alone what is a mount point already.
/// None of them touches a device, so PID 1 may call it. Gives what could not be mounted; each of the others is.
pub(crate) fn mount_basics() -> Vec<MountError> {
    let mut problems = Vec::new();
    for (kind, target, flags, data) in BASICS {
        // The folder is in the initramfs; on another system it may be missing, and mount(2) says so.
        let _ = std::fs::create_dir(target);
        if is_mount_point(Path::new(target)) {
            continue;
        }
        match mount(Some(kind), target, Some(kind), flags, data) {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(Errno::ENOENT) if target == SECURITY => {}
            Err(cause) => problems.push(MountError {
                kind,
                target: target.into(),
                cause,
            }),
        }
    }
    problems
}

/// Where [`mount_pstore`] puts it.
pub(crate) const PSTORE: &str = "/sys/fs/pstore";

/// Mounts what earlier kernels left behind (Documentation/admin-guide/pstore-blk.rst, ramoops.rst). For a child: firmware may be
/// asked.
pub(crate) fn mount_pstore() {
    if !is_mount_point(Path::new(PSTORE)) {
        // A kernel without pstore has no such folder, and then nothing was left.
        let _ = mount(
            Some("pstore"),
            PSTORE,
            Some("pstore"),
            NOSUID_NODEV_NOEXEC,
            None::<&str>,
        );
    }
}

fn is_mount_point(target: &Path) -> bool {
    let above = target.parent().map(stat);
    matches!((stat(target), above), (Ok(there), Some(Ok(above))) if there.st_dev != above.st_dev)
}

/// A mounted source. It stays mounted, read-only, which harms nobody: with its disk dead, unmounting would hang.
#[derive(Debug)]
pub(crate) struct Mounted {
    target: PathBuf,
}

impl Mounted {
    /// Mounts `device` on `target`, read-only. What an earlier worker left there is detached first.
    ///
    /// # Errors
    /// What mount(2) says.
    pub(crate) fn read_only(
        device: &Path,
        target: &Path,
        kind: &'static str,
        options: Option<&str>,
    ) -> Result<Self, MountError> {
        child::detach(target, deadlines::DETACH).map_err(|cause| MountError {
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
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }
}
