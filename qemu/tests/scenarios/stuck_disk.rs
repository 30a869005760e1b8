//! A disk that answers nothing (design T6): it holds its driver's probe, and with it `reboot(2)` and kexec, for ever.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::disk::{Disk, Filesystem::Ext4, Partition};
use qemu::chain::{Chain, Ready};
use qemu::machine::{Bus, Firmware::Direct};
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::vm::Vm;

use crate::menu::stamp;

const SOON: Duration = Duration::from_mins(1);

/// Answers one byte a second. It is on the last slot of its bus, where its turn among virtio disks comes last.
pub(crate) const STUCK: &[&str] = &[
    "-object",
    "throttle-group,id=stuck,x-bps-total=1",
    "-blockdev",
    "driver=null-co,node-name=nothing,size=1048576,read-zeroes=on",
    "-blockdev",
    "driver=throttle,throttle-group=stuck,node-name=slow,file=nothing",
    "-device",
    "virtio-blk-pci,drive=slow,addr=0x1e",
];

/// For a main kernel with the driver built in, which resets a disk: QEMU then answers all that was asked of it before the jump, into
/// memory that is another's now. (A real device's DMA ends with its bus mastering, which the service kernel takes from it.)
const LEFT_ALONE: &str = "initcall_blacklist=virtio_pci_driver_init";

pub(crate) fn scenarios() -> Vec<Scenario> {
    Arch::ALL
        .into_iter()
        .flat_map(|arch| {
            [
                behind(arch).long_if(arch == Arm64),
                before(arch).long_if(arch == X86_64),
                while_reading(arch).long_if(arch == X86_64),
                slow(arch).long_if(true),
            ]
        })
        .collect()
}

fn boot(context: &Context, arch: Arch, good: Bus) -> Result<Vm> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.bus = good;
    attach(&mut chain, STUCK);
    let ready = context.prepare(&chain)?;
    context.start(&ready.machine)
}

pub(crate) fn attach(chain: &mut Chain, disk: &[impl ToString]) {
    chain.machine.firmware = Direct;
    // SeaBIOS reads every disk, and would wait for this one before the kernel does.
    let firmware: &[&str] = if chain.arch() == X86_64 {
        &["-bios", "/usr/share/qemu/qboot.rom"]
    } else {
        &[]
    };
    let firmware = firmware.iter().map(ToString::to_string);
    chain.machine.extra = disk.iter().map(ToString::to_string).chain(firmware).collect();
}

/// Cato stops at the disk it wants, so the dead one behind it is never touched.
fn behind(arch: Arch) -> Scenario {
    Scenario::new(format!("stuck-disk/{arch}/behind-the-good-one"), move |context| {
        boot(context, arch, Bus::Virtio)?
            .wait_for("report: done", Duration::from_mins(2))
            .map(drop)
    })
}

/// The dead one comes first, since USB takes longer to show its disks: the good one is found all the same, but the service kernel can't leave with a probe that
/// never ends, so the machine is reset, and says why.
fn before(arch: Arch) -> Scenario {
    Scenario::new(format!("stuck-disk/{arch}/before-the-good-one"), move |context| {
        let mut vm = boot(context, arch, Bus::Usb)?;
        vm.wait_for(
            r"cato\[.*probe: virtio .*no answer within 3 s; going on without it",
            SOON,
        )?;
        vm.wait_for(r"cato\[.*probe: sd.*PARTLABEL=boot-a", SOON)?;
        let blamed = "warning: virtio virtio[0-9]+ has not finished its probe";
        vm.wait_for(&format!(r"cato\[.*probe: {blamed}"), SOON)?;
        vm.wait_for(&format!(r"cato\[.*hand-off: {blamed}"), SOON)?;
        vm.wait_for(r"cato\[.*reboot\(KEXEC\) did not jump within 10 s; resetting", SOON)?;
        vm.wait_end(SOON)?;
        Ok(())
    })
}

/// One that dies in the middle of a kernel takes its entry with it, and what it left mounted can't be unmounted: the next entry,
/// on another disk, boots all the same.
fn while_reading(arch: Arch) -> Scenario {
    Scenario::new(format!("stuck-disk/{arch}/while-reading"), move |context| {
        // Answers for its first 6 MiB, then one byte a second.
        let (ready, mut vm) = throttled(context, arch, "x-bps-total=1,x-bps-total-max=6291456")?;
        vm.wait_for(
            r#"cato\[.*entry "a": step load did not end within 15 s; trying "b""#,
            SOON,
        )?;
        context.reports(&ready, &mut vm).map(drop)
    })
}

/// One that answers twice a second is waited for as long as any that does not answer, and no longer.
fn slow(arch: Arch) -> Scenario {
    Scenario::new(format!("stuck-disk/{arch}/slow"), move |context| {
        let (ready, mut vm) = throttled(context, arch, "x-iops-total=2")?;
        let asked = stamp(&vm.wait_for(r#"cato\[.*select: entry "a""#, SOON)?.text)?;
        let failed = vm.wait_for(
            r#"cato\[.*entry "a": source PARTLABEL=boot-a: not found within (29|30).[0-9] s; .*; trying "b""#,
            SOON,
        )?;
        let took = stamp(&failed.text)? - asked;
        ensure!((29.0..32.0).contains(&took), "the search took {took:.1} s");
        let lines = vm.lines();
        let said: Vec<&str> = (lines.iter().take_while(|line| line.ms < failed.ms))
            .filter_map(|line| line.text.split_once("] probe: ")?.1.split_once(": no answer within"))
            .map(|(who, _)| who)
            .collect();
        let each: BTreeSet<&str> = said.iter().copied().collect();
        ensure!(
            said.len() == each.len() && each.contains("vdb1"),
            "it is said once of each: {said:?}"
        );
        context.reports(&ready, &mut vm).map(drop)
    })
}

/// A machine whose first entry is on a disk that is throttled, and whose second is not.
fn throttled(context: &Context, arch: Arch, how: &str) -> Result<(Ready, Vm)> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.cmdline.extend([" ", LEFT_ALONE]);
    let files = chain.main_files(chain.make_initrd(&context.folder)?.as_deref());
    chain.partitions = Some(vec![Partition::new("boot-b", Ext4, files.clone())]);
    let image = context.folder.join("throttled.img");
    Disk {
        partitions: vec![Partition::new("boot-a", Ext4, files)],
        ..Disk::default()
    }
    .write(&image)?;
    let file = image.display().to_string().replace(',', ",,");
    let disk = [
        "-object",
        &format!("throttle-group,id=throttled,{how}"),
        "-blockdev",
        &format!("driver=file,node-name=whole,filename={file}"),
        "-blockdev",
        "driver=throttle,throttle-group=throttled,node-name=slow,file=whole",
        "-device",
        "virtio-blk-pci,drive=slow,addr=0x1e",
    ];
    attach(&mut chain, &disk);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[.*prompt: no entry left")?;
    Ok((ready, vm))
}
