//! `cargo qemu boot`: the main job, shown.
//!
//! Given what the user brings, Debian's kernels for the rest; responsible for one boot on the console with the time of
//! each line, a table of its phases at the end, and an exit code that is 0 only if the main system is the one asked for.

mod kernel;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use config::Arch;
use guest_report::Report;
use serde_json::{Map, Value, json};

use crate::chain::{Chain, Initrd, Ready};
use crate::console::Line;
use crate::machine::{Drive, Firmware, Machine, Serial, split_words};
use crate::setup::packages::{self, Need};
use crate::timeline::Timeline;
use crate::verdict::Wanted;
use crate::vm::{Vm, Watch};
use crate::workspace;
use kernel::{Chosen, existing};

/// How long a main kernel must live after it started its PID 1, when nothing better is known of success.
const SETTLE: Duration = Duration::from_secs(2);

/// Boots firmware, service Linux, Cato and a main Linux in a virtual machine.
///
/// Without options: arm64, Debian's U-Boot, service Linux 6.1 or the one made for the job, main Linux 6.12. The disk is a GPT with the partitions
/// boot-a (ext4) and boot-b (FAT), each with the files `kernel` and `initrd`; Cato boots boot-a, and boot-b if that
/// fails. PID 1 of the main system reports what it was booted with and powers off.
///
/// Success, and exit code 0, is: with --expect, a line of the main system that matches; else, with our initrd, a
/// report that names the command line, initrd, device tree, kernel, CPUs and memory that were asked for; else (your
/// --main-initrd or --disk), a main kernel that starts its PID 1 and does not panic within two seconds. That last one
/// needs a command line without `quiet`: give --expect when there is one.
#[derive(Args, Debug, Clone)]
pub struct BootArgs {
    /// arm64 (aarch64) or x86_64 (amd64).
    #[arg(long, default_value = "arm64")]
    pub arch: Arch,
    /// direct, u-boot (arm64) or uefi; u-boot for arm64 and direct for x86_64 when not given.
    #[arg(long)]
    pub firmware: Option<Firmware>,
    /// bookworm (6.1), trixie (6.12), cato (made for the job, and built where it is not there), or a kernel file; cato when it has
    /// been built and nothing is said, else, and with --disk, bookworm. Modules are taken from ../lib/modules/RELEASE beside a file named
    /// vmlinuz-RELEASE, or from the kernel's own folder, also where a symbolic link leads to it; without them the kernel
    /// must have all drivers built in.
    #[arg(long, value_name = "SUITE|cato|FILE")]
    pub service_kernel: Option<String>,
    /// bookworm (6.1), trixie (6.12), or a kernel file in any format Cato takes.
    #[arg(long, default_value = "trixie", value_name = "SUITE|FILE")]
    pub main_kernel: String,
    /// Your initrd instead of the one that reports; `none` for none.
    #[arg(long, value_name = "FILE")]
    pub main_initrd: Option<PathBuf>,
    /// The main kernel's command line, or a file that holds it. Cato adds the console where it names none.
    #[arg(long, value_name = "TEXT|FILE")]
    pub main_cmdline: Option<String>,
    /// Your boot.toml instead of ours. --main-cmdline is not used then.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// More QEMU arguments, as in --machine "-M virt,gic-version=3 -cpu max". A -M, -cpu, -m or -smp replaces ours.
    #[arg(long, value_name = "QEMU ARGS", allow_hyphen_values = true)]
    pub machine: Option<String>,
    /// Memory in MiB, or with a G.
    #[arg(long, default_value = "1G", value_parser = memory)]
    pub memory: u32,
    /// CPUs of the machine. The service Linux uses one.
    #[arg(long, default_value_t = 2)]
    pub smp: u32,
    /// Your disk image (raw or qcow2) instead of ours; it is never written to. Needs --config.
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
    /// Success is a line of the main system that matches.
    #[arg(long, value_name = "REGEX")]
    pub expect: Option<String>,
    /// Gives up after this many seconds. Not with --interactive, unless given.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// The console is yours: type to it, Ctrl-A x ends, Ctrl-A c is QEMU's monitor.
    #[arg(long, conflicts_with = "json")]
    pub interactive: bool,
    /// Writes the QEMU command and each console line to a file.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Prints one JSON object instead of the console.
    #[arg(long)]
    pub json: bool,
}

