//! The state's disk fails: whatever it does, the machine ends up in the best slot that may be booted.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use mkinitramfs::disk::image::MIB;
use qemu::chain::Ready;
use qemu::nbd::{Lie, Nbd};
use qemu::scenario::{Context, Scenario};
use qemu::vm::Vm;
use serde_json::json;

use crate::slots::{Plan, SOON, each, state_of};

/// What the state's disk does, and what comes of it. A has never been marked good and is the first choice, B is good; where
/// nothing can be written, only B is booted.
struct Fault {
    name: &'static str,
    through: Through,
    said: &'static [&'static str],
}

/// What the state's disk is read and written through.
enum Through {
    /// A blockdev of QEMU's, `state`; the file is node `file`.
    Qemu(&'static [&'static str]),
    Liar(Lie),
}

const UNPROVEN: &str = r#"cato: entry: entry "a": state: vdb1: the attempt can't be written down: .*; only a slot that is good is booted without that; trying "b""#;

const FAULTS: [Fault; 11] = [
    Fault {
        name: "write-error",
        through: Through::Qemu(&[
            "-blockdev",
            "driver=blkdebug,node-name=state,image=file,inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=5",
        ]),
        said: &[r"cato: slots: A \(untested, 3 tries left\), B \(good\)", UNPROVEN],
    },
    Fault {
        name: "no-space",
        through: Through::Qemu(&[
            "-blockdev",
            "driver=blkdebug,node-name=state,image=file,inject-error.0.event=none,inject-error.0.iotype=write,inject-error.0.errno=28",
        ]),
        said: &[UNPROVEN],
    },
    Fault {
        name: "flush-error",
        through: Through::Qemu(&[
            "-blockdev",
            "driver=blkdebug,node-name=state,image=file,inject-error.0.event=none,inject-error.0.iotype=flush,inject-error.0.errno=5",
        ]),
        said: &[UNPROVEN],
    },
    Fault {
        name: "read-only",
        through: Through::Qemu(&["-blockdev", "driver=raw,node-name=state,file=file,read-only=on"]),
        said: &[UNPROVEN],
    },
    // The partition begins at 1 MiB: sector 2048.
    Fault {
        name: "first-copy-unreadable",
        through: Through::Qemu(&[
            "-blockdev",
            "driver=blkdebug,node-name=state,image=file,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=2048,inject-error.0.errno=5",
        ]),
        said: &[
            r"cato: slots: vdb1 .*: one copy of the state is lost \(I/O error",
            r"cato: slots: A \(untested, 3 tries left\), B \(good\)",
        ],
    },
    Fault {
        name: "unreadable",
        through: Through::Qemu(&[
            "-blockdev",
            "driver=blkdebug,node-name=half,image=file,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=2048,inject-error.0.errno=5",
            "-blockdev",
            "driver=blkdebug,node-name=state,image=half,inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.sector=3072,inject-error.0.errno=5",
        ]),
        // It may be read another time: nothing is known, and nothing may be written.
        said: &[
            "cato: slots: warning: vdb1 .*: the state can't be read .*; nothing is counted",
            r#"cato: select: entry "a""#,
        ],
    },
    Fault {
        name: "slow",
        through: Through::Qemu(&[
            "-object",
            "throttle-group,id=slow,x-iops-total=4",
            "-blockdev",
            "driver=throttle,throttle-group=slow,node-name=state,file=file",
        ]),
        said: &[r#"cato: select: entry "a""#],
    },
    Fault {
        // It takes the first write, and no other.
        name: "never-answers",
        through: Through::Qemu(&[
            "-object",
            "throttle-group,id=stuck,x-bps-write=1",
            "-blockdev",
            "driver=throttle,throttle-group=stuck,node-name=state,file=file",
        ]),
        said: &[
            "cato: warning: the state can't be written: no answer within 10 s",
            UNPROVEN,
        ],
    },
    Fault {
        // Its kind can be seen, and it can't be read: each entry would find it again.
        name: "reads-hang",
        through: Through::Liar(Lie::AnswersOnce(MIB)),
        said: &[
            "cato: slots: warning: no answer within 40 s; nothing is counted",
            r#"cato: select: entry "a""#,
            r"cato: hand-off: reboot\(KEXEC\)",
        ],
    },
    Fault {
        name: "drops-writes",
        through: Through::Liar(Lie::Drops),
        said: &[r"cato: slots: A \(untested, 3 tries left\), B \(good\)", UNPROVEN],
    },
    Fault {
        name: "mangles-writes",
        through: Through::Liar(Lie::Mangles),
        said: &[r"cato: slots: A \(untested, 3 tries left\), B \(good\)", UNPROVEN],
    },
];

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for (n, fault) in FAULTS.iter().enumerate() {
            let is_long = !matches!((arch, n), (Arch::Arm64, 0) | (Arch::X86_64, 2));
            let name = format!("state/{arch}/{}", fault.name);
            all.push(Scenario::new(name, move |context| play(context, arch, fault)).long_if(is_long));
        }
        for (name, stick) in [
            ("comes-late", Stick::ComesLate),
            ("comes-too-late", Stick::ComesTooLate),
            ("missing", Stick::Missing),
            ("unplugged", Stick::Goes),
        ] {
            let name = format!("state/{arch}/{name}");
            all.push(Scenario::new(name, move |context| on_a_stick(context, arch, stick)).long_if(true));
        }
        let name = format!("quiesce/{arch}/hangs");
        all.push(Scenario::new(name, move |context| unbinding_hangs(context, arch)).long_if(true));
        let some = Scenario::new(format!("power-cut/{arch}/state-replay"), move |context| {
            replay(context, arch, 1)
        });
        all.push(some.long_if(arch == Arch::X86_64));
        let more = Scenario::new(format!("power-cut/{arch}/state-replay-every-cut"), move |context| {
            replay(context, arch, usize::MAX)
        });
        all.push(more.long_if(true).limit(Duration::from_mins(30)));
    }
    all
}

