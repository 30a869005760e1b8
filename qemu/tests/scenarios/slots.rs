//! Slots across resets: what is counted, what is given up, what is booted instead.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use mkinitramfs::disk::image::MIB;
use mkinitramfs::disk::{Filesystem, Partition};
use mkinitramfs::whole_disk::state_type;
use qemu::chain::{Chain, Initrd};
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::timeline::{Name, Timeline};
use qemu::vm::Vm;
use stage::text::quoted;

use crate::service_kernel;

/// Boots of each kind that are compared.
pub(crate) const COST_RUNS: usize = 5;

pub(crate) const SOON: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let is_second = arch == Arch::X86_64;
        let mut add = |name: &str, long: bool, body: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(name.replace("ARCH", &arch.to_string()), move |context| {
                body(context, arch)
            });
            all.push(scenario.long_if(long));
        };
        add("slot/ARCH/rolls-back", is_second, rolls_back);
        add("slot/ARCH/state-lost", true, state_lost);
        add("slot/ARCH/marked-good-then-once", is_second, marked_good_then_once);
        add("slot/ARCH/trial", !is_second, trial);
        add("slot/ARCH/empty-slot", true, empty_slot);
        add("slot/ARCH/cloned", true, cloned);
        add("slot/ARCH/kills-the-stage", true, kills_the_stage);
        add("rollback/ARCH/never-marked", true, never_marked);
        add("rollback/ARCH/all-bad", true, all_bad);
        add("rollback/ARCH/no-rescue", true, no_rescue);
        add("rollback/ARCH/power-cycled", true, power_cycled);
        add("quiesce/ARCH/unbind", true, unbind);
        add("slot/ARCH/cost", true, cost);
    }
    all
}

/// Another kernel of one.
pub(crate) type Change = fn(Arch, Vec<u8>) -> Result<Vec<u8>>;

/// A machine with slots A and B, each a whole system, a state, and, without a slot, an entry `rescue`.
pub(crate) struct Plan {
    /// More words on each slot's command line.
    pub words: [&'static str; 2],
    /// Whether each slot has its kernel.
    pub is_there: [bool; 2],
    /// Whether each slot has its initrd; a kernel without one panics.
    pub has_initrd: [bool; 2],
    /// What is done to A's kernel.
    pub change_kernel: Option<Change>,
    /// Which slots are good when the machine is new; none of `Some`: a state of zeros.
    pub good: Option<&'static [&'static str]>,
    /// One of those that has been written to since.
    pub updated: Option<&'static str>,
    /// What is in `boot.toml` besides.
    pub config: &'static str,
    /// The names in `order`.
    pub order: &'static [&'static str],
    /// The main system can read its disk, and has Cato.
    pub has_cato: bool,
    /// The service kernel is the one made for the job, which boots in a fraction of the time.
    pub is_tuned: bool,
    /// More modules that it loads.
    pub modules: &'static [&'static str],
    /// QEMU gets these, and the state is on a disk of its own, `vdb`, that is not in the image: the file's place is `STATE`.
    pub state_disk: Option<&'static [&'static str]>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            words: ["", ""],
            is_there: [true, true],
            has_initrd: [true, true],
            change_kernel: None,
            good: Some(&[]),
            updated: None,
            config: "[slots]\ntries = 2\n",
            order: &["a", "b"],
            has_cato: false,
            is_tuned: false,
            modules: &[],
            state_disk: None,
        }
    }
}

fn cato(words: &[&str], place: &Path) -> Result<()> {
    let mut words: Vec<OsString> = words.iter().map(OsString::from).collect();
    words.push(place.into());
    ensure!(stage::cli::run(words) == ExitCode::SUCCESS, "cato failed");
    Ok(())
}

impl Plan {
    /// The state as a file. The first slot is always the first choice.
    fn state(&self, folder: &Path) -> Result<PathBuf> {
        let image = folder.join("state.img");
        File::create(&image)?.set_len(MIB)?;
        if let Some(good) = self.good {
            let mut init = vec![OsString::from("state"), "init".into(), image.clone().into()];
            init.extend(good.iter().map(OsString::from));
            ensure!(stage::cli::run(init) == ExitCode::SUCCESS, "cato state init failed");
            if let Some(first) = self.updated {
                cato(&["mark-bad", first], &image)?;
                cato(&["set-next", first], &image)?;
            }
        }
        Ok(image)
    }

