//! Devices that are taken from their drivers before the jump: those that would go on writing to memory, or that the main
//! kernel can't start again (P16 to P19).
//!
//! Given what `boot.toml` lists and sysfs; responsible for a time limit for each, and for never stopping the boot.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::deadlines::{UNBIND, UNBIND_ALL};
use crate::sys::child::Write;
use config::Unbind;

/// Unbinds one after the other. `say` gets a line for each.
pub(crate) fn unbind(sys: &Path, list: &[Unbind], say: &mut dyn FnMut(&str)) {
    let began = Instant::now();
    for wanted in list {
        let found = find(sys, wanted);
        if found.is_empty() {
            say(&format!("unbind {wanted}: no such device with a driver"));
        }
        for (file, name) in found {
            if began.elapsed() > UNBIND_ALL {
                return say("warning: unbinding takes too long; going on without the others");
            }
            match write(&file, &name) {
                Ok(()) => say(&format!("unbind {wanted}: {name} is unbound")),
                Err(why) => say(&format!("warning: unbind {wanted}: {name}: {why}; going on")),
            }
        }
    }
}

/// The file that unbinds, and what to write to it, for each device that is meant.
fn find(sys: &Path, wanted: &Unbind) -> Vec<(PathBuf, String)> {
    match wanted {
        Unbind::Driver(driver) => buses(sys)
            .into_iter()
            .map(|bus| bus.join("drivers").join(driver))
            .flat_map(|folder| {
                let unbind = folder.join("unbind");
                // The links are its devices, and its module.
                let links = entries(&folder).into_iter().filter(|path| path.is_symlink());
                links.filter_map(move |path| Some((unbind.clone(), name(&path)?)))
            })
            .filter(|(_, name)| name != "module")
            .collect(),
        Unbind::Device { bus, address } => driven(&sys.join("bus").join(bus).join("devices").join(address)),
        Unbind::Node(path) => {
            let node = sys.join("firmware/devicetree/base").join(path.trim_start_matches('/'));
            let Ok(node) = node.canonicalize() else {
                return Vec::new();
            };
            let devices = buses(sys).into_iter().flat_map(|bus| entries(&bus.join("devices")));
            devices
                .filter(|device| device.join("of_node").canonicalize().is_ok_and(|n| n == node))
                .flat_map(|device| driven(&device))
                .collect()
        }
    }
}

fn driven(device: &Path) -> Vec<(PathBuf, String)> {
    let unbind = device.join("driver/unbind");
    let name = name(device).filter(|_| unbind.exists());
    name.map(|name| (unbind, name)).into_iter().collect()
}

fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

fn buses(sys: &Path) -> Vec<PathBuf> {
    entries(&sys.join("bus"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = (fs::read_dir(folder).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    all.sort();
    all
}

/// A child writes: it may never return.
fn write(file: &Path, name: &str) -> Result<(), String> {
    let write = Write::start(file, name).map_err(|error| error.to_string())?;
    match write.finish_within(UNBIND) {
        None => Err(format!("not unbound within {} s", UNBIND.as_secs())),
        Some(result) => result.map_err(|errno| errno.desc().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn machine() -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        let root = sys.path();
        let device = root.join("devices/pci0000:00/0000:00:04.0");
        let driver = root.join("bus/pci/drivers/xhci_hcd");
        let node = root.join("firmware/devicetree/base/soc/usb@1");
        for folder in [
            &device,
            &driver,
            &node,
            &root.join("bus/pci/devices"),
            &root.join("module/xhci"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(driver.join("unbind"), "").unwrap();
        symlink(root.join("module/xhci"), driver.join("module")).unwrap();
        symlink(&device, driver.join("0000:00:04.0")).unwrap();
        symlink(&device, root.join("bus/pci/devices/0000:00:04.0")).unwrap();
        symlink(&driver, device.join("driver")).unwrap();
        symlink(&node, device.join("of_node")).unwrap();
        sys
    }

    #[test]
    fn a_device_is_found_by_driver_address_and_node() {
        for wanted in ["driver:xhci_hcd", "pci:0000:00:04.0", "dt:/soc/usb@1"] {
            let sys = machine();
            let mut said = Vec::new();
            let list = [wanted.to_owned().try_into().unwrap()];
            unbind(sys.path(), &list, &mut |line| said.push(line.to_owned()));
            assert_eq!(said, [format!("unbind {wanted}: 0000:00:04.0 is unbound")]);
            let written = fs::read_to_string(sys.path().join("bus/pci/drivers/xhci_hcd/unbind")).unwrap();
            assert_eq!(written, "0000:00:04.0");
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let sys = machine();
        for wanted in ["driver:ahci", "pci:0000:00:05.0", "dt:/soc/usb@2", "usb:1-1"] {
            let mut said = Vec::new();
            let list = [wanted.to_owned().try_into().unwrap()];
            unbind(sys.path(), &list, &mut |line| said.push(line.to_owned()));
            assert_eq!(said, [format!("unbind {wanted}: no such device with a driver")]);
        }
        fs::remove_file(sys.path().join("bus/pci/drivers/xhci_hcd/unbind")).unwrap();
        let mut said = Vec::new();
        let list = ["driver:xhci_hcd".to_owned().try_into().unwrap()];
        unbind(sys.path(), &list, &mut |line| said.push(line.to_owned()));
        assert!(
            said[0].starts_with("warning: unbind driver:xhci_hcd: 0000:00:04.0: "),
            "{said:?}"
        );
    }
}
