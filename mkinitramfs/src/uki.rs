//! A unified kernel image: service kernel, initramfs and command line in one EFI program (UAPI.5, Unified Kernel Image).
//!
//! Given systemd's stub, a PE file; responsible for the sections behind it. The stub finds them by name and starts the kernel.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use config::Arch;

use crate::apt::{self, Apt};
use crate::progress::during;

/// Where the stub is from: 6.1's kernels boot with it as well.
const SUITE: &str = "trixie";
const PACKAGE: &str = "systemd-boot-efi";

/// What is in it.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'p> {
    /// An EFI program: an Image or a bzImage with CONFIG_EFI_STUB.
    pub kernel: &'p [u8],
    /// As `uname -r` prints it, where it is known.
    pub release: &'p str,
    /// The archive.
    pub initramfs: &'p [u8],
    /// The kernel's command line.
    pub cmdline: &'p str,
}

/// The name of `arch` in file names of EFI, as in `BOOTX64.EFI` (UEFI 3.5.1.1).
pub fn efi_name(arch: Arch) -> &'static str {
    match arch {
        Arch::Arm64 => "AA64",
        Arch::X86_64 => "X64",
    }
}

/// What the operating system calls itself (os-release(5)): `bootctl` shows it.
fn os_release() -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("ID=cato\nNAME=Cato\nVERSION_ID={version}\nPRETTY_NAME=\"Cato {version}\"\n")
}

/// systemd's stub for `arch`.
///
/// # Errors
/// What apt says.
pub fn stub(workspace: &Path, arch: Arch) -> Result<Vec<u8>> {
    let name = efi_name(arch).to_ascii_lowercase();
    from_systemd(workspace, arch, &format!("linux{name}.efi.stub"))
}

/// One of systemd's EFI programs for `arch`, fetched from Debian where it is not there.
///
/// # Errors
/// What apt says.
pub fn from_systemd(workspace: &Path, arch: Arch, name: &str) -> Result<Vec<u8>> {
    let all = workspace.join("target/efi-stub");
    let file = all.join(name);
    if let Ok(bytes) = fs::read(&file) {
        return Ok(bytes);
    }
    fs::create_dir_all(&all)?;
    // One at a time, whoever else runs.
    let lock = File::create(all.join(".lock"))?;
    lock.lock()?;
    if let Ok(bytes) = fs::read(&file) {
        return Ok(bytes);
    }
    let state = all.join(format!("apt-{arch}"));
    let root = state.join("root");
    during(&format!("fetching Debian's {PACKAGE} for {arch}"), || {
        for deb in Apt::open(&state, SUITE, arch)?.download(&[PACKAGE])? {
            apt::unpack(&deb, &root)?;
        }
        anyhow::Ok(())
    })?;
    let folder = root.join("usr/lib/systemd/boot/efi");
    let read = |file: &Path| fs::read(file).with_context(|| format!("{PACKAGE}: {}", file.display()));
    let bytes = read(&folder.join(name))?;
    for entry in fs::read_dir(&folder)? {
        let found = entry?.path();
        let is_program = [".efi", ".stub"]
            .iter()
            .any(|end| found.to_string_lossy().ends_with(end));
        if let (true, Some(name)) = (is_program, found.file_name()) {
            // Beside it first: who sees it sees it whole.
            let whole = state.join("whole");
            fs::write(&whole, read(&found)?)?;
            fs::rename(whole, all.join(name))?;
        }
    }
    fs::remove_dir_all(state)?;
    Ok(bytes)
}

