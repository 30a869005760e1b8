//! `Choice` → `Budget`: what it will take, before a byte of payload is read.
//!
//! Given an entry, the tree its files are in, and the machine; responsible for opening every file, looking at its first
//! bytes, and refusing what is missing, what would crash this machine, and what does not fit.

use std::fmt;

use config::{Arch, Check, Entry};

use super::error::LoadError;
use super::in_place::RESERVE;
use super::payload::{Artefact, Note, Role, What};
use super::read::{Meter, Stored};
use crate::devicetree;
use crate::formats::initrd::uboot::{self, UBoot};
use crate::formats::initrd::{self, Extent, InitrdError, bootconfig};
use crate::formats::{self, Sniffed};
use crate::machine::Machine;
use crate::memory::Slot;
use crate::place;
use crate::probe::FileTree;
use crate::text::{Size, cmdline};

/// What the kernel allocates besides the payload when it loads a kexec image, bytes: the purgatory, its tables, the zero
/// page, control pages, and on arm64 a copy of the linear map's page tables.
pub(super) const OVERHEAD: u64 = 8 << 20;
/// The usual huge page, bytes.
const HUGE: u64 = 2 << 20;

/// Free memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    /// What programs can have.
    pub(super) available: u64,
    /// Of this, what is set aside for devices (CMA): a program's pages may be there meanwhile, but none that kexec copies to.
    pub(super) cma: u64,
}

impl Free {
    pub(crate) fn new(available: u64, cma: u64) -> Self {
        Self { available, cma }
    }

    /// What programs can have, bytes.
    pub(crate) fn available(self) -> u64 {
        self.available
    }

    /// `MemAvailable` and `CmaFree` of the text of /proc/meminfo (Documentation/filesystems/proc.rst).
    pub(crate) fn of(meminfo: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
            let kib = line.trim().strip_suffix("kB")?.trim_end();
            kib.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self::new(bytes("MemAvailable:")?, bytes("CmaFree:").unwrap_or(0)))
    }

    /// What the kernel can copy to when a program has taken so much. Linux gives a program memory of CMA while more than half of
    /// what is free is there (mm/page_alloc.c), and other memory before.
    pub(super) fn left_to_kernel(self, taken: u64) -> u64 {
        let other = self.available.saturating_sub(self.cma);
        let half = self.available.saturating_sub(taken) / 2;
        other.saturating_sub(taken).max(half).min(other)
    }
}

/// An entry whose files are open, whose headers make sense, and whose payload fits.
///
/// Printed, it says what will be loaded and what that takes.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(super) kernel: KernelFile,
    pub(super) initrds: Vec<InitrdFile>,
    /// Read already: it says where memory is.
    pub(super) dtb: Option<(Slot, Artefact)>,
    pub(super) cmdline: String,
    pub(super) check: Check,
    /// What was found of them so far.
    pub(super) notes: Vec<Note>,
    pub(super) in_place: bool,
    needs: u64,
    pub(super) free: Free,
    /// What kexec takes at most, bytes.
    kexec_most: u64,
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

/// An initrd, as it is stored.
#[derive(Debug)]
pub(super) struct InitrdFile {
    pub(super) stored: Stored,
    /// The header around it.
    pub(super) uboot: Option<UBoot>,
}

impl InitrdFile {
    /// Where the initrd is in the file: offset and length, bytes.
    pub(super) fn span(&self) -> (u64, u64) {
        match self.uboot {
            None => (0, self.stored.size),
            Some(uboot) => (uboot::HEADER, uboot.size),
        }
    }

