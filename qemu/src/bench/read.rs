//! What a console says about one boot. Pure.
//!
//! Cato and the bench's guest stamp their lines with the service kernel's clock, and both measure their load by
//! themselves. Those times are used where both ends are a contender's own lines; a console line reaches us a little
//! later. Dead time has no such clock: it is the difference of two console lines, milliseconds of this machine.

use std::sync::LazyLock;
use std::time::Duration;

use regex_lite::Regex;

use crate::console::Line;
use crate::timeline::{JUMP, Timeline};

/// The times of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// First byte of the payload read, or `kexec -l` started, until it is loaded.
    pub load: Duration,
    /// The service kernel's last line until the main kernel's first.
    pub dead: Duration,
    /// PID 1's first line until it jumps.
    pub stage: Duration,
    /// Cato: what comes between its budget and its load, where it takes the payload's memory. kexec-tools does
    /// that inside its load.
    pub reserve: Duration,
}

/// What a boot that is not timed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Highest memory in use less its value at the start, bytes.
    pub grown: i64,
    /// Bytes that the kernel copies into place.
    pub copied: u64,
}

type Pattern = LazyLock<Option<Regex>>;

static STEP: Pattern = LazyLock::new(|| Regex::new(r"(?:cato|bench)\[ *(\d+)\.(\d{3})\] ([a-z-]+): (.*)").ok());
static LOADED: Pattern = LazyLock::new(|| Regex::new(r"^loaded in (\d+) ms").ok());
static MEMORY: Pattern = LazyLock::new(|| Regex::new(r"^(start|peak) (\d+) kB").ok());
static COPIED: Pattern = LazyLock::new(|| Regex::new(r"(\d+) bytes to copy").ok());
static SEGMENT: Pattern = LazyLock::new(|| Regex::new(r"segment\[(\d+)\]\.memsz *= *(0x)?([0-9a-f]+)").ok());

/// A contender's own line: when on its clock, step, text.
fn step(text: &str) -> Option<(Duration, &str, &str)> {
    let found = STEP.as_ref()?.captures(text)?;
    let seconds: u64 = found.get(1)?.as_str().parse().ok()?;
    let millis: u64 = found.get(2)?.as_str().parse().ok()?;
    let at = Duration::from_millis(seconds * 1000 + millis);
    Some((at, found.get(3)?.as_str(), found.get(4)?.as_str()))
}

fn number(pattern: &Pattern, text: &str) -> Option<u64> {
    pattern.as_ref()?.captures(text)?.get(1)?.as_str().parse().ok()
}

/// The times of a whole boot; what is missing, for one that is not.
pub fn times(lines: &[Line]) -> Result<Times, &'static str> {
    let mut start = None;
    let mut budget = None;
    let mut load = None;
    let mut took = None;
    let mut jump = None;
    for line in lines {
        let Some((at, name, text)) = step(&line.text) else {
            continue;
        };
        start.get_or_insert(at);
        match name {
            "budget" => budget = Some(at),
            "load" => _ = load.get_or_insert(at),
            "hand-off" if text.starts_with(JUMP) => jump = Some(at),
            "hand-off" => took = took.or_else(|| number(&LOADED, text)),
            _ => {}
        }
    }
    let start = start.ok_or("PID 1 said nothing")?;
    let load = load.ok_or("no payload was loaded")?;
    let took = took.ok_or("the payload did not come to be loaded")?;
    let jump = jump.ok_or("nothing jumped")?;
    Ok(Times {
        load: Duration::from_millis(took),
        dead: dead(lines).ok_or("the main kernel said nothing")?,
        stage: jump.saturating_sub(start),
        reserve: budget.map_or(Duration::ZERO, |budget| load.saturating_sub(budget)),
    })
}

/// The time in which no kernel runs.
pub fn dead(lines: &[Line]) -> Option<Duration> {
    let timeline = Timeline::last(lines);
    Some(Duration::from_millis(timeline.main?.checked_sub(timeline.bye?)?))
}

