//! The watchdogs that PID 1 feeds: those that would reset the machine otherwise, and, where `boot.toml` wants it, the first
//! there is. Opening one arms it, and none is ever closed.
//!
//! It is for PID 1 itself: a driver that hangs here hangs PID 1, and then its watchdog resets the machine, as it should.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::deadlines::HEARTBEAT;
use crate::probe::SOFTDOG;
use crate::probe::devices::names;
use crate::sys::watchdog::set_timeout;

/// Documentation/ABI/testing/sysfs-class-watchdog.
const CLASS: &str = "sys/class/watchdog";

/// The watchdogs PID 1 feeds.
#[derive(Debug, Default)]
pub(crate) struct Watchdogs {
    fed: Vec<(String, File)>,
    /// Those that can't be opened: said once.
    lost: Vec<String>,
    /// One is to be opened, and was not there yet.
    is_wanted: bool,
}

impl Watchdogs {
    /// Takes over each watchdog that has nobody else to feed it. Gives a line for each.
    pub(crate) fn adopt(&mut self, root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        if self.is_wanted && candidates(root).iter().any(|name| !self.lost.contains(name)) {
            lines.extend(self.arm(root));
        }
        for name in orphans(root) {
            if self.lost.contains(&name) || self.fed.iter().any(|(n, _)| *n == name) {
                continue;
            }
            match self.open(root, &name) {
                Ok(()) => lines.push(format!("Cato feeds {name} from now on")),
                Err(error) => {
                    lines.push(format!("can't feed {name}: {error}; it may reset the machine"));
                    self.lost.push(name);
                }
            }
        }
        lines
    }

    /// Opens the first watchdog that can be, unless one is open: to leave it running across the jump.
    pub(crate) fn arm(&mut self, root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        for name in candidates(root) {
            if self.fed.is_empty()
                && !self.lost.contains(&name)
                && let Err(error) = self.open(root, &name)
            {
                lines.push(format!("can't open {name}: {error}"));
                self.lost.push(name);
            }
        }
        self.is_wanted = self.fed.is_empty();
        let mut stops = None;
        if let Some((name, file)) = self.fed.first() {
            let described = described(root, name);
            lines.push(match set_timeout(file, HEARTBEAT) {
                Ok(timeout) => format!("{described} is armed: {} s", timeout.as_secs()),
                Err(errno) => format!("{described} is armed; its time can't be set: {}", errno.desc()),
            });
            stops = driver(root, name).filter(|driver| stops_on_kexec(driver));
        } else {
            lines.push("warning: there is no watchdog, so nothing resets the machine when a kernel hangs".to_owned());
        }
        let first = self.fed.first().map(|(name, _)| name.clone());
        for other in candidates(root)
            .iter()
            .filter(|name| first.is_some() && first.as_ref() != Some(*name))
        {
            lines.push(format!(
                "{} is there, too: if it runs, watchdog.open_timeout= resets a main system that does not open it as well; have it open \
                 both, or give the entry watchdog.open_timeout=0",
                described(root, other)
            ));
        }
        // Some of these are in no class, and can't be opened here.
        let loaded = STOP_ON_KEXEC
            .iter()
            .filter(|name| root.join("sys/module").join(name).exists());
        for driver in stops.iter().map(String::as_str).chain(loaded.copied()) {
            lines.push(format!(
                "warning: the watchdog driver {driver} stops its watchdog at kexec, whatever the command line says, so nothing \
                 resets a main kernel that hangs; use another watchdog of the machine, or another service kernel"
            ));
        }
        lines
    }

    fn open(&mut self, root: &Path, name: &str) -> std::io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(root.join("dev").join(name))?;
        self.fed.push((name.to_owned(), file));
        Ok(())
    }

    /// Whether there is one to feed.
    pub(crate) fn is_any_open(&self) -> bool {
        !self.fed.is_empty()
    }

    /// Feeds them. Any byte but `V` does (Documentation/watchdog/watchdog-api.rst).
    pub(crate) fn feed(&mut self) {
        for (_, file) in &mut self.fed {
            // A watchdog that can't be fed resets the machine: nothing better to do about it here.
            let _ = file.write_all(b".");
        }
    }

    /// The last feeding before the jump: from here on it is for the main system. Gives a line for each that may not wait for
    /// as long as it should.
    pub(crate) fn hand_off(&mut self, root: &Path, timeout: Duration) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, file) in &self.fed {
            match set_timeout(file, timeout) {
                Ok(set) if set >= timeout => {}
                Ok(set) => lines.push(format!("{name} waits for {} s only", set.as_secs())),
                // Longer than the driver takes: then as long as it does.
                Err(nix::errno::Errno::EINVAL) if let Some(most) = max_timeout(root, name) => {
                    let set = set_timeout(file, most).unwrap_or(most);
                    lines.push(format!("{name} waits for {} s only, its longest", set.as_secs()));
                }
                Err(errno) => lines.push(format!(
                    "{name}: can't be set to {} s: {}",
                    timeout.as_secs(),
                    errno.desc()
                )),
            }
        }
        self.feed();
        lines
    }
}

