//! Device-mapper snapshots: a block device that can be written to while the one below stays as it is.
//!
//! What is written goes to a store in memory (memfd and loop device) and is gone with the last user: the mapping is removed
//! when it is closed for the last time, its loop device with it, and the memory with that. So a worker that is killed
//! leaves nothing behind but what it has mounted.
#![expect(unsafe_code, reason = "ioctls have no safe wrapper")]

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::mem::size_of;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::libc::c_int;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::minor;
use nix::sys::sysinfo::sysinfo;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// include/uapi/linux/dm-ioctl.h: struct dm_ioctl.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    unused: [u8; 7],
}

/// The header, one struct dm_target_spec, and its parameters.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Request {
    header: Header,
    sector: u64,
    length: u64,
    status: i32,
    next: u32,
    target: [u8; 16],
    text: [u8; 160],
}

/// include/uapi/linux/loop.h: struct loop_config with its struct loop_info64.
#[derive(Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LoopConfig {
    file: u32,
    block_size: u32,
    ids: [u64; 3],
    offset: u64,
    size_limit: u64,
    number_and_cipher: [u32; 3],
    flags: u32,
    names_and_key: [u8; 160],
    init: [u64; 2],
    reserved: [u64; 8],
}

// As the kernel's headers make them, which the numbers of the calls rest on.
const _: () = assert!(size_of::<Header>() == 312 && size_of::<LoopConfig>() == 304);
const _: () = assert!(size_of::<Request>() == 312 + 40 + 160);

/// Of this process.
static MADE: AtomicU32 = AtomicU32::new(0);

const LO_FLAGS_AUTOCLEAR: u32 = 4;
const DM_DEFERRED_REMOVE: u32 = 1 << 17;
/// Bytes in a sector, whatever the disk says.
const SECTOR: u64 = 512;
/// Sectors in a chunk, the unit that is copied before it is changed: a block of most file systems, and the largest
/// sector of a disk.
const CHUNK: u64 = 8;

mod raw {
    use super::{Header, LoopConfig};
    nix::ioctl_none_bad!(loop_ctl_get_free, 0x4C82);
    nix::ioctl_write_ptr_bad!(loop_configure, 0x4C0A, LoopConfig);
    nix::ioctl_readwrite!(dev_create, 0xFD, 3, Header);
    nix::ioctl_readwrite!(dev_remove, 0xFD, 4, Header);
    nix::ioctl_readwrite!(dev_suspend, 0xFD, 6, Header);
    nix::ioctl_readwrite!(table_load, 0xFD, 9, Header);
    nix::ioctl_readwrite!(table_status, 0xFD, 12, Header);
}

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub(crate) struct SnapshotError {
    what: &'static str,
    cause: io::Error,
}

fn doing<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> SnapshotError {
    move |cause| SnapshotError {
        what,
        cause: cause.into(),
    }
}

/// A snapshot of a block device. Dropped, it stays as long as it is mounted.
#[derive(Debug)]
pub(crate) struct Snapshot {
    control: File,
    name: String,
    device: PathBuf,
    /// Keeps it there until it is mounted.
    _open: File,
}

