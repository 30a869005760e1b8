//! One sequential pass over a stored file.
//!
//! Given a tree and a path; responsible for opening the file with its first bytes at hand, for counting and hashing
//! every byte that is read exactly once, for retrying interrupted reads, and for saying how far it has come.

use std::io::{self, BufRead, Read};

use config::Sha256;
use sha2::Digest;

use super::error::LoadError;
use super::payload::{Artefact, Role};
use crate::formats::HEAD;
use crate::probe::FileTree;
use crate::probe::tree::FileRead;

/// How far loading has come; told after every read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The file that is being read.
    pub role: Role,
    /// Bytes read of all files.
    pub read: u64,
    /// Bytes of all files.
    pub size: u64,
}

/// A file of an entry, open, its first bytes read.
pub(super) struct Stored {
    pub(super) role: Role,
    pub(super) path: String,
    /// Length in bytes when it was opened.
    pub(super) size: u64,
    reader: Box<dyn FileRead>,
    wanted: Option<Sha256>,
    hash: Option<sha2::Sha256>,
    /// Bytes read so far.
    read: u64,
    ended: bool,
    /// The first bytes, later the last ones read.
    buffer: Vec<u8>,
    /// How much of the buffer has been taken.
    taken: usize,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stored({}: {}, {} bytes)", self.role, self.path, self.size)
    }
}

impl Stored {
    /// Opens `path` and reads its first bytes.
    pub(super) fn open(tree: &dyn FileTree, role: Role, path: &str, wanted: Option<Sha256>) -> Result<Self, LoadError> {
        let file = tree.open(path).map_err(|source| LoadError::Open {
            role,
            path: path.to_owned(),
            source,
        })?;
        let mut stored = Self {
            role,
            path: path.to_owned(),
            size: file.size,
            reader: file.reader,
            wanted,
            hash: wanted.map(|_| sha2::Sha256::new()),
            read: 0,
            ended: false,
            buffer: Vec::new(),
            taken: 0,
        };
        let result = stored.read_head();
        result.map_err(|source| stored.failed(source))?;
        Ok(stored)
    }

    /// Whether the config names its SHA-256.
    pub(super) fn has_digest(&self) -> bool {
        self.wanted.is_some()
    }

    /// The rest of the file comes straight from the disk: for bytes that stay as they are, where they come to.
    pub(super) fn go_straight(&mut self) {
        self.reader.go_straight();
    }

    fn read_head(&mut self) -> io::Result<()> {
        let mut head = vec![0; HEAD];
        let mut have = 0;
        while let Some(room) = head.get_mut(have..).filter(|room| !room.is_empty()) {
            match self.pull(room)? {
                0 => break,
                n => have = have.saturating_add(n),
            }
        }
        head.truncate(have);
        self.buffer = head;
        Ok(())
    }

    /// The first bytes, as long as nothing has been taken.
    pub(super) fn head(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads from the file. The only place that does.
    fn pull(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // One byte more than it had is enough to know that it has grown.
        let most = self.size.saturating_add(1).saturating_sub(self.read);
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(into.len());
        let into = into.get_mut(..most).unwrap_or_default();
        let n = loop {
            match self.reader.read(into) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => break result?.min(into.len()),
            }
        };
        self.ended |= n == 0;
        self.read = self.read.saturating_add(u64::try_from(n).unwrap_or(0));
        if let Some(hash) = &mut self.hash {
            hash.update(into.get(..n).unwrap_or_default());
        }
        Ok(n)
    }

    /// Whether the file has been read to its end, and taken.
    pub(super) fn exhausted(&self) -> bool {
        self.ended && self.taken >= self.buffer.len()
    }

    /// Whether the file had the length it was opened with.
    pub(super) fn whole(&self) -> bool {
        self.read == self.size
    }

    /// An error of reading this file.
    pub(super) fn failed(&self, source: io::Error) -> LoadError {
        LoadError::Read {
            role: self.role,
            path: self.path.clone(),
            source,
        }
    }

    /// The record of what has been read.
    pub(super) fn artefact(self) -> Artefact {
        Artefact {
            role: self.role,
            path: self.path,
            size: self.size,
            read: self.read,
            sha256: self.hash.map(|hash| Sha256(hash.finalize().into())),
            wanted: self.wanted,
        }
    }
}

/// Says how far it has come, over all files.
pub(super) struct Meter<'a> {
    /// Bytes of all files.
    pub(super) size: u64,
    /// Bytes of the files that are done.
    pub(super) done: u64,
    /// Who wants to know.
    pub(super) tell: &'a mut dyn FnMut(Progress),
}

