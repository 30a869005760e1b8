//! The stage's own times: when each phase began, and what ties the kernel's clock to the counter.

use std::path::Path;

use nix::time::{ClockId, clock_gettime};

use super::{Anchor, Phase, micros, ticks_us};
use crate::sys::counter;

/// Shorter than this a measured frequency is not worth its name, microseconds.
const LEAST: i64 = 50_000;
/// A counter that says more, microseconds, was not at zero at power-on: it went on through a reset.
const MOST_FIRMWARE: i64 = 600_000_000;
/// Looks at the clocks for one sample; the quickest counts.
const LOOKS: usize = 8;

/// Microseconds of `CLOCK_BOOTTIME`; 0 if the kernel has no such clock.
pub(crate) fn boottime_us() -> i64 {
    clock_us(ClockId::CLOCK_BOOTTIME)
}

fn clock_us(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| micros(time.into()))
}

/// The counter and the kernel's clocks at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// The counter; 0 where there is none.
    pub counter: u64,
    /// How far from it the clocks may have been read, ticks.
    pub width: u64,
    /// `CLOCK_MONOTONIC_RAW`: what the kernel's time source says, untouched by NTP, without suspends.
    pub raw_us: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_us: i64,
}

impl Sample {
    /// Takes one.
    pub(crate) fn take() -> Self {
        let look = |_| {
            let before = counter::now();
            let raw_us = clock_us(ClockId::CLOCK_MONOTONIC_RAW);
            let boottime_us = clock_us(ClockId::CLOCK_BOOTTIME);
            let width = counter::now().saturating_sub(before);
            Self {
                counter: before.saturating_add(width.div_euclid(2)),
                width,
                raw_us,
                boottime_us,
            }
        };
        (1..LOOKS)
            .map(look)
            .fold(look(0), |best, next| if next.width < best.width { next } else { best })
    }

    /// Ticks in a second by the kernel's clock from `self` to `later`, and the part of it that it may be wrong by, in
    /// billionths; none when they are too close to each other.
    pub(crate) fn measure(&self, later: &Self) -> Option<(u64, i64)> {
        let us = later.raw_us.saturating_sub(self.raw_us);
        let ticks = later.counter.checked_sub(self.counter).filter(|ticks| *ticks != 0)?;
        let of_ticks =
            |count: u64, scale: u64, by: u64| u128::from(count).saturating_mul(scale.into()).checked_div(by.into());
        let hz = of_ticks(ticks, 1_000_000, u64::try_from(us).ok()?)?;
        let wrong = of_ticks(self.width.saturating_add(later.width), 1_000_000_000, ticks)?;
        let known = us >= LEAST;
        known.then_some((u64::try_from(hz).ok()?, i64::try_from(wrong).unwrap_or(i64::MAX)))
    }
}

/// Watches the counter from its creation on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    first: Sample,
}

/// What a [`Clock`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Reading {
    /// Ticks in a second; 0 unknown.
    pub hz: u64,
    /// One instant on both clocks; none without a counter.
    pub counter: Option<Anchor>,
    /// What was before the kernel's clock began.
    pub firmware_us: Option<i64>,
}

impl Clock {
    /// Begins to watch: early, for the frequency is measured from here on where the CPU does not say it.
    pub(crate) fn start() -> Self {
        Self { first: Sample::take() }
    }

    /// Reads it. `about` is the frequency by another source, for a boot too short to measure it. `kexeced`: the running
    /// kernel was started by another one, so that the counter's zero is not this boot's.
    pub(crate) fn read(&self, about: Option<u64>, kexeced: bool) -> Reading {
        reading(&self.first, &Sample::take(), counter::frequency(), about, kexeced)
    }

    /// The counter's ticks in a millisecond by now; `about` as above.
    pub(crate) fn ticks_per_ms(&self, about: Option<u64>) -> Option<u64> {
        let hz = self.read(about.and_then(|ticks| ticks.checked_mul(1000)), true).hz;
        hz.checked_div(1000).filter(|ticks| *ticks != 0)
    }
}

/// What two samples and the CPU's word come to.
fn reading(first: &Sample, last: &Sample, said: Option<u64>, about: Option<u64>, kexeced: bool) -> Reading {
    let measured = first.measure(last);
    // Some firmware leaves a wrong number in CNTFRQ_EL0, and the kernel goes by the device tree then.
    let is_true = |hz: &u64| measured.is_none_or(|(m, _)| m.abs_diff(*hz) <= m.div_euclid(100));
    let hz = said
        .filter(is_true)
        .or(measured.map(|(hz, _)| hz))
        .or(about)
        .unwrap_or(0);
    let before = ticks_us(last.counter, hz).saturating_sub(last.boottime_us);
    let known = !kexeced && hz != 0 && last.counter != 0 && (0..MOST_FIRMWARE).contains(&before);
    Reading {
        hz,
        counter: (last.counter != 0).then_some(Anchor {
            at: last.counter,
            us: last.boottime_us,
        }),
        firmware_us: known.then_some(before),
    }
}

/// When each phase began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Phases(Vec<Phase>);

impl Phases {
    /// The service kernel from the start of its clock, PID 1 from `began_us` on (microseconds of `CLOCK_BOOTTIME`).
    pub(crate) fn since(began_us: u64) -> Self {
        let mut phases = Self::default();
        phases.push("service", 0);
        phases.push("start", i64::try_from(began_us).unwrap_or(i64::MAX));
        phases
    }

