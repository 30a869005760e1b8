//! Where an entry's files come from: a mounted file system, a folder of the initramfs, or a reader of our own.

use std::io::Read;

/// A tree of files, read-only.
pub trait Tree {
    /// Opens the regular file at `path` (relative to the tree's root, never leaving it).
    ///
    /// # Errors
    /// Says what is wrong with the object at `path`; never blocks on a FIFO or device.
    fn open(&self, path: &str) -> Result<OpenFile, TreeError>;
}

/// A regular file that is open for one sequential read.
pub struct OpenFile {
    /// Length in bytes when it was opened.
    pub size: u64,
    /// The bytes, in order.
    pub reader: Box<dyn Read>,
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
pub enum TreeError {
    /// Nothing is there.
    #[error("no such file")]
    Missing,
    /// Something is there that is not a regular file; the word says what (`a directory`, `a FIFO`, …).
    #[error("is {0}, not a regular file")]
    NotAFile(&'static str),
    /// A length of zero.
    #[error("is empty (0 bytes)")]
    Empty,
    /// The path leaves the tree, through `..` or a link.
    #[error("leads out of its source")]
    Escapes,
    /// Anything else the system said.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
