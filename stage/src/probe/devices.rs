//! Devices that no driver has yet, and in which order to give them one.
//!
//! Given sysfs; responsible for the list of devices without a driver and for which of them may lead to a disk.
//!
//! A disk that never answers blocks the kernel in its probe, and that blocks kexec later (T6). So on the buses where it
//! matters the kernel does not bind by itself (`drivers_autoprobe` is 0): Cato binds one device at a time, and stops
//! when the wanted volume is there. What lies behind it is never touched.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Buses on which nothing is bound but what Cato asks for: the three on which a probe reads from the disk, where the kernel
/// reads partition tables; and PCI, where it does so for NVMe and where most of what is found is not needed for this boot.
pub(crate) const HELD_BUSES: [&str; 4] = ["pci", "virtio", "scsi", "mmc"];

/// A device without a driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    /// `pci`, `virtio`, `platform`, …
    pub bus: String,
    /// As the bus calls it: `0000:00:03.0`, `virtio0`, `0:0:0:0`, `mmc0:aaaa`.
    pub name: String,
    /// What it is, in the words module aliases match.
    pub modalias: String,
    /// Its folder in sysfs, without links: sorted by it, devices come in the order of their place in the machine.
    pub path: PathBuf,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.bus, self.name)
    }
}

impl Device {
    /// Whether its bus waits for Cato's word.
    pub(crate) fn is_held(&self) -> bool {
        HELD_BUSES.contains(&self.bus.as_str())
    }

    /// When it is bound, lower first; None when it can't lead to a disk.
    ///
    /// What was found behind a controller comes before the next controller. Among controllers, first those that have
    /// the disk ready at once; USB, which takes a second, last.
    pub(crate) fn rank(&self) -> Option<u8> {
        match self.bus.as_str() {
            "virtio" | "scsi" | "mmc" => Some(0),
            "pci" => {
                let id = PciId::parse(&self.modalias)?;
                match (id.vendor, id.class) {
                    (0x1AF4, _) => VIRTIO_STORAGE.contains(&id.device).then_some(1),
                    (_, 0x0108) => Some(2),
                    (_, 0x0805) => Some(3),
                    (_, 0x0100..=0x01FF) => Some(4),
                    (_, 0x0C03) => Some(6),
                    _ => Some(5),
                }
            }
            _ => None,
        }
    }

    /// A disk, or a controller of disks, whether or not there is a driver for it.
    pub(crate) fn is_storage(&self) -> bool {
        match self.bus.as_str() {
            "pci" => PciId::parse(&self.modalias).is_some_and(|id| {
                self.rank().is_some() && (matches!(id.class, 0x0100..=0x01FF | 0x0805) || id.vendor == 0x1AF4)
            }),
            "virtio" | "scsi" | "mmc" => DISK_ALIASES.iter().any(|a| self.modalias.starts_with(a)),
            _ => false,
        }
    }

    /// Whether its probe may return before the disk is there: NVMe looks for namespaces in the background.
    pub(crate) fn is_slow_to_show(&self) -> bool {
        self.bus == "pci" && PciId::parse(&self.modalias).is_some_and(|id| id.class == 0x0108)
    }
}

/// Block and SCSI in virtio's PCI device numbers, transitional and modern (virtio 1.2, 4.1.2 and 5).
const VIRTIO_STORAGE: [u16; 4] = [0x1001, 0x1004, 0x1042, 0x1048];
/// virtio block and SCSI; SCSI disk, RBC and zoned disk; MMC and SD cards.
const DISK_ALIASES: [&str; 6] = [
    "virtio:d00000002",
    "virtio:d00000008",
    "scsi:t-0x00",
    "scsi:t-0x0e",
    "scsi:t-0x14",
    "mmc:block",
];

/// From `pci:vVVVVVVVVdDDDDDDDDsv…sd…bcBBscSSiII`.
#[derive(Debug, PartialEq, Eq)]
struct PciId {
    vendor: u16,
    device: u16,
    /// Base class and subclass.
    class: u16,
}

