//! Where the time went: the phases of a boot, read from its console. Pure.
//!
//! The words are those of design §7. *Stage time* is from Cato's first line to its `reboot(KEXEC)`, *load time* from the
//! first byte of the payload to loaded, *dead time* from the service kernel's last line to the main kernel's first.

use std::fmt;
use std::sync::LazyLock;

use regex_lite::Regex;

use crate::console::Line;

/// One hop: a kernel that started Cato, and the kernel that followed. Times are milliseconds since the machine started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// When this hop began: the machine's start, or the start of the kernel before.
    pub start: u64,
    /// The service kernel's first line.
    pub service: Option<u64>,
    /// Cato's first line.
    pub stage: Option<u64>,
    /// Cato began to read the payload.
    pub load: Option<u64>,
    /// The payload is loaded: `kexec_load` came back.
    pub loaded: Option<u64>,
    /// Cato called `reboot(2)`.
    pub jump: Option<u64>,
    /// The service kernel's last line, `Bye!` or `Starting new kernel`.
    pub bye: Option<u64>,
    /// The purgatory's first line.
    pub purgatory: Option<u64>,
    /// The main kernel's `Linux version` line.
    pub main: Option<u64>,
    /// The main kernel starts its PID 1.
    pub init: Option<u64>,
    /// The main system's PID 1 spoke.
    pub report: Option<u64>,
}

/// What is said before `reboot(2)`.
pub(crate) const JUMP: &str = "reboot(KEXEC)";

static CATO: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"cato\[ *\d+\.\d{3}\] ([a-z-]+): (.*)").ok());

/// The step and the text of one of Cato's own lines, `cato[   2.345] step: text`.
pub fn cato_line(text: &str) -> Option<(&str, &str)> {
    let found = CATO.as_ref()?.captures(text)?;
    Some((found.get(1)?.as_str(), found.get(2)?.as_str()))
}

/// The longest that Cato took to end one way or another: from its first line, or from the end of a wait at the prompt, to a
/// jump, the prompt, or a reset. Milliseconds.
pub fn longest_to_an_end(lines: &[Line]) -> Option<u64> {
    let (mut from, mut longest) = (None, None);
    for line in lines {
        let Some((step, said)) = cato_line(&line.text) else {
            continue;
        };
        match step {
            "start" if said.starts_with("cato ") => from = Some(line.ms),
            "select" => _ = from.get_or_insert(line.ms),
            _ => {}
        }
        let is_prompt = step == "prompt" && said.starts_with("no ");
        if is_prompt || said.starts_with(JUMP) || said.ends_with("resetting the machine") {
            longest = longest.max(from.map(|from| line.ms.saturating_sub(from)));
        }
        from = from.filter(|_| !is_prompt);
    }
    longest
}

impl Timeline {
    /// Every hop a console shows, in order. A reset begins a new one, and so does a main kernel that starts Cato again.
    pub fn all(lines: &[Line]) -> Vec<Self> {
        let mut done = Vec::new();
        let mut now = Self::default();
        for line in lines {
            let (ms, text) = (line.ms, line.text.as_str());
            if let Some((step, said)) = cato_line(text) {
                if let Some(main) = now.main {
                    let next = Self {
                        start: main,
                        service: Some(main),
                        ..Self::default()
                    };
                    done.push(std::mem::replace(&mut now, next));
                }
                now.stage.get_or_insert(ms);
                now.cato(step, said, ms);
            } else if text.contains("Linux version ") {
                if now.handed_over() {
                    now.main.get_or_insert(ms);
                } else {
                    if now.service.is_some() {
                        done.push(std::mem::replace(
                            &mut now,
                            Self {
                                start: ms,
                                ..Self::default()
                            },
                        ));
                    }
                    now.service = Some(ms);
                }
            } else if text.ends_with("Bye!") || text.contains("kexec_core: Starting new kernel") {
                now.bye = Some(ms);
            } else if text.starts_with("purgatory:") {
                now.purgatory.get_or_insert(ms);
            } else if now.main.is_some() {
                if text.contains("as init process") {
                    now.init.get_or_insert(ms);
                } else if text.contains("report: ") {
                    now.report.get_or_insert(ms);
                }
            }
        }
        done.push(now);
        done
    }

