//! A device tree named by the config: only its header is looked at here, the placement edits it.

use config::Arch;

use super::size::Size;

/// "The device tree blob (dtb) must be placed on an 8-byte boundary and must not exceed 2 megabytes in size."
/// (Documentation/arch/arm64/booting.rst)
pub(super) const MOST: u64 = 2 << 20;

/// Header of the flattened format, Devicetree Specification section 5.2.
const HEADER: u64 = 40;
const MAGIC: u32 = 0xd00d_feed;

/// Why a device tree is refused. Reads on after `dtb: PATH: `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DtbError {
    /// Not a machine with a device tree.
    #[error("{0} boots without a device tree; remove it from the entry")]
    NotOn(Arch),
    /// More than the kernel takes.
    #[error("is {} long, the kernel takes {}", Size(*.0), Size(MOST))]
    TooLong(u64),
    /// Not a device tree at all.
    #[error("is no device tree blob (begins with {0:08x}, not d00dfeed); compile it with dtc")]
    Magic(u32),
    /// Shorter than it says.
    #[error("is truncated: {have} bytes of {need}; copy it again")]
    Truncated {
        /// What there is, bytes.
        have: u64,
        /// `totalsize`, bytes.
        need: u64,
    },
    /// Another format.
    #[error("is version {0} of the format (compatible to {1}), Cato reads version 17; compile it with a current dtc")]
    Version(u32, u32),
}

/// Checks the header of a file of `len` bytes that begins with `head`.
pub(super) fn check(head: &[u8], len: u64) -> Result<(), DtbError> {
    if len > MOST {
        return Err(DtbError::TooLong(len));
    }
    let word = |at: usize| {
        let bytes = head.get(at..).and_then(|b| b.first_chunk()).copied();
        bytes.map(u32::from_be_bytes).ok_or(DtbError::Truncated {
            have: len,
            need: HEADER,
        })
    };
    let magic = word(0)?;
    if magic != MAGIC {
        return Err(DtbError::Magic(magic));
    }
    let need = u64::from(word(4)?).max(HEADER);
    if len < need {
        return Err(DtbError::Truncated { have: len, need });
    }
    let (version, compatible) = (word(20)?, word(24)?);
    if version < 17 || compatible > 17 {
        return Err(DtbError::Version(version, compatible));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob() -> Vec<u8> {
        let words = [MAGIC, 72, 56, 60, 40, 17, 16, 0, 4, 4];
        let mut blob: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        blob.resize(72, 0);
        blob
    }

    fn text(bytes: &[u8]) -> String {
        check(bytes, bytes.len() as u64).unwrap_err().to_string()
    }

    #[test]
    fn a_header_is_taken_or_said_to_be_what_it_is() {
        assert_eq!(check(&blob(), 72), Ok(()));
        // Padded, as U-Boot and dtc -p do.
        assert_eq!(check(&blob(), 4096), Ok(()));
        assert_eq!(text(&blob()[..71]), "is truncated: 71 bytes of 72; copy it again");
        assert_eq!(text(&blob()[..27]), "is truncated: 27 bytes of 72; copy it again");
        assert_eq!(text(&blob()[..3]), "is truncated: 3 bytes of 40; copy it again");
        assert!(text(b"/dts-v1/; / { };").starts_with("is no device tree blob (begins with 2f647473"));
        assert_eq!(check(&blob(), MOST + 1), Err(DtbError::TooLong(MOST + 1)));
        let mut old = blob();
        old[23] = 16;
        assert_eq!(check(&old, 72), Err(DtbError::Version(16, 16)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), len: u64) {
            let _ = check(&bytes, len);
        }
    }
}
