//! A virtual machine as a value, and the QEMU command line it stands for, each argument with its reason.
//!
//! Pure: nothing here starts anything or looks at the disk.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use config::Arch;

use crate::board::board;
pub use crate::drive::{Bus, Drive};

/// Who starts the service kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// QEMU itself, with `-kernel`: no firmware on arm64, SeaBIOS's loader stub on x86_64.
    Direct,
    /// Debian's U-Boot, from `extlinux.conf` on the first disk.
    UBoot,
    /// edk2, which is handed the kernel by QEMU and starts it as an EFI program.
    Uefi,
}

impl Firmware {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 3] = [Self::Direct, Self::UBoot, Self::Uefi];

    /// What a machine of this kind is started by when nobody says.
    pub fn default_for(arch: Arch) -> Self {
        match arch {
            Arch::Arm64 => Self::UBoot,
            Arch::X86_64 => Self::Direct,
        }
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::UBoot => "u-boot",
            Self::Uefi => "uefi",
        })
    }
}

impl FromStr for Firmware {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|f| f.to_string() == s)
            .ok_or_else(|| format!("unknown firmware {s:?}: direct, u-boot or uefi"))
    }
}

/// A kernel that QEMU hands over itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectKernel {
    /// The kernel file.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
    /// Its command line.
    pub cmdline: String,
}

/// How the serial console reaches the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Serial {
    /// This program reads and writes it.
    #[default]
    Program,
    /// A person does, through this program: Ctrl-A x ends the machine, Ctrl-A c reaches QEMU's monitor.
    Person,
}

/// A virtual machine, before it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Instruction set.
    pub arch: Arch,
    /// Who starts the service kernel.
    pub firmware: Firmware,
    /// `-M`; none is the board's.
    pub machine: Option<String>,
    /// `-cpu`; none is the board's.
    pub cpu: Option<String>,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Number of CPUs.
    pub cpus: u32,
    /// What QEMU loads, unless U-Boot does it from a disk.
    pub kernel: Option<DirectKernel>,
    /// A device tree instead of the one QEMU makes.
    pub dtb: Option<PathBuf>,
    /// Disks, the firmware's first.
    pub drives: Vec<Drive>,
    /// Who has the console.
    pub serial: Serial,
    /// A reset ends QEMU: for everything that must boot at the first try.
    pub no_reboot: bool,
    /// A socket the gdb stub listens on.
    pub gdb: Option<PathBuf>,
    /// A socket the monitor listens on, in QMP.
    pub qmp: Option<PathBuf>,
    /// More QEMU arguments, last. A `-M`, `-cpu`, `-m` or `-smp` among them replaces ours.
    pub extra: Vec<String>,
}

impl Machine {
    /// The board's machine with 1 GiB, two CPUs and nothing in it.
    pub fn new(arch: Arch) -> Self {
        Self {
            arch,
            firmware: Firmware::Direct,
            machine: None,
            cpu: None,
            memory_mib: 1024,
            cpus: 2,
            kernel: None,
            dtb: None,
            drives: Vec::new(),
            serial: Serial::Program,
            no_reboot: true,
            gdb: None,
            qmp: None,
            extra: Vec::new(),
        }
    }

