//! Targets for `stage/fuzz`: each takes any bytes there are to what reads them, and looks at what comes back.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    reason = "a panic is what is looked for"
)]

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read as _};
use std::path::Path;

use config::{Arch, Arena, Check, Entry, SlotName, Source, WantedDigests};

use crate::cause::Cause;
use crate::devicetree::{self, Chosen, DtbError, Tree};
use crate::formats::initrd::{self, BuiltIn, Extent, Packing, bootconfig, uboot};
use crate::handover::{self, Main, Pid1, Timeline};
use crate::layout::{self, fakes, lay_out, zeropage};
use crate::load::{Free, budget, verify};
use crate::machine::{self, EfiInfo, Files, Machine, service};
use crate::memory::crc::crc32;
use crate::memory::range::covers;
use crate::memory::{Span, map};
use crate::probe::block::{self, Block};
use crate::probe::devices::{Device, HELD_BUSES};
use crate::probe::tree::OpenFile;
use crate::probe::{FileTreeError, volumes};
use crate::report::{self, Report};
use crate::state::slots::{Now, Rules};
use crate::state::store::{self, Copies, Copy, Stored};
use crate::state::{self, Reset, State};
use crate::step::Step;
use crate::sys::kernel_log;
use crate::sys::uevent::Event;
use crate::text::cmdline;
use crate::worker::message::{self, Frames, Job, Message};
use crate::{formats, probe};

/// Something that reads bytes.
#[derive(Debug)]
pub struct Target {
    /// The name of its folder of inputs, too.
    pub name: &'static str,
    /// Bytes of memory that it may take.
    pub memory: usize,
    /// Reads them; panics where something is wrong with what comes of it.
    pub run: fn(&[u8]),
}

impl Target {
    /// With the memory that is enough for most.
    pub const fn new(name: &'static str, run: fn(&[u8])) -> Self {
        let memory = 64 << 20;
        Self { name, memory, run }
    }
}

/// The stage's.
pub const TARGETS: &[Target] = &[
    Target::new("block", of_block),
    Target::new("boot", boot),
    Target::new("cmdline", of_cmdline),
    Target::new("disk", disk),
    Target::new("dtb", dtb),
    Target::new("initrd", of_initrd),
    Target::new("iomem", iomem),
    Target::new("kernel", kernel),
    Target::new("kmsg", kmsg),
    Target::new("machine", of_machine),
    Target::new("message", of_message),
    Target::new("modalias", modalias),
    Target::new("proc", proc),
    Target::new("record", record),
    Target::new("state", of_state),
    Target::new("stream", stream),
    Target::new("uevent", uevent),
    Target::new("zeropage", zero_page),
];

/// Files in memory, by path: each begins with a line `@ /its/path`.
struct Archive<'a>(BTreeMap<&'a str, &'a [u8]>);

impl<'a> Archive<'a> {
    fn parse(input: &'a [u8]) -> Self {
        let mut files = BTreeMap::new();
        let mut rest = input.strip_prefix(b"@ ");
        while let Some(file) = rest {
            let end = file.windows(3).position(|w| w == b"\n@ ");
            rest = end.map(|end| &file[end + 3..]);
            let file = &file[..end.unwrap_or(file.len())];
            let name = file.split(|b| *b == b'\n').next().unwrap_or_default();
            let content = file.get(name.len() + 1..).unwrap_or_default();
            files.extend(str::from_utf8(name).ok().map(|name| (name, content)));
        }
        Self(files)
    }

    fn text(&self, path: &str) -> Option<String> {
        self.0
            .get(path)
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
    }
}

impl Files for Archive<'_> {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = self.0.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(file.to_vec())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let inside = |name: &&str| {
            Some(
                name.strip_prefix(path)?
                    .strip_prefix('/')?
                    .split('/')
                    .next()?
                    .to_owned(),
            )
        };
        let mut names: Vec<String> = self.0.keys().filter_map(inside).collect();
        names.dedup();
        names
    }
}

impl probe::FileTree for Archive<'_> {
    fn open(&self, path: &str) -> Result<OpenFile, FileTreeError> {
        let bytes = self.0.get(path).ok_or(FileTreeError::Missing)?.to_vec();
        Ok(OpenFile {
            size: bytes.len() as u64,
            reader: Box::new(Cursor::new(bytes)),
        })
    }
}

