//! The archive: newc cpio, as the kernel's initramfs code reads it
//! (`Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Given entries; responsible for bytes that depend on nothing else: sorted paths, parents first, inode numbers in
//! that order, time 0, owner 0:0.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder, mode 0755.
    Dir,
    /// A file, mode 0755 or 0644.
    File {
        /// Its bytes.
        data: Vec<u8>,
        /// Whether it is a program.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it points to.
        target: String,
    },
    /// A character device, mode 0600.
    Char {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// One path of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Absolute, with or without the leading `/`.
    pub path: String,
    /// What is there.
    pub node: Node,
}

impl Entry {
    /// A folder.
    pub fn dir(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            node: Node::Dir,
        }
    }

    /// A file that is no program.
    pub fn file(path: &str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.to_owned(),
            node: Node::File {
                data: data.into(),
                executable: false,
            },
        }
    }

    /// A program.
    pub fn program(path: &str, data: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.to_owned(),
            node: Node::File {
                data: data.into(),
                executable: true,
            },
        }
    }

    /// A character device.
    pub fn char(path: &str, major: u32, minor: u32) -> Self {
        Self {
            path: path.to_owned(),
            node: Node::Char { major, minor },
        }
    }
}

impl Node {
    /// File type and permissions, as in `st_mode`.
    fn mode(&self) -> u32 {
        match self {
            Self::Dir => 0o040_755,
            Self::File { executable: true, .. } => 0o100_755,
            Self::File { executable: false, .. } => 0o100_644,
            Self::Link { .. } => 0o120_777,
            Self::Char { .. } => 0o020_600,
        }
    }
}

/// A path as the archive has it: no leading or double `/`.
///
/// # Errors
/// For an empty one, one that leaves the archive, or the name that ends every archive.
fn normal(path: &str) -> Result<String> {
    let parts: Vec<_> = path.split('/').filter(|p| !p.is_empty() && *p != ".").collect();
    ensure!(!parts.is_empty(), "{path:?}: not a path in the initramfs");
    ensure!(
        !parts.contains(&".."),
        "{path:?}: a path in the initramfs must not contain `..`"
    );
    let path = parts.join("/");
    // PATH_MAX, which the kernel's unpacker checks with the zero byte counted; it skips what is longer.
    ensure!(
        path.len() < 4096 && !path.contains('\0'),
        "{path:?}: too long, or contains a NUL byte"
    );
    ensure!(path != TRAILER, "{path:?}: reserved name that ends an archive");
    Ok(path)
}

const TRAILER: &str = "TRAILER!!!";

/// Writes an archive, uncompressed. Folders above an entry that aren't given are added.
///
/// # Errors
/// When two entries want one path (two equal folders are one), a path is wrong, or a file is 4 GiB or more.
pub fn archive(entries: impl IntoIterator<Item = Entry>) -> Result<Vec<u8>> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    for Entry { path, node } in entries {
        let path = normal(&path)?;
        for (end, _) in path.match_indices('/') {
            let parent = path.get(..end).unwrap_or_default();
            match nodes.entry(parent.to_owned()).or_insert(Node::Dir) {
                Node::Dir => {}
                _ => bail!("/{path}: /{parent} is not a folder"),
            }
        }
        match nodes.get(&path) {
            None => {}
            Some(Node::Dir) if node == Node::Dir => continue,
            Some(_) => bail!("/{path} appears twice"),
        }
        nodes.insert(path, node);
    }
    let mut out = Vec::new();
    // A folder's path is shorter than, and a prefix of, what is in it: the map's order has parents first.
    for ((path, node), ino) in nodes.iter().zip(1..) {
        write(&mut out, ino, path, node)?;
    }
    write_raw(&mut out, 0, TRAILER, 0, 1, &[], (0, 0))?;
    Ok(out)
}

fn write(out: &mut Vec<u8>, ino: u32, path: &str, node: &Node) -> Result<()> {
    let (links, data, device): (u32, &[u8], _) = match node {
        Node::Dir => (2, &[], (0, 0)),
        Node::File { data, .. } => (1, data, (0, 0)),
        Node::Link { target } => (1, target.as_bytes(), (0, 0)),
        Node::Char { major, minor } => (1, &[], (*major, *minor)),
    };
    write_raw(out, ino, path, node.mode(), links, data, device)
}

