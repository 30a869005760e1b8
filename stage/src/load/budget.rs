//! `Choice` → `Budget`: what it will take, before a byte of payload is read.
//!
//! Given an entry, the tree its files are in, and the machine; responsible for opening every file, looking at its first
//! bytes, and refusing what is missing, what this machine would die of, and what does not fit.

use std::fmt;

use config::{Arch, Check, Entry};

use super::arena::in_place::{self, RESERVE};
use super::arena::{self, Arena, Pages, Slot, WhyNot};
use super::error::{LoadError, Note};
use super::formats::{self, First, Sniffed};
use super::initrd::{self, Kind};
use super::payload::{Artefact, Role};
use super::read::{Meter, Stored, fill};
use super::size::Size;
use crate::place::{self, Machine, cmdline, dtb};
use crate::tree::Tree;

/// What the kernel allocates besides the payload when it loads a kexec image, bytes: the purgatory, its tables, the zero
/// page, control pages, and on arm64 a copy of the linear map's page tables.
const OVERHEAD: u64 = 8 << 20;
/// The usual huge page, bytes.
const HUGE: u64 = 2 << 20;

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
    /// Read already: it says where memory is.
    pub(super) dtb: Option<(Slot, Artefact)>,
    pub(super) cmdline: String,
    pub(super) check: Check,
    notes: Vec<Note>,
    in_place: bool,
    needs: u64,
    available: u64,
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

/// An initrd and the zeros before it.
#[derive(Debug)]
pub(super) struct InitrdFile {
    pub(super) stored: Stored,
    pub(super) padding: u64,
}

/// Opens the files of `entry` in `tree`, and checks what can be checked of them without reading them; only a device tree
/// is read, which says what memory may be used. `cmdline` is the whole command line for the main kernel, `available` what [`mem_available`] says.
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
    let dtb = read_dtb(entry, tree, machine.arch)?;
    let mut budget = Budget {
        kernel,
        initrds,
        dtb,
        cmdline,
        check: entry.check,
        notes,
        in_place: entry.arena == config::Arena::Auto,
        needs: 0,
        available,
        kexec_most: machine.memory.kexec_most(),
    };
    budget.needs = match budget.needs_in_place() {
        needs if budget.in_place && needs.saturating_add(RESERVE) <= available.saturating_add(machine.huge_pages) => {
            needs
        }
        _ => budget.fit_segments()?,
    };
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

fn read_dtb(entry: &Entry, tree: &dyn Tree, arch: Arch) -> Result<Option<(Slot, Artefact)>, LoadError> {
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
    dtb::check_header(stored.head(), stored.size).map_err(|source| LoadError::Dtb {
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
        .pass(&mut stored, |from| {
            fill(&mut std::io::Read::take(from, size), 0, &mut slot)
        })
        .map_err(|source| stored.failed(source))?;
    Ok(Some((slot, stored.artefact())))
}

fn reserve(role: Role, bytes: u64) -> Result<Slot, LoadError> {
    Slot::reserve(bytes).map_err(|source| LoadError::NoMemory { role, source })
}

impl Budget {
    /// Bytes of the joined initrds.
    fn initrd_len(&self) -> u64 {
        self.initrds.iter().fold(0, |sum: u64, file| {
            sum.saturating_add(file.padding).saturating_add(file.stored.size)
        })
    }

    /// Bytes of the files that are still to be read, as stored.
    pub(super) fn stored_len(&self) -> u64 {
        let initrds = self.initrds.iter().map(|f| f.stored.size);
        initrds.fold(self.kernel.stored.size, u64::saturating_add)
    }

    fn dtb_len(&self) -> u64 {
        self.dtb.as_ref().map_or(0, |(_, file)| file.size)
    }

    /// What may be odd about the entry; for the console.
    pub fn notes(&self) -> &[Note] {
        &self.notes
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

    /// Kernel, initrd, and what tells the kernel about the machine.
    fn ask_sizes(&self) -> [u64; 3] {
        [self.kernel.sniffed.plan.most, self.initrd_len(), place::INFO_ROOM]
    }

    /// What loading takes at its peak, bytes, when the kernel copies the payload.
    fn fit_segments(&self) -> Result<u64, LoadError> {
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

    /// Takes the memory for the payload: in place, from one of `sources`, or else ordinary memory.
    ///
    /// # Errors
    /// Where neither works.
    pub fn reserve(self, machine: &Machine, sources: &mut [Box<dyn Pages>]) -> Result<Arena, LoadError> {
        let mut arena = match self.take_pages(machine, sources) {
            Ok(taken) => self.in_place(taken)?,
            Err(why) => self.segments(why)?,
        };
        let check = arena.budget.check;
        arena.kernel.hash(check);
        if let Some(initrd) = &mut arena.initrd {
            initrd.hash(check);
        }
        Ok(arena)
    }

    fn take_pages(&self, machine: &Machine, sources: &mut [Box<dyn Pages>]) -> Result<in_place::Taken, WhyNot> {
        if !self.in_place {
            return Err(WhyNot::Asked);
        }
        if let Some(flag) = machine.encrypts {
            return Err(WhyNot::Encrypted(flag));
        }
        let initrd = Some(self.initrd_len()).filter(|len| *len > 0);
        let header = &self.kernel.sniffed.plan.header;
        if header.must_be_low() {
            return Err(WhyNot::LowImage);
        }
        let ask = header.ask(self.kernel.sniffed.plan.most, initrd, machine.page_size);
        let dtb = self.dtb.as_ref().map(|(bytes, _)| &**bytes);
        let usable = place::usable(machine, dtb).map_err(|error| WhyNot::Place(Box::new(error)))?;
        let spoken_for = OVERHEAD.saturating_add(self.kernel.sniffed.memory);
        in_place::take(&ask, &usable, self.available.saturating_sub(spoken_for), sources)
    }

    fn in_place(self, taken: in_place::Taken) -> Result<Arena, LoadError> {
        let in_place::Taken { places, memory, pages } = taken;
        let mut slots = memory.into_iter().map(Slot::resident);
        let none = |role| LoadError::NoMemory {
            role,
            source: arena::NoMemory { bytes: 0 },
        };
        let kernel = slots.next().ok_or(none(Role::Kernel))?;
        let initrd = match places.initrd {
            None => None,
            Some(_) => Some(slots.next().ok_or(none(Role::Initrd))?),
        };
        let info = slots.next().ok_or(none(Role::Dtb))?;
        let (pages, size) = pages;
        Ok(Arena {
            budget: self,
            kernel,
            initrd,
            resident: Some((places, info)),
            kind: arena::Kind::InPlace { pages, size },
        })
    }

    fn segments(self, why: WhyNot) -> Result<Arena, LoadError> {
        if let Err(error) = self.fit_segments() {
            return Err(match why {
                WhyNot::Asked => error,
                in_place => LoadError::NeitherWay {
                    in_place,
                    segments: Box::new(error),
                },
            });
        }
        let kernel = reserve(Role::Kernel, self.kernel.sniffed.plan.most)?;
        let initrd = match self.initrds.as_slice() {
            [] => None,
            _ => Some(reserve(Role::Initrd, self.initrd_len())?),
        };
        Ok(Arena {
            budget: self,
            kernel,
            initrd,
            resident: None,
            kind: arena::Kind::Segments(why),
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
        if let Some((_, file)) = &self.dtb {
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
