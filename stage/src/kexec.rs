//! `Layout` → the main kernel: `kexec_load(2)`, then, when PID 1 confirms, `reboot(RB_KEXEC)`.
//!
//! Given a [`Layout`], which is made of verified things only. Every error says in words what the kernel's errno means
//! here and what to do (order of the kernel's checks: kernel/kexec.c `kexec_load_check`, kernel/kexec_core.c
//! `sanity_check_segment_list`).

use std::fs;
use std::path::Path;

use config::Arch;
use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};

use crate::cause::Cause;
use crate::layout::{Layout, Segment};
use crate::machine::Machine;
use crate::machine::encryption::Encryption;
use crate::sys::kexec;

/// Proof that the kernel holds a loaded image. Only [`load`] makes one, and [`Loaded::jump`] is the only way on.
///
/// Holds the memory of a payload that is in place: given back, it would be used again.
#[derive(Debug)]
pub(crate) struct Loaded {
    resident: Vec<Segment>,
}

/// Why the kernel would not take or start the image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandOffError {
    /// It takes none, whatever it is.
    #[error("{_0}")]
    Refused(#[from] Refusal),
    /// A call failed.
    #[error("{call}: {errno}: {}", explain(*call, *errno))]
    Call {
        /// Which one.
        call: Call,
        /// What it returned.
        errno: Errno,
    },
    /// The call succeeded, but the kernel says that nothing is loaded.
    #[error("kexec_load succeeded, but the kernel says nothing is loaded: this is a bug, please report it")]
    NotLoaded,
    /// Memory the main kernel is to run from moved after it was loaded.
    #[error("the memory of the {part} at {address:#x} {what}, so Cato does not jump")]
    Moved {
        /// Which part.
        part: &'static str,
        /// Where it was.
        address: u64,
        /// What is known of it.
        what: String,
    },
}

impl HandOffError {
    /// Its kind.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Refused(_) => Cause::Refused,
            Self::Call { errno, .. } => match errno {
                Errno::EPERM | Errno::EACCES | Errno::ENOSYS => Cause::Refused,
                Errno::EBUSY => Cause::Busy,
                Errno::ENOMEM => Cause::Memory,
                Errno::EADDRNOTAVAIL | Errno::EINVAL => Cause::Placement,
                _ => Cause::Io,
            },
            Self::NotLoaded => Cause::Crash,
            Self::Moved { .. } => Cause::Memory,
        }
    }
}

/// A system call of the hand-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `kexec_load(2)` with an image.
    Load,
    /// The same without one, which drops what is loaded.
    Unload,
    /// `reboot(RB_KEXEC)`.
    Jump,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Load => "kexec_load",
            Self::Unload => "kexec_load (unload)",
            Self::Jump => "reboot(KEXEC) returned",
        })
    }
}

/// The meaning of an errno of `call`, and what to do about it. Pure.
fn explain(call: Call, errno: Errno) -> &'static str {
    match (call, errno) {
        (_, Errno::EPERM | Errno::EACCES) => {
            "refused by a security module (/sys/kernel/security/lsm names them); \
             its policy must allow the service kernel to load a kernel"
        }
        (Call::Jump, Errno::EINVAL) => "nothing is loaded",
        (Call::Jump | Call::Unload, Errno::EBUSY) => "the kexec lock is held by a call that never returned",
        (_, Errno::EBUSY) => {
            "the kexec lock is held, or CPUs can't be taken offline (spin-table, pKVM); \
             boot the service kernel with nr_cpus=1 and without kvm-arm.mode=protected"
        }
        (_, Errno::EADDRNOTAVAIL) => {
            "an address is not page aligned or out of range: this is a bug in Cato, please report it with the layout above"
        }
        (_, Errno::EINVAL) => {
            "the segments overlap or fill over half of RAM: this is a bug in Cato, please report it with the layout above"
        }
        (_, Errno::ENOMEM) => "not enough free memory for the kernel's copy; use a smaller initrd or more memory",
        (_, Errno::EFAULT) => "the payload's memory went away during the call: this is a bug in Cato, please report it",
        (Call::Jump, _) => "the kernel did not jump",
        _ => "the kernel does not document this error",
    }
}

