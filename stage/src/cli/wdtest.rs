//! `cato wdtest`: on a main system that was booted to test the watchdog, whether it is reset by it.
//!
//! Given the command line and sysfs; responsible for waiting long enough, and for what it means when nothing happens.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::running;
use crate::probe::SOFTDOG;
use crate::probe::devices::names;
use crate::text::cmdline;

/// A watchdog as sysfs has it (Documentation/ABI/testing/sysfs-class-watchdog).
struct Watchdog {
    name: String,
    identity: String,
    is_open: bool,
    /// When it resets the machine after it was fed last, as its driver has set it; the kernel feeds it until somebody has to have
    /// opened it.
    timeout: Duration,
}

fn watchdogs(root: &Path) -> Vec<Watchdog> {
    let class = root.join("sys/class/watchdog");
    let text = |name: &str, file: &str| {
        let text = fs::read_to_string(class.join(name).join(file)).unwrap_or_default();
        text.trim().to_owned()
    };
    let of = |name: String| Watchdog {
        identity: text(&name, "identity"),
        // Without CONFIG_WATCHDOG_SYSFS nothing tells.
        is_open: text(&name, "state") != "inactive",
        timeout: Duration::from_secs(text(&name, "timeout").parse().unwrap_or(0)),
        name,
    };
    names(&class).into_iter().map(of).collect()
}

