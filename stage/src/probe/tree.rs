//! Where an entry's files come from: a mounted file system, or a folder of the initramfs.
//!
//! Given a folder that may have been prepared by somebody else: links out of it, FIFOs, devices, files that are not there.
//! Responsible for handing out regular files only, never leaving the folder, and never blocking while it looks.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{
    FcntlArg, OFlag, OpenHow, PosixFadviseAdvice, ResolveFlag, fcntl, openat2, posix_fadvise, readlinkat,
};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::cause::Cause;
use crate::text::{quoted, word};

/// A tree of files, read-only.
pub(crate) trait FileTree {
    /// Opens the regular file at `path` (relative to the tree's root, never leaving it).
    ///
    /// # Errors
    /// Says what is wrong with the object at `path`; never blocks on a FIFO or device.
    fn open(&self, path: &str) -> Result<OpenFile, FileTreeError>;

    /// What is in the folder at the path, in no order, at most [`MOST_LISTED`]; nothing has folders by itself.
    ///
    /// # Errors
    /// [`FileTreeError::NotAFolder`] where something else is there.
    fn list(&self, _path: &str) -> Result<Vec<Listed>, FileTreeError> {
        Err(FileTreeError::NotAFolder)
    }

    /// What the kernel said of it since it was opened.
    fn kernel_said(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The most entries of a folder that are looked at.
const MOST_LISTED: usize = 10_000;

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// With stand-ins for what is not UTF-8.
    pub name: String,
    /// In one word.
    pub kind: &'static str,
    /// Of a regular file.
    pub bytes: Option<u64>,
}

/// The bytes of a file, in order.
pub(crate) trait FileRead: Read {
    /// From now on they come straight from the disk into the memory of whoever reads, wherever file system, disk and memory let
    /// them: no copy, no page cache, and nothing read ahead. A read that hangs then can't be killed.
    fn go_straight(&mut self) {}
}

impl<T: AsRef<[u8]>> FileRead for io::Cursor<T> {}

/// A regular file that is open for one sequential read.
pub(crate) struct OpenFile {
    /// Length in bytes when it was opened.
    pub size: u64,
    /// Its bytes.
    pub reader: Box<dyn FileRead>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// Why a file could not be opened or read. The caller adds which file and what happens next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileTreeError {
    /// Nothing is there.
    #[error("no such file")]
    Missing,
    /// A symbolic link is on the way, and nothing behind it.
    #[error("the link {} points to {}, which does not exist", word(link), quoted(target))]
    Dangling {
        /// Where it is in the tree.
        link: String,
        /// What it says.
        target: String,
    },
    /// A symbolic link is on the way, and something else behind it than a file.
    #[error("the link {} points to {}: {error}", word(link), quoted(target))]
    Link {
        /// Where it is in the tree.
        link: String,
        /// What it says.
        target: String,
        /// What is wrong there.
        error: Box<Self>,
    },
    /// Links that lead to each other.
    #[error("more than {MOST_LINKS} links in a row")]
    Loop,
    /// Something is there that is not a regular file; the word says what (`a directory`, `a FIFO`, …).
    #[error("{0}, not a regular file")]
    NotAFile(&'static str),
    /// A file where a folder should be.
    #[error("a part of the path is a file, not a folder")]
    NotAFolder,
    /// A length of zero.
    #[error("empty (0 bytes)")]
    Empty,
    /// Anything else the system said.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl FileTreeError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Missing | Self::Dangling { .. } | Self::NotAFile(_) | Self::NotAFolder | Self::Loop => Cause::Missing,
            Self::Link { error, .. } => error.cause(),
            Self::Empty => Cause::Format,
            Self::Io(error) => Cause::of(error),
        }
    }
}

impl From<Errno> for FileTreeError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT => Self::Missing,
            Errno::ENOTDIR => Self::NotAFolder,
            Errno::ELOOP => Self::Loop,
            other => Self::Io(other.into()),
        }
    }
}

/// A folder of the running system: a mount point, or a folder of the initramfs. Needs Linux 5.6 (`openat2`).
#[derive(Debug)]
pub(crate) struct DirTree {
    root: OwnedFd,
}

impl DirTree {
    /// The tree below `root`.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Opens `path` with the tree's root for `/`, as a chroot into it would: links can't lead out.
    fn beneath(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        // openat2(2): EAGAIN when something was renamed meanwhile and `..` could not be proven harmless.
        let mut tries = 0_u8;
        loop {
            match openat2(&self.root, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) if tries < 16 => tries = tries.saturating_add(1),
                result => return result,
            }
        }
    }
}

