//! A Debian system as a user would have it: kernel, initramfs-tools' initramfs, and a root file system that systemd
//! brings up to a login prompt.
//!
//! Given Debian's packages; responsible for an installation in two stages, as debootstrap's: here they are unpacked
//! and entered in dpkg's database, then a virtual machine of their architecture runs their own scripts. Nothing runs
//! on the host, so it may be of another architecture, and its user need not be root.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use mkinitramfs::apt::{self, Apt};
use mkinitramfs::cpio::Entry;
use mkinitramfs::modules::ModuleTree;

use crate::board::board;
use crate::machine::{DirectKernel, Drive, Machine};
use crate::setup::{Kernel, Suite, kernels};
use crate::vm::{Vm, Watch};
use crate::workspace;
use mkinitramfs::disk::Files;
use mkinitramfs::disk::tools::{output, run, tool};

/// The release that is installed.
pub const SUITE: Suite = Suite::Trixie;

/// root's password.
pub const PASSWORD: &str = "cato";

/// The partition it mounts as its root, by its `/etc/fstab` and by the command line it wants.
pub const PARTLABEL: &str = "root-a";

/// What is installed besides the essential packages and the kernel, without what they only recommend.
const PACKAGES: &[&str] = &[
    "systemd-sysv",
    "udev",
    "login",
    "passwd",
    "e2fsprogs",
    "initramfs-tools",
    "zstd",
];

/// What an update through RAUC takes, `rauc bundle` and the key of its bundles among it.
const RAUC: &[&str] = &["rauc", "rauc-service", "squashfs-tools", "openssl"];

/// How long the second stage may take: several times what it takes on two CPUs that have nothing else to do.
const LIMIT: Duration = Duration::from_mins(15);

/// Room in the root file system beyond what is unpacked: the initramfs and the scratch files of its making.
const SPARE_MIB: u64 = 320;

/// An installed system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Debian {
    /// Its root file system, ext4. `/vmlinuz` and `/initrd.img` in it are the links that Debian keeps.
    pub image: PathBuf,
    /// Its kernel's release, as `uname -r` prints it.
    pub release: String,
}

/// The system for an architecture, installed if it is not there: below `target/debian/`.
pub fn installed(arch: Arch) -> Result<Debian> {
    cached(arch, "", |folder| install(folder, arch))
}

/// The same with RAUC and what makes a bundle; see `rauc.sh`.
pub fn with_rauc(arch: Arch) -> Result<Debian> {
    let base = installed(arch)?;
    cached(arch, "-rauc", |folder| {
        add(folder, arch, &base, RAUC, include_str!("debian/rauc.sh"))
    })
}

