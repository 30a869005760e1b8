//! The running machine → [`Machine`], plain data for the placement.
//!
//! Given a root folder with `proc` and `sys` in it (`/` in real life); responsible for reading every fact from where the kernel keeps it
//! true, and for leaving out what is not there. Nothing in here waits.

use std::io;
use std::path::Path;

use config::Arch;

use super::encryption;
use super::files::{Files, hex};
use super::{Conduit, EfiInfo, Machine, console};
use crate::devicetree::{self as dtb, DtbError};
use crate::memory::map::{self as memmap, MemoryMapError};
use crate::memory::range::{normalise, subtract};
use crate::memory::{MemoryMap, Span};
use crate::sys::random;
use crate::text::cmdline;

/// Why the machine is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MachineError {
    /// Neither of the two.
    #[error("this machine is {}, but Cato boots only arm64 and x86_64", std::env::consts::ARCH)]
    Arch,
    /// A file without which nothing can be placed.
    #[error("{path}: {cause}")]
    Read {
        /// Which.
        path: &'static str,
        /// What the system said.
        cause: io::Error,
    },
    /// It could not be understood.
    #[error(transparent)]
    Memory(#[from] MemoryMapError),
    /// `kexec_load` takes half of it, so it has to be known.
    #[error("/proc/meminfo has no MemTotal in kB")]
    MemTotal,
    /// The running tree is not one.
    #[error("/sys/firmware/fdt: {_0}")]
    Fdt(#[from] DtbError),
    /// `sysconf(_SC_PAGESIZE)`
    #[error("the page size is unknown")]
    PageSize,
}

/// Reads the running machine under `root`.
///
/// # Errors
/// [`MachineError`]
pub(crate) fn running(root: &Path) -> Result<Machine, MachineError> {
    let machine = read(&root, Arch::running().ok_or(MachineError::Arch)?)?;
    Ok(Machine {
        encryption: encryption::running(),
        ..machine
    })
}

/// Reads a machine of that architecture from its `files`.
pub(crate) fn read(files: &dyn Files, arch: Arch) -> Result<Machine, MachineError> {
    let page_size = page_size()?;
    let iomem = memmap::iomem(&files.must("/proc/iomem")?)?;
    let meminfo = files.must("/proc/meminfo")?;
    let total = mem_total(&meminfo).ok_or(MachineError::MemTotal)?;
    let cmdline = files.text("/proc/cmdline").unwrap_or_default().trim_end().to_owned();
    let cpuinfo = files.text("/proc/cpuinfo").unwrap_or_default();
    let mut machine = Machine {
        arch,
        memory: MemoryMap {
            usable: iomem.usable,
            firmware: Vec::new(),
            ram: iomem.ram,
            total,
        },
        page_size,
        granules: vec![page_size],
        la57: false,
        boot_params: None,
        rsdp: None,
        efi: None,
        fdt: None,
        psci: None,
        uart: console::uart(files, &cmdline),
        reason: None,
        seed: seed(),
        ticks_per_ms: None,
        cmdline,
        huge_pages: huge_pages(files),
        encryption: None,
        live_lpis: false,
    };
    match arch {
        Arch::Arm64 => arm64(files, &mut machine)?,
        Arch::X86_64 => x86_64(files, &mut machine, &cpuinfo),
    }
    // Whole pages only: kexec_load takes no other.
    machine.memory.usable = whole_pages(&machine.memory.usable, page_size);
    Ok(machine)
}

fn arm64(files: &dyn Files, machine: &mut Machine) -> Result<(), MachineError> {
    machine.fdt = files.bytes("/sys/firmware/fdt");
    machine.granules = granules(files, machine.page_size);
    let facts = machine.fdt.as_deref().map(dtb::facts).transpose()?.unwrap_or_default();
    machine.memory.usable = subtract(&machine.memory.usable, &facts.reserved);
    machine.psci = facts.psci.or_else(|| {
        files
            .bytes("/sys/firmware/acpi/tables/FACP")
            .as_deref()
            .and_then(fadt_conduit)
    });
    // With EFI the running kernel's LPI tables are in a list that the next one finds (LINUX_EFI_MEMRESERVE), and
    // reserved in /proc/iomem.
    machine.live_lpis = facts.its && !facts.efi && !cmdline::is_on(&machine.cmdline, "irqchip.gicv3_nolpi");
    Ok(())
}

/// What is known of the page sizes the CPU can use. User space does not get to see TGran4, TGran16 and TGran64 of ID_AA64MMFR0_EL1. The
/// running kernel's size works, and 4 KiB is missing from no core that Linux runs on; every Armv8-A core that Arm designed has
/// 64 KiB, too.
fn granules(files: &dyn Files, page_size: u64) -> Vec<u64> {
    const ARM_LTD: u64 = 0x41;
    let midr = files
        .text("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1")
        .and_then(|t| hex(&t));
    let by_arm = midr.is_some_and(|m| m >> 24 == ARM_LTD);
    let mut sizes = vec![4096, page_size];
    if by_arm {
        sizes.push(65536);
    }
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// `ARM_BOOT_ARCH` of the FADT (ACPI 6.5, 5.2.9.4): bit 0 says PSCI is there, bit 1 that it is called by HVC.
fn fadt_conduit(fadt: &[u8]) -> Option<Conduit> {
    let flags = u16::from_le_bytes(*fadt.get(129..)?.first_chunk()?);
    (flags & 1 != 0).then_some(if flags & 2 != 0 { Conduit::Hvc } else { Conduit::Smc })
}

fn x86_64(files: &dyn Files, machine: &mut Machine, cpuinfo: &str) {
    machine.boot_params = files.bytes("/sys/kernel/boot_params/data");
    let params = machine.boot_params.as_deref().unwrap_or_default();
    machine.memory.firmware = firmware_map(files);
    if machine.memory.firmware.is_empty() {
        machine.memory.firmware = boot_params_map(files, params);
    }
    let systab = files.text("/sys/firmware/efi/systab").unwrap_or_default();
    machine.rsdp = u64_at(params, 0x070)
        .filter(|a| *a != 0)
        .or_else(|| table(&systab, "ACPI20"))
        .or_else(|| table(&systab, "ACPI"));
    machine.efi = efi(files, params, &systab);
    // The kernel takes the flag away from a CPU whose fifth level it does not use: early_identify_cpu().
    machine.la57 = cpuinfo_field(cpuinfo, "flags").is_some_and(|f| f.split_ascii_whitespace().any(|f| f == "la57"));
    // Without frequency scaling, and at its nominal clock, a CPU's MHz are its TSC's. What is measured counts more.
    machine.ticks_per_ms = cpuinfo_field(cpuinfo, "cpu MHz").and_then(|mhz| {
        let (whole, part) = mhz.split_once('.')?;
        let khz: u64 = part.get(..3)?.parse().ok()?;
        whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(khz)
    });
}

/// `/sys/firmware/memmap`: what the firmware said, before `mem=` and `memmap=` of the service kernel.
fn firmware_map(files: &dyn Files) -> Vec<(Span, u32)> {
    let mut map: Vec<(Span, u32)> = files
        .numbered("/sys/firmware/memmap")
        .iter()
        .filter_map(|dir| {
            let text = |name: &str| files.text(&format!("{dir}/{name}"));
            memmap::firmware_entry(&text("start")?, &text("end")?, &text("type")?)
        })
        .collect();
    map.sort_unstable();
    map
}

/// The same from the running zero page and its extension.
fn boot_params_map(files: &dyn Files, params: &[u8]) -> Vec<(Span, u32)> {
    const E820_EXT: &str = "0x1";
    let count = params.get(0x1e8).copied().map_or(0, usize::from);
    let table = params.get(0x2d0..).unwrap_or_default();
    let mut map: Vec<(Span, u32)> = e820(table).take(count).collect();
    for dir in files.numbered("/sys/kernel/boot_params/setup_data") {
        if files.text(&format!("{dir}/type")).is_some_and(|t| t.trim() == E820_EXT) {
            map.extend(e820(&files.bytes(&format!("{dir}/data")).unwrap_or_default()));
        }
    }
    map.sort_unstable();
    map
}

fn e820(table: &[u8]) -> impl Iterator<Item = (Span, u32)> {
    let (entries, _) = table.as_chunks::<20>();
    entries.iter().filter_map(|entry| {
        let span = Span::sized(u64_at(entry, 0)?, u64_at(entry, 8)?)?;
        let kind = u32::from_le_bytes(*entry.last_chunk()?);
        (!span.is_empty()).then_some((span, kind))
    })
}

/// What a main kernel needs to go on with EFI: all of it, or nothing.
fn efi(files: &dyn Files, params: &[u8], systab: &str) -> Option<EfiInfo> {
    let number = |path: &str| files.text(path).and_then(|t| hex(&t));
    let address = |name: &str| number(&format!("/sys/firmware/efi/{name}"));
    let half = |at: usize| Some(u32::from_le_bytes(*params.get(at..)?.first_chunk()?));
    if params.get(0x1c0..0x1c4) != Some(b"EL64".as_slice()) {
        return None;
    }
    let runtime: Vec<[u64; 5]> = files
        .numbered("/sys/firmware/efi/runtime-map")
        .iter()
        .map(|dir| {
            let field = |name: &str| number(&format!("{dir}/{name}"));
            Some([
                field("type")?,
                field("phys_addr")?,
                field("virt_addr")?,
                field("num_pages")?,
                field("attribute")?,
            ])
        })
        .collect::<Option<_>>()?;
    (!runtime.is_empty()).then_some(EfiInfo {
        fw_vendor: address("fw_vendor")?,
        config_table: address("config_table")?,
        smbios: table(systab, "SMBIOS").unwrap_or(0),
        systab: u64::from(half(0x1d8)?) << 32 | u64::from(half(0x1c4)?),
        runtime,
    })
}

/// The address of a table in the text of `systab`.
fn table(systab: &str, name: &str) -> Option<u64> {
    systab
        .lines()
        .filter_map(|l| l.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| hex(value))
}

/// Free huge pages of all sizes, bytes (Documentation/admin-guide/mm/hugetlbpage.rst).
fn huge_pages(files: &dyn Files) -> u64 {
    const FOLDER: &str = "/sys/kernel/mm/hugepages";
    let of = |kib: u64| {
        let free = files.text(&format!("{FOLDER}/hugepages-{kib}kB/free_hugepages"))?;
        kib.checked_mul(1024)?.checked_mul(free.trim().parse().ok()?)
    };
    let sizes = files.names(FOLDER);
    let kibs = sizes
        .iter()
        .filter_map(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok());
    kibs.filter_map(of).fold(0, u64::saturating_add)
}

/// The value of a field of the first CPU.
fn cpuinfo_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    cpuinfo
        .lines()
        .filter_map(|l| l.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim())
}

fn mem_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// 8 bytes for `kaslr-seed` and 128 for `rng-seed`; none while the generator has no seed of its own.
fn seed() -> Option<Box<[u8; 136]>> {
    let mut bytes = Box::new([0; 136]);
    random::fill(&mut bytes[..]).then_some(bytes)
}

/// The service kernel's page size, bytes.
///
/// # Errors
/// [`MachineError`] where the system does not say.
pub(crate) fn page_size() -> Result<u64, MachineError> {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| u64::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .ok_or(MachineError::PageSize)
}

fn whole_pages(spans: &[Span], page: u64) -> Vec<Span> {
    use crate::memory::range::{align_down, align_up};
    normalise(spans.iter().filter_map(|s| {
        Some(Span {
            start: align_up(s.start, page)?,
            end: align_down(s.end, page),
        })
    }))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
