//! The blob as it is linked: small, without relocations, and on arm64 in the order the caches want. Needs what
//! `cargo mkinitramfs` needs to build for the boards.
#![expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that overflows fails, as it should"
)]

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use config::{Arch, Check, ReasonStore};
use goblin::elf::Elf;
use mkinitramfs::{cross, errata};
use purgatory::Params;
use purgatory::params::CHUNK;
use stage::layout::purgatory::{Job, Region, build};
use stage::machine::{Uart, UartKind};
use stage::memory::Span;
use zerocopy::FromBytes as _;

/// The builds share a folder, and one of them is meant to fail.
static BUILD: Mutex<()> = Mutex::new(());

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn blob(arch: Arch) -> Vec<u8> {
    let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
    fs::read(cross::purgatory(&workspace(), arch).unwrap()).unwrap()
}

#[test]
fn a_pointer_table_does_not_link() {
    for arch in Arch::ALL {
        blob(arch);
        let _one = BUILD.lock().unwrap_or_else(PoisonError::into_inner);
        let env: [(&str, &OsStr); 1] = [("PURGATORY_RELOCATION_PROBE", OsStr::new("1"))];
        let probe = cross::build(
            &workspace(),
            "purgatory",
            "purgatory",
            arch,
            cross::TargetKind::Bare,
            "purgatory",
            &env,
        );
        let error = probe.unwrap_err().to_string();
        assert!(
            error.contains("the purgatory must need no relocations"),
            "{arch}: {error}"
        );
    }
    // The blob without the table still links: it was the table.
    for arch in Arch::ALL {
        blob(arch);
    }
}

#[test]
fn the_stage_takes_the_blob() {
    for arch in Arch::ALL {
        let job = Job {
            arch,
            regions: &[],
            entry: 0x4000_0000,
            argument: 0x4800_0000,
            uart: None,
            conduit: None,
            check: Check::Sha256,
            map: &[],
            clean: &[],
            ticks_per_ms: None,
            record: None,
            reason: None,
        };
        let blob = blob(arch);
        errata::none(&blob, arch).unwrap();
        let image = build(&job, 0x7000_0000, &blob).unwrap();
        assert!(
            image.bytes.len() <= 48 << 10,
            "{arch}: {} bytes with tables",
            image.bytes.len()
        );
    }
}

/// The instructions between two symbols of the arm64 blob.
struct Code {
    words: Vec<u32>,
    symbols: Vec<(String, usize)>,
}

impl Code {
    fn read(file: &[u8]) -> Self {
        let elf = Elf::parse(file).unwrap();
        let text = elf.program_headers.iter().find(|p| p.is_executable()).unwrap();
        let words = file[text.file_range()]
            .as_chunks::<4>()
            .0
            .iter()
            .map(|w| u32::from_le_bytes(*w))
            .collect();
        let symbols = elf
            .syms
            .iter()
            .filter(|s| s.st_value >= text.p_vaddr && s.st_value < text.p_vaddr + text.p_memsz)
            .map(|s| {
                let index = usize::try_from((s.st_value - text.p_vaddr) / 4).unwrap();
                (elf.strtab.get_at(s.st_name).unwrap_or_default().to_owned(), index)
            })
            .collect();
        Self { words, symbols }
    }

    fn at(&self, symbol: &str) -> usize {
        self.symbols.iter().find(|(name, _)| name == symbol).unwrap().1
    }

    /// Only straight-line stubs are looked at: what lies between two symbols is what runs between them.
    fn between(&self, range: Range<&str>) -> &[u32] {
        let (start, end) = (self.at(range.start), self.at(range.end));
        assert!(start < end, "{range:?}");
        &self.words[start..end]
    }
}

/// Arm ARM C4.1: op0, bits 28..25, is x1x0 for loads and stores, and for nothing else.
fn is_load_or_store(word: u32) -> bool {
    word & (1 << 27) != 0 && word & (1 << 25) == 0
}

const ISB: u32 = 0xd503_3fdf;
const DSB_NSH: u32 = 0xd503_379f;
const DSB_SY: u32 = 0xd503_3f9f;
const IC_IALLU: u32 = 0xd508_751f;
const TLBI_VMALLE1: u32 = 0xd508_871f;
const TLBI_ALLE2: u32 = 0xd50c_871f;
/// With the register in bits 4..0.
const DC_CIVAC: u32 = 0xd50b_7e20;
const MSR_SCTLR_EL1: u32 = 0xd518_1000;
const MSR_SCTLR_EL2: u32 = 0xd51c_1000;
const MSR_TTBR0_EL1: u32 = 0xd518_2000;
const MSR_TTBR0_EL2: u32 = 0xd51c_2000;

/// Barriers, cache and TLB maintenance, and the registers above, without their operands.
fn system(words: &[u32]) -> Vec<u32> {
    words
        .iter()
        .filter_map(|&word| match word {
            ISB | DSB_NSH | DSB_SY | IC_IALLU | TLBI_VMALLE1 | TLBI_ALLE2 => Some(word),
            _ => [DC_CIVAC, MSR_SCTLR_EL1, MSR_SCTLR_EL2, MSR_TTBR0_EL1, MSR_TTBR0_EL2]
                .into_iter()
                .find(|known| word & !0x1f == *known),
        })
        .collect()
}