/// Numbers from the front of an input; zeros behind its end.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> u64 {
        let (bytes, rest) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.0 = rest;
        u64::from_le_bytes(*bytes)
    }
}

/// A PC or a board with nothing but memory.
fn plain_machine(arch: Arch) -> Option<Machine> {
    const FILES: &[u8] = b"@ /proc/iomem\n100000-3fffffff : System RAM\n@ /proc/meminfo\nMemTotal: 1000000 kB\n";
    machine::read(&Archive::parse(FILES), arch).ok()
}

/// What sysfs says of a block device.
fn of_block(input: &[u8]) {
    let files = Archive::parse(input);
    let path = Path::new("/sys/devices/vda/vda1");
    if let Some(block) = block::parse("vda1".to_owned(), path.to_owned(), |file| files.text(file)) {
        assert!(block.bytes() / 512 <= block.size && !block.disk().is_empty());
    }
}

/// A whole boot from a machine's files and a source's, up to what `kexec_load` gets.
fn boot(input: &[u8]) {
    const FREE: u64 = 48 << 20;
    let files = Archive::parse(input);
    let named = |path: &str| files.0.contains_key(path).then(|| path.to_owned());
    let is_pc = files.0.contains_key("/sys/kernel/boot_params/data");
    let arch = if is_pc { Arch::X86_64 } else { Arch::Arm64 };
    let Ok(machine) = machine::read(&files, arch) else {
        return;
    };
    let entry = Entry {
        name: "a".to_owned(),
        title: String::new(),
        slot: None,
        source: Source::Initramfs("/".to_owned()),
        kernel: "kernel".to_owned(),
        initrd: ["initrd", "initrd2"].into_iter().filter_map(named).collect(),
        dtb: named("dtb").filter(|_| arch == Arch::Arm64),
        cmdline: files.text("cmdline").unwrap_or_default(),
        cmdline_extra: true,
        check: Check::Fast,
        arena: Arena::Segments,
        sha256: WantedDigests::default(),
    };
    let cmdline = cmdline::complete(&entry.cmdline, &machine.cmdline, &cmdline::Own::default(), true).text;
    let arena =
        budget(&entry, &files, &machine, Free::new(FREE, 0), cmdline).and_then(|b| b.reserve(&machine, &mut []));
    let payload = match arena.and_then(|arena| arena.load(&mut |_| ())) {
        Ok(payload) => payload,
        Err(error) => return drop(error.to_string()),
    };
    let payload = verify(payload).expect("files that do not change are what they were");
    let record = files.0.get("record").copied().unwrap_or_default();
    match lay_out(payload, &machine, &fakes::blob(arch), record) {
        Ok(layout) => look_at(&layout, &machine, record),
        Err(error) => drop(error.to_string()),
    }
}

/// Segments are pages of free memory, each for itself.
fn look_at(layout: &layout::Layout, machine: &Machine, record: &[u8]) {
    let mut last = 0;
    for segment in layout.segments() {
        let Span { start, end } = segment.mem;
        assert!(start >= last && start.is_multiple_of(machine.page_size) && end.is_multiple_of(machine.page_size));
        assert!(covers(&machine.memory.usable, &segment.mem) && segment.mem.len() >= segment.bytes.len() as u64);
        assert!(segment.record.is_empty() || &segment.bytes[segment.record.clone()] == record);
        last = end;
    }
    drop(layout.to_string());
}

/// Two command lines, a line each.
fn of_cmdline(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (entry, running) = text.split_once('\n').unwrap_or((&text, ""));
    let done = cmdline::complete(entry, running, &cmdline::Own::default(), true);
    assert!(done.text.len() <= entry.len() + running.len() + done.added.len() + "panic=30".len() + 1);
    assert_eq!(
        cmdline::complete(&done.text, running, &cmdline::Own::default(), true).text,
        done.text
    );
    for arch in Arch::ALL {
        service::missing(arch, running);
    }
}

