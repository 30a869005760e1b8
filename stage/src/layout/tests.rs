//! Whole layouts: what `kexec_load` would get, byte for byte.

use config::ReasonStore;

use super::fakes::blob;
use super::purgatory::BlobError;
use super::*;
use crate::formats::{BzImage, Header, Image, Kernel};
use crate::load::{Artefact, Payload};
use crate::machine::{Conduit, EfiInfo, Machine, Uart, UartKind};
use crate::memory::range::{self, subtract};
use crate::memory::{MemoryMap, Slot, Span};

const K: u64 = 1 << 10;
const M: u64 = 1 << 20;
const G: u64 = 1 << 30;

fn span(start: u64, end: u64) -> Span {
    Span { start, end }
}

fn machine(arch: Arch) -> Machine {
    let x86 = arch == Arch::X86_64;
    let ram = if x86 {
        vec![span(0x1000, 0x9_f000), span(M, 0x3ffe_0000)]
    } else {
        vec![span(0x4000_0000, 0x8000_0000)]
    };
    Machine {
        arch,
        memory: MemoryMap {
            usable: subtract(&ram, &[span(0x5000_0000, 0x5040_0000), span(0x3f00_0000, 0x3f01_0000)]),
            firmware: if x86 {
                vec![
                    (span(0, 0x9_f000), 1),
                    (span(M, 0x3ffe_0000), 1),
                    (span(0x3ffe_0000, G), 2),
                ]
            } else {
                Vec::new()
            },
            total: 980 * M,
            ram,
        },
        page_size: 4096,
        granules: vec![4096],
        la57: false,
        boot_params: x86.then(|| vec![0; 4096]),
        rsdp: x86.then_some(0x3ffe_0014),
        efi: None,
        fdt: (!x86).then(|| include_bytes!("../devicetree/samples/running.dtb").to_vec()),
        psci: (!x86).then_some(Conduit::Smc),
        uart: Some(if x86 {
            Uart {
                kind: UartKind::Port16550,
                base: 0x3f8,
                reg_shift: 0,
            }
        } else {
            Uart {
                kind: UartKind::Pl011,
                base: 0x900_0000,
                reg_shift: 0,
            }
        }),
        reason: None,
        seed: Some(Box::new([7; 136])),
        ticks_per_ms: x86.then_some(2_000_000),
        cmdline: String::new(),
        huge_pages: 0,
        encryption: None,
        live_lpis: false,
    }
}

fn kernel(arch: Arch) -> Kernel {
    let header = match arch {
        Arch::Arm64 => Header::Image(Image {
            text_offset: 0,
            image_size: 0x40_0000,
            anywhere: true,
        }),
        Arch::X86_64 => Header::BzImage(crate::place::tests::bzimage()),
    };
    Kernel {
        header,
        bytes: vec![0xa5; 3_000_000].into(),
    }
}

fn payload(arch: Arch) -> Payload {
    Payload {
        kernel: kernel(arch),
        initrd: Some(vec![0x5a; 1_234_567].into()),
        dtb: None,
        cmdline: "root=/dev/vda2 ro".to_owned(),
        check: Check::Sha256,
        resident: None,
        arena: crate::load::ArenaKind::Segments(crate::load::WhyNot::Asked),
        artefacts: Vec::<Artefact>::new(),
        notes: Vec::new(),
    }
}

fn laid(arch: Arch) -> Layout {
    lay_out_unverified(payload(arch), &machine(arch), &blob(arch), &[]).unwrap()
}

fn part<'a>(layout: &'a Layout, name: &str) -> &'a Segment {
    layout.segments().iter().find(|s| s.name == name).unwrap()
}

#[test]
fn an_arm64_layout_is_a_table() {
    let table = laid(Arch::Arm64).to_string();
    assert_eq!(table, include_str!("tests/arm64.txt").trim_end(), "\n{table}\n");
}

#[test]
fn an_x86_64_layout_is_a_table() {
    let table = laid(Arch::X86_64).to_string();
    assert_eq!(table, include_str!("tests/x86_64.txt").trim_end(), "\n{table}\n");
}

#[test]
fn the_tree_says_where_the_initrd_is() {
    let layout = laid(Arch::Arm64);
    let (initrd, tree) = (part(&layout, "initrd"), part(&layout, "dtb"));
    let fdt = ::fdt::Fdt::new(&tree.bytes).unwrap();
    let number = |name| {
        fdt.find_node("/chosen")
            .unwrap()
            .property(name)
            .unwrap()
            .as_usize()
            .unwrap() as u64
    };
    assert_eq!(number("linux,initrd-start"), initrd.mem.start);
    assert_eq!(number("linux,initrd-end"), initrd.mem.start + 1_234_567);
    assert_eq!(fdt.chosen().bootargs(), Some("root=/dev/vda2 ro"));
    assert_eq!(initrd.bytes.len(), 1_234_567);
    assert!(layout.kernel.start == part(&layout, "kernel").mem.start && layout.kernel.len() == 0x40_0000);
}

