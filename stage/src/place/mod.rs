//! `Verified<Payload>` × [`Machine`] → [`Layout`]: where everything goes, byte for byte. Pure, for both arches on any host.
//!
//! Given a payload that has been checked and the machine as plain data; responsible for every rule of the two boot
//! protocols (`arm64.rs`, `x86_64.rs`), for the tables that tell the main kernel about the machine (`dtb`, `zeropage.rs`), and
//! for keeping all of it inside true System RAM and off everything reserved: `kexec_load` would take any address.

pub mod arm64;
pub mod cmdline;
pub mod dtb;
mod error;
pub mod hole;
mod layout;
mod machine;
pub mod memmap;
pub mod purgatory;
pub mod range;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
pub mod x86_64;
pub mod zeropage;

use config::{Arch, Check, ReasonStore};
use heapless::Vec as Fixed;

use std::ops::Range;

use crate::digest;
use crate::load::{BzImage, Image, Kernel, Payload, Slot};
use crate::verify::Verified;
pub use error::PlaceError;
use hole::{Free, Want};
pub use layout::{Layout, MAX_SEGMENTS, Segment};
pub use machine::{Conduit, EfiInfo, Machine, MemoryMap, Note, Span, Uart, UartKind};
use purgatory::{Job, MapKind, Region};
use range::{align_down, align_up, covers, intersect, normalise, subtract};

/// Firmware interrupt vectors, BIOS data and trampolines of x86.
const LOW_MEMORY: Span = Span { start: 0, end: 1 << 20 };
/// What is mapped of an EFI table of unknown length.
const EFI_TABLE: u64 = 8192;

/// What tells a kernel about the machine never needs more, bytes: a device tree has a 2 MiB block of its own.
pub const INFO_ROOM: u64 = dtb::MAX_SIZE;

/// What a payload needs room for, known before it is read.
#[derive(Debug, Clone, Copy)]
pub enum Ask {
    /// An Image and its companions.
    Arm64(arm64::Ask),
    /// A bzImage and its companions.
    X86_64(x86_64::Ask),
}

/// Where it all goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// What the kernel uses before it knows the memory map; its bytes are at the start.
    pub kernel: Span,
    /// To the byte.
    pub initrd: Option<Span>,
    /// What tells the kernel about the machine. arm64: a whole block, the device tree at its start. x86_64: zero page,
    /// command line and setup_data, to the byte.
    pub info: Span,
}

impl Ask {
    /// Bytes of payload: kernel, initrd if there is one, and what tells the kernel about the machine.
    pub(crate) fn resident(&self) -> Vec<u64> {
        let (kernel, initrd, info) = match self {
            Self::Arm64(ask) => (ask.kernel, ask.initrd, dtb::MAX_SIZE),
            Self::X86_64(ask) => (ask.kernel, ask.initrd, ask.boot_data),
        };
        [Some(kernel), initrd, Some(info)].into_iter().flatten().collect()
    }

    /// Bytes the kernel uses behind its own before it knows the memory map.
    pub(crate) fn room_behind_kernel(&self) -> u64 {
        match self {
            Self::Arm64(ask) => ask.image_size.saturating_sub(ask.kernel),
            Self::X86_64(ask) => ask.init_size.saturating_sub(ask.kernel),
        }
    }

    /// The same as addresses.
    pub(crate) fn resident_spans(&self, places: &Places) -> Vec<Span> {
        let starts = [Some(places.kernel), places.initrd, Some(places.info)];
        let sizes = self.resident();
        let spans = starts.into_iter().flatten().zip(sizes);
        spans
            .filter_map(|(place, size)| Span::sized(place.start, size))
            .collect()
    }
}

/// Finds places in `free` by the rules of the boot protocol, and says what is left.
///
/// # Errors
/// What finds no room.
pub fn arrange(ask: &Ask, free: Free) -> Result<(Places, Free), PlaceError> {
    match ask {
        Ask::Arm64(ask) => arm64::arrange(ask, free),
        Ask::X86_64(ask) => x86_64::arrange(ask, free),
    }
}