/// Why no image can be loaded or started from this process, whatever it is. Known before anything is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// ENOSYS.
    #[error("the service kernel has no kexec_load; build it with CONFIG_KEXEC=y")]
    Absent,
    /// EPERM; not so in the initial namespaces.
    #[error("PID 1 has no CAP_SYS_BOOT, which kexec_load needs; run it outside of containers")]
    Unprivileged,
    /// EPERM
    #[error("kexec is disabled (sysctl kernel.kexec_load_disabled is 1); only a reset enables it again")]
    Disabled,
    /// EPERM
    #[error("kexec_load is used up (sysctl kernel.kexec_load_limit_reboot is 0); only a reset allows more")]
    Spent,
    /// EPERM
    #[error(
        "the service kernel is locked down and refuses kexec_load; boot it without lockdown= and without Secure Boot"
    )]
    LockedDown,
    /// EBUSY on arm64: `cpus_are_stuck_in_kernel()` of arch/arm64/kernel/smp.c.
    #[error(
        "no CPU of this machine can be taken offline, so the service kernel refuses kexec_load; boot it with nr_cpus=1"
    )]
    StuckCpus,
    /// No error of the kernel's: what runs between the kernels would read ciphertext, or fault.
    #[error(
        "this is a virtual machine whose memory is encrypted ({_0}), and the purgatory can't run in it; let its firmware boot the main kernel"
    )]
    Encrypted(&'static str),
}

impl Refusal {
    /// The one that holds in the system whose `proc` and `sys` are under `root`, in the order in which the kernel looks
    /// (`kexec_load_check()` of kernel/kexec.c); what can't be read refuses nothing.
    fn find(root: &Path, arch: Option<Arch>) -> Option<Self> {
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let is = |path: &str, value: &str| text(path).is_some_and(|text| text.trim() == value);
        let kernel = root.join("sys/kernel");
        let has_core = kernel.join("kexec_loaded").exists() || kernel.join("kexec").exists();
        if kernel.exists() && !has_core {
            Some(Self::Absent)
        } else if text("proc/self/status").is_some_and(|status| !may_boot(&status)) {
            Some(Self::Unprivileged)
        } else if is("proc/sys/kernel/kexec_load_disabled", "1") {
            Some(Self::Disabled)
        } else if is("proc/sys/kernel/kexec_load_limit_reboot", "0") {
            Some(Self::Spent)
        } else if text("sys/kernel/security/lockdown").is_some_and(|modes| is_locked(&modes)) {
            Some(Self::LockedDown)
        } else if arch == Some(Arch::Arm64) && are_stuck(&root.join("sys/devices/system/cpu")) {
            Some(Self::StuckCpus)
        } else {
            None
        }
    }
}

/// Whether the text of `lockdown` has a mode in force; each rules kexec_load out (`LOCKDOWN_KEXEC`).
fn is_locked(modes: &str) -> bool {
    modes.contains("[integrity]") || modes.contains("[confidentiality]")
}

/// Whether the text of `/proc/self/status` has `CAP_SYS_BOOT` (bit 22) among the effective capabilities.
fn may_boot(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    bits.is_none_or(|bits| bits & 1 << 22 != 0)
}

/// Whether an arm64 kernel with several CPUs can stop none of them: then none of their folders in `cpus` has a switch.
fn are_stuck(cpus: &Path) -> bool {
    let several = fs::read_to_string(cpus.join("possible")).is_ok_and(|list| list.trim() != "0");
    let mut folders = fs::read_dir(cpus).into_iter().flatten().flatten();
    several && !folders.any(|cpu| cpu.path().join("online").exists())
}

