//! Keeps alive a watchdog that runs already, and no other: opening one would arm it.

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
    /// Takes over each watchdog that firmware (or the kernel) left running since the last call. Gives a line for each.
    pub(crate) fn adopt(&mut self, root: &Path) -> Vec<String> {
        let mut lines = Vec::new();
        for name in running(root) {
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
                    lines.push(format!("{name} is running; keeping it alive"));
                    self.fed.push((name, file));
                }
                Err(error) => {
                    lines.push(format!(
                        "{name} is running but can't be fed: {error}; it may reset the machine"
                    ));
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

/// Names under `/sys/class/watchdog` whose state is `active`, sorted.
fn running(root: &Path) -> Vec<String> {
    let class = root.join("sys/class/watchdog");
    let mut names: Vec<String> = fs::read_dir(&class)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| fs::read_to_string(entry.path().join("state")).is_ok_and(|s| s.trim() == "active"))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_watchdog_is_opened_and_fed() {
        let root = tempfile::tempdir().unwrap();
        for (name, state) in [("watchdog0", "active\n"), ("watchdog1", "inactive\n")] {
            fs::create_dir_all(root.path().join("sys/class/watchdog").join(name)).unwrap();
            fs::write(root.path().join("sys/class/watchdog").join(name).join("state"), state).unwrap();
            fs::create_dir_all(root.path().join("dev")).unwrap();
            fs::write(root.path().join("dev").join(name), "").unwrap();
        }
        let mut watchdogs = Watchdogs::default();
        assert_eq!(watchdogs.adopt(root.path()).len(), 1);
        assert!(watchdogs.adopt(root.path()).is_empty(), "adopted once");
        watchdogs.feed();
        assert_eq!(fs::read(root.path().join("dev/watchdog0")).unwrap(), b".");
        assert!(fs::read(root.path().join("dev/watchdog1")).unwrap().is_empty());
    }
}
