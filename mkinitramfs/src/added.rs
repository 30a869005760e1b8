//! Files of this machine that go into the initramfs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};

use crate::cpio::{Entry, Node};

/// A file or folder of this machine and its path in the initramfs. Programs get mode 0755, other files 0644.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Added {
    /// Here.
    pub source: PathBuf,
    /// There; with a `/` at its end the source's name is appended.
    pub dest: String,
}

impl FromStr for Added {
    type Err = anyhow::Error;

    /// `SRC:DEST`; the last colon separates.
    fn from_str(text: &str) -> Result<Self> {
        let (source, dest) = text.rsplit_once(':').context("expected SRC:DEST")?;
        ensure!(
            !source.is_empty() && dest.starts_with('/'),
            "expected SRC:DEST, with an absolute DEST"
        );
        Ok(Self {
            source: source.into(),
            dest: dest.to_owned(),
        })
    }
}

impl Added {
    /// Puts it into `entries`, a folder with all that is in it.
    ///
    /// # Errors
    /// When something of it can't be read, has no place in an archive, or has a name that is not UTF-8.
    pub fn entries(&self, entries: &mut Vec<Entry>) -> Result<()> {
        let mut dest = self.dest.clone();
        if dest.ends_with('/') {
            let name = self.source.file_name().and_then(|n| n.to_str());
            dest.push_str(name.with_context(|| format!("{}: no file name in the path", self.source.display()))?);
        }
        // A link on the command line means what it points to.
        let source = fs::canonicalize(&self.source).with_context(|| self.source.display().to_string())?;
        add(&source, &dest, entries)
    }
}

/// Adds a file, or a folder with all that is in it.
fn add(source: &Path, dest: &str, entries: &mut Vec<Entry>) -> Result<()> {
    let show = || source.display().to_string();
    let meta = fs::symlink_metadata(source).with_context(show)?;
    let kind = meta.file_type();
    let node = if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(source)
            .with_context(show)?
            .collect::<std::io::Result<_>>()?;
        names.sort_by_key(fs::DirEntry::file_name);
        for entry in names {
            let name = entry.file_name();
            let name = name
                .to_str()
                .with_context(|| format!("{}: not UTF-8", entry.path().display()))?;
            add(
                &entry.path(),
                &format!("{}/{name}", dest.trim_end_matches('/')),
                entries,
            )?;
        }
        if dest.trim_matches('/').is_empty() {
            return Ok(());
        }
        Node::Dir
    } else if kind.is_symlink() {
        let target = fs::read_link(source).with_context(show)?;
        Node::Link {
            target: target
                .to_str()
                .with_context(|| format!("{}: link target is not UTF-8", show()))?
                .to_owned(),
        }
    } else if kind.is_file() {
        let executable = meta.permissions().mode() & 0o111 != 0;
        Node::File {
            data: fs::read(source).with_context(show)?,
            executable,
        }
    } else {
        bail!("{}: not a file, folder or symbolic link", source.display());
    };
    entries.push(Entry {
        path: dest.to_owned(),
        node,
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn src_and_dest() {
        let added: Added = "a:b:/c".parse().unwrap();
        assert_eq!(
            added,
            Added {
                source: "a:b".into(),
                dest: "/c".into()
            }
        );
        assert!("a".parse::<Added>().is_err() && "a:b".parse::<Added>().is_err());
    }
}
