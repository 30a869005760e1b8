//! A bootconfig at the end of an initrd: Documentation/admin-guide/bootconfig.rst.
//!
//! > initrd, bootconfig, padding, size (le32), checksum (le32), `#BOOTCONFIG\n`
//!
//! The kernel looks for it at the very end of all initrds, three bytes of padding allowed (init/main.c).

use std::ops::Range;

use super::error::InitrdError;

/// How much of an initrd's end is looked at, bytes: the longest bootconfig, and as much padding.
pub(crate) const TAIL: u64 = 64 << 10;
const MAGIC: &[u8] = b"#BOOTCONFIG\n";
/// `XBC_DATA_MAX`, which is too long already.
const TOO_LONG: usize = (32 << 10) - 1;

/// Where the bootconfig is in `tail`, the end of an initrd. Zeros may follow it.
///
/// # Errors
/// Where the kernel would leave it out, or there are two.
pub(crate) fn find(tail: &[u8]) -> Result<Option<Range<usize>>, InitrdError> {
    let wrong = |what| Err(InitrdError::Bootconfig { what });
    let zeros = tail.iter().rev().take_while(|b| **b == 0).count();
    let end = tail.len().saturating_sub(zeros);
    let Some(rest) = tail.get(..end).and_then(|t| t.strip_suffix(MAGIC)) else {
        return Ok(None);
    };
    let fields = rest.split_last_chunk().and_then(|(rest, sum)| {
        let (data, size) = rest.split_last_chunk()?;
        Some((data, u32::from_le_bytes(*size), u32::from_le_bytes(*sum)))
    });
    let Some((data, size, sum)) = fields else {
        return wrong("has no size field");
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size >= TOO_LONG {
        return wrong("is longer than 32 KiB by its size field");
    }
    let Some(start) = data.len().checked_sub(size) else {
        return wrong("is longer than the file");
    };
    let (before, data) = data.split_at_checked(start).unwrap_or_default();
    if data.iter().fold(0_u32, |sum, byte| sum.wrapping_add((*byte).into())) != sum {
        return wrong("has a checksum mismatch");
    }
    if before.ends_with(MAGIC) {
        return Err(InitrdError::Bootconfigs);
    }
    Ok(Some(start..end))
}

/// Whether the last thing in `tail` that looks like a bootconfig is a whole one, with something else than zeros behind it.
pub(crate) fn is_hidden(tail: &[u8]) -> bool {
    let last = tail.windows(MAGIC.len()).rposition(|bytes| bytes == MAGIC);
    let end = last.and_then(|at| tail.get(..at.checked_add(MAGIC.len())?));
    end.is_some_and(|tail| matches!(find(tail), Ok(Some(_))))
}

/// Whether the last of `bytes` that is not zero is the end of a bootconfig.
pub(crate) fn ends(bytes: &[u8]) -> bool {
    let zeros = bytes.iter().rev().take_while(|b| **b == 0).count();
    bytes
        .get(..bytes.len().saturating_sub(zeros))
        .is_some_and(|bytes| bytes.ends_with(MAGIC))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the kernel's `bootconfig -a` attaches it to an initrd of `before` bytes.
    pub(crate) fn bootconfig(text: &str, before: usize) -> Vec<u8> {
        let mut data = text.as_bytes().to_vec();
        data.push(0);
        while !(before + data.len() + 20).is_multiple_of(4) {
            data.push(0);
        }
        let sum: u32 = data.iter().map(|b| u32::from(*b)).sum();
        let size = u32::try_from(data.len()).unwrap();
        [&data, &size.to_le_bytes()[..], &sum.to_le_bytes(), MAGIC].concat()
    }

    #[test]
    fn it_is_found_behind_padding_and_checked() {
        let attached = bootconfig("kernel.a = 1\n", 3);
        for zeros in [0, 3, 4, 512, 4096] {
            let file = [b"abc", &attached[..], &vec![0; zeros]].concat();
            assert_eq!(find(&file), Ok(Some(3..3 + attached.len())), "{zeros}");
        }
        assert_eq!(find(b"abc"), Ok(None));
        assert_eq!(find(b""), Ok(None));
        let said = |file: &[u8]| find(file).unwrap_err().to_string();
        assert!(ends(&attached) && ends(&[&attached[..], &[0; 99]].concat()) && !ends(b"") && !ends(b"x"));
        let mut damaged = attached.clone();
        damaged[0] ^= 1;
        assert_eq!(
            said(&damaged),
            "its bootconfig has a checksum mismatch; attach it again (bootconfig -a)"
        );
        assert!(said(MAGIC).contains("has no size field"));
        assert!(said(&attached[1..]).contains("is longer than the file"));
        let huge = [&[0; 9][..], &u32::MAX.to_le_bytes(), &[0; 4], MAGIC].concat();
        assert!(said(&huge).contains("32 KiB"));
        let two = [&attached[..], &bootconfig("b = 2\n", 0)].concat();
        assert_eq!(find(&two), Err(InitrdError::Bootconfigs));
    }

    #[test]
    fn one_with_something_behind_it_is_hidden() {
        let attached = bootconfig("a = 1\n", 0);
        assert!(is_hidden(&[&attached[..], b"\n"].concat()) && is_hidden(&[b"abc", &attached[..], &[0, 7]].concat()));
        // Not every text with those letters is one.
        assert!(!is_hidden(b"#BOOTCONFIG\nx") && !is_hidden(b""));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = find(&bytes);
            let _ = is_hidden(&[&bytes[..], MAGIC, &bytes].concat());
            let _ = find(&[&bytes[..], MAGIC].concat());
        }
    }
}
