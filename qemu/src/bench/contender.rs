//! Who is compared, and what each is told. Pure.

use std::fmt;

use config::Arch;

use stage::text::quoted;

/// A way from the service Linux to the main Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Contender {
    /// Cato, payload in place, `check = "sha256"`.
    CatoSha256,
    /// Cato as it is by default: payload in place, `check = "fast"`.
    CatoFast,
    /// Cato, payload in place, `check = "off"`.
    CatoOff,
    /// Cato, `check = "fast"`, payload in ordinary segments that the kernel copies.
    CatoFastSegments,
    /// kexec-tools with its purgatory's SHA-256.
    KexecTools,
    /// kexec-tools with `--no-checks`, placed away from where pages are taken, as the one with its check is.
    KexecToolsNoChecksPlaced,
    /// kexec-tools with `--no-checks`, placed as it does by itself.
    KexecToolsNoChecksDefault,
}

/// What a contender is told about the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<'a> {
    /// The instruction set.
    pub arch: Arch,
    /// Memory of the machine, MiB.
    pub memory_mib: u32,
    /// Kernel and initrd, bytes.
    pub payload: u64,
    /// The main kernel's command line.
    pub cmdline: &'a str,
    /// kexec-tools says which segments it makes.
    pub describe: bool,
}

impl Contender {
    /// All, in the order they take turns.
    pub const ALL: [Self; 7] = [
        Self::CatoSha256,
        Self::CatoFast,
        Self::CatoOff,
        Self::CatoFastSegments,
        Self::KexecTools,
        Self::KexecToolsNoChecksPlaced,
        Self::KexecToolsNoChecksDefault,
    ];

    /// The key in `--json`.
    pub fn key(self) -> &'static str {
        match self {
            Self::CatoSha256 => "cato_sha256",
            Self::CatoFast => "cato_fast",
            Self::CatoOff => "cato_off",
            Self::CatoFastSegments => "cato_fast_segments",
            Self::KexecTools => "kexec_tools",
            Self::KexecToolsNoChecksPlaced => "kexec_tools_no_checks_placed",
            Self::KexecToolsNoChecksDefault => "kexec_tools_no_checks_default",
        }
    }

    /// Whether it is Cato.
    pub fn is_cato(self) -> bool {
        self.config("").is_some()
    }

    /// Cato's `boot.toml`; none for kexec-tools.
    pub fn config(self, cmdline: &str) -> Option<String> {
        let (check, arena) = match self {
            Self::CatoSha256 => ("sha256", ""),
            Self::CatoFast => ("fast", ""),
            Self::CatoOff => ("off", ""),
            Self::CatoFastSegments => ("fast", "arena = \"segments\"\n"),
            Self::KexecTools | Self::KexecToolsNoChecksPlaced | Self::KexecToolsNoChecksDefault => return None,
        };
        Some(format!(
            "version = 1\norder = [\"main\"]\n\n[console]\ncountdown = 0\nretry = 60\n\n[entry.main]\n\
             source = \"{}\"\nkernel = \"kernel\"\ninitrd = [\"initrd\"]\ncmdline = {}\ncheck = \"{check}\"\n{arena}",
            guest_bench::PAYLOAD,
            quoted(cmdline)
        ))
    }

    /// The arguments of kexec-tools' load; none for Cato.
    pub fn kexec_arguments(self, told: &Told<'_>) -> Option<Vec<String>> {
        if self.is_cato() {
            return None;
        }
        let payload = guest_bench::PAYLOAD;
        let mut arguments = vec!["-c".to_owned(), "-l".to_owned(), format!("{payload}/kernel")];
        arguments.push(format!("--initrd={payload}/initrd"));
        arguments.push(format!("--command-line={}", told.cmdline));
        if self != Self::KexecTools {
            arguments.push("--no-checks".to_owned());
        }
        if self != Self::KexecToolsNoChecksDefault {
            arguments.push(placement_away(told));
        }
        arguments.extend(told.describe.then(|| "-d".to_owned()));
        Some(arguments)
    }
}

/// Where RAM starts on QEMU's `virt`, and where it ends below 4 GiB on `q35`, which moves the rest above 4 GiB.
const VIRT_RAM: u64 = 0x4000_0000;
const Q35_LOW_MIB: u64 = 2048;
const Q35_SPLIT_MIB: u64 = 2816;

