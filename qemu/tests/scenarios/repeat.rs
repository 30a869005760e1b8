//! Kexec after kexec: the main system is the service Linux again. Nothing may be lost, grow or slow down on the way.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch;
use mkinitramfs::disk::{Filesystem, Partition};
use qemu::console::Line;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::Bookworm;
use qemu::timeline::Timeline;
use qemu::verdict::ArenaUsed;

use crate::disks::one_entry;

/// For one hop; an idle host needs a twentieth of it.
const HOP: Duration = Duration::from_mins(2);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for (hops, long) in [(3, false), (50, true)] {
            let scenario = Scenario::new(format!("repeat/{arch}/{hops}-kexecs"), move |context| {
                again_and_again(context, arch, hops)
            });
            let scenario = scenario
                .long_if(long || arch == Arch::X86_64)
                .limit(Duration::from_mins(2 + hops));
            if long {
                all.push(scenario.in_segments());
            }
            all.push(scenario);
        }
    }
    all
}

fn again_and_again(context: &Context, arch: Arch, hops: u64) -> Result<()> {
    let mut chain = context.chain(arch, Bookworm, Bookworm)?;
    chain.machine.firmware = Direct;
    chain.cmdline = chain.service.cmdline.clone();
    chain.config = Some(one_entry(&chain));
    // It is there by the time the disk is made.
    let initramfs = context.folder.join("initramfs");
    let files = chain.main_files(Some(&initramfs));
    chain.partitions = Some(vec![Partition::new("boot-a", Filesystem::Ext4, files)]);
    let ready = context.prepare(&chain)?;

    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid(r"cato\[.*\] (entry|prompt|last-resort|panic): ")?;
    // It would make each command line longer than the one before.
    vm.forbid(r"cato\[.*command line: added ")?;
    for hop in 0..hops {
        let jump = vm
            .wait_for(r"cato\[.*\] start: cato ", HOP)
            .and_then(|_| vm.wait_for(r"cato\[.*\] hand-off: reboot\(KEXEC\)", HOP));
        jump.with_context(|| format!("after {hop} of {hops} kexecs"))?;
    }
    vm.wait_for(r"cato\[.*\] start: cato ", HOP)
        .with_context(|| format!("in the last of {hops} kexecs"))?;
    let lines = vm.stop();

    let dead: Vec<u64> = (Timeline::all(&lines).iter())
        .filter_map(|hop| hop.main?.checked_sub(hop.bye.or(hop.jump)?))
        .collect();
    ensure!(
        dead.len() >= usize::try_from(hops)?,
        "{} of {hops} hops on the console",
        dead.len()
    );
    println!(
        "       {hops} kexecs, dead time: slowest {} ms, fastest {} ms",
        dead.iter().max().unwrap_or(&0),
        dead.iter().min().unwrap_or(&0)
    );
    nothing_is_lost(&lines, hops)?;
    let used: Vec<ArenaUsed> = lines
        .iter()
        .filter_map(|l| ArenaUsed::said(std::slice::from_ref(l)))
        .collect();
    ensure!(
        used.len() >= usize::try_from(hops)? && used.iter().all(|used| *used == ready.wanted.arena),
        "arenas: wanted {:?} each time, Cato used {used:?}",
        ready.wanted.arena
    );
    Ok(())
}

/// What one hop takes away from RAM, or leaves reserved, is lost to all kernels that follow.
fn nothing_is_lost(lines: &[Line], hops: u64) -> Result<()> {
    let usable: Vec<u64> = lines.iter().filter_map(|line| usable_kib(&line.text)).collect();
    ensure!(
        usable.len() > usize::try_from(hops)?,
        "of the kernels of {hops} hops only {} say how much memory they have",
        usable.len()
    );
    // The first kernel was started by something else.
    let (Some(second), Some(least)) = (usable.get(1), usable.iter().skip(1).min()) else {
        anyhow::bail!("no hop at all");
    };
    // A few pages come and go with the length of tables; the smallest part of a payload is more.
    ensure!(
        least + 64 >= *second,
        "memory is lost: KiB each kernel can use: {usable:?}"
    );
    Ok(())
}

/// KiB of RAM that are not reserved, by the line `Memory: 258776K/2096616K available (..., 92272K reserved, ...)`. Not the
/// first number, the free pages: with deferred struct pages (x86_64) only those near the kernel are free by then, and
/// KASLR chooses where it is.
fn usable_kib(line: &str) -> Option<u64> {
    let (_, counts) = line.split_once("Memory: ")?;
    let (_, counts) = counts.split_once('/')?;
    let (there, counts) = counts.split_once("K available (")?;
    let reserved = counts.split_once("K reserved")?.0.rsplit(' ').next()?;
    there.parse::<u64>().ok()?.checked_sub(reserved.parse().ok()?)
}