/// `stub` with `parts` behind it.
///
/// # Errors
/// When the stub or the kernel is no EFI program, or the stub has no room for more sections.
pub fn image(stub: &[u8], parts: &Parts<'_>) -> Result<Vec<u8>> {
    ensure!(
        parts.kernel.starts_with(b"MZ"),
        "the service kernel is no EFI program; build it with CONFIG_EFI_STUB"
    );
    let os_release = os_release();
    let mut file = Pe::read(stub)?;
    // The machine, in the COFF header.
    let machine = |bytes: &[u8]| u16_at(bytes, usize::try_from(u32_at(bytes, 0x3c)?)? + 4);
    ensure!(
        machine(parts.kernel).ok() == machine(stub).ok(),
        "the service kernel is for another architecture, or no EFI program"
    );
    // The kernel comes last: it may be unpacked over what is behind it.
    for (name, bytes, kind) in [
        (".osrel", os_release.as_bytes(), DATA),
        (".cmdline", parts.cmdline.as_bytes(), DATA),
        (".uname", parts.release.as_bytes(), DATA),
        (".initrd", parts.initramfs, DATA),
        (".linux", parts.kernel, CODE),
    ] {
        if !bytes.is_empty() {
            file.add(name, bytes, kind)?;
        }
    }
    Ok(file.bytes)
}

/// Characteristics of a section (PE format, 4.1): initialized data, to be read; code, to be read and run.
const DATA: u32 = 0x4000_0040;
const CODE: u32 = 0x6000_0020;
/// Bytes of a section's header.
const HEADER: usize = 40;

/// A PE file that sections are added to.
struct Pe {
    bytes: Vec<u8>,
    /// Where the COFF header is, and the optional header behind it.
    coff: usize,
    optional: usize,
    /// Where the headers of sections are, and how many there are.
    sections: usize,
    count: u16,
    /// Alignment of sections in memory and in the file.
    memory_align: u32,
    file_align: u32,
    /// Where all headers end in the file.
    headers_end: u32,
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let part = bytes.get(at..).and_then(|rest| rest.first_chunk());
    part.copied().context("the EFI stub is cut short")
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(field(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(field(bytes, at)?))
}

impl Pe {
    fn read(stub: &[u8]) -> Result<Self> {
        let pe = usize::try_from(u32_at(stub, 0x3c)?)?;
        ensure!(
            stub.starts_with(b"MZ") && field(stub, pe)? == *b"PE\0\0",
            "the EFI stub is no PE file"
        );
        let (coff, optional) = (pe + 4, pe + 24);
        ensure!(u16_at(stub, optional)? == 0x20b, "the EFI stub is no PE32+ file");
        let file = Self {
            bytes: stub.to_vec(),
            coff,
            optional,
            sections: optional + usize::from(u16_at(stub, coff + 16)?),
            count: u16_at(stub, coff + 2)?,
            memory_align: u32_at(stub, optional + 32)?,
            file_align: u32_at(stub, optional + 36)?,
            headers_end: u32_at(stub, optional + 60)?,
        };
        let is_power = |align: u32| align.is_power_of_two() && align >= 4;
        ensure!(
            is_power(file.memory_align) && is_power(file.file_align),
            "the EFI stub has alignments that make no sense"
        );
        Ok(file)
    }

    /// Where the last section ends in memory.
    fn end(&self) -> Result<u32> {
        let mut end = self.headers_end;
        for n in 0..usize::from(self.count) {
            let header = self.sections + n * HEADER;
            let (size, address) = (u32_at(&self.bytes, header + 8)?, u32_at(&self.bytes, header + 12)?);
            end = end.max(address.checked_add(size).context("the EFI stub is too large")?);
        }
        Ok(end)
    }

