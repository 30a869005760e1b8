//! PE and ELF headers, as far as they say what a file is and where it ends.

use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64};
use goblin::pe::header::{
    COFF_MACHINE_ARM64, COFF_MACHINE_ARMNT, COFF_MACHINE_RISCV64, COFF_MACHINE_X86, COFF_MACHINE_X86_64,
};

use super::{le16, le32};

/// A PE file.
pub(super) struct Pe {
    /// Where its last section ends in the file, bytes; a signature may follow.
    pub(super) end: u64,
    /// It has a section `.linux`: a unified kernel image.
    pub(super) unified: bool,
    /// Its instruction set.
    pub(super) machine: &'static str,
}

/// The PE headers at the start of a file.
pub(super) fn pe(head: &[u8]) -> Option<Pe> {
    if !head.starts_with(b"MZ") {
        return None;
    }
    let header = goblin::pe::header::Header::parse(head).ok()?;
    let mut at = usize::try_from(header.dos_header.pe_pointer)
        .ok()?
        .checked_add(goblin::pe::header::SIZEOF_PE_MAGIC)?
        .checked_add(goblin::pe::header::SIZEOF_COFF_HEADER)?
        .checked_add(header.coff_header.size_of_optional_header.into())?;
    let sections = header.coff_header.sections(head, &mut at).ok()?;
    let ends = sections
        .iter()
        .filter(|s| s.size_of_raw_data > 0)
        .map(|s| u64::from(s.pointer_to_raw_data).saturating_add(s.size_of_raw_data.into()));
    Some(Pe {
        end: ends.max().unwrap_or(0),
        unified: sections.iter().any(|s| s.name.starts_with(b".linux\0")),
        machine: match header.coff_header.machine {
            COFF_MACHINE_ARM64 => "an EFI program for arm64",
            COFF_MACHINE_X86_64 => "an EFI program for x86_64",
            COFF_MACHINE_X86 => "an EFI program for 32-bit x86",
            COFF_MACHINE_ARMNT => "an EFI program for 32-bit Arm",
            COFF_MACHINE_RISCV64 => "an EFI program for RISC-V",
            _ => "an EFI program",
        },
    })
}

/// Where the PE headers at the start of a file end, bytes, as far as they say; `None` for any other file.
pub(super) fn pe_headers_end(head: &[u8]) -> Option<u64> {
    let at = le32(head, 0x3c).filter(|_| head.starts_with(b"MZ"))?;
    let coff_end = u64::from(at).saturating_add(24);
    let pe = usize::try_from(at)
        .ok()
        .and_then(|at| head.get(at..))
        .unwrap_or_default();
    let (Some(sections), Some(optional)) = (le16(pe, 6), le16(pe, 20)) else {
        return Some(coff_end);
    };
    let sections = u64::from(sections).saturating_mul(40);
    pe.starts_with(b"PE\0\0")
        .then(|| coff_end.saturating_add(optional.into()).saturating_add(sections))
}

/// What an ELF file is for; `None` for any other file.
pub(super) fn elf(head: &[u8]) -> Option<&'static str> {
    let header = goblin::elf::Elf::parse_header(head).ok()?;
    Some(match header.e_machine {
        EM_AARCH64 => "an ELF file for arm64",
        EM_X86_64 => "an ELF file for x86_64",
        EM_386 => "an ELF file for 32-bit x86",
        EM_ARM => "an ELF file for 32-bit Arm",
        EM_RISCV => "an ELF file for RISC-V",
        _ => "an ELF file",
    })
}
