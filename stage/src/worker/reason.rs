//! Why the purgatory reset the machine at the last jump.
//!
//! Given the place that `[purgatory] reason` names; responsible for reading it there and for clearing it, so that it is
//! said once. Run in a child of PID 1: where nothing answers, a read ends the process or never comes back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use config::{Arch, ReasonStore};
use purgatory::reason::{Code, decode};

use crate::cause::Cause;
use crate::memory::Span;
use crate::memory::map;
use crate::sys::devmem::{self, Page};

/// Why there is nothing to be known. Reads after `[purgatory] reason: `.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReasonError {
    /// Writing there would change what somebody uses.
    #[error(
        "{at:#x} is System RAM of the service kernel; reserve the page in both kernels \
         (memmap=4K${at:#x} on x86_64; a reserved-memory node with no-map in the device tree)"
    )]
    SystemRam {
        /// The page.
        at: u64,
    },
    /// `/dev/mem` can't be had.
    #[error("/dev/mem at {at:#x}: {cause}{advice}")]
    Memory {
        /// The page.
        at: u64,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
    /// Nor the clock's memory.
    #[error("{}: {cause}{advice}", path.display())]
    Cmos {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        cause: io::Error,
        /// What to do.
        advice: &'static str,
    },
}

impl ReasonError {
    /// Its kind.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::SystemRam { .. } => Cause::Placement,
            Self::Memory { cause, .. } | Self::Cmos { cause, .. } => Cause::of(cause),
        }
    }
}

/// What PID 1 is to say of the last jump, if something was left at `place`, which is cleared then.
///
/// # Errors
/// [`ReasonError`]
pub(crate) fn take(place: ReasonStore) -> Result<Option<String>, ReasonError> {
    match place {
        ReasonStore::Memory(at) => {
            let iomem = std::fs::read_to_string("/proc/iomem").unwrap_or_default();
            from_memory(Path::new("/dev/mem"), &iomem, at)
        }
        ReasonStore::Cmos(index) => from_cmos(&Cmos::find(Path::new("/")), index),
    }
}

/// The last two words of the page: left by each start, gone when the memory has lost its power since.
const MARK: [(usize, u32); 2] = [(1022, 0x6f74_6163), (1023, 0x706d_756a)];

/// Whether the machine was without power since this was asked last; `None` where nothing tells.
pub(super) fn was_off(place: ReasonStore) -> Option<bool> {
    let ReasonStore::Memory(at) = place else { return None };
    let page = page(Path::new("/dev/mem"), at)?;
    let bytes = page.read();
    let is_there = |(n, word): &(usize, u32)| bytes.as_chunks::<4>().0.get(*n) == Some(&word.to_ne_bytes());
    let is_marked = MARK.iter().all(is_there);
    for (n, word) in MARK {
        page.set(n, word);
    }
    Some(!is_marked)
}

/// The page, where no kernel uses it; what is wrong with it is for [`take`] to say.
fn page(device: &Path, at: u64) -> Option<Page> {
    let iomem = std::fs::read_to_string("/proc/iomem").ok()?;
    let ram = map::iomem(&iomem).map(|map| map.ram).unwrap_or_default();
    if is_used(at, &ram) {
        return None;
    }
    Page::map(device, at).ok()
}

/// Whether the purgatory may write there, with `ram` all System RAM. [`take`] says so where it can't.
pub(crate) fn can_be_left(place: ReasonStore, arch: Arch, ram: &[Span]) -> bool {
    match place {
        ReasonStore::Memory(at) => !is_used(at, ram),
        ReasonStore::Cmos(_) => arch == Arch::X86_64,
    }
}

/// Whether the page at `at` is in memory of the kernel.
fn is_used(at: u64, ram: &[Span]) -> bool {
    let page = Span::sized(at, u64::try_from(devmem::SIZE).unwrap_or(0));
    page.is_none_or(|page| ram.iter().any(|ram| ram.overlaps(&page)))
}