/// Whether the service kernel takes an image from this process at all.
///
/// # Errors
/// [`HandOffError::Refused`] with what is in the way.
pub(crate) fn may_load(root: &Path) -> Result<(), HandOffError> {
    match Refusal::find(root, Arch::running()) {
        Some(refusal) => Err(refusal.into()),
        None if !kexec::is_there() => Err(Refusal::Absent.into()),
        None => Ok(()),
    }
}

/// Whether the purgatory can run on that machine.
///
/// # Errors
/// [`HandOffError::Refused`]
pub(crate) fn may_run(machine: &Machine) -> Result<(), HandOffError> {
    match machine.encryption {
        Some(Encryption::Guest(name)) => Err(Refusal::Encrypted(name).into()),
        _ => Ok(()),
    }
}

/// Gives `layout` to the kernel.
///
/// # Errors
/// [`HandOffError`]
pub(crate) fn load(layout: Layout) -> Result<Loaded, HandOffError> {
    let copied = layout.copied().map(|segment| (&*segment.bytes, segment.mem));
    kexec::load(layout.entry(), copied).map_err(|errno| HandOffError::Call {
        call: Call::Load,
        errno,
    })?;
    if is_loaded() {
        Ok(Loaded {
            resident: layout.into_resident(),
        })
    } else {
        Err(HandOffError::NotLoaded)
    }
}

/// Drops what is loaded, if anything is.
///
/// # Errors
/// [`HandOffError::Call`] when something is, and stays.
pub(crate) fn unload() -> Result<(), HandOffError> {
    match kexec::unload() {
        // No kexec in the service kernel: nothing is loaded either.
        Ok(()) | Err(Errno::ENOSYS) => Ok(()),
        // kexec is not allowed, so nothing could be loaded; the kernel itself says whether that is so.
        Err(Errno::EPERM | Errno::EACCES) if !is_loaded() => Ok(()),
        Err(errno) => Err(HandOffError::Call {
            call: Call::Unload,
            errno,
        }),
    }
}

/// Whether the kernel holds an image; a kernel that does not say may hold one.
fn is_loaded() -> bool {
    fs::read_to_string("/sys/kernel/kexec_loaded").map_or(true, |text| text.trim() != "0")
}

impl Loaded {
    /// Brings the hand-over record up to date, where that is still possible: in place.
    pub(crate) fn rewrite_record(&mut self, bytes: &[u8]) {
        for segment in &mut self.resident {
            // A segment without a record takes none.
            let _ = segment.rewrite_record(bytes);
        }
    }

