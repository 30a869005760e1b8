//! Files and machines for tests.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Cursor, Read};

use config::{Arch, Arena, Check, Entry, Source, WantedDigests};

use crate::machine::Machine;
use crate::memory::MemoryMap;
use crate::probe::tree::{FileRead, OpenFile};
use crate::probe::{FileTree, FileTreeError};

/// Files in memory.
#[derive(Default)]
pub(crate) struct Files {
    files: HashMap<String, Vec<u8>>,
    claims: HashMap<String, u64>,
}

impl Files {
    pub(crate) fn new<const N: usize>(files: [(&str, Vec<u8>); N]) -> Self {
        Self {
            files: files.map(|(path, bytes)| (path.to_owned(), bytes)).into(),
            claims: HashMap::new(),
        }
    }

    /// Another length than the file turns out to have.
    pub(crate) fn claim(&mut self, path: &str, size: u64) {
        self.claims.insert(path.to_owned(), size);
    }
}

impl FileTree for Files {
    fn open(&self, path: &str) -> Result<OpenFile, FileTreeError> {
        let bytes = self.files.get(path).ok_or(FileTreeError::Missing)?.clone();
        let size = self.claims.get(path).copied().unwrap_or(bytes.len() as u64);
        Ok(OpenFile {
            size,
            reader: Box::new(Cursor::new(bytes)),
        })
    }
}

/// One file that is read in small pieces and interrupted every other time.
pub(crate) struct Jumpy(pub(crate) Vec<u8>);

impl FileTree for Jumpy {
    fn open(&self, _: &str) -> Result<OpenFile, FileTreeError> {
        Ok(OpenFile {
            size: self.0.len() as u64,
            reader: Box::new(Interrupted(Cursor::new(self.0.clone()), Cell::new(0))),
        })
    }
}

struct Interrupted(Cursor<Vec<u8>>, Cell<usize>);

impl FileRead for Interrupted {}

impl Read for Interrupted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let turn = self.1.get();
        self.1.set(turn + 1);
        if turn.is_multiple_of(2) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let n = buf.len().min(turn % 4099 + 1);
        self.0.read(&mut buf[..n])
    }
}

/// A machine with nothing but an instruction set, 1 GiB of memory and, on arm64, 4 KiB and 64 KiB pages.
pub(crate) fn machine(arch: Arch) -> Machine {
    Machine {
        arch,
        memory: MemoryMap {
            total: 1 << 30,
            ..MemoryMap::default()
        },
        page_size: 4096,
        granules: match arch {
            Arch::Arm64 => vec![4096, 65536],
            Arch::X86_64 => vec![4096],
        },
        la57: false,
        boot_params: None,
        rsdp: None,
        efi: None,
        fdt: None,
        psci: None,
        uart: None,
        reason: None,
        seed: None,
        ticks_per_ms: None,
        cmdline: String::new(),
        huge_pages: 0,
        encryption: None,
        live_lpis: false,
    }
}

/// An entry with a kernel `k` and nothing else.
pub(crate) fn entry() -> Entry {
    Entry {
        name: "a".into(),
        title: "a".into(),
        slot: None,
        source: Source::Initramfs("/".into()),
        kernel: "k".into(),
        initrd: Vec::new(),
        dtb: None,
        cmdline: String::new(),
        cmdline_extra: true,
        check: Check::Sha256,
        arena: Arena::Auto,
        sha256: WantedDigests::default(),
    }
}

