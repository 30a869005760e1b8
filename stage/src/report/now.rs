//! What the running kernel says of itself: since when it runs, by its clock and by the counter.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::time::{ClockId, clock_gettime};

use crate::handover::{Main, Pid1, Sample, micros, process_started};
use crate::sys::counter;

/// How long the counter is watched where the CPU does not say its frequency.
const WATCH: Duration = Duration::from_millis(100);
/// A line for the kernel's log, at the level of debugging, which no console shows by default.
const MARK: &str = "cato: report";
/// Parts of a [`Sample::measure`] error.
const BILLION: i64 = 1_000_000_000;
/// Of the kernel's log, which has no end while something writes to it.
const MOST_LOG: usize = 16 << 20;

/// Reads it; `root` is the folder with `proc` and `dev` in it. Takes a tenth of a second on x86_64, and leaves a line in the
/// kernel's log, whose clock is known only by what it says of a line.
pub(crate) fn running(root: &Path) -> Main {
    let first = Sample::take();
    let (now, hz, error) = if counter::frequency().is_some() {
        // Both kernels go by the same number.
        (first, None, 0)
    } else {
        std::thread::sleep(WATCH);
        let last = Sample::take();
        first
            .measure(&last)
            .map_or((last, None, BILLION), |(hz, error)| (last, Some(hz), error))
    };
    // The log's clock goes by the counter nearly from the start, and PID 1's time is by it. CLOCK_BOOTTIME loses the ticks that
    // an early kernel misses: under emulation a second and more.
    let (at, clock_us) = log_clock(&root.join("dev/kmsg")).unwrap_or((now.counter, now.raw_us));
    // Both are not slewed, and stand still in a suspend.
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| micros(time.into()));
    let suspended = now.boottime_us.saturating_sub(monotonic);
    let uptime_us = clock_us.saturating_add(if suspended < 1000 { 0 } else { suspended });
    let wrong = i128::from(uptime_us)
        .saturating_mul(error.into())
        .div_euclid(BILLION.into());
    Main {
        counter: at,
        hz,
        uptime_us,
        error_us: i64::try_from(wrong).unwrap_or(i64::MAX),
        pid1: pid1(root),
    }
}

/// When PID 1's program began: the kernel's log says so, as long as that line is still in it.
fn pid1(root: &Path) -> Option<Pid1> {
    let log = log(&root.join("dev/kmsg")).unwrap_or_default();
    let run = log.lines().find_map(run_init).map(|us| Pid1 {
        us,
        by: "PID 1 by the kernel's log",
    });
    run.or_else(|| {
        process_started(root, "1").map(|us| Pid1 {
            us,
            by: "PID 1 as the kernel made it, which is before its program ran: the log does not reach back",
        })
    })
}

/// The counter and the log's clock, microseconds, at one instant: of a line that is written for it.
fn log_clock(path: &Path) -> Option<(u64, i64)> {
    let mut log = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .ok()?;
    // From here on, and not the same line of an earlier report.
    log.seek(SeekFrom::End(0)).ok()?;
    let before = counter::now();
    log.write_all(format!("<7>{MARK}\n").as_bytes()).ok()?;
    let took = counter::now().checked_sub(before)?;
    let mut record = [0; 8192];
    for _ in 0..100 {
        let Ok(n) = log.read(&mut record) else { return None };
        let record = String::from_utf8_lossy(record.get(..n)?);
        if let Some(us) = mark(&record) {
            return Some((before.checked_add(took.div_euclid(2))?, us));
        }
    }
    None
}

/// The time of a record (`head;text`) that is [`MARK`].
pub(crate) fn mark(record: &str) -> Option<i64> {
    let (head, text) = record.split_once(';')?;
    time(head).filter(|_| text.lines().next() == Some(MARK))
}

/// Microseconds of a record's head, `prio,seq,µs,flags`.
fn time(head: &str) -> Option<i64> {
    head.split(',').nth(2)?.parse().ok()
}

/// The time of a record (`head;text`) that says that PID 1's program runs.
pub(crate) fn run_init(record: &str) -> Option<i64> {
    let (head, text) = record.split_once(';')?;
    if !(text.starts_with("Run ") && text.ends_with(" as init process")) {
        return None;
    }
    time(head)
}

fn log(path: &Path) -> std::io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut all = Vec::new();
    let mut record = [0; 8192];
    while all.len() < MOST_LOG {
        match file.read(&mut record) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(record.get(..n).unwrap_or_default()),
            // No further record.
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Some were overwritten: the next read goes on behind the gap.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EPIPE as i32) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(String::from_utf8_lossy(&all).into_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pid_1_ran_when_the_log_says() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(pid1(root.path()), None);
        fs::create_dir_all(root.path().join("proc/1")).unwrap();
        fs::write(
            root.path().join("proc/1/stat"),
            "1 (init) S 0 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12 0 0",
        )
        .unwrap();
        let made = pid1(root.path()).unwrap();
        assert!(made.us == 120_000 && made.by.contains("does not reach back"));
        fs::create_dir_all(root.path().join("dev")).unwrap();
        let log = "6,1,0,-;Linux version 6.12\n SUBSYSTEM=x\n6,400,1423456,-;Run /init as init process\n\
                   7,401,1423457,-;  with arguments:\n6,500,9423456,-;Run /x as init process\n";
        fs::write(root.path().join("dev/kmsg"), log).unwrap();
        let ran = pid1(root.path()).unwrap();
        assert!(ran.us == 1_423_456 && ran.by.contains("log"), "{ran:?}");
    }

    #[test]
    fn this_kernel_has_a_clock() {
        // Without a log to write to.
        let root = tempfile::tempdir().unwrap();
        let main = running(root.path());
        assert!(main.counter != 0 && main.uptime_us > 0, "{main:?}");
    }
}
