//! A drive of a machine: its image, its bus, its devices. Pure.

use std::fmt;
use std::path::PathBuf;

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bus {
    /// virtio-blk on PCI.
    Virtio,
    /// An NVMe namespace.
    Nvme,
    /// A SATA disk on an AHCI controller.
    Ahci,
    /// A USB stick on an xHCI controller.
    Usb,
    /// An SD card in an SDHCI slot on PCI. Its size must be a power of two.
    Sd,
}

impl Bus {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 5] = [Self::Virtio, Self::Nvme, Self::Ahci, Self::Usb, Self::Sd];
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Virtio => "virtio",
            Self::Nvme => "nvme",
            Self::Ahci => "ahci",
            Self::Usb => "usb",
            Self::Sd => "sd",
        })
    }
}

/// A disk image file and where it hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// The image; none is a drive without a medium, which [`crate::qmp::Qmp::insert`] puts in.
    pub file: Option<PathBuf>,
    /// QEMU's name of its format, `raw` or `qcow2`.
    pub format: String,
    /// How the guest sees it.
    pub bus: Bus,
    /// Writes go to a temporary file instead of the image.
    pub snapshot: bool,
    /// How much can be read in a second, bytes; as much as the host can where nothing is said.
    pub rate: Option<u64>,
    /// More properties of QEMU's device, as in `removable=on`; empty for none.
    pub properties: String,
}

impl Drive {
    /// A raw image on virtio that the guest may write to.
    pub fn raw(file: impl Into<PathBuf>) -> Self {
        Self {
            file: Some(file.into()),
            format: "raw".into(),
            bus: Bus::Virtio,
            snapshot: false,
            rate: None,
            properties: String::new(),
        }
    }

    /// A USB card reader without a card.
    pub fn card_reader() -> Self {
        Self {
            file: None,
            bus: Bus::Usb,
            properties: "removable=on".into(),
            ..Self::raw("")
        }
    }

    /// The value of `-drive` for drive `n`.
    pub fn option(&self, n: usize) -> String {
        let medium = self.file.as_ref().map_or_else(String::new, |file| {
            let file = file.to_string_lossy().replace(',', ",,");
            format!(",file={file},format={}", self.format)
        });
        let snapshot = if self.snapshot { ",snapshot=on" } else { "" };
        let rate = self
            .rate
            .map_or_else(String::new, |rate| format!(",throttling.bps-read={rate}"));
        // A full host would otherwise stop the machine without a word.
        format!("if=none,id=disk{n}{medium},werror=report{snapshot}{rate}")
    }

    /// Why it is there.
    pub fn why(&self) -> &'static str {
        match (&self.file, self.snapshot) {
            (None, _) => "a drive without a medium",
            (_, true) => "a disk nobody writes to",
            (_, false) => "a disk",
        }
    }

    /// The devices that put drive `n` on its bus; the disk itself is the last.
    pub fn devices(&self, n: usize) -> Vec<String> {
        let mut devices = match self.bus {
            Bus::Virtio => vec![format!("virtio-blk-pci,drive=disk{n}")],
            Bus::Nvme => vec![format!("nvme,drive=disk{n},serial=cato{n}")],
            Bus::Ahci => vec![
                format!("ahci,id=ahci{n}"),
                format!("ide-hd,drive=disk{n},bus=ahci{n}.0"),
            ],
            Bus::Usb => vec![
                format!("qemu-xhci,id=xhci{n}"),
                format!("usb-storage,drive=disk{n},bus=xhci{n}.0"),
            ],
            Bus::Sd => vec![
                format!("sdhci-pci,id=sdhci{n}"),
                format!("sd-card,drive=disk{n},bus=sd-bus"),
            ],
        };
        if let (Some(disk), false) = (devices.last_mut(), self.properties.is_empty()) {
            disk.push(',');
            disk.push_str(&self.properties);
        }
        devices
    }
}
