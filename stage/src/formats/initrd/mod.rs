//! What an initrd holds, and whether the kernel reads all of it: init/initramfs.c,
//! Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! > initramfs := ("\0" | cpio_archive | cpio_gzip_archive)*
//! > […] arbitrary amounts zero bytes (for padding) can be added between members.
//!
//! Given the bytes of one initrd, or only the first ones; responsible for saying what it is by content, for refusing what
//! the kernel would not read, and for the padding between several. The kernel recognises an uncompressed archive only at an
//! offset that is a multiple of 4, counted from the start of all initrds, and finds microcode and ACPI tables only in
//! uncompressed archives at its very start: so nothing is put before the first one.

pub(crate) mod bootconfig;
mod builtin;
mod error;
mod packing;
pub(crate) mod uboot;

pub(crate) use builtin::BuiltIn;
pub(super) use builtin::version;
pub(crate) use error::InitrdError;
pub(crate) use packing::Packing;

use super::{FORMATS, First, FormatKind, HEAD, refused};
use packing::End;

const CPIO: [&[u8]; 2] = [b"070701", CPIO_CRC];
/// With a sum of each file's bytes, which the kernel compares since 5.19.
const CPIO_CRC: &[u8] = b"070702";
/// The name behind the last file of an archive.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Length of a cpio header, bytes.
const CPIO_HEADER: usize = 110;
/// Folders of files the kernel takes without unpacking: Documentation/arch/x86/microcode.rst,
/// Documentation/admin-guide/acpi/initrd_table_override.rst.
const EARLY: [&str; 2] = ["kernel/x86/microcode/", "kernel/firmware/acpi/"];

const NEWC: &str = "pack its files with cpio -H newc";
/// What people take for an initramfs: offset, bytes that are there, what it is, what to do.
static SIGHTS: &[(usize, &[u8], &str, &str)] = &[
    (0, uboot::MAGIC, "a U-Boot image", "take out what is inside"),
    (
        0,
        b"\xd0\x0d\xfe\xed",
        "a FIT image or a device tree",
        "name the ramdisk inside it",
    ),
    (0, b"070707", "a cpio archive in the old portable format", NEWC),
    (0, b"\xc7\x71", "a cpio archive in the old binary format", NEWC),
    (0, b"\x71\xc7", "a cpio archive in the old binary format", NEWC),
    (0, b"\x04\x22\x4d\x18", "an lz4 frame", "compress it with lz4 -l"),
    (
        1,
        b"\x2a\x4d\x18",
        "zstd with a skippable frame first",
        "compress it with zstd, not pzstd",
    ),
    (0, b"hsqs", "a squashfs image", NEWC),
    (0x438, b"\x53\xef", "an ext2, ext3 or ext4 image", NEWC),
    (0, b"\x45\x3d\xcd\x28", "a cramfs image", NEWC),
    (0, b"-rom1fs-", "a romfs image", NEWC),
    (257, b"ustar", "a tar archive", NEWC),
    (0, b"PK\x03\x04", "a zip archive", NEWC),
];

/// What an initrd holds, as far as it could be looked at.
#[expect(
    clippy::struct_excessive_bools,
    reason = "facts that have nothing to do with each other"
)]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Files the kernel looks for before it can unpack anything.
    pub early: bool,
    /// The compressions in it, each once.
    pub packed: Vec<Packing>,
    /// What follows at once would be taken for its next block (lz4's legacy format).
    pub open: bool,
    /// Offset of something at which the kernel stops.
    pub junk: Option<u64>,
    /// It has files with checksums.
    pub sums: bool,
    /// Its last cpio archive has no end: it may have been cut off there.
    pub endless: bool,
}

/// What of an initrd is there to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Its first bytes.
    Head,
    /// All of it, and nothing comes behind it.
    Last,
    /// All of it, and another initrd comes behind it.
    Followed,
}