/// Drivers of Linux 7.2 that stop their watchdog on the way to another kernel, in their `shutdown` or by a notifier of their
/// own; `watchdog.stop_on_reboot=0` says nothing to them. As module names.
const STOP_ON_KEXEC: [&str; 39] = [
    "acquirewdt",
    "advantechwdt",
    "alim1535_wdt",
    "alim7101_wdt",
    "at91rm9200_wdt",
    "ath79_wdt",
    "eurotechwdt",
    "geodewdt",
    "ib700wdt",
    "indydog",
    "mena21_wdt",
    "menf21bmc_wdt",
    "mt7621_wdt",
    "nv_tco",
    "omap_wdt",
    "orion_wdt",
    "pc87413_wdt",
    "pcwd",
    "pcwd_pci",
    "pcwd_usb",
    "rc32434_wdt",
    "s3c2410_wdt",
    "sbc60xxwdt",
    "sbc7240_wdt",
    "sbc8360",
    "sbc_epx_c3",
    "sc1200wdt",
    "sch311x_wdt",
    "shwdt",
    "smsc37b787_wdt",
    "starfive_wdt",
    "txx9wdt",
    "w83877f_wdt",
    "w83977f_wdt",
    "wafer5823wdt",
    "wdrtas",
    "wdt",
    "wdt977",
    "wdt_pci",
];

/// By the name of the driver in sysfs, which for some is not the module's.
fn stops_on_kexec(driver: &str) -> bool {
    let driver = driver.replace('-', "_");
    STOP_ON_KEXEC.contains(&driver.as_str())
        || ["atmel_st_watchdog", "a21_watchdog", "sh_wdt"].contains(&driver.as_str())
}

fn driver(root: &Path, watchdog: &str) -> Option<String> {
    let link = root.join(CLASS).join(watchdog).join("device/driver");
    let target = fs::read_link(link).ok()?;
    Some(target.file_name()?.to_str()?.to_owned())
}

/// What its driver calls it.
fn identity(root: &Path, watchdog: &str) -> Option<String> {
    let file = root.join(CLASS).join(watchdog).join("identity");
    Some(fs::read_to_string(file).ok()?.trim().to_owned())
}

/// `watchdog0 (iTCO_wdt)`
fn described(root: &Path, watchdog: &str) -> String {
    match identity(root, watchdog) {
        Some(identity) => format!("{watchdog} ({identity})"),
        None => watchdog.to_owned(),
    }
}

/// Those that may be armed: first those that go on running, the others behind them, each in the order of their numbers.
fn candidates(root: &Path) -> Vec<String> {
    let mut all = names(&root.join(CLASS));
    all.retain(|name| identity(root, name).as_deref() != Some(SOFTDOG));
    let number = |name: &str| {
        name.trim_start_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .ok()
    };
    all.sort_by_key(|name| {
        let stops = driver(root, name).is_some_and(|driver| stops_on_kexec(&driver));
        (stops, number(name))
    });
    all
}

/// The longest time that a driver says it takes.
fn max_timeout(root: &Path, watchdog: &str) -> Option<Duration> {
    let file = root.join(CLASS).join(watchdog).join("max_timeout");
    let seconds = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero())
}