/// Memory that a payload with the device tree `dtb` (none is the running one) may go to.
///
/// # Errors
/// Where too little is known of the machine, or the tree is of no use.
pub fn usable(machine: &Machine, dtb: Option<&[u8]>) -> Result<Vec<Span>, PlaceError> {
    match machine.arch {
        Arch::Arm64 => Ok(arm64_usable(machine, &device_tree(dtb, machine)?)),
        Arch::X86_64 => x86_64_usable(machine),
    }
}

/// Finds a place for everything, writes the tables and the purgatory, and so turns a payload into what `kexec_load` takes.
/// The payload's own bytes are moved, not copied.
///
/// `blob` is the purgatory's ELF file, `record` the hand-over record; an empty one is left out.
///
/// # Errors
/// [`PlaceError`]: what was asked for, what there is, what to do.
pub fn lay_out(
    payload: Verified<Payload>,
    machine: &Machine,
    blob: &[u8],
    record: &[u8],
) -> Result<Layout, PlaceError> {
    place(payload.into_inner(), machine, blob, record)
}

fn place(payload: Payload, machine: &Machine, blob: &[u8], record: &[u8]) -> Result<Layout, PlaceError> {
    let rest = Rest {
        initrd: payload.initrd.filter(|i| !i.is_empty()),
        dtb: payload.dtb,
        cmdline: payload.cmdline,
        check: payload.check,
        resident: payload.resident,
        record,
    };
    match (payload.kernel, machine.arch) {
        (Kernel::Image(kernel), Arch::Arm64) => arm64_layout(kernel, rest, machine, blob),
        (Kernel::BzImage(kernel), Arch::X86_64) => x86_64_layout(kernel, rest, machine, blob),
        (Kernel::Image(_), machine) => Err(PlaceError::WrongArch {
            kernel: Arch::Arm64,
            machine,
        }),
        (Kernel::BzImage(_), machine) => Err(PlaceError::WrongArch {
            kernel: Arch::X86_64,
            machine,
        }),
    }
}

/// A payload less its kernel.
struct Rest<'a> {
    initrd: Option<Slot>,
    dtb: Option<Slot>,
    cmdline: String,
    check: Check,
    resident: Option<(Places, Slot)>,
    record: &'a [u8],
}

impl Rest<'_> {
    /// The places that were found before the payload was read, or else places for it now; what is left; and the memory for
    /// what tells the kernel about the machine, where that stays in place, too.
    fn places(&mut self, ask: &Ask, usable: &[Span]) -> Result<(Places, Free, Slot), PlaceError> {
        let free = Free::new(usable.to_vec());
        let Some((places, info)) = self.resident.take() else {
            let (places, free) = arrange(ask, free)?;
            return Ok((places, free, Slot::from(Vec::new())));
        };
        let spans = [Some(places.kernel), places.initrd, Some(places.info)];
        let taken: Vec<Span> = spans.into_iter().flatten().collect();
        Ok((places, free.without(&taken), info))
    }
}

/// Where the record is, given where it starts.
fn record_at(start: Option<usize>, record: &[u8]) -> Range<usize> {
    match start {
        Some(start) if !record.is_empty() => start..start.saturating_add(record.len()),
        _ => 0..0,
    }
}

/// The bytes in the memory that was found for them, or in their own.
fn in_slot(bytes: Vec<u8>, mut slot: Slot, what: &'static str, place: Span) -> Result<Slot, PlaceError> {
    if slot.address().is_none() {
        return Ok(bytes.into());
    }
    if slot.push(&bytes) {
        Ok(slot)
    } else {
        Err(PlaceError::Contradiction { what, span: place })
    }
}

/// The main kernel keeps off what its tree reserves, and does not see memory its tree does not name.
fn arm64_usable(machine: &Machine, tree: &dtb::Tree) -> Vec<Span> {
    let usable = subtract(&machine.memory.usable, &tree.reservations());
    match tree.memory() {
        Some(memory) => intersect(&usable, &memory),
        None => usable,
    }
}

