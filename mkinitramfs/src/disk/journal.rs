//! File systems as a power cut leaves them: a committed update that is in the journal and not yet in its place.
//!
//! `fsync` had returned, so the update is what must be read; a mount without replay shows what was before. Written by
//! ext4's own tools, so what is in the journal is known block by block.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::tools::{output, run, tool};

/// Puts a new content of `path` into the journal of the ext4 in `image`. It must fit in the one block the file has.
pub fn leave_unreplayed(image: &Path, path: &str, new: &[u8]) -> Result<()> {
    let said = output(tool("debugfs").args(["-R", &format!("blocks /{path}")]).arg(image))?;
    let mut blocks = said.split_whitespace();
    let (Some(block), None) = (blocks.next(), blocks.next()) else {
        anyhow::bail!("{path}: must have one block, has {said:?}");
    };
    let header = output(tool("dumpe2fs").arg("-h").arg(image))?;
    let size: usize = header
        .lines()
        .find_map(|line| line.strip_prefix("Block size:")?.trim().parse().ok())
        .context("dumpe2fs names no block size")?;
    ensure!(
        new.len() <= size,
        "{path}: {} bytes do not fit in a block of {size}",
        new.len()
    );

    let mut bytes = new.to_vec();
    bytes.resize(size, 0);
    write_journal(image, block, &bytes)
}

/// Puts `count` blocks of 4 KiB from block `first` on into the journal of the ext4 in `image`.
pub fn fill(image: &Path, first: usize, count: usize) -> Result<()> {
    write_journal(
        image,
        &format!("{first}-{}", first + count - 1),
        &vec![0x5A; count * 4096],
    )
}

fn write_journal(image: &Path, blocks: &str, bytes: &[u8]) -> Result<()> {
    let folder = image.parent().unwrap_or(Path::new("."));
    let block_file = folder.join("journal-blocks");
    fs::write(&block_file, bytes)?;
    let script = folder.join("journal-script");
    fs::write(
        &script,
        format!(
            "journal_open\njournal_write -b {blocks} {}\njournal_close\n",
            block_file.display()
        ),
    )?;
    run(tool("debugfs").args(["-w", "-f"]).arg(&script).arg(image))?;
    let header = output(tool("dumpe2fs").arg("-h").arg(image))?;
    ensure!(header.contains("needs_recovery"), "debugfs left no journal to replay");
    fs::remove_file(&block_file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{Files, Filesystem, Partition};

    #[test]
    fn the_update_is_seen_after_a_replay_only() {
        let there = tool("sh")
            .args(["-c", "command -v mke2fs debugfs dumpe2fs e2fsck"])
            .output()
            .unwrap();
        if !there.status.success() {
            eprintln!("skipped: no e2fsprogs here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("fs.img");
        let files = Files::new().with_bytes("a/which", "old!");
        let partition = Partition {
            unreplayed: vec![("a/which".into(), b"new!".to_vec())],
            ..Partition::new("boot-a", Filesystem::Ext4, files)
        };
        partition
            .format(&image, &folder.path().join("staged"), uuid::Uuid::nil())
            .unwrap();
        let shown = || output(tool("debugfs").args(["-R", "cat /a/which"]).arg(&image)).unwrap();
        assert_eq!(shown(), "old!");
        // 1 is "errors corrected".
        let status = tool("e2fsck").args(["-fy"]).arg(&image).output().unwrap().status;
        assert!(status.code().is_some_and(|code| code <= 1));
        assert_eq!(shown(), "new!");
    }
}
