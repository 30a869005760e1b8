//! Block device ioctls.
#![expect(unsafe_code, reason = "ioctls have no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd as _;

mod raw {
    // include/uapi/linux/fs.h: #define BLKROSET _IO(0x12,93), which takes a pointer to an int.
    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), libc::c_int);
}

/// Makes a device read-only for everybody, mounts included: ext4 then neither replays a journal nor cleans orphans,
/// whatever the mount options say.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN, ENOTTY when it is no block device.
pub fn set_read_only(device: &File) -> nix::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and BLKROSET reads one int behind the pointer.
    unsafe { raw::blkroset(device.as_raw_fd(), &raw const on) }.map(drop)
}