    pub(crate) fn chain(&self, context: &Context, arch: Arch) -> Result<Chain> {
        let mut chain = context.chain(arch, Bookworm, Trixie)?;
        chain.machine.firmware = Direct;
        chain.machine.no_reboot = false;
        if self.is_tuned {
            service_kernel::take(&mut chain)?;
        }
        if self.has_cato {
            chain.initrd = Initrd::ReportWithCato;
            let modules = ["virtio_pci", "virtio_blk"]
                .iter()
                .chain(self.modules)
                .map(ToString::to_string)
                .collect();
            chain.main_modules = Some((context.kernel(arch, Trixie)?.modules, modules));
        }
        let files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
        let mut files_of_a = files.clone();
        if let Some(change) = self.change_kernel {
            files_of_a = files_of_a.with_bytes("kernel", change(arch, fs::read(&chain.kernel)?)?);
        }
        let state = self.state(&context.folder)?;
        let mut partitions = Vec::new();
        for (name, is_there, files) in [
            ("boot-a", self.is_there[0], files_of_a),
            ("boot-b", self.is_there[1], files.clone()),
            ("rescue", true, files),
        ] {
            if is_there {
                partitions.push(Partition::new(name, Filesystem::Ext4, files));
            }
        }
        let made = Partition {
            type_guid: Some(state_type()?),
            ..Partition::made("cato-state", state)
        };
        match self.state_disk {
            None => partitions.push(made),
            Some(arguments) => {
                let image = context.folder.join("state-disk.img");
                mkinitramfs::disk::Disk {
                    partitions: vec![made],
                    ..mkinitramfs::disk::Disk::default()
                }
                .write(&image)?;
                let image = image.display().to_string();
                chain.machine.extra = arguments.iter().map(|word| word.replace("STATE", &image)).collect();
            }
        }
        chain.partitions = Some(partitions);
        let entry = |name: &str, slot: Option<usize>| {
            let source = if slot.is_some() {
                format!("boot-{name}")
            } else {
                name.to_owned()
            };
            let has_initrd = slot.and_then(|slot| self.has_initrd.get(slot)).is_none_or(|has| *has);
            let initrd = if has_initrd { "initrd = [\"initrd\"]\n" } else { "" };
            let words = slot.and_then(|slot| self.words.get(slot)).unwrap_or(&"");
            let slot = slot
                .map(|_| format!("slot = \"{}\"\n", name.to_uppercase()))
                .unwrap_or_default();
            let cmdline = quoted(&format!("{} panic=1 {words}", chain.cmdline));
            format!(
                "\n[entry.{name}]\n{slot}source = \"PARTLABEL={source}\"\nkernel = \"kernel\"\n{initrd}cmdline = {cmdline}\n"
            )
        };
        let order: Vec<String> = self.order.iter().map(|name| quoted(name)).collect();
        chain.config = Some(format!(
            "version = 1\norder = [{}]\n[console]\ncountdown = 0\nretry = 2\n{}{}{}{}",
            order.join(", "),
            self.config,
            entry("a", Some(0)),
            entry("b", Some(1)),
            entry("rescue", None)
        ));
        Ok(chain)
    }

    /// Starts the machine, and checks what the main system reports at the end.
    pub(crate) fn play(&self, context: &Context, arch: Arch, steps: impl FnOnce(&mut Vm) -> Result<()>) -> Result<()> {
        let ready = context.prepare(&self.chain(context, arch)?)?;
        let mut vm = context.start(&ready.machine)?;
        steps(&mut vm)?;
        context.reports(&ready, &mut vm).map(drop)
    }
}

/// What `cato state show --json` says of the disk of [`Plan::state_disk`], whose only partition is from 1 MiB to 2 MiB.
pub(crate) fn state_of(disk: &[u8], folder: &Path) -> Result<String> {
    let image = folder.join("partition.img");
    fs::write(&image, disk.get(1 << 20..2 << 20).context("a small disk")?)?;
    stage::cli::state(&image).map_err(anyhow::Error::msg)
}