impl FileTree for DirTree {
    fn open(&self, path: &str) -> Result<OpenFile, FileTreeError> {
        // O_PATH first: opening a FIFO would block, and opening a device can act (a watchdog starts).
        let probe = match self.beneath(path, OFlag::O_PATH) {
            Err(errno) => return Err(self.behind_link(path, Some(errno), errno.into())),
            Ok(probe) => probe,
        };
        regular(&fstat(&probe)?).map_err(|error| self.behind_link(path, None, error))?;
        let file = self.beneath(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)?;
        let size = regular(&fstat(&file)?)?;
        // Advice only: read ahead further than usual.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        Ok(OpenFile {
            size,
            reader: Box::new(Once {
                file: File::from(file),
                is_straight: false,
                read: 0,
                dropped: 0,
            }),
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Listed>, FileTreeError> {
        let path = if path.is_empty() { "." } else { path };
        let folder = self.beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK)?;
        let entries = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?;
        let entries = entries.take(MOST_LISTED).map(|entry| {
            let entry = entry?;
            let kind = entry.file_type().ok();
            Ok(Listed {
                name: entry.file_name().to_string_lossy().into_owned(),
                kind: match kind {
                    Some(kind) if kind.is_dir() => "folder",
                    Some(kind) if kind.is_symlink() => "link",
                    Some(_) => "other",
                    None => "unreadable",
                },
                bytes: kind
                    .filter(fs::FileType::is_file)
                    .and_then(|_| Some(entry.metadata().ok()?.len())),
            })
        });
        entries.collect()
    }
}

impl DirTree {
    /// Names the link that led to the error: the first that ends with the same `errno`, or else `path` itself.
    fn behind_link(&self, path: &str, errno: Option<Errno>, error: FileTreeError) -> FileTreeError {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        let to_blame = ends.filter_map(|end| path.get(..end)).find_map(|link| {
            let target = self.target(link)?;
            let is_it = match errno {
                Some(errno) => self.beneath(link, OFlag::O_PATH).err() == Some(errno),
                None => link == path,
            };
            is_it.then(|| self.end(link, target))
        });
        match (to_blame, error) {
            (None, error) => error,
            (Some((link, target)), FileTreeError::Missing) => FileTreeError::Dangling { link, target },
            (Some((link, target)), error) => FileTreeError::Link {
                link,
                target,
                error: Box::new(error),
            },
        }
    }

    /// Where a symbolic link points to.
    fn target(&self, link: &str) -> Option<String> {
        let there = self.beneath(link, OFlag::O_PATH | OFlag::O_NOFOLLOW).ok()?;
        Some(readlinkat(&there, "").ok()?.to_string_lossy().into_owned())
    }

    /// The last link of a chain, and its target.
    fn end(&self, link: &str, target: String) -> (String, String) {
        let (mut link, mut target) = (link.to_owned(), target);
        for _ in 0..MOST_LINKS {
            let next = match link.rsplit_once('/') {
                Some((folder, _)) if !target.starts_with('/') => format!("{folder}/{target}"),
                _ => target.clone(),
            };
            match self.target(&next) {
                Some(further) => (link, target) = (next, further),
                None => break,
            }
        }
        (link, target)
    }
}

/// So many the kernel follows: MAXSYMLINKS.
const MOST_LINKS: usize = 40;

/// The size of a non-empty regular file.
fn regular(stat: &FileStat) -> Result<u64, FileTreeError> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let what = match kind {
        SFlag::S_IFREG if stat.st_size == 0 => return Err(FileTreeError::Empty),
        SFlag::S_IFREG => return Ok(u64::try_from(stat.st_size).unwrap_or(0)),
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFCHR => "a character device",
        SFlag::S_IFBLK => "a block device",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a symbolic link",
        _ => "something unknown",
    };
    Err(FileTreeError::NotAFile(what))
}

/// A file that is read once from front to back: what has been read leaves the page cache, which would otherwise hold
/// the whole payload a second time while memory is short.
struct Once {
    file: File,
    /// It is read straight where that can be.
    is_straight: bool,
    read: u64,
    dropped: u64,
}

/// How much is read before it is dropped from the page cache, bytes.
const DROP_EVERY: u64 = 8 << 20;

/// How much is read at a time where the kernel reads ahead, bytes: it goes no further ahead than that.
const AT_ONCE: usize = 256 << 10;

/// The smallest sector of a disk, bytes.
const SECTOR: usize = 512;