    fn add(&mut self, name: &str, bytes: &[u8], kind: u32) -> Result<()> {
        let header = self.sections + usize::from(self.count) * HEADER;
        ensure!(
            u32::try_from(header + HEADER)? <= self.headers_end,
            "the EFI stub has no room for the section {name}"
        );
        let too_large = || format!("section {name}: too large for an EFI program");
        let size = u32::try_from(bytes.len()).with_context(too_large)?;
        let address = self.end()?.checked_next_multiple_of(self.memory_align);
        let address = address.with_context(too_large)?;
        let align = usize::try_from(self.file_align)?;
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let at = u32::try_from(self.bytes.len()).with_context(too_large)?;
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let raw = u32::try_from(self.bytes.len()).with_context(too_large)? - at;
        let mut label = [0; 8];
        label.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
        let mut head = label.to_vec();
        for number in [size, address, raw, at, 0, 0, 0, kind] {
            head.extend(number.to_le_bytes());
        }
        self.put(header, &head);
        self.count += 1;
        self.put(self.coff + 2, &self.count.to_le_bytes());
        let end = self.end()?.checked_next_multiple_of(self.memory_align);
        self.put(self.optional + 56, &end.with_context(too_large)?.to_le_bytes());
        // No checksum: only drivers of Windows have one.
        self.put(self.optional + 64, &[0; 4]);
        Ok(())
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        let to = self.bytes.iter_mut().skip(at);
        to.zip(bytes).for_each(|(to, from)| *to = *from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use goblin::pe::PE;

    /// A PE file with one section, and room for the headers of `room` more.
    fn stub(room: usize) -> Vec<u8> {
        let optional = 112;
        let headers = (0x40 + 24 + optional + (1 + room) * HEADER).next_multiple_of(512);
        let mut bytes = vec![0; headers + 512];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        put(0, b"MZ");
        put(0x3c, &0x40_u32.to_le_bytes());
        put(0x40, b"PE\0\0");
        put(0x44, &0x8664_u16.to_le_bytes());
        put(0x46, &1_u16.to_le_bytes());
        put(0x54, &u16::try_from(optional).unwrap().to_le_bytes());
        put(0x58, &0x20b_u16.to_le_bytes());
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        put(0x58 + 32, &number(4096));
        put(0x58 + 36, &number(512));
        put(0x58 + 56, &number(8192));
        put(0x58 + 60, &number(0x40 + 24 + optional + (1 + room) * HEADER));
        let section = 0x58 + optional;
        put(section, b".text");
        for (n, value) in [300, 4096, 512, headers].into_iter().enumerate() {
            put(section + 8 + 4 * n, &number(value));
        }
        put(section + 36, &CODE.to_le_bytes());
        bytes
    }

    /// As little of a kernel as is looked at.
    const KERNEL: &[u8] = &{
        let mut bytes = [0; 72];
        (bytes[0], bytes[1], bytes[0x3c]) = (b'M', b'Z', 0x40);
        (bytes[0x44], bytes[0x45]) = (0x64, 0x86);
        bytes
    };

    const PARTS: Parts<'_> = Parts {
        kernel: KERNEL,
        release: "6.12",
        initramfs: &[7; 5000],
        cmdline: "console=ttyS0",
    };

    #[test]
    fn each_part_is_a_section_of_its_own() {
        let bytes = image(&stub(5), &PARTS).unwrap();
        let file = PE::parse(&bytes).unwrap();
        let mut end = 0;
        let mut parts = Vec::new();
        for section in &file.sections {
            assert!(section.virtual_address >= end && section.virtual_address.is_multiple_of(4096));
            end = section.virtual_address + section.virtual_size;
            let at = usize::try_from(section.pointer_to_raw_data).unwrap();
            let size = usize::try_from(section.virtual_size).unwrap();
            parts.push((section.name().unwrap().to_owned(), bytes[at..at + size].to_vec()));
        }
        let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, [".text", ".osrel", ".cmdline", ".uname", ".initrd", ".linux"]);
        assert_eq!(parts[2].1, b"console=ttyS0");
        assert_eq!(parts[4].1, [7; 5000]);
        assert_eq!(parts[5].1, KERNEL);
        let size = u32_at(&bytes, 0x58 + 56).unwrap();
        assert!(size >= end && size.is_multiple_of(4096));
    }

    #[test]
    fn what_can_not_be_made_is_said() {
        let error = |stub: &[u8], parts| image(stub, parts).unwrap_err().to_string();
        assert!(error(&stub(4), &PARTS).contains("no room for the section .linux"));
        assert!(error(b"MZ", &PARTS).contains("cut short"));
        assert!(error(&[0; 512], &PARTS).contains("no PE file"));
        let gzip = Parts {
            kernel: &[0x1f, 0x8b],
            ..PARTS
        };
        assert!(error(&stub(5), &gzip).contains("CONFIG_EFI_STUB"));
        let other = Parts {
            kernel: b"MZ for another",
            ..PARTS
        };
        assert!(error(&stub(5), &other).contains("another architecture"));
    }
}
