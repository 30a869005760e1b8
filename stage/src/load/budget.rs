//! `Choice` → `Budget`: what it will take, before a byte of payload is read.
//!
//! Given an entry, the tree its files are in, and the machine; responsible for opening every file, looking at its first
//! bytes, and refusing what is missing, what this machine would die of, and what does not fit.

use std::fmt;

use config::{Arch, Check, Entry};

use super::arena::{Arena, Slot};
use super::error::{LoadError, Note};
use super::formats::{self, First, Sniffed};
use super::initrd::{self, Kind};
use super::payload::Role;
use super::read::Stored;
use super::size::Size;
use crate::place::{Machine, MemoryMap, cmdline, dtb};
use crate::tree::Tree;

/// What the kernel allocates besides the payload when it loads a kexec image, bytes: the purgatory, its tables, the zero
/// page, control pages, and on arm64 a copy of the linear map's page tables.
const OVERHEAD: u64 = 8 << 20;

/// `MemAvailable` of the text of /proc/meminfo, bytes (Documentation/filesystems/proc.rst).
pub fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib = line.trim().strip_suffix("kB")?.trim_end();
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

/// An entry whose files are open, whose headers make sense, and whose payload fits.
///
/// Printed, it says what will be loaded and what that takes.
#[derive(Debug)]
pub struct Budget {
    pub(super) kernel: KernelFile,
    pub(super) initrds: Vec<InitrdFile>,
    pub(super) dtb: Option<Stored>,
    pub(super) cmdline: String,
    pub(super) check: Check,
    notes: Vec<Note>,
    needs: u64,
    available: u64,
}

/// The kernel, as it is stored and as it will be.
pub(super) struct KernelFile {
    pub(super) stored: Stored,
    pub(super) sniffed: Sniffed,
}

impl fmt::Debug for KernelFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelFile")
            .field("stored", &self.stored)
            .field("plan", &self.sniffed.plan)
            .finish_non_exhaustive()
    }
}

/// An initrd and the zeros before it.
#[derive(Debug)]
pub(super) struct InitrdFile {
    pub(super) stored: Stored,
    pub(super) padding: u64,
}

/// Opens the files of `entry` in `tree`, and checks what can be checked of them without reading them. `cmdline` is the
/// whole command line for the main kernel, `available` what [`mem_available`] says.
///
/// # Errors
/// Names the file, what is wrong with it or what does not fit, and the numbers.
pub fn budget(
    entry: &Entry,
    tree: &dyn Tree,
    machine: &Machine,
    available: u64,
    cmdline: String,
) -> Result<Budget, LoadError> {
    let kernel = open_kernel(entry, tree, machine)?;
    cmdline::check(&cmdline, kernel.sniffed.plan.header.cmdline_max())?;
    let (initrds, notes) = open_initrds(entry, tree)?;
    let dtb = open_dtb(entry, tree, machine.arch)?;
    let mut budget = Budget {
        kernel,
        initrds,
        dtb,
        cmdline,
        check: entry.check,
        notes,
        needs: 0,
        available,
    };
    budget.needs = budget.fit(&machine.memory)?;
    Ok(budget)
}

fn open_kernel(entry: &Entry, tree: &dyn Tree, machine: &Machine) -> Result<KernelFile, LoadError> {
    let stored = Stored::open(tree, Role::Kernel, &entry.kernel, entry.sha256.kernel)?;
    let sniffed = formats::sniff(stored.head(), stored.size, machine).map_err(|source| LoadError::Format {
        path: entry.kernel.clone(),
        source,
    })?;
    Ok(KernelFile { stored, sniffed })
}

fn open_initrds(entry: &Entry, tree: &dyn Tree) -> Result<(Vec<InitrdFile>, Vec<Note>), LoadError> {
    let mut files = Vec::new();
    let mut kinds: Vec<Kind> = Vec::new();
    let mut notes = Vec::new();
    let mut at = 0_u64;
    for (index, path) in entry.initrd.iter().enumerate() {
        let role = match entry.initrd.len() {
            1 => Role::Initrd,
            _ => Role::InitrdAt(index),
        };
        let wanted = entry.sha256.initrd.get(index).copied().flatten();
        let stored = Stored::open(tree, role, path, wanted)?;
        let kind = initrd::kind(stored.head());
        if kind == Kind::Unknown {
            notes.push(Note::UnknownInitrd {
                role,
                path: path.clone(),
                first: First::of(stored.head()),
            });
        }
        let padding = initrd::padding(at, kinds.last().copied());
        at = at.saturating_add(padding).saturating_add(stored.size);
        kinds.push(kind);
        files.push(InitrdFile { stored, padding });
    }
    notes.extend(
        initrd::late(&kinds)
            .filter_map(|index| files.get(index))
            .map(|file| Note::LateEarlyFiles {
                role: file.stored.role,
                path: file.stored.path.clone(),
            }),
    );
    Ok((files, notes))
}