    /// Phase `name` begins now, unless it has already.
    pub(crate) fn enter(&mut self, name: &str) {
        self.push(name, boottime_us());
    }

    fn push(&mut self, name: &str, us: i64) {
        if self.0.iter().all(|phase| phase.name != name) {
            self.0.push(Phase {
                name: name.to_owned(),
                us,
            });
        }
    }

    /// All of them.
    pub(crate) fn list(&self) -> &[Phase] {
        &self.0
    }
}

/// When process `pid` (a number or `self`) was made, in microseconds of `CLOCK_BOOTTIME`, to a hundredth of a second; `root` is
/// the folder with `proc` in it. The kernel makes PID 1 long before it has drivers to run a program with.
pub(crate) fn process_started(root: &Path, pid: &str) -> Option<i64> {
    started(&std::fs::read_to_string(root.join("proc").join(pid).join("stat")).ok()?)
}

/// The same of a process whose `stat` is `text`.
pub(crate) fn started(text: &str) -> Option<i64> {
    // proc_pid_stat(5): field 22 is the start; field 2 is a name in brackets with anything in it.
    let ticks: i64 = text
        .rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()?;
    // USER_HZ is 100 on both architectures.
    ticks.checked_mul(10_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(counter: u64, us: i64) -> Sample {
        Sample {
            counter,
            width: 10,
            raw_us: us,
            boottime_us: us,
        }
    }

    #[test]
    fn the_counter_is_measured_where_the_cpu_does_not_say() {
        let (first, last) = (sample(1_000_000_000, 1_000_000), sample(3_000_000_000, 2_000_000));
        let got = reading(&first, &last, None, Some(5), false);
        assert_eq!(got.hz, 2_000_000_000);
        assert_eq!(
            got.counter,
            Some(Anchor {
                at: 3_000_000_000,
                us: 2_000_000
            })
        );
        assert_eq!(got.firmware_us, None, "the clock is ahead of the counter");
        let late = reading(&first, &sample(5_000_000_000, 2_000_000), None, None, false);
        assert_eq!((late.hz, late.firmware_us), (4_000_000_000, None));
        let firmware = reading(
            &sample(4_000_000_000, 1_000_000),
            &sample(6_000_000_000, 2_000_000),
            None,
            None,
            false,
        );
        assert_eq!(firmware.firmware_us, Some(1_000_000));
    }

    #[test]
    fn what_the_cpu_says_counts_unless_it_is_wrong() {
        let (first, last) = (sample(62_500_000, 500_000), sample(125_000_000, 1_500_000));
        let hz = |said, about| reading(&first, &last, said, about, false).hz;
        assert_eq!(hz(Some(62_500_000), None), 62_500_000);
        assert_eq!(hz(Some(62_499_000), None), 62_499_000);
        assert_eq!(hz(Some(24_000_000), None), 62_500_000);
        let short = sample(63_000_000, 508_000);
        assert_eq!(
            reading(&first, &short, Some(7), None, false).hz,
            7,
            "nothing to compare with"
        );
        assert_eq!(reading(&first, &short, None, Some(9), false).hz, 9);
        assert_eq!(
            reading(&first, &short, None, None, false),
            Reading {
                hz: 0,
                counter: Some(Anchor {
                    at: 63_000_000,
                    us: 508_000
                }),
                firmware_us: None
            }
        );
    }

    #[test]
    fn the_time_before_is_known_only_of_a_counter_that_began_at_power_on() {
        let (first, last) = (sample(100_000_000, 500_000), sample(200_000_000, 1_500_000));
        assert_eq!(reading(&first, &last, None, None, false).firmware_us, Some(500_000));
        assert_eq!(reading(&first, &last, None, None, true).firmware_us, None);
        let (first, last) = (sample(100_000_000_000, 500_000), sample(100_100_000_000, 1_500_000));
        assert_eq!(
            reading(&first, &last, None, None, false).firmware_us,
            None,
            "17 minutes of firmware"
        );
        let none = reading(&sample(0, 1_000), &sample(0, 100_000), None, None, false);
        assert_eq!(none, Reading::default());
    }

    #[test]
    fn this_machine_has_both() {
        let clock = Clock::start();
        std::thread::sleep(Duration::from_millis(60));
        let got = clock.read(None, false);
        assert!((1_000_000..20_000_000_000).contains(&got.hz), "{got:?}");
        let anchor = got.counter.unwrap();
        assert!(anchor.at != 0 && anchor.us > 0);
    }

    #[test]
    fn phases_begin_once() {
        let mut phases = Phases::since(1_500_000);
        phases.enter("select");
        phases.enter("probe");
        phases.enter("select");
        let names: Vec<_> = phases.list().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["service", "start", "select", "probe"]);
    }

    #[test]
    fn a_process_name_may_hold_anything() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("proc/1")).unwrap();
        let rest = "S 0 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123 1000 2000";
        std::fs::write(root.path().join("proc/1/stat"), format!("1 (a) b (c) {rest}")).unwrap();
        assert_eq!(process_started(root.path(), "1"), Some(1_230_000));
        assert_eq!(process_started(root.path(), "2"), None);
        std::fs::write(root.path().join("proc/1/stat"), "1 (x) S 0").unwrap();
        assert_eq!(process_started(root.path(), "1"), None);
        assert!(process_started(Path::new("/"), "self").is_some_and(|us| us <= boottime_us() + 1_000_000));
    }
}
