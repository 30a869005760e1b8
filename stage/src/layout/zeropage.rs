//! `struct boot_params` and what hangs on it (x86_64): zero page, command line, setup_data list, EFI memory map.
//!
//! Given what the running kernel knows of the machine; responsible for one block of memory with every pointer in it right
//! for one physical address. Documentation/arch/x86/zero-page.rst and boot.rst; offsets:
//! arch/x86/include/uapi/asm/bootparam.h.

use crate::handover;
use crate::machine::EfiInfo;
use crate::memory::Span;
use crate::memory::map::E820_RESERVED;

/// Bytes of `struct boot_params`; the command line follows.
pub(super) const SIZE: usize = 4096;

const SCREEN_INFO_LEN: usize = 0x40;
const ACPI_RSDP_ADDR: usize = 0x070;
const EXT_RAMDISK_IMAGE: usize = 0x0c0;
const EXT_RAMDISK_SIZE: usize = 0x0c4;
const EXT_CMD_LINE_PTR: usize = 0x0c8;
const EFI_INFO: usize = 0x1c0;
const E820_ENTRIES: usize = 0x1e8;
const SECURE_BOOT: usize = 0x1ec;
const SENTINEL: usize = 0x1ef;
const HEADER: usize = 0x1f1;
const TYPE_OF_LOADER: usize = 0x210;
const LOADFLAGS: usize = 0x211;
const RAMDISK_IMAGE: usize = 0x218;
const RAMDISK_SIZE: usize = 0x21c;
const CMD_LINE_PTR: usize = 0x228;
const SETUP_DATA: usize = 0x250;
const HEADER_END: usize = 0x290;
const E820_TABLE: usize = 0x2d0;
/// `E820_MAX_ENTRIES_ZEROPAGE`
const E820_MAX: usize = 128;

const LOADED_HIGH: u8 = 1;
/// A boot loader without a number of its own.
const UNKNOWN_LOADER: u8 = 0xff;

const SETUP_E820_EXT: u32 = 1;
const SETUP_EFI: u32 = 4;
const SETUP_RNG_SEED: u32 = 9;
/// What the kernel's own file loader hands over: `RNG_SEED_LENGTH`.
const RNG_SEED_LEN: usize = 32;

/// What goes in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BootData<'a> {
    /// The kernel file's bytes from 0x1f1 to the end of its setup header.
    pub setup_header: &'a [u8],
    /// Without NUL.
    pub cmdline: &'a str,
    /// Where the initrd is, to the byte.
    pub initrd: Option<Span>,
    /// Span and E820 type, sorted.
    pub e820: &'a [(Span, u32)],
    /// The running kernel's own `boot_params`.
    pub running: Option<&'a [u8]>,
    /// ACPI's root pointer.
    pub rsdp: Option<u64>,
    /// For a kernel that takes EFI from kexec.
    pub efi: Option<&'a EfiInfo>,
    /// Fresh random bytes.
    pub seed: Option<&'a [u8]>,
    /// The hand-over record, for a setup_data node of a type of our own: kernels pass over those they do not know
    /// (arch/x86/kernel/setup.c, `parse_setup_data`), and keep the memory of all of them.
    pub handover: Option<&'a [u8]>,
}

/// What [`build`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Built {
    /// The block.
    pub bytes: Vec<u8>,
    /// Where in it the hand-over record begins, 8-byte aligned.
    pub handover: Option<usize>,
}