/// Memory in use and bytes to copy; what is missing, for a boot that did not get so far.
pub fn memory(lines: &[Line]) -> Result<Memory, &'static str> {
    let mut start = None;
    let mut peak = 0;
    for line in lines {
        let Some((_, "memory", text)) = step(&line.text) else {
            continue;
        };
        let Some(found) = MEMORY.as_ref().and_then(|re| re.captures(text)) else {
            continue;
        };
        let value: i64 = found.get(2).and_then(|n| n.as_str().parse().ok()).unwrap_or(0);
        if found.get(1).is_some_and(|what| what.as_str() == "start") {
            start = Some(value);
        }
        peak = peak.max(value);
    }
    let start = start.ok_or("the sampler said nothing")?;
    Ok(Memory {
        grown: (peak - start) * 1024,
        copied: copied(lines).ok_or("nothing says what has to be copied")?,
    })
}

/// What the kernel copies: Cato says it, kexec-tools names its segments.
pub fn copied(lines: &[Line]) -> Option<u64> {
    let said = lines.iter().rev().find_map(|line| number(&COPIED, &line.text));
    said.or_else(|| {
        let sizes = lines.iter().filter_map(|line| {
            let found = SEGMENT.as_ref()?.captures(&line.text)?;
            u64::from_str_radix(found.get(3)?.as_str(), 16).ok()
        });
        let sum: u64 = sizes.sum();
        (sum > 0).then_some(sum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::samples::lines;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    const CATO: &str = "\
        100 [    0.000000] Linux version 6.1.0
        900 cato[   0.800] start: cato 0.1.0
        950 cato[   0.850] budget: command line: added panic=30
        960 cato[   0.860] budget: kernel kernel (35.9 MiB, Image)
        990 cato[   0.890] load: reading the payload
        1200 cato[   1.101] layout: arm64 kernel runs in 0x1..0x2; entry 0x3; 131072 bytes to copy
        1210 cato[   1.110] hand-off: loaded in 219 ms
        1212 cato[   1.112] hand-off: reboot(KEXEC)
        1230 [    1.13] kexec_core: Starting new kernel
        1231 [    1.13] Bye!
        1261 [    0.000000] Linux version 6.12.0";

    #[test]
    fn a_boot_of_cato() {
        assert_eq!(
            times(&lines(CATO)),
            Ok(Times {
                load: ms(219),
                dead: ms(30),
                stage: ms(312),
                reserve: ms(30),
            })
        );
        assert_eq!(copied(&lines(CATO)), Some(131_072));
    }

    #[test]
    fn a_boot_of_kexec_tools() {
        let text = "\
            100 [    0.000000] Linux version 6.1.0
            900 bench[   0.800] start: kexec-tools
            910 bench[   0.810] load: -c -l /payload/kernel
            1910 bench[   1.800] hand-off: loaded in 990 ms
            1911 bench[   1.801] hand-off: reboot(KEXEC) by kexec -e
            1990 [    1.9] kexec_core: Starting new kernel
            2090 [    0.000000] Linux version 6.12.0";
        let times = times(&lines(text)).unwrap();
        assert_eq!(
            (times.load, times.dead, times.stage, times.reserve),
            (ms(990), ms(100), ms(1001), ms(0))
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut text: Vec<_> = CATO.lines().collect();
        let mut said = Vec::new();
        while text.pop().is_some() {
            said.push(times(&lines(&text.join("\n"))).unwrap_err());
        }
        said.dedup();
        assert_eq!(
            said,
            [
                "the main kernel said nothing",
                "nothing jumped",
                "the payload did not come to be loaded",
                "no payload was loaded",
                "PID 1 said nothing"
            ]
        );
    }

    #[test]
    fn the_peak_of_memory_and_the_segments() {
        let text = "\
            1 bench[   0.100] memory: start 100000 kB
            2 bench[   0.200] memory: peak 150000 kB
            3 bench[   0.300] memory: peak 350000 kB
            4 segment[0].buf   = 0xffff8ae60010
            4 segment[0].bufsz = 0x23fc200
            4 segment[0].mem   = 0x70000000
            4 segment[0].memsz = 0x24e0000
            4 segment[1].memsz = 0x1000";
        let memory = memory(&lines(text)).unwrap();
        assert_eq!(memory.grown, 250_000 * 1024);
        assert_eq!(memory.copied, 0x24e_1000);
        assert!(super::memory(&lines("1 segment[1].memsz = 0x1000")).is_err());
        assert!(super::memory(&lines("1 bench[   0.100] memory: start 1 kB")).is_err());
    }
}