    /// QEMU's arguments, each group with the reason it is there.
    pub fn arguments(&self) -> Vec<Argument> {
        let board = board(self.arch);
        let mut args = Arguments {
            list: Vec::new(),
            replaced: self.extra.clone(),
        };

        args.push(["-nodefaults"], "only the devices named below");
        args.push(["-display", "none"], "no window");
        args.push_unless_replaced(
            &["-M", "-machine", "--machine"],
            ["-M", self.machine.as_deref().unwrap_or(board.machine)],
            "the board",
        );
        args.push_unless_replaced(
            &["-cpu"],
            ["-cpu", self.cpu.as_deref().unwrap_or(board.cpu)],
            "a fixed CPU, so that the hand-over is the same everywhere",
        );
        args.push_unless_replaced(
            &["-accel", "--accel", "-enable-kvm"],
            ["-accel", accelerator(board.arch)],
            "the same machine with and without KVM; x86_64's CPUs in one thread",
        );
        args.push_unless_replaced(&["-m"], ["-m", &format!("{}M", self.memory_mib)], "memory");
        args.push_unless_replaced(&["-smp"], ["-smp", &self.cpus.to_string()], "CPUs");
        args.push(
            ["-nic", "none"],
            "edk2 tries network boot for two minutes where there is a card",
        );

        match self.serial {
            Serial::Program => args.push(
                ["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
                "the console is this program's",
            ),
            Serial::Person => args.push(
                [
                    "-chardev",
                    "stdio,id=console,signal=off,mux=on",
                    "-serial",
                    "chardev:console",
                    "-mon",
                    "chardev=console,mode=readline",
                ],
                "the console is yours: Ctrl-A x ends, Ctrl-A c is the monitor",
            ),
        }

        match self.firmware {
            Firmware::Direct => {}
            Firmware::UBoot => {
                if let Some(u_boot) = board.u_boot {
                    args.push(["-bios", u_boot], "Debian's U-Boot");
                }
            }
            Firmware::Uefi => args.push(["-bios", board.uefi], "edk2"),
        }
        if let Some(kernel) = &self.kernel {
            args.push(["-kernel", &text(&kernel.kernel)], "the service kernel");
            if let Some(initrd) = &kernel.initrd {
                args.push(["-initrd", &text(initrd)], "the service initramfs");
            }
            args.push(["-append", &kernel.cmdline], "its command line");
        }
        if let Some(dtb) = &self.dtb {
            args.push(["-dtb", &text(dtb)], "QEMU's own device tree with a mark in it");
        }
        for (n, drive) in self.drives.iter().enumerate() {
            args.push(["-drive", &drive.option(n)], drive.why());
            for device in drive.devices(n) {
                args.push(["-device", &device], "how the guest sees it");
            }
        }
        args.push(["-device", "virtio-rng-pci"], "a kernel without entropy waits");
        if self.no_reboot {
            args.push(["-no-reboot"], "a reset is an end, not another try");
        }
        if let Some(gdb) = &self.gdb {
            args.push(
                ["-gdb", &format!("unix:{},server=on,wait=off", text(gdb))],
                "breakpoints and physical memory",
            );
        }
        if let Some(qmp) = &self.qmp {
            args.push(
                ["-qmp", &format!("unix:{},server=on,wait=off", text(qmp))],
                "disks that come, go and grow",
            );
        }
        if !self.extra.is_empty() {
            args.push(&self.extra, "asked for with --machine");
        }
        args.list
    }

    /// The program and its arguments as a shell takes them, one argument group a line.
    pub fn command_line(&self) -> String {
        let mut out = board(self.arch).qemu.to_owned();
        for argument in self.arguments() {
            out.push_str(" \\\n ");
            for word in &argument.words {
                out.push(' ');
                out.push_str(&shell_quoted(word));
            }
        }
        out
    }
}

/// One argument of QEMU with its values, and why it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// The option and its values.
    pub words: Vec<String>,
    /// The reason.
    pub why: &'static str,
}

struct Arguments {
    list: Vec<Argument>,
    replaced: Vec<String>,
}

impl Arguments {
    fn push(&mut self, words: impl IntoIterator<Item: AsRef<str>>, why: &'static str) {
        let words = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self.list.push(Argument { words, why });
    }

    fn push_unless_replaced(&mut self, names: &[&str], words: impl IntoIterator<Item: AsRef<str>>, why: &'static str) {
        if !self.replaced.iter().any(|word| names.contains(&word.as_str())) {
            self.push(words, why);
        }
    }
}

