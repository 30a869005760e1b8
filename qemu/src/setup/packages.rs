//! The Debian packages `cargo qemu` stands on: which are missing, and getting them.
//!
//! A package counts as there when the file it is needed for is, so a machine that has the tools from elsewhere is fine.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Result, bail, ensure};
use config::Arch;
use mkinitramfs::apt;
use mkinitramfs::progress::during;

use crate::board::board;
use crate::machine::Firmware;

/// What is about to be done, as far as packages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Machines that will be started.
    pub arches: Vec<Arch>,
    /// Firmware they will be started with.
    pub firmware: Vec<Firmware>,
    /// Other file systems are made too, not just ext4 and FAT.
    pub images: bool,
    /// libFuzzer is built.
    pub compiler: bool,
}

impl Need {
    /// For every test of every day.
    pub fn everything() -> Self {
        Self {
            arches: Arch::ALL.into(),
            firmware: Firmware::ALL.into(),
            images: true,
            compiler: false,
        }
    }
}

/// Where a package's presence shows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Brings {
    Program(&'static str),
    File(PathBuf),
}

fn wanted(need: &Need) -> Vec<(&'static str, Brings)> {
    let mut list = vec![
        ("e2fsprogs", Brings::Program("mke2fs")),
        ("dosfstools", Brings::Program("mkfs.vfat")),
        ("mtools", Brings::Program("mcopy")),
    ];
    if need.images {
        list.push(("squashfs-tools", Brings::Program("mksquashfs")));
        list.push(("erofs-utils", Brings::Program("mkfs.erofs")));
        list.push(("exfatprogs", Brings::Program("mkfs.exfat")));
        list.push(("xfsprogs", Brings::Program("mkfs.xfs")));
        list.push(("btrfs-progs", Brings::Program("mkfs.btrfs")));
        list.push(("lrzsz", Brings::Program("sb")));
        list.push(("tmux", Brings::Program("tmux")));
    }
    if need.compiler {
        list.push(("g++", Brings::Program("c++")));
    }
    for arch in &need.arches {
        let board = board(*arch);
        let (qemu, edk2) = match arch {
            Arch::Arm64 => ("qemu-system-arm", "qemu-efi-aarch64"),
            Arch::X86_64 => ("qemu-system-x86", "ovmf"),
        };
        list.push((qemu, Brings::Program(board.qemu)));
        if need.firmware.contains(&Firmware::Uefi) {
            list.push((edk2, Brings::File(board.uefi.into())));
        }
        if let (true, Some(u_boot)) = (need.firmware.contains(&Firmware::UBoot), board.u_boot) {
            list.push(("u-boot-qemu", Brings::File(u_boot.into())));
        }
    }
    list
}

/// What builds Cato for the boards. A Rust with the targets installed needs nothing; else Debian's does it (design §6).
fn toolchain(rust: &Path) -> Vec<(&'static str, Brings)> {
    let targets = Arch::ALL.iter().flat_map(|arch| {
        use mkinitramfs::cross::{TargetKind, target};
        [target(*arch, TargetKind::Musl), target(*arch, TargetKind::Bare)]
    });
    if targets
        .into_iter()
        .all(|target| rust.join("lib/rustlib").join(target).join("lib").is_dir())
    {
        return Vec::new();
    }
    vec![
        ("rustc-web", Brings::File("/var/lib/dpkg/info/rustc-web.list".into())),
        ("cargo-web", Brings::File("/var/lib/dpkg/info/cargo-web.list".into())),
        (
            "rust-web-src",
            Brings::File("/var/lib/dpkg/info/rust-web-src.list".into()),
        ),
        ("lld", Brings::Program("ld.lld")),
        ("musl-tools", Brings::File("/usr/lib/x86_64-linux-musl/crt1.o".into())),
    ]
}

/// The compiler's own folder.
fn sysroot() -> PathBuf {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .stderr(Stdio::null())
        .output();
    output
        .map(|o| String::from_utf8_lossy(&o.stdout).trim().into())
        .unwrap_or_default()
}

fn missing(list: Vec<(&'static str, Brings)>, folders: &[PathBuf]) -> Vec<&'static str> {
    let mut names: Vec<_> = list
        .into_iter()
        .filter(|(_, brings)| match brings {
            Brings::Program(name) => !folders.iter().any(|folder| folder.join(name).exists()),
            Brings::File(path) => !path.exists(),
        })
        .map(|(package, _)| package)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Where programs are looked for: `PATH`, and where a system administrator's are.
fn program_folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect()
}

/// Installs what is missing as root; for anyone else, an error with the one command that does.
pub fn ensure(need: &Need) -> Result<()> {
    let mut list = wanted(need);
    list.extend(toolchain(&sysroot()));
    let folders = program_folders();
    install(|| missing(list.clone(), &folders))
}

/// Installs what `missing` names, as [`ensure()`] does. One at a time.
pub fn install(missing: impl Fn() -> Vec<&'static str>) -> Result<()> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    let names = missing();
    if names.is_empty() {
        return Ok(());
    }
    let install = format!("apt-get install --no-install-recommends {}", names.join(" "));
    ensure!(
        program_folders().iter().any(|folder| folder.join("apt-get").exists()),
        "programs are missing; in Debian these packages bring them: {}",
        names.join(" ")
    );
    if !nix::unistd::geteuid().is_root() {
        bail!("some packages are missing; run this, then try again:\n\n  sudo {install}\n");
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&names);
    during(&format!("installing {}", names.join(" ")), || {
        // Lists may be missing (containers) or name packages that are gone.
        apt_get(&["update"])?;
        apt_get(&arguments)
    })?;
    let still = missing();
    ensure!(
        still.is_empty(),
        "packages are installed, but their files are missing: {}",
        still.join(" ")
    );
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("apt-get");
    command.args(["-q", "-oDPkg::Lock::Timeout=600"]).args(arguments);
    apt::run(command.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_asked_for() {
        let need = Need {
            arches: vec![Arch::X86_64],
            firmware: vec![Firmware::Direct],
            images: false,
            compiler: false,
        };
        let names = missing(wanted(&need), &[]);
        assert_eq!(names, ["dosfstools", "e2fsprogs", "mtools", "qemu-system-x86"]);
        let names: Vec<_> = wanted(&Need::everything()).into_iter().map(|(name, _)| name).collect();
        for name in [
            "u-boot-qemu",
            "ovmf",
            "qemu-efi-aarch64",
            "qemu-system-arm",
            "erofs-utils",
        ] {
            assert!(names.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_rust_with_all_targets_needs_no_other() {
        let rust = tempfile::tempdir().unwrap();
        for target in [
            "aarch64-unknown-linux-musl",
            "x86_64-unknown-linux-musl",
            "aarch64-unknown-none",
            "x86_64-unknown-none",
        ] {
            assert!(!toolchain(rust.path()).is_empty());
            std::fs::create_dir_all(rust.path().join("lib/rustlib").join(target).join("lib")).unwrap();
        }
        assert_eq!(toolchain(rust.path()), []);
    }

    #[test]
    fn a_tool_from_elsewhere_counts() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("mcopy"), "").unwrap();
        let list = vec![("mtools", Brings::Program("mcopy")), ("lld", Brings::Program("ld.lld"))];
        assert_eq!(missing(list, &[folder.path().to_owned()]), ["lld"]);
    }
}