#[test]
fn the_zero_page_says_where_the_initrd_is() {
    let layout = laid(Arch::X86_64);
    let (initrd, data) = (part(&layout, "initrd"), part(&layout, "boot-data"));
    let word = |at: usize| u64::from(u32::from_le_bytes(data.bytes[at..][..4].try_into().unwrap()));
    assert_eq!(word(0x218) | word(0xc0) << 32, initrd.mem.start);
    assert_eq!(word(0x21c), 1_234_567);
    let cmdline = usize::try_from((word(0x228) | word(0xc8) << 32) - data.mem.start).unwrap();
    assert!(data.bytes[cmdline..].starts_with(b"root=/dev/vda2 ro\0"));
    assert_eq!((data.bytes[0x1e8], word(0x70)), (3, 0x3ffe_0014));
}

/// What the purgatory is told, read back from its parameter block.
fn params(layout: &Layout) -> ::purgatory::Params {
    use zerocopy::FromBytes as _;
    let bytes = &part(layout, "purgatory").bytes;
    ::purgatory::Params::read_from_prefix(bytes).unwrap().0
}

#[test]
fn the_purgatory_knows_all_of_it() {
    for arch in Arch::ALL {
        let layout = laid(arch);
        let params = params(&layout);
        let kernel = layout.kernel.start;
        let (entry, argument) = match arch {
            Arch::Arm64 => (kernel, part(&layout, "dtb").mem.start),
            Arch::X86_64 => (kernel + 0x200, part(&layout, "boot-data").mem.start),
        };
        assert_eq!((params.entry, params.argument), (entry, argument), "{arch}");
        assert_eq!(layout.entry(), part(&layout, "purgatory").mem.start + 0x2000);
        let told: Vec<(u64, u64)> = params
            .regions
            .iter()
            .filter(|r| r.base != 0)
            .map(|r| (r.base, r.len))
            .collect();
        let mut wanted: Vec<(u64, u64)> = layout
            .segments()
            .iter()
            .filter(|s| s.name != "purgatory")
            .map(|s| (s.mem.start, s.bytes.len() as u64))
            .collect();
        let mut told = told;
        told.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(told, wanted, "{arch}: every segment is checked to the byte");
    }
}

#[test]
fn an_old_image_is_at_the_start_of_memory() {
    let mut payload = payload(Arch::Arm64);
    let Header::Image(image) = &mut payload.kernel.header else {
        panic!()
    };
    (image.anywhere, image.text_offset) = (false, 0x8_0000);
    let layout = lay_out_unverified(payload, &machine(Arch::Arm64), &blob(Arch::Arm64), &[]).unwrap();
    assert_eq!(layout.kernel.start, 0x4008_0000);
}

#[test]
fn a_named_tree_decides_what_is_usable() {
    let mut payload = payload(Arch::Arm64);
    payload.dtb = Some(include_bytes!("../devicetree/samples/named.dtb").to_vec().into());
    let layout = lay_out_unverified(payload, &machine(Arch::Arm64), &blob(Arch::Arm64), &[]).unwrap();
    let ramoops = span(0x5f00_0000, 0x5f10_0000);
    assert!(layout.segments().iter().all(|s| !s.mem.overlaps(&ramoops)));
    let fdt = ::fdt::Fdt::new(&part(&layout, "dtb").bytes).unwrap();
    assert!(fdt.find_node("/reserved-memory/firmware@50000000").is_some());
    assert_eq!(
        fdt.memory().regions().next().unwrap().starting_address as u64,
        0x4000_0000
    );
}

#[test]
fn above_4_gib_only_where_the_kernel_allows_it() {
    let mut m = machine(Arch::X86_64);
    m.memory.usable.push(span(4 * G, 8 * G));
    let unknown = lay_out_unverified(payload(Arch::X86_64), &m, &blob(Arch::X86_64), &[]).unwrap();
    assert!(
        unknown.segments().iter().all(|s| s.mem.end <= 4 * G),
        "the main kernel is not told of it"
    );
    m.memory.firmware.push((span(4 * G, 9 * G), 1));
    m.memory.firmware.push((span(8 * G, 9 * G), 2));
    let high = lay_out_unverified(payload(Arch::X86_64), &m, &blob(Arch::X86_64), &[]).unwrap();
    assert!(high.kernel.start >= 4 * G && part(&high, "initrd").mem.start >= 4 * G);
    let mut low = payload(Arch::X86_64);
    let Header::BzImage(bz) = &mut low.kernel.header else {
        panic!()
    };
    (bz.above_4g, bz.initrd_addr_max) = (false, 0x37ff_ffff);
    let low = lay_out_unverified(low, &m, &blob(Arch::X86_64), &[]).unwrap();
    assert!(low.kernel.end <= 4 * G && part(&low, "boot-data").mem.end <= 4 * G);
    assert!(part(&low, "initrd").mem.end <= 0x3800_0000);
}

