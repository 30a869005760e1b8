//! The programs that run inside: built for the machine they run on, and packed into the main system's initrd.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use config::Arch;
use mkinitramfs::cpio::Entry;
use mkinitramfs::cross::{self, TargetKind};

use crate::workspace;

/// The main system's PID 1 that says what it was booted with; see the crate `guest-report`.
pub fn report(arch: Arch) -> Result<PathBuf> {
    cross::build(
        &workspace::root(),
        "guest-report",
        "guest-report",
        arch,
        TargetKind::Musl,
        "release",
        &[],
    )
    .context("can't build the main system's report program")
}

/// PID 1 of a machine that writes to its disk until the power is cut; see `write.rs` in the crate `guest-report`.
pub fn write(arch: Arch) -> Result<PathBuf> {
    cross::build(
        &workspace::root(),
        "guest-report",
        "write",
        arch,
        TargetKind::Musl,
        "release",
        &[],
    )
    .context("can't build the guest that writes")
}

/// The service Linux's PID 1 of the bench, where that is not Cato itself; see the crate `guest-bench`.
pub fn bench(arch: Arch) -> Result<PathBuf> {
    cross::build(
        &workspace::root(),
        "guest-bench",
        "guest-bench",
        arch,
        TargetKind::Musl,
        "release",
        &[],
    )
    .context("can't build the bench's guest")
}

/// The kernel that only says how it was entered, as an ELF file; see the crate `guest-entry`.
pub fn entry(arch: Arch) -> Result<PathBuf> {
    cross::build(
        &workspace::root(),
        "guest-entry",
        "guest-entry",
        arch,
        TargetKind::Bare,
        // With the blob's, so that `core` is built once.
        "purgatory",
        &[],
    )
    .context("can't build the guest kernel")
}

/// `cato` as it is in the service initramfs.
pub fn cato(arch: Arch) -> Result<PathBuf> {
    cross::stage(&workspace::root(), arch).context("can't build cato")
}

/// Builds everything that a scenario may boot.
pub fn all() -> Result<()> {
    for arch in Arch::ALL {
        for build in [cato, report, entry] {
            build(arch)?;
        }
    }
    Ok(())
}

/// Writes an initrd whose PID 1 is the report program and which holds `nonce`, `programs` and `modules` (path and content), which it loads in their
/// order.
/// It is not compressed: what is measured is Cato.
pub fn report_initrd(
    arch: Arch,
    nonce: &str,
    programs: &[(&str, &[u8])],
    modules: &[(String, Vec<u8>)],
    file: &Path,
) -> Result<()> {
    let entries = [
        Entry::program("/init", fs::read(report(arch)?)?),
        Entry::file("/nonce", nonce),
        Entry::dir("/dev"),
        Entry::char("/dev/console", 5, 1),
        // What a program gets where there is no console.
        Entry::char("/dev/null", 1, 3),
    ];
    let programs = programs.iter().map(|(path, bytes)| Entry::program(path, *bytes));
    let modules = modules.iter().enumerate().map(|(n, (path, bytes))| {
        let name = path.rsplit('/').next().unwrap_or_default();
        Entry::file(&format!("/modules/{n:03}-{name}"), bytes.as_slice())
    });
    let bytes = mkinitramfs::archive(entries.into_iter().chain(programs).chain(modules))?;
    fs::write(file, bytes).with_context(|| format!("can't write {}", file.display()))
}