    /// Looks at its first bytes.
    fn look(&self) -> Result<(), InitrdError> {
        let (skip, len) = self.span();
        let head = self.stored.head();
        let head = head
            .get(usize::try_from(skip).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let whole = usize::try_from(len).ok().and_then(|len| head.get(..len));
        // Nothing but a bootconfig may be in one.
        let config = bootconfig::find(whole.unwrap_or_default())?;
        let head = config
            .and_then(|range| head.get(..range.start))
            .or(whole)
            .unwrap_or(head);
        initrd::examine(head, Extent::Head).map(|_| ())
    }
}

/// Opens the files of `entry` in `tree`, and checks what can be checked of them without reading them; only a device tree
/// is read, which says what memory may be used. `cmdline` is the whole command line for the main kernel.
///
/// # Errors
/// Names the file, what is wrong with it or what does not fit, and the numbers.
pub(crate) fn budget(
    entry: &Entry,
    tree: &dyn FileTree,
    machine: &Machine,
    free: Free,
    cmdline: String,
) -> Result<Budget, LoadError> {
    let kernel = open_kernel(entry, tree, machine)?;
    cmdline::check(&cmdline, kernel.sniffed.plan.header.cmdline_max())?;
    let initrds = open_initrds(entry, tree)?;
    let dtb = read_dtb(entry, tree, machine.arch)?;
    let mut notes = Vec::new();
    if let (Some((bytes, _)), Some(path)) = (&dtb, &entry.dtb) {
        let corrections = place::corrections(machine, bytes).map_err(|source| LoadError::Dtb {
            path: path.clone(),
            source,
        })?;
        notes.extend(corrections.into_iter().map(|correction| Note {
            role: Role::Dtb,
            path: path.clone(),
            what: What::Correction(correction),
        }));
    }
    let mut budget = Budget {
        kernel,
        initrds,
        dtb,
        cmdline,
        check: entry.check,
        notes,
        in_place: entry.arena == config::Arena::Auto,
        needs: 0,
        free,
        kexec_most: machine.memory.kexec_most(),
    };
    budget.needs = match budget.needs_in_place() {
        needs
            if budget.in_place
                && needs.saturating_add(RESERVE) <= free.available.saturating_add(machine.huge_pages) =>
        {
            needs
        }
        _ => budget.fit_segments()?,
    };
    Ok(budget)
}

fn open_kernel(entry: &Entry, tree: &dyn FileTree, machine: &Machine) -> Result<KernelFile, LoadError> {
    let stored = Stored::open(tree, Role::Kernel, &entry.kernel, entry.sha256.kernel)?;
    let sniffed = formats::sniff(stored.head(), stored.size, machine).map_err(|source| LoadError::Format {
        path: entry.kernel.clone(),
        source,
    })?;
    Ok(KernelFile { stored, sniffed })
}

fn open_initrds(entry: &Entry, tree: &dyn FileTree) -> Result<Vec<InitrdFile>, LoadError> {
    let open = |(index, path): (usize, &String)| {
        let role = match entry.initrd.len() {
            1 => Role::Initrd,
            _ => Role::InitrdAt(index),
        };
        let wanted = entry.sha256.initrd.get(index).copied().flatten();
        let stored = Stored::open(tree, role, path, wanted)?;
        let refused = |source| LoadError::Initrd {
            role,
            path: path.clone(),
            source,
        };
        let uboot = uboot::header(stored.head(), stored.size).map_err(refused)?;
        let file = InitrdFile { stored, uboot };
        file.look().map_err(refused)?;
        Ok(file)
    };
    entry.initrd.iter().enumerate().map(open).collect()
}

fn read_dtb(entry: &Entry, tree: &dyn FileTree, arch: Arch) -> Result<Option<(Slot, Artefact)>, LoadError> {
    let Some(path) = &entry.dtb else {
        return Ok(None);
    };
    if arch != Arch::Arm64 {
        return Err(LoadError::NoDtb {
            path: path.clone(),
            arch,
        });
    }
    let mut stored = Stored::open(tree, Role::Dtb, path, entry.sha256.dtb)?;
    devicetree::check_header(stored.head(), stored.size).map_err(|source| LoadError::Dtb {
        path: path.clone(),
        source,
    })?;
    let size = stored.size;
    let mut slot = reserve(Role::Dtb, size)?;
    let mut unheard = |_| ();
    let mut meter = Meter {
        size,
        done: 0,
        tell: &mut unheard,
    };
    meter
        .pass(&mut stored, |from| slot.fill(&mut std::io::Read::take(from, size), 0))
        .map_err(|source| stored.failed(source))?;
    Ok(Some((slot, stored.artefact())))
}

pub(super) fn reserve(role: Role, bytes: u64) -> Result<Slot, LoadError> {
    Slot::reserve(bytes).map_err(|source| LoadError::NoMemory { role, source })
}

impl Budget {
    /// Bytes of the joined initrds, at most.
    pub(super) fn initrd_len(&self) -> u64 {
        // Before each but the first one, and before a bootconfig that is moved, there may be padding.
        let gaps = self.initrds.len().saturating_sub(1).saturating_mul(12);
        let gaps = u64::try_from(gaps).unwrap_or(u64::MAX);
        let lengths = self.initrds.iter().map(|file| file.span().1);
        lengths.fold(gaps, u64::saturating_add)
    }