/// Looks at an initrd. Steps and memory are bounded by the length of `bytes`.
///
/// # Errors
/// Where the kernel would read nothing of it, or it is damaged.
pub(crate) fn examine(bytes: &[u8], extent: Extent) -> Result<Found, InitrdError> {
    let whole = extent != Extent::Head;
    let mut found = Found::default();
    let (mut any, mut streams) = (false, 0_usize);
    let mut before = Before::Nothing;
    let mut at = 0_usize;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let zeros = rest.iter().take_while(|b| **b == 0).count();
        at = at.saturating_add(zeros);
        let rest = rest.get(zeros..).unwrap_or_default();
        if rest.is_empty() {
            found.endless = whole && before == Before::File;
            return match (any || !whole, bytes.is_empty()) {
                (true, _) if found.endless && extent == Extent::Followed => Err(InitrdError::Endless),
                (true, _) => Ok(found),
                (false, true) => Err(InitrdError::Nothing("empty")),
                (false, false) => Err(InitrdError::Nothing("nothing but zeros")),
            };
        }
        let cpio = is_cpio(rest) && at.is_multiple_of(4);
        let stops = match before {
            Before::Nothing => false,
            // The next header has to follow at once.
            Before::File => zeros != 0 || !cpio,
            Before::Trailer => !at.is_multiple_of(4),
        };
        let end = if stops {
            found.junk = Some(offset(at));
            return Ok(found);
        } else if cpio {
            let header = offset(at);
            let entry = match entry(rest) {
                Some(entry) => entry,
                // Cut short, or not of hex digits.
                None if rest.len() >= CPIO_HEADER => return Err(InitrdError::Header { at: header }),
                None => Entry::default(),
            };
            let name = entry.name;
            found.early |= found.packed.is_empty() && EARLY.iter().any(|folder| name.starts_with(folder.as_bytes()));
            found.sums |= rest.starts_with(CPIO_CRC);
            before = if name.split(|byte| *byte == 0).next() == Some(TRAILER) {
                Before::Trailer
            } else {
                Before::File
            };
            if entry.end > rest.len() {
                End::Beyond
            } else {
                if rest.starts_with(CPIO_CRC) && !entry.is_as_summed(rest) {
                    return Err(InitrdError::Sum { at: header });
                }
                End::At(entry.end.next_multiple_of(4).min(rest.len()))
            }
        } else if let Some(packing) = Packing::of(rest) {
            before = Before::Nothing;
            packing.check(rest)?;
            // A second stream tells whether the first one was a whole archive; more are not looked into, to bound the work.
            if streams < 2 {
                inside(packing, rest, streams != 0)?;
            }
            streams = streams.saturating_add(1);
            if !found.packed.contains(&packing) {
                found.packed.push(packing);
            }
            packing.end(rest, extent)?
        } else if any {
            found.junk = Some(offset(at));
            return Ok(found);
        } else {
            return Err(foreign(rest));
        };
        any = true;
        match end {
            End::At(end) => at = at.saturating_add(end),
            End::Open(end) => {
                at = at.saturating_add(end);
                found.open = true;
            }
            End::Beyond if whole => {
                let have = offset(bytes.len());
                return Err(InitrdError::Truncated {
                    have,
                    need: have.saturating_add(1),
                });
            }
            End::Beyond | End::Unknown => return Ok(found),
        }
    }
}

fn offset(at: usize) -> u64 {
    u64::try_from(at).unwrap_or(u64::MAX)
}

fn is_cpio(bytes: &[u8]) -> bool {
    CPIO.iter().any(|magic| bytes.starts_with(magic))
}

/// What the kernel has read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Nothing, or something compressed.
    Nothing,
    /// A file of a cpio archive.
    File,
    /// A cpio archive, to its end.
    Trailer,
}