fn write_raw(
    out: &mut Vec<u8>,
    ino: u32,
    name: &str,
    mode: u32,
    links: u32,
    data: &[u8],
    device: (u32, u32),
) -> Result<()> {
    let size =
        u32::try_from(data.len()).with_context(|| format!("/{name}: too large for a newc archive (4 GiB or more)"))?;
    let name_size = u32::try_from(name.len() + 1)?;
    out.extend_from_slice(b"070701");
    // ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize check
    for field in [ino, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name_size, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(data);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Reads with a reader of other authors.
    fn read(bytes: &[u8]) -> Vec<(cpio::newc::Entry, Vec<u8>)> {
        let mut all = Vec::new();
        let mut rest = bytes;
        loop {
            let mut reader = cpio::NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                assert!(reader.finish().unwrap().is_empty());
                return all;
            }
            let mut data = Vec::new();
            reader.read_to_end(&mut data).unwrap();
            let copy = cpio::NewcReader::new(rest).unwrap();
            rest = reader.finish().unwrap();
            all.push((copy.entry().clone(), data));
        }
    }

    fn sample() -> Vec<Entry> {
        vec![
            Entry::program("/init", b"program".as_slice()),
            Entry::char("dev/console", 5, 1),
            Entry::dir("proc"),
            Entry::file("etc/cato/boot.toml", "version = 1\n"),
            Entry {
                path: "bin/sh".into(),
                node: Node::Link {
                    target: "../init".into(),
                },
            },
            Entry::dir("/etc/"),
        ]
    }

    #[test]
    fn another_reader_reads_it() {
        let read = read(&archive(sample()).unwrap());
        let paths: Vec<_> = read.iter().map(|(e, _)| e.name()).collect();
        let sorted = [
            "bin",
            "bin/sh",
            "dev",
            "dev/console",
            "etc",
            "etc/cato",
            "etc/cato/boot.toml",
            "init",
            "proc",
        ];
        assert_eq!(paths, sorted);
        let modes: Vec<_> = read.iter().map(|(e, _)| e.mode()).collect();
        let want = [
            0o40755, 0o120_777, 0o40755, 0o20600, 0o40755, 0o40755, 0o100_644, 0o100_755, 0o40755,
        ];
        assert_eq!(modes, want);
        let inos: Vec<_> = read.iter().map(|(e, _)| e.ino()).collect();
        assert_eq!(inos, (1..=9).collect::<Vec<_>>());
        let console = &read[3].0;
        assert_eq!((console.rdev_major(), console.rdev_minor()), (5, 1));
        assert_eq!(read[1].1, b"../init");
        assert_eq!(read[6].1, b"version = 1\n");
        assert!(read.iter().all(|(e, _)| (e.mtime(), e.uid(), e.gid()) == (0, 0, 0)));
    }

    #[test]
    fn cpio_1_reads_it() {
        let spawned = Command::new("cpio")
            .args(["-it", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = spawned else {
            eprintln!("no cpio(1) on this machine: not tried");
            return;
        };
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&archive(sample()).unwrap())
            .unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success());
        assert!(
            String::from_utf8(out.stdout)
                .unwrap()
                .lines()
                .any(|l| l == "etc/cato/boot.toml")
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (entries, words) in [
            (vec![Entry::file("a", ""), Entry::file("/a", "")], "/a appears twice"),
            (vec![Entry::file("a", ""), Entry::dir("a")], "/a appears twice"),
            (
                vec![Entry::file("a", ""), Entry::file("a/b", "")],
                "/a/b: /a is not a folder",
            ),
            (vec![Entry::file("a/b", ""), Entry::file("a", "")], "/a appears twice"),
            (vec![Entry::file("a/../../b", "")], "must not contain `..`"),
            (vec![Entry::dir("/")], "not a path"),
            (vec![Entry::file("TRAILER!!!", "")], "ends an archive"),
        ] {
            let error = archive(entries).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_the_entries_does_not_matter(
            files in prop::collection::btree_map("[ab]{1,3}(/[a-z.-]{1,4}x){0,2}", prop::collection::vec(any::<u8>(), 0..9), 0..8),
            seed in any::<usize>(),
        ) {
            let mut entries: Vec<_> = files.iter().map(|(path, data)| Entry::file(path, data.clone())).collect();
            let one = archive(entries.clone());
            if !entries.is_empty() {
                let by = seed % entries.len();
                entries.rotate_left(by);
            }
            match (one, archive(entries)) {
                (Ok(one), Ok(two)) => {
                    prop_assert_eq!(&one, &two);
                    let read = read(&one);
                    for (path, data) in files {
                        prop_assert!(read.iter().any(|(e, d)| e.name() == path && *d == data));
                    }
                    // Parents come first.
                    for (at, (entry, _)) in read.iter().enumerate() {
                        if let Some((parent, _)) = entry.name().rsplit_once('/') {
                            prop_assert!(read[..at].iter().any(|(e, _)| e.name() == parent));
                        }
                    }
                }
                (one, two) => prop_assert!(one.is_err() && two.is_err()),
            }
        }
    }
}
