//! What is packed without being named: the buses, disks and file systems that Cato boots from, and what file systems take
//! besides their dependencies.

/// What is packed when no names are given: the buses, disks and file systems that Cato boots from. Those that a kernel
/// doesn't have, or has built in, are left out.
pub(super) const DEFAULTS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "ahci",
    "ahci_platform",
    "sd_mod",
    "xhci_pci",
    "xhci_pci_renesas",
    "xhci_plat_hcd",
    "ehci_pci",
    "ehci_platform",
    "usb_storage",
    "uas",
    "mmc_block",
    "sdhci",
    "sdhci_pci",
    "sdhci_acpi",
    "sdhci_iproc",
    "sdhci_brcmstb",
    "sdhci_cadence",
    "sdhci_msm",
    "sdhci_of_arasan",
    "sdhci_of_dwcmshc",
    "sdhci_of_esdhc",
    "sdhci_esdhc_imx",
    "sdhci_tegra",
    "sdhci_xenon_driver",
    "bcm2835",
    "dw_mmc_pltfm",
    "dw_mmc_rockchip",
    "dw_mmc_k3",
    "dw_mmc_pci",
    "meson_gx_mmc",
    "mmci",
    "mtk_sd",
    "sunxi_mmc",
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "exfat",
    "squashfs",
    "erofs",
];

/// What is packed whatever names are given: nobody who names the drivers of a disk means to do without. As above.
pub(super) const ALWAYS: &[&str] = &[
    // Watchdogs that a device asks for and that go on running across kexec.
    "iTCO_wdt",
    "lpc_ich",
    "i2c_i801",
    "sp5100_tco",
    "hpwdt",
    "i6300esb",
    "wdat_wdt",
    "arm_smc_wdt",
    "armada_37xx_wdt",
    "bcm2835_wdt",
    "dw_wdt",
    "gpio_wdt",
    "imx2_wdt",
    "meson_gxbb_wdt",
    "meson_wdt",
    "mtk_wdt",
    "qcom_wdt",
    "rti_wdt",
    "sbsa_gwdt",
    "sl28cpld_wdt",
    "sp805_wdt",
    "sunxi_wdt",
    // What earlier kernels said as they died.
    "ramoops",
];

/// Drivers of what else is on the chip that an iTCO_wdt finds itself on: the platform device is theirs.
pub(super) const WATCHDOG_PARENTS: &[&str] = &["lpc_ich", "i2c_i801"];

/// What a file system takes that no `.modinfo` says.
#[derive(Debug)]
pub(super) struct FileSystem {
    name: &'static str,
    /// What it asks for by name when it is mounted, through a modprobe that is not there (T12 in the design).
    pub(super) at_mount: &'static [&'static str],
    /// What replays its journal on a snapshot after a power cut: packed too, but nothing waits for it.
    pub(super) for_replay: &'static [&'static str],
}

/// A snapshot of a disk, and the memory that its changes are kept in.
const SNAPSHOT: &[&str] = &["dm_snapshot", "loop"];

const fn with_journal(name: &'static str) -> FileSystem {
    FileSystem {
        name,
        at_mount: &[],
        for_replay: SNAPSHOT,
    }
}

static FILE_SYSTEMS: [FileSystem; 4] = [
    FileSystem {
        name: "vfat",
        // Its default code page and character set, and those that a kernel is often configured for.
        at_mount: &["nls_cp437", "nls_ascii", "nls_iso8859_1", "nls_utf8"],
        for_replay: &[],
    },
    with_journal("ext4"),
    with_journal("xfs"),
    with_journal("btrfs"),
];

/// What is known of a module that is a file system.
pub(super) fn file_system(module: &str) -> Option<&'static FileSystem> {
    FILE_SYSTEMS.iter().find(|fs| fs.name == module)
}