/// The main kernel sees what the firmware's map calls RAM, which memmap= of the service kernel may differ from.
fn x86_64_usable(machine: &Machine) -> Result<Vec<Span>, PlaceError> {
    if machine.memory.firmware.is_empty() {
        return Err(PlaceError::NoFirmwareMap);
    }
    let (ram, other): (Vec<_>, Vec<_>) = machine.memory.firmware.iter().partition(|e| e.1 == memmap::E820_RAM);
    let spans = |entries: &[&(Span, u32)]| normalise(entries.iter().map(|e| e.0));
    let usable = intersect(&machine.memory.usable, &subtract(&spans(&ram), &spans(&other)));
    Ok(subtract(&usable, &[LOW_MEMORY]))
}

fn arm64_layout(kernel: Image, mut rest: Rest<'_>, machine: &Machine, blob: &[u8]) -> Result<Layout, PlaceError> {
    if machine.live_lpis {
        return Err(PlaceError::LiveLpis);
    }
    cmdline::check(&rest.cmdline, cmdline::ARM64_MOST)?;
    let mut tree = device_tree(rest.dtb.as_deref(), machine)?;
    let usable = arm64_usable(machine, &tree);
    let ask = Ask::Arm64(arm64::Ask {
        kernel: length(&kernel.bytes),
        text_offset: kernel.text_offset,
        image_size: kernel.image_size,
        anywhere: kernel.anywhere,
        initrd: rest.initrd.as_deref().map(length),
        page: machine.page_size,
    });
    let (places, mut free, info) = rest.places(&ask, &usable)?;
    tree.set_chosen(&dtb::Chosen {
        cmdline: &rest.cmdline,
        initrd: places.initrd,
        seed: machine.seed.as_deref(),
    });
    if !rest.record.is_empty() {
        tree.set_handover(rest.record);
    }
    let which = which_dtb(rest.dtb.is_some());
    let tree = tree.to_dtb().map_err(|error| PlaceError::Dtb { which, error })?;
    let record = record_at(dtb::handover_at(&tree), rest.record);
    let tree = in_slot(tree, info, "dtb", places.info)?;

    let dtb = sized(places.info.start, &tree);
    let mut parts = Parts::new(machine.page_size);
    parts.add("kernel", places.kernel.start, kernel.bytes, "Image")?;
    if let (Some(initrd), Some(place)) = (rest.initrd, places.initrd) {
        parts.add("initrd", place.start, initrd, "initramfs")?;
    }
    parts.add("dtb", dtb.start, tree, "device tree")?;
    parts.has_record(record);
    let entry = parts.purgatory(
        &Rules {
            arch: Arch::Arm64,
            // booting.rst section 4: the boot loader jumps to the Image's first instruction, with the tree's physical
            // address in x0.
            entry: places.kernel.start,
            argument: dtb.start,
            map: &[],
            // booting.rst section 4, "Caches, MMUs": what the kernel reads before its MMU is on is clean to the point of
            // coherency. It also writes then, to the stack behind its file: a dirty line there would come down on it later.
            clean: &[places.kernel, dtb],
            check: rest.check,
        },
        machine,
        &mut free,
        blob,
    )?;
    parts.finish(Arch::Arm64, entry, places.kernel, rest.cmdline, machine, &usable)
}

/// The tree the main kernel gets, but for its `/chosen`.
fn device_tree(named: Option<&[u8]>, machine: &Machine) -> Result<dtb::Tree, PlaceError> {
    let parse = |bytes: &[u8], which| dtb::Tree::parse(bytes).map_err(|error| PlaceError::Dtb { which, error });
    let running = machine.fdt.as_deref().map(|f| parse(f, which_dtb(false))).transpose()?;
    let running = running.map(|mut tree| {
        tree.forget_last_boot();
        tree
    });
    let which = which_dtb(named.is_some());
    let mut tree = match (named, running) {
        (None, None) => return Err(PlaceError::NoDtb),
        (None, Some(running)) => running,
        (Some(named), running) => {
            let mut tree = parse(named, which)?;
            if let Some(running) = running {
                tree.carry_over(&running)
                    .map_err(|error| PlaceError::Dtb { which, error })?;
            }
            tree
        }
    };
    tree.add_memory(&machine.memory.ram)
        .map_err(|error| PlaceError::Dtb { which, error })?;
    Ok(tree)
}

