//! Who is compared. Pure.

use std::fmt;

/// A way from power to the main system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// The boot loader loads the main system itself: U-Boot on arm64, systemd-boot on x86_64.
    Direct,
    /// It loads Debian's kernel and Cato's initramfs with its modules.
    CatoDebian,
    /// It loads the kernel made for the job and Cato's initramfs.
    CatoTuned,
    /// The same in one file: a FIT for U-Boot, a UKI for UEFI.
    CatoTunedImage,
    /// It loads the kernel made for the job and an initramfs with kexec-tools and a shell script, which checks nothing.
    KexecToolsTuned,
}

impl Way {
    /// All, in the order they take turns.
    pub const ALL: [Self; 5] = [
        Self::Direct,
        Self::CatoDebian,
        Self::CatoTuned,
        Self::CatoTunedImage,
        Self::KexecToolsTuned,
    ];

    /// The key in `--json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::CatoDebian => "cato_debian",
            Self::CatoTuned => "cato_tuned",
            Self::CatoTunedImage => "cato_tuned_image",
            Self::KexecToolsTuned => "kexec_tools_tuned",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::CatoDebian => "cato, Debian's kernel",
            Self::CatoTuned => "cato, its kernel",
            Self::CatoTunedImage => "cato, its kernel, one file",
            Self::KexecToolsTuned => "kexec-tools unchecked, its kernel",
        })
    }
}