#[test]
fn efi_goes_on_only_with_a_kernel_that_can() {
    let mut m = machine(Arch::X86_64);
    m.efi = Some(EfiInfo {
        fw_vendor: 1,
        config_table: 0x3f00_0000,
        smbios: 0,
        systab: 0x3f00_2000,
        runtime: vec![[5, 0, 0, 1, 0]],
    });
    let with = lay_out_unverified(payload(Arch::X86_64), &m, &blob(Arch::X86_64), &[]).unwrap();
    assert_eq!(&part(&with, "boot-data").bytes[0x1c0..0x1c4], b"EL64");
    let mut p = payload(Arch::X86_64);
    let Header::BzImage(bz) = &mut p.kernel.header else {
        panic!()
    };
    bz.efi_kexec = false;
    let without = lay_out_unverified(p, &m, &blob(Arch::X86_64), &[]).unwrap();
    assert_eq!(part(&without, "boot-data").bytes[0x1c0..0x1e0], [0; 32]);
}

#[test]
fn a_kernel_file_that_claims_kaslr_of_itself_is_not_believed() {
    let mut p = payload(Arch::X86_64);
    let Header::BzImage(bz) = &mut p.kernel.header else {
        panic!()
    };
    bz.setup_header[0x211 - 0x1f1] = 0xff;
    let layout = lay_out_unverified(p, &machine(Arch::X86_64), &blob(Arch::X86_64), &[]).unwrap();
    assert_eq!(part(&layout, "boot-data").bytes[0x211], 1);
}

fn refused(change: impl FnOnce(&mut Payload, &mut Machine), arch: Arch) -> LayoutError {
    let (mut p, mut m) = (payload(arch), machine(arch));
    change(&mut p, &mut m);
    lay_out_unverified(p, &m, &blob(arch), &[]).unwrap_err()
}

