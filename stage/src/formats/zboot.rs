//! EFI zboot around an Image: drivers/firmware/efi/libstub/zboot-header.S.
//!
//! A PE program that unpacks the kernel inside it. Fields that DOS does not use say where that kernel is and how it is
//! compressed; the program itself is not used here.

use super::embedded::Embedded;
use super::{Format, FormatError, FormatKind, Head, PEEK, object};

pub(super) const FORMAT: Format = Format {
    name: "EFI zboot",
    is: |bytes| bytes.starts_with(b"MZ") && bytes.get(4..).is_some_and(|b| b.starts_with(b"zimg")),
    kind: FormatKind::Embedded(find),
};

const PAYLOAD_OFFSET: usize = 8;
const PAYLOAD_SIZE: usize = 12;
const COMP_TYPE: usize = 24;
/// Behind the name is the word that says there is a Linux kernel in this program.
const COMP_TYPE_END: usize = 0x38;

const REPACK: &str = "build it with CONFIG_KERNEL_GZIP or CONFIG_KERNEL_ZSTD, or use the Image of the same build";

/// drivers/firmware/efi/libstub/Makefile.zboot: the names, by their beginning ("zstd22", "xzkern").
static NOT_TAKEN: &[(&str, &str)] = &[
    ("xz", "an EFI zboot image with an xz payload"),
    ("lzma", "an EFI zboot image with an lzma payload"),
    ("lzo", "an EFI zboot image with an lzo payload"),
    ("lz4", "an EFI zboot image with an lz4 payload"),
    ("bzip2", "an EFI zboot image with a bzip2 payload"),
];

/// The payload. The size in the header leaves out the length of the kernel that the build appends to what is not gzip;
/// in gzip it is part of the format.
fn find(head: &Head<'_>) -> Result<Embedded, FormatError> {
    let fields = (
        head.le32(PAYLOAD_OFFSET),
        head.le32(PAYLOAD_SIZE),
        head.bytes.get(COMP_TYPE..COMP_TYPE_END),
    );
    let (Some(at), Some(len), Some(name)) = fields else {
        return Err(FormatError::Truncated {
            have: head.have(),
            need: u64::try_from(COMP_TYPE_END).unwrap_or(0),
        });
    };
    let (at, len) = (u64::from(at), u64::from(len));
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    if !(name.starts_with(b"gzip") || name.starts_with(b"zstd")) {
        let known = NOT_TAKEN.iter().find(|(begins, _)| name.starts_with(begins.as_bytes()));
        return Err(FormatError::NotTaken {
            what: known.map_or("an EFI zboot image with a payload of an unknown kind", |(_, what)| what),
            remedy: REPACK,
        });
    }
    // The headers say themselves where they end, where there are any.
    let headers = u64::try_from(COMP_TYPE_END).unwrap_or(0);
    let headers = object::pe_headers_end(head.bytes).unwrap_or(0).max(headers);
    if at < headers {
        return Err(FormatError::Header {
            field: "payload_offset",
            value: at,
            rule: "an offset after the headers",
        });
    }
    if len == 0 {
        return Err(FormatError::Header {
            field: "payload_size",
            value: len,
            rule: "the size of the kernel",
        });
    }
    let end = at.saturating_add(len);
    if let Some(have) = head.len
        && have < end
    {
        return Err(FormatError::Truncated { have, need: end });
    }
    if at >= u64::try_from(PEEK).unwrap_or(0) {
        return Err(FormatError::Header {
            field: "payload_offset",
            value: at,
            rule: "an offset in the first 256 KiB",
        });
    }
    Ok(Embedded { at, len })
}
