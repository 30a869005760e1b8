//! The result, for people and for programs. Pure.

use std::fmt;

use config::Arch;
use serde_json::{Value, json};

use super::contender::Contender;
use super::figures::{Figures, millions, rounded};
use super::long::Long;
use super::payload::Payload;
use super::ratios::{ROWS, UNCHECKED};
use crate::machine::Machine;

/// What QEMU's times are good for.
const CAVEAT: &str = "QEMU emulates no caches, and checking and copying cost other shares of the time there than on \
                      silicon: these times compare the contenders of this run with each other and say nothing else.";

/// A contender and its figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Entrant {
    /// Who.
    pub contender: Contender,
    /// How.
    pub figures: Figures,
}

/// All of them on one architecture.
#[derive(Debug, Clone, PartialEq)]
pub struct Contest {
    /// The instruction set.
    pub arch: Arch,
    /// What was booted.
    pub payload: Payload,
    /// How often.
    pub runs: u32,
    /// Where.
    pub machine: Machine,
    /// Release of the service kernel.
    pub service: String,
    /// Release of the main kernel.
    pub main: String,
    /// Debian's version of kexec-tools.
    pub kexec_tools: String,
    /// Who and how.
    pub entrants: Vec<Entrant>,
}

impl Contest {
    fn figures(&self, contender: Contender) -> Option<Figures> {
        let found = self.entrants.iter().find(|entrant| entrant.contender == contender)?;
        Some(found.figures)
    }

    /// kexec-tools without its check, placed as is best for load and dead time together.
    fn unchecked(&self) -> Option<&Entrant> {
        let entrants = self.entrants.iter();
        let sum = |entrant: &&Entrant| entrant.figures.load_and_dead.median;
        entrants
            .filter(|entrant| UNCHECKED.contains(&entrant.contender))
            .min_by(|a, b| sum(a).total_cmp(&sum(b)))
    }

    /// One object: `arch`, `payload_bytes`, `runs`, a key for each contender, and `kexec_tools_no_checks`, which is
    /// the better one of its two placements; with `long` also the keys of that.
    pub fn json(&self, long: Option<&Long>) -> Value {
        let mut object = json!({
            "arch": self.arch.to_string(),
            "payload_bytes": self.payload.bytes(),
            "runs": self.runs,
        });
        let named = self.entrants.iter().map(|entrant| (entrant.contender.key(), entrant));
        let best = self.unchecked().map(|entrant| ("kexec_tools_no_checks", entrant));
        for (key, Entrant { figures, .. }) in named.chain(best) {
            insert(
                &mut object,
                key,
                json!({
                    "load_s": rounded(figures.load.median),
                    "dead_s": rounded(figures.dead.median),
                    "stage_s": rounded(figures.stage.median),
                    "reserve_s": rounded(figures.reserve.median),
                    "peak_bytes": figures.peak,
                    "copied_bytes": figures.copied,
                }),
            );
        }
        if let Some(long) = long {
            for (key, value) in long.json() {
                insert(&mut object, key, value);
            }
        }
        object
    }
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(key.to_owned(), value);
    }
}

fn mib(bytes: i64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "sizes of memory, for people")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

impl fmt::Display for Contest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arch, payload, .. } = self;
        writeln!(
            f,
            "{arch}: payload {:.1} MB (kernel {:.1}, initrd {:.1}); service Linux {}, main Linux {}; kexec-tools {}; \
             {} CPUs (the service Linux uses 1), {} MiB; medians of {} (lowest..highest)",
            millions(payload.bytes()),
            millions(payload.kernel),
            millions(payload.initrd),
            self.service,
            self.main,
            self.kexec_tools,
            self.machine.cpus,
            self.machine.memory_mib,
            self.runs
        )?;
        writeln!(
            f,
            "\n{:<33} {:>22} {:>24} {:>22} {:>9} {:>9} {:>9}",
            "", "load s", "dead s", "stage s", "reserve s", "peak MiB", "copied MB"
        )?;
        for Entrant { contender, figures } in &self.entrants {
            writeln!(
                f,
                "{contender:<33} {:>22} {:>24} {:>22} {:>9.3} {:>9.1} {:>9.1}",
                figures.load,
                figures.dead,
                figures.stage,
                figures.reserve.median,
                mib(figures.peak),
                millions(figures.copied)
            )?;
        }
        writeln!(f, "\n{:<50} {:>7}", "", "ratio")?;
        for row in ROWS {
            if let Some(value) = row.value(|contender| self.figures(contender)) {
                writeln!(f, "{:<50} {value:>7.3}", row.name())?;
            }
        }
        writeln!(f, "\n{CAVEAT}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::Spread;
    use super::*;

    fn contest() -> Contest {
        let figures = |n: u32| {
            let flat = |seconds| Spread::of([seconds]).unwrap();
            let (load, dead) = (f64::from(n), 10.0 * f64::from(n));
            Figures {
                load: flat(load),
                dead: flat(dead),
                load_and_dead: flat(load + dead),
                stage: flat(load + 0.25),
                reserve: flat(0.0625),
                peak: i64::from(n) << 20,
                copied: 7,
            }
        };
        let entrants = Contender::ALL.into_iter().zip(1..);
        Contest {
            arch: Arch::Arm64,
            payload: Payload {
                archive: "/a".into(),
                initrd_file: "/i".into(),
                kernel: 30_000_000,
                initrd: 64_000_000,
            },
            runs: 5,
            machine: Machine::new(Arch::Arm64),
            service: "6.1".into(),
            main: "6.12".into(),
            kexec_tools: "2.0".into(),
            entrants: entrants
                .map(|(contender, n)| Entrant {
                    contender,
                    figures: figures(n),
                })
                .collect(),
        }
    }

    #[test]
    fn json_has_a_key_for_each_contender() {
        let object = contest().json(None);
        assert_eq!(object["arch"], "arm64");
        assert_eq!(
            (&object["payload_bytes"], &object["runs"]),
            (&json!(94_000_000), &json!(5))
        );
        let want = json!({
            "load_s": 2.0, "dead_s": 20.0, "stage_s": 2.25, "reserve_s": 0.063, "peak_bytes": 2 << 20, "copied_bytes": 7
        });
        assert_eq!(object["cato_fast"], want);
        let keys = object.as_object().unwrap().len();
        assert_eq!(keys, 3 + Contender::ALL.len() + 1);
        assert_eq!(object["kexec_tools_no_checks"], object["kexec_tools_no_checks_placed"]);
        let mut other = contest();
        other.entrants.reverse();
        if let Some(default) = other.entrants.first_mut() {
            default.figures.load_and_dead.median = 0.5;
        }
        let object = other.json(None);
        assert_eq!(object["kexec_tools_no_checks"], object["kexec_tools_no_checks_default"]);
    }

    #[test]
    fn the_first_ratio_is_like_for_like_and_what_qemu_lacks_is_said() {
        let text = contest().to_string();
        let ratios = text.lines().skip_while(|line| !line.contains("ratio")).nth(1).unwrap();
        let words: Vec<_> = ratios.split_whitespace().collect();
        assert_eq!(words.join(" "), "dead: cato sha256 ÷ kexec-tools 0.200");
        assert!(text.contains("payload 94.0 MB"), "{text}");
        assert!(text.trim_end().ends_with(CAVEAT));
    }
}
