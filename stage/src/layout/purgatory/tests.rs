//! A page walker in software, and an ELF file made by hand.

use std::collections::BTreeMap;

use proptest::prelude::*;
use purgatory::check::{Memory, Outcome, check};
use purgatory::sha256::Scalar;
use zerocopy::FromBytes as _;

use super::tables::BLOCK;
use super::*;
use crate::machine::Conduit;

const BASE: u64 = 0x7b00_0000;
/// params, text, rodata, data: sizes as the linker script would make them.
const PARTS: [(u64, u64, u32); 4] = [
    (0, 0x4b0, 4),
    (0x1000, 0x2100, 5),
    (0x4000, 0x480, 4),
    (0x5000, 0x1e48, 6),
];
const BLOB: u64 = 0x7000;

/// A blob as `purgatory.ld` shapes it, with its parameter block and no code worth the name.
fn elf(arch: Arch) -> Vec<u8> {
    let machine: u16 = if arch == Arch::Arm64 { 183 } else { 62 };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(3_u16.to_le_bytes());
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    for word in [0x1000_u64, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 4, 64, 0, 0] {
        file.extend(half.to_le_bytes());
    }
    for (at, size, flags) in PARTS {
        let in_file = if flags == 6 { 0x38 } else { size };
        file.extend(1_u32.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [0x1000 + at, at, at, in_file, size, 0x1000] {
            file.extend(word.to_le_bytes());
        }
    }
    file.resize(0x1000, 0);
    file.extend(Params::EMPTY.as_bytes());
    file.resize(0x1000 + 0x5038, 0x90);
    file
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    attributes: Attributes,
    size: u64,
}

/// Every page the tables at `root` (address of the first byte of `segment` is `base`) map, by address.
fn walk(arch: Arch, segment: &[u8], base: u64, root: u64, levels: u32) -> BTreeMap<u64, Found> {
    let mut found = BTreeMap::new();
    let mut todo = vec![(root, levels, 0_u64)];
    while let Some((table, level, address)) = todo.pop() {
        for index in 0..512_u64 {
            let at = usize::try_from(table - base + index * 8).unwrap();
            let entry = u64::from_le_bytes(segment[at..at + 8].try_into().unwrap());
            let address = address + (index << (12 + 9 * (level - 1)));
            let to = entry & 0x0000_ffff_ffff_f000;
            // Present/valid is bit 0 on both.
            if entry & 1 == 0 {
                assert_eq!(entry, 0);
                continue;
            }
            let is_leaf = match arch {
                Arch::X86_64 => level == 1 || entry & 1 << 7 != 0,
                Arch::Arm64 => level == 1 || entry & 2 == 0,
            };
            if !is_leaf {
                if arch == Arch::X86_64 {
                    assert_eq!(entry & !to, 0x23, "a table entry restricts nothing");
                } else {
                    assert_eq!(entry & !to, 3, "a table entry restricts nothing");
                }
                todo.push((to, level - 1, address));
                continue;
            }
            assert!(level <= 2, "no pages of 1 GiB");
            assert_eq!(to, address, "identity");
            let size = if level == 1 { 4096 } else { BLOCK };
            assert!(address.is_multiple_of(size));
            let attributes = match arch {
                Arch::X86_64 => {
                    assert_eq!(entry & 1 << 5, 1 << 5, "accessed");
                    assert_eq!(entry >> 6 & 1, entry >> 1 & 1, "dirty where writable");
                    assert_eq!(
                        entry & 0xf04 | entry >> 52 & 0x7ff,
                        0,
                        "no user, global, ignored or reserved bits"
                    );
                    Attributes {
                        write: entry & 2 != 0,
                        execute: entry >> 63 == 0,
                        device: entry & 0x18 == 0x18,
                    }
                }
                Arch::Arm64 => {
                    assert_eq!(entry >> 1 & 1, u64::from(level == 1), "page or block");
                    assert_eq!(entry & 1 << 6, 0, "AP[1]: not for EL0, or EL1 could not execute it");
                    assert_eq!(entry & 1 << 10, 1 << 10, "accessed");
                    assert_eq!(entry >> 53 & 1, entry >> 54 & 1, "the same in all three regimes");
                    let index = entry >> 2 & 7;
                    let device = index == 0;
                    assert!(index < 2, "MAIR index");
                    assert_eq!(entry >> 8 & 3, if device { 0 } else { 3 }, "shareability");
                    Attributes {
                        write: entry >> 7 & 1 == 0,
                        execute: entry >> 54 & 1 == 0,
                        device,
                    }
                }
            };
            assert!(found.insert(address, Found { attributes, size }).is_none());
        }
    }
    found
}

/// What `address` is mapped as.
fn at(found: &BTreeMap<u64, Found>, address: u64) -> Option<Attributes> {
    let (start, page) = found.range(..=address).next_back()?;
    (address - start < page.size).then_some(page.attributes)
}

fn uart(arch: Arch) -> Uart {
    match arch {
        Arch::Arm64 => Uart {
            kind: UartKind::Pl011,
            base: 0x0900_0000,
            reg_shift: 0,
        },
        Arch::X86_64 => Uart {
            kind: UartKind::Mmio16550,
            base: 0xfe03_2040,
            reg_shift: 2,
        },
    }
}

/// A region with its bytes.
type Part<'a> = (&'a str, Span, &'a [u8]);

/// Regions of `parts`, with digests that live in `digests`.
fn digested<'a>(check: Check, parts: &[Part<'a>], digests: &'a mut Vec<Vec<u8>>) -> Vec<Region<'a>> {
    *digests = parts
        .iter()
        .map(|part| crate::memory::digest::of(check, part.2))
        .collect();
    parts
        .iter()
        .zip(digests)
        .map(|((name, span, bytes), digests)| Region {
            name,
            span: *span,
            len: u64::try_from(bytes.len()).unwrap(),
            digests,
        })
        .collect()
}

