//! The compressions an initrd may have, in the forms the kernel's own decompressors take: lib/decompress*.c.

use std::io::{self, Read as _};

use flate2::bufread::GzDecoder;

use super::super::zstd;
use super::Extent;
use super::error::InitrdError;

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// RFC 1952.
    Gzip,
    /// bzip2.
    Bzip2,
    /// lzma alone.
    Lzma,
    /// xz.
    Xz,
    /// lzop.
    Lzo,
    /// lz4, legacy format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// Magic number, name, and the Linux it came with.
type Row = (Packing, &'static [u8], &'static str, (u16, u16));
static PACKINGS: [Row; 7] = [
    (Packing::Gzip, b"\x1f\x8b\x08", "gzip", (2, 6)),
    (Packing::Bzip2, b"BZh", "bzip2", (2, 6)),
    (Packing::Lzma, b"\x5d\0", "lzma", (2, 6)),
    (Packing::Xz, b"\xfd7zXZ\0", "xz", (2, 6)),
    (Packing::Lzo, b"\x89LZO\0\r\n\x1a\n", "lzo", (2, 6)),
    (Packing::Lz4, LZ4_LEGACY, "lz4", (3, 11)),
    (Packing::Zstd, b"\x28\xb5\x2f\xfd", "zstd", (5, 9)),
];
const LZ4_LEGACY: &[u8] = b"\x02\x21\x4c\x18";
/// Longest block of the legacy format, compressed, bytes: `LZ4_compressBound(8 MiB)`.
const LZ4_BLOCK: usize = (8 << 20) + (8 << 20) / 255 + 16;

/// Where a compressed file ends in what goes on behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Bytes from its start.
    At(usize),
    /// It has no end mark: what follows at once is taken for its next block.
    Open(usize),
    /// Behind the bytes that are there.
    Beyond,
    /// Nothing says so but unpacking it.
    Unknown,
}

impl Packing {
    /// Of a file that begins like this.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let found = PACKINGS.iter().find(|(_, magic, ..)| bytes.starts_with(magic));
        found.map(|(packing, ..)| *packing)
    }

    /// As in messages, and in `CONFIG_RD_*` in capitals.
    pub(super) fn name(self) -> &'static str {
        self.row().0
    }

    fn row(self) -> (&'static str, (u16, u16)) {
        let found = PACKINGS.iter().find(|(packing, ..)| *packing == self);
        found.map_or(("", (0, 0)), |(_, _, name, since)| (name, *since))
    }

    /// The first Linux that unpacks it.
    pub(super) fn since(self) -> (u16, u16) {
        self.row().1
    }

    /// Whether the kernel's decompressor takes a stream that begins like this.
    pub(super) fn check(self, bytes: &[u8]) -> Result<(), InitrdError> {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        let (what, takes, remedy) = match self {
            // lib/decompress_inflate.c skips a file name and nothing else. RFC 1952: FTEXT 1, FNAME 8.
            Self::Gzip if byte(3) & !9 != 0 => (
                "gzip with fields in its header that the kernel does not skip",
                "only a file name there",
                "compress it with gzip itself",
            ),
            // lib/xz, without XZ_DEC_ANY_CHECK: none 0, CRC32 1.
            Self::Xz if byte(7) > 1 => ("xz with a CRC64 or SHA-256 check", "CRC32", "use xz --check=crc32"),
            Self::Zstd => match zstd::Frame::parse(bytes) {
                // ZSTD_WINDOWLOG_MAX
                Some(frame) if frame.window > 128 << 20 => (
                    "zstd with a window larger than 128 MiB",
                    "at most that",
                    "use zstd without --long",
                ),
                Some(frame) if frame.dictionary => ("zstd with a dictionary", "none", "use zstd without -D"),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        Err(InitrdError::Form { what, takes, remedy })
    }

    /// Where the stream that `bytes` begin with ends.
    ///
    /// # Errors
    /// It was unpacked to know that, and can't be.
    pub(super) fn end(self, bytes: &[u8], extent: Extent) -> Result<End, InitrdError> {
        Ok(match self {
            // It takes a while, and matters only to what comes behind.
            Self::Gzip if extent == Extent::Followed => return gzip_end(bytes),
            Self::Zstd => match zstd::Frame::parse(bytes) {
                Some(frame) => frame.end(bytes).map_or(End::Beyond, End::At),
                None => End::Beyond,
            },
            Self::Lz4 => lz4_end(bytes),
            _ => End::Unknown,
        })
    }
}

/// The file's end, where its last bytes are the length of an archive (RFC 1952, ISIZE), as they are of nearly all. Else
/// found by unpacking, which takes seconds, as long as that does not give more than any archive does.
fn gzip_end(bytes: &[u8]) -> Result<End, InitrdError> {
    const RATIO: u64 = 32;
    let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let most = have.saturating_mul(RATIO);
    let length = bytes.last_chunk().map_or(0, |b| u64::from(u32::from_le_bytes(*b)));
    // Stored blocks add five bytes to 64 KiB.
    let least = have.saturating_sub(have / 1024).saturating_sub(64);
    if length != 0 && length.is_multiple_of(4) && (least..most).contains(&length) {
        return Ok(End::At(bytes.len()));
    }
    let mut stream = GzDecoder::new(bytes);
    match io::copy(&mut stream.by_ref().take(most), &mut io::sink()) {
        Ok(length) if length == most => Ok(End::Unknown),
        Ok(_) => Ok(End::At(bytes.len().saturating_sub(stream.into_inner().len()))),
        Err(_) => Err(InitrdError::Stream {
            packing: Packing::Gzip.name(),
        }),
    }
}

/// lib/decompress_unlz4.c: blocks with their lengths before them, up to a length of zero or the end of all initrds.
fn lz4_end(bytes: &[u8]) -> End {
    let mut at = 0_usize;
    while let Some(size) = bytes.get(at..).and_then(|b| b.first_chunk()) {
        let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
        let next = match size {
            _ if bytes.get(at..).is_some_and(|b| b.starts_with(LZ4_LEGACY)) => 0,
            0 | LZ4_BLOCK.. => return End::At(at),
            size => size,
        };
        at = at.saturating_add(4).saturating_add(next);
        if at > bytes.len() {
            return End::Beyond;
        }
    }
    End::Open(bytes.len())
}
