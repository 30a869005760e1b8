//! Formats that are known by sight and not taken, so that the message can say what to do.

use super::{Format, FormatError, FormatKind, Head, object};

pub(super) const FORMAT: Format = Format {
    name: "known",
    is: |bytes| known(bytes).is_some(),
    kind: FormatKind::Refused(refuse),
};

const REPACK: &str = "unpack it, or compress it with gzip or zstd instead";
const INNER: &str = "use the kernel inside it";
const BOOT_FILE: &str = "use arch/arm64/boot/Image or arch/x86/boot/bzImage of the same build";

/// Offset, bytes that are there, what it is, what to do.
type Sight = (usize, &'static [u8], &'static str, &'static str);

static SIGHTS: &[Sight] = &[
    (0, b"\xfd7zXZ\0", "an xz stream", REPACK),
    (0, b"\x04\x22\x4d\x18", "an lz4 frame", REPACK),
    (0, b"\x02\x21\x4c\x18", "an lz4 stream (legacy format)", REPACK),
    (0, b"BZh", "a bzip2 stream", REPACK),
    (0, b"\x5d\0\0", "an lzma stream", REPACK),
    (0, b"\x89LZO\0", "an lzop stream", REPACK),
    (0, b"\x27\x05\x19\x56", "a U-Boot uImage", INNER),
    (0, b"\xd0\x0d\xfe\xed", "a FIT image or a device tree", INNER),
    (0, b"ANDROID!", "an Android boot image", INNER),
    (0, b"070701", "a cpio archive", "name it as initrd"),
    (0, b"070702", "a cpio archive", "name it as initrd"),
];

/// Kernels of machines Cato does not run on: offset, bytes, what it is.
static FOREIGN: &[(usize, &[u8], &str)] = &[
    // arch/arm/boot/compressed/head.S
    (0x24, &0x016f_2818_u32.to_le_bytes(), "a zImage for 32-bit Arm"),
    // Documentation/arch/riscv/boot-image-header.rst
    (0x38, b"RSC\x05", "an Image for RISC-V"),
];

fn at(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes.get(offset..).is_some_and(|b| b.starts_with(magic))
}

/// What it is, and what to do; without a remedy where it is for another machine.
pub(super) fn known(bytes: &[u8]) -> Option<(&'static str, Option<&'static str>)> {
    if let Some((_, _, what, remedy)) = SIGHTS.iter().find(|(offset, magic, ..)| at(bytes, *offset, magic)) {
        return Some((what, Some(remedy)));
    }
    if let Some((_, _, what)) = FOREIGN.iter().find(|(offset, magic, _)| at(bytes, *offset, magic)) {
        return Some((what, None));
    }
    if let Some(what) = object::elf(bytes) {
        return Some((what, Some(BOOT_FILE)));
    }
    let pe = object::pe(bytes)?;
    Some(if pe.unified {
        (
            "a unified kernel image (UKI)",
            Some("use the kernel and initrd inside it"),
        )
    } else {
        (pe.machine, Some(BOOT_FILE))
    })
}

fn refuse(head: &Head<'_>) -> FormatError {
    match known(head.bytes) {
        Some((what, Some(remedy))) => FormatError::NotTaken { what, remedy },
        Some((what, None)) => FormatError::WrongArch {
            what,
            arch: head.machine.arch,
        },
        None => FormatError::unknown(head.bytes),
    }
}
