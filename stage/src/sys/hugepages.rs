//! Huge pages of this process and where they are in memory: hugetlbfs, `/proc/self/pagemap`, `/proc/kpageflags`
//! (Documentation/admin-guide/mm/hugetlbpage.rst, pagemap.rst).
//!
//! The kernel is asked for pages at run time. Where they are is read before any is touched, since the first touch clears all
//! of a page. Nobody else in the service Linux uses huge pages: the whole pool is ours.
#![expect(unsafe_code, reason = "mmap(2) and memory that is read and written through it")]

use std::ffi::c_void;
use std::fs::{self, File};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use nix::unistd::ftruncate;

use crate::memory::Span;
use crate::memory::range::{align_down, align_up};
use crate::memory::{Pages, Resident};

const FOLDER: &str = "/sys/kernel/mm/hugepages";
/// The smallest that is worth it, bytes.
const LEAST: u64 = 2 << 20;
/// Larger ones are not made at run time: only those the service kernel was started with are used.
const MADE_UP_TO: u64 = 64 << 20;

// Bits of /proc/kpageflags (include/uapi/linux/kernel-page-flags.h).
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;
const HUGE: u64 = 1 << 17;

/// Pages of one size.
#[derive(Debug)]
pub(crate) struct HugePages {
    size: u64,
    /// Bytes of an ordinary page.
    page: u64,
    folder: PathBuf,
    flags: File,
    users: File,
    pagemap: Rc<File>,
    /// Address of the first of those at hand, as last looked for; 0 before.
    lowest: u64,
}

/// Gives back what a worker before this one left: its pages are nobody's now, and are not counted as free memory.
pub(crate) fn give_back_all(page: u64) {
    for source in &mut sources(page) {
        source.give_back();
    }
}

/// Free pages in `ram` that the service kernel was started with. On arm64 `/proc/iomem` calls them reserved, but nobody uses
/// them. `page` is its ordinary page size, bytes.
pub(crate) fn of_the_start(page: u64, ram: &[Span]) -> Vec<Span> {
    let mut found = Vec::new();
    for mut source in sources(page).into_iter().filter(|source| source.size() > MADE_UP_TO) {
        let size = source.size();
        // Where the kernel does not say where they are, they can't be used anyway, and that is said then.
        let pages = source.at_hand(ram).unwrap_or_default();
        found.extend(pages.into_iter().filter_map(|at| Span::sized(at, size)));
    }
    found
}

/// What the service kernel has, the most useful first: pages that can be made at run time, the smallest of at least 2 MiB; then
/// those it was started with, from large to small: clearing a whole GiB takes longer than clearing what the payload needs.
/// `page` is its ordinary page size, bytes.
pub(crate) fn sources(page: u64) -> Vec<Box<dyn Pages>> {
    let mut sizes: Vec<u64> = fs::read_dir(FOLDER)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            kib.parse::<u64>().ok()?.checked_mul(1024)
        })
        .filter(|size| *size >= LEAST && size.is_multiple_of(page))
        .collect();
    sizes.sort_unstable();
    let (made, fixed): (Vec<u64>, Vec<u64>) = sizes.into_iter().partition(|size| *size <= MADE_UP_TO);
    let opened = made.first().into_iter().chain(fixed.iter().rev());
    opened
        .filter_map(|size| HugePages::open(*size, page).ok())
        .filter(|pages| pages.size <= MADE_UP_TO || pages.number("free_hugepages").is_some_and(|n| n > 0))
        .map(|pages| -> Box<dyn Pages> { Box::new(pages) })
        .collect()
}

/// Where pages of `size` bytes can begin in `memory`: upwards from `first`, then those below it.
fn page_starts(first: u64, memory: &[Span], size: u64) -> impl Iterator<Item = u64> {
    let all = |inside: Span| {
        memory.iter().flat_map(move |span| {
            let span = span.common(&inside);
            let start = align_up(span.start, size).unwrap_or(u64::MAX);
            std::iter::successors(Some(start), move |at| at.checked_add(size)).take_while(move |at| *at < span.end)
        })
    };
    let above = Span {
        start: first,
        end: u64::MAX,
    };
    let below = Span { start: 0, end: first };
    all(above).chain(all(below))
}

