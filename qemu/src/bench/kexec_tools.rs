//! Debian's kexec-tools with the libraries it is linked to, for an initramfs; fetched once, below `target/bench/`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use config::Arch;
use goblin::elf::Elf;
use mkinitramfs::apt::{self, Apt};
use mkinitramfs::cpio::Entry;
use mkinitramfs::progress::during;

use crate::board::board;
use crate::setup::Suite;
use crate::workspace;

/// The release it is taken from.
const SUITE: Suite = Suite::Bookworm;

/// The program, ready to be packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KexecTools {
    /// Debian's version of the package.
    pub version: String,
    /// Program and libraries.
    pub entries: Vec<Entry>,
}

/// The program for an architecture, fetched if it is not there.
pub fn fetched(arch: Arch) -> Result<KexecTools> {
    let debian = board(arch).debian;
    let all = workspace::target("bench");
    fs::create_dir_all(&all)?;
    let folder = all.join(format!("kexec-tools-{SUITE}-{debian}"));
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    // Written last, so the rest is whole.
    let stamp = folder.join("version");
    if !stamp.exists() {
        during(&format!("fetching Debian's kexec-tools of {SUITE} for {arch}"), || {
            fetch(&folder, arch)
        })
        .with_context(|| format!("can't fetch kexec-tools into {}", folder.display()))?;
    }
    Ok(KexecTools {
        version: fs::read_to_string(&stamp)?.trim().to_owned(),
        entries: entries(&folder.join("root"), arch)?,
    })
}

fn fetch(folder: &Path, arch: Arch) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let state = folder.join("apt");
    let apt = Apt::open(&state, &SUITE.to_string(), arch)?;
    let version = apt.field("kexec-tools", "Version")?;
    for deb in apt.download_with_dependencies(&["kexec-tools"])? {
        apt::unpack(&deb, &folder.join("root"))?;
    }
    fs::remove_dir_all(state)?;
    fs::write(folder.join("version"), version)?;
    Ok(())
}

/// The program, its loader, and every library that one of them needs.
fn entries(root: &Path, arch: Arch) -> Result<Vec<Entry>> {
    let triple = match arch {
        Arch::Arm64 => "aarch64-linux-gnu",
        Arch::X86_64 => "x86_64-linux-gnu",
    };
    let find = |name: &str| -> Option<PathBuf> {
        let folders = [format!("lib/{triple}"), format!("usr/lib/{triple}")];
        folders
            .iter()
            .map(|folder| root.join(folder).join(name))
            .find(|path| path.is_file())
    };
    let program = ["sbin/kexec", "usr/sbin/kexec"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.is_file())
        .context("kexec-tools holds no kexec")?;
    let program = fs::read(program)?;
    let (needed, interpreter) = linked(&program)?;
    let mut entries = vec![Entry::program(guest_bench::KEXEC, program)];
    if let Some(path) = interpreter {
        let name = path.rsplit('/').next().unwrap_or_default();
        let loader = find(name).with_context(|| format!("none of the packages holds {path}"))?;
        entries.push(Entry::program(&path, fs::read(loader)?));
    }
    let mut libraries: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut open = needed;
    while let Some(name) = open.pop() {
        if libraries.contains_key(&name) {
            continue;
        }
        let file = find(&name).with_context(|| format!("none of the packages holds {name}"))?;
        let bytes = fs::read(file)?;
        open.extend(linked(&bytes)?.0);
        libraries.insert(name, bytes);
    }
    let paths = libraries
        .into_iter()
        .map(|(name, bytes)| (format!("/lib/{triple}/{name}"), bytes));
    entries.extend(paths.map(|(path, bytes)| Entry::program(&path, bytes)));
    Ok(entries)
}

/// The libraries an ELF file names, and its loader.
fn linked(bytes: &[u8]) -> Result<(Vec<String>, Option<String>)> {
    let elf = Elf::parse(bytes)?;
    let names = elf.libraries.iter().map(|name| (*name).to_owned()).collect();
    Ok((names, elf.interpreter.map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_names_its_libraries_and_its_loader() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        let (needed, loader) = linked(&own).unwrap();
        assert!(needed.iter().any(|name| name.starts_with("libc.so")), "{needed:?}");
        assert!(loader.unwrap().contains("ld-linux"));
    }
}