    /// The last hop.
    pub fn last(lines: &[Line]) -> Self {
        Self::all(lines).pop().unwrap_or_default()
    }

    fn cato(&mut self, step: &str, text: &str, ms: u64) {
        match step {
            // An entry that is tried anew has its times of its own.
            "select" => (self.load, self.loaded, self.jump) = (None, None, None),
            "load" => _ = self.load.get_or_insert(ms),
            "hand-off" if text.starts_with("loaded") => self.loaded = Some(ms),
            "hand-off" if text.starts_with(JUMP) => self.jump = Some(ms),
            _ => {}
        }
    }

    fn handed_over(&self) -> bool {
        self.bye.is_some() || self.jump.is_some() || self.purgatory.is_some()
    }

    /// The phases that are known, in order.
    pub fn phases(&self) -> Vec<Phase> {
        let left = self.bye.or(self.jump);
        let arrived = self.report.or(self.init);
        [
            (Name::Firmware, Some(self.start), self.service),
            (Name::Service, self.service, self.stage),
            (Name::Stage, self.stage, self.jump.or(self.bye)),
            (Name::Load, self.load, self.loaded),
            (Name::Leave, self.jump, self.bye),
            (Name::Dead, left, self.main),
            (Name::Main, self.main, arrived),
            (Name::Total, Some(self.start), arrived),
        ]
        .into_iter()
        .filter_map(|(name, from, to)| {
            Some(Phase {
                name,
                start: from?,
                ms: to?.checked_sub(from?)?,
            })
        })
        .collect()
    }
}

/// A phase's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// Machine start to the service kernel's first line.
    Firmware,
    /// The service kernel, to Cato's first line.
    Service,
    /// Cato.
    Stage,
    /// Reading, checking and `kexec_load`, inside Cato's time.
    Load,
    /// The service kernel shuts its devices down.
    Leave,
    /// No kernel runs.
    Dead,
    /// The main kernel, to its PID 1.
    Main,
    /// All of it.
    Total,
}

impl Name {
    /// The key in `--json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Firmware => "firmware_s",
            Self::Service => "service_s",
            Self::Stage => "stage_s",
            Self::Load => "load_s",
            Self::Leave => "leave_s",
            Self::Dead => "dead_s",
            Self::Main => "main_s",
            Self::Total => "total_s",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Service => "service Linux to PID 1",
            Self::Stage => "Cato",
            Self::Load => "  of which load",
            Self::Leave => "service Linux shuts down",
            Self::Dead => "dead time",
            Self::Main => "main Linux to PID 1",
            Self::Total => "power to main PID 1",
        }
    }
}

