//! What is in an initramfs, ours or any other.
//!
//! Given an archive as the kernel would take it (compressed or not, several joined); responsible for one line per path.

use std::fmt;
use std::io::Read;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

/// One path of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u32,
    /// Major and minor number, of a device.
    pub device: (u32, u32),
    /// SHA-256 of a file's bytes; `None` for what is no file.
    pub sha256: Option<config::Sha256>,
    /// The path in the archive.
    pub path: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.mode & 0o170_000 {
            0o040_000 => 'd',
            0o120_000 => 'l',
            0o020_000 => 'c',
            0o060_000 => 'b',
            0o100_000 => '-',
            _ => '?',
        };
        write!(f, "{kind}{:04o} ", self.mode & 0o7777)?;
        match kind {
            'c' | 'b' => write!(f, "{:>12}", format!("{}, {}", self.device.0, self.device.1))?,
            _ => write!(f, "{:>12}", self.size)?,
        }
        match self.sha256 {
            Some(sha256) => write!(f, " {sha256} {}", self.path),
            None => write!(f, " {:64} {}", "-", self.path),
        }
    }
}

/// Lists an archive.
///
/// # Errors
/// Where the bytes are neither a newc archive nor a compression this tool knows (zstd, gzip, xz).
pub fn list(mut bytes: &[u8]) -> Result<Vec<Line>> {
    let mut all = Vec::new();
    let whole = bytes.len();
    loop {
        // The kernel skips zero bytes between joined archives (buffer-format.rst).
        bytes = bytes
            .get(bytes.iter().take_while(|&&b| b == 0).count()..)
            .unwrap_or_default();
        let at = whole - bytes.len();
        let mut inner = Vec::new();
        match bytes {
            [] => return Ok(all),
            [b'0', b'7', b'0', b'7', ..] => {
                bytes = one(bytes, &mut all).with_context(|| format!("archive at byte {at}"))?;
                continue;
            }
            [0x28, 0xb5, 0x2f, 0xfd, ..] => zstd::Decoder::new(bytes)?.read_to_end(&mut inner),
            [0x1f, 0x8b, ..] => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut inner),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => lzma_rust2::XzReader::new(bytes, true).read_to_end(&mut inner),
            _ => bail!("byte {at}: neither a newc archive nor zstd, gzip or xz"),
        }
        .with_context(|| format!("compressed part at byte {at}"))?;
        if matches!(inner.as_slice(), [0x28 | 0x1f | 0xfd, ..]) {
            bail!("byte {at}: compressed twice");
        }
        all.extend(list(&inner).with_context(|| format!("unpacked from byte {at}"))?);
        return Ok(all);
    }
}

/// Lists one archive up to its trailer; what follows it.
fn one<'a>(mut bytes: &'a [u8], all: &mut Vec<Line>) -> Result<&'a [u8]> {
    loop {
        let mut reader = cpio::NewcReader::new(bytes)?;
        let entry = reader.entry().clone();
        if entry.is_trailer() {
            return Ok(reader.finish()?);
        }
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        bytes = reader.finish()?;
        let file = entry.mode() & 0o170_000 == 0o100_000;
        all.push(Line {
            mode: entry.mode(),
            size: entry.file_size(),
            device: (entry.rdev_major(), entry.rdev_minor()),
            sha256: file.then(|| config::Sha256(Sha256::digest(&data).into())),
            path: entry.name().to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Entry, archive};

    #[test]
    fn joined_and_compressed_archives_are_listed() {
        let plain = archive([Entry::file("a/b", "hello\n"), Entry::char("dev/console", 5, 1)]).unwrap();
        let packed = zstd::encode_all(archive([Entry::program("init", "x")]).unwrap().as_slice(), 3).unwrap();
        let joined = [plain.as_slice(), &[0; 300], &packed].concat();
        let lines: Vec<_> = list(&joined).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), 5);
        assert!(
            lines[1].starts_with("-0644            6 5891b5b522d5df086d0ff0b110fbd9d2"),
            "{}",
            lines[1]
        );
        assert!(lines[3].starts_with("c0600         5, 1 -"), "{}", lines[3]);
        assert!(lines[4].ends_with(" init"));
    }

    #[test]
    fn what_is_damaged_is_an_error() {
        let plain = archive([Entry::file("a/b", "hello\n")]).unwrap();
        for end in 1..plain.len() {
            if let Ok(lines) = list(&plain[..end]) {
                assert!(plain[end..].iter().all(|&b| b == 0) && lines.len() == 2, "cut at {end}");
            }
        }
        assert!(list(b"MZ").unwrap_err().to_string().contains("byte 0"));
    }
}