fn which_dtb(named: bool) -> &'static str {
    if named { "dtb" } else { "/sys/firmware/fdt" }
}

fn x86_64_layout(kernel: BzImage, mut rest: Rest<'_>, machine: &Machine, blob: &[u8]) -> Result<Layout, PlaceError> {
    // boot.rst, "cmdline_size": the longest command line without its NUL.
    cmdline::check(&rest.cmdline, kernel.cmdline_size)?;
    let usable = x86_64_usable(machine)?;
    // boot.rst, xloadflags, XLF_EFI_KEXEC: only such a kernel goes on with EFI. Any other finds ACPI through acpi_rsdp_addr.
    let efi = machine
        .efi
        .as_ref()
        .filter(|e| kernel.efi_kexec && !e.runtime.is_empty());
    let cmdline = std::mem::take(&mut rest.cmdline);
    let mut data = zeropage::BootData {
        setup_header: &kernel.setup_header,
        cmdline: &cmdline,
        initrd: None,
        e820: &machine.memory.firmware,
        running: machine.boot_params.as_deref(),
        rsdp: machine.rsdp,
        efi,
        seed: machine.seed.as_deref().map(|s| &s[..]),
        handover: Some(rest.record).filter(|r| !r.is_empty()),
    };
    let ask = Ask::X86_64(x86_64::Ask {
        kernel: length(&kernel.bytes),
        init_size: kernel.init_size,
        pref_address: kernel.pref_address,
        alignment: kernel.alignment,
        above_4g: kernel.above_4g,
        initrd_addr_max: kernel.initrd_addr_max,
        initrd: rest.initrd.as_deref().map(length),
        boot_data: length(&zeropage::build(&data, 0).bytes),
        page: machine.page_size,
    });
    let (places, mut free, info) = rest.places(&ask, &usable)?;
    data.initrd = places.initrd;
    let built = zeropage::build(&data, places.info.start);
    let record = record_at(built.handover, rest.record);
    let boot_data = in_slot(built.bytes, info, "boot-data", places.info)?;

    // boot.rst, "64-bit Boot Protocol": kernel, zero page and command line are identity-mapped. Besides them the kernel reads the
    // BIOS data area, may put a trampoline below 1 MiB, and looks for a confidential-computing blob in EFI's tables.
    // Decompressors of 5.4 and older do not map the initrd on demand.
    let mut map = vec![
        (places.kernel, MapKind::Code),
        (LOW_MEMORY, MapKind::Code),
        (places.info, MapKind::Data),
    ];
    map.extend(places.initrd.map(|i| (i, MapKind::ReadOnly)));
    for table in efi.iter().flat_map(|e| [e.systab, e.config_table]).filter(|t| *t != 0) {
        let start = align_down(table, machine.page_size);
        map.extend(Span::sized(start, EFI_TABLE).map(|span| (span, MapKind::ReadOnly)));
    }

    let mut parts = Parts::new(machine.page_size);
    parts.add(
        "kernel",
        places.kernel.start,
        kernel.bytes,
        "bzImage, protected-mode part",
    )?;
    if let (Some(initrd), Some(place)) = (rest.initrd, places.initrd) {
        parts.add("initrd", place.start, initrd, "initramfs")?;
    }
    parts.add(
        "boot-data",
        places.info.start,
        boot_data,
        "zero page, command line, setup_data",
    )?;
    parts.has_record(record);
    let entry = parts.purgatory(
        &Rules {
            arch: Arch::X86_64,
            // boot.rst, "64-bit Boot Protocol": 0x200 bytes after the load address; RSI has the zero page.
            entry: places.kernel.start.saturating_add(0x200),
            argument: places.info.start,
            map: &map,
            clean: &[],
            check: rest.check,
        },
        machine,
        &mut free,
        blob,
    )?;
    parts.finish(Arch::X86_64, entry, places.kernel, cmdline, machine, &usable)
}