fn job<'a>(arch: Arch, regions: &'a [Region<'a>]) -> Job<'a> {
    Job {
        arch,
        regions,
        entry: 0x4000_0000,
        argument: 0x4a00_0000,
        uart: Some(uart(arch)),
        conduit: Some(Conduit::Hvc),
        check: Check::Sha256,
        map: &[],
        clean: &[],
        ticks_per_ms: None,
        record: None,
        reason: None,
    }
}

fn params(image: &PurgatoryImage) -> Params {
    Params::read_from_bytes(&image.bytes[..size_of::<Params>()]).unwrap()
}

/// Payload and segment as the purgatory would find them.
struct Ram<'a> {
    parts: &'a [Part<'a>],
    base: u64,
    segment: &'a [u8],
}
impl Memory for Ram<'_> {
    fn bytes(&self, base: u64, len: u64) -> Option<&[u8]> {
        let len = usize::try_from(len).ok()?;
        if let Some(offset) = base.checked_sub(self.base) {
            return self.segment.get(usize::try_from(offset).ok()?..)?.get(..len);
        }
        let (_, _, bytes) = self.parts.iter().find(|(_, span, _)| span.start == base)?;
        bytes.get(..len)
    }
}

/// What has to be mapped, and how.
fn wanted(job: &Job<'_>, base: u64, digests: Span) -> Vec<(Span, Attributes)> {
    let mut wanted: Vec<(Span, Attributes)> = Vec::new();
    for (start, size, flags) in PARTS {
        let attributes = Attributes {
            write: flags & 2 != 0,
            execute: flags & 1 != 0,
            device: false,
        };
        wanted.push((
            Span {
                start: base + start,
                end: base + start + size,
            },
            attributes,
        ));
    }
    let payload = if job.arch == Arch::X86_64 {
        Attributes::WRITE
    } else {
        Attributes::READ
    };
    wanted.extend(job.regions.iter().map(|region| (region.span, payload)));
    wanted.extend(
        job.record
            .map(|start| (Span { start, end: start + 64 }, Attributes::WRITE)),
    );
    wanted.push((digests, Attributes::READ));
    if let Some(ReasonStore::Memory(start)) = job.reason {
        let end = start + reason::SIZE;
        wanted.push((Span { start, end }, Attributes::DEVICE));
    }
    wanted.extend(job.clean.iter().map(|span| (*span, Attributes::READ)));
    wanted.extend(job.map.iter().map(|(span, kind)| {
        let attributes = match kind {
            MapKind::Code => Attributes::ALL,
            MapKind::Data => Attributes::WRITE,
            MapKind::ReadOnly => Attributes::READ,
        };
        (*span, attributes)
    }));
    if job.arch == Arch::X86_64 {
        wanted.push((
            Span {
                start: base + BLOB,
                end: digests.start,
            },
            Attributes::READ,
        ));
    }
    wanted.push((
        Span {
            start: uart(job.arch).base,
            end: uart(job.arch).base + 0x20,
        },
        Attributes::DEVICE,
    ));
    wanted
}