/// A disk: its size and sectors in the first byte, and where in it the others are.
fn disk(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else {
        return;
    };
    let is = |bit: u8| flags & bit != 0;
    let sector: u16 = if is(1) { 4096 } else { 512 };
    let mut disk = vec![0; if is(4) { 64 << 10 } else { 0 }];
    disk.extend(bytes);
    if is(8) {
        for at in [usize::from(sector), disk.len().saturating_sub(sector.into())] {
            make_whole(&mut disk, at, sector);
        }
    }
    let mut size = disk.len() as u64 / 512;
    if is(16) {
        // The start of a large one.
        disk.resize(disk.len().max(128 << 10), 0);
        size = 1 << 20;
    }
    let block = Block {
        name: "vda".to_owned(),
        path: "/sys/devices/vda".into(),
        partition: is(2).then(|| (1, "vda".to_owned())),
        start: is(2).then_some(0),
        size,
        sector: sector.into(),
        partname: None,
    };
    let contents = volumes::read(&disk, &block).expect("it has a first sector");
    for fs in &contents.signatures.filesystems {
        drop(fs.misfit(block.bytes(), block.sector));
    }
    if let Ok(Some(table)) = &contents.table {
        let found = table.compare(&block, &[]);
        assert!(
            found
                .missing
                .iter()
                .all(|slot| slot.start + slot.length <= block.bytes())
        );
        assert!(found.missing.len() < 256);
    }
    let known = [("vda".to_owned(), Ok(contents))].into();
    for volume in volumes::volumes(&[block], &known) {
        assert!(volume.to_string().bytes().all(|b| (b' '..=b'~').contains(&b)));
    }
}