fn open_dtb(entry: &Entry, tree: &dyn Tree, arch: Arch) -> Result<Option<Stored>, LoadError> {
    let Some(path) = &entry.dtb else {
        return Ok(None);
    };
    if arch != Arch::Arm64 {
        return Err(LoadError::NoDtb {
            path: path.clone(),
            arch,
        });
    }
    let stored = Stored::open(tree, Role::Dtb, path, entry.sha256.dtb)?;
    dtb::check_header(stored.head(), stored.size).map_err(|source| LoadError::Dtb {
        path: path.clone(),
        source,
    })?;
    Ok(Some(stored))
}

impl Budget {
    /// Bytes of the joined initrds.
    fn initrd_len(&self) -> u64 {
        self.initrds.iter().fold(0, |sum: u64, file| {
            sum.saturating_add(file.padding).saturating_add(file.stored.size)
        })
    }

    /// Bytes of all files, as stored.
    pub(super) fn stored_len(&self) -> u64 {
        let files = [Some(&self.kernel.stored), self.dtb.as_ref()];
        let files = files
            .into_iter()
            .flatten()
            .chain(self.initrds.iter().map(|f| &f.stored));
        files.fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// What may be odd about the entry; for the console.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What loading takes at its peak, bytes, on a machine with that memory.
    fn fit(&self, memory: &MemoryMap) -> Result<u64, LoadError> {
        let kernel = self.kernel.sniffed.plan.most;
        let initrd = self.initrd_len();
        let dtb = self.dtb.as_ref().map_or(0, |file| file.size);
        let payload = kernel.saturating_add(initrd).saturating_add(dtb);
        let handed_over = payload.saturating_add(OVERHEAD);
        let half = memory.kexec_most();
        if handed_over > half {
            return Err(LoadError::HalfOfMemory {
                needs: handed_over,
                kernel,
                initrd,
                dtb,
                has: half,
            });
        }
        // Once here, once in the pages the kernel copies it to.
        let unpack = self.kernel.sniffed.memory;
        let needs = payload.saturating_add(handed_over).saturating_add(unpack);
        if needs > self.available {
            return Err(LoadError::FreeMemory {
                needs,
                payload,
                unpack,
                has: self.available,
            });
        }
        Ok(needs)
    }

    /// Reserves the memory for the payload.
    pub fn reserve(self) -> Result<Arena, LoadError> {
        let slot = |role, bytes| Slot::reserve(bytes).map_err(|source| LoadError::NoMemory { role, source });
        let kernel = slot(Role::Kernel, self.kernel.sniffed.plan.most)?;
        let initrd = match self.initrds.as_slice() {
            [] => None,
            _ => Some(slot(Role::Initrd, self.initrd_len())?),
        };
        let dtb = match &self.dtb {
            None => None,
            Some(file) => Some(slot(Role::Dtb, file.size)?),
        };
        Ok(Arena {
            budget: self,
            kernel,
            initrd,
            dtb,
        })
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KernelFile { stored, sniffed } = &self.kernel;
        write!(f, "kernel {} ({}, ", stored.path, Size(stored.size))?;
        for wrapper in &sniffed.wrappers {
            write!(f, "{} of ", wrapper.name)?;
        }
        write!(f, "{})", sniffed.plan.header.name())?;
        for file in &self.initrds {
            write!(
                f,
                ", {} {} ({})",
                file.stored.role,
                file.stored.path,
                Size(file.stored.size)
            )?;
        }
        if let Some(file) = &self.dtb {
            write!(f, ", dtb {} ({})", file.path, Size(file.size))?;
        }
        write!(
            f,
            "; loading takes up to {} of {}",
            Size(self.needs),
            Size(self.available)
        )
    }
}