/// What becomes of a USB stick that has the state.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stick {
    /// Plugged in while Cato looks for it.
    ComesLate,
    /// Plugged in when that was given up, and the first entry's disk is waited for.
    ComesTooLate,
    /// Never.
    Missing,
    /// Pulled out when the state has been read.
    Goes,
}

fn on_a_stick(context: &Context, arch: Arch, stick: Stick) -> Result<()> {
    let plan = Plan {
        good: Some(&["A", "B"]),
        updated: Some("A"),
        is_there: [stick != Stick::ComesTooLate, true],
        state_disk: Some(&[
            "-blockdev",
            "driver=file,node-name=state,filename=STATE",
            "-device",
            "qemu-xhci,id=usb",
        ]),
        ..Plan::default()
    };
    let ready = context.prepare(&plan.chain(context, arch)?)?;
    let (mut vm, mut qmp) = context.start_with_monitor(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: ")?;
    let mut plug = || {
        let stick = json!({ "driver": "usb-storage", "id": "stick", "bus": "usb.0", "drive": "state" });
        qmp.execute("device_add", &stick)
    };
    let known = r"cato: slots: A \(untested, 3 tries left\), B \(good\)";
    match stick {
        Stick::ComesLate => {
            each(&vm, &["cato: start: cato"])?;
            thread::sleep(Duration::from_secs(3));
            plug()?;
            each(&vm, &[known, r#"cato: select: entry "a""#])?;
        }
        Stick::ComesTooLate => {
            each(&vm, &["cato: slots: warning: .*not found.*; nothing is counted"])?;
            plug()?;
            each(
                &vm,
                &[
                    r#"cato: entry: entry "a": source PARTLABEL=boot-a: not found"#,
                    r#"cato: entry: entry "b": the state is there now; choosing again"#,
                    r#"cato: select: entry "b""#,
                    "cato: .*: command line: added .*cato.slot=B",
                ],
            )?;
        }
        Stick::Missing => each(
            &vm,
            &[
                "cato: slots: warning: .*not found.*; nothing is counted, and the slots are tried in the order of boot.toml",
                r#"cato: select: entry "a""#,
            ],
        )?,
        Stick::Goes => {
            plug()?;
            each(&vm, &[known])?;
            qmp.execute("device_del", &json!({ "id": "stick" }))?;
            each(
                &vm,
                &[
                    r#"cato: entry: entry "a": state: sda1: the attempt can't be written down: .*; only a slot that is good is booted without that; trying "b""#,
                ],
            )?;
        }
    }
    context.reports(&ready, &mut vm).map(drop)
}

/// Starts the machine of [`Fault`] with that one, and more in `boot.toml`.
fn start(
    context: &Context,
    arch: Arch,
    fault: &'static Fault,
    config: Option<&'static str>,
) -> Result<(Ready, Vm, Option<Nbd>)> {
    let usual = Plan::default();
    let plan = Plan {
        good: Some(&["A", "B"]),
        order: &["a", "b", "rescue"],
        updated: Some("A"),
        config: config.unwrap_or(usual.config),
        state_disk: Some(&["-blockdev", "driver=file,node-name=file,filename=STATE"]),
        ..usual
    };
    let mut chain = plan.chain(context, arch)?;
    let firmware: &[&str] = match arch {
        // SeaBIOS reads every disk.
        Arch::X86_64 => &["-bios", "/usr/share/qemu/qboot.rom"],
        Arch::Arm64 => &[],
    };
    // Or QEMU stops the machine when there is no space.
    let device = [
        "-device",
        "virtio-blk-pci,drive=state,addr=0x1e,werror=report,rerror=report",
    ];
    let extra = &mut chain.machine.extra;
    let liar = match fault.through {
        Through::Qemu(words) => {
            extra.extend(words.iter().map(|word| (*word).to_owned()));
            None
        }
        Through::Liar(lie) => {
            let liar = Nbd::start(&context.folder.join("state-disk.img"), lie)?;
            let path = liar.socket();
            let through = format!(
                "driver=nbd,node-name=state,server.type=unix,server.path={}",
                path.display()
            );
            extra.extend(["-blockdev".to_owned(), through]);
            Some(liar)
        }
    };
    extra.extend(device.iter().chain(firmware).map(|word| (*word).to_owned()));
    let ready = context.prepare(&chain)?;
    let vm = context.start(&ready.machine)?;
    Ok((ready, vm, liar))
}

/// What takes a device from its driver never comes back: that is said, and the jump is tried. The kernel waits for the driver then.
fn unbinding_hangs(context: &Context, arch: Arch) -> Result<()> {
    let fault = FAULTS
        .iter()
        .find(|fault| fault.name == "never-answers")
        .context("no such fault")?;
    let config = "[quiesce]\nunbind = [\"driver:virtio_blk\"]\n";
    let (_, vm, _liar) = start(context, arch, fault, Some(config))?;
    each(
        &vm,
        &[
            r"cato: hand-off: warning: unbind driver:virtio_blk: virtio[0-9]: not unbound within [0-9]+ s; going on",
            r"cato: hand-off: reboot\(KEXEC\)",
            r"cato: last-resort: .*reboot\(KEXEC\) did not jump within 10 s; resetting the machine",
        ],
    )?;
    vm.stop();
    Ok(())
}

fn play(context: &Context, arch: Arch, fault: &'static Fault) -> Result<()> {
    let (ready, mut vm, _liar) = start(context, arch, fault, None)?;
    each(&vm, fault.said)?;
    if matches!(fault.through, Through::Liar(Lie::AnswersOnce(_))) {
        // As the disk is reset, QEMU waits for the answer, and stands still.
        vm.stop();
        return Ok(());
    }
    context.reports(&ready, &mut vm)?;
    // What has never been marked good was booted only where its attempt is written down, or nothing is known of any slot.
    let lines = vm.lines();
    let has = |text: &str| lines.iter().any(|line| line.text.contains(text));
    let chosen = lines.iter().rev().find(|line| line.text.contains("select: entry"));
    let is_a = chosen.is_some_and(|line| line.text.contains(r#"entry "a""#));
    let can_write = matches!(fault.name, "first-copy-unreadable" | "slow");
    ensure!(
        !is_a || can_write || has("nothing is counted"),
        vm.failure("an unproven slot was booted, and nothing of it is written down")
    );
    ensure!(
        !can_write || is_a,
        vm.failure("the first choice could be written down, and was not booted")
    );
    Ok(())
}

/// `BLK_LOG` of QEMU's blklogwrites, in the format of dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst).
struct Log {
    /// Offset in bytes, whether everything before it is on the medium, and the bytes.
    writes: Vec<(u64, bool, Vec<u8>)>,
}

impl Log {
    fn read(path: &Path) -> Result<Self> {
        const SECTOR: usize = 512;
        const FLUSH: u64 = 1;
        let log = fs::read(path)?;
        let number = |at: usize| {
            let bytes = log.get(at..).and_then(|rest| rest.first_chunk::<8>());
            bytes
                .map(|bytes| u64::from_le_bytes(*bytes))
                .context("the log ends early")
        };
        ensure!(number(0)? == 0x006a_7366_7773_6872, "not a log of writes");
        let mut writes = Vec::new();
        let mut at = SECTOR;
        for _ in 0..number(16)? {
            let (sector, count, flags) = (number(at)?, usize::try_from(number(at + 8)?)?, number(at + 16)?);
            let data = log
                .get(at + SECTOR..at + SECTOR + count * SECTOR)
                .context("the log ends early")?;
            writes.push((sector * 512, flags & FLUSH != 0, data.to_vec()));
            at += SECTOR + count * SECTOR;
        }
        Ok(Self { writes })
    }
}

/// A disk as it is after a power cut: `log` up to some write, and any of those behind the last flush missing.
fn cuts(image: &[u8], log: &Log) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let mut safe = image.to_vec();
    let mut open: Vec<&(u64, bool, Vec<u8>)> = Vec::new();
    let apply = |image: &mut Vec<u8>, (at, _, data): &(u64, bool, Vec<u8>)| {
        let at = usize::try_from(*at).unwrap_or(usize::MAX);
        if let Some(place) = image.get_mut(at..at + data.len()) {
            place.copy_from_slice(data);
        }
    };
    for write in &log.writes {
        if write.1 {
            open.drain(..).for_each(|write| apply(&mut safe, write));
        }
        if !write.2.is_empty() {
            open.push(write);
            // Six at most: more are never on their way at once, as each is flushed.
            for subset in 0..1_u32 << open.len().min(6) {
                let mut cut = safe.clone();
                let there = open.iter().enumerate().filter(|(n, _)| subset & (1 << n) != 0);
                there.for_each(|(_, write)| apply(&mut cut, write));
                // The last one may be torn as well, behind its first sector: that has all but the events.
                let mut torn = cut.clone();
                let first = write.2.iter().take(512).copied().collect();
                apply(&mut torn, &(write.0, false, first));
                all.extend([cut, torn]);
            }
        }
    }
    all.dedup();
    all
}

/// A main system changes everything that there is to change, under a real kernel and driver. The power is cut at every write of
/// it: the state is always one that was there, never older than the one before, and a machine boots with it.
fn replay(context: &Context, arch: Arch, boots: usize) -> Result<()> {
    let plan = Plan {
        words: [
            "report.run=mark-good;mark-bad,B;set-next,B;set-next,A;set-next,B,--once",
            "",
        ],
        has_cato: true,
        state_disk: Some(&["-blockdev", "driver=file,node-name=file,filename=STATE"]),
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    let log = context.folder.join("writes.log");
    File::create(&log)?;
    let logging = format!(
        "driver=blklogwrites,node-name=state,file=file,log.driver=file,log.filename={},log-sector-size=512",
        log.display()
    );
    let attached = ["-device", "virtio-blk-pci,drive=state,addr=0x1e"];
    chain.machine.extra.extend(["-blockdev".to_owned(), logging]);
    chain.machine.extra.extend(attached.map(str::to_owned));
    let ready = context.prepare(&chain)?;
    let disk = context.folder.join("state-disk.img");
    let before = fs::read(&disk)?;
    let mut vm = context.start(&ready.machine)?;
    context.reports(&ready, &mut vm)?;
    vm.wait_end(Duration::from_mins(1))?;

    let log = Log::read(&log)?;
    let all = cuts(&before, &log);
    let mut states: Vec<String> = Vec::new();
    let image = context.folder.join("cut.img");
    for cut in &all {
        let state = state_of(cut, &context.folder)?;
        match states.iter().position(|known| *known == state) {
            Some(at) => ensure!(at + 2 >= states.len(), "a cut brought back an older state: {state}"),
            None => states.push(state),
        }
    }
    ensure!(states.len() >= 7, "{} states for seven changes", states.len());
    println!(
        "power-cut/{arch}/state-replay: {} writes, {} cuts, {} states, none lost",
        log.writes.iter().filter(|write| !write.2.is_empty()).count(),
        all.len(),
        states.len()
    );
    let mut machine = ready.machine.clone();
    machine.extra = [
        "-drive".to_owned(),
        format!("if=none,id=state,format=raw,file={}", image.display()),
        attached[0].to_owned(),
        attached[1].to_owned(),
    ]
    .into();
    let boots = boots.min(all.len());
    for n in 1..=boots {
        let cut = all.get(n * all.len() / boots - 1).context("no cut")?;
        fs::write(&image, cut)?;
        let entry = next(&state_of(cut, &context.folder)?)?;
        let mut vm = context.start(&machine)?;
        vm.wait_for(&format!(r#"cato\[.*select: entry "{entry}""#), SOON)?;
        context.reports(&ready, &mut vm)?;
    }
    Ok(())
}

/// The entry that a machine with this state boots next, as `cato state show --json` has it.
fn next(state: &str) -> Result<String> {
    let state: serde_json::Value = serde_json::from_str(state)?;
    let slot = ["once", "primary"].iter().find_map(|key| state.get(key)?.as_str());
    // A new one has no slots yet, and takes them in their order.
    Ok(slot.unwrap_or("A").to_lowercase())
}