pub(crate) fn each(vm: &Vm, patterns: &[&str]) -> Result<()> {
    for pattern in patterns {
        vm.wait_for(&pattern.replace("cato: ", r"cato\[ *[0-9.]+\] "), SOON)?;
    }
    Ok(())
}

fn rolls_back(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        has_initrd: [false, true],
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                // A PC's chip always has one.
                if arch == Arch::X86_64 {
                    r"cato: watchdog: watchdog0 \(iTCO_wdt\) is armed: 60 s"
                } else {
                    "cato: watchdog: warning: there is no watchdog"
                },
                r"cato: slots: A \(untested, 2 tries left\), B \(untested, 2 tries left\)",
                r#"cato: select: entry "a".*, first in order"#,
                "Kernel panic - not syncing",
                r"cato: slots: A \(untested, 1 try left; booted, but not marked good",
                r#"cato: select: entry "a""#,
                "Kernel panic - not syncing",
                "cato: slots: slot A is given up: its tries are used up",
                r#"cato: select: entry "b""#,
            ],
        )
    })
}

/// Nothing is armed again: each slot has one try.
fn state_lost(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        has_initrd: [false, false],
        good: None,
        order: &["a", "b", "rescue"],
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r"cato: slots: warning: vda4 .*: both copies of the state are lost \(first: all zeros; second: all zeros\); each slot has one try",
                r#"cato: select: entry "a""#,
                "Kernel panic - not syncing",
                "cato: slots: slot A is given up",
                r#"cato: select: entry "b""#,
                "Kernel panic - not syncing",
                "cato: slots: slot B is given up",
                r#"cato: select: entry "rescue""#,
            ],
        )
    })
}

/// A marks itself good and asks for B once; B is booted, and then A again.
fn marked_good_then_once(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: [
            "report.run=rauc,get-current;mark-good;rauc,get-primary;mark-bad,B;rauc,get-state,B;set-next,B,--once;rauc,set-primary,B;rauc,set-primary,A;rauc,get-state,B;set-next,B,--once report.reboot",
            "report.run=status,--json;mark-good,A;mark-good,C;trial",
        ],
        has_cato: true,
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r#"cato: select: entry "a""#,
                "report: run=rauc get-current: exit 0: A$",
                "report: run=mark-good: exit 0: ?$",
                "report: run=rauc get-primary: exit 0: A$",
                "report: run=mark-bad B: exit 0: ?$",
                "report: run=rauc get-state B: exit 0: bad",
                "report: run=set-next B --once: exit 3: error: slot B: the slot is bad",
                "report: run=rauc set-primary B: exit 0: ?$",
                "report: run=rauc set-primary A: exit 0: ?$",
                "report: run=rauc get-state B: exit 0: good$",
                "report: run=set-next B --once: exit 0: ?$",
                r"cato: slots: A \(good\), B \(untested, 2 tries left\)",
                r#"cato: select: entry "b".*, its slot is booted once"#,
                r#"report: run=status --json: exit 0: \{"boots":2,"primary":"A",.*"once":null,"booted":"B","marked_good":false"#,
                "report: run=mark-good A: exit 0: ?$",
                "report: run=mark-good C: exit 3: error: slot C: there is no such slot",
                "report: run=trial: exit 0: no trial",
            ],
        )
    })
}

/// Up, but not marked: after its time it is to reboot itself.
fn trial(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=trial report.reboot", "report.run=mark-good;trial"],
        config: "[slots]\ntries = 1\ntrial = \"10s\"\n",
        has_cato: true,
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r#"cato: select: entry "a""#,
                "report: run=trial: exit 4: error: slot A was not marked good within 10 s: it is noted, and the machine is to be rebooted",
                r"cato: slots: A \(bad: its tries are used up, and it was never marked good; booted, but not marked good within its trial\)",
                r#"cato: select: entry "b""#,
                "report: run=mark-good: exit 0: ?$",
                "report: run=trial: exit 0: slot B was marked good in its time",
            ],
        )
    })
}