/// QEMU's emulator for one architecture. With a thread a CPU, x86_64 kernels were seen to die of their own breakpoints
/// (`Oops: int3` in a static key): a CPU ran the breakpoint out of its cache after it had been taken out of the text.
fn accelerator(arch: Arch) -> &'static str {
    match arch {
        Arch::Arm64 => "tcg",
        Arch::X86_64 => "tcg,thread=single",
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Splits what was given to `--machine` as a shell would: blanks part words, quotes keep them together.
pub fn split_words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => {
                let Some(next) = chars.next() else {
                    return Err(format!("{line:?} ends in a backslash"));
                };
                word.get_or_insert_default().push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    if let Some(q) = quote {
        return Err(format!("{line:?} has an open {q}"));
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(machine: &Machine) -> Vec<String> {
        machine.arguments().into_iter().flat_map(|a| a.words).collect()
    }

    fn value_of<'a>(args: &'a [String], option: &str) -> Vec<&'a str> {
        args.iter()
            .zip(args.iter().skip(1))
            .filter(|(o, _)| *o == option)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    #[test]
    fn the_default_machine_is_the_board() {
        let args = flat(&Machine::new(Arch::Arm64));
        assert_eq!(value_of(&args, "-M"), ["virt,gic-version=2"]);
        assert_eq!(value_of(&args, "-cpu"), ["cortex-a72"]);
        assert_eq!(value_of(&args, "-nic"), ["none"]);
        assert!(args.contains(&"-no-reboot".to_owned()));
        assert!(!args.contains(&"-bios".to_owned()));
        assert_eq!(value_of(&flat(&Machine::new(Arch::X86_64)), "-M"), ["q35"]);
    }

    #[test]
    fn what_the_user_gives_replaces_ours() {
        let mut machine = Machine::new(Arch::Arm64);
        machine.extra = split_words("-M virt,gic-version=3 -cpu max,lpa2=off -m 4G").unwrap();
        let args = flat(&machine);
        assert_eq!(value_of(&args, "-M"), ["virt,gic-version=3"]);
        assert_eq!(value_of(&args, "-cpu"), ["max,lpa2=off"]);
        assert_eq!(value_of(&args, "-m"), ["4G"]);
        assert_eq!(value_of(&args, "-smp"), ["2"]);
    }

    #[test]
    fn firmware_is_given_as_bios() {
        for (arch, firmware, bios) in [
            (
                Arch::Arm64,
                Firmware::UBoot,
                Some("/usr/lib/u-boot/qemu_arm64/u-boot.bin"),
            ),
            (
                Arch::Arm64,
                Firmware::Uefi,
                Some("/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"),
            ),
            (Arch::X86_64, Firmware::Uefi, Some("/usr/share/ovmf/OVMF.fd")),
            (Arch::X86_64, Firmware::Direct, None),
        ] {
            let args = flat(&Machine {
                firmware,
                ..Machine::new(arch)
            });
            assert_eq!(value_of(&args, "-bios").first().copied(), bios, "{arch} {firmware}");
        }
    }

    #[test]
    fn a_kernel_and_disks_are_attached_in_order() {
        let machine = Machine {
            kernel: Some(DirectKernel {
                kernel: "k".into(),
                initrd: Some("i".into()),
                cmdline: "console=ttyS0 a b".into(),
            }),
            drives: vec![
                Drive::raw("one"),
                Drive {
                    bus: Bus::Nvme,
                    snapshot: true,
                    ..Drive::raw("a,b")
                },
                Drive {
                    bus: Bus::Ahci,
                    ..Drive::raw("three")
                },
                Drive::card_reader(),
            ],
            ..Machine::new(Arch::X86_64)
        };
        let args = flat(&machine);
        assert_eq!(value_of(&args, "-append"), ["console=ttyS0 a b"]);
        assert_eq!(
            value_of(&args, "-drive"),
            [
                "if=none,id=disk0,file=one,format=raw,werror=report",
                "if=none,id=disk1,file=a,,b,format=raw,werror=report,snapshot=on",
                "if=none,id=disk2,file=three,format=raw,werror=report",
                "if=none,id=disk3,werror=report",
            ]
        );
        assert_eq!(
            value_of(&args, "-device"),
            [
                "virtio-blk-pci,drive=disk0",
                "nvme,drive=disk1,serial=cato1",
                "ahci,id=ahci2",
                "ide-hd,drive=disk2,bus=ahci2.0",
                "qemu-xhci,id=xhci3",
                "usb-storage,drive=disk3,bus=xhci3.0,removable=on",
                "virtio-rng-pci",
            ]
        );
        assert!(machine.command_line().contains("-append 'console=ttyS0 a b'"));
    }

    #[test]
    fn every_argument_says_why() {
        let machine = Machine {
            gdb: Some("g".into()),
            qmp: Some("q".into()),
            serial: Serial::Person,
            ..Machine::new(Arch::Arm64)
        };
        assert!(
            machine
                .arguments()
                .iter()
                .all(|a| !a.why.is_empty() && !a.words.is_empty())
        );
    }

    #[test]
    fn words_split_as_a_shell_does() {
        assert_eq!(
            split_words("  -a b\t'c d' \"e\\\"f\" g\\ h ''").unwrap(),
            ["-a", "b", "c d", "e\"f", "g h", ""]
        );
        assert!(split_words("-a 'b").unwrap_err().contains('\''));
        assert!(split_words("-a \\").is_err());
        assert_eq!(split_words("").unwrap(), Vec::<String>::new());
    }

    #[test]
    fn firmware_names_read_back() {
        for firmware in Firmware::ALL {
            assert_eq!(firmware.to_string().parse(), Ok(firmware));
        }
        assert!("bios".parse::<Firmware>().is_err());
    }
}
