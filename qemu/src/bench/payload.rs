//! What every contender boots: a kernel, and an initrd of a given size that holds the report program and random bytes.
//!
//! Made once and kept below `target/bench/`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use config::Arch;
use mkinitramfs::cpio::Entry;

use crate::guests;
use crate::setup::Kernel;
use crate::workspace;

/// What the initrd is known by in the main system's report.
pub const NONCE: &str = "cato-bench";

/// A payload on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// A cpio archive that holds it, to be put behind a contender's own.
    pub archive: PathBuf,
    /// The initrd by itself.
    pub initrd_file: PathBuf,
    /// The kernel as it is handed over, bytes.
    pub kernel: u64,
    /// The initrd, bytes.
    pub initrd: u64,
}

impl Payload {
    /// Kernel and initrd, bytes.
    pub fn bytes(&self) -> u64 {
        self.kernel + self.initrd
    }
}

/// The folder of an architecture.
pub fn folder(arch: Arch) -> PathBuf {
    workspace::target("bench").join(arch.to_string())
}

/// The payload with `main` and an initrd of `mb` million bytes; made if it is not there.
pub fn make(main: &Kernel, mb: u32) -> Result<Payload> {
    let folder = folder(main.arch).join(format!("{mb}MB"));
    fs::create_dir_all(&folder)?;
    let kernel = fs::read(&main.image).with_context(|| format!("can't read {}", main.image.display()))?;
    let payload = Payload {
        archive: folder.join("payload.cpio"),
        initrd_file: folder.join("initrd"),
        kernel: u64::try_from(kernel.len())?,
        initrd: u64::from(mb) * 1_000_000,
    };
    // Written last, so what it describes is whole.
    let stamp = folder.join("stamp");
    let wanted = stamp_text(main)?;
    if fs::read_to_string(&stamp).is_ok_and(|text| text == wanted)
        && payload.archive.exists()
        && payload.initrd_file.exists()
    {
        return Ok(payload);
    }
    // It must not describe what is only half made.
    let _ = fs::remove_file(&stamp);
    let initrd = initrd(main.arch, payload.initrd, &payload.initrd_file)?;
    let entries = [
        Entry::file(&format!("{}/kernel", guest_bench::PAYLOAD), kernel),
        Entry::file(&format!("{}/initrd", guest_bench::PAYLOAD), initrd),
    ];
    fs::write(&payload.archive, mkinitramfs::archive(entries)?)?;
    fs::write(&stamp, wanted)?;
    Ok(payload)
}

/// An archive in `file` of exactly `size` bytes: the report program, then random ones.
fn initrd(arch: Arch, size: u64, file: &Path) -> Result<Vec<u8>> {
    let with = |random: &[u8]| -> Result<Vec<u8>> {
        guests::report_initrd(arch, NONCE, &[("/random", random)], &[], file)?;
        Ok(fs::read(file)?)
    };
    let rest = size
        .checked_sub(u64::try_from(with(&[])?.len())?)
        .context("no room for the report program in an initrd of that size")?;
    let mut random = Vec::new();
    File::open("/dev/urandom")?.take(rest).read_to_end(&mut random)?;
    with(&random)
}

/// What a payload is made of; another one is another text.
fn stamp_text(main: &Kernel) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    fs::read(guests::report(main.arch)?)?.hash(&mut hasher);
    Ok(format!("{} {:x}\n", main.version, hasher.finish()))
}
