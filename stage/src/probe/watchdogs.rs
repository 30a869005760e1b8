//! The drivers of watchdogs: loaded and bound before anything else is.
//!
//! Given the module index; responsible for binding the devices of watchdogs and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Instant;

use config::modules::Index;
use nix::errno::Errno;

use super::devices::{self, Device};
use super::modules::Modules;
use crate::deadlines::{self, BIND_SHARE};
use crate::sys::child::Write;
use crate::text::cmdline;

/// What the watchdog of the kernel's own timers, which end with the kernel, is called (drivers/watchdog/softdog.c). It is no device's.
pub(crate) const SOFTDOG: &str = "Software Watchdog";

/// A chip's driver brings forth the watchdog's device, whose driver is next.
const GENERATIONS: usize = 2;

/// Loads the drivers of watchdogs that are there, and has them bound. `say` hears of what went wrong.
pub(crate) fn bind_watchdogs(index: &Index, say: &mut dyn FnMut(&str)) {
    let sys = Path::new("/sys");
    if !index.modules.iter().any(|module| module.watchdog) {
        return;
    }
    // A disk's driver that comes in with one of a watchdog is not to bind by itself.
    if let Err((file, error)) = devices::hold_buses(sys) {
        say(&format!("{}: {error}", file.display()));
    }
    let mut modules = Modules::new(index);
    // What no device asks for is only packed by whoever names it.
    for module in index.modules.iter().filter(|m| m.watchdog && m.aliases.is_empty()) {
        modules.load(&module.name, say);
    }
    let mut tried = BTreeSet::new();
    for _ in 0..GENERATIONS {
        let new = devices::undriven(sys)
            .into_iter()
            .filter(|d| tried.insert(d.path.clone()));
        let mut is_any = false;
        for device in new.collect::<Vec<_>>() {
            let drivers: Vec<_> = index.for_modalias(&device.modalias).filter(|m| m.watchdog).collect();
            for module in &drivers {
                modules.load(&module.name, say);
            }
            is_any |= !drivers.is_empty();
            if !drivers.is_empty() && device.is_held() {
                bind(sys, &device, say);
            }
        }
        // Only a driver makes new devices.
        if !is_any {
            return;
        }
    }
}

/// Loads what finds the records of earlier kernels in memory, where the device tree or the command line says that there are some.
pub(crate) fn load_pstore(index: &Index, say: &mut dyn FnMut(&str)) {
    const RAMOOPS: &str = "ramoops";
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let nodes = devices::names(Path::new("/sys/firmware/devicetree/base/reserved-memory"));
    let is_there =
        cmdline::value(&cmdline, "ramoops.mem_address").is_some() || nodes.iter().any(|name| name.starts_with(RAMOOPS));
    if is_there && index.find(RAMOOPS).is_some() {
        Modules::new(index).load(RAMOOPS, say);
        let begin = Instant::now();
        while !has_records() {
            if begin.elapsed() > deadlines::PSTORE {
                say(
                    "warning: ramoops is not ready: what an earlier kernel said as it died is not known; look at its parameters",
                );
                return;
            }
            thread::sleep(deadlines::PSTORE_LOOK);
        }
    }
}

/// Whether a driver has looked for records (pstore's parameter `backend` has its name then), or none will.
fn has_records() -> bool {
    let backend = fs::read_to_string("/sys/module/pstore/parameters/backend");
    let is_none = backend.is_ok_and(|name| name.trim() == "(null)");
    !is_none || !Path::new("/sys/module/ramoops").exists()
}

fn bind(sys: &Path, device: &Device, say: &mut dyn FnMut(&str)) {
    let problem = match Write::start(&devices::probe_file(sys, &device.bus), &device.name) {
        Err(error) => error.to_string(),
        Ok(write) => match write.finish_within(BIND_SHARE) {
            None => format!("no answer within {} s", BIND_SHARE.as_secs()),
            // ENODEV: the driver looked and found that it is not for this one.
            Some(Ok(()) | Err(Errno::ENODEV)) => return,
            Some(Err(errno)) => errno.desc().to_owned(),
        },
    };
    say(&format!("{device}: not bound: {problem}"));
}