impl Read for Once {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let straight = self.read_straight(buf);
        let most = buf.len().min(AT_ONCE);
        let n = straight.map_or_else(
            || self.file.read_at(buf.get_mut(..most).unwrap_or_default(), self.read),
            Ok,
        )?;
        self.read = self.read.saturating_add(u64::try_from(n).unwrap_or(0));
        if self.read.saturating_sub(self.dropped) >= DROP_EVERY {
            self.drop_cache();
        }
        Ok(n)
    }
}

impl FileRead for Once {
    fn go_straight(&mut self) {
        self.is_straight = true;
    }
}

impl Once {
    /// Reads whole sectors into memory that begins like one. Nothing where that can't be, or fails: a file system without it,
    /// larger sectors, a bad one. Then the kernel's usual way says what is wrong, if anything is.
    fn read_straight(&mut self, buf: &mut [u8]) -> Option<usize> {
        let starts = [self.read, buf.as_ptr().addr() as u64];
        let is_aligned = starts.iter().all(|start| start.is_multiple_of(SECTOR as u64));
        let whole = buf.as_chunks_mut::<SECTOR>().0.as_flattened_mut();
        if !self.is_straight || !is_aligned || whole.is_empty() {
            return None;
        }
        let read = self.set_direct(true).and_then(|()| self.file.read_at(whole, self.read));
        // What is left behind whole sectors is read as usual.
        let usual = self.set_direct(false);
        self.is_straight = read.is_ok() && usual.is_ok();
        read.ok()
    }

    fn set_direct(&self, on: bool) -> io::Result<()> {
        let mut flags = OFlag::from_bits_retain(fcntl(&self.file, FcntlArg::F_GETFL)?);
        flags.set(OFlag::O_DIRECT, on);
        fcntl(&self.file, FcntlArg::F_SETFL(flags))?;
        Ok(())
    }

