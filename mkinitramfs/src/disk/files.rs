//! Files by their path, before they are in a file system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::stat::Mode;

use super::tools::tool;

/// Something with a path in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The content of a file of the host.
    Host(PathBuf),
    /// This many zero bytes, as a hole.
    Hole(u64),
    /// An empty folder.
    Folder,
    /// A symbolic link.
    Link(String),
    /// A named pipe.
    Pipe,
}

/// Bytes of a block of ext4, and for how many of them mke2fs makes an inode (mke2fs.conf(5)).
const BLOCK: u64 = 4096;
const PER_INODE: u64 = 16_384;

/// Files by their path from the file system's root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files(BTreeMap<String, Content>);

impl Files {
    /// No files.
    pub fn new() -> Self {
        Self::default()
    }

    /// Those below a folder of the host: what is in them, and whether they can be run.
    ///
    /// # Errors
    /// What can't be read, and what is neither a file nor a folder nor a link.
    pub fn below(folder: &Path) -> Result<Self> {
        let mut all = Self::new();
        let mut open = vec![(folder.to_owned(), String::new())];
        while let Some((folder, path)) = open.pop() {
            let what = || folder.display().to_string();
            for entry in fs::read_dir(&folder).with_context(what)? {
                let entry = entry.with_context(what)?;
                let (file, kind) = (entry.path(), entry.file_type().with_context(what)?);
                let name = entry.file_name();
                let name = name
                    .to_str()
                    .with_context(|| format!("{}: not UTF-8", file.display()))?;
                let path = format!("{path}/{name}");
                let content = if kind.is_dir() {
                    open.push((file, path.clone()));
                    Content::Folder
                } else if kind.is_symlink() {
                    let to = fs::read_link(&file).with_context(what)?;
                    Content::Link(to.to_str().with_context(|| file.display().to_string())?.to_owned())
                } else if kind.is_file() {
                    Content::Host(file)
                } else {
                    bail!("{}: neither a file nor a folder nor a link", file.display());
                };
                all = all.with(&path, content);
            }
        }
        Ok(all)
    }

    /// What they take in an ext4, bytes: whole blocks, and an inode each.
    ///
    /// # Errors
    /// When one of the host's can't be read.
    pub fn room(&self) -> Result<u64> {
        let mut blocks = 0;
        for content in self.0.values() {
            let bytes = match content {
                Content::Bytes(bytes) => u64::try_from(bytes.len())?,
                Content::Host(file) => file.metadata().with_context(|| file.display().to_string())?.len(),
                Content::Hole(_) | Content::Link(_) | Content::Pipe => 0,
                Content::Folder => BLOCK,
            };
            blocks += bytes.next_multiple_of(BLOCK);
        }
        let inodes = u64::try_from(self.0.len())? * PER_INODE;
        Ok(blocks.max(inodes))
    }

    /// With something at `path`, in the place of what was there.
    #[must_use]
    pub fn with(mut self, path: &str, content: Content) -> Self {
        self.0.insert(path.trim_matches('/').to_owned(), content);
        self
    }

    /// With a file of these bytes.
    #[must_use]
    pub fn with_bytes(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.with(path, Content::Bytes(bytes.into()))
    }

    /// With a copy of a file of the host.
    #[must_use]
    pub fn with_file(self, path: &str, file: impl Into<PathBuf>) -> Self {
        self.with(path, Content::Host(file.into()))
    }