impl PciId {
    fn parse(modalias: &str) -> Option<Self> {
        let hex = |from: usize, to: usize| u16::from_str_radix(modalias.get(from..to)?, 16).ok();
        if !modalias.starts_with("pci:v") || modalias.get(42..44)? != "bc" || modalias.get(46..48)? != "sc" {
            return None;
        }
        Some(Self {
            vendor: hex(9, 13)?,
            device: hex(18, 22)?,
            class: hex(44, 46)?.checked_mul(256)?.checked_add(hex(48, 50)?)?,
        })
    }
}

/// Every device that says what it is and has no driver, in the order of its place in the machine.
pub(crate) fn undriven(sys: &Path) -> Vec<Device> {
    undriven_on(sys, names(&sys.join("bus")))
}

/// Those of them that wait for Cato's word.
pub(crate) fn held(sys: &Path) -> Vec<Device> {
    undriven_on(sys, HELD_BUSES)
}

fn undriven_on(sys: &Path, buses: impl IntoIterator<Item = impl Into<String>>) -> Vec<Device> {
    let mut found = Vec::new();
    for bus in buses.into_iter().map(Into::into) {
        let devices = sys.join("bus").join(&bus).join("devices");
        for name in names(&devices) {
            let link = devices.join(&name);
            if link.join("driver").exists() {
                continue;
            }
            let Some(modalias) = modalias(&link) else { continue };
            found.push(Device {
                bus: bus.clone(),
                name,
                modalias,
                path: link.canonicalize().unwrap_or(link),
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// From the file of that name, or, where the bus has none (MMC), from the uevent.
fn modalias(device: &Path) -> Option<String> {
    let own = fs::read_to_string(device.join("modalias")).ok();
    own.or_else(|| {
        let uevent = fs::read_to_string(device.join("uevent")).ok()?;
        let line = uevent.lines().find_map(|l| l.strip_prefix("MODALIAS="))?;
        Some(line.to_owned())
    })
    .map(|m| m.trim_end().to_owned())
}

/// Tells the held buses that exist by now not to bind by themselves. Nothing undoes it: the service kernel is left
/// behind soon, and until then a device that Cato did not ask for can only get in the way.
///
/// # Errors
/// What the kernel said, with the file.
pub(crate) fn hold_buses(sys: &Path) -> Result<(), (PathBuf, io::Error)> {
    for bus in HELD_BUSES {
        let file = sys.join("bus").join(bus).join("drivers_autoprobe");
        match fs::write(&file, "0") {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err((file, e)),
            _ => {}
        }
    }
    Ok(())
}

/// The file that binds the device of that bus whose name is written to it, whatever `drivers_autoprobe` says.
pub(crate) fn probe_file(sys: &Path, bus: &str) -> PathBuf {
    sys.join("bus").join(bus).join("drivers_probe")
}

/// Names in a folder, sorted; none when there is no such folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A device's folder, and its link on the bus.
    fn device(sys: &Path, bus: &str, path: &str, modalias: Option<&str>) -> PathBuf {
        let folder = sys.join("devices").join(path);
        fs::create_dir_all(&folder).unwrap();
        if let Some(modalias) = modalias {
            fs::write(folder.join("modalias"), format!("{modalias}\n")).unwrap();
        }
        let devices = sys.join("bus").join(bus).join("devices");
        fs::create_dir_all(&devices).unwrap();
        symlink(&folder, devices.join(folder.file_name().unwrap())).unwrap();
        folder
    }

    const VIRTIO_BLK: &str = "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00";
    const VIRTIO_NET: &str = "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00";
    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
    const SDHCI: &str = "pci:v00001B36d00000007sv00001AF4sd00001100bc08sc05i01";
    const XHCI: &str = "pci:v00001B36d0000000Dsv00001AF4sd00001100bc0Csc03i30";
    /// Shared folders, of the class of storage.
    const VIRTIO_FS: &str = "pci:v00001AF4d0000105Asv00001AF4sd00001100bc01sc80i00";
    const VGA: &str = "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00";

    #[test]
    fn devices_without_driver_are_found_in_the_order_of_their_place() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let bound = device(sys, "pci", "pci0000:00/0000:00:01.0", Some(VGA));
        fs::create_dir_all(bound.join("driver")).unwrap();
        device(sys, "pci", "pci0000:00/0000:00:04.0", Some(NVME));
        device(sys, "pci", "pci0000:00/0000:00:03.0", Some(VIRTIO_BLK));
        device(
            sys,
            "virtio",
            "pci0000:00/0000:00:03.0/virtio0",
            Some("virtio:d00000002v00001AF4"),
        );
        device(sys, "scsi", "pci0000:00/0000:00:05.0/host0", None);
        let card = device(sys, "mmc", "pci0000:00/0000:00:06.0/mmc0:4567", None);
        fs::write(card.join("uevent"), "MMC_TYPE=SD\nMODALIAS=mmc:block\n").unwrap();
        let found = undriven(sys);
        let names: Vec<_> = found.iter().map(|d| (d.bus.as_str(), d.name.as_str())).collect();
        assert_eq!(
            names,
            [
                ("pci", "0000:00:03.0"),
                ("virtio", "virtio0"),
                ("pci", "0000:00:04.0"),
                ("mmc", "mmc0:4567")
            ]
        );
        assert_eq!(found[0].modalias, VIRTIO_BLK);
        assert_eq!(found[3].modalias, "mmc:block");
        device(sys, "platform", "a.serial", Some("of:NserialT(null)Ca"));
        assert_eq!((undriven(sys).len(), held(sys)), (5, found));
        assert!(undriven(&sys.join("absent")).is_empty());
    }

    #[test]
    fn what_leads_to_a_disk_sooner_comes_first_and_what_does_not_never() {
        let of = |bus: &str, modalias: &str| Device {
            bus: bus.into(),
            name: String::new(),
            modalias: modalias.into(),
            path: PathBuf::new(),
        };
        let order = [
            of("virtio", "virtio:d00000002v00001AF4"),
            of("pci", VIRTIO_BLK),
            of("pci", NVME),
            of("pci", SDHCI),
            of("pci", AHCI),
            of("pci", VGA),
            of("pci", XHCI),
        ];
        assert!(order.is_sorted_by_key(|d| d.rank().unwrap()));
        assert_eq!(of("pci", VIRTIO_NET).rank(), None);
        assert_eq!(of("usb", "usb:v0627p0001").rank(), None);
        assert_eq!(of("pci", "pci:v1").rank(), None);
        let storage = |d: &Device| d.is_storage();
        assert_eq!(
            order.iter().map(storage).collect::<Vec<_>>(),
            [true, true, true, true, true, false, false]
        );
        assert!(of("scsi", "scsi:t-0x00").is_storage());
        assert!(!of("pci", VIRTIO_FS).is_storage(), "nothing on it leads to a disk");
        assert!(!of("scsi", "scsi:t-0x05").is_storage(), "a CD-ROM");
        assert!(of("pci", NVME).is_slow_to_show() && !of("pci", AHCI).is_slow_to_show());
    }

    #[test]
    fn buses_are_held_when_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        hold_buses(dir.path()).unwrap();
        let scsi = dir.path().join("bus/scsi");
        fs::create_dir_all(&scsi).unwrap();
        fs::write(scsi.join("drivers_autoprobe"), "1").unwrap();
        hold_buses(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(scsi.join("drivers_autoprobe")).unwrap(), "0");
        assert!(!dir.path().join("bus/pci").exists());
    }

    proptest::proptest! {
        #[test]
        fn no_modalias_makes_it_panic(tail in "\\PC{0,60}") {
            let modalias = format!("pci:v{tail}");
            let _ = PciId::parse(&modalias);
        }
    }
}