    fn drop_cache(&mut self) {
        if let (Ok(from), Ok(len)) = (
            i64::try_from(self.dropped),
            i64::try_from(self.read.saturating_sub(self.dropped)),
        ) {
            // Advice only.
            let _ = posix_fadvise(&self.file, from, len, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        self.dropped = self.read;
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        self.drop_cache();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::mkfifo;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn tree() -> (tempfile::TempDir, DirTree) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("t")).unwrap();
        let tree = DirTree::new(&dir.path().join("t")).unwrap();
        (dir, tree)
    }

    fn error(tree: &DirTree, path: &str) -> String {
        tree.open(path).unwrap_err().to_string()
    }

    #[test]
    fn a_regular_file_is_read_to_its_end() {
        let (dir, tree) = tree();
        let bytes: Vec<u8> = (0..9_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        fs::create_dir(dir.path().join("t/boot")).unwrap();
        fs::write(dir.path().join("t/boot/Image"), &bytes).unwrap();
        symlink("boot/Image", dir.path().join("t/vmlinuz")).unwrap();
        symlink("../vmlinuz", dir.path().join("t/boot/up-and-down")).unwrap();
        for path in ["boot/Image", "vmlinuz", "boot/up-and-down", "boot/../vmlinuz"] {
            let mut file = tree.open(path).unwrap();
            assert_eq!(file.size, 9_000_000);
            let mut read = Vec::new();
            file.reader.read_to_end(&mut read).unwrap();
            assert!(read == bytes, "{path}");
        }
    }

    /// Pieces of any length, into memory that begins anywhere in a sector.
    #[test]
    fn a_file_reads_the_same_past_the_page_cache() {
        let (dir, tree) = tree();
        let bytes: Vec<u8> = (0..300_001_u32).map(|i| i.to_le_bytes()[1]).collect();
        fs::write(dir.path().join("t/f"), &bytes).unwrap();
        for (skew, piece) in [(0, 65_536), (0, 65_537), (1, 65_536), (0, 511), (512, 1 << 20)] {
            let mut memory = vec![0_u8; 400_000];
            let skip = memory.as_ptr().align_offset(4096) + skew;
            let mut reader = tree.open("f").unwrap().reader;
            reader.go_straight();
            let mut got = 0;
            loop {
                let end = (skip + got + piece).min(memory.len());
                match reader.read(&mut memory[skip + got..end]).unwrap() {
                    0 => break,
                    n => got += n,
                }
            }
            assert!(memory[skip..skip + got] == bytes, "{skew} {piece}");
        }
    }

    #[test]
    fn what_can_not_be_read_straight_is_read_as_usual() {
        let file = |path: &str| Once {
            file: File::open(path).unwrap(),
            is_straight: true,
            read: 0,
            dropped: 0,
        };
        let mut memory = vec![0_u8; 8192];
        let skip = memory.as_ptr().align_offset(4096);
        // It has no such flag.
        let mut reader = file("/proc/self/cmdline");
        assert!(reader.read(&mut memory[skip..skip + 512]).unwrap() > 0);
        assert!(!reader.is_straight);
    }

    #[test]
    fn what_is_not_a_file_is_named_and_never_waited_for() {
        let (dir, tree) = tree();
        let at = |name: &str| dir.path().join("t").join(name);
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("empty"), b"").unwrap();
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        symlink("fifo", at("to-fifo")).unwrap();
        symlink("not/there", at("dangling")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        assert_eq!(error(&tree, "dir"), "a directory, not a regular file");
        assert_eq!(error(&tree, "empty"), "empty (0 bytes)");
        assert_eq!(error(&tree, "fifo"), "a FIFO, not a regular file");
        assert_eq!(
            error(&tree, "to-fifo"),
            r#"the link to-fifo points to "fifo": a FIFO, not a regular file"#
        );
        assert_eq!(error(&tree, "socket"), "a socket, not a regular file");
        assert_eq!(error(&tree, "missing"), "no such file");
        assert_eq!(error(&tree, "missing/too"), "no such file");
        assert_eq!(error(&tree, ""), "no such file");
        symlink("/dangling", at("boot")).unwrap();
        assert_eq!(
            error(&tree, "dangling"),
            r#"the link dangling points to "not/there", which does not exist"#
        );
        assert_eq!(
            error(&tree, "dir/../boot/vmlinuz"),
            r#"the link /dangling points to "not/there", which does not exist"#
        );
        assert_eq!(
            error(&tree, "empty/below"),
            "a part of the path is a file, not a folder"
        );
        symlink("empty/", at("slash")).unwrap();
        assert_eq!(
            error(&tree, "slash"),
            r#"the link slash points to "empty/": a part of the path is a file, not a folder"#
        );
        symlink("dir", at("to-dir")).unwrap();
        symlink("to-dir", at("to-to-dir")).unwrap();
        assert_eq!(
            error(&tree, "to-to-dir"),
            r#"the link to-dir points to "dir": a directory, not a regular file"#
        );
        // A name on the disk can't forge what stands around it.
        symlink("x) PARTLABEL=boot-a", at("forged")).unwrap();
        symlink("nothing", at("x) PARTLABEL=boot-a")).unwrap();
        assert_eq!(
            error(&tree, "forged"),
            r#"the link "x) PARTLABEL=boot-a" points to "nothing", which does not exist"#
        );
        assert_eq!(
            DirTree::new(Path::new("/dev"))
                .unwrap()
                .open("null")
                .unwrap_err()
                .to_string(),
            "a character device, not a regular file"
        );
    }

    #[test]
    fn links_stay_inside() {
        let (dir, tree) = tree();
        let at = |name: &str| dir.path().join("t").join(name);
        fs::write(dir.path().join("secret"), b"x").unwrap();
        fs::create_dir(at("boot")).unwrap();
        fs::write(at("boot/vmlinuz-6.12"), b"kernel").unwrap();
        symlink("/boot/vmlinuz-6.12", at("vmlinuz")).unwrap();
        symlink("../../boot/vmlinuz-6.12", at("boot/old")).unwrap();
        for path in ["vmlinuz", "/vmlinuz", "boot/old", "../vmlinuz"] {
            assert_eq!(tree.open(path).unwrap().size, 6, "{path}");
        }
        symlink("../secret", at("up")).unwrap();
        symlink(dir.path().join("secret"), at("absolute")).unwrap();
        symlink("..", at("parent")).unwrap();
        symlink("round", at("round")).unwrap();
        let absolute = dir.path().join("secret");
        for path in ["../secret", "parent/secret", absolute.to_str().unwrap()] {
            assert_eq!(error(&tree, path), "no such file", "{path}");
        }
        assert_eq!(
            error(&tree, "up"),
            r#"the link up points to "../secret", which does not exist"#
        );
        assert!(error(&tree, "absolute").ends_with("/secret\", which does not exist"));
        let round = tree.open("round").unwrap_err();
        assert_eq!(round.cause(), Cause::Missing);
        assert_eq!(
            round.to_string(),
            r#"the link round points to "round": more than 40 links in a row"#
        );
    }
}