impl HugePages {
    fn open(size: u64, page: u64) -> io::Result<Self> {
        let folder = PathBuf::from(format!("{FOLDER}/hugepages-{}kB", size / 1024));
        Ok(Self {
            size,
            page,
            folder,
            flags: File::open("/proc/kpageflags")?,
            users: File::open("/proc/kpagecount")?,
            pagemap: Rc::new(File::open("/proc/self/pagemap")?),
            lowest: 0,
        })
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    fn set_pool(&self, count: u64) -> io::Result<()> {
        fs::write(self.folder.join("nr_hugepages"), count.to_string())
    }

    /// What one of the two files says of the page frame at an address; 0 behind the last frame.
    fn frame(&self, of: &File, address: u64) -> io::Result<u64> {
        let mut word = [0; 8];
        let at = address.checked_div(self.page).unwrap_or(0).saturating_mul(8);
        match of.read_exact_at(&mut word, at) {
            Ok(()) => Ok(u64::from_le_bytes(word)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Whether a huge page of our size begins at `address` that nobody uses. A worker that is stuck in the kernel and can't
    /// be killed keeps its own.
    fn begins_at(&self, address: u64) -> io::Result<bool> {
        let flags = |at| self.frame(&self.flags, at);
        if flags(address)? & (HUGE | COMPOUND_HEAD) != HUGE | COMPOUND_HEAD {
            return Ok(false);
        }
        // A larger one looks the same at its start, and goes on behind the end of ours.
        let next = flags(address.saturating_add(self.size))?;
        Ok(next & (HUGE | COMPOUND_TAIL) != HUGE | COMPOUND_TAIL && self.frame(&self.users, address)? == 0)
    }

    /// How many of the pool's are used by others.
    fn used(&self) -> u64 {
        let all = self.number("nr_hugepages").unwrap_or(0);
        all.saturating_sub(self.number("free_hugepages").unwrap_or(0))
    }

    fn flag(&self) -> MFdFlags {
        // MFD_HUGE_SHIFT: the base 2 logarithm of the size (include/uapi/linux/memfd.h).
        MFdFlags::MFD_CLOEXEC
            | MFdFlags::MFD_HUGETLB
            | MFdFlags::from_bits_retain(self.size.trailing_zeros().wrapping_shl(26))
    }

    /// Has the kernel hand out pages, until all of `wanted` are among them: address and offset in `file` of each.
    fn touch(&self, file: &OwnedFd, wanted: &[u64]) -> io::Result<Vec<(u64, u64)>> {
        let pool = self.kept();
        ftruncate(file, offset(pool.saturating_mul(self.size))?)?;
        let mut got: Vec<(u64, u64)> = Vec::new();
        let mut missing = wanted.len();
        for n in 0..pool {
            if missing == 0 {
                return Ok(got);
            }
            let at = n.saturating_mul(self.size);
            let mut window = Window::reserve(self.size, self.size)?;
            window.show(file, at, 0, self.size)?;
            window.touch(self.size);
            let address = address_of(&self.pagemap, window.address(), self.page)?;
            got.push((address, at));
            missing = missing.saturating_sub(usize::from(wanted.contains(&address)));
        }
        if missing == 0 {
            Ok(got)
        } else {
            Err(io::Error::other("the kernel handed out other pages than it showed"))
        }
    }

    /// The pages `span` is in, by address.
    fn pages_of(&self, span: &Span) -> Vec<u64> {
        let first = align_down(span.start, self.size);
        let end = align_up(span.end, self.size).unwrap_or(first);
        let count = end.saturating_sub(first).checked_div(self.size).unwrap_or(0);
        (0..count)
            .map(|n| first.saturating_add(n.saturating_mul(self.size)))
            .collect()
    }

    /// Memory of `span`, whose pages are in `file` at the offsets `got` says.
    fn memory(&self, file: &OwnedFd, got: &[(u64, u64)], span: &Span) -> io::Result<Memory> {
        let pages = self.pages_of(span);
        let count = u64::try_from(pages.len()).unwrap_or(0);
        let mut window = Window::reserve(count.saturating_mul(self.size), self.size)?;
        for (n, page) in (0_u64..).zip(&pages) {
            let found = got.iter().find(|(address, _)| address == page);
            let (_, at) = found.ok_or_else(|| io::Error::other("a huge page is missing"))?;
            window.show(file, *at, n.saturating_mul(self.size), self.size)?;
        }
        let first = pages.first().copied().unwrap_or(span.start);
        let memory = Memory {
            window,
            skip: word(span.start.saturating_sub(first))?,
            len: word(span.len())?,
            address: span.start,
            huge: self.size,
            page: self.page,
            pagemap: Rc::clone(&self.pagemap),
        };
        memory.window.touch(self.size);
        if memory.is_still_there()? {
            Ok(memory)
        } else {
            Err(io::Error::other("a huge page is not where it was"))
        }
    }
}

impl Pages for HugePages {
    fn size(&self) -> u64 {
        self.size
    }

    fn kept(&self) -> u64 {
        self.number("free_hugepages").unwrap_or(0)
    }

    fn grow(&mut self, count: u64) -> io::Result<u64> {
        if self.size <= MADE_UP_TO && self.kept() < count {
            self.set_pool(count.saturating_add(self.used()))?;
        }
        Ok(self.kept())
    }

    fn at_hand(&mut self, memory: &[Span]) -> io::Result<Vec<u64>> {
        // Each address costs a system call, and there are many: from the lowest that was found last time on, and no
        // further than there can be pages.
        let kept = usize::try_from(self.kept()).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for at in page_starts(self.lowest, memory, self.size) {
            if found.len() >= kept {
                break;
            }
            if self.begins_at(at)? {
                found.push(at);
            }
        }
        self.lowest = found.iter().min().copied().unwrap_or(0);
        Ok(found)
    }

    fn take(&mut self, spans: &[Span]) -> io::Result<Vec<Box<dyn Resident>>> {
        let mut wanted: Vec<u64> = spans.iter().flat_map(|span| self.pages_of(span)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let of_others = self.used();
        let file = memfd_create(c"payload", self.flag())?;
        let got = self.touch(&file, &wanted)?;
        let memory = spans.iter().map(|span| self.memory(&file, &got, span));
        let memory: Vec<Memory> = memory.collect::<io::Result<_>>()?;

        // Those that came in between go back, and with them all that were never touched.
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        for (_, at) in got.iter().filter(|(address, _)| !wanted.contains(address)) {
            fallocate(&file, punch, offset(*at)?, offset(self.size)?)?;
        }
        if self.size <= MADE_UP_TO {
            let ours = u64::try_from(wanted.len()).unwrap_or(u64::MAX);
            self.set_pool(ours.saturating_add(of_others))?;
        }
        Ok(memory
            .into_iter()
            .map(|memory| -> Box<dyn Resident> { Box::new(memory) })
            .collect())
    }

    fn give_back(&mut self) {
        if self.size <= MADE_UP_TO {
            // Where that fails they stay, and what needs them says so.
            let _ = self.set_pool(0);
        }
    }
}

/// Bytes that lie in a row in physical memory.
#[derive(Debug)]
struct Memory {
    window: Window,
    /// From the start of the first page to the first byte.
    skip: usize,
    len: usize,
    address: u64,
    huge: u64,
    page: u64,
    pagemap: Rc<File>,
}

impl Resident for Memory {
    fn bytes(&self) -> &[u8] {
        let end = self.skip.saturating_add(self.len);
        self.window.bytes().get(self.skip..end).unwrap_or_default()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.skip.saturating_add(self.len);
        self.window.bytes_mut().get_mut(self.skip..end).unwrap_or_default()
    }

    fn address(&self) -> u64 {
        self.address
    }

    fn is_still_there(&self) -> io::Result<bool> {
        let first = align_down(self.address, self.huge);
        let count = (self.window.len as u64).checked_div(self.huge).unwrap_or(0);
        for n in 0..count {
            let behind = n.saturating_mul(self.huge);
            let at = self.window.address().saturating_add(behind);
            if address_of(&self.pagemap, at, self.page)? != first.saturating_add(behind) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A range of this process's addresses, with huge pages shown in it.
#[derive(Debug)]
struct Window {
    /// What was reserved.
    reserved: (NonNull<c_void>, usize),
    /// The aligned part of it that is used.
    start: NonNull<u8>,
    len: usize,
}

impl Window {
    /// Addresses for `bytes` bytes, from a multiple of `align` on. Nothing is there yet: see [`show`](Self::show).
    fn reserve(bytes: u64, align: u64) -> io::Result<Self> {
        let (len, align) = (word(bytes)?, word(align)?);
        let whole = len
            .checked_add(align)
            .and_then(NonZeroUsize::new)
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let base = unsafe { mmap_anonymous(None, whole, ProtFlags::PROT_NONE, flags)? };
        let skip = base.addr().get().wrapping_neg() & align.saturating_sub(1);
        // SAFETY: `skip` is below `align`, and that many bytes more than `len` were mapped.
        let start = unsafe { base.cast::<u8>().add(skip) };
        Ok(Self {
            reserved: (base, whole.get()),
            start,
            len,
        })
    }

    /// Shows `bytes` bytes of `file` from `at` on, `behind` bytes behind the start.
    fn show(&mut self, file: &OwnedFd, at: u64, behind: u64, bytes: u64) -> io::Result<()> {
        let (behind, bytes) = (word(behind)?, word(bytes)?);
        let end = behind.checked_add(bytes).filter(|end| *end <= self.len);
        let place = self.start.addr().checked_add(behind);
        let (Some(_), Some(place), Some(bytes)) = (end, place, NonZeroUsize::new(bytes)) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_FIXED;
        // SAFETY: the range lies in what `reserve` mapped, and nobody has a reference into it: this needs `&mut self`.
        unsafe { mmap(Some(place), bytes, rights, flags, file.as_fd(), offset(at)?)? };
        Ok(())
    }

    fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// Has the kernel put memory everywhere, in pages of `page` bytes. Only for a window in which everything is shown: mmap(2) reserved a huge page
    /// for each part of it, so none can be missing now.
    fn touch(&self, page: u64) {
        let page = usize::try_from(page).unwrap_or(usize::MAX).max(1);
        for at in self.bytes().iter().step_by(page) {
            std::hint::black_box(*at);
        }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `len` bytes from `start` on are mapped as long as `self` is there, readable where something is shown; all
        // callers have shown all of it.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; two windows that show the same page are used for different bytes of it.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let (base, len) = self.reserved;
        // SAFETY: exactly what `reserve` mapped; the window is gone, and with it every reference into it.
        let _ = unsafe { munmap(base, len) };
    }
}

/// Where in memory a byte of this process is.
fn address_of(pagemap: &File, at: u64, page: u64) -> io::Result<u64> {
    const PRESENT: u64 = 1 << 63;
    const FRAME: u64 = (1 << 55) - 1;
    let mut entry = [0; 8];
    pagemap.read_exact_at(&mut entry, at.checked_div(page).unwrap_or(0).saturating_mul(8))?;
    let entry = u64::from_le_bytes(entry);
    match entry & FRAME {
        // Without CAP_SYS_ADMIN all frames read as 0.
        0 => Err(io::Error::other("/proc/self/pagemap shows no addresses")),
        _ if entry & PRESENT == 0 => Err(io::Error::other("a page is not in memory")),
        frame => Ok(frame.saturating_mul(page)),
    }
}

fn word(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::OutOfMemory.into())
}

fn offset(value: u64) -> io::Result<i64> {
    i64::try_from(value).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_for_a_page_comes_once_and_those_of_last_time_first() {
        let memory = [Span { start: 1, end: 33 }, Span { start: 64, end: 72 }];
        let order = |first| page_starts(first, &memory, 8).collect::<Vec<_>>();
        assert_eq!(order(0), [8, 16, 24, 32, 64]);
        assert_eq!(order(24), [24, 32, 64, 8, 16]);
        assert_eq!(order(80), [8, 16, 24, 32, 64]);
        let last = [Span {
            start: u64::MAX - 8,
            end: u64::MAX,
        }];
        assert_eq!(page_starts(0, &last, 8).count(), 1);
    }
}