fn memory(text: &str) -> Result<u32, String> {
    let (digits, factor) = match text.strip_suffix(['G', 'g']) {
        Some(digits) => (digits, 1024),
        None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
    };
    let number: u32 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a size; write 512, 512M or 2G"))?;
    number
        .checked_mul(factor)
        .filter(|mib| *mib > 0)
        .ok_or_else(|| format!("{text:?} is out of range"))
}

/// What counts as success.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Success {
    Report,
    Line(String),
    Init,
}

/// Boots, and returns whether the main system is the one that was asked for.
pub fn run(args: &BootArgs) -> Result<bool> {
    let chain = chain(args)?;
    let success = match &args.expect {
        Some(pattern) => Success::Line(pattern.clone()),
        None if chain.initrd == Initrd::Report && chain.disk.is_none() => Success::Report,
        None => Success::Init,
    };
    let folder = workspace::target("qemu").join(format!("boot-{}", chain.arch()));
    if !args.json {
        println!("building Cato and the service initramfs for {} ...", chain.arch());
    }
    let mut ready = chain.prepare(&folder)?;
    if args.config.is_some() {
        ready.wanted = Wanted {
            cmdline: String::new(),
            release: None,
            ..ready.wanted
        };
    }
    if !args.json {
        println!("{}\n{}\n", ready.summary, ready.machine.command_line());
    }
    let outcome = start(&ready, args, &success)?;
    finish(args, &chain, &outcome);
    Ok(outcome.problems.is_empty())
}

/// How a boot went.
struct Outcome {
    lines: Vec<Line>,
    problems: Vec<String>,
}

fn start(ready: &Ready, args: &BootArgs, success: &Success) -> Result<Outcome> {
    let forever = Duration::from_hours(24 * 365);
    let limit = match args.timeout {
        Some(seconds) => Duration::from_secs(seconds),
        None if args.interactive => forever,
        None => Duration::from_mins(5),
    };
    let machine = Machine {
        serial: if args.interactive {
            Serial::Person
        } else {
            Serial::Program
        },
        ..ready.machine.clone()
    };
    let watch = Watch {
        print: !args.json,
        log: args.log.clone(),
    };
    let mut vm = Vm::start(&machine, limit, &watch)?;
    let waited = if args.interactive {
        // The user decides when it is over; what it came to is read from the transcript.
        vm.wait_end(limit).map(|_| ())
    } else {
        wait(&mut vm, limit, success)
    };
    let lines = vm.stop();
    let mut problems = Vec::new();
    if let Err(error) = waited {
        // Its first line: the console has been shown already.
        problems.extend(
            error
                .to_string()
                .lines()
                .next()
                .map(|line| line.trim_end_matches("; its last lines:").to_owned()),
        );
    }
    problems.extend(judge(&lines, success, &ready.wanted));
    Ok(Outcome { lines, problems })
}

/// Waits for success, or for what makes it impossible.
fn wait(vm: &mut Vm, limit: Duration, success: &Success) -> Result<()> {
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    match success {
        Success::Report => {
            vm.wait_for("report: done", left())?;
            // It powers off by itself; one that does not has reported all the same.
            let _ = vm.wait_end(Duration::from_secs(10));
        }
        Success::Line(pattern) => {
            vm.wait_for(r"cato\[", left())?;
            vm.wait_for("Linux version ", left())?;
            vm.wait_for(pattern, left())?;
        }
        Success::Init => {
            vm.wait_for(r"cato\[", left())?;
            vm.wait_for("Linux version ", left())?;
            vm.wait_for("Run .* as init process", left())?;
            let panic = vm.wait_for("Kernel panic - not syncing", SETTLE.min(left()));
            ensure!(panic.is_err(), "the main kernel started its PID 1 and panicked");
        }
    }
    Ok(())
}

