//! Keeps alive the watchdogs that would reset the machine otherwise, and no other: opening one arms it.
//!
//! It is for PID 1 itself: a driver that hangs here hangs PID 1, and then its watchdog resets the machine, as it should.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The watchdogs PID 1 feeds.
#[derive(Debug, Default)]
pub(crate) struct Watchdogs {
    fed: Vec<(String, File)>,
    /// Those that can't be opened: said once.
    lost: Vec<String>,
}

impl Watchdogs {
    /// Takes over each watchdog that has nobody else to feed it. Gives a line for each.
    pub(crate) fn adopt(&mut self, root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        for name in orphans(root) {
            if self.lost.contains(&name) || self.fed.iter().any(|(n, _)| *n == name) {
                continue;
            }
            let device = root.join("dev").join(&name);
            match OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
                .open(&device)
            {
                Ok(file) => {
                    lines.push(format!("Cato feeds {name} from now on"));
                    self.fed.push((name, file));
                }
                Err(error) => {
                    lines.push(format!("can't feed {name}: {error}; it may reset the machine"));
                    self.lost.push(name);
                }
            }
        }
        lines
    }

    /// Feeds them. Any byte but `V` does (Documentation/watchdog/watchdog-api.rst).
    pub(crate) fn feed(&mut self) {
        for (_, file) in &mut self.fed {
            // A watchdog that can't be fed resets the machine: nothing better to do about it here.
            let _ = file.write_all(b".");
        }
    }
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
    let class = root.join("sys/class/watchdog");
    let mut names: Vec<String> = fs::read_dir(&class)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| unfed || fs::read_to_string(entry.path().join("state")).is_ok_and(|s| s.trim() == "active"))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
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
}