impl Meter<'_> {
    /// Reads the whole of `stored` through `how`, which gets what is left in the buffer first, and then the rest.
    ///
    /// What `how` leaves is read too, so that the digest covers the file.
    pub(super) fn pass<T>(
        &mut self,
        stored: &mut Stored,
        how: impl FnOnce(&mut Metered<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut metered = Metered {
            stored,
            size: self.size,
            done: self.done,
            tell: self.tell,
        };
        let result = how(&mut metered)?;
        metered.drain()?;
        self.done = self.done.saturating_add(metered.stored.read);
        Ok(result)
    }
}

/// A stored file that says how far it has been read.
pub(super) struct Metered<'a> {
    stored: &'a mut Stored,
    size: u64,
    done: u64,
    tell: &'a mut dyn FnMut(Progress),
}

impl Metered<'_> {
    fn pull(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.stored.pull(into)?;
        (self.tell)(Progress {
            role: self.stored.role,
            read: self.done.saturating_add(self.stored.read),
            size: self.size,
        });
        Ok(n)
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            let n = self.fill_buf()?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(n);
        }
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // Past the head, straight to where it belongs.
        if self.stored.taken >= self.stored.buffer.len() {
            return self.pull(into);
        }
        let n = self.fill_buf()?.read(into)?;
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.stored.taken >= self.stored.buffer.len() {
            let mut buffer = std::mem::take(&mut self.stored.buffer);
            buffer.resize(HEAD, 0);
            self.stored.taken = 0;
            let n = self.pull(&mut buffer)?;
            buffer.truncate(n);
            self.stored.buffer = buffer;
        }
        Ok(self.stored.buffer.get(self.stored.taken..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.stored.taken = self.stored.taken.saturating_add(n).min(self.stored.buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fakes::{Files, Jumpy};
    use crate::memory::Slot;

    #[test]
    fn every_byte_is_counted_and_hashed_once_however_it_is_read() {
        let bytes: Vec<u8> = (0..700_000_u32).map(|i| i.to_le_bytes()[0] ^ 0x55).collect();
        let want = Sha256(sha2::Sha256::digest(&bytes).into());
        for take in [0, 1, HEAD - 1, HEAD, HEAD + 1, 700_000] {
            let files = Files::new([("f", bytes.clone())]);
            let mut stored = Stored::open(&files, Role::Kernel, "f", Some(want)).unwrap();
            assert_eq!(stored.head(), &bytes[..HEAD]);
            let mut last = None;
            let mut tell = |p: Progress| last = Some(p);
            let mut meter = Meter {
                size: 1_000_000,
                done: 7,
                tell: &mut tell,
            };
            let got = meter
                .pass(&mut stored, |from| {
                    let mut got = vec![0; take];
                    from.read_exact(&mut got).map(|()| got)
                })
                .unwrap();
            assert!(got == bytes[..take]);
            assert_eq!(meter.done, 700_007);
            assert_eq!(last.unwrap().read, 700_007);
            let artefact = stored.artefact();
            assert_eq!((artefact.read, artefact.sha256), (700_000, Some(want)));
        }
    }

    #[test]
    fn interrupted_and_short_reads_are_no_errors() {
        let bytes: Vec<u8> = (0..300_000_u32).map(|i| i.to_le_bytes()[1]).collect();
        let mut stored = Stored::open(&Jumpy(bytes.clone()), Role::Initrd, "f", None).unwrap();
        let mut slot = Slot::reserve(300_000).unwrap();
        let mut meter = Meter {
            size: 300_000,
            done: 0,
            tell: &mut |_| (),
        };
        let more = meter.pass(&mut stored, |from| slot.fill(from, 0)).unwrap();
        assert!(!more && *slot == *bytes);
        assert!(stored.whole() && stored.exhausted());
    }

    #[test]
    fn a_file_that_grows_is_read_one_byte_past_its_end() {
        let mut files = Files::new([("f", vec![1; 1_000_000])]);
        files.claim("f", 600_000);
        let mut stored = Stored::open(&files, Role::Dtb, "f", None).unwrap();
        let mut meter = Meter {
            size: 0,
            done: 0,
            tell: &mut |_| (),
        };
        meter.pass(&mut stored, |_| Ok(())).unwrap();
        assert!(!stored.whole());
        assert_eq!(stored.artefact().read, 600_001);
    }
}
