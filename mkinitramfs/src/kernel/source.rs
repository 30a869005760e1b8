//! Debian's source of Linux, fetched once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use lzma_rust2::XzReader;

use super::folder;
use crate::apt::{self, Apt};
use crate::progress::during;

/// The Debian release whose source is taken, and the package that names the newest.
const SUITE: &str = "trixie";
const SOURCE: &str = "linux-source";
/// The file that names the folder it is in.
const KNOWN: &str = "source-version";

/// Debian's source, where it is there already.
pub(super) fn present(workspace: &Path) -> Option<PathBuf> {
    let all = folder(workspace);
    let name = fs::read_to_string(all.join(KNOWN)).ok()?;
    Some(all.join(name.trim())).filter(|whole| whole.join("Makefile").exists())
}

/// Debian's source below `target/service-kernel`, unpacked; fetched where it is not there.
///
/// # Errors
/// What apt says; a disk that is full.
pub fn debian(workspace: &Path, arch: Arch) -> Result<PathBuf> {
    if let Some(there) = present(workspace) {
        return Ok(there);
    }
    let all = &folder(workspace);
    let (state, root) = (all.join("apt"), all.join("package"));
    let (package, version) = during("fetching Linux's source from Debian (150 MB)", || {
        let apt = Apt::open(&state, SUITE, arch)?;
        let depends = apt.field(SOURCE, "Depends")?;
        let package = depends
            .split([' ', ','])
            .find(|word| word.starts_with("linux-source-"))
            .with_context(|| format!("{SOURCE} depends on {depends}"))?
            .to_owned();
        let version = apt.field(&package, "Version")?;
        for deb in apt.download(&[&package])? {
            apt::unpack(&deb, &root)?;
        }
        anyhow::Ok((package, version))
    })?;
    let archive = root.join(format!("usr/src/{package}.tar.xz"));
    // What an unpacking that was stopped has left.
    if all.join(&package).exists() {
        fs::remove_dir_all(all.join(&package))?;
    }
    during("unpacking it (1.7 GB)", || unpack_tar(&archive, all))?;
    // Each version has a folder of its own.
    let name = format!("linux-{}", version.replace(':', "-"));
    let whole = all.join(&name);
    if whole.exists() {
        fs::remove_dir_all(&whole)?;
    }
    fs::rename(all.join(&package), &whole)?;
    for done in [root, state] {
        fs::remove_dir_all(done)?;
    }
    // Written last, so what it names is whole.
    fs::write(all.join(KNOWN), format!("{name}\n"))?;
    Ok(whole)
}

fn unpack_tar(archive: &Path, to: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| archive.display().to_string())?;
    let mut tar = Command::new("tar")
        .arg("-x")
        .arg("-C")
        .arg(to)
        .stdin(Stdio::piped())
        .spawn()
        .context("can't start tar")?;
    if let Some(mut input) = tar.stdin.take() {
        std::io::copy(&mut XzReader::new(file, true), &mut input).context("can't unpack it")?;
    }
    ensure!(tar.wait()?.success(), "tar failed");
    Ok(())
}