/// A phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// Which.
    pub name: Name,
    /// Milliseconds since the machine started.
    pub start: u64,
    /// How long, in milliseconds.
    pub ms: u64,
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<26} {:>9} {:>9}", "phase", "from s", "took s")?;
        for phase in self.phases() {
            let label = phase.name.label();
            writeln!(f, "{label:<26} {:>9} {:>9}", seconds(phase.start), seconds(phase.ms))?;
        }
        Ok(())
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::samples::lines;

    const BOOT: &str = "\
        10 U-Boot 2023.01
        3000 [    0.000000] Linux version 6.1.0
        4500 [    1.4] Run /init as init process
        4600 cato[   1.500] start: cato 0.1.0
        4650 cato[   1.550] select: entry \"a\" (main), first in order
        4700 cato[   1.600] load: reading the payload
        4900 cato[   1.800] hand-off: loaded in 200 ms
        4910 cato[   1.810] hand-off: reboot(KEXEC)
        4930 [    1.83] kexec_core: Starting new kernel
        4931 [    1.83] Bye!
        4940 purgatory: checked
        5000 [    0.000000] Booting Linux on physical CPU 0x0
        5001 [    0.000000] Linux version 6.12.0
        6000 [    1.0] Run /init as init process
        6100 report: uname=6.12";

    #[test]
    fn the_phases_of_a_boot() {
        let hops = Timeline::all(&lines(BOOT));
        let [hop] = hops.as_slice() else { panic!("{hops:?}") };
        let got: Vec<_> = hop.phases().iter().map(|p| (p.name, p.start, p.ms)).collect();
        assert_eq!(
            got,
            [
                (Name::Firmware, 0, 3000),
                (Name::Service, 3000, 1600),
                (Name::Stage, 4600, 310),
                (Name::Load, 4700, 200),
                (Name::Leave, 4910, 21),
                (Name::Dead, 4931, 70),
                (Name::Main, 5001, 1099),
                (Name::Total, 0, 6100),
            ]
        );
        assert!(
            hop.to_string()
                .contains("dead time                      4.931     0.070"),
            "{hop}"
        );
    }

    fn took(hop: &Timeline, name: Name) -> Option<u64> {
        hop.phases().iter().find(|p| p.name == name).map(|p| p.ms)
    }

    #[test]
    fn a_boot_that_stops_early_has_the_phases_it_had() {
        let cut: Vec<_> = BOOT.lines().take(4).collect();
        let hop = Timeline::last(&lines(&cut.join("\n")));
        assert_eq!(hop.phases().len(), 2);
        assert_eq!(Timeline::last(&[]).phases(), []);
    }

    #[test]
    fn a_reset_begins_anew() {
        let text = "5 Linux version 6.1\n9 cato[   1.000] start: x\n20 Linux version 6.1\n30 cato[   1.000] start: x";
        let hops = Timeline::all(&lines(text));
        assert_eq!(hops.len(), 2);
        assert_eq!(
            (hops[1].service, hops[1].stage, hops[1].main),
            (Some(20), Some(30), None)
        );
    }

    #[test]
    fn a_main_system_that_is_the_service_again_is_the_next_hop() {
        let again = format!(
            "{BOOT}\n7000 cato[   2.000] start: cato\n7100 cato[   2.100] hand-off: reboot(KEXEC)\n7200 Linux version 6.12"
        );
        let hops = Timeline::all(&lines(&again));
        assert_eq!(hops.len(), 2);
        assert_eq!(hops[1].service, Some(5001));
        assert_eq!(took(&hops[1], Name::Dead), Some(100));
    }

    #[test]
    fn a_second_entry_has_its_own_load_time() {
        let text = "1 Linux version 1\n2 cato[   0.001] select: a\n3 cato[   0.001] load: x\n\
                    50 cato[   0.001] select: b\n60 cato[   0.001] load: y\n70 cato[   0.001] hand-off: loaded in 10 ms";
        assert_eq!(took(&Timeline::last(&lines(text)), Name::Load), Some(10));
    }

    #[test]
    fn a_wait_at_the_prompt_is_an_end() {
        let text = "100 cato[   0.100] start: cato 0.1.0\n150 cato[   0.150] select: a\n\
                    900 cato[   0.900] prompt: no entry left; ...\n61000 cato[  61.000] select: a\n\
                    61500 cato[  61.500] hand-off: reboot(KEXEC)\n\
                    72000 cato[  72.000] last-resort: reboot(KEXEC) did not jump within 10 s; resetting the machine";
        let lines = lines(text);
        assert_eq!(longest_to_an_end(&lines[..2]), None);
        assert_eq!(longest_to_an_end(&lines[..5]), Some(800));
        assert_eq!(longest_to_an_end(&lines), Some(11_000));
    }

    #[test]
    fn cato_lines_are_told_from_others() {
        assert_eq!(cato_line("cato[   2.345] load: 3 MB: x"), Some(("load", "3 MB: x")));
        assert_eq!(cato_line("[ 1.0] cato[  12.345] entry: a"), Some(("entry", "a")));
        for other in ["cato[] x", "cato[1.2] start: x", "cato: no"] {
            assert_eq!(cato_line(other), None, "{other}");
        }
    }
}