/// As it comes from the factory: A is good, B has nothing yet, and is not tried before somebody asks for it, which costs nothing.
fn empty_slot(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=mark-good;set-next,B report.reboot", ""],
        is_there: [true, false],
        good: Some(&["A"]),
        has_cato: true,
        ..Plan::default()
    };
    let ready = context.prepare(&plan.chain(context, arch)?)?;
    let vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r"cato: slots: A \(good\), B \(bad: nothing was installed in it yet\)",
            r#"cato: select: entry "a""#,
            "report: run=set-next B: exit 0",
            r#"cato: select: entry "b""#,
            r#"cato: entry: entry "b": source PARTLABEL=boot-b: not found .*; trying "a""#,
            r#"cato: select: entry "a""#,
            "report: run=set-next B: exit 0",
            r"cato: slots: B \(untested, 2 tries left\), A \(good\)",
        ],
    )
}

/// The state of another machine: what is good stays good, and its last boot says nothing of this one.
fn cloned(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=mark-good", ""],
        has_cato: true,
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    let identity = |id: &str| match arch {
        Arch::X86_64 => vec!["-uuid".to_owned(), id.to_owned()],
        Arch::Arm64 => vec!["-smbios".to_owned(), format!("type=1,uuid={id}")],
    };
    // Only ACPI's firmware hands a virt machine's identity over.
    if arch == Arch::Arm64 {
        chain.machine.firmware = qemu::machine::Firmware::Uefi;
    }
    chain.machine.extra = identity("11111111-2222-3333-4444-555555555555");
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(&vm, &[r"cato: slots: A \(untested", "report: run=mark-good: exit 0"])?;
    vm.wait_end(SOON)?;
    let mut machine = ready.machine.clone();
    machine.extra = identity("11111111-2222-3333-4444-666666666666");
    let mut vm = context.start(&machine)?;
    each(
        &vm,
        &[
            "cato: slots: the state is another machine's: its strikes and its last boot do not count",
            r"cato: slots: A \(good\), B \(untested, 2 tries left\)",
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}

/// The service Linux is gone each time that it comes to an update: what ran before it is booted, and the update hears of it.
fn kills_the_stage(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        good: Some(&["A", "B"]),
        updated: Some("B"),
        ..Plan::default()
    };
    let ready = context.prepare(&plan.chain(context, arch)?)?;
    for _ in 0..4 {
        let vm = context.start(&ready.machine)?;
        vm.wait_for(r#"cato\[.*select: entry "b""#, SOON)?;
        vm.stop();
    }
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            "cato: slots: warning: the service Linux may have died of the files of slot B: it comes last this time",
            r"cato: slots: B \(untested, 2 tries left; not booted: the service Linux died on its way to it, time and again\)",
            r#"cato: select: entry "a""#,
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Up and well, but nobody says so.
fn never_marked(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.reboot", ""],
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r#"cato: select: entry "a""#,
                "report: done",
                r"cato: slots: slot A: booted, but not marked good: nothing says why the machine was reset",
                r"cato: slots: A \(untested, 1 try left",
                r#"cato: select: entry "a""#,
                "report: done",
                "cato: slots: slot A is given up",
                r#"cato: select: entry "b""#,
            ],
        )
    })
}

/// Both panic; the entry without a slot is the rescue.
fn all_bad(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        has_initrd: [false, false],
        order: &["a", "b", "rescue"],
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r#"cato: select: entry "a""#,
                "Kernel panic - not syncing",
                r"cato: slots: A \(untested, 1 try left; booted, but not marked good",
                r#"cato: select: entry "a""#,
                "Kernel panic - not syncing",
                "cato: slots: slot A is given up",
                r#"cato: select: entry "b""#,
                "Kernel panic - not syncing",
                r"B \(untested, 1 try left; booted, but not marked good",
                r#"cato: select: entry "b""#,
                "Kernel panic - not syncing",
                "cato: slots: slot B is given up",
                r#"cato: select: entry "rescue""#,
            ],
        )
    })
}