    /// Leaves for the main kernel. No `sync(2)`: it hangs with any stuck disk, and nothing of ours is dirty.
    ///
    /// # Errors
    /// Returns only when the kernel did not leave, or must not.
    pub(crate) fn jump(self) -> Result<std::convert::Infallible, HandOffError> {
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
        reboot(RebootMode::RB_KEXEC).map_err(|errno| HandOffError::Call {
            call: Call::Jump,
            errno,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: [(&str, &str); 6] = [
        ("sys/kernel/kexec_loaded", "0\n"),
        ("proc/self/status", "Name:\tcato\nCapEff:\t000001ffffffffff\n"),
        ("proc/sys/kernel/kexec_load_disabled", "0\n"),
        ("proc/sys/kernel/kexec_load_limit_reboot", "-1\n"),
        ("sys/kernel/security/lockdown", "[none] integrity confidentiality\n"),
        ("sys/devices/system/cpu/possible", "0\n"),
    ];

    /// A system that allows all of it, but for these files.
    fn system(changes: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in ALLOWED.iter().chain(changes) {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(root: &tempfile::TempDir) -> Option<Refusal> {
        Refusal::find(root.path(), Some(Arch::Arm64))
    }

    #[test]
    fn a_virtual_machine_whose_memory_is_encrypted_is_refused_by_name() {
        let mut machine = crate::load::fakes::machine(Arch::X86_64);
        assert!(may_run(&machine).is_ok());
        machine.encryption = Some(Encryption::Own);
        assert!(may_run(&machine).is_ok());
        machine.encryption = Some(Encryption::Guest("SEV-SNP"));
        let error = may_run(&machine).unwrap_err();
        assert_eq!(error.cause(), Cause::Refused);
        assert!(error.to_string().contains("(SEV-SNP)"), "{error}");
    }

    #[test]
    fn each_refusal_is_known_before_anything_is_read() {
        assert_eq!(found(&system(&[])), None);
        let status = "Name:\tcato\nCapEff:\t000001ffffbfffff\n";
        for (path, text, refusal) in [
            ("proc/self/status", status, Refusal::Unprivileged),
            ("proc/sys/kernel/kexec_load_disabled", "1\n", Refusal::Disabled),
            ("proc/sys/kernel/kexec_load_limit_reboot", "0\n", Refusal::Spent),
            (
                "sys/kernel/security/lockdown",
                "none [integrity] confidentiality\n",
                Refusal::LockedDown,
            ),
            (
                "sys/kernel/security/lockdown",
                "none integrity [confidentiality]\n",
                Refusal::LockedDown,
            ),
            ("sys/devices/system/cpu/possible", "0-3\n", Refusal::StuckCpus),
        ] {
            assert_eq!(found(&system(&[(path, text)])), Some(refusal), "{path}: {text}");
        }
        let root = system(&[]);
        fs::remove_file(root.path().join("sys/kernel/kexec_loaded")).unwrap();
        assert_eq!(found(&root), Some(Refusal::Absent));
        fs::create_dir(root.path().join("sys/kernel/kexec")).unwrap();
        assert_eq!(found(&root), None, "where newer kernels say it");
    }

    #[test]
    fn what_can_not_be_read_refuses_nothing() {
        assert_eq!(found(&tempfile::tempdir().unwrap()), None);
        let old = system(&[]);
        for (path, _) in &ALLOWED[1..] {
            fs::remove_file(old.path().join(path)).unwrap();
        }
        assert_eq!(found(&old), None);
    }

    #[test]
    fn cpus_with_a_switch_are_not_stuck_and_x86_64_stops_them_by_itself() {
        let cpus = [
            ("sys/devices/system/cpu/possible", "0-1\n"),
            ("sys/devices/system/cpu/cpu0/topology", ""),
        ];
        let root = system(&cpus);
        assert_eq!(found(&root), Some(Refusal::StuckCpus));
        assert_eq!(Refusal::find(root.path(), Some(Arch::X86_64)), None);
        fs::write(root.path().join("sys/devices/system/cpu/cpu0/online"), "1\n").unwrap();
        assert_eq!(found(&root), None);
    }

    #[test]
    fn every_failure_has_its_kind() {
        let call = |call, errno| HandOffError::Call { call, errno };
        let moved = HandOffError::Moved {
            part: "kernel",
            address: 0,
            what: String::new(),
        };
        for (error, cause) in [
            (HandOffError::Refused(Refusal::Spent), Cause::Refused),
            (call(Call::Load, Errno::EPERM), Cause::Refused),
            (call(Call::Load, Errno::EACCES), Cause::Refused),
            (call(Call::Load, Errno::ENOSYS), Cause::Refused),
            (call(Call::Load, Errno::EBUSY), Cause::Busy),
            (call(Call::Unload, Errno::EBUSY), Cause::Busy),
            (call(Call::Load, Errno::ENOMEM), Cause::Memory),
            (call(Call::Load, Errno::EINVAL), Cause::Placement),
            (call(Call::Load, Errno::EADDRNOTAVAIL), Cause::Placement),
            (call(Call::Jump, Errno::EIO), Cause::Io),
            (HandOffError::NotLoaded, Cause::Crash),
            (moved, Cause::Memory),
        ] {
            assert_eq!(error.cause(), cause, "{error}");
        }
    }

    #[test]
    fn this_kernel_is_asked_without_harm() {
        // Whether it has the call or not: the question neither needs rights nor loads anything.
        let _ = kexec::is_there();
    }
}