/// What differs for the purgatory from one arch to the other.
struct Rules<'a> {
    arch: Arch,
    entry: u64,
    argument: u64,
    map: &'a [(Span, MapKind)],
    clean: &'a [Span],
    check: Check,
}

/// The segments as they are put together.
struct Parts {
    page: u64,
    segments: Fixed<Segment, MAX_SEGMENTS>,
}

impl Parts {
    fn new(page: u64) -> Self {
        Self {
            page,
            segments: Fixed::new(),
        }
    }

    /// A segment at `start` with as many pages as `bytes` needs: the kernel clears and copies every one of them.
    fn add(&mut self, name: &'static str, start: u64, bytes: Slot, purpose: &'static str) -> Result<(), PlaceError> {
        let mem = pages(length(&bytes), self.page)
            .and_then(|size| Span::sized(start, size))
            .ok_or(PlaceError::Header {
                what: name,
                value: start,
            })?;
        self.segments
            .push(Segment {
                name,
                mem,
                bytes,
                purpose,
                record: 0..0,
            })
            .map_err(|_| PlaceError::TooManySegments)
    }

    /// The segment that was added last holds the hand-over record.
    fn has_record(&mut self, record: Range<usize>) {
        if let Some(last) = self.segments.last_mut() {
            last.record = record;
        }
    }

    /// The last segment: it knows all the others, and gets what is left.
    fn purgatory(
        &mut self,
        rules: &Rules<'_>,
        machine: &Machine,
        free: &mut Free,
        blob: &[u8],
    ) -> Result<Last, PlaceError> {
        let mut checked = Vec::new();
        for segment in &mut self.segments {
            segment.checked(rules.check, &mut checked);
        }
        let regions: Vec<Region<'_>> = checked
            .iter()
            .map(|(name, span, len, digests)| Region {
                name,
                span: *span,
                len: *len,
                digests,
            })
            .collect();
        let job = Job {
            arch: rules.arch,
            regions: &regions,
            entry: rules.entry,
            argument: rules.argument,
            uart: machine.uart,
            conduit: machine.psci,
            check: rules.check,
            map: rules.map,
            clean: rules.clean,
            ticks_per_ms: machine.ticks_per_ms,
            record: self.segments.iter().find_map(Segment::record_address),
            reason: machine.reason.filter(|place| !is_mapped(*place, rules, machine)),
        };
        let size = purgatory::footprint(&job)?;
        let whole = Span {
            start: self.page,
            end: 1 << 46,
        };
        let place = part(free, "purgatory", size, self.page, whole)?;
        let image = purgatory::build(&job, place.start, blob)?;
        self.add("purgatory", place.start, image.bytes.into(), "check, then jump")?;
        Ok(Last {
            entry: image.entry,
            digests: image.digests,
            reason: job.reason,
        })
    }

    /// The last look, which trusts nothing above it.
    fn finish(
        mut self,
        arch: Arch,
        last: Last,
        kernel: Span,
        cmdline: String,
        machine: &Machine,
        usable: &[Span],
    ) -> Result<Layout, PlaceError> {
        self.segments.sort_unstable_by_key(|s| s.mem.start);
        for (i, s) in self.segments.iter().enumerate() {
            let aligned = [s.mem.start, s.mem.end].iter().all(|a| a.is_multiple_of(self.page));
            let alone = self
                .segments
                .iter()
                .skip(i.saturating_add(1))
                .all(|o| !o.mem.overlaps(&s.mem));
            let beside = s.name == "kernel" || !s.mem.overlaps(&kernel);
            if !(aligned && alone && beside && covers(usable, &s.mem) && length(&s.bytes) <= s.mem.len()) {
                return Err(PlaceError::Contradiction {
                    what: s.name,
                    span: s.mem,
                });
            }
        }
        if !covers(usable, &kernel) {
            return Err(PlaceError::Contradiction {
                what: "kernel",
                span: kernel,
            });
        }
        let layout = Layout {
            arch,
            entry: last.entry,
            segments: self.segments,
            kernel,
            cmdline,
            digests: last.digests,
            reason: last.reason,
        };
        let there = machine.memory.kexec_most();
        if layout.bytes() > there {
            return Err(PlaceError::TooMuch {
                asked: layout.bytes(),
                there,
            });
        }
        Ok(layout)
    }
}

