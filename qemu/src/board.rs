//! What differs between the two machines, in one table.

use config::Arch;

/// QEMU's side of one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Board {
    /// The instruction set.
    pub arch: Arch,
    /// QEMU's program.
    pub qemu: &'static str,
    /// `-M` when nothing else is asked for.
    pub machine: &'static str,
    /// `-cpu` when nothing else is asked for.
    pub cpu: &'static str,
    /// Kernel parameters that bring the console up, from the kernel's first line on: without an early console
    /// the main kernel is mute for its first second (design T13).
    pub console: &'static str,
    /// UEFI firmware as one file with its variables in it.
    pub uefi: &'static str,
    /// U-Boot for `-bios`, where Debian has one for this machine.
    pub u_boot: Option<&'static str>,
    /// Debian's name of the architecture.
    pub debian: &'static str,
}

/// The board of an architecture.
pub fn board(arch: Arch) -> &'static Board {
    match arch {
        Arch::Arm64 => &ARM64,
        Arch::X86_64 => &X86_64,
    }
}

static ARM64: Board = Board {
    arch: Arch::Arm64,
    qemu: "qemu-system-aarch64",
    // What the reference measurements were taken on. GICv3 with its ITS is a scenario of its own (design T4).
    machine: "virt,gic-version=2",
    // Not `max`: that one makes 6.12's kexec_load oops (design T3), which is a scenario of its own.
    cpu: "cortex-a72",
    console: "console=ttyAMA0 earlycon",
    uefi: "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd",
    u_boot: Some("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
    debian: "arm64",
};

static X86_64: Board = Board {
    arch: Arch::X86_64,
    qemu: "qemu-system-x86_64",
    machine: "q35",
    cpu: "max",
    console: "console=ttyS0,115200 earlyprintk=serial,ttyS0,115200",
    uefi: "/usr/share/ovmf/OVMF.fd",
    u_boot: None,
    debian: "amd64",
};
