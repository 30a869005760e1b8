//! Several initrds become one: Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! Given the first bytes and the length of each; responsible for the padding between them, in the order of the config,
//! because a later archive overwrites the files of an earlier one.
//!
//! > initramfs := ("\0" | cpio_archive | cpio_gzip_archive)*
//! > […] arbitrary amounts zero bytes (for padding) can be added between members.
//!
//! The kernel recognises an uncompressed archive only at an offset that is a multiple of 4, counted from the start of the
//! initrd, and finds microcode and ACPI tables only in uncompressed archives at its very start: so nothing is put before
//! the first one.

use std::iter;

/// What an initrd begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An uncompressed cpio archive ("newc" or "crc").
    Cpio {
        /// It holds files the kernel looks for before it can unpack anything.
        early: bool,
    },
    /// A compression the kernel unpacks by itself.
    Compressed,
    /// The same, without an end mark: whatever follows at once is taken for its next block (lz4's legacy format).
    Endless,
    /// None of these.
    Unknown,
}

const CPIO: [&[u8]; 2] = [b"070701", b"070702"];
/// lib/decompress.c
const COMPRESSED: [&[u8]; 7] = [
    b"\x1f\x8b",
    b"\x1f\x9e",
    b"BZh",
    b"\x5d\0",
    b"\xfd7zXZ\0",
    b"\x89LZO",
    b"\x28\xb5\x2f\xfd",
];
const LZ4_LEGACY: &[u8] = b"\x02\x21\x4c\x18";
/// Folders of files the kernel takes without unpacking: Documentation/arch/x86/microcode.rst,
/// Documentation/admin-guide/acpi/initrd_table_override.rst.
const EARLY: [&str; 2] = ["kernel/x86/microcode/", "kernel/firmware/acpi/"];

/// What a file that begins with `head` is.
pub(crate) fn kind(head: &[u8]) -> Kind {
    let zeros = head.iter().take_while(|b| **b == 0).count();
    let bytes = head.get(zeros..).unwrap_or_default();
    if CPIO.iter().any(|magic| bytes.starts_with(magic)) {
        let early = names(bytes).any(|name| EARLY.iter().any(|folder| name.starts_with(folder.as_bytes())));
        Kind::Cpio { early }
    } else if COMPRESSED.iter().any(|magic| bytes.starts_with(magic)) {
        Kind::Compressed
    } else if bytes.starts_with(LZ4_LEGACY) {
        Kind::Endless
    } else {
        Kind::Unknown
    }
}

/// The names in a cpio archive, as far as `bytes` go.
fn names(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    const HEADER: usize = 110;
    let mut at = 0_usize;
    iter::from_fn(move || {
        let entry = bytes.get(at..)?;
        if !CPIO.iter().any(|magic| entry.starts_with(magic)) {
            return None;
        }
        let field = |index: usize| {
            let digits = entry.get(index..index.checked_add(8)?)?;
            usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
        };
        let (data, name) = (field(54)?, field(94)?);
        let name_end = HEADER.checked_add(name)?;
        let data_end = name_end.checked_next_multiple_of(4)?.checked_add(data)?;
        at = at.checked_add(data_end.checked_next_multiple_of(4)?)?;
        entry.get(HEADER..name_end)
    })
}

/// Zeros before an initrd that begins at offset `at` (without them), after one of kind `before`.
pub(crate) fn padding(at: u64, before: Option<Kind>) -> u64 {
    let aligned = at.next_multiple_of(4).saturating_sub(at);
    // Four zeros are a block of length zero, which is the end.
    match before {
        Some(Kind::Endless) => aligned.saturating_add(4),
        _ => aligned,
    }
}

/// Those that hold early files the kernel will not see, given the kinds in order.
pub(crate) fn late(kinds: &[Kind]) -> impl Iterator<Item = usize> {
    kinds
        .iter()
        .enumerate()
        .skip_while(|(_, kind)| matches!(kind, Kind::Cpio { .. }))
        .filter(|(_, kind)| matches!(kind, Kind::Cpio { early: true }))
        .map(|(index, _)| index)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A newc archive, without a trailer.
    fn cpio(files: &[(&str, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, size) in files {
            let fields = [1, 0o100_644, 0, 0, 1, 0, *size, 0, 0, 0, 0, name.len() + 1, 0];
            out.extend_from_slice(b"070701");
            for field in fields {
                out.extend_from_slice(format!("{field:08x}").as_bytes());
            }
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.resize((out.len() + size).next_multiple_of(4), b'x');
        }
        out
    }

    #[test]
    fn content_says_what_it_is() {
        let microcode = cpio(&[
            ("kernel", 0),
            ("kernel/x86", 0),
            ("kernel/x86/microcode/AuthenticAMD.bin", 33),
        ]);
        assert_eq!(kind(&microcode), Kind::Cpio { early: true });
        assert_eq!(
            kind(&microcode[..300]),
            Kind::Cpio { early: false },
            "cut before the name"
        );
        let tables = cpio(&[("a", 1), ("bb", 2), ("kernel/firmware/acpi/dsdt.aml", 7)]);
        assert_eq!(kind(&tables), Kind::Cpio { early: true });
        assert_eq!(
            kind(&cpio(&[("init", 5), ("etc/kernel/x86/microcode/x", 0)])),
            Kind::Cpio { early: false }
        );
        assert_eq!(kind(&[&[0, 0, 0, 0], &tables[..]].concat()), Kind::Cpio { early: true });
        assert_eq!(kind(b"\x1f\x8b\x08"), Kind::Compressed);
        assert_eq!(kind(b"\x28\xb5\x2f\xfd"), Kind::Compressed);
        assert_eq!(kind(b"\x02\x21\x4c\x18"), Kind::Endless);
        for unknown in [&b"random"[..], b"", b"\0\0\0\0", b"07070"] {
            assert_eq!(kind(unknown), Kind::Unknown);
        }
    }

    #[test]
    fn what_follows_is_aligned_and_not_swallowed() {
        let cpio = Some(Kind::Cpio { early: false });
        for (at, before, zeros) in [
            (0, None, 0),
            (8, cpio, 0),
            (9, cpio, 3),
            (11, Some(Kind::Compressed), 1),
            (12, Some(Kind::Endless), 4),
            (13, Some(Kind::Endless), 7),
        ] {
            assert_eq!(padding(at, before), zeros, "{at} {before:?}");
        }
    }

    #[test]
    fn early_files_are_missed_only_behind_something_compressed() {
        let (early, plain, packed) = (
            Kind::Cpio { early: true },
            Kind::Cpio { early: false },
            Kind::Compressed,
        );
        let late = |kinds: &[Kind]| late(kinds).collect::<Vec<_>>();
        assert!(late(&[early, packed]).is_empty());
        assert!(late(&[plain, early, packed, plain]).is_empty());
        assert_eq!(late(&[packed, plain, early]), [2]);
        assert_eq!(late(&[Kind::Unknown, early, early]), [1, 2]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            fields in "[0-9a-fA-F]{104}",
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = kind(&bytes);
            let _ = kind(&[b"070701", fields.as_bytes(), &bytes[..]].concat());
        }

        #[test]
        fn padding_aligns(at in 0..u64::MAX / 2) {
            for before in [Kind::Compressed, Kind::Endless, Kind::Unknown] {
                let zeros = padding(at, Some(before));
                prop_assert_eq!((at + zeros) % 4, 0);
                prop_assert!(zeros < 8);
            }
        }
    }
}
