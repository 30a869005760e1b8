//! The device that the state is kept on: a partition, or an image of one.
//!
//! Given its path; responsible for reading and writing what is on the medium and not in a cache, and for where the two
//! copies are.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::block::{Block, SIZE};
use super::store::{Copies, Copy};
use super::words;

/// A place for the two copies: at the start and in the middle, so that a damaged erase block takes one of them only.
#[derive(Debug)]
pub(crate) struct Device {
    file: File,
    blocks: u64,
    second: u64,
    /// Where the last words are; none where there is no room for them.
    words: Option<u64>,
}

/// What the kernel hands to the device as it is.
#[repr(C, align(4096))]
struct Aligned(Block);

/// The same for the last words.
#[repr(C, align(4096))]
struct Area([u8; words::SIZE]);

impl Device {
    /// Opens the device, to `write` as well or to read only. A write returns when it is on the medium (`O_DSYNC`: on a block
    /// device that is a flush of the disk's own cache, block/fops.c).
    ///
    /// # Errors
    /// The system's own; InvalidInput where it has no room for two blocks.
    pub(crate) fn open(path: &Path, write: bool) -> io::Result<Self> {
        let open = |direct| {
            OpenOptions::new()
                .read(true)
                .write(write)
                .custom_flags(direct | libc::O_DSYNC | libc::O_NONBLOCK)
                .open(path)
        };
        let mut file = match open(libc::O_DIRECT) {
            // An image on a file system that can't: every disk can.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(0)?,
            result => result?,
        };
        let blocks = file.seek(SeekFrom::End(0))?.checked_div(BLOCK).unwrap_or(0);
        if blocks < 2 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it has no room for two blocks of 4 KiB",
            ));
        }
        let words = (blocks >> 2).saturating_mul(BLOCK);
        Ok(Self {
            file,
            blocks,
            second: (blocks >> 1).saturating_mul(BLOCK),
            words: (blocks >= 32).then_some(words),
        })
    }

    /// Keeps others out who ask as well, until the device is closed.
    ///
    /// # Errors
    /// WouldBlock where somebody else has it.
    pub(crate) fn lock(&self) -> io::Result<()> {
        self.file.try_lock().map_err(io::Error::from)
    }

    /// What a kernel said as it died.
    ///
    /// # Errors
    /// The system's own; NotFound where nothing whole is kept.
    pub(crate) fn last_words(&mut self) -> io::Result<Vec<u8>> {
        let mut area = Box::new(Area([0; words::SIZE]));
        let at = self.words.ok_or(io::ErrorKind::NotFound)?;
        self.file.read_exact_at(&mut area.0, at)?;
        words::decode(&area.0).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Keeps them, in place of those before.
    ///
    /// # Errors
    /// The system's own; StorageFull where there is no room.
    pub(crate) fn keep_last_words(&mut self, text: &[u8]) -> io::Result<()> {
        let area = Box::new(Area(words::encode(text)));
        self.file
            .write_all_at(&area.0, self.words.ok_or(io::ErrorKind::StorageFull)?)
    }

    /// Whether there is nothing where a file system or a RAID has its first word, nor where last words are kept.
    ///
    /// # Errors
    /// The system's own.
    pub(crate) fn is_blank(&mut self) -> io::Result<bool> {
        let words = self.words.unwrap_or(0);
        let area = u64::try_from(words::SIZE).unwrap_or(0);
        let ends = self.blocks.saturating_mul(BLOCK);
        let begin = (0..BLANK.min(ends)).step_by(SIZE);
        let mut block = Box::new(Aligned([0; SIZE]));
        for at in begin.chain((words..words.saturating_add(area).min(ends)).step_by(SIZE)) {
            self.file.read_exact_at(&mut block.0, at)?;
            if block.0.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn at(&self, copy: Copy) -> u64 {
        match copy {
            Copy::First => 0,
            Copy::Second => self.second,
        }
    }
}

/// Bytes at its start in which any file system or RAID has left something (btrfs begins at 64 KiB).
const BLANK: u64 = 1 << 20;
/// [`SIZE`] as offsets are counted.
const BLOCK: u64 = size_of::<[u8; SIZE]>() as u64;

impl Copies for Device {
    fn read(&mut self, copy: Copy) -> io::Result<Block> {
        let mut block = Box::new(Aligned([0; SIZE]));
        self.file.read_exact_at(&mut block.0, self.at(copy))?;
        Ok(block.0)
    }

    fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
        let block = Box::new(Aligned(*block));
        self.file.write_all_at(&block.0, self.at(copy))
    }

    fn blocks(&self) -> u64 {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use crate::state::store::{Stored, load};

    #[test]
    fn a_state_in_an_image_is_found_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for size in [0, 8191] {
            file.as_file().set_len(size).unwrap();
            assert_eq!(
                Device::open(file.path(), true).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        for size in [8192, (1 << 20) + 512] {
            file.as_file().set_len(0).unwrap();
            file.as_file().set_len(size).unwrap();
            let mut device = Device::open(file.path(), true).unwrap();
            assert!(load(&mut device).is_err());
            let mut stored = Stored::new(State {
                boots: 7,
                ..State::default()
            });
            assert!(stored.save(&mut device).unwrap().is_none());
            let mut again = Device::open(file.path(), false).unwrap();
            assert_eq!(load(&mut again).unwrap().state, stored.state);
            assert!(stored.save(&mut again).is_err(), "opened to read");
            let has_room = size > 1 << 17;
            assert_eq!(device.keep_last_words(b"Panic").is_ok(), has_room);
            assert_eq!(device.last_words().ok(), has_room.then(|| b"Panic".to_vec()));
            assert_eq!(load(&mut again).unwrap().state, stored.state);
        }
    }
}