/// The system in a folder of its own, made by `make` if it is not there.
fn cached(arch: Arch, variant: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Debian> {
    let all = workspace::target("debian");
    let folder = all.join(format!("{SUITE}-{}{variant}", board(arch).debian));
    if let Some(debian) = there(&folder) {
        return Ok(debian);
    }
    fs::create_dir_all(&all)?;
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    if let Some(debian) = there(&folder) {
        return Ok(debian);
    }
    println!("installing Debian {SUITE}{variant} for {arch}, which takes some minutes ...");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    make(&folder).with_context(|| format!("can't install Debian {SUITE} for {arch} in {}", folder.display()))?;
    there(&folder).with_context(|| format!("{} is incomplete although it was just made", folder.display()))
}

fn there(folder: &Path) -> Option<Debian> {
    // Written last, so the image is whole.
    let release = fs::read_to_string(folder.join("release")).ok()?.trim().to_owned();
    let image = folder.join("root.img");
    image.exists().then_some(Debian { image, release })
}

fn install(folder: &Path, arch: Arch) -> Result<()> {
    let image = folder.join("root.img");
    let state = folder.join("apt");
    let apt = Apt::open(&state, &SUITE.to_string(), arch)?;
    let kernel = format!("linux-image-{}", board(arch).debian);
    let mut wanted = vec!["?essential", kernel.as_str()];
    wanted.extend(PACKAGES);
    let debs = apt.download_with_dependencies(&wanted)?;

    let root = folder.join("root");
    first_stage(&debs, &root, folder)?;
    let mib = unpacked_mib(&root)? + SPARE_MIB;
    run(owner_root("mke2fs")
        .args("-q -F -t ext4 -m 0 -L root -E root_owner=0:0 -d".split(' '))
        .args([&root, &image])
        .arg(format!("{mib}M")))?;

    let kernel = kernel_in(&root, arch)?;
    second_stage(&apt, &kernel, folder)?;
    for scratch in [&state, &root] {
        fs::remove_dir_all(scratch)?;
    }
    fs::write(folder.join("release"), format!("{}\n", kernel.version))?;
    Ok(())
}

/// Adds packages to an installed system: its own dpkg installs them in the second stage.
fn add(folder: &Path, arch: Arch, base: &Debian, packages: &[&str], setup: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    let image = folder.join("root.img");
    fs::copy(&base.image, &image)?;
    let status = folder.join("status");
    run(tool("debugfs")
        .arg("-R")
        .arg(format!("dump /var/lib/dpkg/status \"{}\"", status.display()))
        .arg(&image))?;
    let state = folder.join("apt");
    let apt = Apt::open(&state, &SUITE.to_string(), arch)?.with_installed(&status);
    let mut files = Files::new().with_bytes("setup", setup);
    for deb in apt.download_with_dependencies(packages)? {
        let name = deb.file_name().context("a package without a name")?;
        files = files.with_file(&format!("debs/{}", name.to_string_lossy()), &deb);
    }
    files.put_into(&image, 0)?;
    second_stage(&apt, &kernels::kernel(arch, SUITE)?, folder)?;
    fs::remove_dir_all(&state)?;
    fs::write(folder.join("release"), format!("{}\n", base.release))?;
    Ok(())
}

/// Unpacks the packages below `root` and enters them in dpkg's database as unpacked.
fn first_stage(debs: &[PathBuf], root: &Path, folder: &Path) -> Result<()> {
    let dpkg = root.join("var/lib/dpkg");
    let info = dpkg.join("info");
    fs::create_dir_all(&info)?;
    for dir in ["updates", "triggers"] {
        fs::create_dir_all(dpkg.join(dir))?;
    }
    // The merged /usr comes first: packages are unpacked through these links.
    for dir in ["bin", "sbin", "lib", "lib64"] {
        fs::create_dir_all(root.join("usr").join(dir))?;
        symlink(format!("usr/{dir}"), root.join(dir))?;
    }
    let mut status = File::create(dpkg.join("status"))?;
    fs::write(dpkg.join("available"), "")?;
    // The database's layout in which a `Multi-Arch: same` package's files carry its architecture.
    fs::write(info.join("format"), "1\n")?;
    for deb in debs {
        let control = tempfile::tempdir_in(folder)?;
        run(tool("dpkg-deb").arg("-e").args([deb.as_path(), control.path()]))?;
        let text = fs::read_to_string(control.path().join("control"))?;
        let name = info_name(&text).with_context(|| format!("{}: its control file names no package", deb.display()))?;
        let files = output(tool("dpkg-deb").arg("-X").args([deb.as_path(), root]))?;
        let list: String = files.lines().map(listed).collect();
        fs::write(info.join(format!("{name}.list")), list)?;
        for entry in fs::read_dir(control.path())? {
            let file = entry?.file_name();
            if file != "control" {
                let file = file.to_string_lossy();
                // With its mode: scripts stay programs.
                fs::copy(control.path().join(&*file), info.join(format!("{name}.{file}")))?;
            }
        }
        writeln!(status, "{}", unpacked_stanza(&text))?;
    }
    fs::write(
        root.join("etc/fstab"),
        format!("PARTLABEL={PARTLABEL} / ext4 errors=remount-ro 0 1\n"),
    )?;
    fs::write(root.join("etc/hostname"), "debian\n")?;
    fs::write(root.join("setup"), include_str!("debian/setup.sh"))?;
    Ok(())
}

/// The kernel whose package was unpacked below `root`.
fn kernel_in(root: &Path, arch: Arch) -> Result<Kernel> {
    let modules = root.join("usr/lib/modules");
    let mut versions = fs::read_dir(&modules).with_context(|| modules.display().to_string())?;
    let version = versions.next().context("no kernel was unpacked")??.file_name();
    let version = version.to_string_lossy().into_owned();
    Ok(Kernel {
        arch,
        suite: SUITE,
        image: root.join(format!("boot/vmlinuz-{version}")),
        modules: modules.join(&version),
        version,
    })
}

/// A package's name in dpkg's `info` folder.
fn info_name(control: &str) -> Option<String> {
    let field = |name: &str| {
        let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
        control.lines().find_map(value)
    };
    let package = field("Package")?;
    match field("Multi-Arch").as_deref() {
        Some("same") => Some(format!("{package}:{}", field("Architecture")?)),
        _ => Some(package),
    }
}

/// A control file as dpkg's `status` has it for a package that is not configured yet.
fn unpacked_stanza(control: &str) -> String {
    format!("Status: install ok unpacked\n{}\n", control.trim_end())
}

/// A path as `dpkg-deb -X` prints it, `./usr/bin/`, as a line of dpkg's file lists.
fn listed(path: &str) -> String {
    let path = path.strip_prefix('.').unwrap_or(path).trim_end_matches('/');
    format!("{}\n", if path.is_empty() { "/." } else { path })
}

/// Whole MiB below `root`, each file and folder rounded up to blocks.
fn unpacked_mib(root: &Path) -> Result<u64> {
    let mut bytes = 0_u64;
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let about = entry.metadata()?;
            bytes += about.len().next_multiple_of(4096);
            if about.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes.div_ceil(1 << 20))
}