/// What is to be said to somebody who marks this system good while a watchdog is about to reset it: nobody has opened it. If it
/// is to be seen whether it does, that takes its time, but never so long that the trial is over first.
pub(super) fn unopened(root: &Path, is_awaited: bool) -> Option<String> {
    let running = running(root);
    // 0 is for ever.
    let timeout = cmdline::value(&running, "watchdog.open_timeout").filter(|timeout| *timeout != "0")?;
    let seconds = |text: &str| text.parse().ok().map(Duration::from_secs);
    let awaited = seconds(timeout).filter(|_| is_awaited);
    let trial = cmdline::value(&running, "cato.trial").and_then(seconds);
    let begin = Instant::now();
    loop {
        let all = watchdogs(root);
        // Each that runs has to be opened, and nothing tells which do.
        let closed = || {
            all.iter()
                .filter(|watchdog| !watchdog.is_open && watchdog.identity != SOFTDOG)
        };
        if closed().count() == 0 {
            return None;
        }
        let is_late = trial.is_some_and(|trial| up().saturating_add(MARGIN) >= trial);
        if is_late || awaited.is_none_or(|timeout| begin.elapsed() >= limit(timeout, &all)) {
            let names: Vec<String> = closed().map(|w| format!("{} ({})", w.name, w.identity)).collect();
            return Some(format!(
                "warning: nobody has opened {}; a watchdog that runs resets this system {timeout} s after its driver was loaded \
                 (systemd: RuntimeWatchdogSec=30)\n",
                names.join(", ")
            ));
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// Waits for the reset. Returns only when there was none, with why that may be.
pub(super) fn run(root: &Path) -> String {
    let running = running(root);
    let timeout = cmdline::value(&running, "cato.wdtest").and_then(|seconds| seconds.parse().ok());
    let Some(timeout) = timeout.map(Duration::from_secs) else {
        return "this system was not booted for a test: add cato.wdtest to the service kernel's command line, have [watchdog] in \
                boot.toml, and start the machine"
            .to_owned();
    };
    let begin = Instant::now();
    loop {
        let all = watchdogs(root);
        if let Some(why) = verdict(&all, begin.elapsed() >= limit(timeout, &all), up()) {
            return why;
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// How long this kernel has been running; without a clock, long enough.
fn up() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
}

/// How long it takes until the reset has come, where one comes: the watchdog ends by itself after `timeout`, or its driver, which may
/// just have been loaded, feeds it as long, and then it ends after its own.
fn limit(timeout: Duration, all: &[Watchdog]) -> Duration {
    let last = all.iter().map(|watchdog| watchdog.timeout).max().unwrap_or_default();
    timeout.saturating_add(last.max(timeout)).saturating_add(MARGIN)
}

/// For a reset that takes its time.
const MARGIN: Duration = Duration::from_secs(10);

/// What is known so far; none while a reset may still come.
fn verdict(all: &[Watchdog], is_over: bool, up: Duration) -> Option<String> {
    if let Some(open) = all.iter().find(|watchdog| watchdog.is_open) {
        return Some(format!(
            "{} ({}) is open: somebody feeds it; stop that for the test (systemd: RuntimeWatchdogSec=0)",
            open.name, open.identity
        ));
    }
    if !is_over {
        return None;
    }
    let drivers: Vec<String> = all.iter().map(|w| format!("{} ({})", w.name, w.identity)).collect();
    let why = if drivers.is_empty() {
        "no watchdog driver is loaded here, so it was stopped before the jump (watchdog.stop_on_reboot=0 on the service kernel's \
         command line, or a driver that stops it all the same), or it never ran"
            .to_owned()
    } else {
        format!(
            "{} has a driver here that stopped it when it was loaded, or that does not know that it runs; nothing resets this system \
             when it hangs before somebody opens the watchdog. Open it early, or use another watchdog",
            drivers.join(", ")
        )
    };
    Some(format!(
        "failed: this system is still up after {} s: {why}",
        up.as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_that_does_not_come_is_explained() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("sys/class/watchdog/watchdog0");
        fs::create_dir_all(&class).unwrap();
        let up = Duration::from_secs(70);
        assert!(verdict(&[], true, up).unwrap().contains("no watchdog driver"));
        fs::write(class.join("identity"), "i6300ESB timer\n").unwrap();
        fs::write(class.join("state"), "inactive\n").unwrap();
        assert!(verdict(&watchdogs(root.path()), false, up).is_none());
        fs::write(class.join("timeout"), "30\n").unwrap();
        let limit = |seconds| limit(Duration::from_secs(seconds), &watchdogs(root.path()));
        assert_eq!([limit(10), limit(60)], [50, 130].map(Duration::from_secs));
        let why = verdict(&watchdogs(root.path()), true, up).unwrap();
        assert!(
            why.starts_with("failed: this system is still up after 70 s: watchdog0 (i6300ESB timer) has a driver"),
            "{why}"
        );
        fs::write(class.join("state"), "active\n").unwrap();
        assert!(
            verdict(&watchdogs(root.path()), false, up)
                .unwrap()
                .contains("somebody feeds it")
        );
        assert!(run(root.path()).contains("not booted for a test"));
        fs::create_dir(root.path().join("proc")).unwrap();
        fs::write(root.path().join("proc/cmdline"), "watchdog.open_timeout=45").unwrap();
        assert_eq!(unopened(root.path(), true), None, "it is open");
        fs::write(class.join("state"), "inactive\n").unwrap();
        assert!(unopened(root.path(), false).unwrap().contains("45 s after"));
        // A second's wait: it is opened in the meantime.
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(200));
                fs::write(class.join("state"), "active\n").unwrap();
            });
            fs::write(class.join("timeout"), "4000000000\n").unwrap();
            assert_eq!(unopened(root.path(), true), None);
        });
        fs::write(class.join("state"), "inactive\n").unwrap();
        let before_its_trial = "watchdog.open_timeout=45 cato.trial=1";
        fs::write(root.path().join("proc/cmdline"), before_its_trial).unwrap();
        assert!(unopened(root.path(), true).is_some());
        fs::remove_file(class.join("state")).unwrap();
        assert_eq!(unopened(root.path(), true), None, "nothing tells");
    }

    #[test]
    fn each_watchdog_has_to_be_opened() {
        let root = tempfile::tempdir().unwrap();
        let class = root.path().join("sys/class/watchdog");
        for (name, state, identity) in [
            ("watchdog0", "active", "PMIC"),
            ("watchdog1", "inactive", "SoC"),
            ("watchdog2", "inactive", SOFTDOG),
        ] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("state"), state).unwrap();
            fs::write(class.join(name).join("identity"), identity).unwrap();
        }
        fs::create_dir(root.path().join("proc")).unwrap();
        let cmdline = root.path().join("proc/cmdline");
        fs::write(&cmdline, "watchdog.open_timeout=45").unwrap();
        let warning = unopened(root.path(), false).unwrap();
        assert!(warning.contains("nobody has opened watchdog1 (SoC); "), "{warning}");
        fs::write(&cmdline, "watchdog.open_timeout=0").unwrap();
        assert_eq!(unopened(root.path(), true), None, "nobody has to");
    }
}