/// Builds and proves it: every address that is wanted is mapped to itself with at least those rights, and no page is
/// mapped that nobody wanted.
fn prove(job: &Job<'_>, parts: &[Part<'_>], base: u64) {
    let image = build(job, base, &elf(job.arch)).unwrap();
    let len = u64::try_from(image.bytes.len()).unwrap();
    assert!(
        len <= footprint(job).unwrap(),
        "{len:#x} bytes, announced {:#x}",
        footprint(job).unwrap()
    );
    assert!(len.is_multiple_of(4096));
    assert_eq!(image.entry, base + 0x1000);
    let segment = Span {
        start: base,
        end: base + len,
    };

    let params = params(&image);
    let digests = Span {
        start: params.digests,
        end: params.digests + params.digests_len,
    };
    assert!(digests.start.is_multiple_of(4096) && base + BLOB < digests.start && digests.end <= segment.end);
    let wanted = wanted(job, base, digests);
    let mut roots = vec![(base + BLOB, 4)];
    if job.arch == Arch::X86_64 {
        roots.push((base + BLOB + 4096, 5));
    }
    for (root, levels) in roots {
        let found = walk(job.arch, &image.bytes, base, root, levels);
        for (span, attributes) in &wanted {
            let mut address = span.start;
            while address < span.end {
                let has = at(&found, address).unwrap_or_else(|| panic!("{address:#x} of {span:x?} is not mapped"));
                assert_eq!(has.device, attributes.device, "{address:#x}");
                assert!(
                    has.write >= attributes.write && has.execute >= attributes.execute,
                    "{address:#x}: {has:?}"
                );
                address = (address | 0xfff) + 1;
            }
        }
        for (start, page) in &found {
            let pages = (*start..start + page.size).step_by(4096);
            for address in pages {
                // Exactly the rights somebody wanted there, and somebody wanted it.
                let mut most = None::<Attributes>;
                for (span, attributes) in &wanted {
                    if span.start < address + 4096 && address < span.end {
                        let m = most.get_or_insert(Attributes {
                            device: attributes.device,
                            ..Attributes::READ
                        });
                        m.write |= attributes.write;
                        m.execute |= attributes.execute;
                    }
                }
                assert_eq!(Some(page.attributes), most, "{address:#x}");
            }
        }
    }

    // The block says the same, and the purgatory's own check agrees.
    let ram = Ram {
        parts,
        base,
        segment: &image.bytes,
    };
    let bytes = match job.check {
        Check::Off => 0,
        _ => job.regions.iter().map(|r| r.len).sum(),
    };
    assert_eq!(check(&params, &ram, &Scalar), Outcome::Good { bytes });

    prove_cleaning(job, base, &image, &params);
}

/// What the kernel uses uncached is cleaned, by the check or besides, and but for the segment, which the blob cleans by itself,
/// nothing can be written but the record.
fn prove_cleaning(job: &Job<'_>, base: u64, image: &PurgatoryImage, params: &Params) {
    let segment = Span {
        start: base,
        end: base + u64::try_from(image.bytes.len()).unwrap(),
    };
    let span = |start, end| Span { start, end };
    let besides: Vec<Span> = params.cleans().iter().map(|r| span(r.start, r.end)).collect();
    let by_the_check: Vec<Span> = match job.check {
        Check::Off => Vec::new(),
        _ => params.regions().iter().map(|r| span(r.base, r.base + r.len)).collect(),
    };
    let record = job.record.map(|start| span(start, start + 64));
    let all = range::normalise(besides.iter().chain(&by_the_check).chain(&record).copied());
    assert!(job.clean.iter().all(|span| range::covers(&all, span)));
    // Nothing twice.
    let others: Vec<Span> = by_the_check.iter().chain(&record).copied().collect();
    assert!(range::intersect(&besides, &others).is_empty());
    assert_eq!(range::subtract(&besides, job.clean), []);
    let mapped = walk(job.arch, &image.bytes, base, base + BLOB, 4);
    assert_eq!(params.record, job.record.unwrap_or(0));
    let Some(start) = job.record else { return };
    let record = Span { start, end: start + 64 };
    for address in [record.start, record.end - 1] {
        assert!(at(&mapped, address).is_some_and(|a| a.write && !a.device));
    }
    // The placement asks for windows on x86_64 only.
    if job.arch == Arch::Arm64 && job.map.is_empty() {
        // Whatever can be written outside of the segment is the record's pages or a device.
        for (start, page) in &mapped {
            let end = start + page.size;
            let own = segment.start <= *start && *start < segment.end;
            let noted = *start < record.end && record.start < end;
            assert!(
                own || noted || page.attributes.device || !page.attributes.write,
                "{start:#x}"
            );
        }
        assert!(
            mapped
                .values()
                .all(|page| !(page.attributes.write && page.attributes.execute))
        );
    }
}

