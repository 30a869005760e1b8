//! Why an initrd is not passed on.

use super::super::First;

/// Why an initrd is refused. Reads on after `initrd: PATH: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InitrdError {
    /// No byte, or none but zeros.
    #[error("{0}; copy it again")]
    Nothing(&'static str),
    /// A format that is known and is no initramfs.
    #[error("{what}, not an initramfs; {remedy}")]
    Foreign {
        /// What it is.
        what: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Nothing that is known.
    #[error("not an initramfs (begins with {first}); pack one with cpio -H newc, then gzip or zstd")]
    Unknown {
        /// Its first bytes.
        first: First,
    },
    /// Another file than a cpio archive inside a compressed one.
    #[error("{} inside {packing}, but the kernel takes only a cpio archive there; repack it", .what.unwrap_or("no cpio archive"))]
    Inside {
        /// What is around it.
        packing: &'static str,
        /// What it is, if that is known.
        what: Option<&'static str>,
    },
    /// A compressed file that gives nothing.
    #[error("{packing} stream is truncated, damaged or empty; copy it again")]
    Stream {
        /// Its format.
        packing: &'static str,
    },
    /// Shorter than what it holds.
    #[error("truncated ({have} of at least {need} bytes); copy it again")]
    Truncated {
        /// What there is, bytes.
        have: u64,
        /// What there should be, bytes.
        need: u64,
    },
    /// A header of a cpio archive with something else than hex digits in it.
    #[error("damaged cpio header at byte {at}; copy it again")]
    Header {
        /// Offset in the file.
        at: u64,
    },
    /// A file of a cpio archive with checksums (`-H crc`) that is not what was packed.
    #[error("checksum mismatch in the cpio archive, file at byte {at}; copy it again")]
    Sum {
        /// Offset of its header in the file.
        at: u64,
    },
    /// The kernel may take what follows for a part of it.
    #[error(
        "its cpio archive has no TRAILER!!! at its end, so the next initrd may be lost; was it cut off? copy or pack it again"
    )]
    Endless,
    /// A cpio archive with checksums, for a kernel that knows none.
    #[error("cpio archive with checksums (-H crc), which Linux {}.{} does not read; pack it with cpio -H newc", .0.0, .0.1)]
    Sums((u16, u16)),
    /// A form of a compression that the kernel's own code does not read.
    #[error("{what}, but the kernel takes {takes}; {remedy}")]
    Form {
        /// What it is.
        what: &'static str,
        /// What would be taken.
        takes: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A main kernel without what it takes.
    #[error("the kernel reads no initrd (CONFIG_BLK_DEV_INITRD is not set); use another kernel, or remove `initrd`")]
    NoInitrds,
    /// A compression the main kernel was built without.
    #[error("compressed with {packing}, which the kernel can't unpack ({why}); use another compression")]
    NotBuiltIn {
        /// Its format.
        packing: &'static str,
        /// How that is known.
        why: String,
    },
    /// A U-Boot image (uInitrd) whose bytes do not match its checksum.
    #[error("U-Boot image with a {what} checksum mismatch; copy it again")]
    UBoot {
        /// `header` or `data`.
        what: &'static str,
    },
    /// A U-Boot image of something else.
    #[error("U-Boot image of {what}, not of a ramdisk; make one with mkimage -T ramdisk")]
    UBootType {
        /// What it says it holds.
        what: &'static str,
    },
    /// A U-Boot image with more behind it than padding.
    #[error("U-Boot image with other data after it (at byte {at}), which would be lost; split the file")]
    UBootMore {
        /// Offset in the file.
        at: u64,
    },
    /// Something the kernel can't read behind what it can, and another initrd behind that.
    #[error(
        "the kernel stops at byte {at}, where no archive begins, so the next initrd would be lost; repack it, or name it last"
    )]
    Lost {
        /// Offset in the file.
        at: u64,
    },
    /// A bootconfig that the kernel would not take.
    #[error("its bootconfig {what}; attach it again (bootconfig -a)")]
    Bootconfig {
        /// What is wrong with it.
        what: &'static str,
    },
    /// More than one bootconfig.
    #[error("a second bootconfig, but the kernel reads only one; merge them")]
    Bootconfigs,
}
