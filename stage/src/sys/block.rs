//! Block device ioctls.
#![expect(unsafe_code, reason = "ioctls have no safe wrapper")]

use std::ffi::{c_char, c_int, c_longlong, c_void};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::errno::Errno;

/// include/uapi/linux/blkpg.h, struct blkpg_partition.
#[repr(C)]
struct Partition {
    start: c_longlong,
    length: c_longlong,
    pno: c_int,
    names: [c_char; 128],
}

/// struct blkpg_ioctl_arg.
#[repr(C)]
struct Argument {
    op: c_int,
    flags: c_int,
    datalen: c_int,
    data: *const c_void,
}

mod raw {
    use super::Argument;

    // include/uapi/linux/fs.h: #define BLKROSET _IO(0x12,93), which takes a pointer to an int.
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), libc::c_int);
    // include/uapi/linux/blkpg.h: #define BLKPG _IO(0x12,105), which takes a pointer to the struct.
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), Argument);
}

/// Tells the kernel of a partition of `disk` that it has not found itself; nothing is written to the disk. `start` and
/// `length` are in bytes. Makes system calls only.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN, EBUSY when it overlaps one the kernel has, EINVAL when it does not fit.
pub(crate) fn add_partition(disk: impl AsFd, number: u64, start: u64, length: u64) -> nix::Result<()> {
    const ADD: c_int = 1; // BLKPG_ADD_PARTITION
    let partition = Partition {
        start: start.try_into().map_err(|_| Errno::EINVAL)?,
        length: length.try_into().map_err(|_| Errno::EINVAL)?,
        pno: number.try_into().map_err(|_| Errno::EINVAL)?,
        names: [0; 128],
    };
    let argument = Argument {
        op: ADD,
        flags: 0,
        datalen: c_int::try_from(size_of::<Partition>()).map_err(|_| Errno::EINVAL)?,
        data: (&raw const partition).cast(),
    };
    // SAFETY: the descriptor is open, and the kernel reads one struct behind each pointer; both live until it returns.
    unsafe { raw::blkpg(disk.as_fd().as_raw_fd(), &raw const argument) }.map(drop)
}

/// Makes a device read-only for everybody, mounts included: ext4 then neither replays a journal nor cleans orphans,
/// whatever the mount options say.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN, ENOTTY when it is no block device.
pub(crate) fn set_read_only(device: &File) -> nix::Result<()> {
    let on: c_int = 1;
    // SAFETY: the descriptor is open, and BLKROSET reads one int behind the pointer.
    unsafe { raw::blkroset(device.as_raw_fd(), &raw const on) }.map(drop)
}
