//! PE and ELF headers, as far as they say what a file is and where it ends.

use goblin::elf::header::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64};
use goblin::pe::header::{
    COFF_MACHINE_ARM64, COFF_MACHINE_ARMNT, COFF_MACHINE_RISCV64, COFF_MACHINE_X86, COFF_MACHINE_X86_64, CoffHeader,
    PE_POINTER_OFFSET, SIZEOF_COFF_HEADER, SIZEOF_PE_MAGIC,
};
use goblin::pe::section_table::SIZEOF_SECTION_TABLE;

use super::le32;

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
        .checked_add(SIZEOF_PE_MAGIC)?
        .checked_add(SIZEOF_COFF_HEADER)?
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
///
/// [`pe`] can't tell: goblin's DOS header comes only with a whole PE header behind it, and this is asked of files that
/// were cut before that.
pub(super) fn pe_headers_end(head: &[u8]) -> Option<u64> {
    let pointer = usize::try_from(PE_POINTER_OFFSET).ok()?;
    let at = usize::try_from(le32(head, pointer).filter(|_| head.starts_with(b"MZ"))?).ok()?;
    let coff_at = at.checked_add(SIZEOF_PE_MAGIC)?;
    let coff_end = coff_at.checked_add(SIZEOF_COFF_HEADER)?;
    let end = match head.get(at..coff_end) {
        None => coff_end,
        Some(bytes) => {
            let coff = CoffHeader::parse(bytes.strip_prefix(b"PE\0\0")?, &mut 0).ok()?;
            let sections = usize::from(coff.number_of_sections).checked_mul(SIZEOF_SECTION_TABLE)?;
            coff_end
                .checked_add(coff.size_of_optional_header.into())?
                .checked_add(sections)?
        }
    };
    u64::try_from(end).ok()
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
