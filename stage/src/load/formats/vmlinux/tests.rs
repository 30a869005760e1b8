use proptest::prelude::*;

use super::super::super::arena::Slot;
use super::super::super::fakes::{bzimage, gzip, machine, noise, put, zstd};
use super::super::{Header, Sniffed, sniff, unpack};
use super::*;
use crate::load::{Kaslr, Kernel};
use config::Arch::{Arm64, X86_64};

const BASE: u64 = 0x100_0000;
const START: u64 = 0xffff_ffff_8000_0000;

/// Offset in the file, physical address, length in the file, length in memory.
type Segment = (u64, u64, u64, u64);

const SEGMENTS: [Segment; 3] = [
    (0x1000, BASE, 0x1800, 0x1800),
    (0x3000, BASE + 0x2000, 0x800, 0x900),
    (0x3800, BASE + 0x3000, 0x1000, 0x8000),
];

/// An ELF kernel of `segments`, entered 0x43 bytes behind the first one's start, with section headers at its end.
fn elf(segments: &[Segment]) -> Vec<u8> {
    let mut file = noise(0x4800);
    put(&mut file, 0, &[0; 0x1000]);
    put(&mut file, 0, b"\x7fELF\x02\x01\x01");
    put(&mut file, 16, &2_u16.to_le_bytes());
    put(&mut file, 18, &62_u16.to_le_bytes());
    put(&mut file, 20, &1_u32.to_le_bytes());
    for (at, word) in [(24, BASE + 0x43), (32, 64), (40, 0x4800)] {
        put(&mut file, at, &word.to_le_bytes());
    }
    for (at, half) in [
        (52, 64_u16),
        (54, 56),
        (56, u16::try_from(segments.len()).unwrap()),
        (58, 64),
        (60, 2),
    ] {
        put(&mut file, at, &half.to_le_bytes());
    }
    for (i, (offset, paddr, filesz, memsz)) in segments.iter().enumerate() {
        let at = 64 + 56 * i;
        put(&mut file, at, &1_u32.to_le_bytes());
        put(&mut file, at + 4, &5_u32.to_le_bytes());
        for (n, word) in [*offset, START + paddr, *paddr, *filesz, *memsz, 0x1000]
            .into_iter()
            .enumerate()
        {
            put(&mut file, at + 8 + 8 * n, &word.to_le_bytes());
        }
    }
    file.extend([0; 128]);
    file
}

/// Where the three relocations of [`kernel`] are, bytes from the load address: 64 bits, subtracted, 32 bits.
const PLACES: [usize; 3] = [0x100, 0x2010, 0x37f0];

/// An ELF kernel with relocations behind it.
fn kernel() -> Vec<u8> {
    let mut file = elf(&SEGMENTS);
    for place in PLACES {
        let place = u32::try_from(0x8100_0000 + place).unwrap();
        file.extend([0_u32.to_le_bytes(), place.to_le_bytes()].concat());
    }
    file
}

/// The same in memory.
fn in_memory(file: &[u8], segments: &[Segment]) -> Vec<u8> {
    let end = segments.iter().map(|s| s.1 + s.3).max().unwrap();
    let mut memory = vec![0; usize::try_from(end - BASE).unwrap()];
    for (offset, paddr, filesz, _) in segments {
        let bytes = &file[usize::try_from(*offset).unwrap()..][..usize::try_from(*filesz).unwrap()];
        put(&mut memory, usize::try_from(paddr - BASE).unwrap(), bytes);
    }
    memory
}

/// A bzImage around `packed`; what is not gzip has its length behind it.
fn around(packed: &[u8]) -> Vec<u8> {
    let mut payload = packed.to_vec();
    if !packed.starts_with(b"\x1f\x8b") {
        payload.extend([1, 2, 3, 4]);
    }
    let len = u32::try_from((payload.len() + 0x300).next_multiple_of(16)).unwrap();
    let mut file = bzimage(len);
    put(&mut file, 0x248, &0x2cc_u32.to_le_bytes());
    put(&mut file, 0x24c, &u32::try_from(payload.len()).unwrap().to_le_bytes());
    put(&mut file, 40 * 512 + 0x2cc, &payload);
    file
}

