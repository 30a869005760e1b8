//! `Layout` → the main kernel: `kexec_load(2)`, then, on PID 1's word, `reboot(RB_KEXEC)`.
//!
//! Given a [`Layout`], which is made of verified things only. Every error says in words what the kernel's errno means
//! here and what to do (order of the kernel's checks: kernel/kexec.c `kexec_load_check`, kernel/kexec_core.c
//! `sanity_check_segment_list`).

use std::fs;

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};

use crate::layout::{Layout, Segment};
use crate::sys::kexec;

/// Proof that the kernel holds a loaded image. Only [`load`] makes one, and [`Loaded::jump`] is the only way on.
///
/// Holds the memory of a payload that is in place: given back, it would be used again.
#[derive(Debug)]
pub struct Loaded {
    resident: Vec<Segment>,
}

/// Why the kernel would not take or start the image.
#[derive(Debug, thiserror::Error)]
pub enum HandOffError {
    /// `kexec_load` failed.
    #[error("kexec_load: {errno}: {words}")]
    Load {
        /// What it returned.
        errno: Errno,
        /// What that means.
        words: &'static str,
    },
    /// The call succeeded, but the kernel says that nothing is loaded.
    #[error("kexec_load said yes, but the kernel says nothing is loaded")]
    NotLoaded,
    /// Memory the main kernel is to run from moved after it was loaded.
    #[error("the memory of the {part} at {address:#x} {what}, so nothing may be started in it")]
    Moved {
        /// Which part.
        part: &'static str,
        /// Where it was.
        address: u64,
        /// What is known of it.
        what: String,
    },
    /// `reboot(RB_KEXEC)` came back.
    #[error("reboot(KEXEC) came back: {errno}: {words}")]
    Jump {
        /// What it returned.
        errno: Errno,
        /// What that means.
        words: &'static str,
    },
}

/// What the running system says about kexec, for [`explain_load`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// `/proc/sys/kernel/kexec_load_disabled`
    pub disabled: bool,
    /// `/proc/sys/kernel/kexec_load_limit_reboot` is 0.
    pub spent: bool,
    /// `/sys/kernel/security/lockdown` is not `[none]`.
    pub lockdown: bool,
}

impl Limits {
    /// Reads them; what can't be read does not limit.
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let lockdown = text("/sys/kernel/security/lockdown");
        Self {
            disabled: text("/proc/sys/kernel/kexec_load_disabled").trim() == "1",
            spent: text("/proc/sys/kernel/kexec_load_limit_reboot").trim() == "0",
            lockdown: !lockdown.is_empty() && !lockdown.contains("[none]"),
        }
    }
}

/// The meaning of an errno of `kexec_load`, and what to do about it. Pure.
pub fn explain_load(errno: Errno, limits: &Limits) -> &'static str {
    match errno {
        Errno::EPERM if limits.disabled => {
            "switched off by sysctl kernel.kexec_load_disabled; only a reset brings it back"
        }
        Errno::EPERM if limits.spent => "sysctl kernel.kexec_load_limit_reboot is used up; only a reset brings it back",
        Errno::EPERM if limits.lockdown => {
            "the service kernel is locked down; boot it without lockdown= and Secure Boot lockdown"
        }
        Errno::EPERM => "not allowed; Cato must be PID 1 of the initial namespaces, with CAP_SYS_BOOT",
        Errno::EACCES => {
            "refused by a security module (IMA, SELinux); the service kernel's policy must allow kexec_load"
        }
        Errno::ENOSYS => "the service kernel has no kexec_load; build it with CONFIG_KEXEC=y",
        Errno::EBUSY => {
            "the kexec lock is taken, or CPUs can't be taken offline (spin-table, pKVM); \
             boot the service kernel with nr_cpus=1 and without kvm-arm.mode=protected"
        }
        Errno::EADDRNOTAVAIL => {
            "an address is not page aligned or out of range: a bug of Cato, please report the layout above"
        }
        Errno::EINVAL => {
            "the kernel refuses the segments (overlap, or over half of RAM): a bug of Cato, please report the layout above"
        }
        Errno::ENOMEM => "not enough free memory for the kernel's copy; give the box more RAM or a smaller initrd",
        Errno::EFAULT => "the payload's memory went away during the call: a bug of Cato",
        _ => "an answer the kernel does not document for this call",
    }
}

/// The meaning of an errno of `reboot(RB_KEXEC)`. Pure.
pub fn explain_jump(errno: Errno) -> &'static str {
    match errno {
        Errno::EINVAL => "nothing is loaded",
        Errno::EBUSY => "the kexec lock is taken by a call that never ended",
        Errno::EPERM => "not allowed; Cato must be in the initial PID namespace, with CAP_SYS_BOOT",
        _ => "the kernel could not leave",
    }
}

/// Gives `layout` to the kernel.
///
/// # Errors
/// [`HandOffError::Load`] with the errno in words, [`HandOffError::NotLoaded`].
pub fn load(layout: Layout) -> Result<Loaded, HandOffError> {
    let copied = layout.copied().map(|segment| (&*segment.bytes, segment.mem));
    kexec::load(layout.entry(), copied).map_err(|errno| HandOffError::Load {
        errno,
        words: explain_load(errno, &Limits::read()),
    })?;
    if is_loaded() {
        Ok(Loaded {
            resident: layout.into_resident(),
        })
    } else {
        Err(HandOffError::NotLoaded)
    }
}

/// Whether the kernel holds an image; a kernel that does not say may hold one.
pub fn is_loaded() -> bool {
    fs::read_to_string("/sys/kernel/kexec_loaded").map_or(true, |text| text.trim() != "0")
}

impl Loaded {
    /// Brings the hand-over record up to date, where that is still possible: in place.
    pub fn rewrite_record(&mut self, bytes: &[u8]) {
        for segment in &mut self.resident {
            // A segment without a record takes none.
            let _ = segment.rewrite_record(bytes);
        }
    }

    /// Leaves for the main kernel. No `sync(2)`: it hangs with any stuck disk, and nothing of ours is dirty.
    ///
    /// # Errors
    /// Returns only when the kernel did not leave, or must not.
    pub fn jump(self) -> Result<std::convert::Infallible, HandOffError> {
        for segment in &self.resident {
            let moved = |what| HandOffError::Moved {
                part: segment.name,
                address: segment.mem.start,
                what,
            };
            match segment.bytes.is_still_there() {
                Ok(true) => {}
                Ok(false) => return Err(moved("has moved".to_owned())),
                Err(error) => return Err(moved(format!("can't be found again ({error})"))),
            }
        }
        reboot(RebootMode::RB_KEXEC).map_err(|errno| HandOffError::Jump {
            errno,
            words: explain_jump(errno),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_of_eperm_are_told_apart() {
        let all = [
            Limits {
                disabled: true,
                ..Limits::default()
            },
            Limits {
                spent: true,
                ..Limits::default()
            },
            Limits {
                lockdown: true,
                ..Limits::default()
            },
            Limits::default(),
        ];
        let texts: std::collections::BTreeSet<_> = all.iter().map(|l| explain_load(Errno::EPERM, l)).collect();
        assert_eq!(texts.len(), all.len());
    }
}