    /// Bytes of the files that are still to be read, as stored.
    pub(super) fn stored_len(&self) -> u64 {
        let initrds = self.initrds.iter().map(|f| f.stored.size);
        initrds.fold(self.kernel.stored.size, u64::saturating_add)
    }

    pub(super) fn dtb_len(&self) -> u64 {
        self.dtb.as_ref().map_or(0, |(_, file)| file.size)
    }

    /// What loading takes at its peak, bytes, when the payload is read in place.
    fn needs_in_place(&self) -> u64 {
        let pages = self.ask_sizes().iter().fold(0_u64, |sum, bytes| {
            sum.saturating_add(bytes.checked_next_multiple_of(HUGE).unwrap_or(u64::MAX))
        });
        [OVERHEAD, self.kernel.sniffed.memory, self.dtb_len()]
            .into_iter()
            .fold(pages, u64::saturating_add)
    }

    /// Has what stays as it is stored come straight to its place. Not where there is a SHA-256 to be made, which may take as long
    /// as the disk: then the kernel had better read ahead. And only where the payload would fit a second time: a worker that is
    /// stuck in such a read can't be killed and keeps its memory, and the next entry wants as much.
    pub(super) fn read_straight(&mut self) {
        let payload = self.ask_sizes().into_iter().fold(OVERHEAD, u64::saturating_add);
        if self.check == Check::Sha256 || self.free.available < payload.saturating_mul(2) {
            return;
        }
        let is_plain = self.kernel.sniffed.wrappers.is_empty();
        let kernel = is_plain.then_some(&mut self.kernel.stored);
        let initrds = self.initrds.iter_mut().map(|file| &mut file.stored);
        kernel
            .into_iter()
            .chain(initrds)
            .filter(|stored| !stored.has_digest())
            .for_each(Stored::go_straight);
    }

    /// Kernel, initrd, and what tells the kernel about the machine.
    fn ask_sizes(&self) -> [u64; 3] {
        [self.kernel.sniffed.plan.most, self.initrd_len(), place::INFO_ROOM]
    }

    /// What loading takes at its peak, bytes, when the kernel copies the payload.
    pub(super) fn fit_segments(&self) -> Result<u64, LoadError> {
        let kernel = self.kernel.sniffed.plan.most;
        let initrd = self.initrd_len();
        let dtb = self.dtb_len();
        let payload = kernel.saturating_add(initrd).saturating_add(dtb);
        let handed_over = payload.saturating_add(OVERHEAD);
        if handed_over > self.kexec_most {
            return Err(LoadError::HalfOfMemory {
                needs: handed_over,
                kernel,
                initrd,
                dtb,
                has: self.kexec_most,
            });
        }
        // Once here, once in the pages the kernel copies it to.
        let unpack = self.kernel.sniffed.memory;
        let needs = payload.saturating_add(handed_over).saturating_add(unpack);
        if needs > self.free.available {
            return Err(LoadError::FreeMemory {
                needs,
                payload,
                unpack,
                has: self.free.available,
            });
        }
        let left = self.free.left_to_kernel(payload.saturating_add(unpack));
        if handed_over > left {
            return Err(LoadError::KernelMemory {
                needs: handed_over,
                has: left,
                cma: self.free.cma,
            });
        }
        Ok(needs)
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
        if let Some((_, file)) = &self.dtb {
            write!(f, ", dtb {} ({})", file.path, Size(file.size))?;
        }
        write!(
            f,
            "; loading takes up to {} of {}",
            Size(self.needs),
            Size(self.free.available)
        )
    }
}
