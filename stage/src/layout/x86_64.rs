//! What an x86_64 `bzImage` is entered with: Documentation/arch/x86/boot.rst, "64-bit Boot Protocol".

use config::Arch;

use super::purgatory::MapKind;
use super::segments::{ArchRules, Segments};
use super::zeropage;
use super::{Companions, Layout, LayoutError, in_slot, length, record_at};
use crate::formats::BzImage;
use crate::machine::Machine;
use crate::memory::range::align_down;
use crate::memory::{Slot, Span};
use crate::place::{Ask, LOW_MEMORY, Regions, usable_x86_64, x86_64};
use crate::text::cmdline;

/// What is mapped of an EFI table of unknown length.
const EFI_TABLE: u64 = 8192;

pub(super) fn lay_out(
    header: &BzImage,
    kernel: Slot,
    mut companions: Companions<'_>,
    machine: &Machine,
    blob: &[u8],
) -> Result<Layout, LayoutError> {
    // boot.rst, "cmdline_size": the longest command line without its NUL.
    cmdline::check(&companions.cmdline, header.cmdline_size)?;
    let usable = usable_x86_64(machine)?;
    // boot.rst, xloadflags, XLF_EFI_KEXEC: only such a kernel goes on with EFI. Any other finds ACPI through acpi_rsdp_addr.
    let efi = machine
        .efi
        .as_ref()
        .filter(|e| header.efi_kexec && !e.runtime.is_empty());
    let cmdline = std::mem::take(&mut companions.cmdline);
    let mut data = zeropage::BootData {
        setup_header: &header.setup_header,
        cmdline: &cmdline,
        initrd: None,
        e820: &machine.memory.firmware,
        running: machine.boot_params.as_deref(),
        rsdp: machine.rsdp,
        efi,
        seed: machine.seed.as_deref().map(|s| &s[..]),
        handover: Some(companions.record).filter(|r| !r.is_empty()),
    };
    let ask = Ask::X86_64(x86_64::Ask {
        header: *header,
        kernel: length(&kernel),
        initrd: companions.initrd.as_deref().map(length),
        boot_data: length(&zeropage::build(&data, 0).bytes),
        page: machine.page_size,
    });
    let (places, mut free, info) = companions.places(&ask, &usable, &Regions::default())?;
    data.initrd = places.initrd;
    let built = zeropage::build(&data, places.info.start);
    let record = record_at(built.handover, companions.record);
    let boot_data = in_slot(built.bytes, info, "boot-data", places.info)?;

    // boot.rst, "64-bit Boot Protocol": kernel, zero page and command line are identity-mapped. Besides them the kernel reads the
    // BIOS data area, may put a trampoline below 1 MiB, and looks for a confidential-computing blob in EFI's tables.
    // Decompressors of 5.4 and older do not map the initrd on demand.
    let mut map = vec![
        (places.kernel, MapKind::Code),
        (LOW_MEMORY, MapKind::Code),
        (places.info, MapKind::Data),
    ];
    map.extend(places.initrd.map(|i| (i, MapKind::ReadOnly)));
    for table in efi.iter().flat_map(|e| [e.systab, e.config_table]).filter(|t| *t != 0) {
        let start = align_down(table, machine.page_size);
        map.extend(Span::sized(start, EFI_TABLE).map(|span| (span, MapKind::ReadOnly)));
    }

    let mut parts = Segments::new(machine.page_size);
    parts.add("kernel", places.kernel.start, kernel, "bzImage, protected-mode part")?;
    if let (Some(initrd), Some(place)) = (companions.initrd, places.initrd) {
        parts.add("initrd", place.start, initrd, "initramfs")?;
    }
    parts.add(
        "boot-data",
        places.info.start,
        boot_data,
        "zero page, command line, setup_data",
    )?;
    parts.has_record(record);
    let entry = parts.purgatory(
        &ArchRules {
            arch: Arch::X86_64,
            // boot.rst, "64-bit Boot Protocol": 0x200 bytes after the load address; RSI has the zero page.
            entry: places.kernel.start.saturating_add(0x200),
            argument: places.info.start,
            map: &map,
            clean: &[],
            check: companions.check,
        },
        machine,
        &mut free,
        blob,
    )?;
    parts.finish(Arch::X86_64, entry, places.kernel, machine, &usable)
}