/// What speaks against success in a transcript.
fn judge(lines: &[Line], success: &Success, wanted: &Wanted) -> Vec<String> {
    let timeline = Timeline::last(lines);
    let Some(main) = timeline.main else {
        return vec!["the main kernel printed nothing".to_owned()];
    };
    let after: Vec<&str> = lines
        .iter()
        .filter(|line| line.ms >= main)
        .map(|line| line.text.as_str())
        .collect();
    match success {
        Success::Report => wanted.problems(&Report::parse(&after.join("\n"))),
        Success::Line(pattern) => {
            let seen = regex_lite::Regex::new(pattern).is_ok_and(|re| after.iter().any(|text| re.is_match(text)));
            if seen {
                Vec::new()
            } else {
                vec![format!("no line of the main system matches {pattern:?}")]
            }
        }
        Success::Init if timeline.init.is_none() => vec!["the main kernel never started its PID 1".to_owned()],
        Success::Init if after.iter().any(|text| text.contains("Kernel panic")) => {
            vec!["the main kernel panicked".to_owned()]
        }
        Success::Init => Vec::new(),
    }
}

fn finish(args: &BootArgs, chain: &Chain, outcome: &Outcome) {
    let timeline = Timeline::last(&outcome.lines);
    if args.json {
        let mut phases = Map::new();
        for phase in timeline.phases() {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of one boot")]
            phases.insert(phase.name.key().to_owned(), json!(phase.ms as f64 / 1000.0));
        }
        let text: Vec<&str> = outcome.lines.iter().map(|line| line.text.as_str()).collect();
        let report = Report::parse(&text.join("\n"));
        let said = |key: &str| report.get(key).map_or(Value::Null, Value::from);
        let object = json!({
            "ok": outcome.problems.is_empty(),
            "problems": outcome.problems,
            "arch": chain.arch().to_string(),
            "firmware": chain.machine.firmware.to_string(),
            "phases": phases,
            "main": { "uname": said("uname"), "cmdline": said("cmdline"), "model": said("model") },
        });
        println!("{object}");
        return;
    }
    println!("\n{timeline}");
    if outcome.problems.is_empty() {
        println!("OK: the main system came up as asked for");
    } else {
        println!("FAILED:");
        for problem in &outcome.problems {
            println!("  {problem}");
        }
    }
}

/// The boot the options describe.
fn chain(args: &BootArgs) -> Result<Chain> {
    let arch = args.arch;
    let firmware = args.firmware.unwrap_or(Firmware::default_for(arch));
    packages::ensure(&Need {
        arches: vec![arch],
        firmware: vec![firmware],
        images: false,
        compiler: false,
    })?;
    let service = Chosen::service(args.service_kernel.as_deref(), args.disk.is_some(), arch)?;
    let main = Chosen::of(&args.main_kernel, arch)?;
    if service.modules.is_none() && service.release.is_none() {
        eprintln!("{}", service.why_no_modules());
    }
    ensure!(
        args.disk.is_none() || args.config.is_some(),
        "--disk needs --config: boot.toml must say what is on your disk"
    );

    let mut chain = Chain::new(&service.kernel, &main.kernel);
    chain.service.modules = service.modules;
    chain.release = main.release;
    chain.machine = Machine {
        firmware,
        memory_mib: args.memory,
        cpus: args.smp,
        extra: split_words(args.machine.as_deref().unwrap_or_default()).map_err(anyhow::Error::msg)?,
        ..Machine::new(arch)
    };
    chain.mark_device_tree = !chain.machine.extra.iter().any(|word| word == "-dtb");
    chain.initrd = match &args.main_initrd {
        None => Initrd::Report,
        Some(none) if none.as_os_str() == "none" => Initrd::Without,
        Some(file) => Initrd::File(existing(file)?),
    };
    if let Some(given) = &args.main_cmdline {
        chain.cmdline = text_or_file(given)?;
    }
    if let Some(file) = &args.config {
        let text = fs::read_to_string(file).with_context(|| format!("can't read {}", file.display()))?;
        mkinitramfs::check_config(&file.display().to_string(), text.as_bytes())?;
        chain.config = Some(text);
    }
    if let Some(file) = &args.disk {
        let file = existing(file)?;
        chain.disk = Some(Drive {
            format: format_of(&file)?.to_owned(),
            snapshot: true,
            ..Drive::raw(file)
        });
    }
    Ok(chain)
}