fn look(file: &[u8]) -> Result<Sniffed, FormatError> {
    let head = &file[..file.len().min(256 << 10)];
    sniff(head, file.len() as u64, &machine(X86_64), true)
}

fn refused(file: &[u8]) -> String {
    look(file).err().unwrap().to_string()
}

/// Loads it as it would be booted, with `random` for KASLR.
fn load(file: &[u8], random: Option<u64>) -> io::Result<(Kernel, Option<Kaslr>)> {
    let Sniffed { wrappers, mut plan, .. } = look(file).unwrap();
    let said = plan.header.randomise(random, "ro quiet");
    let mut slot = Slot::reserve(plan.most).unwrap();
    let more = plan.pour(&mut *unpack(&wrappers, Box::new(file)), &mut slot)?;
    assert!(!more);
    Ok((plan.header.with(slot), said))
}

#[test]
fn the_kernel_inside_is_as_it_is_in_memory() {
    let inside = kernel();
    let want = in_memory(&inside, &SEGMENTS);
    for (packed, names) in [
        (around(&gzip(&inside)), vec!["bzImage", "gzip"]),
        (around(&zstd(&inside)), vec!["bzImage", "zstd"]),
        (gzip(&around(&zstd(&inside))), vec!["gzip", "bzImage", "zstd"]),
    ] {
        let sniffed = look(&packed).unwrap();
        assert_eq!(sniffed.wrappers.iter().map(|w| w.name).collect::<Vec<_>>(), names);
        assert_eq!(sniffed.plan.header.name(), "vmlinux");
        assert_eq!((sniffed.plan.least, sniffed.plan.most), (0xb000, 0xb000));
        let (kernel, said) = load(&packed, None).unwrap();
        assert_eq!(said, Some(Kaslr::None));
        let Kernel::BzImage(kernel) = kernel else { panic!() };
        assert!(*kernel.bytes == *want);
        assert_eq!((kernel.entry, kernel.unpacked), (0x43, Some(Kaslr::None)));
        assert_eq!((kernel.init_size, kernel.pref_address), (0x300_0000, BASE));
    }
}

#[test]
fn it_moves_by_what_was_drawn() {
    let inside = kernel();
    let mut want = in_memory(&inside, &SEGMENTS);
    // 1 GiB less 16 MiB and 48 MiB in steps of 2 MiB: 481 places.
    for (random, slide) in [
        (0, 0_u64),
        (3, 3 << 21),
        (480, 480 << 21),
        (481, 0),
        (u64::MAX, (u64::MAX % 481) << 21),
    ] {
        let (kernel, said) = load(&around(&zstd(&inside)), Some(random)).unwrap();
        assert_eq!(said, Some(Kaslr::Virtual));
        let Kernel::BzImage(kernel) = kernel else { panic!() };
        assert_eq!(kernel.unpacked, Some(Kaslr::Virtual));
        let unmoved = in_memory(&inside, &SEGMENTS);
        let [wide, inverse, narrow] = PLACES;
        let at = |bytes: &[u8], place: usize| u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap());
        let low = u32::try_from(slide).unwrap();
        let eight = u64::from_le_bytes(unmoved[wide..wide + 8].try_into().unwrap());
        want.copy_from_slice(&unmoved);
        put(&mut want, wide, &eight.wrapping_add(slide).to_le_bytes());
        put(
            &mut want,
            inverse,
            &at(&unmoved, inverse).wrapping_sub(low).to_le_bytes(),
        );
        put(&mut want, narrow, &at(&unmoved, narrow).wrapping_add(low).to_le_bytes());
        assert!(*kernel.bytes == *want, "{random}");
    }
}

