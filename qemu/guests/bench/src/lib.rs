//! What the guest of `cargo qemu bench` and the bench itself agree on: paths in the service initramfs and lines on the
//! console. Pure.
//!
//! A line is `bench[   1.234] step: text`, with seconds of the service kernel's clock, as Cato's own lines have them:
//!
//! | step | text |
//! |---|---|
//! | `start` | the guest's first words |
//! | `load` | `kexec -l` is about to be started |
//! | `kexec` | `loaded in N ms`: it came back |
//! | `jump` | `kexec -e` is about to be started |
//! | `memory` | `start N kB`, then `peak N kB` whenever that grew: memory in use, `MemTotal - MemAvailable` |
//! | `failed` | why |
#![forbid(unsafe_code)]

/// A folder; in it the kernel and initrd that every contender boots.
pub const PAYLOAD: &str = "/payload";

/// If it is there: the arguments of kexec-tools' load, one a line. Without it the guest becomes Cato, [`CATO`].
pub const ARGUMENTS: &str = "/etc/bench/kexec";

/// If it is there, memory is sampled.
pub const SAMPLE: &str = "/etc/bench/sample";

/// Cato, where the guest is `/init` and not Cato itself.
pub const CATO: &str = "/bin/cato";

/// kexec-tools' program.
pub const KEXEC: &str = "/sbin/kexec";

/// Where the guest mounts a `/proc` of its own: Cato mounts the usual one and must find what it always finds.
pub const PROC: &str = "/bench/proc";

/// Memory in use according to `/proc/meminfo`, KiB: `MemTotal - MemAvailable`. Page cache that can be dropped is not
/// in it; files of the initramfs are.
pub fn in_use(meminfo: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    field("MemTotal")?.checked_sub(field("MemAvailable")?)
}

/// A line of the guest, `millis` after the kernel's start.
pub fn line(millis: u64, step: &str, text: &str) -> String {
    let (seconds, rest) = (millis / 1000, millis % 1000);
    format!("bench[{seconds:>4}.{rest:03}] {step}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal:        2000 kB\nMemFree:          100 kB\nMemAvailable:    1500 kB\n";
        assert_eq!(in_use(text), Some(500));
        assert_eq!(in_use("MemTotal: 2000 kB\nMemAvailableX: 3 kB\n"), None);
        assert_eq!(in_use("MemTotal: 1 kB\nMemAvailable: 3 kB\n"), None);
    }

    #[test]
    fn lines_look_like_catos() {
        assert_eq!(
            line(1234, "hand-off", "loaded in 5 ms"),
            "bench[   1.234] hand-off: loaded in 5 ms"
        );
    }
}