fn says(error: &LayoutError, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

#[test]
fn refusals_say_what_was_asked_what_there_is_and_what_to_do() {
    let arm = |change: fn(&mut Payload, &mut Machine)| refused(change, Arch::Arm64);
    let x86 = |change: fn(&mut Payload, &mut Machine)| refused(change, Arch::X86_64);

    says(
        &arm(|_, m| m.live_lpis = true),
        &["ITS", "irqchip.gicv3_nolpi=1", "EFI"],
    );
    says(
        &arm(|p, _| p.cmdline = "a".repeat(2048)),
        &["2048", "2047", "shorten", "cmdline_extra = false"],
    );
    says(&x86(|p, _| p.cmdline = "a".repeat(2048)), &["2048", "2047"]);
    assert!(
        lay_out_unverified(
            Payload {
                cmdline: "a".repeat(2047),
                ..payload(Arch::Arm64)
            },
            &machine(Arch::Arm64),
            &blob(Arch::Arm64),
            &[],
        )
        .is_ok()
    );
    says(&arm(|p, _| p.cmdline = "a\0b".to_owned()), &["NUL", "byte 1"]);
    says(
        &arm(|_, m| m.memory.total = 8 * M),
        &["kexec_load", "4194304 bytes", "smaller initrd"],
    );
    says(
        &arm(|_, m| m.memory.usable.truncate(0)),
        &["no room for the kernel", "4194304 bytes", "has 0 bytes", "more memory"],
    );
    says(
        &x86(|_, m| m.memory.usable = vec![span(M, 20 * M)]),
        &["no room for the kernel", "8388608 bytes", "has 4194304 bytes"],
    );
    says(&arm(|_, m| m.fdt = None), &["/sys/firmware/fdt", "`dtb`"]);
    says(
        &arm(|p, _| p.dtb = Some(b"no tree".to_vec().into())),
        &["dtb: not a device tree blob"],
    );
    says(
        &x86(|_, m| m.memory.firmware.clear()),
        &["memory map", "CONFIG_FIRMWARE_MEMMAP"],
    );
    says(&x86(|p, _| p.kernel = kernel(Arch::Arm64)), &["arm64", "x86_64"]);
    says(&arm(|p, _| p.kernel = kernel(Arch::X86_64)), &["arm64", "x86_64"]);
    assert_eq!(
        lay_out_unverified(payload(Arch::Arm64), &machine(Arch::Arm64), b"", &[]).unwrap_err(),
        LayoutError::Purgatory(BlobError::NoBlob)
    );
}

#[test]
fn numbers_no_header_has_are_refused() {
    let x86 = |change: fn(&mut BzImage)| {
        refused(
            |p, _| {
                if let Header::BzImage(k) = &mut p.kernel.header {
                    change(k);
                }
            },
            Arch::X86_64,
        )
    };
    says(&x86(|k| k.init_size = u64::MAX), &["init_size", "damaged"]);
    says(&x86(|k| k.alignment = 0), &["kernel_alignment"]);
    says(&x86(|k| k.alignment = 3), &["kernel_alignment"]);
    says(&x86(|k| k.alignment = 1 << 63), &["no room"]);
    says(&x86(|k| k.pref_address = u64::MAX), &["no room"]);
    let arm = |change: fn(&mut Image)| {
        refused(
            |p, _| {
                if let Header::Image(k) = &mut p.kernel.header {
                    change(k);
                }
            },
            Arch::Arm64,
        )
    };
    says(&arm(|k| k.image_size = u64::MAX), &["image_size"]);
    says(&arm(|k| k.text_offset = u64::MAX), &["text_offset"]);
    says(&arm(|k| k.text_offset = 0x123), &["text_offset"]);
    says(&arm(|k| k.image_size = 1 << 50), &["no room"]);
}

#[test]
fn a_payload_without_initrd_or_with_an_empty_one_has_none() {
    for initrd in [None, Some(Vec::new().into())] {
        for arch in Arch::ALL {
            let p = Payload {
                initrd: initrd.as_ref().map(|_: &Slot| Vec::new().into()),
                ..payload(arch)
            };
            let layout = lay_out_unverified(p, &machine(arch), &blob(arch), &[]).unwrap();
            assert!(layout.segments().iter().all(|s| s.name != "initrd"));
        }
    }
}

#[test]
fn pages_of_64_kib_are_kept_to() {
    let mut m = machine(Arch::Arm64);
    m.page_size = 64 * K;
    let layout = lay_out_unverified(payload(Arch::Arm64), &m, &blob(Arch::Arm64), &[]).unwrap();
    for s in layout.segments() {
        assert!(
            s.mem.start.is_multiple_of(64 * K) && s.mem.end.is_multiple_of(64 * K),
            "{}",
            s.name
        );
    }
}

#[test]
fn arm64_without_psci_is_noted() {
    for (arch, psci, noted) in [
        (Arch::Arm64, None, true),
        (Arch::Arm64, Some(Conduit::Hvc), false),
        (Arch::X86_64, None, false),
    ] {
        let machine = Machine { psci, ..machine(arch) };
        let notes: Vec<String> = machine.notes().map(|note| note.to_string()).collect();
        assert_eq!(notes.len(), usize::from(noted), "{arch} {psci:?}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains("only a watchdog")), "{notes:?}");
    }
}

#[test]
fn all_the_memory_the_kernel_uses_with_its_mmu_off_is_cleaned() {
    let (arch, record) = (Arch::Arm64, [7; 1000]);
    let layout = lay_out_unverified(payload(arch), &machine(arch), &blob(arch), &record).unwrap();
    let params = params(&layout);
    let tree = part(&layout, "dtb");
    let bytes = u64::try_from(tree.bytes.len()).unwrap();
    assert!(bytes > 1000 && !tree.record.is_empty());
    let regions = params.regions().iter().map(|r| span(r.base, r.base + r.len));
    let cleans = params.cleans().iter().map(|r| span(r.start, r.end));
    let record = [span(params.record, params.record + 64)];
    let cleaned = range::normalise(cleans.chain(regions).chain(record));
    for wanted in [layout.kernel, span(tree.mem.start, tree.mem.start + bytes)] {
        assert!(range::covers(&cleaned, &wanted), "{wanted:x?} is not in {cleaned:x?}");
    }
    assert!(layout.kernel.len() > 3_000_000, "more than the file");
}

/// A page that the hand-over itself uses is no place for a reason, and no reason not to boot.
#[test]
fn a_reason_in_a_page_that_is_used_is_left_out() {
    for (arch, at, left) in [
        (Arch::X86_64, 0x9_f000, false),
        (Arch::X86_64, 0xfed0_0000, true),
        (Arch::Arm64, 0x900_0000, false),
        (Arch::Arm64, 0xb00_0000, true),
    ] {
        let machine = Machine {
            reason: Some(ReasonStore::Memory(at)),
            ..machine(arch)
        };
        let layout = lay_out_unverified(payload(arch), &machine, &blob(arch), &[]).unwrap();
        assert_eq!(layout.reason().is_some(), left, "{arch} {at:#x}");
    }
}
