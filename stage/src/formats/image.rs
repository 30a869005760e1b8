//! arm64 `Image`: Documentation/arch/arm64/booting.rst, section 4.

use config::Arch;

use super::object;
use super::{Format, FormatError, FormatKind, Head, Header, Image, Plan};

pub(super) const FORMAT: Format = Format {
    name: "Image",
    is: |bytes| bytes.get(MAGIC_AT..).is_some_and(|b| b.starts_with(MAGIC)),
    kind: FormatKind::Kernel(parse),
};

const MAGIC_AT: usize = 56;
const MAGIC: &[u8] = b"ARM\x64";

/// The placement's grid.
const BASE_ALIGN: u64 = 2 << 20;

fn parse(head: &Head<'_>) -> Result<Plan, FormatError> {
    if head.machine.arch != Arch::Arm64 {
        return Err(FormatError::WrongArch {
            what: "an arm64 Image",
            arch: head.machine.arch,
        });
    }
    let (Some(text_offset), Some(image_size), Some(flags)) = (head.le64(8), head.le64(16), head.le64(24)) else {
        return Err(FormatError::Truncated {
            have: head.have(),
            need: 64,
        });
    };
    // "Bit 0: Kernel endianness. 1 if BE, 0 if LE."
    if flags & 1 != 0 {
        return Err(FormatError::BigEndian);
    }
    // "Bit 1-2: Kernel Page size. 0 - Unspecified. 1 - 4K, 2 - 16K, 3 - 64K"
    let wants = [None, Some(4_u64 << 10), Some(16 << 10), Some(64 << 10)];
    let wants = wants
        .into_iter()
        .nth(usize::from(u8::try_from(flags >> 1 & 3).unwrap_or(0)));
    if let Some(Some(wants)) = wants
        && !head.machine.granules.is_empty()
        && !head.machine.granules.contains(&wants)
    {
        return Err(FormatError::PageSize {
            wants,
            has: head.machine.granules.clone(),
        });
    }
    // "Where image_size is zero, text_offset can be assumed to be 0x80000", and nothing says how much memory it uses.
    if image_size == 0 {
        return Err(FormatError::NoImageSize);
    }
    // "The Image must be placed text_offset bytes from a 2MB aligned base address".
    if text_offset >= BASE_ALIGN || text_offset & 0xfff != 0 {
        return Err(FormatError::Header {
            field: "text_offset",
            value: text_offset,
            rule: "a multiple of 4 KiB below 2 MiB",
        });
    }
    // Nothing in this header says how long the file is; the EFI stub's does.
    let headers = object::pe_headers_end(head.bytes).unwrap_or(0);
    let sections = object::pe(head.bytes).map_or(0, |pe| pe.end);
    let least = headers.max(sections).max(64);
    if let Some(len) = head.len {
        if len < least {
            return Err(FormatError::Truncated { have: len, need: least });
        }
        // "At least image_size bytes from the start of the image must be free for use by the kernel": more than that
        // would be written over what the placement puts behind it.
        if len > image_size {
            return Err(FormatError::TooLong {
                have: len,
                most: image_size,
            });
        }
    }
    if least > image_size {
        return Err(FormatError::Header {
            field: "image_size",
            value: image_size,
            rule: "at least the size of its sections",
        });
    }
    Ok(Plan {
        skip: 0,
        least,
        most: head.len.unwrap_or(image_size),
        header: Header::Image(Image {
            text_offset,
            image_size,
            // "Bit 3: Kernel physical placement. 1 - 2MB aligned base such that all image_size bytes […] are within
            // the 48-bit addressable range of physical memory"
            anywhere: flags & 8 != 0,
        }),
    })
}
