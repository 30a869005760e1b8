//! The header U-Boot wants around a ramdisk (`uInitrd`): doc/usage/cmd/bootm.rst, include/image.h, "legacy image format".

use super::error::InitrdError;
use crate::memory::crc::crc32;

/// Length of the header, bytes.
pub(crate) const HEADER: u64 = 64;
pub(super) const MAGIC: &[u8] = &0x2705_1956_u32.to_be_bytes();
/// `IH_TYPE_*`, from 0.
const TYPES: [&str; 9] = [
    "something unknown",
    "a standalone program",
    "a kernel",
    "a ramdisk",
    "several files",
    "firmware",
    "a script",
    "a file system",
    "a device tree",
];
const RAMDISK: usize = 3;

/// What the header says of the ramdisk behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UBoot {
    /// Length, bytes.
    pub size: u64,
    /// CRC-32 of those bytes.
    crc: u32,
}

/// The header of a file of `len` bytes that begins with `head`; none where it has none.
///
/// # Errors
/// Where it is damaged, or around something else.
pub(crate) fn header(head: &[u8], len: u64) -> Result<Option<UBoot>, InitrdError> {
    if !head.starts_with(MAGIC) {
        return Ok(None);
    }
    let Some(header) = head.first_chunk::<64>() else {
        return Err(InitrdError::Truncated {
            have: len,
            need: HEADER,
        });
    };
    let be32 = |at: usize| {
        header
            .get(at..)
            .and_then(|b| b.first_chunk())
            .map_or(0, |b| u32::from_be_bytes(*b))
    };
    // ih_hcrc: of the header, with this field as zeros.
    if crc32([MAGIC, &[0; 4], header.get(8..).unwrap_or_default()]) != be32(4) {
        return Err(InitrdError::UBoot { what: "header" });
    }
    let kind = usize::from(header.get(30).copied().unwrap_or(0));
    if kind != RAMDISK {
        let what = TYPES.get(kind).or(TYPES.first()).copied().unwrap_or_default();
        return Err(InitrdError::UBootType { what });
    }
    let size = u64::from(be32(12));
    let need = HEADER.saturating_add(size);
    if len < need {
        return Err(InitrdError::Truncated { have: len, need });
    }
    Ok(Some(UBoot { size, crc: be32(24) }))
}

impl UBoot {
    /// Compares the ramdisk, given in pieces, with its checksum.
    ///
    /// # Errors
    /// Where they differ.
    pub(crate) fn check(self, pieces: [&[u8]; 2]) -> Result<(), InitrdError> {
        if crc32(pieces) == self.crc {
            Ok(())
        } else {
            Err(InitrdError::UBoot { what: "data" })
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What `mkimage -A arm64 -T ramdisk -d` writes; `kind` is 3 for a ramdisk.
    pub(crate) fn mkimage(kind: u8, data: &[u8]) -> Vec<u8> {
        let mut header = [0; 64];
        header[..4].copy_from_slice(MAGIC);
        header[12..16].copy_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        header[24..28].copy_from_slice(&crc32([data]).to_be_bytes());
        header[28..32].copy_from_slice(&[5, 22, kind, 1]);
        header[32..38].copy_from_slice(b"initrd");
        let crc = crc32([header.as_slice()]);
        header[4..8].copy_from_slice(&crc.to_be_bytes());
        [&header, data].concat()
    }

    #[test]
    fn only_a_whole_ramdisk_is_taken() {
        let file = mkimage(3, b"ramdisk");
        let len = 71;
        let found = header(&file, len).unwrap().unwrap();
        assert_eq!(found.size, 7);
        assert_eq!(found.check([b"ram", b"disk"]), Ok(()));
        let said = found.check([b"ran", b"disk"]).unwrap_err().to_string();
        assert_eq!(said, "U-Boot image with a data checksum mismatch; copy it again");
        assert_eq!(header(b"070701", 6), Ok(None));
        for at in 4..64 {
            let mut damaged = file.clone();
            damaged[at] ^= 0x10;
            assert_eq!(
                header(&damaged, len),
                Err(InitrdError::UBoot { what: "header" }),
                "{at}"
            );
        }
        assert_eq!(header(&file, 70), Err(InitrdError::Truncated { have: 70, need: 71 }));
        assert_eq!(
            header(&file[..63], 63),
            Err(InitrdError::Truncated { have: 63, need: 64 })
        );
        for (kind, what) in [
            (2, "a kernel"),
            (4, "several files"),
            (0, "something unknown"),
            (200, "something unknown"),
        ] {
            assert_eq!(header(&mkimage(kind, b"x"), 65), Err(InitrdError::UBootType { what }));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), len in any::<u64>()) {
            let _ = header(&[MAGIC, &bytes].concat(), len);
        }
    }
}