/// Names under `/sys/class/watchdog` that nobody but PID 1 keeps alive, sorted.
///
/// One that firmware started is fed by the kernel itself until someone opens it (drivers/watchdog/watchdog_dev.c), and
/// its `state` stays `inactive`, as that of one that does not run. So: those someone opened before, and, when the
/// service kernel is told not to feed them (`watchdog.handle_boot_enabled=0`) or not for ever
/// (`watchdog.open_timeout=`), all of them.
fn orphans(root: &Path) -> Vec<String> {
    let parameter = |name: &str| {
        let path = root.join("sys/module/watchdog/parameters").join(name);
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let unfed = parameter("handle_boot_enabled").is_some_and(|v| matches!(v.as_str(), "N" | "0"))
        || parameter("open_timeout").is_some_and(|v| v != "0");
    let class = root.join(CLASS);
    let is_active =
        |name: &String| fs::read_to_string(class.join(name).join("state")).is_ok_and(|s| s.trim() == "active");
    names(&root.join(CLASS))
        .into_iter()
        .filter(|name| unfed || is_active(name))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(parameters: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for (name, state) in [("watchdog0", "active\n"), ("watchdog1", "inactive\n")] {
            write(&format!("sys/class/watchdog/{name}/state"), state);
            write(&format!("dev/{name}"), "");
        }
        for (name, value) in parameters {
            write(&format!("sys/module/watchdog/parameters/{name}"), value);
        }
        root
    }

    fn fed(root: &Path) -> Vec<String> {
        let mut watchdogs = Watchdogs::default();
        watchdogs.adopt(root);
        assert!(watchdogs.adopt(root).is_empty(), "adopted once, said once");
        watchdogs.feed();
        ["watchdog0", "watchdog1"]
            .into_iter()
            .filter(|name| fs::read(root.join("dev").join(name)).unwrap() == b".")
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_kernel_feeds_what_firmware_started() {
        let root = machine(&[("handle_boot_enabled", "Y\n"), ("open_timeout", "0\n")]);
        assert_eq!(fed(root.path()), ["watchdog0"]);
    }

    #[test]
    fn a_kernel_that_is_told_not_to_leaves_them_to_pid_1() {
        for parameters in [("handle_boot_enabled", "N\n"), ("open_timeout", "30\n")] {
            assert_eq!(fed(machine(&[parameters]).path()), ["watchdog0", "watchdog1"]);
        }
    }

    #[test]
    fn one_that_cannot_be_opened_is_said_once() {
        let root = machine(&[]);
        fs::remove_file(root.path().join("dev/watchdog0")).unwrap();
        let mut watchdogs = Watchdogs::default();
        assert!(watchdogs.adopt(root.path())[0].contains("can't feed watchdog0"));
        assert!(watchdogs.adopt(root.path()).is_empty());
    }

    #[test]
    fn the_first_hardware_watchdog_is_armed_once() {
        let root = machine(&[]);
        let class = root.path().join("sys/class/watchdog");
        let link = |watchdog: &str, driver: &str| {
            let device = class.join(watchdog).join("device");
            fs::create_dir_all(&device).unwrap();
            std::os::unix::fs::symlink(Path::new("/bus/drivers").join(driver), device.join("driver")).unwrap();
        };
        fs::write(class.join("watchdog0/state"), "inactive\n").unwrap();
        fs::write(class.join("watchdog0/identity"), "Software Watchdog\n").unwrap();
        link("watchdog1", "omap-wdt");
        fs::write(class.join("watchdog1/identity"), "OMAP Watchdog\n").unwrap();
        let mut watchdogs = Watchdogs::default();
        let lines = watchdogs.arm(root.path());
        assert!(
            lines[0].starts_with("watchdog1 (OMAP Watchdog) is armed; its time can't be set"),
            "{lines:?}"
        );
        assert!(lines[1].contains("omap-wdt stops its watchdog at kexec"), "{lines:?}");
        assert_eq!(watchdogs.arm(root.path()).len(), 2, "no second one");
        assert_eq!(watchdogs.fed.len(), 1);
        assert_eq!(watchdogs.hand_off(root.path(), Duration::from_mins(1)).len(), 1);
        assert_eq!(fs::read(root.path().join("dev/watchdog1")).unwrap(), b".");
    }

    /// The kernel counts `open_timeout` for each (drivers/watchdog/watchdog_dev.c).
    #[test]
    fn a_second_one_is_told_of() {
        let root = machine(&[]);
        fs::write(root.path().join("sys/class/watchdog/watchdog0/state"), "inactive\n").unwrap();
        let lines = Watchdogs::default().arm(root.path());
        assert!(lines[1].starts_with("watchdog1 is there, too"), "{lines:?}");
    }

    /// One that can't be opened is not tried, and told, once a second; one that comes later is.
    #[test]
    fn one_that_is_wanted_is_opened_when_it_comes() {
        let root = machine(&[]);
        let class = root.path().join("sys/class/watchdog");
        fs::write(class.join("watchdog0/state"), "inactive\n").unwrap();
        for name in ["watchdog0", "watchdog1"] {
            fs::remove_file(root.path().join("dev").join(name)).unwrap();
        }
        let mut watchdogs = Watchdogs::default();
        assert_eq!(
            watchdogs.arm(root.path()).len(),
            3,
            "two that can't be opened, and a warning"
        );
        assert!(watchdogs.adopt(root.path()).is_empty());
        fs::create_dir_all(class.join("watchdog2")).unwrap();
        fs::write(root.path().join("dev/watchdog2"), "").unwrap();
        assert!(watchdogs.adopt(root.path())[0].starts_with("watchdog2 is armed"));
        assert!(watchdogs.adopt(root.path()).is_empty());
    }

    #[test]
    fn no_watchdog_is_said() {
        let root = tempfile::tempdir().unwrap();
        let lines = Watchdogs::default().arm(root.path());
        assert!(lines[0].starts_with("warning: there is no watchdog"), "{lines:?}");
    }

    #[test]
    fn legacy_drivers_are_known_by_their_modules() {
        let root = machine(&[]);
        fs::create_dir_all(root.path().join("sys/module/w83877f_wdt")).unwrap();
        let lines = Watchdogs::default().arm(root.path());
        assert!(lines.last().unwrap().contains("w83877f_wdt"), "{lines:?}");
        // They are in no class.
        fs::remove_dir_all(root.path().join(CLASS)).unwrap();
        let lines = Watchdogs::default().arm(root.path());
        assert!(
            lines[0].contains("no watchdog") && lines[1].contains("w83877f_wdt"),
            "{lines:?}"
        );
        assert!(stops_on_kexec("starfive-wdt") && !stops_on_kexec("iTCO_wdt"));
        assert!(STOP_ON_KEXEC.is_sorted());
    }
}
