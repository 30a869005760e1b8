//! Given the guest's ELF, makes the arm64 `Image` or x86_64 `bzImage` a boot loader takes, true or wrong in any one field.
//!
//! Responsible for the record by which the guest can tell whether it arrived whole.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "host tool: the numbers were bounded before"
)]

use config::Arch;
use goblin::elf::Elf;
use goblin::elf::header::{EM_AARCH64, EM_X86_64};
use goblin::elf::program_header::PT_LOAD;
use thiserror::Error;

use crate::memory::{Sum, add_bytes};

/// Where the record lies in an `Image`, and in the protected-mode part of a `bzImage`: four little-endian words, `len`, `skip_start`,
/// `skip_end`, `sum`. Summed are the bytes after the record up to `skip_start`, and `[skip_end, len)`: between them is the memory that
/// the guest writes.
pub const RECORD: usize = 0x40;

/// First byte after the record.
const SUMMED: usize = RECORD + 32;

/// The largest guest that is built, bytes.
const LARGEST: u64 = 1 << 30;

/// Why there is no image.
#[derive(Debug, Error)]
pub enum ImageError {
    /// goblin does not take it.
    #[error("guest ELF: {0}")]
    Elf(#[from] goblin::error::Error),
    /// Made for another machine.
    #[error("guest ELF: machine {found}, wanted {wanted} ({arch})")]
    Machine {
        /// What was asked for.
        arch: Arch,
        /// `e_machine` there.
        found: u16,
        /// `e_machine` for `arch`.
        wanted: u16,
    },
    /// Its segments do not fit into the file, or into a GiB.
    #[error("guest ELF: segment at {at:#x}, {size:#x} bytes: outside the file or too large")]
    Segment {
        /// Virtual address.
        at: u64,
        /// Size in the file.
        size: u64,
    },
    /// There is no room for the record, so it is not this guest.
    #[error("guest ELF: {0} bytes: no guest-entry image")]
    Short(usize),
}

/// An arm64 `Image` (Documentation/arch/arm64/booting.rst, "Call the kernel image").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arm64Image {
    /// Offset from a 2 MiB aligned base.
    pub text_offset: u64,
    /// Memory it needs; `None` for what it really needs.
    pub image_size: Option<u64>,
    /// Endianness, page size, placement. The default is little endian, 4 KiB, anywhere.
    pub flags: u64,
    /// The magic number.
    pub magic: [u8; 4],
    /// Filled up to this size with bytes that do not compress.
    pub file_size: u64,
}

impl Default for Arm64Image {
    fn default() -> Self {
        Self {
            text_offset: 0,
            image_size: None,
            flags: 0xa,
            magic: *b"ARM\x64",
            file_size: 0,
        }
    }
}

impl Arm64Image {
    /// Makes it.
    pub fn build(&self, elf: &[u8]) -> Result<Vec<u8>, ImageError> {
        let (mut image, needs) = flat(elf, Arch::Arm64, self.file_size)?;
        put(&mut image, 8, &self.text_offset.to_le_bytes());
        put(&mut image, 16, &self.image_size.unwrap_or(needs).to_le_bytes());
        put(&mut image, 24, &self.flags.to_le_bytes());
        put(&mut image, 56, &self.magic);
        Ok(image)
    }
}

/// An x86_64 `bzImage` (Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header"). It can be entered at its 64-bit entry only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BzImage {
    /// Sectors of the setup part after the first; 0 means 4.
    pub setup_sects: u8,
    /// `boot_flag`.
    pub boot_flag: u16,
    /// `HdrS`.
    pub magic: [u8; 4],
    /// Protocol version.
    pub version: u16,
    /// Bit 0: loaded high.
    pub loadflags: u8,
    /// Highest address of the initrd's last byte.
    pub initrd_addr_max: u32,
    /// Alignment of the load address.
    pub kernel_alignment: u32,
    /// Not 0: runs anywhere.
    pub relocatable: u8,
    /// Bits 0: 64-bit entry, 1: above 4 GiB, 4: EFI after a kexec, 5: 5-level paging, 6: 5-level paging wanted.
    pub xloadflags: u16,
    /// Longest command line without its NUL.
    pub cmdline_size: u32,
    /// Where it would like to be.
    pub pref_address: u64,
    /// Memory it needs; `None` for what it really needs.
    pub init_size: Option<u32>,
    /// The protected-mode part is filled up to this size with bytes that do not compress.
    pub payload_size: u64,
}