/// How often the TLB is emptied, each time by the level that runs, whatever HCR_EL2 says of VHE: X21 is 0 at EL1 only.
fn invalidations(words: &[u32]) -> usize {
    const CBNZ_X21_TO_THE_THIRD: u32 = 0xb500_0075;
    let all = |word| words.iter().filter(|w| **w == word).count();
    let either = |four: &&[u32]| matches!(four, [CBNZ_X21_TO_THE_THIRD, TLBI_VMALLE1, _, TLBI_ALLE2]);
    let found = words.windows(4).filter(either).count();
    assert_eq!((all(TLBI_VMALLE1), all(TLBI_ALLE2)), (found, found));
    found
}

#[test]
fn arm64_touches_no_memory_with_the_mmu_off_and_keeps_the_order() {
    let code = Code::read(&blob(Arch::Arm64));

    let on = code.between("purgatory_start".."cached");
    assert!(
        !on.iter().copied().any(is_load_or_store),
        "a load or store before the MMU is on"
    );
    let seen = system(on);
    let dropped = [ISB, TLBI_VMALLE1, TLBI_ALLE2, DSB_NSH, IC_IALLU, DSB_NSH, ISB];
    let wanted = |ttbr, sctlr| [&[ttbr], dropped.as_slice(), &[sctlr, ISB]].concat();
    let el1 = wanted(MSR_TTBR0_EL1, MSR_SCTLR_EL1);
    let el2 = wanted(MSR_TTBR0_EL2, MSR_SCTLR_EL2);
    let (before, both) = seen.split_at(seen.len() - el1.len() - el2.len());
    assert!(before.iter().all(|w| *w == ISB), "{before:x?}");
    assert_eq!(both, [el1, el2].concat());

    // What is written after the first clean would be neither clean nor seen. LDR (unsigned offset): the parameters.
    let clean = code.between("written".."uncache");
    let touched: Vec<u32> = clean.iter().copied().filter(|w| is_load_or_store(*w)).collect();
    assert!(
        touched.len() == 3 && touched.iter().all(|w| w & 0xffc0_0000 == 0xf940_0000),
        "{touched:x?}"
    );
    let line_by_line = code.between("clean_and_invalidate".."fault");
    assert!(!line_by_line.iter().copied().any(is_load_or_store));
    assert_eq!(system(line_by_line), [DC_CIVAC, DC_CIVAC, DC_CIVAC, DC_CIVAC, DSB_SY]);
    // BL: the segment's own pages, then the record.
    let calls = (code.at("written")..)
        .zip(clean)
        .filter(|(_, w)| **w >> 26 == 0b10_0101);
    let to = calls.map(|(at, w)| at + usize::try_from(w & 0x03ff_ffff).unwrap());
    assert_eq!(to.collect::<Vec<_>>(), [code.at("clean_and_invalidate"); 2]);

    // Two of these; and what Rust calls: for what is checked, and for what is not.
    let all = (0..).zip(&code.words).filter(|(_, w)| **w >> 26 == 0b10_0101);
    let there = code.at("clean_and_invalidate");
    let calls = all.filter(|(at, w)| {
        // Signed, in words.
        let offset = i64::from((**w << 6).cast_signed() >> 6);
        i64::from(*at) + offset == i64::try_from(there).unwrap()
    });
    assert!(calls.count() >= 4);

    let off = code.between("uncache".."uncached");
    assert!(
        !off.iter().copied().any(is_load_or_store),
        "a load or store while the MMU goes off"
    );
    assert_eq!(system(off), [DSB_SY, ISB, MSR_SCTLR_EL1, MSR_SCTLR_EL2]);

    let out = &code.words[code.at("uncached")..=code.at("purgatory_leave")];
    assert!(
        !out.iter().copied().any(is_load_or_store),
        "a load or store with the MMU off"
    );
    assert_eq!(system(out), dropped);
    assert_eq!((invalidations(on), invalidations(out)), (2, 1));
    // BR X20
    assert_eq!(out.last(), Some(&0xd61f_0280));
}

/// Leaves of the arm64 tables at `root` of a segment at `base`: address, size, descriptor. Arm ARM D8.3.
fn leaves(segment: &[u8], base: u64, root: u64) -> Vec<(u64, u64, u64)> {
    let mut leaves = Vec::new();
    let mut todo = vec![(root, 39_u32, 0_u64)];
    while let Some((table, shift, address)) = todo.pop() {
        for index in 0..512_u64 {
            let at = usize::try_from(table - base + index * 8).unwrap();
            let entry = u64::from_le_bytes(*segment[at..].first_chunk().unwrap());
            let address = address + (index << shift);
            match (entry & 3, shift) {
                (3, 12) | (1, 21) => leaves.push((address, 1 << shift, entry)),
                (3, 21..) => todo.push((entry & 0xffff_ffff_f000, shift - 9, address)),
                (0, _) => assert_eq!(entry, 0),
                _ => unreachable!("{entry:#x} at {address:#x}"),
            }
        }
    }
    leaves
}

