//! What firmware starts: the initramfs alone, or in one file or folder with a service kernel and its command line.
//!
//! Given an initramfs and a kernel; responsible for the form that the firmware wants.

use std::fmt;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;
use config::Arch;
use flate2::read::MultiGzDecoder;
use stage::machine::service::lacking;

use crate::whole_disk::{self, Plan};
use crate::{fit, uki};

/// Its form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// The archive: the boot loader has the kernel
    #[default]
    Initramfs,
    /// One EFI program with kernel, initramfs and command line, for UEFI and its boot loaders
    Uki,
    /// A folder with that program where UEFI looks by itself: for the first partition of a USB stick, FAT
    Esp,
    /// One file with kernel, initramfs and device tree, for U-Boot on arm64
    Fit,
    /// An image of a disk that starts by itself, with room for two main systems and their state
    Disk,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initramfs => "initramfs",
            Self::Uki => "uki",
            Self::Esp => "esp",
            Self::Fit => "fit",
            Self::Disk => "disk",
        })
    }
}

/// A service kernel and what it is told.
#[derive(Debug, Clone)]
pub struct ServiceKernel {
    /// An Image or a bzImage; a gzip of one is unpacked.
    pub file: PathBuf,
    /// As `uname -r` prints it; empty where it is not known.
    pub release: String,
    /// Its whole command line: see [`command_line`].
    pub cmdline: String,
    /// The board's device tree, for a FIT.
    pub dtb: Option<PathBuf>,
}

/// What Cato expects of a service kernel's command line and `own` does not say, then `own`, which may end in words for PID 1.
pub fn command_line(arch: Arch, own: &str) -> String {
    let mut all: Vec<&str> = lacking(arch, own).collect();
    all.extend(own.split_ascii_whitespace());
    all.join(" ")
}

/// Which kinds an option is for, and why it is for no other.
const ONLY_FOR: [(&str, &[Kind], &str); 5] = [
    (
        "--kernel",
        &[Kind::Uki, Kind::Esp, Kind::Fit, Kind::Disk],
        "the boot loader has the kernel",
    ),
    (
        "--cmdline",
        &[Kind::Uki, Kind::Esp, Kind::Disk],
        "the boot loader has the command line",
    ),
    ("--dtb", &[Kind::Fit], "the firmware has the device tree"),
    ("--files", &[Kind::Disk], "there is no boot-a and boot-b"),
    ("--boot-size", &[Kind::Disk], "there is no boot-a and boot-b"),
];

/// Whether these options make sense together, before anything is built.
///
/// # Errors
/// Names the option that does not, and what it is for.
pub fn check(kind: Kind, arch: Arch, given: &[&str]) -> Result<()> {
    ensure!(
        kind != Kind::Fit || arch == Arch::Arm64,
        "--output-kind fit is for U-Boot on arm64; on x86_64 take uki, esp or disk"
    );
    for (option, kinds, why) in ONLY_FOR {
        let names: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        ensure!(
            !given.contains(&option) || kinds.contains(&kind),
            "{option} is for --output-kind {}; with {kind}, {why}: leave it out",
            names.join(", ")
        );
    }
    Ok(())
}

/// All that one is made of.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'p> {
    /// What it runs on.
    pub arch: Arch,
    /// The service kernel; an initramfs has none.
    pub kernel: Option<&'p ServiceKernel>,
    /// The archive.
    pub initramfs: &'p [u8],
    /// The rest of a disk.
    pub disk: &'p Plan,
}

/// Writes it to `output`.
///
/// # Errors
/// When a file can't be read or written, or the kernel is none that this firmware starts; what apt says, where the stub of EFI
/// is to be fetched.
pub fn write(workspace: &Path, kind: Kind, parts: &Parts<'_>, output: &Path) -> Result<()> {
    let kernel = || {
        let kernel = parts.kernel;
        kernel.with_context(|| format!("--output-kind {kind} wants a --kernel"))
    };
    // UEFI 3.5.1.1: what is started where nothing says what to start.
    let efi_path = format!("EFI/BOOT/BOOT{}.EFI", uki::efi_name(parts.arch));
    match kind {
        Kind::Initramfs => put(output, parts.initramfs),
        Kind::Fit => put(output, &fit_image(kernel()?, parts.initramfs)?),
        Kind::Uki => put(output, &efi_program(workspace, parts, kernel()?)?),
        Kind::Esp => {
            let file = output.join(efi_path);
            let folder = file.parent().unwrap_or(output);
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            put(&file, &efi_program(workspace, parts, kernel()?)?)
        }
        Kind::Disk => {
            let program = efi_program(workspace, parts, kernel()?)?;
            whole_disk::write(&efi_path, &program, parts.disk, output)
        }
    }
}