/// A file in a cpio archive.
struct Entry<'a> {
    /// As far as it is there.
    name: &'a [u8],
    mode: u32,
    /// Where its data begins and ends.
    data: usize,
    end: usize,
    /// The sum of its bytes, in an archive that has sums.
    sum: u32,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Self {
            name: &[],
            mode: 0,
            data: CPIO_HEADER,
            end: CPIO_HEADER,
            sum: 0,
        }
    }
}

impl Entry<'_> {
    /// Whether its data adds up, as do_copy() wants it. Of several links to a file, only one has the data.
    fn is_as_summed(&self, bytes: &[u8]) -> bool {
        let data = bytes.get(self.data..self.end).unwrap_or_default();
        let is_file = self.mode & 0o170_000 == 0o100_000;
        !is_file || data.is_empty() || data.iter().fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into())) == self.sum
    }
}

/// The file that `bytes` begin with.
fn entry(bytes: &[u8]) -> Option<Entry<'_>> {
    let field = |at: usize| {
        let digits = bytes.get(at..at.checked_add(8)?)?;
        u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
    };
    let name_end = CPIO_HEADER.checked_add(usize::try_from(field(94)?).ok()?)?;
    let data = name_end.checked_next_multiple_of(4)?;
    Some(Entry {
        name: bytes.get(CPIO_HEADER..name_end).unwrap_or_default(),
        mode: field(14)?,
        data,
        end: data.checked_add(usize::try_from(field(54)?).ok()?)?,
        sum: field(102)?,
    })
}

/// Looks into a compressed file that can be unpacked here: the kernel takes nothing but a cpio archive there, `behind`
/// another one zeros too.
fn inside(packing: Packing, bytes: &[u8], behind: bool) -> Result<(), InitrdError> {
    let Some(stream) = FORMATS.iter().find_map(|format| match &format.kind {
        FormatKind::Stream(stream) if (format.is)(bytes) => Some(stream),
        _ => None,
    }) else {
        return Ok(());
    };
    match (stream.peek)(bytes.get(..HEAD).unwrap_or(bytes)) {
        inner if inner.is_empty() => Err(InitrdError::Stream {
            packing: packing.name(),
        }),
        inner if is_cpio(&inner) => Ok(()),
        inner if behind && starts_after_zeros(&inner) => Ok(()),
        inner => Err(InitrdError::Inside {
            packing: packing.name(),
            what: known(&inner).map(|(what, _)| what),
        }),
    }
}

/// Whether nothing but zeros is before an archive, or at all.
fn starts_after_zeros(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let rest = bytes.get(zeros..).unwrap_or_default();
    zeros != 0 && (rest.is_empty() || is_cpio(rest))
}

fn foreign(bytes: &[u8]) -> InitrdError {
    match known(bytes) {
        Some((what, remedy)) => InitrdError::Foreign { what, remedy },
        None => InitrdError::Unknown {
            first: First::of(bytes),
        },
    }
}

/// What it is, and what to do.
fn known(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let at = |(offset, magic, ..): &&(usize, &[u8], _, _)| bytes.get(*offset..).is_some_and(|b| b.starts_with(magic));
    if let Some((_, _, what, remedy)) = SIGHTS.iter().find(at) {
        return Some((what, remedy));
    }
    let kernel = |format: &super::Format| {
        matches!(format.kind, FormatKind::Kernel(_) | FormatKind::Embedded(_)) && (format.is)(bytes)
    };
    if FORMATS.iter().any(kernel) {
        return Some(("a kernel", "name it as kernel"));
    }
    let (what, _) = refused::known(bytes)?;
    Some((what, "name the initrd of the same build"))
}

/// Zeros before an initrd that begins at offset `at` (without them); `open` as the one before was [found](Found::open).
pub(crate) fn padding(at: usize, open: bool) -> usize {
    let aligned = at.next_multiple_of(4).saturating_sub(at);
    // Four zeros are a block of length zero, which is the end.
    aligned.saturating_add(if open { 4 } else { 0 })
}

#[cfg(test)]
mod tests;