impl Default for BzImage {
    fn default() -> Self {
        Self {
            setup_sects: 4,
            boot_flag: 0xaa55,
            magic: *b"HdrS",
            version: 0x20f,
            loadflags: 1,
            initrd_addr_max: 0x7fff_ffff,
            kernel_alignment: 0x20_0000,
            relocatable: 1,
            xloadflags: 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6,
            cmdline_size: 2047,
            pref_address: 0x100_0000,
            init_size: None,
            payload_size: 0,
        }
    }
}

impl BzImage {
    /// Makes it.
    pub fn build(&self, elf: &[u8]) -> Result<Vec<u8>, ImageError> {
        let (payload, needs) = flat(elf, Arch::X86_64, self.payload_size)?;
        let sectors = if self.setup_sects == 0 {
            4
        } else {
            usize::from(self.setup_sects)
        };
        let mut image = vec![0; (sectors + 1) * 512];
        let paragraphs = u32::try_from(payload.len().div_ceil(16)).unwrap_or(u32::MAX);
        let needs = u32::try_from(needs).unwrap_or(u32::MAX);
        // 0x1ef: a boot loader that copies the sector instead of the header is found out by this byte.
        put(&mut image, 0x1ef, &[0xff]);
        put(&mut image, 0x1f1, &[self.setup_sects]);
        put(&mut image, 0x1f4, &paragraphs.to_le_bytes());
        put(&mut image, 0x1fe, &self.boot_flag.to_le_bytes());
        // A short jump over the rest of the header, to real-mode code that halts.
        put(&mut image, 0x200, &[0xeb, 0x6a]);
        put(&mut image, 0x202, &self.magic);
        put(&mut image, 0x206, &self.version.to_le_bytes());
        put(&mut image, 0x211, &[self.loadflags]);
        put(&mut image, 0x214, &0x10_0000_u32.to_le_bytes());
        put(&mut image, 0x22c, &self.initrd_addr_max.to_le_bytes());
        put(&mut image, 0x230, &self.kernel_alignment.to_le_bytes());
        put(&mut image, 0x234, &[self.relocatable, 21]);
        put(&mut image, 0x236, &self.xloadflags.to_le_bytes());
        put(&mut image, 0x238, &self.cmdline_size.to_le_bytes());
        put(&mut image, 0x258, &self.pref_address.to_le_bytes());
        put(&mut image, 0x260, &self.init_size.unwrap_or(needs).to_le_bytes());
        put(&mut image, 0x26c, &[0xfa, 0xf4, 0xeb, 0xfd]);
        image.extend(payload);
        Ok(image)
    }
}

/// The guest as any kernel: the default `Image` or `bzImage`, filled up to `size` bytes.
pub fn build(elf: &[u8], arch: Arch, size: u64) -> Result<Vec<u8>, ImageError> {
    match arch {
        Arch::Arm64 => Arm64Image {
            file_size: size,
            ..Arm64Image::default()
        }
        .build(elf),
        Arch::X86_64 => BzImage {
            payload_size: size,
            ..BzImage::default()
        }
        .build(elf),
    }
}