/// A placement away from where the kernel's allocator hands out pages. kexec-tools' own lies there, so that most pages it
/// gets are destinations: each is looked for in a list of those before, which can take very long, and then needs no copy,
/// which takes something off the dead time. On x86_64, whose own is the top of RAM, below it is away. On arm64, whose own
/// is the low end, the middle is: the allocator begins with what the initramfs left near the low end and goes on from
/// the top. (The very top is as fast for 100 MB in 2 GiB, and six times as slow for 300 MB in 4 GiB.)
pub fn placement_away(told: &Told<'_>) -> String {
    const MIB: u64 = 1 << 20;
    let memory = u64::from(told.memory_mib);
    match told.arch {
        Arch::Arm64 => {
            // What the kernel needs behind its image, alignment, and what is reserved at the end of RAM.
            let room = told.payload + 160 * MIB;
            let offset = (memory * MIB / 2).min((memory * MIB).saturating_sub(room));
            format!("--mem-min={:#x}", VIRT_RAM + offset / MIB * MIB)
        }
        Arch::X86_64 => {
            let low = if memory >= Q35_SPLIT_MIB { Q35_LOW_MIB } else { memory };
            format!("--mem-max={:#x}", low * MIB / 4 * 3)
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::CatoSha256 => "cato sha256",
            Self::CatoFast => "cato fast",
            Self::CatoOff => "cato off",
            Self::CatoFastSegments => "cato fast, segments",
            Self::KexecTools => "kexec-tools",
            Self::KexecToolsNoChecksPlaced => "kexec-tools --no-checks, placed",
            Self::KexecToolsNoChecksDefault => "kexec-tools --no-checks, default",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: Told<'_> = Told {
        arch: Arch::Arm64,
        memory_mib: 2048,
        payload: 100_000_000,
        cmdline: "a=\"b c\" d",
        describe: false,
    };

    #[test]
    fn each_is_either_cato_or_kexec_tools() {
        for contender in Contender::ALL {
            let arguments = contender.kexec_arguments(&TOLD);
            assert_ne!(contender.config("x").is_some(), arguments.is_some(), "{contender}");
            assert_eq!(contender.is_cato(), contender.key().starts_with("cato"));
        }
    }

    #[test]
    fn the_config_asks_for_the_check_and_the_command_line() {
        let text = Contender::CatoOff.config(TOLD.cmdline).unwrap();
        let config = config::parse(&text).unwrap();
        let entry = config.entry("main").unwrap();
        assert_eq!(entry.cmdline, TOLD.cmdline);
        assert_eq!(entry.check, config::Check::Off);
        assert_eq!(entry.source.to_string(), "/payload");
        let segments = Contender::CatoFastSegments.config("").unwrap();
        assert!(segments.contains("\narena = \"segments\"\n") && segments.contains("\ncheck = \"fast\"\n"));
    }

    #[test]
    fn kexec_tools_is_told_the_same() {
        let checked = Contender::KexecTools.kexec_arguments(&TOLD).unwrap();
        assert!(checked.starts_with(&["-c".into(), "-l".into(), "/payload/kernel".into()]));
        assert!(checked.contains(&"--command-line=a=\"b c\" d".to_owned()));
        assert!(checked.iter().all(|word| word != "--no-checks" && word != "-d"));
        let describe = Told { describe: true, ..TOLD };
        let quick = Contender::KexecToolsNoChecksPlaced.kexec_arguments(&describe).unwrap();
        let extra: Vec<_> = quick.iter().filter(|word| !checked.contains(word)).collect();
        assert_eq!(extra, ["--no-checks", "-d"]);
        let default = Contender::KexecToolsNoChecksDefault.kexec_arguments(&TOLD).unwrap();
        assert!(default.iter().all(|word| !word.starts_with("--mem-")), "{default:?}");
    }

    #[test]
    fn the_placement_follows_the_size_of_the_machine() {
        let placed = |arch, memory_mib| {
            let told = Told {
                arch,
                memory_mib,
                ..TOLD
            };
            placement_away(&told)
        };
        assert_eq!(placed(Arch::Arm64, 2048), "--mem-min=0x80000000");
        assert_eq!(placed(Arch::Arm64, 4096), "--mem-min=0xc0000000");
        // 512 MiB from 1 GiB on, less 160 MiB and 95.4.
        assert_eq!(placed(Arch::Arm64, 512), "--mem-min=0x50000000");
        assert_eq!(placed(Arch::X86_64, 2048), "--mem-max=0x60000000");
        assert_eq!(placed(Arch::X86_64, 4096), "--mem-max=0x60000000");
        assert_eq!(placed(Arch::X86_64, 1024), "--mem-max=0x30000000");
    }
}
