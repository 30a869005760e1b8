//! The bytes of an image file: made, copied, changed.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;

/// Partitions start at multiples of this, as every partitioning tool does.
pub const MIB: u64 = 1 << 20;

/// A file of `size` zero bytes, as a hole: what mkfs wants, or a disk with nothing on it.
pub fn blank(file: &Path, size: u64) -> Result<()> {
    File::create(file)
        .and_then(|made| made.set_len(size))
        .with_context(|| format!("can't make {}", file.display()))
}

/// Puts `bytes` at an offset. They must lie within the file.
pub fn patch(file: &Path, at: u64, bytes: &[u8]) -> Result<()> {
    let what = || format!("can't write {} bytes at {at} of {}", bytes.len(), file.display());
    let size = fs::metadata(file).with_context(what)?.len();
    ensure!(at + bytes.len() as u64 <= size, "{}: it has {size}", what());
    let image = File::options().write(true).open(file).with_context(what)?;
    image.write_all_at(bytes, at).with_context(what)
}

/// Zeroes a range of bytes.
pub fn zero(file: &Path, range: Range<u64>) -> Result<()> {
    let length = usize::try_from(range.end.saturating_sub(range.start))?;
    patch(file, range.start, &vec![0; length])
}

/// The bytes of the partition called `name` in an image with a GPT, for sectors of either size.
pub fn partition(file: &Path, name: &str) -> Result<Range<u64>> {
    let disk = [LogicalBlockSize::Lb512, LogicalBlockSize::Lb4096]
        .into_iter()
        .find_map(|sector| GptConfig::new().logical_block_size(sector).open(file).ok())
        .with_context(|| format!("{} has no GPT", file.display()))?;
    let found = disk.partitions().values().find(|partition| partition.name == name);
    let found = found.with_context(|| format!("{} has no partition {name:?}", file.display()))?;
    let sector = disk.logical_block_size().as_u64();
    Ok(found.first_lba * sector..(found.last_lba + 1) * sector)
}

/// Copies all that is not zero.
pub(super) fn copy_sparse(from: &Path, to: &mut File, offset: u64) -> Result<()> {
    let mut from = File::open(from)?;
    let mut chunk = vec![0_u8; 256 * 1024];
    let zeroes = chunk.clone();
    let mut at = offset;
    loop {
        let n = from.read(&mut chunk)?;
        let (Some(read), Some(zero)) = (chunk.get(..n), zeroes.get(..n)) else {
            bail!("a read returned more than was asked for");
        };
        if n == 0 {
            return Ok(());
        }
        if read != zero {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(read)?;
        }
        at += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_changed_in_place_and_never_beyond() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        blank(&file, 10).unwrap();
        patch(&file, 4, b"abcdef").unwrap();
        zero(&file, 5..7).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"\0\0\0\0a\0\0def");
        assert!(patch(&file, 8, b"xyz").unwrap_err().to_string().contains("it has 10"));
    }
}