/// The loaded bytes of an ELF from address 0 on, with filler and record, and the memory they need.
fn flat(elf: &[u8], arch: Arch, size: u64) -> Result<(Vec<u8>, u64), ImageError> {
    let wanted = match arch {
        Arch::Arm64 => EM_AARCH64,
        Arch::X86_64 => EM_X86_64,
    };
    let parsed = Elf::parse(elf)?;
    let found = parsed.header.e_machine;
    if found != wanted {
        return Err(ImageError::Machine { arch, found, wanted });
    }
    let mut image = Vec::new();
    let mut end = 0;
    for segment in parsed.program_headers.iter().filter(|s| s.p_type == PT_LOAD) {
        let (at, size) = (segment.p_vaddr, segment.p_filesz);
        let bad = || ImageError::Segment { at, size };
        let top = at
            .checked_add(segment.p_memsz.max(size))
            .filter(|top| *top <= LARGEST)
            .ok_or_else(bad)?;
        let from = usize::try_from(segment.p_offset).map_err(|_| bad())?;
        let len = usize::try_from(size).map_err(|_| bad())?;
        let bytes = from.checked_add(len).and_then(|to| elf.get(from..to)).ok_or_else(bad)?;
        let at = usize::try_from(at).map_err(|_| bad())?;
        if image.len() < at + len {
            image.resize(at + len, 0);
        }
        put(&mut image, at, bytes);
        end = end.max(top);
    }
    if image.len() < SUMMED {
        return Err(ImageError::Short(image.len()));
    }
    image.resize(image.len().next_multiple_of(8), 0);
    let skip_start = image.len();
    let end = usize::try_from(end)
        .unwrap_or(usize::MAX)
        .next_multiple_of(4096)
        .max(skip_start);
    let size = usize::try_from(size.min(LARGEST)).unwrap_or(usize::MAX);
    // Filler that would end in the memory the guest writes is filler as well: the image is just larger than it was asked to be.
    if size > skip_start {
        image.resize(end, 0);
        fill(&mut image, size);
    }
    let len = image.len();
    let mut sum = Sum::new();
    add_bytes(&mut sum, image.get(SUMMED..skip_start).unwrap_or_default());
    add_bytes(&mut sum, image.get(end..).unwrap_or_default());
    let words = [len, skip_start, end]
        .map(|n| n as u64)
        .into_iter()
        .chain([sum.finish()]);
    for (i, word) in words.enumerate() {
        put(&mut image, RECORD + i * 8, &word.to_le_bytes());
    }
    Ok((image, len.max(end).next_multiple_of(4096) as u64))
}

