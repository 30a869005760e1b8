//! The result, for people and for programs. Pure.

use std::fmt;
use std::time::Duration;

use config::Arch;
use serde_json::{Map, Value, json};

use super::super::figures::{millions, ratio, rounded};
use super::super::payload::Payload;
use super::median;
use super::times::Times;
use super::way::Way;
use crate::machine::Machine;

/// A part of a boot: its key in `--json`, its heading, and where it is.
type Part = (&'static str, &'static str, fn(&Times) -> Duration);

/// All of them, in order.
const PARTS: [Part; 7] = [
    ("firmware_s", "firmware", |times| times.firmware),
    ("service_s", "service", |times| times.service),
    ("stage_s", "stage", |times| times.stage),
    ("leave_s", "leave", |times| times.leave),
    ("dead_s", "dead", |times| times.dead),
    ("first_line_s", "first line", |times| times.first_line),
    ("pid1_s", "PID 1", |times| times.pid1),
];

/// One way and its medians, seconds, in the order of [`PARTS`].
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Which.
    pub way: Way,
    /// How long.
    pub medians: Vec<f64>,
}

impl Row {
    /// Of at least one boot.
    pub fn of(way: Way, boots: &[Times]) -> Option<Self> {
        let medians = PARTS.iter().map(|(_, _, part)| median(boots, part));
        Some(Self {
            way,
            medians: medians.collect::<Option<_>>()?,
        })
    }

    fn get(&self, key: &str) -> Option<f64> {
        let n = PARTS.iter().position(|(name, _, _)| *name == key)?;
        self.medians.get(n).copied()
    }
}

/// Seconds from power to the main kernel's first line, from a disk of some rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How much it reads, millions of bytes a second.
    pub mb_per_s: u64,
    /// Without a chain.
    pub direct: f64,
    /// With ours in one file.
    pub tuned: f64,
}

/// All of them on one architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Race {
    /// The instruction set.
    pub arch: Arch,
    /// Where.
    pub machine: Machine,
    /// What was booted.
    pub payload: Payload,
    /// How often.
    pub runs: u32,
    /// Release of the kernel made for the job.
    pub tuned: String,
    /// Release of Debian's service kernel.
    pub debian: String,
    /// Release of the main kernel.
    pub main: String,
    /// Who and how.
    pub rows: Vec<Row>,
    /// From slower disks.
    pub rates: Vec<Rate>,
}

/// What is divided by what.
const RATIOS: [(&str, Way, Way); 6] = [
    ("first_line_s", Way::CatoTuned, Way::Direct),
    ("first_line_s", Way::CatoTunedImage, Way::Direct),
    ("first_line_s", Way::CatoDebian, Way::Direct),
    ("pid1_s", Way::CatoTunedImage, Way::Direct),
    ("service_s", Way::CatoTuned, Way::CatoDebian),
    ("first_line_s", Way::CatoTuned, Way::KexecToolsTuned),
];

impl Race {
    fn get(&self, way: Way, key: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.way == way)?.get(key)
    }

    /// As one JSON object.
    pub fn json(&self) -> Value {
        let mut object = Map::from_iter([
            ("arch".to_owned(), json!(self.arch.to_string())),
            ("payload_bytes".to_owned(), json!(self.payload.bytes())),
            ("runs".to_owned(), json!(self.runs)),
        ]);
        for row in &self.rows {
            let parts = PARTS
                .iter()
                .zip(&row.medians)
                .map(|((key, _, _), seconds)| ((*key).to_owned(), json!(rounded(*seconds))));
            object.insert(row.way.key().to_owned(), Value::Object(parts.collect()));
        }
        if !self.rates.is_empty() {
            let rates = self.rates.iter().map(|rate| {
                json!({
                    "mb_per_s": rate.mb_per_s,
                    "direct_s": rounded(rate.direct),
                    "cato_tuned_image_s": rounded(rate.tuned),
                })
            });
            object.insert("first_line_by_rate".to_owned(), rates.collect());
        }
        Value::Object(object)
    }
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: power to the main system; payload {:.1} MB; service Linux {} or Debian's {}, main Linux {}; {}, {} CPUs \
             (the service Linux uses 1), {} MiB; medians of {}, seconds",
            self.arch,
            millions(self.payload.bytes()),
            self.tuned,
            self.debian,
            self.main,
            self.machine.firmware,
            self.machine.cpus,
            self.machine.memory_mib,
            self.runs
        )?;
        write!(f, "\n{:<36}", "")?;
        for (_, heading, _) in PARTS {
            write!(f, " {heading:>10}")?;
        }
        writeln!(f)?;
        for row in &self.rows {
            write!(f, "{:<36}", row.way)?;
            for seconds in &row.medians {
                write!(f, " {seconds:>10.3}")?;
            }
            writeln!(f)?;
        }
        writeln!(f, "\n{:<72} {:>7}", "", "ratio")?;
        for (key, ours, theirs) in RATIOS {
            let heading = PARTS.iter().find(|(name, _, _)| *name == key).map_or("", |part| part.1);
            let value = self.get(ours, key).zip(self.get(theirs, key));
            if let Some(value) = value.and_then(|(ours, theirs)| ratio(ours, theirs)) {
                writeln!(f, "{:<72} {value:>7.3}", format!("{heading}: {ours} ÷ {theirs}"))?;
            }
        }
        for rate in &self.rates {
            if let Some(value) = ratio(rate.tuned, rate.direct) {
                let name = format!(
                    "first line, a disk of {} MB/s: {:.3} s ÷ {:.3} s without a chain",
                    rate.mb_per_s, rate.tuned, rate.direct
                );
                writeln!(f, "{name:<72} {value:>7.3}")?;
            }
        }
        writeln!(
            f,
            "\nQEMU emulates no caches and its firmware reads as fast as its Linux: a board's firmware mostly does not."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race() -> Race {
        let times = |ms: u64| Times {
            firmware: Duration::from_millis(ms),
            first_line: Duration::from_millis(2 * ms),
            ..Times::default()
        };
        Race {
            arch: Arch::Arm64,
            machine: Machine::new(Arch::Arm64),
            payload: Payload {
                archive: "/a".into(),
                initrd_file: "/i".into(),
                kernel: 30_000_000,
                initrd: 64_000_000,
            },
            runs: 3,
            tuned: "6.12-cato".into(),
            debian: "6.1".into(),
            main: "6.12".into(),
            rows: Way::ALL
                .into_iter()
                .zip(1..)
                .filter_map(|(way, n)| Row::of(way, &[times(n * 1000), times(n * 1000 + 10)]))
                .collect(),
            rates: vec![Rate {
                mb_per_s: 20,
                direct: 6.0,
                tuned: 3.0,
            }],
        }
    }

    #[test]
    fn json_has_a_key_for_each_way_and_each_part() {
        let object = race().json();
        for way in Way::ALL {
            assert_eq!(object[way.key()].as_object().map(Map::len), Some(PARTS.len()), "{way}");
        }
        assert_eq!(object["cato_tuned"]["firmware_s"], 3.005);
        assert_eq!(object["first_line_by_rate"][0]["cato_tuned_image_s"], 3.0);
    }

    #[test]
    fn the_first_ratio_is_the_chain_s_cost() {
        let text = race().to_string();
        let ratios: Vec<&str> = text
            .lines()
            .skip_while(|line| !line.contains("ratio"))
            .skip(1)
            .collect();
        let words: Vec<_> = ratios[0].split_whitespace().collect();
        assert_eq!(words.join(" "), "first line: cato, its kernel ÷ direct 2.990");
        assert!(text.contains("20 MB/s"), "{text}");
    }
}
