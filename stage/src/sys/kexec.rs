//! `kexec_load(2)`: the one call no library wraps.
#![expect(
    unsafe_code,
    reason = "kexec_load(2) is a raw system call that takes pointers to the segments; fork(2) has no safe wrapper"
)]

use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

use crate::memory::Span;

/// `KEXEC_SEGMENT_MAX`, include/linux/kexec.h: segments in one `kexec_load`.
pub(crate) const MAX_SEGMENTS: usize = 16;

/// `struct kexec_segment` (include/uapi/linux/kexec.h).
#[repr(C)]
struct RawSegment {
    buf: *const u8,
    bufsz: usize,
    mem: usize,
    memsz: usize,
}

/// Loads `segments`, bytes and where they go, to be entered at `entry` by `reboot(RB_KEXEC)`. The kernel copies them before it returns.
///
/// # Errors
/// The kernel's errno; `EADDRNOTAVAIL` for an address this machine's `usize` can't hold, `EINVAL` for too many segments.
pub(crate) fn load<'a, I: Iterator<Item = (&'a [u8], Span)>>(entry: u64, segments: I) -> Result<(), Errno> {
    let word = |value: u64| usize::try_from(value).map_err(|_| Errno::EADDRNOTAVAIL);
    let mut raw = heapless::Vec::<RawSegment, MAX_SEGMENTS>::new();
    for (bytes, span) in segments {
        let item = RawSegment {
            buf: bytes.as_ptr(),
            bufsz: bytes.len(),
            mem: word(span.start)?,
            memsz: word(span.end.saturating_sub(span.start))?,
        };
        raw.push(item).map_err(|_| Errno::EINVAL)?;
    }
    call(word(entry)?, &raw)
}

/// Drops a loaded image, if there is one.
///
/// # Errors
/// The kernel's errno; `EBUSY` when another caller holds the kexec lock.
pub(crate) fn unload() -> Result<(), Errno> {
    call(0, &[])
}

/// Whether the kernel has the call. Nothing is loaded or counted: the one who asks has given its rights away, and is refused
/// at the first look (`kexec_load_permitted()` of kernel/kexec_core.c). A process that can't be made has no answer.
pub(crate) fn is_there() -> bool {
    const NOBODY: libc::c_ulong = 65_534;
    // SAFETY: the child makes only system calls (no allocation, no locks) and leaves through _exit.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // SAFETY: setresuid(2) takes three plain numbers. The call itself, for this process has one thread.
            let dropped = unsafe { libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY) } == 0;
            let absent = dropped && call(0, &[]) == Err(Errno::ENOSYS);
            // SAFETY: _exit(2) has no preconditions.
            unsafe { libc::_exit(i32::from(absent)) }
        }
        Ok(ForkResult::Parent { child }) => !matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 1))),
        Err(_) => true,
    }
}

fn call(entry: usize, segments: &[RawSegment]) -> Result<(), Errno> {
    let flags: libc::c_ulong = 0; // KEXEC_ARCH_DEFAULT, replaced on reboot
    // SAFETY: every `buf`/`bufsz` pair comes from a live slice that outlives the call, the array and its length
    // belong together, and the kernel only reads from them.
    let result = unsafe { libc::syscall(libc::SYS_kexec_load, entry, segments.len(), segments.as_ptr(), flags) };
    Errno::result(result).map(drop)
}
