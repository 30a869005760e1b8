//! The service Linux's command line, word by word, as design §4 wants it.

use config::Arch;

use crate::board::board;

/// A kernel parameter, the architecture it is for, and why it is there.
struct Word {
    text: &'static str,
    only: Option<Arch>,
    #[expect(dead_code, reason = "read by people, here and in review")]
    why: &'static str,
}

const WORDS: &[Word] = &[
    Word {
        text: "nr_cpus=1",
        only: None,
        why: "T8: each further CPU costs up to 0.25 s to take offline, or keeps spinning in memory that is overwritten",
    },
    Word {
        text: "watchdog.stop_on_reboot=0",
        only: None,
        why: "T5: a kexec stops the watchdog, and a main kernel that hangs would hang for ever",
    },
    Word {
        text: "irqchip.gicv3_nolpi=1",
        only: Some(Arch::Arm64),
        why: "T4: a GICv3 with ITS writes to its tables behind the main kernel's back",
    },
    Word {
        text: "arm64.nolva",
        only: Some(Arch::Arm64),
        why: "T3: kexec_load oopses in 6.12 on a CPU with 52-bit addresses",
    },
    Word {
        text: "panic=10",
        only: None,
        why: "a service kernel that panics starts again instead of waiting for someone",
    },
];

/// The command line of the service kernel in QEMU: console, the words above, then `extra`.
pub fn command_line(arch: Arch, extra: &[&str]) -> String {
    command_line_without(arch, &[], extra)
}

/// The same without the words given, for tests of what happens then.
pub fn command_line_without(arch: Arch, without: &[&str], extra: &[&str]) -> String {
    let ours = WORDS
        .iter()
        .filter(|word| word.only.is_none_or(|only| only == arch))
        .map(|word| word.text);
    let mut words = vec![board(arch).console];
    words.extend(ours.filter(|word| !without.contains(word)));
    words.extend(extra);
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_gets_its_words() {
        assert_eq!(
            command_line(Arch::Arm64, &["quiet"]),
            "console=ttyAMA0 earlycon nr_cpus=1 watchdog.stop_on_reboot=0 irqchip.gicv3_nolpi=1 arm64.nolva panic=10 quiet"
        );
        let x86 = command_line(Arch::X86_64, &[]);
        assert!(x86.ends_with("nr_cpus=1 watchdog.stop_on_reboot=0 panic=10"), "{x86}");
    }

    #[test]
    fn a_word_can_be_left_out() {
        let without = command_line_without(Arch::Arm64, &["irqchip.gicv3_nolpi=1"], &[]);
        assert!(!without.contains("nolpi") && without.contains("arm64.nolva"));
    }
}
