//! What is on the disk of each way: a partition the firmware starts from, and the main system's files on another one.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use mkinitramfs::apt::{self, Apt};
use mkinitramfs::bootable::{self, Kind, ServiceKernel};
use mkinitramfs::cpio::Entry;
use mkinitramfs::disk::image::partition;
use mkinitramfs::disk::{Disk, Files, Filesystem, Partition};
use mkinitramfs::progress::during;
use mkinitramfs::uki::efi_name;
use mkinitramfs::{Compress, Recipe, compress};
use stage::text::quoted;

use super::super::kexec_tools::KexecTools;
use super::super::payload::Payload;
use super::times::{SHELL_JUMP, SHELL_START};
use super::way::Way;
use crate::setup::Suite;
use crate::{loader, service, workspace};

/// All that any of them is made of.
#[derive(Debug)]
pub struct Parts<'p> {
    /// The instruction set.
    pub arch: Arch,
    /// Debian's service kernel, and where its modules are.
    pub debian: (&'p Path, &'p Path),
    /// The kernel made for the job.
    pub tuned: &'p Path,
    /// The main kernel as a boot loader wants it.
    pub main: Vec<u8>,
    /// The main system's initrd.
    pub payload: &'p Payload,
    /// The main kernel's command line.
    pub cmdline: &'p str,
    /// For those who do without Cato.
    pub kexec_tools: &'p KexecTools,
    /// How kexec-tools is told to load it.
    pub kexec_arguments: &'p str,
}

/// Writes the image of `way` below `folder` and returns its name.
pub fn write(parts: &Parts<'_>, way: Way, folder: &Path) -> Result<PathBuf> {
    let image = folder.join(format!("{}.img", way.key()));
    write_with(parts, way, folder, &image, (0, 0))?;
    if way == Way::KexecToolsTuned {
        // Its script is on the disk it tells the kernel of.
        let boot_a = place_of_boot_a(&image)?;
        write_with(parts, way, folder, &image, boot_a)?;
        ensure!(place_of_boot_a(&image)? == boot_a, "boot-a has moved");
    }
    Ok(image)
}

/// First sector and number of sectors of the partition with the main system.
fn place_of_boot_a(image: &Path) -> Result<(u64, u64)> {
    let bytes = partition(image, "boot-a")?;
    Ok((bytes.start / 512, (bytes.end - bytes.start) / 512))
}

fn write_with(parts: &Parts<'_>, way: Way, folder: &Path, image: &Path, boot_a_at: (u64, u64)) -> Result<()> {
    let arch = parts.arch;
    let mut partitions = Vec::new();
    match way {
        Way::Direct => {
            let initrd = &parts.payload.initrd_file;
            partitions.push(started(arch, parts.main.clone(), initrd, parts.cmdline)?);
        }
        Way::CatoDebian | Way::CatoTuned | Way::KexecToolsTuned => {
            let (kernel, initramfs, extra) = match way {
                Way::CatoDebian => (parts.debian.0, cato(parts, Some(parts.debian.1))?, ""),
                Way::CatoTuned => (parts.tuned, cato(parts, None)?, ""),
                _ => (parts.tuned, shell(parts, boot_a_at)?, SHELL),
            };
            let file = folder.join(format!("{}.initramfs", way.key()));
            fs::write(&file, initramfs)?;
            let cmdline = service::command_line(arch, &[extra]);
            partitions.push(started(arch, bootable::unpacked(kernel)?, &file, &cmdline)?);
            partitions.push(boot_a(parts));
        }
        Way::CatoTunedImage => {
            partitions.push(one_file(parts, folder)?);
            partitions.push(boot_a(parts));
        }
    }
    let disk = Disk {
        partitions,
        ..Disk::default()
    };
    disk.write(image)
}

/// A partition from which the firmware starts a kernel: U-Boot from ext4, UEFI from FAT.
fn started(arch: Arch, kernel: Vec<u8>, initramfs: &Path, cmdline: &str) -> Result<Partition> {
    Ok(match arch {
        Arch::Arm64 => loader::partition(
            "SERVICE",
            Filesystem::Ext4,
            loader::extlinux(kernel, initramfs, cmdline),
        ),
        Arch::X86_64 => loader::partition(
            "ESP",
            Filesystem::Vfat,
            loader::systemd_boot(kernel, initramfs, cmdline)?,
        ),
    })
}

fn boot_a(parts: &Parts<'_>) -> Partition {
    let files = Files::new()
        .with_bytes("kernel", parts.main.clone())
        .with_file("initrd", &parts.payload.initrd_file);
    Partition::new("boot-a", Filesystem::Ext4, files)
}

