//! What is in an initramfs, ours or any other.
//!
//! Given an archive as the kernel would take it (compressed or not, several joined); responsible for one line per path,
//! within bounds, and for names that can't tell a terminal what to do.

use std::fmt;
use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::compression::{room, unpack};

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
    /// The path in the archive, as it is there.
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
            Some(sha256) => write!(f, " {sha256}")?,
            None => write!(f, " {:64}", "-")?,
        }
        write!(f, " {}", self.path.escape_default())
    }
}

/// The most paths that are listed. A whole system has fewer.
const PATHS: usize = 1 << 18;
/// PATH_MAX: the kernel skips what has a longer name, the zero byte counted.
const NAME: usize = 4096;

/// Lists an archive.
///
/// # Errors
/// Where the bytes are neither a newc archive nor a compression this tool knows (zstd, gzip, xz); when they unpack to more
/// than `room`, or hold too many paths.
pub fn list(bytes: &[u8]) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let (whole, limit) = (bytes.len(), room(bytes.len()));
    let mut room = limit;
    let mut rest = behind_zeros(bytes);
    while !rest.is_empty() {
        let at = whole - rest.len();
        let part = || format!("compressed part at byte {at} (unpacking stops at {limit} bytes in all)");
        if let Some((unpacked, behind)) = unpack(rest, room).with_context(part)? {
            room -= unpacked.len();
            rest = behind_zeros(behind);
            let mut inner = behind_zeros(&unpacked);
            while !inner.is_empty() {
                let within = || format!("unpacked from byte {at}, byte {}", unpacked.len() - inner.len());
                inner = archive(inner, &mut lines).with_context(within)?;
            }
        } else {
            rest = archive(rest, &mut lines).with_context(|| format!("byte {at}"))?;
        }
    }
    Ok(lines)
}

/// The kernel skips zero bytes between joined archives (buffer-format.rst).
fn behind_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&b| b == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Lists one archive up to its trailer; what follows it and its zeros.
fn archive<'a>(mut bytes: &'a [u8], lines: &mut Vec<Line>) -> Result<&'a [u8]> {
    match bytes {
        [b'0', b'7', b'0', b'7', ..] => {}
        [0x28, 0xb5, ..] | [0x1f, 0x8b, ..] | [0xfd, b'7', ..] => bail!("compressed twice"),
        _ => bail!("neither a newc archive nor zstd, gzip or xz"),
    }
    loop {
        let mut reader = cpio::NewcReader::new(bytes)?;
        let entry = reader.entry().clone();
        if entry.is_trailer() {
            return Ok(behind_zeros(reader.finish()?));
        }
        ensure!(
            entry.name().len() < NAME,
            "name too long ({} bytes)",
            entry.name().len()
        );
        ensure!(lines.len() < PATHS, "more than {PATHS} paths");
        let mut data = Vec::new();
        reader.read_to_end(&mut data)?;
        bytes = reader.finish()?;
        let file = entry.mode() & 0o170_000 == 0o100_000;
        lines.push(Line {
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
    use crate::compression::{Compress, compress};
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
    fn gzip(bytes: &[u8]) -> Vec<u8> {
        compress(bytes, Compress::Gzip).unwrap()
    }

    #[test]
    fn compressed_within_compressed_is_refused_however_deep() {
        let mut nested = archive([Entry::file("a", "x")]).unwrap();
        for _ in 0..5_000 {
            let zeros_first = [&[0; 4], nested.as_slice()].concat();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            std::io::Write::write_all(&mut encoder, &zeros_first).unwrap();
            nested = encoder.finish().unwrap();
        }
        let error = format!("{:#}", list(&nested).unwrap_err());
        assert!(error.contains("compressed twice"), "{error}");
    }

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        let zeros = vec![0; 16 << 20];
        let bomb = zstd::encode_all(std::io::repeat(0).take(257 << 20), 1).unwrap();
        assert!(bomb.len() < 1 << 20);
        for bomb in [bomb, std::iter::repeat_n(gzip(&zeros), 17).flatten().collect()] {
            let error = format!("{:#}", list(&bomb).unwrap_err());
            assert!(
                error.contains("(unpacking stops at 268435456 bytes in all): more than"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_archive_of_very_many_names_is_cut() {
        let one = archive([Entry::dir("a")]).unwrap();
        let error = format!("{:#}", list(&one.repeat(PATHS + 1)).unwrap_err());
        assert!(error.contains("more than 262144 paths"), "{error}");
    }

    #[test]
    fn names_reach_the_terminal_escaped() {
        let odd = archive([Entry::dir("a\u{1b}[31m\n\u{9b}\u{202e}é\\")]).unwrap();
        let line = list(&odd).unwrap()[0].to_string();
        assert!(line.ends_with(r" a\u{1b}[31m\n\u{9b}\u{202e}\u{e9}\\"), "{line}");
    }

    #[test]
    fn what_follows_a_compressed_archive_is_listed() {
        let (a, b) = (archive([Entry::dir("a")]).unwrap(), archive([Entry::dir("b")]).unwrap());
        let xz = |bytes: &[u8]| {
            let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
            std::io::Write::write_all(&mut writer, bytes).unwrap();
            writer.finish().unwrap()
        };
        for first in [gzip(&a), zstd::encode_all(a.as_slice(), 1).unwrap(), xz(&a)] {
            for second in [gzip(&b), b.clone(), xz(&b)] {
                let lines = list(&[first.as_slice(), &[0; 3], &second].concat()).unwrap();
                assert_eq!(lines.iter().map(|l| l.path.as_str()).collect::<Vec<_>>(), ["a", "b"]);
            }
        }
    }
}
