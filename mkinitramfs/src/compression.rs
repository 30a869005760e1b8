//! Compression: how an initramfs is packed, and how a file of unknown kind is unpacked within a bound.

use std::fmt;
use std::io::{Read, Write as _};

use anyhow::{Context, Result, ensure};

/// How an archive is compressed. Debian's kernels unpack all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Compress {
    /// Small, and quick to unpack.
    #[default]
    Zstd,
    /// For kernels without `CONFIG_RD_ZSTD`.
    Gzip,
    /// Not at all.
    None,
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::None => "uncompressed",
        })
    }
}

/// Compresses; the same bytes give the same bytes, on one thread.
///
/// # Errors
/// None but the library's, which has none for bytes in memory.
pub fn compress(bytes: &[u8], how: Compress) -> Result<Vec<u8>> {
    match how {
        Compress::None => Ok(bytes.to_vec()),
        Compress::Gzip => {
            // No name and no time in the header.
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes)?;
            Ok(encoder.finish()?)
        }
        Compress::Zstd => {
            let mut encoder = zstd::Encoder::new(Vec::new(), 19)?;
            // 8 MiB, the window that every decoder should have room for (RFC 8878, 3.1.1.1.2).
            encoder.window_log(23)?;
            encoder.include_checksum(true)?;
            encoder.write_all(bytes)?;
            Ok(encoder.finish()?)
        }
    }
}

/// A decoder's own memory, at most: the largest window that zstd takes by itself, in KiB.
const WINDOW_KIB: u32 = 128 << 10;

/// Unpacks the compressed part that `bytes` begins with (gzip member, zstd frame, xz stream), as the kernel does: what
/// follows it is given back. `None` when it begins with none.
///
/// # Errors
/// When the part is damaged, or holds more than `limit` bytes.
pub(crate) fn unpack(bytes: &[u8], limit: usize) -> Result<Option<(Vec<u8>, &[u8])>> {
    let mut out = Vec::new();
    // One byte more than may be there.
    let most = u64::try_from(limit)?.saturating_add(1);
    let rest = match bytes {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let mut decoder = zstd::Decoder::with_buffer(bytes)?.single_frame();
            decoder.by_ref().take(most).read_to_end(&mut out)?;
            decoder.finish()
        }
        [0x1f, 0x8b, ..] => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            decoder.by_ref().take(most).read_to_end(&mut out)?;
            decoder.into_inner()
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {
            let mut decoder = lzma_rust2::XzReader::new_mem_limit(bytes, false, WINDOW_KIB);
            decoder.by_ref().take(most).read_to_end(&mut out)?;
            decoder.into_inner()
        }
        _ => return Ok(None),
    };
    ensure!(out.len() <= limit, "more than {limit} bytes unpacked");
    Ok(Some((out, rest)))
}

/// How much a file of `packed` bytes may unpack to: what any archive of use stays below.
pub(crate) fn room(packed: usize) -> usize {
    packed.saturating_mul(64).max(256 << 20)
}

/// Unpacks a whole file, or gives it back when it isn't compressed.
///
/// # Errors
/// As [`unpack`].
pub(crate) fn whole(bytes: Vec<u8>) -> Result<Vec<u8>> {
    match unpack(&bytes, room(bytes.len())).context("compressed file")? {
        Some((out, _)) => Ok(out),
        None => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zstd_windows_are_ones_the_kernel_has_room_for() {
        // 20 MiB that compress badly: the encoder would like a longer window.
        let mut x = 1u32;
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            x.to_le_bytes()[3]
        })
        .take(9 << 20)
        .collect();
        let packed = compress(&bytes, Compress::Zstd).unwrap();
        let mut decoder = zstd::Decoder::new(packed.as_slice()).unwrap();
        decoder.window_log_max(23).unwrap();
        let mut back = Vec::new();
        decoder.read_to_end(&mut back).unwrap();
        assert!(back == bytes);
    }

    #[test]
    fn what_is_damaged_or_too_long_is_an_error() {
        let packed = compress(&[7; 1000], Compress::Gzip).unwrap();
        assert_eq!(unpack(&packed, 1000).unwrap(), Some((vec![7; 1000], &[][..])));
        assert!(
            unpack(&packed, 999)
                .unwrap_err()
                .to_string()
                .contains("more than 999 bytes")
        );
        assert!(unpack(&packed[..packed.len() - 1], 1000).is_err());
        assert_eq!(whole(b"plain".to_vec()).unwrap(), b"plain");
    }
}
