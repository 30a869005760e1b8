//! Why an initrd is not passed on.

use super::super::First;

/// Why an initrd is refused. Reads on after `initrd: PATH: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InitrdError {
    /// No byte, or none but zeros.
    #[error("is {0}; copy it again")]
    Nothing(&'static str),
    /// A format that is known and is no initramfs.
    #[error("is {what}, not an initramfs; {remedy}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Nothing that is known.
    #[error("is not an initramfs (begins with {first}); pack one with cpio -H newc, then gzip or zstd")]
    Unknown {
        /// Its first bytes.
        first: First,
    },
    /// Another file than a cpio archive inside a compressed one.
    #[error("holds {} inside {packing}, the kernel takes only a cpio archive there; repack it", .what.unwrap_or("no cpio archive"))]
    Inside {
        /// What is around it.
        packing: &'static str,
        /// What it is, if that is known.
        what: Option<&'static str>,
    },
    /// A compressed file that gives nothing.
    #[error("is a {packing} stream that is truncated, damaged or empty; copy it again")]
    Stream {
        /// Its format.
        packing: &'static str,
    },
    /// Shorter than what it holds.
    #[error("is truncated ({have} of at least {need} bytes); copy it again")]
    Truncated {
        /// What there is, bytes.
        have: u64,
        /// What there should be, bytes.
        need: u64,
    },
    /// A header of a cpio archive with something else than hex digits in it.
    #[error("has a damaged cpio header at byte {at}; copy it again")]
    Header {
        /// Offset in the file.
        at: u64,
    },
    /// A form of a compression that the kernel's own code does not read.
    #[error("is {what}, the kernel takes {takes}; {remedy}")]
    Form {
        /// What it is.
        what: &'static str,
        /// What would be taken.
        takes: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A compression the main kernel was built without.
    #[error("is compressed with {packing}, which the kernel can't unpack ({why}); compress it with another tool")]
    NotBuiltIn {
        /// Its format.
        packing: &'static str,
        /// How that is known.
        why: String,
    },
    /// A U-Boot image (uInitrd) whose bytes do not match its checksum.
    #[error("is a U-Boot image whose {what} does not match its checksum; copy it again")]
    UBoot {
        /// `header` or `data`.
        what: &'static str,
    },
    /// A U-Boot image of something else.
    #[error("is a U-Boot image of {what}, not of a ramdisk; make one with mkimage -T ramdisk")]
    UBootType {
        /// What it says it holds.
        what: &'static str,
    },
    /// A U-Boot image with more behind it than padding.
    #[error("is a U-Boot image with something else behind it (at byte {at}), which would be lost; take it apart")]
    UBootMore {
        /// Offset in the file.
        at: u64,
    },
    /// Something the kernel can't read behind what it can, and another initrd behind that.
    #[error(
        "has something at byte {at} at which the kernel stops, so the next initrd would be lost; repack it, or name it last"
    )]
    Lost {
        /// Offset in the file.
        at: u64,
    },
    /// A bootconfig that the kernel would not take.
    #[error("has a bootconfig at its end that {what}; attach it again (bootconfig -a)")]
    Bootconfig {
        /// What is wrong with it.
        what: &'static str,
    },
    /// More than one bootconfig.
    #[error("has a second bootconfig, the kernel reads only one; merge them")]
    Bootconfigs,
}