/// The block for physical address `base`, which is page-aligned. Its length does not depend on `base` or on where the
/// initrd is.
pub(crate) fn build(data: &BootData<'_>, base: u64) -> Built {
    let mut block = Block {
        bytes: vec![0; SIZE],
        base,
    };
    let page = &mut block;

    // boot.rst, "64-bit Boot Protocol": clear the structure, then copy the setup header at 0x1f1; what is between the
    // header's end and the table is not the header's, whatever its length says.
    let header = data
        .setup_header
        .get(..HEADER_END.saturating_sub(HEADER))
        .unwrap_or(data.setup_header);
    page.put(HEADER, header);
    // boot.rst, "type_of_loader": a loader fills it in, 0xff when it has no number.
    page.put(TYPE_OF_LOADER, &[UNKNOWN_LOADER]);
    // boot.rst, "loadflags": the protected-mode code is at its high address; heap, quiet and segment flags are for the 16-bit
    // part and the decompressor, which find their own way.
    page.put(LOADFLAGS, &[LOADED_HIGH]);
    // zero-page.rst: a sentinel that is not 0 says nobody cleared the structure, and the kernel wipes it.
    page.put(SENTINEL, &[0]);

    if let Some(running) = data.running {
        // The screen is as the running kernel found it, as long as no display driver took it.
        page.put(0, running.get(..SCREEN_INFO_LEN).unwrap_or_default());
    }
    page.put(ACPI_RSDP_ADDR, &data.rsdp.unwrap_or(0).to_le_bytes());

    // boot.rst, "ramdisk_image" and "ramdisk_size"; zero-page.rst, "ext_ramdisk_*": upper 32 bits.
    if let Some(initrd) = data.initrd {
        page.split(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, initrd.start);
        page.split(RAMDISK_SIZE, EXT_RAMDISK_SIZE, initrd.len());
    } else {
        page.split(RAMDISK_IMAGE, EXT_RAMDISK_IMAGE, 0);
        page.split(RAMDISK_SIZE, EXT_RAMDISK_SIZE, 0);
    }

    let in_table = data.e820.get(..E820_MAX).unwrap_or(data.e820);
    page.put(E820_ENTRIES, &[u8::try_from(in_table.len()).unwrap_or(u8::MAX)]);
    page.put(E820_TABLE, &e820(in_table));

    // boot.rst, "cmd_line_ptr": NUL-terminated, anywhere in memory.
    let cmdline = block.append(&[data.cmdline.as_bytes(), &[0]].concat());
    block.split(CMD_LINE_PTR, EXT_CMD_LINE_PTR, cmdline);

    let mut nodes: Vec<(u32, Vec<u8>)> = Vec::new();
    if let Some(rest) = data.e820.get(E820_MAX..).filter(|r| !r.is_empty()) {
        nodes.push((SETUP_E820_EXT, e820(rest)));
    }
    if let Some(seed) = data.seed.and_then(|s| s.get(..RNG_SEED_LEN)) {
        nodes.push((SETUP_RNG_SEED, seed.to_vec()));
    }
    if let Some(efi) = data.efi {
        nodes.push((SETUP_EFI, efi_setup_data(efi)));
        let map: Vec<u8> = efi.runtime.iter().flat_map(efi_descriptor).collect();
        let at = block.append(&map);
        block.put(EFI_INFO, &efi_info(efi, at, map.len()));
        let secure_boot = data.running.and_then(|r| r.get(SECURE_BOOT)).copied().unwrap_or(0);
        block.put(SECURE_BOOT, &[secure_boot]);
    }
    if let Some(record) = data.handover {
        nodes.push((handover::SETUP_DATA, record.to_vec()));
    }
    // boot.rst, "setup_data": a linked list; each node is the next one's address, type, length and data.
    let mut next = 0;
    let mut handover = None;
    for (kind, payload) in nodes.iter().rev() {
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        next = block.append(
            &[
                &u64::to_le_bytes(next)[..],
                &kind.to_le_bytes(),
                &len.to_le_bytes(),
                payload,
            ]
            .concat(),
        );
        if *kind == handover::SETUP_DATA {
            handover = block.bytes.len().checked_sub(payload.len());
        }
    }
    block.put(SETUP_DATA, &next.to_le_bytes());
    Built {
        bytes: block.bytes,
        handover,
    }
}

/// Bytes for one physical address.
struct Block {
    bytes: Vec<u8>,
    base: u64,
}

impl Block {
    /// Overwrites; what does not fit is left out.
    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    /// A number whose halves are in two places.
    fn split(&mut self, low: usize, high: usize, value: u64) {
        let bytes = value.to_le_bytes();
        let (l, h) = bytes.split_at(4);
        self.put(low, l);
        self.put(high, h);
    }

    /// Adds bytes at the end, 8-byte aligned, and says at which physical address they are.
    fn append(&mut self, bytes: &[u8]) -> u64 {
        let at = self.bytes.len().next_multiple_of(8);
        self.bytes.resize(at, 0);
        self.bytes.extend_from_slice(bytes);
        self.base.saturating_add(u64::try_from(at).unwrap_or(u64::MAX))
    }
}

/// `struct boot_e820_entry`, packed: address, size, type.
fn e820(entries: &[(Span, u32)]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|(span, kind)| {
            // A type of 0 would end nothing and mean nothing.
            let kind = if *kind == 0 { E820_RESERVED } else { *kind };
            [
                &span.start.to_le_bytes()[..],
                &span.len().to_le_bytes(),
                &kind.to_le_bytes(),
            ]
            .concat()
        })
        .collect()
}

/// `efi_memory_desc_t`, version 1: type, padding, physical, virtual, pages, attribute.
const EFI_DESCRIPTOR: u32 = 40;