/// A FIT or a UKI.
fn one_file(parts: &Parts<'_>, folder: &Path) -> Result<Partition> {
    let arch = parts.arch;
    let kernel = ServiceKernel {
        file: parts.tuned.to_owned(),
        release: String::new(),
        cmdline: service::command_line(arch, &[]),
        dtb: None,
    };
    let kind = match arch {
        Arch::Arm64 => Kind::Fit,
        Arch::X86_64 => Kind::Uki,
    };
    let made = folder.join(kind.to_string());
    let initramfs = cato(parts, None)?;
    let own = bootable::Parts {
        arch,
        kernel: Some(&kernel),
        initramfs: &initramfs,
        disk: &mkinitramfs::whole_disk::Plan::default(),
    };
    bootable::write(&workspace::root(), kind, &own, &made)?;
    Ok(match arch {
        Arch::Arm64 => loader::partition("SERVICE", Filesystem::Ext4, loader::fit(&made, &kernel.cmdline)),
        Arch::X86_64 => {
            let name = format!("EFI/BOOT/BOOT{}.EFI", efi_name(arch));
            loader::partition("ESP", Filesystem::Vfat, Files::new().with_file(&name, made))
        }
    })
}

/// Cato's initramfs.
fn cato(parts: &Parts<'_>, modules: Option<&Path>) -> Result<Vec<u8>> {
    let recipe = Recipe {
        arch: parts.arch,
        config_text: format!(
            "version = 1\norder = [\"main\"]\n\n[console]\ncountdown = 0\nretry = 60\n\n[entry.main]\n\
             source = \"PARTLABEL=boot-a\"\nkernel = \"kernel\"\ninitrd = [\"initrd\"]\ncmdline = {}\n",
            quoted(parts.cmdline)
        ),
        modules: modules.map(Path::to_owned),
        module_names: Vec::new(),
        add: Vec::new(),
        compress: Compress::default(),
    };
    Ok(mkinitramfs::pack(&workspace::root(), &recipe)?.bytes)
}

/// How the kernel starts the script: it need not know scripts.
const SHELL: &str = "rdinit=/bin/busybox -- sh /boot.sh";

/// An initramfs as one would write it without Cato. The kernel reads no partition tables, so it is told where the partition is.
fn shell(parts: &Parts<'_>, (first, sectors): (u64, u64)) -> Result<Vec<u8>> {
    let script = format!(
        "b=/bin/busybox\n$b mount -t proc proc /proc\n$b mount -t sysfs sysfs /sys\n$b mount -t devtmpfs devtmpfs /dev\n\
         echo '{SHELL_START}'\nwhile ! [ -b /dev/vda ]; do $b usleep 10000; done\n\
         /bin/addpart /dev/vda 2 {first} {sectors}\n\
         $b mount -t ext4 -o ro /dev/vda2 /mnt\n\
         {} {} -l /mnt/kernel --initrd=/mnt/initrd --command-line='{}'\n\
         $b umount /mnt\necho '{SHELL_JUMP}'\n{} -e\n",
        guest_bench::KEXEC,
        parts.kexec_arguments,
        parts.cmdline,
        guest_bench::KEXEC
    );
    let mut entries: Vec<Entry> = ["/proc", "/sys", "/dev", "/mnt"].map(Entry::dir).into();
    entries.push(Entry::char("/dev/console", 5, 1));
    entries.push(Entry::file("/boot.sh", script));
    for (name, package) in [("busybox", "busybox-static"), ("addpart", "util-linux")] {
        let program = program(parts.arch, package, name)?;
        entries.push(Entry::program(&format!("/bin/{name}"), program));
    }
    entries.extend(parts.kexec_tools.entries.iter().cloned());
    compress(&mkinitramfs::archive(entries)?, Compress::default())
}

/// A program of Debian's, fetched once.
fn program(arch: Arch, package: &str, name: &str) -> Result<Vec<u8>> {
    let file = workspace::target("bench").join(format!("{name}-{arch}"));
    if !file.exists() {
        during(&format!("fetching Debian's {package} for {arch}"), || {
            let state = tempfile::tempdir()?;
            let root = state.path().join("root");
            for deb in Apt::open(state.path(), &Suite::Bookworm.to_string(), arch)?.download(&[package])? {
                apt::unpack(&deb, &root)?;
            }
            let found = ["bin", "usr/bin"].map(|folder| root.join(folder).join(name));
            let found = found
                .iter()
                .find(|path| path.exists())
                .with_context(|| format!("{package} holds no {name}"))?;
            let whole = file.with_extension("whole");
            fs::copy(found, &whole)?;
            fs::rename(whole, &file)?;
            anyhow::Ok(())
        })?;
    }
    fs::read(&file).with_context(|| file.display().to_string())
}
