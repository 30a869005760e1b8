//! What Cato expects of the service kernel's command line, and what goes wrong without it.
//!
//! Given `/proc/cmdline`; responsible for one line per missing item, with its remedy. Pure.

use config::Arch;

/// One thing the service command line should say.
#[derive(Debug)]
struct Item {
    /// Only on this architecture, or on both.
    arch: Option<Arch>,
    /// The words that satisfy it; a trailing `=` takes any value.
    accepts: &'static [&'static str],
    /// What to add.
    remedy: &'static str,
    /// What happens without it.
    why: &'static str,
}

const EXPECTED: &[Item] = &[
    Item {
        arch: None,
        accepts: &["nr_cpus=1", "nosmp"],
        remedy: "nr_cpus=1",
        why: "other CPUs are taken offline one by one before the jump, or keep spinning in overwritten memory",
    },
    Item {
        arch: None,
        accepts: &["watchdog.stop_on_reboot=0"],
        remedy: "watchdog.stop_on_reboot=0",
        why: "kexec stops the watchdog, so nothing resets a main kernel that hangs",
    },
    Item {
        arch: Some(Arch::Arm64),
        accepts: &[
            "irqchip.gicv3_nolpi=1",
            "irqchip.gicv3_nolpi=y",
            "irqchip.gicv3_nolpi=on",
            "irqchip.gicv3_nolpi",
        ],
        remedy: "irqchip.gicv3_nolpi=1",
        why: "a GICv3 with ITS keeps writing to tables the main kernel does not know of",
    },
    Item {
        arch: Some(Arch::Arm64),
        accepts: &["arm64.nolva", "arm64.nolva=1"],
        remedy: "arm64.nolva",
        why: "kexec_load oopses in 6.12 kernels on CPUs with 52-bit addresses",
    },
    Item {
        arch: None,
        accepts: &["panic="],
        remedy: "panic=10",
        why: "a panic of the service kernel stops the box for ever",
    },
];

/// One line for each item that `cmdline` lacks on `arch`.
pub fn missing(arch: Arch, cmdline: &str) -> Vec<String> {
    let words: Vec<&str> = cmdline.split_ascii_whitespace().collect();
    let has = |accepted: &&str| match accepted.strip_suffix('=') {
        Some(_) => words.iter().any(|w| w.starts_with(accepted)),
        None => words.contains(accepted),
    };
    EXPECTED
        .iter()
        .filter(|item| item.arch.is_none_or(|a| a == arch))
        .filter(|item| !item.accepts.iter().any(has))
        .map(|item| {
            format!(
                "service command line lacks {}: {}; add it to the service kernel",
                item.remedy, item.why
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "nr_cpus=1 watchdog.stop_on_reboot=0 irqchip.gicv3_nolpi=1 arm64.nolva panic=10";

    #[test]
    fn a_full_command_line_misses_nothing_and_an_empty_one_everything() {
        for arch in Arch::ALL {
            assert!(missing(arch, FULL).is_empty());
        }
        assert_eq!(missing(Arch::Arm64, "").len(), 5);
        assert_eq!(missing(Arch::X86_64, "").len(), 3);
    }

    #[test]
    fn near_misses_are_misses() {
        let lines = missing(Arch::X86_64, "nr_cpus=10 maxcpus=1 watchdog.stop_on_reboot=1 panicky=1");
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().any(|l| l.contains("lacks nr_cpus=1:")));
    }
}
