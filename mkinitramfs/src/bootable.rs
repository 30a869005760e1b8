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
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initramfs => "initramfs",
            Self::Uki => "uki",
            Self::Esp => "esp",
            Self::Fit => "fit",
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

/// Whether these make sense together, before anything is built.
///
/// # Errors
/// Names the option that does not, and what to do.
pub fn check(kind: Kind, arch: Arch, has_kernel: bool, cmdline: &str, has_dtb: bool) -> Result<()> {
    ensure!(
        kind != Kind::Fit || arch == Arch::Arm64,
        "--output-kind fit is for U-Boot on arm64; on x86_64 take uki or esp"
    );
    ensure!(
        kind != Kind::Initramfs || !has_kernel,
        "--kernel goes into a uki, esp or fit: add --output-kind, or leave it out"
    );
    ensure!(
        matches!(kind, Kind::Uki | Kind::Esp) || cmdline.is_empty(),
        "--cmdline goes into a uki or esp; with --output-kind {kind}, the boot loader has the command line"
    );
    ensure!(
        kind == Kind::Fit || !has_dtb,
        "--dtb goes into a fit; with --output-kind {kind}, the firmware has the device tree"
    );
    Ok(())
}

/// Writes it to `output`.
///
/// # Errors
/// When a file can't be read or written, or the kernel is none that this firmware starts; what apt says, where the stub of EFI
/// is to be fetched.
pub fn write(
    workspace: &Path,
    kind: Kind,
    arch: Arch,
    kernel: Option<&ServiceKernel>,
    initramfs: &[u8],
    output: &Path,
) -> Result<()> {
    if kind == Kind::Initramfs {
        return put(output, initramfs);
    }
    let kernel = kernel.with_context(|| format!("--output-kind {kind} wants a --kernel"))?;
    let bytes = unpacked(&kernel.file)?;
    if kind == Kind::Fit {
        let dtb = kernel.dtb.as_ref().map(|file| read(file)).transpose()?;
        let parts = fit::Parts {
            kernel: &bytes,
            initramfs,
            dtb: dtb.as_deref(),
        };
        let image = fit::image(&parts).with_context(|| kernel.file.display().to_string())?;
        return put(output, &image);
    }
    let parts = uki::Parts {
        kernel: &bytes,
        release: &kernel.release,
        initramfs,
        cmdline: &kernel.cmdline,
    };
    let stub = uki::stub(workspace, arch)?;
    let image = uki::image(&stub, &parts).with_context(|| kernel.file.display().to_string())?;
    if kind == Kind::Uki {
        return put(output, &image);
    }
    // UEFI 3.5.1.1: what is started where nothing says what to start.
    let folder = output.join("EFI/BOOT");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    put(&folder.join(format!("BOOT{}.EFI", uki::efi_name(arch))), &image)
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
        let refused = |kind, arch, has_kernel, cmdline, has_dtb| {
            let error = check(kind, arch, has_kernel, cmdline, has_dtb).err();
            error.map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused(Kind::Esp, Arch::X86_64, true, "quiet", false), "");
        assert_eq!(refused(Kind::Fit, Arch::Arm64, true, "", true), "");
        assert!(refused(Kind::Fit, Arch::X86_64, true, "", false).contains("take uki or esp"));
        assert!(refused(Kind::Initramfs, Arch::X86_64, true, "", false).contains("add --output-kind"));
        assert!(refused(Kind::Fit, Arch::Arm64, true, "quiet", false).contains("the boot loader has the command line"));
        assert!(refused(Kind::Uki, Arch::Arm64, true, "", true).contains("--dtb goes into a fit"));
    }

    #[test]
    fn a_packed_kernel_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("k");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"MZ").unwrap();
        fs::write(&file, gzip.finish().unwrap()).unwrap();
        assert_eq!(unpacked(&file).unwrap(), b"MZ");
        let missing = write(&crate::workspace(), Kind::Uki, Arch::X86_64, None, b"", &file);
        assert_eq!(missing.unwrap_err().to_string(), "--output-kind uki wants a --kernel");
    }
}