fn fit_image(kernel: &ServiceKernel, initramfs: &[u8]) -> Result<Vec<u8>> {
    let bytes = unpacked(&kernel.file)?;
    let dtb = kernel.dtb.as_ref().map(|file| read(file)).transpose()?;
    let parts = fit::Parts {
        kernel: &bytes,
        initramfs,
        dtb: dtb.as_deref(),
    };
    fit::image(&parts).with_context(|| kernel.file.display().to_string())
}

fn efi_program(workspace: &Path, parts: &Parts<'_>, kernel: &ServiceKernel) -> Result<Vec<u8>> {
    let bytes = unpacked(&kernel.file)?;
    let stub = uki::stub(workspace, parts.arch)?;
    let parts = uki::Parts {
        kernel: &bytes,
        release: &kernel.release,
        initramfs: parts.initramfs,
        cmdline: &kernel.cmdline,
    };
    uki::image(&stub, &parts).with_context(|| kernel.file.display().to_string())
}

fn put(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| file.display().to_string())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| file.display().to_string())
}

/// Most bytes of a service kernel.
const MOST: u64 = 1 << 30;

/// A kernel as firmware wants it: Debian's arm64 kernels of old are packed with gzip.
///
/// # Errors
/// When it can't be read or unpacked.
pub fn unpacked(file: &Path) -> Result<Vec<u8>> {
    let bytes = read(file)?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return Ok(bytes);
    }
    let mut plain = Vec::new();
    let mut from = MultiGzDecoder::new(bytes.as_slice()).take(MOST + 1);
    from.read_to_end(&mut plain)
        .with_context(|| file.display().to_string())?;
    ensure!(
        u64::try_from(plain.len())? <= MOST,
        "{}: more than {MOST} bytes",
        file.display()
    );
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn the_users_words_stand() {
        let arm64 = command_line(Arch::Arm64, " console=ttyAMA0  panic=60 -- x");
        assert!(arm64.starts_with("nr_cpus=1 watchdog.stop_on_reboot=0 "), "{arm64}");
        assert!(arm64.ends_with("arm64.nolva console=ttyAMA0 panic=60 -- x"), "{arm64}");
        let x86 = command_line(Arch::X86_64, "nosmp");
        assert!(!x86.contains("nolva") && !x86.contains("nr_cpus"), "{x86}");
    }

    #[test]
    fn what_would_be_ignored_is_refused() {
        let refused = |kind, arch, given: &[&str]| {
            let error = check(kind, arch, given).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(Kind::Esp, Arch::X86_64, &["--kernel", "--cmdline"]), "");
        assert_eq!(refused(Kind::Fit, Arch::Arm64, &["--kernel", "--dtb"]), "");
        assert_eq!(refused(Kind::Disk, Arch::Arm64, &["--kernel", "--files"]), "");
        assert!(refused(Kind::Fit, Arch::X86_64, &[]).contains("take uki, esp or disk"));
        assert_eq!(
            refused(Kind::Initramfs, Arch::X86_64, &["--kernel"]),
            "--kernel is for --output-kind uki, esp, fit, disk; with initramfs, the boot loader has the kernel: leave it out"
        );
        assert!(refused(Kind::Fit, Arch::Arm64, &["--cmdline"]).contains("the boot loader has the command line"));
        assert!(refused(Kind::Uki, Arch::Arm64, &["--dtb"]).contains("the firmware has the device tree"));
        assert!(refused(Kind::Esp, Arch::Arm64, &["--files"]).contains("no boot-a"));
    }

    #[test]
    fn a_packed_kernel_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("k");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"MZ").unwrap();
        fs::write(&file, gzip.finish().unwrap()).unwrap();
        assert_eq!(unpacked(&file).unwrap(), b"MZ");
        let parts = Parts {
            arch: Arch::X86_64,
            kernel: None,
            initramfs: b"",
            disk: &Plan::default(),
        };
        let missing = write(&crate::workspace(), Kind::Uki, &parts, &file);
        assert_eq!(missing.unwrap_err().to_string(), "--output-kind uki wants a --kernel");
    }
}
