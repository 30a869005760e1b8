//! Debian's kernels, for both architectures and two suites, unpacked below `target/kernels/`.
//!
//! They come through an apt state of their own, so nothing on the host changes. A kernel that is there is never looked
//! up again: Debian's archive forgets point releases, so the suite is what is asked for and the version is what is recorded.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use config::Arch;
use mkinitramfs::apt::{self, Apt};
use mkinitramfs::progress::during;

use crate::board::board;
use crate::workspace;

/// A Debian release kernels are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// Debian 12, Linux 6.1.
    Bookworm,
    /// Debian 13, Linux 6.12.
    Trixie,
}

impl Suite {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// The kernel series it ships.
    pub fn series(self) -> &'static str {
        match self {
            Self::Bookworm => "6.1",
            Self::Trixie => "6.12",
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        })
    }
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|suite| s == suite.to_string() || s == suite.series())
            .ok_or_else(|| format!("unknown suite {s:?}: bookworm (6.1) or trixie (6.12)"))
    }
}

/// A kernel and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// What it runs on.
    pub arch: Arch,
    /// Where it comes from.
    pub suite: Suite,
    /// Its release, as `uname -r` prints it.
    pub version: String,
    /// `/boot/vmlinuz-VERSION`: an Image on arm64, a bzImage on x86_64.
    pub image: PathBuf,
    /// The folder with `kernel/`, `modules.builtin` and so on.
    pub modules: PathBuf,
}

/// The kernel of a suite, fetched if it is not there.
pub fn kernel(arch: Arch, suite: Suite) -> Result<Kernel> {
    let all = workspace::target("kernels");
    let folder = all.join(format!("{suite}-{}", board(arch).debian));
    if let Some(kernel) = there(&folder, arch, suite) {
        return Ok(kernel);
    }
    fs::create_dir_all(&all)?;
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    if let Some(kernel) = there(&folder, arch, suite) {
        return Ok(kernel);
    }
    during(&format!("fetching Debian's {arch} kernel of {suite}"), || {
        fetch(&folder, arch, suite)
    })
    .with_context(|| format!("can't fetch {suite}'s {arch} kernel into {}", folder.display()))?;
    there(&folder, arch, suite).with_context(|| format!("{} is incomplete although it was just made", folder.display()))
}

/// Debian's static busybox for `arch`, fetched if it is not there.
pub fn busybox(arch: Arch) -> Result<PathBuf> {
    let all = workspace::target("kernels");
    let folder = all.join(format!("busybox-{}", board(arch).debian));
    let program = folder.join("root/bin/busybox");
    fs::create_dir_all(&all)?;
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    if !program.exists() {
        let apt = Apt::open(&folder.join("apt"), &Suite::Bookworm.to_string(), arch)?;
        let fetched = folder.join("new");
        for deb in apt.download(&["busybox-static"])? {
            apt::unpack(&deb, &fetched)?;
        }
        fs::rename(fetched, folder.join("root"))?;
    }
    Ok(program)
}

fn there(folder: &Path, arch: Arch, suite: Suite) -> Option<Kernel> {
    // Written last, so what it names is whole.
    let version = fs::read_to_string(folder.join("version")).ok()?.trim().to_owned();
    let root = folder.join("root");
    let image = root.join(format!("boot/vmlinuz-{version}"));
    let modules = modules_of(&root, &version)?;
    image.exists().then_some(Kernel {
        arch,
        suite,
        version,
        image,
        modules,
    })
}

fn modules_of(root: &Path, version: &str) -> Option<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|dir| root.join(dir).join(version))
        .find(|dir| dir.is_dir())
}

fn fetch(folder: &Path, arch: Arch, suite: Suite) -> Result<()> {
    let debian = board(arch).debian;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let state = folder.join("apt");
    let apt = Apt::open(&state, &suite.to_string(), arch)?;
    let package = newest(&apt.field(&format!("linux-image-{debian}"), "Depends")?)?;
    let root = folder.join("root");
    for deb in apt.download(&[&package])? {
        apt::unpack(&deb, &root)?;
    }
    let version = package.strip_prefix("linux-image-").unwrap_or(&package);
    ensure!(
        modules_of(&root, version).is_some(),
        "{package} holds no modules for {version}"
    );
    // The lists and the package itself are three times the size of what is needed.
    fs::remove_dir_all(state)?;
    fs::write(folder.join("version"), format!("{version}\n"))?;
    Ok(())
}

/// The kernel package in a metapackage's `Depends`: `linux-image-6.1.0-56-arm64 (= 6.1.187-1)`.
fn newest(depends: &str) -> Result<String> {
    let mut packages = depends.split(',').filter_map(|one| one.split_whitespace().next());
    match packages.find(|name| name.starts_with("linux-image-")) {
        Some(package) => Ok(package.to_owned()),
        None => bail!("the metapackage depends on no kernel: {depends:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_read_back_by_name_and_series() {
        for suite in Suite::ALL {
            assert_eq!(suite.to_string().parse(), Ok(suite));
            assert_eq!(suite.series().parse(), Ok(suite));
        }
        assert!("sid".parse::<Suite>().unwrap_err().contains("trixie"));
    }

    #[test]
    fn the_metapackage_names_the_kernel() {
        assert_eq!(
            newest("linux-image-6.1.0-56-arm64 (= 6.1.187-1)").unwrap(),
            "linux-image-6.1.0-56-arm64"
        );
        assert_eq!(
            newest("kmod, linux-image-6.12.107+deb13-amd64").unwrap(),
            "linux-image-6.12.107+deb13-amd64"
        );
        assert!(newest("kmod").is_err());
    }

    #[test]
    fn a_kernel_is_there_only_when_all_of_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        let there = || there(folder.path(), Arch::Arm64, Suite::Trixie);
        fs::create_dir_all(root.join("usr/lib/modules/6.12")).unwrap();
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::write(root.join("boot/vmlinuz-6.12"), "x").unwrap();
        assert_eq!(there(), None, "the version is written last");
        fs::write(folder.path().join("version"), "6.12\n").unwrap();
        let kernel = there().unwrap();
        assert_eq!(kernel.modules, root.join("usr/lib/modules/6.12"));
        fs::remove_file(kernel.image).unwrap();
        assert_eq!(there(), None);
    }
}
