//! The service initramfs of a contender: its own files, then the payload, which is the same bytes for all.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use config::Arch;
use mkinitramfs::cpio::Entry;
use mkinitramfs::{Compress, Recipe, archive, cross};

use super::contender::{Contender, Told};
use super::kexec_tools::{self, KexecTools};
use super::payload::Payload;
use crate::{guests, workspace};

/// What a boot is for. Memory is sampled in boots of its own: a sampler on the only CPU costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Job {
    /// Times. Nothing but the contender runs.
    Time,
    /// Memory in use, and what the kernel has to copy.
    Memory,
}

/// What an initramfs is for.
#[derive(Debug, Clone, Copy)]
pub struct Boot<'a> {
    /// Who boots.
    pub contender: Contender,
    /// What is measured.
    pub job: Job,
    /// Memory of the machine, MiB.
    pub memory_mib: u32,
    /// The main kernel's command line.
    pub cmdline: &'a str,
    /// What is booted.
    pub payload: &'a Payload,
    /// Further bytes, millions.
    pub ballast_mb: u32,
}

/// All the programs of an architecture, built or fetched once.
#[derive(Debug)]
pub struct Programs {
    arch: Arch,
    guest: Vec<u8>,
    cato: Vec<u8>,
    /// kexec-tools.
    pub kexec_tools: KexecTools,
    /// Archives with Cato as `/init`, by the text of their config.
    packed: BTreeMap<String, Vec<u8>>,
}

impl Programs {
    /// Builds and fetches.
    pub fn new(arch: Arch) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
        Ok(Self {
            arch,
            guest: read(&guests::bench(arch)?)?,
            cato: read(&cross::stage(&workspace::root(), arch)?)?,
            kexec_tools: kexec_tools::fetched(arch)?,
            packed: BTreeMap::new(),
        })
    }

    /// Writes the initramfs of `boot` to `file`. It is not compressed: a random initrd does not get smaller.
    pub fn write(&mut self, boot: &Boot<'_>, file: &Path) -> Result<()> {
        let mut own = Vec::new();
        let mut entries = Vec::new();
        let sampled = boot.job == Job::Memory;
        if let Some(config) = boot.contender.config(boot.cmdline) {
            own.extend_from_slice(self.cato_archive(&config)?);
            if sampled {
                entries.push(Entry::program(guest_bench::CATO, self.cato.clone()));
            }
        } else {
            let told = Told {
                arch: self.arch,
                memory_mib: boot.memory_mib,
                payload: boot.payload.bytes(),
                cmdline: boot.cmdline,
                describe: sampled,
            };
            let arguments = boot.contender.kexec_arguments(&told).unwrap_or_default();
            entries.push(Entry::file(guest_bench::ARGUMENTS, arguments.join("\n")));
            entries.push(Entry::char("/dev/console", 5, 1));
            entries.extend(["/proc", "/sys"].map(Entry::dir));
            entries.extend(self.kexec_tools.entries.iter().cloned());
        }
        if sampled {
            entries.push(Entry::file(guest_bench::SAMPLE, ""));
        }
        if !entries.is_empty() {
            // Behind Cato's archive, whose /init it takes the place of.
            entries.push(Entry::program("/init", self.guest.clone()));
            own.extend(archive(entries)?);
        }
        let mut out = File::create(file).with_context(|| format!("can't write {}", file.display()))?;
        out.write_all(&own)?;
        if boot.ballast_mb > 0 {
            let bytes = vec![0; usize::try_from(boot.ballast_mb)? * 1_000_000];
            out.write_all(&archive([Entry::file("/ballast", bytes)])?)?;
        }
        io::copy(&mut File::open(&boot.payload.archive)?, &mut out)?;
        Ok(())
    }

    fn cato_archive(&mut self, config: &str) -> Result<&[u8]> {
        if !self.packed.contains_key(config) {
            let recipe = Recipe {
                arch: self.arch,
                config_text: config.to_owned(),
                // Its source is the initramfs: there is no device to wait for, as for the others.
                modules: None,
                module_names: Vec::new(),
                add: Vec::new(),
                compress: Compress::None,
            };
            let packed = mkinitramfs::pack(&workspace::root(), &recipe).context("can't make the service initramfs")?;
            self.packed.insert(config.to_owned(), packed.bytes);
        }
        Ok(self.packed.get(config).map(Vec::as_slice).unwrap_or_default())
    }
}