/// Writes `bytes` at `at`.
pub(crate) fn put(file: &mut [u8], at: usize, bytes: &[u8]) {
    file[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Bytes that neither compress away nor repeat, the same every time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

/// PE headers at 0x40 with the sections given as raw offset and size.
fn put_pe(file: &mut [u8], at: usize, machine: u16, sections: &[(u32, u32)]) {
    put(file, 0, b"MZ");
    put(file, 0x3c, &u32::try_from(at).unwrap().to_le_bytes());
    put(file, at, b"PE\0\0");
    put(file, at + 4, &machine.to_le_bytes());
    put(file, at + 6, &u16::try_from(sections.len()).unwrap().to_le_bytes());
    put(file, at + 20, &160_u16.to_le_bytes());
    put(file, at + 24, &0x20b_u16.to_le_bytes());
    put(file, at + 24 + 108, &6_u32.to_le_bytes());
    for (i, (offset, size)) in sections.iter().enumerate() {
        let section = at + 24 + 160 + 40 * i;
        put(file, section, b".text\0\0\0");
        put(file, section + 16, &size.to_le_bytes());
        put(file, section + 20, &offset.to_le_bytes());
    }
}

/// An arm64 `Image` with an EFI stub, `len` bytes long, for 4 KiB pages; it uses 64 KiB more memory.
pub(crate) fn image(len: u32) -> Vec<u8> {
    let mut file = noise(len as usize);
    put(&mut file, 0, &[0; 0x200]);
    put_pe(&mut file, 0x40, 0xaa64, &[(0x1000, 0x1000), (0x2000, len - 0x2000)]);
    put(&mut file, 16, &(u64::from(len) + 0x1_0000).to_le_bytes());
    put(&mut file, 24, &0xa_u64.to_le_bytes());
    put(&mut file, 56, b"ARM\x64");
    file
}

/// An x86_64 `bzImage` of protocol 2.15 with 39 setup sectors and `len` bytes (a multiple of 16) to load.
pub(crate) fn bzimage(len: u32) -> Vec<u8> {
    let mut file = noise(40 * 512 + len as usize);
    put(&mut file, 0, &[0; 0x280]);
    put_pe(&mut file, 0x40, 0x8664, &[(0x5000, len)]);
    file[0x1f1] = 39;
    put(&mut file, 0x1f4, &(len / 16).to_le_bytes());
    put(&mut file, 0x1fe, &[0x55, 0xaa, 0xeb, 0x6a]);
    put(&mut file, 0x202, b"HdrS");
    put(&mut file, 0x206, &0x20f_u16.to_le_bytes());
    file[0x211] = 1;
    put(&mut file, 0x22c, &0x7fff_ffff_u32.to_le_bytes());
    put(&mut file, 0x230, &0x20_0000_u32.to_le_bytes());
    file[0x234] = 1;
    put(&mut file, 0x236, &0x7f_u16.to_le_bytes());
    put(&mut file, 0x238, &2047_u32.to_le_bytes());
    put(&mut file, 0x258, &0x100_0000_u64.to_le_bytes());
    put(&mut file, 0x260, &0x300_0000_u32.to_le_bytes());
    file
}

/// A newc archive of files with names and sizes.
pub(crate) fn cpio(files: &[(&str, usize)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, size) in files.iter().chain(&[("TRAILER!!!", 0)]) {
        let fields = [1, 0o100_644, 0, 0, 1, 0, *size, 0, 0, 0, 0, name.len() + 1, 0];
        out.extend_from_slice(b"070701");
        for field in fields {
            out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(noise(*size));
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// An archive of `len` bytes, a multiple of 4.
pub(crate) fn initrd(len: usize) -> Vec<u8> {
    cpio(&[("i", len - 236)])
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// One zstd frame.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// An EFI zboot image with a program of 16 KiB before the payload and 4 KiB behind it.
pub(crate) fn zboot(comp_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut file = noise(0x5000);
    put(&mut file, 0, &[0; 0x400]);
    put_pe(&mut file, 0x40, 0xaa64, &[(0x1000, 0x1000)]);
    put(&mut file, 4, b"zimg");
    put(&mut file, 8, &0x4000_u32.to_le_bytes());
    put(&mut file, 12, &u32::try_from(payload.len()).unwrap().to_le_bytes());
    put(&mut file, 24, comp_type.as_bytes());
    put(&mut file, 56, &0x8182_23cd_u32.to_le_bytes());
    let behind = file.split_off(0x4000);
    // The length of what was packed, which is in gzip anyway.
    let len: &[u8] = if comp_type == "gzip" { &[] } else { &[1, 2, 3, 4] };
    [&file[..], payload, len, &behind].concat()
}