#[test]
fn arm64_caches_nothing_but_the_segments_and_executes_nothing_it_can_write() {
    let base = 0x7b00_0000;
    let span = |start, end| Span { start, end };
    // What the kernel uses with its MMU off goes on behind the bytes of its segment: that, and no more, is cached besides.
    let (kernel, tree) = (span(0x4020_0000, 0x4400_0000), span(0x4a00_0000, 0x4a00_3000));
    let file_of_kernel = span(kernel.start, 0x4380_1000);
    let record = tree.start + 4096 + 7;
    let region = |name, span: Span, digests| Region {
        name,
        span,
        len: span.len(),
        digests,
    };
    let chunks = |span: Span| vec![0; usize::try_from(span.len().div_ceil(CHUNK)).unwrap() * 8];
    let (before, after) = (span(tree.start, record), span(record + 64, tree.end));
    let digests = [file_of_kernel, before, after].map(chunks);
    let regions = [
        region("kernel", file_of_kernel, &digests[0]),
        region("dtb", before, &digests[1]),
        region("dtb", after, &digests[2]),
    ];
    let (uart, reason) = (0x0900_0000, 0x5f00_0000);
    let job = Job {
        arch: Arch::Arm64,
        regions: &regions,
        entry: kernel.start,
        argument: tree.start,
        uart: Some(Uart {
            kind: UartKind::Pl011,
            base: uart,
            reg_shift: 0,
        }),
        conduit: None,
        check: Check::Fast,
        map: &[],
        clean: &[kernel, tree],
        ticks_per_ms: None,
        record: Some(record),
        reason: Some(ReasonStore::Memory(reason)),
    };
    let file = blob(Arch::Arm64);
    let image = build(&job, base, &file).unwrap();
    let segment = span(base, base + u64::try_from(image.bytes.len()).unwrap());
    let elf = Elf::parse(&file).unwrap();
    let symbol = |name| {
        let found = elf.syms.iter().find(|s| elf.strtab.get_at(s.st_name) == Some(name));
        base + found.unwrap().st_value
    };
    // Cleaned by the blob itself, with the record.
    let own = span(symbol("writable"), symbol("tables"));
    let params = Params::read_from_prefix(&image.bytes).unwrap().0;
    let cleaned = |start: u64, end: u64| params.cleans().iter().any(|r| r.start <= start && end <= r.end);

    let (mut devices, mut written, mut code) = (Vec::new(), Vec::new(), 0);
    for (address, size, entry) in leaves(&image.bytes, base, symbol("tables")) {
        let page = span(address, address + size);
        assert_eq!(entry & 0xffff_ffff_f000, address, "not to itself");
        let (writable, executable) = (entry & 1 << 7 == 0, entry & 1 << 54 == 0);
        assert!(!(writable && executable), "{address:#x} can be written and executed");
        // AttrIndx: 0 is the device's.
        if entry & 7 << 2 == 0 {
            assert!(!executable && size == 4096);
            devices.push(address);
            continue;
        }
        let inside = |whole: &Span| whole.start <= page.start && page.end <= whole.end;
        assert!([kernel, tree, segment].iter().any(inside), "{address:#x} is cached");
        if executable {
            assert!(inside(&segment));
            code += size;
        }
        if writable {
            written.push(page);
        }
    }
    devices.sort_unstable();
    assert_eq!(devices, [uart, reason]);
    assert!(code != 0);
    // The blob's own page, and that of the record.
    let page_of_record = record & !0xfff;
    written.sort_unstable();
    assert_eq!(written, [span(page_of_record, page_of_record + 4096), own]);
    // What the check leaves: the memory behind the kernel.
    assert!(cleaned(file_of_kernel.end, kernel.end));
}

#[test]
fn the_decoder_knows_loads_and_stores() {
    // ldr x0,[x1]; stp x29,x30,[sp,#-16]!; ldrb w16,[x10],#1; str q0,[x0]; ldxr x0,[x1]; ldr x0,#8; prfm pldl1keep,[x0]
    for word in [
        0xf940_0020,
        0xa9bf_7bfd,
        0x3840_1550,
        0x3d80_0000,
        0xc85f_7c20,
        0x5800_0040,
        0xf980_0000,
    ] {
        assert!(is_load_or_store(word), "{word:#x}");
    }
    // add x0,x1,x2; b .; dc civac,x15; msr sctlr_el1,x9; adrp x9; mov x0,#1; fadd d0,d0,d0; sha256h q0,q1,v2.4s; br x20
    for word in [
        0x8b02_0020,
        0x1400_0000,
        0xd50b_7e2f,
        0xd518_1009,
        0x9000_0009,
        0xd280_0020,
        0x1e60_2800,
        0x5e02_4020,
        0xd61f_0280,
    ] {
        assert!(!is_load_or_store(word), "{word:#x}");
    }
}