/// A tool that sees its user's files as root's.
fn owner_root(program: &str) -> std::process::Command {
    if nix::unistd::geteuid().is_root() {
        return tool(program);
    }
    let mut command = tool("unshare");
    command.args(["--map-root-user", program]);
    command
}

/// The initramfs of the machine for the second stage: Debian's kernel has neither virtio nor ext4 built in.
fn service(kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let names = ["virtio_pci", "virtio_blk", "ext4"].map(str::to_owned);
    let modules = ModuleTree::open(&kernel.modules, kernel.arch)?.resolve(&names)?;
    let insmod: Vec<String> = modules
        .files
        .iter()
        .map(|(path, _)| format!("$B insmod {path}"))
        .collect();
    let init = include_str!("debian/init.sh").replace("\nINSMOD\n", &format!("\n{}\n", insmod.join("\n")));
    let program = ["usr/bin/busybox", "bin/busybox"]
        .iter()
        .map(|path| busybox.join(path))
        .find(|path| path.is_file())
        .context("busybox-static holds no busybox")?;
    let mut entries = vec![
        Entry::program("/init", init),
        Entry::program("/bin/busybox", fs::read(program)?),
        Entry::char("/dev/console", 5, 1),
    ];
    entries.extend(["/proc", "/sys", "/root"].map(Entry::dir));
    entries.extend(modules.files.into_iter().map(|(path, bytes)| Entry::file(&path, bytes)));
    mkinitramfs::archive(entries)
}

/// Runs the packages' own scripts, in a machine of their architecture.
fn second_stage(apt: &Apt, kernel: &Kernel, folder: &Path) -> Result<()> {
    let busybox = folder.join("busybox");
    for deb in apt.download(&["busybox-static"])? {
        apt::unpack(&deb, &busybox)?;
    }
    let initramfs = folder.join("initramfs");
    fs::write(&initramfs, service(kernel, &busybox)?)?;
    fs::remove_dir_all(&busybox)?;
    let image = folder.join("root.img");
    let machine = Machine {
        kernel: Some(DirectKernel {
            kernel: kernel.image.clone(),
            initrd: Some(initramfs),
            cmdline: format!("{} panic=-1", board(kernel.arch).console),
        }),
        drives: vec![Drive::raw(&image)],
        ..Machine::new(kernel.arch)
    };
    let watch = Watch {
        print: false,
        log: Some(folder.join("setup.log")),
    };
    let mut vm = Vm::start(&machine, LIMIT, &watch)?;
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid("setup: failed")?;
    vm.wait_for("setup: done", LIMIT)?;
    let status = vm.wait_end(Duration::from_mins(1))?;
    ensure!(status.success(), "QEMU ended with {status}");
    run(tool("e2fsck").args(["-f", "-n"]).arg(&image)).context("the second stage left a damaged file system")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBC: &str = "Package: libc6\nArchitecture: arm64\nMulti-Arch: same\nDescription: C library\n more\n";

    #[test]
    fn packages_are_named_as_dpkg_names_them() {
        assert_eq!(info_name(LIBC).unwrap(), "libc6:arm64");
        assert_eq!(
            info_name("Package: dash\nMulti-Arch: foreign\nArchitecture: arm64\n").unwrap(),
            "dash"
        );
        assert_eq!(info_name("Architecture: all\n"), None);
    }

    #[test]
    fn a_stanza_is_one_paragraph() {
        let status = format!("{}\n{}\n", unpacked_stanza(LIBC), unpacked_stanza("Package: dash\n"));
        assert_eq!(status.matches("\n\n").count(), 2);
        assert!(status.starts_with("Status: install ok unpacked\nPackage: libc6\n"));
    }

    #[test]
    fn lists_have_absolute_paths() {
        let list: String = ["./", "./usr/", "./usr/bin/sh"].into_iter().map(listed).collect();
        assert_eq!(list, "/.\n/usr\n/usr/bin/sh\n");
    }

    #[test]
    fn what_is_half_made_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("root.img"), "").unwrap();
        assert_eq!(there(folder.path()), None);
        fs::write(folder.path().join("release"), "6.12\n").unwrap();
        assert_eq!(there(folder.path()).unwrap().release, "6.12");
    }
}