fn from_memory(device: &Path, iomem: &str, at: u64) -> Result<Option<String>, ReasonError> {
    let ram = map::iomem(iomem).map(|map| map.ram).unwrap_or_default();
    if is_used(at, &ram) {
        return Err(ReasonError::SystemRam { at });
    }
    let page = Page::map(device, at).map_err(|cause| ReasonError::Memory {
        at,
        advice: advice(&cause, "; the service kernel needs CONFIG_DEVMEM"),
        cause,
    })?;
    let found = decode(&page.read()).map(said);
    if found.is_some() {
        page.clear(size_of::<u64>()); // the magic
    }
    Ok(found)
}

fn from_cmos(cmos: &Cmos, index: u8) -> Result<Option<String>, ReasonError> {
    let fault = |cause: io::Error| ReasonError::Cmos {
        path: cmos.path.clone(),
        advice: advice(
            &cause,
            "; the service kernel needs CONFIG_RTC_NVMEM and CONFIG_NVMEM_SYSFS, or CONFIG_DEVPORT",
        ),
        cause,
    };
    let Some(code) = cmos.read(index).map(Code::decode).map_err(fault)? else {
        return Ok(None);
    };
    cmos.write(index, 0).map_err(fault)?;
    Ok(Some(said(&code.to_string())))
}

/// The purgatory's words, of which the last one is over.
fn said(words: &str) -> String {
    let words = words.strip_suffix("; resetting").unwrap_or(words);
    format!("last jump: {words}; the machine was reset")
}

/// What to write behind the kernel's error; `missing` where the file is not there.
fn advice(error: &io::Error, missing: &'static str) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => missing,
        io::ErrorKind::PermissionDenied => {
            "; the kernel is locked down, or uses that place itself (CONFIG_STRICT_DEVMEM, CONFIG_IO_STRICT_DEVMEM)"
        }
        _ => "; change or remove `reason` in boot.toml",
    }
}

/// The memory of a PC's real-time clock.
#[derive(Debug)]
struct Cmos {
    path: PathBuf,
    /// The file is the memory from the 14th byte on, behind the clock; else it is the I/O ports.
    nvmem: bool,
}

impl Cmos {
    /// `NVRAM_OFFSET` of the kernel's drivers/rtc/rtc-cmos.c: what the clock itself takes.
    const CLOCK: u64 = 14;
    /// The port for the index, and behind it the one for the byte.
    const PORT: u64 = 0x70;

    /// The clock's driver keeps others off while it reads; the ports are for kernels without it.
    fn find(root: &Path) -> Self {
        let path = root.join("sys/bus/nvmem/devices/cmos_nvram0/nvmem");
        if path.exists() {
            return Self { path, nvmem: true };
        }
        Self {
            path: root.join("dev/port"),
            nvmem: false,
        }
    }

    fn read(&self, index: u8) -> io::Result<u8> {
        let (file, at) = self.select(index)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        let [byte] = byte;
        Ok(byte)
    }

    fn write(&self, index: u8, byte: u8) -> io::Result<()> {
        let (file, at) = self.select(index)?;
        file.write_all_at(&[byte], at)
    }

