//! Updates through Debian's RAUC, in a whole Debian, with Cato as its boot loader.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch;
use mkinitramfs::disk::image::{self, MIB};
use mkinitramfs::disk::tools::{run, tool};
use mkinitramfs::disk::{Content, Files, Filesystem, Partition};
use mkinitramfs::whole_disk::state_type;
use qemu::board::board;
use qemu::chain::Chain;
use qemu::debian::{self, Debian, PARTLABEL};
use qemu::guests;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::Bookworm;
use qemu::vm::Vm;
use qemu::workspace;
use stage::text::quoted;
use uuid::Uuid;

use crate::debian::log_in;

/// For one boot, or one bundle.
const LONG: Duration = Duration::from_mins(5);

const SYSTEM_CONF: &str = "\
[system]
compatible=cato-test
bootloader=custom
data-directory=/var/lib/rauc

[handlers]
bootloader-custom-backend=/usr/bin/cato-rauc

[keyring]
path=/etc/rauc/cert.pem

[slot.boot.0]
device=/dev/disk/by-partlabel/boot-a
type=ext4
bootname=A

[slot.boot.1]
device=/dev/disk/by-partlabel/boot-b
type=ext4
bootname=B
";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut add = |name: &str, run: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(format!("rauc/{arch}/{name}"), move |context| run(context, arch));
            all.push(scenario.limit(Duration::from_mins(25)).long_if(true));
        };
        add("update", update);
        add("trial", trial);
    }
    all
}