/// What is known of the purgatory's segment.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Its first instruction.
    entry: u64,
    /// The digest table in it.
    digests: Span,
    /// Where it leaves why it resets the machine.
    reason: Option<ReasonStore>,
}

/// Whether the purgatory uses that page for something else: then it can't be a device's, too, and a boot is worth more than
/// a reason.
fn is_mapped(place: ReasonStore, rules: &Rules<'_>, machine: &Machine) -> bool {
    let ReasonStore::Memory(at) = place else { return false };
    let page = |at: u64| Span::sized(align_down(at, machine.page_size), machine.page_size);
    let uart = machine.uart.filter(|uart| uart.kind != UartKind::Port16550);
    let mut used = (rules.map.iter().map(|(span, _)| *span)).chain(uart.and_then(|uart| page(uart.base)));
    page(at).is_none_or(|page| used.any(|used| used.overlaps(&page)))
}

/// A name, the memory from its first byte on, how many bytes are checked, and their digests.
type Checked = (&'static str, Span, u64, Vec<u8>);

impl Segment {
    /// What of it the purgatory checks: all but the record.
    fn checked(&mut self, check: Check, to: &mut Vec<Checked>) {
        if self.record.is_empty() {
            let digests = self.bytes.digests(check);
            to.push((self.name, self.mem, length(&self.bytes), digests));
            return;
        }
        let Range { start, end } = self.record.clone();
        for (at, bytes) in [(0, self.bytes.get(..start)), (end, self.bytes.get(end..))] {
            let bytes = bytes.unwrap_or_default();
            let behind = u64::try_from(at).unwrap_or(u64::MAX);
            let span = Span {
                start: self.mem.start.saturating_add(behind),
                end: self.mem.end,
            };
            if !bytes.is_empty() {
                to.push((self.name, span, length(bytes), digest::of(check, bytes)));
            }
        }
    }

    /// Physical address of the record.
    fn record_address(&self) -> Option<u64> {
        let behind = u64::try_from(self.record.start)
            .ok()
            .filter(|_| !self.record.is_empty())?;
        self.mem.start.checked_add(behind)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn sized(start: u64, bytes: &[u8]) -> Span {
    Span {
        start,
        end: start.saturating_add(length(bytes)),
    }
}

/// `len` bytes in whole pages, at least one.
fn pages(len: u64, page: u64) -> Option<u64> {
    align_up(len.max(1), page)
}

/// Whole pages for `len` bytes inside `window`, as high as they fit; the answer is to the byte.
fn part(free: &mut Free, what: &'static str, len: u64, page: u64, window: Span) -> Result<Span, PlaceError> {
    let size = pages(len, page).ok_or(PlaceError::Header { what, value: len })?;
    let place = take(free, what, &Want::top(size, page).within(window).holding(size))?;
    Ok(Span {
        start: place.start,
        end: place.start.saturating_add(len),
    })
}

fn take(free: &mut Free, what: &'static str, want: &Want) -> Result<Span, PlaceError> {
    free.take(want).ok_or_else(|| no_room(what, want, free))
}

fn no_room(what: &'static str, want: &Want, free: &Free) -> PlaceError {
    PlaceError::NoRoom {
        what,
        asked: want.size,
        align: want.align,
        window: want.window,
        there: free.largest(&want.window),
    }
}