/// Without a rescue they take turns, from the prompt, for ever.
fn no_rescue(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        has_initrd: [false, false],
        config: "[slots]\ntries = 1\n",
        ..Plan::default()
    };
    let ready = context.prepare(&plan.chain(context, arch)?)?;
    let vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            "cato: slots: slot A is given up",
            "cato: slots: slot B is given up",
            r"cato: prompt: no entry left; trying again by itself in 2 s",
            r#"cato: select: entry "a".*, its slot is bad, but what is better does not boot"#,
            r"cato: prompt: no entry left",
            r#"cato: select: entry "b".*, its slot is bad, but what is better does not boot"#,
            r"cato: prompt: no entry left",
            r#"cato: select: entry "a".*, its slot is bad, but what is better does not boot"#,
        ],
    )
}

/// Somebody pulls the plug ten times before a good system could say that it is well: with a page that tells a power cut from a
/// reset, that counts for nothing.
fn power_cycled(context: &Context, arch: Arch) -> Result<()> {
    let page = match arch {
        Arch::Arm64 => 0x6000_0000,
        Arch::X86_64 => 0x2000_0000,
    };
    let plan = Plan {
        good: Some(&["A"]),
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    chain.reserved.push((page, 4096));
    let config = chain.config.unwrap_or_default();
    chain.config = Some(format!("{config}[purgatory]\nreason = \"memory:{page:#x}\"\n"));
    let ready = context.prepare(&chain)?;
    for cut in 0..10 {
        let mut vm = context.start(&ready.machine)?;
        vm.forbid("slot A is given up")?;
        let known = if cut == 0 {
            r"A \(good\)"
        } else {
            r"A \(good; booted, but not marked good: the power was off\)"
        };
        each(
            &vm,
            &[
                &format!("cato: slots: {known}"),
                r#"cato: select: entry "a""#,
                r"cato: hand-off: reboot\(KEXEC\)",
            ],
        )?;
        vm.stop();
    }
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r"cato: slots: A \(good; booted, but not marked good: the power was off\)",
            r#"cato: select: entry "a""#,
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}

/// What `measure` finds with each config, the boots in turn: medians of [`COST_RUNS`].
pub(crate) fn medians(
    context: &Context,
    chain: &mut Chain,
    configs: [&String; 2],
    measure: fn(&Vm) -> Result<u64>,
) -> Result<[u64; 2]> {
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..COST_RUNS {
        for (config, took) in configs.into_iter().zip(&mut took) {
            chain.config = Some(config.clone());
            let (_, vm) = context.boots(chain)?;
            took.push(measure(&vm)?);
        }
    }
    Ok(took.map(|mut all| {
        all.sort_unstable();
        all.get(all.len() / 2).copied().unwrap_or_default()
    }))
}

/// What slots, the state and a watchdog add to Cato's time on a healthy boot: printed, as machines are noisy.
fn cost(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        good: Some(&["A"]),
        config: "[watchdog]\ntimeout = 60\n",
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    chain.machine.no_reboot = true;
    chain.machine.extra.extend(["-device", "i6300esb"].map(str::to_owned));
    let config = chain.config.clone().unwrap_or_default();
    let without = config
        .replace(plan.config, "")
        .replace("slot = \"A\"\n", "")
        .replace("slot = \"B\"\n", "");
    let stage = |vm: &Vm| {
        let phases = Timeline::last(&vm.lines()).phases();
        let stage = phases.iter().find(|phase| phase.name == Name::Stage);
        Ok(stage.context("no time of Cato's")?.ms)
    };
    let [without, with] = medians(context, &mut chain, [&without, &config], stage)?;
    println!(
        "slot/{arch}/cost: Cato takes {without} ms without slots and watchdog, {with} ms with them (medians of {COST_RUNS})"
    );
    Ok(())
}

/// The disk's own driver goes, when everything is read; what is not there is said.
fn unbind(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        config: "[quiesce]\nunbind = [\"driver:virtio-pci\", \"pci:0000:0f:00.0\"]\n",
        ..Plan::default()
    };
    plan.play(context, arch, |vm| {
        each(
            vm,
            &[
                r"cato: hand-off: unbind driver:virtio-pci: 0000:00:0.\.0 is unbound",
                "cato: hand-off: unbind pci:0000:0f:00.0: no such device with a driver",
                r"cato: hand-off: reboot\(KEXEC\)",
            ],
        )
    })
}