/// A system that is up, but whose health check fails: the units that Cato ships do not mark it, and reboot it in time.
fn trial(context: &Context, arch: Arch) -> Result<()> {
    let system = debian::with_rauc(arch)?;
    let mut chain = chain(context, arch, &system)?;
    chain.config = chain.config.map(|config| config.replace("30min", "6min"));
    let ready = context.prepare(&chain)?;
    let disk = context.folder.join("disk.img");
    let unit = "etc/systemd/system/never-well.service";
    let check = "[Unit]\nBefore=boot-complete.target\n[Service]\nType=oneshot\nExecStart=/bin/false\n";
    let link = Content::Link(format!("/{unit}"));
    cato(arch)?
        .with_bytes(unit, check)
        .with(
            "etc/systemd/system/boot-complete.target.requires/never-well.service",
            link,
        )
        .put_into(&disk, image::partition(&disk, PARTLABEL)?.start)?;
    let mut vm = context.start(&ready.machine)?;
    let unwell = "Dependency failed for cato-mark-good.service";
    each(&vm, &[r#"select: entry "a""#, unwell, "reboot: Restarting system"])?;
    vm.wait_end(LONG)?;
    let vm = context.start(&ready.machine)?;
    // The main system has written that down, before it left.
    each(
        &vm,
        &[r"slots: A \(bad: its tries are used up, .*; booted, but not marked good within its trial\), B "],
    )
}

/// A good bundle is booted and marks itself good; after one whose kernel panics, and one without a kernel, the good one runs.
fn update(context: &Context, arch: Arch) -> Result<()> {
    let system = debian::with_rauc(arch)?;
    let ready = context.prepare(&chain(context, arch, &system)?)?;
    let disk = context.folder.join("disk.img");
    cato(arch)?.put_into(&disk, image::partition(&disk, PARTLABEL)?.start)?;
    let (a, b) = ("boot.0 (A)", "boot.1 (B)");
    let status = |vm: &mut Vm, booted, activated, also: &str| {
        let booted = format!("Booted from: {booted}");
        says(vm, "rauc status", &[&booted, &format!("Activated: {activated}"), also])
    };
    // Each boot is in a QEMU of its own: one that lives through a reset drops the code it has translated store by store, and
    // after a whole Debian that takes minutes.
    let machine = &ready.machine;

    let mut vm = boots(context.start(machine)?, "A")?;
    status(&mut vm, a, a, "boot status: good")?;
    install(&mut vm, "whole")?;
    status(&mut vm, a, b, "boot status: good")?;
    says(&mut vm, "cato status", &["slot B: untested, 1 try left"])?;
    reboot(vm)?;

    let mut vm = boots(context.start(machine)?, "B")?;
    status(&mut vm, b, b, "boot status: good")?;
    install(&mut vm, "panics")?;
    reboot(vm)?;

    let mut vm = context.start(machine)?;
    each(&vm, &[r#"select: entry "a""#, "Kernel panic - not syncing"])?;
    vm.wait_end(LONG)?;
    let vm = context.start(machine)?;
    each(&vm, &["slots: slot A is given up"])?;
    let mut vm = boots(vm, "B")?;
    status(&mut vm, b, b, "boot status: bad")?;
    let why = "slot A: bad: its tries are used up, and it was never marked good; booted, but not marked good: ";
    says(&mut vm, "journalctl --no-pager -u rauc", &[why])?;
    says(
        &mut vm,
        "cato status --json",
        &[r#""name":"A","condition":"bad","why":"#],
    )?;
    install(&mut vm, "zeros")?;
    reboot(vm)?;

    let vm = context.start(machine)?;
    // It costs no try, so it is still the first choice.
    each(&vm, &[r#"select: entry "a""#, r#"entry "a": .*trying "b""#])?;
    let mut vm = boots(vm, "B")?;
    status(&mut vm, b, a, "boot status: bad")?;
    let why = "slot A: untested, 1 try left; not booted: step ";
    says(&mut vm, "journalctl --no-pager -u rauc", &[why])
}

/// Waits for the slot's system, and until its own unit has marked it.
fn boots(mut vm: Vm, slot: &str) -> Result<Vm> {
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    each(&vm, &[&format!("select: entry \"{}\"", slot.to_lowercase())])?;
    // It is to be this one, and none after it.
    vm.forbid("select: entry ")?;
    log_in(&mut vm, LONG)?;
    // The kernel would write into the middle of what is read here.
    let marked = format!("dmesg -n 1; until cato status | grep '^slot {slot}: good$'; do sleep 1; done");
    says(&mut vm, &marked, &[])?;
    Ok(vm)
}

fn reboot(mut vm: Vm) -> Result<()> {
    vm.send("reboot\n")?;
    vm.wait_end(LONG).map(drop)
}

fn each(vm: &Vm, patterns: &[&str]) -> Result<()> {
    for pattern in patterns {
        vm.wait_for(pattern, LONG)?;
    }
    Ok(())
}

/// Makes a bundle of what was prepared under that name, and installs it.
fn install(vm: &mut Vm, bundle: &str) -> Result<()> {
    let make = "rauc bundle --cert=/etc/rauc/cert.pem --key=/etc/rauc/key.pem --mksquashfs-args='-noI -noD -noF -noX'";
    says(vm, "mount /dev/disk/by-partlabel/updates /srv", &[])?;
    says(vm, &format!("{make} /srv/{bundle} /srv/bundle"), &[])?;
    says(vm, "rauc install /srv/bundle", &["succeeded"])?;
    says(vm, "rm /srv/bundle", &[])
}

/// Runs a command in the shell. It must succeed, and say all of `wanted`.
fn says(vm: &mut Vm, command: &str, wanted: &[&str]) -> Result<()> {
    let before = vm.lines().len();
    // The shell echoes what is typed.
    vm.send(&format!("{command}; echo exit\"-\"$?\n"))?;
    let exit = vm.wait_for("exit-[0-9]+", LONG)?;
    let lines = vm.lines();
    let said: Vec<&str> = lines.iter().skip(before).map(|line| line.text.as_str()).collect();
    let said = said.join("\n");
    let problem = match wanted.iter().find(|wanted| !said.contains(**wanted)) {
        _ if !exit.text.contains("exit-0") => "failed".to_owned(),
        Some(wanted) => format!("does not say {wanted:?}"),
        None => return Ok(()),
    };
    Err(vm.failure(&format!("`{command}` {problem}")))
}

/// What Cato adds to the main system.
fn cato(arch: Arch) -> Result<Files> {
    let link = |to: &str| Content::Link(to.to_owned());
    let mut files = Files::new()
        .with_file("usr/bin/cato", guests::cato(arch)?)
        .with("usr/bin/cato-rauc", link("cato"))
        .with_bytes("etc/rauc/system.conf", SYSTEM_CONF);
    for (unit, target) in [
        ("cato-mark-good.service", "multi-user.target"),
        ("cato-trial.service", "sysinit.target"),
    ] {
        let place = format!("etc/systemd/system/{unit}");
        files = files
            .with_file(&place, workspace::root().join("stage/main-system").join(unit))
            .with(
                &format!("etc/systemd/system/{target}.wants/{unit}"),
                link(&format!("/{place}")),
            );
    }
    Ok(files)
}

/// Slot A is as it left the factory, slot B is empty, and what goes into the bundles waits on a partition of its own.
fn chain(context: &Context, arch: Arch, system: &Debian) -> Result<Chain> {
    let folder = &context.folder;
    let mut chain = context.chain(arch, Bookworm, debian::SUITE)?;
    chain.machine.firmware = Direct;

    let mut whole = Files::new();
    for name in ["vmlinuz", "initrd.img"] {
        let file = folder.join(name);
        let dump = format!("dump \"/boot/{name}-{}\" \"{}\"", system.release, file.display());
        run(tool("debugfs").args(["-R", &dump]).arg(&system.image))?;
        whole = whole.with_file(name, file);
    }
    let panics = (whole.clone()).with_bytes("initrd.img", mkinitramfs::cpio::archive([])?);
    let zeros = (panics.clone()).with("vmlinuz", Content::Hole(12 * MIB));
    let boot_a = Partition::new("boot-a", Filesystem::Ext4, whole.clone());
    // `rauc bundle` writes here too.
    let mut updates = Files::new().with("room", Content::Hole(100 * MIB));
    for (name, files) in [("whole", whole), ("panics", panics), ("zeros", zeros)] {
        let image = folder.join(format!("{name}.img"));
        Partition::new("boot", Filesystem::Ext4, files).format(&image, &folder.join(name), Uuid::from_u128(1))?;
        let manifest = format!(
            "[update]\ncompatible=cato-test\nversion={name}\n\n[bundle]\nformat=verity\n\n[image.boot]\nfilename=boot.ext4\n"
        );
        updates = updates
            .with_file(&format!("{name}/boot.ext4"), image)
            .with_bytes(&format!("{name}/manifest.raucm"), manifest);
    }
    let empty = folder.join("empty.img");
    image::blank(&empty, folder.join("whole.img").metadata()?.len())?;
    let state = folder.join("state.img");
    image::blank(&state, MIB)?;
    let init = ["state".into(), "init".into(), state.clone().into()];
    ensure!(
        stage::cli::run(init.to_vec()) == ExitCode::SUCCESS,
        "cato state init failed"
    );
    chain.partitions = Some(vec![
        boot_a,
        Partition::made("boot-b", empty),
        Partition {
            type_guid: Some(state_type()?),
            ..Partition::made("cato-state", state)
        },
        Partition::made(PARTLABEL, &system.image),
        Partition::new("updates", Filesystem::Ext4, updates),
    ]);

    let cmdline = format!("{} root=PARTLABEL={PARTLABEL} ro panic=1", board(arch).console);
    let entry = |name: &str| {
        format!(
            "\n[entry.{name}]\nslot = \"{}\"\nsource = \"PARTLABEL=boot-{name}\"\nkernel = \"vmlinuz\"\n\
             initrd = [\"initrd.img\"]\ncmdline = {}\n",
            name.to_uppercase(),
            quoted(&cmdline)
        )
    };
    chain.config = Some(format!(
        "version = 1\norder = [\"a\", \"b\"]\n[slots]\ntries = 1\ntrial = \"30min\"\n\
         [console]\ncountdown = 0\nretry = 60\n{}{}",
        entry("a"),
        entry("b")
    ));
    Ok(chain)
}
