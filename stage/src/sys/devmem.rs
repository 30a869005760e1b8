//! A page of physical memory through `/dev/mem`.
#![expect(
    unsafe_code,
    reason = "a mapping of memory that is not this program's, read and written in place"
)]

use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::unistd::{SysconfVar, sysconf};

/// 4 KiB at an address that is a multiple of it, whatever the kernel's page size.
pub(crate) const SIZE: usize = 4096;
const WORDS: usize = SIZE.div_euclid(size_of::<u32>());

/// [`SIZE`] bytes of physical memory, mapped. Reading or writing where nothing answers ends this process with a signal,
/// or the machine with an abort.
#[derive(Debug)]
pub(crate) struct Page {
    mapping: NonNull<libc::c_void>,
    length: usize,
    /// The first of [`WORDS`] in the mapping.
    first: NonNull<u32>,
}

impl Page {
    /// Maps the page at `address` of `device` (`/dev/mem`). The kernel maps what is not its System RAM uncached.
    ///
    /// # Errors
    /// What `open(2)` and `mmap(2)` say; `EINVAL` for an address inside of a page.
    pub(crate) fn map(device: &Path, address: u64) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let length = sysconf(SysconfVar::PAGE_SIZE)?
            .and_then(|size| usize::try_from(size).ok())
            .ok_or_else(invalid)?;
        let address = usize::try_from(address).map_err(|_| invalid())?;
        let inside = address.checked_rem(length).ok_or_else(invalid)?;
        let base = address.saturating_sub(inside);
        let base = libc::off_t::try_from(base).map_err(|_| invalid())?;
        // With it and a page size below 4 KiB the page would end outside of the mapping.
        if !address.is_multiple_of(SIZE) || length < SIZE {
            return Err(invalid());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_SYNC)
            .open(device)?;
        // SAFETY: a new mapping at a place of the kernel's choice replaces none of this process; the descriptor is open.
        let mapping = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                base,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = NonNull::new(mapping).ok_or_else(invalid)?;
        // SAFETY: `inside` is below `length` and leaves SIZE bytes of the mapping: both are powers of two, length >= SIZE.
        let first = unsafe { mapping.byte_add(inside) };
        Ok(Self {
            mapping,
            length,
            first: first.cast(),
        })
    }

    /// Its bytes. Read in aligned words of 32 bits: memory that is mapped as a device takes no other access.
    pub(crate) fn read(&self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let (words, _) = bytes.as_chunks_mut::<4>();
        for (n, word) in words.iter_mut().enumerate().take(WORDS) {
            // SAFETY: `n` is below WORDS, which is what the mapping holds from `first` on.
            let place = unsafe { self.first.add(n) };
            // SAFETY: aligned and mapped for reading until `self` is dropped; no Rust object lives there.
            *word = unsafe { place.read_volatile() }.to_ne_bytes();
        }
        bytes
    }

    /// Writes zeros over the first `bytes`, in words as above.
    pub(crate) fn clear(&self, bytes: usize) {
        for n in 0..bytes.div_ceil(size_of::<u32>()) {
            self.set(n, 0);
        }
    }

    /// Writes the word `n` of the page, where it has one.
    pub(crate) fn set(&self, n: usize, word: u32) {
        if n < WORDS {
            // SAFETY: `n` is below WORDS, which is what the mapping holds from `first` on.
            let place = unsafe { self.first.add(n) };
            // SAFETY: aligned and mapped for writing until `self` is dropped; no Rust object lives there.
            unsafe { place.write_volatile(word) };
        }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping is this object's alone, of that length, and not used after this.
        unsafe { libc::munmap(self.mapping.as_ptr(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file stands for the memory.
    #[test]
    fn a_page_is_read_and_cleared_in_place_and_its_neighbours_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("mem");
        let bytes: Vec<u8> = (0..3 * SIZE).map(|n| u8::try_from(n % 251).unwrap()).collect();
        std::fs::write(&memory, &bytes).unwrap();
        let page = Page::map(&memory, 4096).unwrap();
        assert!(page.read()[..] == bytes[SIZE..2 * SIZE]);
        page.clear(13);
        drop(page);
        let mut expected = bytes;
        expected[SIZE..SIZE + 16].fill(0);
        assert!(std::fs::read(&memory).unwrap() == expected);
    }

    #[test]
    fn what_can_not_be_mapped_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let memory = folder.path().join("mem");
        std::fs::write(&memory, [0; SIZE]).unwrap();
        assert_eq!(Page::map(&memory, 16).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(
            Page::map(&folder.path().join("none"), 0).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
