//! What Cato expects of the service kernel's command line, and what goes wrong without it.
//!
//! Given `/proc/cmdline`; responsible for one line per missing item, with its remedy. Pure.

use config::Arch;

use crate::text::cmdline::{flag, is_on, value};

/// Whether the service kernel is told to be quiet: then nobody watches, and nothing waits for the console.
pub(crate) fn is_quiet(cmdline: &str) -> bool {
    flag(cmdline, "quiet")
}

/// One thing the service command line should say.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Only on this architecture, or on both.
    pub arch: Option<Arch>,
    /// What to add.
    pub remedy: &'static str,
    /// What happens without it.
    pub why: &'static str,
    /// Whether a command line says it, or something as good.
    said: fn(&str) -> bool,
}

/// All of it.
const EXPECTED: &[Item] = &[
    Item {
        arch: None,
        remedy: "nr_cpus=1",
        why: "other CPUs are taken offline one by one before the jump, or keep spinning in memory that gets overwritten",
        said: |cmdline| value(cmdline, "nr_cpus") == Some("1") || flag(cmdline, "nosmp"),
    },
    Item {
        arch: None,
        remedy: "watchdog.stop_on_reboot=0",
        why: "kexec stops the watchdog, so nothing resets a main kernel that hangs",
        said: |cmdline| value(cmdline, "watchdog.stop_on_reboot") == Some("0"),
    },
    Item {
        arch: Some(Arch::Arm64),
        remedy: "irqchip.gicv3_nolpi=1",
        why: "a GICv3 ITS keeps writing to tables the main kernel does not know about",
        said: |cmdline| is_on(cmdline, "irqchip.gicv3_nolpi"),
    },
    Item {
        arch: Some(Arch::Arm64),
        remedy: "arm64.nolva",
        why: "kexec_load oopses in 6.12 kernels on CPUs with 52-bit addresses",
        said: |cmdline| flag(cmdline, "arm64.nolva"),
    },
    Item {
        arch: None,
        remedy: "panic=10",
        why: "a panic of the service kernel hangs the machine forever",
        said: |cmdline| value(cmdline, "panic").is_some_and(|seconds| seconds != "0"),
    },
];

/// What of [`EXPECTED`] concerns `arch`.
pub fn expected(arch: Arch) -> impl Iterator<Item = &'static Item> {
    EXPECTED.iter().filter(move |item| item.arch.is_none_or(|a| a == arch))
}

/// What is to be added to `cmdline` on `arch`.
pub fn lacking(arch: Arch, cmdline: &str) -> impl Iterator<Item = &'static str> {
    let missing = expected(arch).filter(move |item| !(item.said)(cmdline));
    missing.map(|item| item.remedy)
}

/// One line for each item that `cmdline` lacks on `arch`.
pub(crate) fn missing(arch: Arch, cmdline: &str) -> Vec<String> {
    expected(arch)
        .filter(|item| !(item.said)(cmdline))
        .map(|item| {
            format!(
                "the service kernel's command line has no {}: {}; add it",
                item.remedy, item.why
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_is_a_word_of_its_own() {
        assert!(is_quiet("console=ttyS0 quiet panic=10"));
        assert!(!is_quiet("console=ttyS0 quiet=1 systemd.quiet unquiet"));
    }

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
        let lines = missing(
            Arch::Arm64,
            "nr_cpus=1 nr_cpus=4 watchdog.stop_on_reboot=1 irqchip.gicv3_nolpi arm64.nolva=1 panic=0 -- panic=10",
        );
        assert_eq!(lines.len(), 5, "{lines:#?}");
        assert_eq!(
            missing(Arch::X86_64, "nosmp watchdog.stop_on_reboot=0 panic=-1"),
            [""; 0]
        );
    }
}
