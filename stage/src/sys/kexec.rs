//! `kexec_load(2)`: the one call no library wraps.
#![expect(
    unsafe_code,
    reason = "kexec_load(2) is a raw system call that takes pointers to the segments"
)]

use nix::errno::Errno;

use crate::memory::Span;

/// `KEXEC_SEGMENT_MAX`, include/linux/kexec.h: segments in one `kexec_load`.
pub const MAX_SEGMENTS: usize = 16;

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
pub fn load<'a, I: Iterator<Item = (&'a [u8], Span)>>(entry: u64, segments: I) -> Result<(), Errno> {
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
pub fn unload() -> Result<(), Errno> {
    call(0, &[])
}

fn call(entry: usize, segments: &[RawSegment]) -> Result<(), Errno> {
    let flags: libc::c_ulong = 0; // KEXEC_ARCH_DEFAULT, replaced on reboot
    // SAFETY: every `buf`/`bufsz` pair comes from a live slice that outlives the call, the array and its length
    // belong together, and the kernel only reads from them.
    let result = unsafe { libc::syscall(libc::SYS_kexec_load, entry, segments.len(), segments.as_ptr(), flags) };
    Errno::result(result).map(drop)
}