    /// Without what was at `path`.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(path.trim_matches('/'));
        self
    }

    /// Their paths.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    /// Adds them to an ext4 that starts at a byte of an image. What is there already stays as it is. All are root's, and no time
    /// is the one of a file of the host.
    ///
    /// # Errors
    /// When debugfs can't take a name, or says that something did not work.
    pub fn put_into(&self, image: &Path, at: u64) -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let mut folders = BTreeSet::new();
        let mut commands = Vec::new();
        for (n, (path, content)) in self.0.iter().enumerate() {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            for (end, _) in folder.match_indices('/').chain([(folder.len(), "")]) {
                let parent = folder.get(..end).unwrap_or_default();
                if !parent.is_empty() && folders.insert(parent.to_owned()) {
                    commands.push(format!("mkdir {}", word(&format!("/{parent}"))?));
                }
            }
            // debugfs writes to a name, not to a path.
            commands.push(format!("cd {}", word(&format!("/{folder}"))?));
            let name = word(name)?;
            let own = scratch.path().join(n.to_string());
            let from = match content {
                Content::Link(to) => {
                    commands.push(format!("symlink {name} {}", word(to)?));
                    continue;
                }
                Content::Folder => {
                    if folders.insert(path.clone()) {
                        commands.push(format!("mkdir {name}"));
                    }
                    continue;
                }
                Content::Pipe => {
                    commands.push(format!("mknod {name} p"));
                    continue;
                }
                Content::Host(file) => file,
                Content::Bytes(bytes) => {
                    fs::write(&own, bytes)?;
                    &own
                }
                Content::Hole(size) => {
                    File::create(&own)?.set_len(*size)?;
                    &own
                }
            };
            commands.push(format!("write {} {name}", word(&from.to_string_lossy())?));
        }
        let list = scratch.path().join("commands");
        fs::write(&list, commands.join("\n") + "\n")?;
        let place = format!("{}?offset={at}", image.display());
        let mut debugfs = tool("debugfs");
        let ended = debugfs.arg("-w").arg("-f").arg(&list).arg(&place).output();
        let ended = ended.context("can't start debugfs, which e2fsprogs brings")?;
        ensure!(ended.status.success(), "{place}: debugfs: {}", ended.status);
        // It ends well whatever a command said. A folder that is there stays as it is.
        let said = String::from_utf8_lossy(&ended.stderr);
        let problem = said
            .lines()
            .find(|line| !line.starts_with("debugfs ") && !line.contains("Ext2 directory already exists"));
        problem.map_or(Ok(()), |problem| Err(anyhow!("{place}: debugfs: {problem}")))
    }

    /// Writes them below `root` and returns how many bytes they are in all.
    pub fn stage(&self, root: &Path) -> Result<u64> {
        let mut total = 0_u64;
        for (path, content) in &self.0 {
            let inside = Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            ensure!(inside, "{path:?} would lie outside the file system");
            let at = root.join(path);
            let what = || format!("can't put {path} on the disk");
            if let Some(folder) = at.parent() {
                fs::create_dir_all(folder).with_context(what)?;
            }
            match content {
                Content::Bytes(bytes) => fs::write(&at, bytes).with_context(what)?,
                Content::Host(file) => {
                    fs::copy(file, &at).with_context(|| format!("{}: {}", what(), file.display()))?;
                }
                Content::Hole(size) => File::create(&at).and_then(|f| f.set_len(*size)).with_context(what)?,
                Content::Folder => fs::create_dir_all(&at).with_context(what)?,
                Content::Link(to) => std::os::unix::fs::symlink(to, &at).with_context(what)?,
                Content::Pipe => {
                    nix::unistd::mkfifo(&at, Mode::from_bits_truncate(0o644)).with_context(what)?;
                }
            }
            if matches!(content, Content::Bytes(_) | Content::Host(_) | Content::Hole(_)) {
                total += at.metadata()?.len();
            }
        }
        Ok(total)
    }
}

/// A word of a command of debugfs.
fn word(text: &str) -> Result<String> {
    ensure!(
        !text.contains(['"', '\n', '\r']),
        "{text:?}: debugfs can't take such a name"
    );
    Ok(format!("\"{text}\""))
}

#[cfg(test)]
mod tests {
    use super::super::tools::run;
    use super::*;

    #[test]
    fn paths_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let error = Files::new().with_bytes("../x", "").stage(folder.path()).unwrap_err();
        assert!(error.to_string().contains("outside"));
    }

    #[test]
    fn files_are_added_to_a_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        let at = 1 << 20;
        let Ok(()) = run(tool("mke2fs")
            .args(["-q", "-t", "ext4", "-E", &format!("offset={at}")])
            .arg(&image)
            .arg("4M"))
        else {
            eprintln!("skipped: no e2fsprogs here");
            return;
        };
        let first = Files::new().with_bytes("a/b/c", "one");
        let second = Files::new()
            .with_bytes("a/b/d", "two")
            .with("a/e", Content::Link("b".into()));
        first.put_into(&image, at).unwrap();
        second.put_into(&image, at).unwrap();
        for (path, content) in [("/a/b/c", "one"), ("/a/e/d", "two")] {
            let place = format!("{}?offset={at}", image.display());
            let read = tool("debugfs")
                .args(["-R", &format!("cat {path}"), &place])
                .output()
                .unwrap();
            assert_eq!(read.stdout, content.as_bytes(), "{path}");
        }
    }
}
