//! What the main system of a test has to say, as lines a test can read back.
//!
//! Given text as the kernel prints it (`/proc`, `/dev/kmsg`), makes `report: key=value` lines of it; given a console transcript,
//! finds those lines again. Pure: the program that reads the files is `main.rs`.
//! Responsible for one line staying one line whatever a value contains, and for both ends agreeing on the form.
//!
//! | key | value |
//! |---|---|
//! | `uname` | kernel release |
//! | `cmdline` | `/proc/cmdline` without its newline |
//! | `initrd-nonce` | `/nonce` of the initrd, trimmed |
//! | `initrd-files` | `NAME=SHA256`, a line for each file in `/etc/report` |
//! | `model` | `/proc/device-tree/model` |
//! | `dtb-nonce` | property `cato-test,nonce` of `/` or `/chosen` |
//! | `chosen` | `NAME LENGTH`, a line for each property of `/chosen` |
//! | `chosen-source` | `proc` or `fdt`: where they were read |
//! | `serial-number` | `/proc/device-tree/serial-number` |
//! | `mac-address` | of the port that `ethernet0` of `/aliases` is, hex |
//! | `reserved-memory` | a line for each region of the tree |
//! | `memtotal` | KiB |
//! | `cpus` | processors online |
//! | `el` | `EL1` or `EL2`, as the kernel's log says (arm64) |
//! | `efi`, `acpi`, `la57` | `yes` or `no` |
//! | `taint` | `/proc/sys/kernel/tainted` |
//! | `kernel-code` | where the kernel runs: `/proc/iomem`'s range |
//! | `initrd-size` | bytes of the initrd the kernel unpacked, where `retain_initrd` keeps it |
//! | `uptime` | seconds since the kernel started |
//! | `watchdog` | `NAME DRIVER`, a line for each one that has a driver |
//! | `handover` | what `/bin/cato report --json` prints, where the initrd has it |
//! | `handover-text`, `handover-svg` | the same as a table and as a picture |
//! | `handover-error` | what any of the three says instead |
//! | `run` | what `/bin/cato` was asked for by `report.run=`, its exit code and what it printed |
//! | `pstore` | `NAME HEAD COUNT`: a kernel's record, its first line, and how many of Cato's lines it has |
//! | `rng`, `kaslr` | the log lines about them |
//! | `dmesg-errors` | how many log lines match [`ALARMS`] |
//! | `dmesg-error` | each of the first 16 of them |
//! | `done` | nothing: a line `report: done` ends the report |
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What every line starts with.
pub const PREFIX: &str = "report: ";

/// The last line, after [`PREFIX`].
pub const DONE: &str = "done";

/// Log lines that mean the hand-over was not clean.
pub const ALARMS: [&str; 8] = [
    "Booted with MMU enabled",
    "x1-x3 nonzero",
    "memory probably corrupted",
    "sanitize",
    "WARNING:",
    "Failed to disable LPIs",
    "FDT: Invalid",
    "Unable to handle kernel",
];

/// `report: key=value`, with everything that would break the line written as `\n`, `\r`, `\\` or `\xNN`.
pub fn line(key: &str, value: &str) -> String {
    format!("{PREFIX}{key}={}", escape(value))
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                // A String takes every write.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('x') => {
                let hex: String = rest.by_ref().take(2).collect();
                let c = u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32);
                out.push(c.unwrap_or('\u{fffd}'));
            }
            Some(c) => out.push(c),
            None => {}
        }
    }
    out
}

/// A report read back from a console transcript.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    values: BTreeMap<String, Vec<String>>,
    done: bool,
}

impl Report {
    /// Finds the lines of a report in everything a console printed. A line may have other text (a time stamp) before it.
    pub fn parse(transcript: &str) -> Self {
        let mut report = Self::default();
        for line in transcript.lines() {
            let Some((_, rest)) = line.split_once(PREFIX) else {
                continue;
            };
            let rest = rest.trim_end_matches('\r');
            if rest == DONE {
                report.done = true;
            } else if let Some((key, value)) = rest.split_once('=') {
                report.values.entry(key.to_owned()).or_default().push(unescape(value));
            }
        }
        report
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// Every value of `key`, in the order they were printed.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether it was printed to its end.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

/// What the command line asks the program to do instead of powering off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Report and power off.
    PowerOff,
    /// `report.panic`: report and crash the kernel.
    Panic,
    /// `report.hang`: report and do nothing for ever.
    Hang,
    /// `report.reboot`: report and start the machine again.
    Reboot,
}

/// What `/bin/cato` is asked for by `report.run=mark-good;set-next,B,--once`: commands, and the words of each.
pub fn commands(cmdline: &str) -> Vec<Vec<&str>> {
    let asked = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("report.run="));
    asked
        .flat_map(|commands| commands.split(';'))
        .map(|command| command.split(',').collect())
        .collect()
}

impl Then {
    /// Reads it from a kernel command line; the last word wins.
    pub fn from_cmdline(cmdline: &str) -> Self {
        cmdline
            .split_whitespace()
            .fold(Self::PowerOff, |then, word| match word {
                "report.panic" => Self::Panic,
                "report.hang" => Self::Hang,
                "report.reboot" => Self::Reboot,
                _ => then,
            })
    }
}