/// Gives a GPT header at byte `at` its place and the checksums it should have: no input finds those by chance.
fn make_whole(disk: &mut [u8], at: usize, sector: u16) {
    let le = |disk: &[u8], at: usize, len: usize| {
        let bytes = disk.get(at..at + len)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let fix = |disk: &mut [u8]| {
        let sector = usize::from(sector);
        let header = at..at.checked_add(le(disk, at + 12, 4)?.clamp(92, sector))?;
        if !disk.get(header.clone())?.starts_with(b"EFI PART") {
            return None;
        }
        disk[at + 24..at + 32].copy_from_slice(&(at as u64 / sector as u64).to_le_bytes());
        let start = le(disk, at + 72, 8)?.checked_mul(sector)?;
        let len = le(disk, at + 80, 4)? * le(disk, at + 84, 4)?;
        if let Some(entries) = disk.get(start..start.checked_add(len)?) {
            let crc = crc32([entries]).to_le_bytes();
            disk[at + 88..at + 92].copy_from_slice(&crc);
        }
        disk[at + 16..at + 20].fill(0);
        let crc = crc32([&disk[header]]).to_le_bytes();
        disk[at + 16..at + 20].copy_from_slice(&crc);
        Some(())
    };
    fix(disk);
}

/// A device tree, as the running one and as one from a disk.
fn dtb(input: &[u8]) {
    const RUNNING: &[u8] = include_bytes!("devicetree/samples/running.dtb");
    const NAMED: &[u8] = include_bytes!("devicetree/samples/named.dtb");
    let ram = [Span {
        start: 1 << 30,
        end: 2 << 30,
    }];
    assert_eq!(devicetree::facts(input).is_ok(), Tree::parse(input).is_ok());
    for (running, named) in [(RUNNING, input), (input, NAMED)] {
        let (Ok(mut running), Ok(mut named)) = (Tree::parse(running), Tree::parse(named)) else {
            continue;
        };
        running.forget_last_boot();
        match named.correct(Some(&running), &ram) {
            Ok(corrections) => corrections.iter().for_each(|c| drop(c.to_string())),
            Err(error) => return drop(error.to_string()),
        }
        let _ = running.add_memory(&ram);
        for tree in [running, named] {
            hand_over(tree);
        }
    }
}

/// What is written can be read.
fn hand_over(mut tree: Tree) {
    const RECORD: &[u8] = b"a record";
    tree.set_chosen(&Chosen {
        cmdline: "quiet",
        initrd: Span::sized(1 << 30, 4096),
        seed: Some(&[7; 136]),
    });
    tree.set_handover(RECORD);
    let Ok(blob) = tree.to_dtb() else { return };
    let at = devicetree::handover_at(&blob).expect("the record is there");
    assert_eq!(&blob[at..at + RECORD.len()], RECORD);
    match Tree::parse(&blob) {
        Ok(again) => assert_eq!(again.reservations(), tree.reservations()),
        // Two trees in one.
        Err(error) => assert!(matches!(error, DtbError::TooMany { .. }), "{error}"),
    }
}

/// An initrd, and a kernel with a config.
fn of_initrd(input: &[u8]) {
    let len = input.len() as u64;
    for extent in [Extent::Head, Extent::Last, Extent::Followed] {
        if let Ok(found) = initrd::examine(input, extent) {
            assert!(found.junk.is_none_or(|at| at < len) && found.packed.len() <= 7);
        }
    }
    if let Ok(Some(range)) = bootconfig::find(input) {
        assert!(range.start <= range.end && range.end <= input.len());
    }
    if let Ok(Some(image)) = uboot::header(input, len) {
        assert!(image.size <= len);
        drop(image.check([input, &[]]));
    }
    drop(BuiltIn::of_image(input).unpacks(Packing::Zstd));
}

/// `/proc/iomem`, and a line of the firmware's map.
fn iomem(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(found) = map::iomem(&text) {
        assert!(found.usable.iter().all(|span| covers(&found.ram, span)));
    }
    let mut lines = text.lines();
    let mut line = || lines.next().unwrap_or_default();
    if let Some((span, _)) = map::firmware_entry(line(), line(), line()) {
        assert!(span.start < span.end);
    }
}

/// A kernel file; for which machine is in the first byte.
fn kernel(input: &[u8]) {
    let Some((flags, file)) = input.split_first() else {
        return;
    };
    let arch = if flags & 1 == 0 { Arch::Arm64 } else { Arch::X86_64 };
    let mut machine = plain_machine(arch).expect("it has memory");
    machine.la57 = flags & 2 != 0;
    match formats::sniff(file, file.len() as u64, &machine) {
        Ok(sniffed) if sniffed.memory < 32 << 20 => {
            let plain = formats::unpack(&sniffed.wrappers, Box::new(file));
            drop(io::copy(&mut plain.take(1 << 20), &mut io::sink()));
            assert!(sniffed.plan.least <= sniffed.plan.most);
        }
        Ok(_) => {}
        Err(error) => drop(error.to_string()),
    }
}

/// A record of the kernel's log.
fn kmsg(input: &[u8]) {
    let line = kernel_log::line(input).unwrap_or_default();
    assert!(line.len() <= 200 && line.is_ascii());
    let text = String::from_utf8_lossy(input);
    let _ = (report::run_init(&text), report::mark(&text));
}

/// All that is read of a machine.
fn of_machine(input: &[u8]) {
    let files = Archive::parse(input);
    for arch in Arch::ALL {
        match machine::read(&files, arch) {
            Ok(machine) => {
                let page = machine.page_size;
                let whole = |span: &Span| span.start.is_multiple_of(page) && span.end.is_multiple_of(page);
                assert!(machine.memory.usable.iter().all(whole));
                machine.notes().for_each(|note| drop(note.to_string()));
            }
            Err(error) => drop(error.to_string()),
        }
    }
}

/// What a child says, in two pieces, and what PID 1 tells it.
fn of_message(input: &[u8]) {
    let (first, second) = input.split_at(input.len() / 3);
    let mut frames = Frames::default();
    for message in [frames.push(first), frames.push(second)].concat().into_iter().flatten() {
        let mut again = message::frame(&message).expect("a message has a frame");
        assert_eq!(message::parse::<Message>(&mut again).as_ref(), Ok(&message));
    }
    if let Ok(job) = message::parse::<Job>(&mut input.to_vec()) {
        let mut again = message::frame(&job).expect("a job has a frame");
        assert_eq!(message::parse(&mut again), Ok(job));
    }
}

/// What a device says it is.
fn modalias(input: &[u8]) {
    for bus in HELD_BUSES {
        let device = Device {
            bus: bus.to_owned(),
            name: String::new(),
            modalias: String::from_utf8_lossy(input).into_owned(),
            path: "/".into(),
        };
        // What is a disk can lead to one.
        assert!(!device.is_storage() || device.rank().is_some());
        let _ = device.is_slow_to_show();
    }
}

/// `/proc/PID/stat` and `/proc/meminfo`.
fn proc(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = (handover::started(&text), Free::of(&text));
}

/// The hand-over record behind what the kernel that reads it knows of itself.
fn record(input: &[u8]) {
    let (own, record) = input.split_at_checked(48).unwrap_or((&[], input));
    let mut own = Numbers(own);
    let main = Main {
        counter: own.next(),
        hz: Some(own.next()).filter(|hz| *hz != 0),
        uptime_us: own.next().cast_signed(),
        error_us: own.next().cast_signed(),
        pid1: Some(Pid1 {
            us: own.next().cast_signed(),
            by: "its number",
        })
        .filter(|_| own.next() == 0),
    };
    let (stamps, handover) = match handover::parse(record) {
        Ok(read) => read,
        Err(error) => return drop(error.to_string()),
    };
    let room = handover.room();
    if room < 64 << 10 {
        let (_, again) = handover::parse(&handover.to_bytes(room)).expect("what is written can be read");
        assert_eq!(again.to_toml(), handover.to_toml());
    }
    let timeline = Timeline::new(&stamps, &handover, Some(&main));
    assert!(timeline.total_us() < 1 << 45, "no boot takes a year");
    assert!(timeline.spans.iter().all(|span| span.start_us <= span.end_us));
    assert!(timeline.spans.windows(2).all(|pair| pair[0].end_us <= pair[1].start_us));
    let report = Report {
        arch: Arch::Arm64,
        handover,
        stamps,
        timeline,
    };
    drop((report::text(&report), report::json(&report), report::svg(&report)));
}

/// A device in memory, with as many blocks as it has copies.
struct Kept([state::block::Block; 2]);

impl Copies for Kept {
    fn read(&mut self, copy: Copy) -> io::Result<state::block::Block> {
        Ok(self.0[usize::from(copy == Copy::Second)])
    }

    fn write(&mut self, copy: Copy, block: &state::block::Block) -> io::Result<()> {
        self.0[usize::from(copy == Copy::Second)] = *block;
        Ok(())
    }

    fn blocks(&self) -> u64 {
        2
    }
}

/// A state whose sum is right, whoever wrote it: what is done to it is done to anything.
fn of_state(input: &[u8]) {
    let mut bytes: state::block::Block = [0; state::block::SIZE];
    bytes.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    bytes[..8].copy_from_slice(b"catostat");
    bytes[8..10].copy_from_slice(&1_u16.to_le_bytes());
    let sum = crc32([&bytes[..12], &[0; 4], &bytes[16..]]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    let state::block::Written {
        state: mut known,
        sequence,
        blocks,
    } = match state::block::decode(&bytes) {
        Ok(read) => read,
        Err(error) => return drop(error.to_string()),
    };
    let same = |state: &State| {
        let written = state::block::encode(state, sequence, blocks);
        let read = state::block::decode(&written).expect("what is written can be read");
        assert_eq!(
            (read.state, read.sequence, read.blocks),
            (state.clone(), sequence, blocks)
        );
        let mut device = Kept([written; 2]);
        let saved = Stored::new(state.clone()).save(&mut device);
        assert!(matches!(saved, Ok(None)) && device.0[0] == device.0[1]);
        let stored = store::load(&mut device).expect("what is saved can be loaded");
        assert_eq!(stored.state, *state);
    };
    same(&known);
    let names: Vec<SlotName> = known.slots.iter().map(|slot| slot.name.clone()).collect();
    let rules = Rules {
        slots: names.clone(),
        tries: known.tries,
        has_others: false,
    };
    let reset = [
        Reset::Unknown,
        Reset::PowerOn,
        Reset::Watchdog,
        Reset::Panic,
        Reset::Purgatory,
    ][usize::from(bytes[11]) % 5];
    let now = Now::default();
    known.suspect(reset);
    let tries: Vec<u8> = known.slots.iter().map(|slot| slot.tries).collect();
    known.wake(&rules, 1, reset, now);
    same(&known);
    let after = known.slots.iter().map(|slot| slot.tries);
    assert!(
        after.zip(&tries).all(|(after, before)| after <= *before),
        "tries for nothing"
    );
    for name in known.choices().into_iter().cloned().collect::<Vec<_>>() {
        assert!(known.slot(&name).is_some_and(state::Slot::is_bootable));
        known.failed(&name, Step::Load, Cause::Io, now);
        known.jump(&name, 1, now);
        same(&known);
    }
    for name in &names {
        let _ = (known.mark_booted_good(name, 1, now), known.trial_over(name, 1, now));
        let _ = (
            known.mark_bad(name, now),
            known.set_primary(name, now),
            known.set_once(name, now),
        );
        same(&known);
    }
    let text = |state: &State| state.events.iter().map(ToString::to_string).collect::<String>();
    drop((text(&known), known.last_resorts().len()));
}

/// A compressed file.
fn stream(input: &[u8]) {
    const MOST: u64 = 1 << 20;
    if let Some(plain) = formats::stream(input, 32 << 20) {
        let unpacked = io::copy(&mut plain.take(MOST), &mut io::sink());
        assert!(unpacked.is_err() || unpacked.is_ok_and(|n| n <= MOST));
    }
}

/// A datagram from the kernel.
fn uevent(input: &[u8]) {
    if let Some(event) = Event::parse(input) {
        assert!(event.devpath.ends_with(event.name()) && event.devpath.starts_with('/'));
        let _ = event.announces_block();
    }
}

/// The zero page, out of numbers, texts and the running kernel's own: each piece behind its length.
fn zero_page(input: &[u8]) {
    let mut numbers = Numbers(input);
    let (flags, base) = (numbers.next(), numbers.next() & !4095 & (u64::MAX >> 8));
    let [rsdp, start, len] = [(); 3].map(|()| numbers.next());
    let mut rest = numbers.0;
    let mut piece = || {
        let (len, behind) = rest.split_first_chunk().unwrap_or((&[0; 2], &[]));
        let (piece, behind) = behind.split_at(usize::from(u16::from_le_bytes(*len)).min(behind.len()));
        rest = behind;
        piece
    };
    let (header, text, running, entries, record) = (piece(), piece(), piece(), piece(), piece());
    let cmdline = String::from_utf8_lossy(text).replace('\0', "");
    let mut of_entries = Numbers(entries);
    let e820: Vec<(Span, u32)> = (0..entries.len() / 16)
        .filter_map(|n| {
            Some((
                Span::sized(of_entries.next(), of_entries.next())?,
                u32::try_from(n).ok()?,
            ))
        })
        .collect();
    let efi = EfiInfo {
        fw_vendor: start,
        config_table: len,
        smbios: rsdp,
        systab: base,
        runtime: vec![[start; 5]; usize::from(flags.to_le_bytes()[1])],
    };
    let data = zeropage::BootData {
        setup_header: header,
        cmdline: &cmdline,
        initrd: Span::sized(start, len).filter(|_| flags & 1 != 0),
        e820: &e820,
        running: Some(running).filter(|_| flags & 2 != 0),
        rsdp: Some(rsdp).filter(|_| flags & 4 != 0),
        efi: Some(&efi).filter(|_| flags & 8 != 0),
        seed: Some(&[7; 136][..]).filter(|_| flags & 16 != 0),
        handover: Some(record).filter(|record| !record.is_empty()),
    };
    let built = zeropage::build(&data, base);
    assert_eq!(zeropage::build(&data, 0).bytes.len(), built.bytes.len());
    let bytes = &built.bytes;
    let number = |at: usize| Numbers(&bytes[at..]).next();
    let inside = |address: u64| usize::try_from(address - base).expect("an offset");
    // The setup_data list, to its end.
    let (mut next, mut nodes) = (number(0x250), 0);
    while next != 0 {
        let at = inside(next);
        let len = usize::try_from(number(at + 8) >> 32).expect("a length");
        assert!(at + 16 + len <= bytes.len() && nodes < 4);
        (next, nodes) = (number(at), nodes + 1);
    }
    let cmd_line_ptr = number(0x228) & 0xffff_ffff | number(0xc8) << 32;
    assert!(bytes[inside(cmd_line_ptr)..].starts_with(cmdline.as_bytes()));
    match built.handover {
        Some(at) => assert_eq!(&bytes[at..at + record.len()], record),
        None => assert!(record.is_empty()),
    }
}