fn efi_descriptor(d: &[u64; 5]) -> Vec<u8> {
    d.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `struct efi_info`.
fn efi_info(efi: &EfiInfo, map: u64, len: usize) -> Vec<u8> {
    let low = |v: u64| v.to_le_bytes().into_iter().take(4);
    let high = |v: u64| v.to_le_bytes().into_iter().skip(4);
    let mut out: Vec<u8> = b"EL64".to_vec();
    out.extend(low(efi.systab));
    out.extend(EFI_DESCRIPTOR.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend(low(map));
    out.extend(u32::try_from(len).unwrap_or(0).to_le_bytes());
    out.extend(high(efi.systab));
    out.extend(high(map));
    out
}

/// `struct efi_setup_data`: firmware vendor, runtime services (unused), configuration tables, SMBIOS, 8 reserved words.
fn efi_setup_data(efi: &EfiInfo) -> Vec<u8> {
    let mut out = [efi.fw_vendor, 0, efi.config_table, efi.smbios]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect::<Vec<u8>>();
    out.resize(96, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0x1_2345_6000;

    fn u32_at(b: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(b[at..][..4].try_into().unwrap())
    }
    fn u64_at(b: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(b[at..][..8].try_into().unwrap())
    }
    fn at_address(b: &[u8], address: u64) -> &[u8] {
        &b[usize::try_from(address.checked_sub(BASE).unwrap()).unwrap()..]
    }

    /// Every setup_data node, by following the pointers.
    fn nodes(b: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        let mut next = u64_at(b, 0x250);
        while next != 0 {
            let node = at_address(b, next);
            let len = usize::try_from(u32_at(node, 12)).unwrap();
            out.push((u32_at(node, 8), node[16..][..len].to_vec()));
            next = u64_at(node, 0);
        }
        out
    }

    fn map(count: u64) -> Vec<(Span, u32)> {
        (0..count)
            .map(|i| {
                let start = i.checked_mul(0x10_0000).unwrap();
                (Span::sized(start, 0x1000).unwrap(), u32::from(i != 0))
            })
            .collect()
    }

    fn header() -> Vec<u8> {
        let mut header = vec![0xaa; 0x7b];
        header[0x11] = 0x01; // setup_sects and the like stay as they are in the file
        header
    }

    fn data<'a>(header: &'a [u8], e820: &'a [(Span, u32)]) -> BootData<'a> {
        BootData {
            setup_header: header,
            cmdline: "root=/dev/vda2",
            initrd: Some(Span {
                start: 0x2_4000_0000,
                end: 0x2_4000_1234,
            }),
            e820,
            running: None,
            rsdp: Some(0x7fe_0000),
            efi: None,
            seed: None,
            handover: None,
        }
    }

    #[test]
    fn the_fields_are_where_the_kernel_reads_them() {
        let (header, e820) = (header(), map(3));
        let b = build(&data(&header, &e820), BASE).bytes;
        assert_eq!(b[0x1f1], 0xaa);
        assert_eq!(b[0x210], 0xff);
        assert_eq!(b[0x211], 1);
        assert_eq!(b[0x1ef], 0);
        assert_eq!((u32_at(&b, 0x218), u32_at(&b, 0x0c0)), (0x4000_0000, 2));
        assert_eq!((u32_at(&b, 0x21c), u32_at(&b, 0x0c4)), (0x1234, 0));
        assert_eq!(u64_at(&b, 0x70), 0x7fe_0000);
        let cmdline = u64::from(u32_at(&b, 0x228)) | u64::from(u32_at(&b, 0x0c8)) << 32;
        assert!(at_address(&b, cmdline).starts_with(b"root=/dev/vda2\0"));
        assert_eq!(b[0x1e8], 3);
        assert_eq!(
            (u64_at(&b, 0x2d0 + 20), u64_at(&b, 0x2d0 + 28), u32_at(&b, 0x2d0 + 36)),
            (0x10_0000, 0x1000, 1)
        );
        assert_eq!(u32_at(&b, 0x2d0 + 16), 2, "a type of 0 is reserved");
        assert_eq!(nodes(&b), []);
        assert!(b[0x1c0..0x1e0].iter().all(|x| *x == 0));
        // From the header's end to the table nothing is the file's, and the screen is blank.
        assert!(b[0x1f1 + 0x7b..0x2d0].iter().chain(&b[..0x40]).all(|x| *x == 0));
    }

    #[test]
    fn a_header_that_says_it_is_longer_does_not_reach_the_memory_map() {
        let (header, e820) = (vec![0xaa; 0x1000], map(1));
        let b = build(&data(&header, &e820), BASE).bytes;
        assert_eq!(b[0x28f], 0xaa);
        assert_eq!(b[0x290], 0);
    }

    #[test]
    fn the_129th_entry_goes_to_the_extension_and_seeds_follow() {
        let (header, e820, seed) = (header(), map(300), [7; 128]);
        let b = build(
            &BootData {
                seed: Some(&seed),
                ..data(&header, &e820)
            },
            BASE,
        )
        .bytes;
        assert_eq!(b[0x1e8], 128);
        let nodes = nodes(&b);
        assert_eq!(
            nodes.iter().map(|n| (n.0, n.1.len())).collect::<Vec<_>>(),
            [(1, 172 * 20), (9, 32)]
        );
        assert_eq!(u64_at(&nodes[0].1, 0), 128 * 0x10_0000);
        assert_eq!(nodes[1].1, [7; 32]);
    }

    #[test]
    fn efi_goes_on_with_its_map() {
        let (header, e820) = (header(), map(1));
        let efi = EfiInfo {
            fw_vendor: 0xf00,
            config_table: 0xc00,
            smbios: 0x5b0,
            systab: 0x5_0000_1000,
            runtime: vec![
                [5, 0x1000, 0xffff_fffe_0000_1000, 3, 0x8000_0000_0000_000f],
                [6, 0x9000, 0x9000, 1, 0xf],
            ],
        };
        let mut running = vec![0x11; 4096];
        running[0x1ec] = 2;
        let b = build(
            &BootData {
                efi: Some(&efi),
                running: Some(&running),
                ..data(&header, &e820)
            },
            BASE,
        )
        .bytes;
        assert_eq!(&b[0x1c0..0x1c4], b"EL64");
        assert_eq!((u32_at(&b, 0x1c4), u32_at(&b, 0x1d8)), (0x1000, 5));
        assert_eq!((u32_at(&b, 0x1c8), u32_at(&b, 0x1cc), u32_at(&b, 0x1d4)), (40, 1, 80));
        let at = u64::from(u32_at(&b, 0x1d0)) | u64::from(u32_at(&b, 0x1dc)) << 32;
        let descriptors = at_address(&b, at);
        assert_eq!(
            (u32_at(descriptors, 0), u64_at(descriptors, 16)),
            (5, 0xffff_fffe_0000_1000)
        );
        assert_eq!((u32_at(descriptors, 40), u64_at(descriptors, 64)), (6, 1));
        let nodes = nodes(&b);
        assert_eq!((nodes.len(), nodes[0].0, nodes[0].1.len()), (1, 4, 96));
        assert_eq!(
            (u64_at(&nodes[0].1, 0), u64_at(&nodes[0].1, 16), u64_at(&nodes[0].1, 24)),
            (0xf00, 0xc00, 0x5b0)
        );
        assert_eq!(b[0x1ec], 2);
        assert_eq!((b[0x3f], b[0x40]), (0x11, 0), "screen_info and no more");
    }

    #[test]
    fn the_length_does_not_depend_on_the_place() {
        let (header, e820, seed) = (header(), map(200), [1; 136]);
        let d = BootData {
            seed: Some(&seed),
            ..data(&header, &e820)
        };
        let other = BootData { initrd: None, ..d };
        assert_eq!(build(&d, 0).bytes.len(), build(&other, BASE).bytes.len());
    }

    #[test]
    fn the_record_is_a_node_and_its_place_is_known() {
        let (header, e820, seed) = (header(), map(200), [1; 136]);
        let record: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let built = build(
            &BootData {
                seed: Some(&seed),
                handover: Some(&record),
                ..data(&header, &e820)
            },
            BASE,
        );
        let at = built.handover.unwrap();
        assert!(at.is_multiple_of(8));
        assert_eq!(built.bytes[at..][..record.len()], record);
        let nodes = nodes(&built.bytes);
        assert_eq!(nodes.iter().map(|n| n.0).collect::<Vec<_>>(), [1, 9, 0x4f54_4143]);
        assert_eq!(nodes[2].1, record);
        assert_eq!(build(&data(&header, &e820), BASE).handover, None);
    }

    #[test]
    fn the_running_kernel_s_own_list_ends_with_it() {
        let (header, e820) = (header(), map(1));
        let mut running = vec![0; 4096];
        running[SETUP_DATA..SETUP_DATA + 8].copy_from_slice(&0x7000_0000u64.to_le_bytes());
        let b = build(
            &BootData {
                running: Some(&running),
                ..data(&header, &e820)
            },
            BASE,
        );
        assert_eq!(nodes(&b.bytes), []);
    }
}
