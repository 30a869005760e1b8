//! The service Linux's command line: what Cato expects there (`stage::machine::service`), behind the console.

use config::Arch;
use stage::machine::service::expected;

use crate::board::board;

/// The command line of the service kernel in QEMU: console, all that Cato expects, then `extra`.
pub fn command_line(arch: Arch, extra: &[&str]) -> String {
    command_line_without(arch, &[], extra)
}

/// The same without the words given, for tests of what happens then.
pub fn command_line_without(arch: Arch, without: &[&str], extra: &[&str]) -> String {
    let ours = expected(arch).map(|item| item.remedy);
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