/// Grows to `size` with bytes that do not compress (xorshift64).
fn fill(image: &mut Vec<u8>, size: usize) {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    while image.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let bytes = state.to_le_bytes();
        let room = size - image.len();
        image.extend(bytes.iter().take(room));
    }
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in image.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF64 with one segment: `file` bytes at address 0, `memory` bytes there.
    fn elf(machine: u16, file: &[u8], memory: u64) -> Vec<u8> {
        let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for half in [3, machine, 1, 0] {
            out.extend(half.to_le_bytes());
        }
        for long in [0_u64, 64, 0] {
            out.extend(long.to_le_bytes());
        }
        for half in [0_u16, 0, 64, 56, 1, 64, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        for word in [PT_LOAD, 7] {
            out.extend(word.to_le_bytes());
        }
        for long in [120, 0, 0, file.len() as u64, memory, 4096] {
            out.extend(long.to_le_bytes());
        }
        assert_eq!(out.len(), 120);
        out.extend(file);
        out
    }

    fn code() -> Vec<u8> {
        (0..1001_u32).map(|i| (i * 7).to_le_bytes()[0]).collect()
    }

    fn long(image: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(image[at..at + 8].try_into().unwrap())
    }

    /// What the guest does with the record.
    fn arrived(image: &[u8]) -> bool {
        let [len, start, end] = [0, 8, 16].map(|i| usize::try_from(long(image, RECORD + i)).unwrap());
        let mut sum = Sum::new();
        add_bytes(&mut sum, &image[SUMMED..start]);
        if len > end {
            add_bytes(&mut sum, &image[end..len]);
        }
        len == image.len() && sum.finish() == long(image, RECORD + 24)
    }

    #[test]
    fn an_arm64_image() {
        let image = Arm64Image::default().build(&elf(EM_AARCH64, &code(), 0x2345)).unwrap();
        assert_eq!(image.len(), 1008);
        assert_eq!(&image[..8], &code()[..8]);
        assert_eq!((long(&image, 8), long(&image, 16), long(&image, 24)), (0, 0x3000, 0xa));
        assert_eq!(&image[56..60], b"ARM\x64");
        assert!(arrived(&image));
        for at in SUMMED..image.len() {
            let mut bad = image.clone();
            bad[at] ^= 4;
            assert!(!arrived(&bad), "byte {at}");
        }
    }

    #[test]
    fn filler_lies_behind_the_memory_the_guest_writes() {
        let guest = elf(EM_AARCH64, &code(), 0x2345);
        let image = build(&guest, Arch::Arm64, 0x5003).unwrap();
        assert_eq!((image.len(), long(&image, 16)), (0x5003, 0x6000));
        assert!(image[1008..0x3000].iter().all(|b| *b == 0));
        assert!(arrived(&image));
        let mut written = image.clone();
        written[0x2000] = 1;
        assert!(arrived(&written));
        for at in [0x3000, 0x5002] {
            let mut bad = image.clone();
            bad[at] ^= 0x80;
            assert!(!arrived(&bad), "byte {at:#x}");
        }
        let small = build(&guest, Arch::Arm64, 0x1800).unwrap();
        assert!(small.len() == 0x3000 && arrived(&small));
    }

    #[test]
    fn a_bzimage() {
        let image = BzImage::default().build(&elf(EM_X86_64, &code(), 0x2345)).unwrap();
        assert_eq!(image[0x1f1], 4);
        assert_eq!(&image[0x1fe..0x206], b"\x55\xaa\xeb\x6aHdrS");
        assert_eq!(&image[0x236..0x238], &[0x73, 0]);
        assert_eq!(long(&image, 0x258), 0x100_0000);
        assert_eq!(&image[0x260..0x264], &0x3000_u32.to_le_bytes());
        let payload = &image[5 * 512..];
        assert_eq!(
            u32::from_le_bytes(image[0x1f4..0x1f8].try_into().unwrap()) as usize,
            payload.len() / 16
        );
        assert_eq!(&payload[..8], &code()[..8]);
        assert!(arrived(payload));
    }

    #[test]
    fn every_field_can_be_made_wrong() {
        let bad = BzImage {
            setup_sects: 0,
            version: 0x20b,
            xloadflags: 0,
            magic: *b"NOPE",
            cmdline_size: 255,
            init_size: Some(0x1234_5678),
            ..BzImage::default()
        };
        let image = bad.build(&elf(EM_X86_64, &code(), 0)).unwrap();
        assert_eq!(image[0x1f1], 0);
        assert!(arrived(&image[5 * 512..]), "0 stands for 4 sectors");
        assert_eq!(&image[0x202..0x208], b"NOPE\x0b\x02");
        assert_eq!(&image[0x238..0x23c], &[255, 0, 0, 0]);
        assert_eq!(&image[0x260..0x264], &0x1234_5678_u32.to_le_bytes());
    }

    #[test]
    fn what_is_no_guest_is_refused() {
        let refused = |elf: &[u8], arch| build(elf, arch, 0).unwrap_err().to_string();
        assert!(refused(&elf(EM_X86_64, &code(), 0), Arch::Arm64).contains("machine 62, wanted 183 (arm64)"));
        assert!(refused(&elf(EM_X86_64, &[0; 95], 0), Arch::X86_64).contains("95 bytes"));
        assert!(refused(b"no ELF at all", Arch::X86_64).starts_with("guest ELF"));
        let mut cut = elf(EM_X86_64, &code(), 0);
        cut.truncate(1000);
        assert!(refused(&cut, Arch::X86_64).contains("outside the file"));
        let huge = elf(EM_X86_64, &code(), u64::MAX);
        assert!(refused(&huge, Arch::X86_64).contains("too large"));
    }
}