/// A command line as it is, or the file that holds it. What can only be meant as a file must be one.
fn text_or_file(given: &str) -> Result<String> {
    let path_only = given.starts_with(['/', '.']) && !given.contains([' ', '=']);
    match fs::read_to_string(given) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) if !path_only => Ok(given.to_owned()),
        Err(error) => Err(error).with_context(|| format!("can't read the command line in {given}")),
    }
}

/// QEMU's name of an image's format, by its content: guessing is what QEMU itself warns of.
fn format_of(file: &Path) -> Result<&'static str> {
    let mut magic = [0_u8; 4];
    let mut image = fs::File::open(file)?;
    Ok(match image.read_exact(&mut magic) {
        Ok(()) if magic == *b"QFI\xfb" => "qcow2",
        _ => "raw",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        (0..)
            .zip(text.lines())
            .map(|(ms, text)| Line {
                ms,
                text: text.to_owned(),
            })
            .collect()
    }

    #[test]
    fn sizes_are_in_mib() {
        assert_eq!(
            (memory("512"), memory("512M"), memory("8G")),
            (Ok(512), Ok(512), Ok(8192))
        );
        for bad in ["", "G", "1T", "0", "99999999G"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    const HOP: &str = "Linux version 6.1\nReady\ncato[   1.000] hand-off: reboot(KEXEC)\nBye!\nLinux version 6.12\n";

    #[test]
    fn only_the_main_system_counts() {
        let line = Success::Line("Ready".into());
        assert_eq!(judge(&lines(HOP), &line, &Wanted::default()).len(), 1);
        assert!(judge(&lines(&format!("{HOP}Ready")), &line, &Wanted::default()).is_empty());
        let service_only: String = HOP.lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(judge(&lines(&service_only), &line, &Wanted::default())[0].contains("printed nothing"));
    }

    #[test]
    fn a_users_initrd_counts_when_pid_1_starts_and_lives() {
        let started = format!("{HOP}Run /init as init process\n");
        assert_eq!(judge(&lines(HOP), &Success::Init, &Wanted::default()).len(), 1);
        assert!(judge(&lines(&started), &Success::Init, &Wanted::default()).is_empty());
        let panicked = format!("{started}Kernel panic - not syncing: x");
        assert_eq!(judge(&lines(&panicked), &Success::Init, &Wanted::default()).len(), 1);
    }

    #[test]
    fn a_command_line_s_file_that_is_not_there_is_no_command_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cmdline");
        fs::write(&file, "quiet a=b\n").unwrap();
        assert_eq!(text_or_file(file.to_str().unwrap()).unwrap(), "quiet a=b");
        assert_eq!(text_or_file("root=/dev/sda1 quiet").unwrap(), "root=/dev/sda1 quiet");
        assert_eq!(text_or_file("quiet").unwrap(), "quiet");
        let error = text_or_file(folder.path().join("typo").to_str().unwrap()).unwrap_err();
        assert!(error.to_string().contains("can't read the command line"), "{error:#}");
    }

    #[test]
    fn an_image_s_format_is_told_by_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("d");
        fs::write(&file, b"QFI\xfb....").unwrap();
        assert_eq!(format_of(&file).unwrap(), "qcow2");
        fs::write(&file, b"").unwrap();
        assert_eq!(format_of(&file).unwrap(), "raw");
    }
}