impl Snapshot {
    /// A snapshot of `origin`. Its changes take at most half of the free memory; when that is full every further read and
    /// write fails.
    ///
    /// # Errors
    /// What the kernel says, and to which step. `ENOENT` for a file in `/dev`: the kernel has no such driver.
    pub(crate) fn of(origin: &Path) -> Result<Self, SnapshotError> {
        let room = sysinfo().map_err(doing("free memory"))?.ram_unused() / 2;
        let length = File::open(origin).and_then(|mut f| f.seek(SeekFrom::End(0)));
        let length = length.map_err(doing("size of the disk"))? / SECTOR;
        let (store, _held) = memory(room).map_err(doing("loop device"))?;
        // The last one may not be gone yet.
        let name = format!("cato-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let control = File::options().read(true).write(true).open("/dev/mapper/control");
        let control = control.map_err(doing("/dev/mapper/control"))?;
        let create = call(&control, raw::dev_create, &mut request(&name)).map_err(doing("device-mapper"))?;
        let device = PathBuf::from(format!("/dev/dm-{}", minor(create)));
        let made = Self::fill(
            &control,
            &name,
            &device,
            length,
            &format!("{} {store} N {CHUNK}", origin.display()),
        );
        // In use it is removed later, else at once.
        let mut remove = request(&name);
        remove.header.flags = DM_DEFERRED_REMOVE;
        let removed = call(&control, raw::dev_remove, &mut remove).map_err(doing("device-mapper"));
        let open = made?;
        removed?;
        Ok(Self {
            control,
            name,
            device,
            _open: open,
        })
    }

    fn fill(control: &File, name: &str, device: &Path, length: u64, parameters: &str) -> Result<File, SnapshotError> {
        let mut load = request(name);
        load.header.target_count = 1;
        load.length = length;
        put(&mut load.target, "snapshot");
        put(&mut load.text, parameters);
        call(control, raw::table_load, &mut load).map_err(doing("snapshot target"))?;
        // Without the flag that suspends, this is the call that resumes.
        call(control, raw::dev_suspend, &mut request(name)).map_err(doing("snapshot"))?;
        File::open(device).map_err(doing("snapshot"))
    }

    /// Its file in `/dev`.
    pub(crate) fn device(&self) -> &Path {
        &self.device
    }

    /// Whether its memory was not enough.
    pub(crate) fn is_full(&self) -> bool {
        let mut status = request(&self.name);
        // Documentation/admin-guide/device-mapper/snapshot.rst: Invalid or Overflow, else sectors.
        call(&self.control, raw::table_status, &mut status).is_ok()
            && (status.text.starts_with(b"Invalid") || status.text.starts_with(b"Overflow"))
    }
}

/// A loop device over memory, and what keeps it until somebody else has opened it.
fn memory(size: u64) -> io::Result<(String, File)> {
    let memory = File::from(memfd_create(c"cato", MFdFlags::MFD_CLOEXEC)?);
    memory.set_len(size & !0xFFFF)?;
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    // SAFETY: the descriptor is open, and the call takes no argument.
    let number = unsafe { raw::loop_ctl_get_free(control.as_raw_fd()) }?;
    let path = format!("/dev/loop{number}");
    let device = File::options().read(true).write(true).open(&path)?;
    let mut config = LoopConfig::new_zeroed();
    config.file = u32::try_from(memory.as_raw_fd()).unwrap_or(u32::MAX);
    config.flags = LO_FLAGS_AUTOCLEAR;
    // SAFETY: the descriptor is open, and the kernel reads one LoopConfig behind the pointer.
    unsafe { raw::loop_configure(device.as_raw_fd(), &raw const config) }?;
    Ok((path, device))
}

/// A request about the mapping of that name.
fn request(name: &str) -> Request {
    let mut request = Request::new_zeroed();
    request.header.version = [4, 0, 0];
    request.header.data_size = u32::try_from(size_of::<Request>()).unwrap_or(0);
    request.header.data_start = u32::try_from(size_of::<Header>()).unwrap_or(0);
    put(&mut request.header.name, name);
    request
}

/// Copies what fits and leaves a zero behind it.
fn put(to: &mut [u8], text: &str) {
    let end = to.len().saturating_sub(1);
    for (to, from) in to.iter_mut().take(end).zip(text.bytes()) {
        *to = from;
    }
}

type Ioctl = unsafe fn(c_int, *mut Header) -> nix::Result<c_int>;

/// Makes the call and gives the number of its device.
fn call(control: &File, ioctl: Ioctl, request: &mut Request) -> nix::Result<u64> {
    let header = (&raw mut *request).cast();
    // SAFETY: the descriptor is open; the kernel reads and writes `data_size` bytes, which is all of the request.
    unsafe { ioctl(control.as_raw_fd(), header) }?;
    Ok(request.header.device)
}
