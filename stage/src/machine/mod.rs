//! What the placement needs to know of the machine, as plain data: read by `probe::machine`, made up by tests.

mod console;
pub(crate) mod encryption;
mod files;
mod identity;
mod read;
pub(crate) mod record;
mod reset;
pub mod service;

use std::fmt;

use config::{Arch, ReasonStore};
pub use purgatory::{Conduit, UartKind};

use crate::memory::MemoryMap;
#[cfg(feature = "fuzz")]
pub(crate) use files::Files;
pub(crate) use identity::identity;
#[cfg(feature = "fuzz")]
pub(crate) use read::read;
pub(crate) use read::{MachineError, page_size, running};
pub(crate) use reset::{LastReset, last_reset, last_words};

/// The running machine.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// Its instruction set.
    pub arch: Arch,
    /// Its memory.
    pub memory: MemoryMap,
    /// The service kernel's page size in bytes: `kexec_load`'s granule.
    pub page_size: u64,
    /// Page sizes the CPU can use, bytes (arm64: a subset of 4, 16, 64 KiB; from the CPU where it can be known).
    pub granules: Vec<u64>,
    /// x86_64: the service kernel runs with 5-level paging.
    pub la57: bool,
    /// x86_64: `/sys/kernel/boot_params/data`.
    pub boot_params: Option<Vec<u8>>,
    /// x86_64: the ACPI root pointer, when it is known (`boot_params`, else EFI's table).
    pub rsdp: Option<u64>,
    /// x86_64: what the main kernel needs to go on with EFI.
    pub efi: Option<EfiInfo>,
    /// arm64: `/sys/firmware/fdt`.
    pub fdt: Option<Vec<u8>>,
    /// How the firmware is called (arm64).
    pub psci: Option<Conduit>,
    /// The service kernel's console, when the purgatory can drive it.
    pub uart: Option<Uart>,
    /// Where the purgatory leaves why it resets the machine: a page outside of System RAM, or a byte this machine has.
    pub reason: Option<ReasonStore>,
    /// Fresh random bytes for the main kernel: `kaslr-seed` 8, `rng-seed` up to 128.
    pub seed: Option<Box<[u8; 136]>>,
    /// Ticks of the counter (CNTVCT or TSC) in a millisecond, where they are known.
    pub ticks_per_ms: Option<u64>,
    /// `/proc/cmdline`: the service kernel's command line, without its newline.
    pub cmdline: String,
    /// Bytes of huge pages that the service kernel was started with and that are free: no part of its free memory.
    pub huge_pages: u64,
    /// Whether memory is encrypted, and by whom.
    pub encryption: Option<encryption::Encryption>,
    /// arm64: the interrupt controller may still be writing to LPI tables that nobody can see, so that nothing may be
    /// placed (GICv3 with ITS, no EFI, and no `irqchip.gicv3_nolpi=1` on the service command line).
    pub live_lpis: bool,
}

impl Machine {
    /// What it lacks that can be gone without.
    pub(crate) fn notes(&self) -> impl Iterator<Item = Note> {
        let no_reset = self.arch == Arch::Arm64 && self.psci.is_none();
        no_reset.then_some(Note::NoPsci).into_iter()
    }
}

/// Something about a machine that is not an error, and is worth to be known when it does not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Note {
    /// Neither device tree nor ACPI says how PSCI is called.
    NoPsci,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPsci => f.write_str(
                "no PSCI in device tree or ACPI: if the check before the jump fails, only a watchdog can reset this machine",
            ),
        }
    }
}

/// `/sys/firmware/efi` for the main kernel's `efi_info` and `SETUP_EFI` node (x86_64).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EfiInfo {
    /// `fw_vendor`.
    pub fw_vendor: u64,
    /// `config_table`.
    pub config_table: u64,
    /// `SMBIOS=` of `systab`, or 0.
    pub smbios: u64,
    /// EFI system table, from the running `boot_params`.
    pub systab: u64,
    /// `runtime-map`: type, physical, virtual, pages, attribute.
    pub runtime: Vec<[u64; 5]>,
}

/// A UART the purgatory can print on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uart {
    /// Which registers it has.
    pub kind: UartKind,
    /// Port number or physical address.
    pub base: u64,
    /// Registers are `1 << reg_shift` bytes apart.
    pub reg_shift: u32,
}