/// How many processors ranges such as `0-3,5` name; `None` when they are none.
pub fn count_cpus(ranges: &str) -> Option<u32> {
    ranges.trim().split(',').try_fold(0_u32, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// `MemTotal` of `/proc/meminfo`, KiB.
pub fn mem_total(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Whether `/proc/cpuinfo` lists 5-level paging.
pub fn has_la57(cpuinfo: &str) -> bool {
    let flags = cpuinfo.lines().filter(|l| l.starts_with("flags"));
    flags.flat_map(str::split_whitespace).any(|flag| flag == "la57")
}

/// Where `/proc/iomem` says the kernel's text is.
pub fn kernel_code(iomem: &str) -> Option<&str> {
    iomem.lines().find_map(|l| l.trim().strip_suffix(" : Kernel code"))
}

/// The text of a `/dev/kmsg` record (`prio,seq,time,flags;text`, then lines of its dictionary).
pub fn kmsg_text(record: &str) -> Option<&str> {
    record.split_once(';')?.1.lines().next()
}

/// `0-9a-f` of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, b| {
        // A String takes every write.
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// What the kernel's log tells, gathered one line at a time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    /// The exception level the processors started at.
    pub level: Option<&'static str>,
    /// Lines about the random number generator's start.
    pub rng: Vec<String>,
    /// Lines about kernel address randomisation.
    pub kaslr: Vec<String>,
    /// How many lines matched [`ALARMS`].
    pub alarm_count: usize,
    /// The first 16 of them.
    pub alarms: Vec<String>,
}

impl Log {
    /// Takes one line of text.
    pub fn take(&mut self, text: &str) {
        for level in ["EL1", "EL2"] {
            if text.contains("CPU") && text.ends_with(&format!("started at {level}")) {
                self.level = Some(level);
            }
        }
        if text.contains("crng init") || text.contains("rng-seed") {
            self.rng.push(text.to_owned());
        }
        if text.contains("KASLR") {
            self.kaslr.push(text.to_owned());
        }
        if ALARMS.iter().any(|alarm| text.contains(alarm)) {
            self.alarm_count = self.alarm_count.saturating_add(1);
            if self.alarms.len() < 16 {
                self.alarms.push(text.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_anything_in_it_stays_on_its_line_and_reads_back() {
        let value = "a=b\nreport: done\r\u{1b}[0m\\x41 \"q\"\u{85}";
        let printed = line("cmdline", value);
        assert_eq!(printed.lines().count(), 1);
        let report = Report::parse(&format!("[  1.0] {printed}\r\n"));
        assert_eq!(report.get("cmdline"), Some(value));
        assert!(!report.is_done(), "a value must not be able to end the report");
    }

    #[test]
    fn repeated_keys_keep_their_order_and_done_is_seen() {
        let report = Report::parse("noise\n12.1 report: chosen=bootargs 9\nreport: chosen=x 0\n1.5 report: done\r\n");
        assert_eq!(report.all("chosen").collect::<Vec<_>>(), ["bootargs 9", "x 0"]);
        assert_eq!(report.get("model"), None);
        assert!(report.is_done());
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(count_cpus("0\n"), Some(1));
        assert_eq!(count_cpus("0-3,5,8-9"), Some(7));
        for bad in ["", "x", "3-1", "0-4294967295"] {
            assert_eq!(count_cpus(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn proc_files() {
        assert_eq!(
            mem_total("MemTotal:        1000344 kB\nMemFree: 3 kB\n"),
            Some(1_000_344)
        );
        assert_eq!(mem_total("MemFree: 3 kB\n"), None);
        assert!(has_la57("processor : 0\nflags\t\t: fpu la57 vme\n"));
        assert!(!has_la57("model name : la57\nflags\t\t: fpu la57x\n"));
        assert_eq!(
            kernel_code("40000000-7fffffff : System RAM\n  40210000-4197ffff : Kernel code\n"),
            Some("40210000-4197ffff")
        );
    }

    #[test]
    fn words_on_the_command_line() {
        assert_eq!(Then::from_cmdline("ro quiet"), Then::PowerOff);
        assert_eq!(Then::from_cmdline("ro report.panic x"), Then::Panic);
        assert_eq!(Then::from_cmdline("report.panic report.hang"), Then::Hang);
        assert_eq!(Then::from_cmdline("report.hangs"), Then::PowerOff);
    }

    #[test]
    fn the_log_is_searched_for_alarms() {
        let mut log = Log::default();
        for record in [
            "6,1,0,-;CPU: All CPU(s) started at EL2\n SUBSYSTEM=cpu\n",
            "3,2,0,-;GICv3: Booted with LPIs enabled, memory probably corrupted\n",
            "4,3,0,-;KASLR disabled due to lack of seed\n",
            "5,4,0,-;random: crng init done\n",
        ] {
            log.take(kmsg_text(record).unwrap());
        }
        assert_eq!(log.level, Some("EL2"));
        assert_eq!((log.alarm_count, log.alarms.len()), (1, 1));
        assert!(log.alarms[0].ends_with("memory probably corrupted"));
        assert_eq!((log.rng.len(), log.kaslr.len()), (1, 1));
    }

    #[test]
    fn the_log_keeps_only_so_many_alarms() {
        let mut log = Log::default();
        (0..40).for_each(|_| log.take("WARNING: CPU: 0"));
        assert_eq!((log.alarm_count, log.alarms.len()), (40, 16));
    }

    #[test]
    fn bytes_as_hex() {
        assert_eq!(hex(&[0, 0xab, 0xff]), "00abff");
    }
}
