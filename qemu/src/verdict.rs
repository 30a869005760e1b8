//! Whether the main system that came up is the one that was asked for. Pure.

use guest_report::Report;

use crate::console::Line;
use crate::timeline::cato_line;

/// Where the payload waited for the jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ArenaUsed {
    /// At its final addresses.
    #[default]
    InPlace,
    /// In segments that the kernel copied.
    Segments,
}

impl ArenaUsed {
    /// What Cato said last of its arena on a console, `reserve: arena: in place` or `reserve: arena: segments`.
    pub fn said(lines: &[Line]) -> Option<Self> {
        match arena_line(lines)? {
            text if text.starts_with("in place") => Some(Self::InPlace),
            text if text.starts_with("segments") => Some(Self::Segments),
            _ => None,
        }
    }
}

/// The same with the reason, in Cato's words.
fn arena_line(lines: &[Line]) -> Option<&str> {
    lines.iter().rev().find_map(|line| match cato_line(&line.text)? {
        ("reserve", text) => text.strip_prefix("arena: "),
        _ => None,
    })
}

/// What the main system's report must say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The command line as given; Cato may add words around it, never change it.
    pub cmdline: String,
    /// What the initrd that was given holds.
    pub initrd_nonce: Option<String>,
    /// The mark in the device tree that was given.
    pub dtb_nonce: Option<String>,
    /// The kernel's release.
    pub release: Option<String>,
    /// CPUs of the machine: the service kernel's `nr_cpus=1` must not be handed on.
    pub cpus: Option<u32>,
    /// Memory of the machine in MiB. The kernel keeps some for itself.
    pub memory_mib: Option<u32>,
    /// Where the payload must have waited.
    pub arena: ArenaUsed,
}

impl Wanted {
    /// Whether it waited there, by what Cato said; the problem if not.
    pub fn arena_problem(&self, lines: &[Line]) -> Option<String> {
        (ArenaUsed::said(lines) != Some(self.arena)).then(|| {
            let said = arena_line(lines).unwrap_or("nothing of it");
            format!("arena: wanted {:?}, Cato said: {said}", self.arena)
        })
    }

    /// What is not as it should be, one line each; none when all is well.
    pub fn problems(&self, report: &Report) -> Vec<String> {
        let mut problems = Vec::new();
        if !report.is_done() {
            problems.push("the main system's report is cut off".to_owned());
        }
        let cmdline = report.get("cmdline").unwrap_or_default();
        if !cmdline.contains(&self.cmdline) {
            problems.push(format!(
                "command line: wanted {:?}, the main kernel has {cmdline:?}",
                self.cmdline
            ));
        }
        let exact = [
            ("initrd", "initrd-nonce", &self.initrd_nonce),
            ("device tree", "dtb-nonce", &self.dtb_nonce),
            ("kernel", "uname", &self.release),
        ];
        for (what, key, wanted) in exact {
            let Some(wanted) = wanted else { continue };
            match report.get(key) {
                Some(got) if got == wanted => {}
                Some(got) => problems.push(format!("{what}: wanted {wanted:?}, the main system reports {got:?}")),
                None => problems.push(format!("{what}: wanted {wanted:?}, the main system reports none")),
            }
        }
        if let Some(wanted) = self.cpus {
            let got = report.get("cpus").and_then(|n| n.parse().ok());
            if got != Some(wanted) {
                problems.push(format!("CPUs: the machine has {wanted}, the main kernel uses {got:?}"));
            }
        }
        if let Some(wanted) = self.memory_mib {
            // MemTotal leaves out the kernel itself and its page structures: about a sixth of a small machine.
            let got = report
                .get("memtotal")
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024;
            let least = u64::from(wanted) * 3 / 4;
            if got < least || got > u64::from(wanted) {
                problems.push(format!(
                    "memory: the machine has {wanted} MiB, the main kernel counts {got} MiB"
                ));
            }
        }
        match report.get("dmesg-errors") {
            None | Some("0") => {}
            Some(count) => {
                let lines: Vec<_> = report.all("dmesg-error").collect();
                problems.push(format!(
                    "the main kernel's log has {count} alarms: {}",
                    lines.join("; ")
                ));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "report: uname=6.12\nreport: cmdline=console=ttyAMA0 a=1 panic=10\nreport: initrd-nonce=n1\n\
                        report: dtb-nonce=d1\nreport: cpus=2\nreport: memtotal=900000\nreport: dmesg-errors=0\nreport: done\n";

    fn wanted() -> Wanted {
        Wanted {
            cmdline: "console=ttyAMA0 a=1".into(),
            initrd_nonce: Some("n1".into()),
            dtb_nonce: Some("d1".into()),
            release: Some("6.12".into()),
            cpus: Some(2),
            memory_mib: Some(1024),
            arena: ArenaUsed::InPlace,
        }
    }

    #[test]
    fn what_was_asked_for_passes() {
        assert_eq!(wanted().problems(&Report::parse(GOOD)), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        for (from, to, named) in [
            ("a=1", "a=2", "command line"),
            ("nonce=n1", "nonce=n2", "initrd"),
            ("report: dtb-nonce=d1\n", "", "device tree"),
            ("uname=6.12", "uname=6.1", "kernel"),
            ("cpus=2", "cpus=1", "CPUs"),
            ("memtotal=900000", "memtotal=90000", "memory"),
            (
                "dmesg-errors=0",
                "dmesg-errors=1\nreport: dmesg-error=WARNING: x",
                "WARNING: x",
            ),
            ("report: done\n", "", "cut off"),
        ] {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            let problems = wanted().problems(&Report::parse(&text));
            assert!(
                problems.len() == 1 && problems[0].contains(named),
                "{from} -> {to}: {problems:?}"
            );
        }
    }

    #[test]
    fn the_arena_is_the_one_of_the_last_entry_tried() {
        let console = |texts: &[&str]| -> Vec<Line> {
            let line = |(ms, text): (u64, &&str)| Line {
                ms,
                text: format!("[    1.2] cato[   3.123] {text}"),
            };
            (0..).zip(texts).map(line).collect()
        };
        let place = "reserve: arena: in place, 53 pages of 2 MiB";
        let segments = "reserve: arena: segments: set in boot.toml";
        for (texts, used) in [
            (
                &[place, segments, "load: arena: in place"][..],
                Some(ArenaUsed::Segments),
            ),
            (&[segments, place], Some(ArenaUsed::InPlace)),
            (&["reserve: other"], None),
        ] {
            let lines = console(texts);
            assert_eq!(ArenaUsed::said(&lines), used);
            assert_eq!(
                wanted().arena_problem(&lines).is_none(),
                used == Some(ArenaUsed::InPlace)
            );
        }
    }

    #[test]
    fn nothing_said_is_everything_missing() {
        assert!(wanted().problems(&Report::default()).len() >= 5);
    }
}