#[test]
fn what_cannot_move_stays_and_says_so() {
    let loaded = |file: &[u8]| {
        let (Kernel::BzImage(kernel), _) = load(&around(&gzip(file)), Some(3)).unwrap() else {
            panic!()
        };
        assert!(*kernel.bytes == *in_memory(file, &SEGMENTS));
        kernel.unpacked
    };
    assert_eq!(loaded(&elf(&SEGMENTS)), Some(Kaslr::None), "no relocations");
    let unknown = [kernel(), vec![0; 4], vec![1; 4], vec![0; 4], vec![1; 4]].concat();
    assert_eq!(loaded(&unknown), Some(Kaslr::None), "five sets");
    let place = u32::try_from(0x8100_0000 + PLACES[0]).unwrap().to_le_bytes();
    let endless = [
        elf(&SEGMENTS),
        vec![0; 4],
        place.to_vec(),
        vec![0; 4],
        place.repeat(2 << 20),
    ]
    .concat();
    assert_eq!(loaded(&endless), Some(Kaslr::None), "more than is read");
    let mut header = look(&around(&gzip(&kernel()))).unwrap().plan.header;
    assert_eq!(header.randomise(Some(3), "ro nokaslr quiet"), Some(Kaslr::None));
    assert_eq!(header.randomise(None, "ro"), Some(Kaslr::None));
    let mut closed = sniff(&bzimage(0x8000), 0xd000, &machine(X86_64), false)
        .unwrap()
        .plan
        .header;
    assert_eq!(closed.randomise(Some(3), "ro"), None);
    // A relocation that would write past the kernel is no kernel's.
    let outside = [
        elf(&SEGMENTS),
        [0_u32, 0, 0, 0x8100_affd].map(u32::to_le_bytes).concat(),
    ]
    .concat();
    let error = load(&around(&gzip(&outside)), Some(3)).unwrap_err().to_string();
    assert_eq!(error, "a relocation points outside of the kernel");
}

/// With 5-level paging on, a kernel that has none is entered through its decompressor, or not at all.
#[test]
fn five_levels_are_the_kernel_s_own_matter_once_it_is_unpacked() {
    let mut la57 = machine(X86_64);
    la57.la57 = true;
    let mut file = around(&gzip(&kernel()));
    let said = |file: &[u8], unpack| {
        sniff(file, file.len() as u64, &la57, unpack)
            .err()
            .map(|error| error.to_string())
    };
    // XLF_5LEVEL and XLF_5LEVEL_ENABLED, then the decompressor's alone.
    file[0x236] = 0x7f;
    assert_eq!(said(&file, true), None);
    file[0x236] = 0x3f;
    assert_eq!(said(&file, false), None);
    let refused = said(&file, true).unwrap();
    assert!(refused.contains("unpack = false"), "{refused}");
}

#[test]
fn an_image_of_another_kind_is_not_looked_into() {
    let file = super::super::super::fakes::image(0x12000);
    let sniffed = sniff(&file, file.len() as u64, &machine(Arm64), true).unwrap();
    assert!(matches!(sniffed.plan.header, Header::Image { .. }));
    assert!(sniffed.wrappers.is_empty());
}

#[test]
fn a_payload_that_cannot_be_is_refused() {
    let good = around(&gzip(&kernel()));
    for (at, value, text) in [
        (0x248, 0_u32, "has payload_length = "),
        (0x248, 0x4000_0000, "has payload_length = "),
        (0x248, u32::MAX, "has payload_length = "),
        (
            0x24c,
            0,
            "has payload_length = 0x0 in its header, which should be inside the kernel",
        ),
        (0x24c, u32::MAX, "has payload_length = 0xffffffff"),
        (0x24c, 4, "in bzImage: is a gzip stream that is truncated"),
        (
            0x248,
            0x2cd,
            "has a payload that is of an unknown kind; unpack = true takes gzip and zstd: set unpack = false",
        ),
    ] {
        let mut file = good.clone();
        put(&mut file, at, &value.to_le_bytes());
        let said = refused(&file);
        assert!(said.starts_with(text), "{said} / {text}");
    }
    let xz = refused(&around(b"\xfd7zXZ\0\0\x01 and so on"));
    assert!(xz.starts_with("has a payload that is an xz stream; "), "{xz}");
    let text = refused(&around(&gzip(b"no kernel")));
    assert!(
        text.starts_with("in bzImage: in gzip: is no kernel (begins with 6e 6f"),
        "{text}"
    );
}