#[test]
fn a_usual_payload() {
    let (kernel, initrd, dtb) = (vec![1; 0x23_4567], vec![2; 0x40_0001], vec![3; 7587]);
    for arch in Arch::ALL {
        let image = Span {
            start: 0x4000_0000,
            end: 0x4000_0000 + 0x23_5000,
        };
        let tree = Span {
            start: 0x4a00_0000,
            end: 0x4a00_2000,
        };
        // The record is in the middle of the tree and of two pages.
        let record = tree.start + 4075;
        let parts = [
            ("kernel", image, &kernel[..]),
            (
                "initrd",
                Span {
                    start: 0x4800_0000,
                    end: 0x4840_1000,
                },
                &initrd[..],
            ),
            ("dtb", Span { end: record, ..tree }, &dtb[..4075]),
            (
                "dtb",
                Span {
                    start: record + 64,
                    ..tree
                },
                &dtb[4075 + 64..],
            ),
        ];
        let window = [
            (
                Span {
                    start: 0x4000_0000,
                    end: 0x4400_0000,
                },
                MapKind::Code,
            ),
            (Span { start: 0, end: 1 << 20 }, MapKind::Code),
            (
                Span {
                    start: 0x7fff_0000,
                    end: 0x7fff_2000,
                },
                MapKind::ReadOnly,
            ),
        ];
        let clean = [image, tree];
        for check in [Check::Sha256, Check::Fast, Check::Off] {
            let mut digests = Vec::new();
            let regions = digested(check, &parts, &mut digests);
            let mut job = job(arch, &regions);
            job.check = check;
            job.record = Some(record);
            if arch == Arch::X86_64 {
                job.map = &window;
                job.reason = Some(ReasonStore::Cmos(0x7e));
            } else {
                job.clean = &clean;
                job.reason = Some(ReasonStore::Memory(0x5f00_0ffc));
            }
            prove(&job, &parts, BASE);
            // Tables and digests across the ends of blocks.
            for pages in [1, 7, 8, 9, 12, 20, 511] {
                prove(&job, &parts, BASE + BLOCK - pages * 4096);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_layout(
        spots in prop::collection::btree_map(1_u64..3000, (1_u64..0x180_0000, 0_u64..512, any::<u8>()), 1..15),
        base in 3001_u64..5000,
        arch in prop::sample::select(&Arch::ALL[..]),
        windows in prop::collection::vec((0_u64..1000, 1_u64..0x40_0000, 0..3), 0..6),
        check in prop::sample::select(&[Check::Off, Check::Fast, Check::Sha256][..]),
        record in any::<bool>(),
    ) {
        // Spots are 32 MiB apart, so that regions can't overlap; the purgatory is beyond all of them.
        let spot = |n: u64| 0x1_0000_0000 + n * 0x200_0000;
        let bytes: Vec<Vec<u8>> = spots.values().map(|(len, _, fill)| vec![*fill; usize::try_from(*len % 5000).unwrap()]).collect();
        let parts: Vec<Part<'_>> = spots
            .iter()
            .zip(&bytes)
            .map(|((n, (len, shift, _)), bytes)| {
                let start = spot(*n) + shift * 4096;
                ("region", Span { start, end: start + (*len).max(5000) }, &bytes[..])
            })
            .collect();
        let map: Vec<(Span, MapKind)> = windows
            .iter()
            .map(|(n, len, kind)| {
                let start = spot(*n) + 0x80_0000;
                let kind = [MapKind::Code, MapKind::Data, MapKind::ReadOnly][usize::try_from(*kind).unwrap()];
                (Span { start, end: start + len }, kind)
            })
            .collect();
        let clean: Vec<Span> = parts.iter().take(2).map(|r| r.1).collect();
        let mut digests = Vec::new();
        let regions = digested(check, &parts, &mut digests);
        let mut job = job(arch, &regions);
        job.map = &map;
        job.clean = if arch == Arch::Arm64 { &clean } else { &[] };
        job.check = check;
        job.record = record.then_some(spot(base) - 0x7fff);
        prove(&job, &parts, spot(base) + (base % 512) * 4096);
    }

    #[test]
    fn no_file_makes_it_panic(mut at in 0_usize..0x1800, byte in any::<u8>(), cut in 0_usize..0x7000) {
        for arch in Arch::ALL {
            let mut file = elf(arch);
            at %= file.len();
            file[at] = byte;
            let _ = build(&job(arch, &[]), BASE, &file);
            file.truncate(cut);
            let _ = build(&job(arch, &[]), BASE, &file);
        }
    }
}

#[test]
fn what_can_not_be_is_refused() {
    let data = [0; 8192];
    let arch = Arch::Arm64;
    let said = |job: &Job<'_>, base, elf: &[u8]| build(job, base, elf).unwrap_err().to_string();

    assert_eq!(build(&job(arch, &[]), BASE, &[]), Err(BlobError::NoBlob));
    assert!(said(&job(arch, &[]), BASE, b"hello").contains("not an ELF"));
    assert!(said(&job(arch, &[]), BASE, &elf(Arch::X86_64)).contains("machine 62, not arm64"));
    assert!(said(&job(arch, &[]), BASE + 1, &elf(arch)).contains("0x7b000001"));
    let mut old = elf(arch);
    old[0x1008] = 99;
    assert_eq!(
        build(&job(arch, &[]), BASE, &old),
        Err(BlobError::Version { found: 99 })
    );
    old[0x1000] = 0;
    assert!(said(&job(arch, &[]), BASE, &old).contains("no parameter block"));
    let mut big = elf(arch);
    // p_memsz of the last part
    big[64 + 56 * 3 + 40..][..8].copy_from_slice(&0x3001_u64.to_le_bytes());
    assert!(said(&job(arch, &[]), BASE, &big).contains("at most 32768"));

    let region = |name: &'static str, start: u64, end: u64, len: usize| {
        let digests = crate::memory::digest::of(Check::Sha256, &data[..len]);
        (name, Span { start, end }, len, digests)
    };
    let refused = |(name, span, len, digests): &(&str, Span, usize, Vec<u8>)| {
        let len = u64::try_from(*len).unwrap();
        let regions = [Region {
            name,
            span: *span,
            len,
            digests,
        }];
        said(&job(arch, &regions), BASE, &elf(arch))
    };
    let on_top = region("initrd", BASE + 0x8000, BASE + 0x9000, 9);
    assert!(refused(&on_top).contains("overlaps region \"initrd\""));
    let short = region("initrd", 0x4000_0000, 0x4000_1000, 8192);
    assert!(refused(&short).contains("can't hold 8192 bytes"));
    let long = region("seventeen-letters", 0x4000_0000, 0x4000_2000, 8192);
    assert!(refused(&long).contains("seventeen-letters"));
    let device = region("dtb", 0x08ff_f000, 0x0900_1000, 9);
    assert!(refused(&device).contains("page 0x9000000 is mapped both"));
    let high = region("dtb", 1 << 47, (1 << 47) + 4096, 9);
    assert!(refused(&high).contains("0x800000001000"));
    let wide = region("initrd", 1 << 32, 1 << 46, 9);
    assert!(refused(&wide).contains("page tables"));

    let mut wrong = region("dtb", 0x4000_0000, 0x4000_2000, 8192);
    wrong.3.truncate(8);
    assert!(refused(&wrong).contains("has 8 bytes of digests, expected 32"));
    let fits = region("dtb", 0x4000_0000, 0x4000_2000, 8000);
    let regions = [Region {
        name: fits.0,
        span: fits.1,
        len: 8000,
        digests: &fits.3,
    }];
    let many = [regions[0]; params::REGIONS + 1];
    assert!(said(&job(arch, &many), BASE, &elf(arch)).contains("regions for the purgatory: 25, at most 24"));
    let with = |record, reason| {
        let job = Job {
            record,
            reason,
            ..job(arch, &regions)
        };
        build(&job, BASE, &elf(arch)).map_err(|error| error.to_string())
    };
    for inside in [0x4000_0000 - 63, 0x4000_0100, 0x4000_0000 + 7999] {
        let error = with(Some(inside), None).unwrap_err();
        assert!(error.contains("split around it"), "{error}");
    }
    for beside in [0x4000_0000 - 64, 0x4000_0000 + 8000] {
        assert!(with(Some(beside), None).is_ok());
    }
    assert!(with(Some(u64::MAX), None).is_err());
    for place in [0, 0x5f00_0002, u64::MAX - 3] {
        let error = with(None, Some(ReasonStore::Memory(place))).unwrap_err();
        assert!(error.contains("can't be left at"), "{error}");
    }
    let memory = with(None, Some(ReasonStore::Memory(0x4000_1f80))).unwrap_err();
    assert!(memory.contains("both as memory and as a device"), "{memory}");
}