    /// The file and where in it the byte is.
    fn select(&self, index: u8) -> io::Result<(File, u64)> {
        let file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        if self.nvmem {
            return Ok((file, u64::from(index).saturating_sub(Self::CLOCK)));
        }
        file.write_all_at(&[index], Self::PORT)?;
        Ok((file, Self::PORT.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const IOMEM: &str =
        "00001000-00001fff : Reserved\n00002000-00003fff : System RAM\n  00002000-00002fff : reserved\n";
    const WORDS: &[u8] =
        b"segment \"initrd\" chunk 17 at 0x7bf74000: xxh3 mismatch (want 3fa9.., got 77c0..); resetting";

    /// As the purgatory leaves it; the checksum is the published CRC-32.
    fn page(words: &[u8]) -> Vec<u8> {
        let length = u32::try_from(words.len()).unwrap();
        let mut page = b"CatoWhy1".to_vec();
        page.extend(length.to_le_bytes());
        page.extend(crate::memory::crc::crc32([words]).to_le_bytes());
        page.extend(words);
        page.resize(4096, 0xa5);
        page
    }

    #[test]
    fn what_is_left_in_memory_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("mem");
        fs::write(&memory, [vec![0; 4096], page(WORDS)].concat()).unwrap();
        let said = from_memory(&memory, IOMEM, 0x1000).unwrap().unwrap();
        assert_eq!(
            said,
            "last jump: segment \"initrd\" chunk 17 at 0x7bf74000: xxh3 mismatch (want 3fa9.., got 77c0..); \
             the machine was reset"
        );
        assert_eq!(from_memory(&memory, IOMEM, 0x1000).unwrap(), None);
        assert!(
            fs::read(&memory).unwrap()[4096 + 8..] == page(WORDS)[8..],
            "no more than the magic is cleared"
        );
    }

    #[test]
    fn memory_that_holds_no_reason_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("mem");
        let mut bytes = page(WORDS);
        bytes[20] ^= 1;
        fs::write(&memory, [vec![0; 4096], bytes.clone()].concat()).unwrap();
        assert_eq!(from_memory(&memory, IOMEM, 0x1000).unwrap(), None);
        assert!(fs::read(&memory).unwrap()[4096..] == bytes);
    }

    #[test]
    fn a_page_that_the_kernel_uses_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("mem");
        fs::write(&memory, page(WORDS).repeat(4)).unwrap();
        for at in [0x2000, 0x3000] {
            let error = from_memory(&memory, IOMEM, at).unwrap_err().to_string();
            assert!(error.contains(&format!("memmap=4K${at:#x}")), "{error}");
        }
        assert!(fs::read(&memory).unwrap() == page(WORDS).repeat(4));
        let error = from_memory(&folder.path().join("none"), IOMEM, 0x1000).unwrap_err();
        assert!(error.to_string().contains("needs CONFIG_DEVMEM"), "{error}");
    }

    #[test]
    fn a_reason_is_left_where_nobody_is_and_only_there() {
        let ram = Span {
            start: 0x1800,
            end: 0x4000,
        };
        for (place, on_arm64, on_x86_64) in [
            (ReasonStore::Memory(0x5000), true, true),
            (ReasonStore::Memory(0x3000), false, false),
            (ReasonStore::Memory(0x1000), false, false),
            (ReasonStore::Cmos(0x7e), false, true),
        ] {
            for (arch, wanted) in [(Arch::Arm64, on_arm64), (Arch::X86_64, on_x86_64)] {
                assert_eq!(can_be_left(place, arch, &[ram]), wanted, "{place} {arch}");
            }
        }
    }

    #[test]
    fn a_cmos_byte_is_said_once_and_its_neighbours_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let nvmem = folder.path().join("sys/bus/nvmem/devices/cmos_nvram0");
        fs::create_dir_all(&nvmem).unwrap();
        let mut bytes = vec![0xff_u8; 114];
        bytes[0x7e - 14] = Code {
            kind: purgatory::reason::ReasonKind::Segment,
            region: 2,
        }
        .encode();
        fs::write(nvmem.join("nvmem"), &bytes).unwrap();
        let cmos = Cmos::find(folder.path());
        assert_eq!(
            from_cmos(&cmos, 0x7e).unwrap().unwrap(),
            "last jump: segment 2: mismatch; the machine was reset"
        );
        assert_eq!(from_cmos(&cmos, 0x7e).unwrap(), None);
        assert_eq!(
            from_cmos(&cmos, 0x7f).unwrap(),
            None,
            "0xff is what a dead battery leaves"
        );
        bytes[0x7e - 14] = 0;
        assert_eq!(fs::read(nvmem.join("nvmem")).unwrap(), bytes);
    }

    #[test]
    fn without_the_clock_s_driver_it_is_the_ports() {
        let folder = tempfile::tempdir().unwrap();
        let error = from_cmos(&Cmos::find(folder.path()), 0x7e).unwrap_err().to_string();
        assert!(
            error.contains("dev/port") && error.contains("CONFIG_DEVPORT"),
            "{error}"
        );
        fs::create_dir(folder.path().join("dev")).unwrap();
        fs::write(folder.path().join("dev/port"), vec![0x83; 0x72]).unwrap();
        let cmos = Cmos::find(folder.path());
        assert_eq!(
            from_cmos(&cmos, 0x30).unwrap().unwrap(),
            "last jump: parameter block: mismatch; the machine was reset"
        );
        let ports = fs::read(folder.path().join("dev/port")).unwrap();
        assert_eq!(ports[0x70..0x72], [0x30, 0]);
    }
}