#[test]
fn headers_no_kernel_has_are_refused() {
    let segment = |n: usize, field: usize| 64 + 56 * n + 8 + 8 * field;
    for (at, value, text) in [
        (18, 183, "has e_machine = 0xb7"),
        (16, 1, "has e_type = 0x1"),
        (24, BASE + 0x1800, "has e_entry = 0x1001800"),
        (24, 0, "has e_entry = 0x0"),
        (32, u64::MAX, "has e_phoff = 0xffffffffffffffff"),
        (32, 0x4850, "has e_phoff = 0x4850"),
        (54, 32, "has e_phoff = 0x40"),
        (56, 0xffff, "has e_phoff = 0x40"),
        (56, 0, "has p_paddr = 0x1000000"),
        (segment(0, 2), BASE + 0x200, "has p_paddr = 0x1000000"),
        (segment(0, 2), 0, "has p_paddr = 0x0"),
        (segment(1, 2), BASE, "has p_paddr = 0x1000000"),
        (segment(1, 2), u64::MAX, "has p_paddr = 0xffffffffffffffff"),
        (segment(1, 0), 0x2000, "has p_offset = 0x2000"),
        (segment(1, 0), u64::MAX, "has p_offset = 0xffffffffffffffff"),
        (segment(1, 3), 0x901, "has p_memsz = 0x900"),
        (segment(2, 4), 1 << 31, "has p_memsz = 0x80000000"),
        (4, 1, "is no kernel"),
        (5, 2, "is no kernel"),
    ] {
        let mut file = elf(&SEGMENTS);
        let len = if at < 16 {
            1
        } else if (16..20).contains(&at) || (52..64).contains(&at) {
            2
        } else {
            8
        };
        put(&mut file, at, &u64::to_le_bytes(value)[..len]);
        let said = parse(&file, BASE).unwrap_err().to_string();
        assert!(said.starts_with(text), "{said} / {text}");
    }
}

#[test]
fn an_end_before_its_end_leaves_too_few_bytes() {
    let file = kernel();
    for len in [0x1000, 0x27ff, 0x3000, 0x37ff, 0x3900, 0x47ff] {
        let mut vmlinux = parse(&file, BASE).unwrap();
        let mut slot = Slot::reserve(0xb000).unwrap();
        vmlinux.pour(&mut &file[..len], &mut slot).unwrap();
        assert!(slot.len() < 0xb000, "{len:#x}");
    }
}

proptest! {
    #[test]
    fn any_kernel_is_loaded_whole_or_refused(
        changes in proptest::collection::vec((0..0x140_usize, any::<u8>()), 0..6),
        tail in proptest::collection::vec(any::<u8>(), 0..64),
        len in 0..0x5000_usize, random: u64,
    ) {
        let mut file = [elf(&SEGMENTS), tail].concat();
        for (at, byte) in changes {
            file[at] = byte;
        }
        file.truncate(len);
        if let Ok(mut vmlinux) = parse(&file, BASE) {
            prop_assert!(vmlinux.entry < vmlinux.len && vmlinux.len <= 2 * IMAGE_SIZE);
            vmlinux.randomise(random, 1 << 20, 1 << 21);
            prop_assert!(vmlinux.slide.unwrap_or(0) < IMAGE_SIZE);
            // A slot that is too small is no panic either.
            let mut slot = Slot::reserve(vmlinux.len.min(1 << 16)).unwrap();
            let _ = vmlinux.pour(&mut &file[..], &mut slot);
        }
    }

    #[test]
    fn no_payload_panics(
        changes in proptest::collection::vec((0..0x280_usize, any::<u8>()), 0..4),
        inside in proptest::collection::vec((0..9000_usize, any::<u8>()), 0..4),
        packing in 0..2_usize,
    ) {
        let packed = if packing == 0 { gzip(&kernel()) } else { zstd(&kernel()) };
        let mut file = around(&packed);
        for (at, byte) in changes {
            file[at] = byte;
        }
        for (at, byte) in inside {
            let at = 40 * 512 + 0x2cc + at % packed.len();
            file[at] = byte;
        }
        if let Ok(Sniffed { wrappers, mut plan, .. }) = look(&file) {
            plan.header.randomise(Some(1), "");
            let mut slot = Slot::reserve(plan.most.min(1 << 20)).unwrap();
            let _ = plan.pour(&mut *unpack(&wrappers, Box::new(&file[..])), &mut slot);
        }
    }
}
