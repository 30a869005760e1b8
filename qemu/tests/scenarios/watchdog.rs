//! What happens when a kernel, or PID 1 itself, hangs: the hardware's watchdog.

use std::time::Duration;

use anyhow::{Context as _, Result};
use config::Arch;
use qemu::scenario::{Context, Scenario};
use qemu::service;

use crate::slots::{Plan, SOON, each};

/// On PCI, and so on both; its driver stops it when it is loaded (Linux 7.2 still does).
const I6300ESB: [&str; 4] = ["-device", "i6300esb", "-action", "watchdog=reset"];

/// The watchdog's time is the host's, so it is longer than a boot on a busy one.
const ONE_TRY: &str = "[slots]\ntries = 1\n[watchdog]\ntimeout = 45\n";

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let mut add = |name: &str, long: bool, body: fn(&Context, Arch) -> Result<()>| {
            let scenario = Scenario::new(name.replace("ARCH", &arch.to_string()), move |context| {
                body(context, arch)
            });
            all.push(scenario.limit(Duration::from_mins(6)).long_if(long));
        };
        add("watchdog/ARCH/main-hangs", arch == Arch::X86_64, main_hangs);
        add("watchdog/ARCH/all-hang", true, all_hang);
        add("watchdog/ARCH/kernel-hangs-at-its-entry", true, kernel_hangs);
        add("watchdog/ARCH/pid1-hangs", true, pid1_hangs);
        add("watchdog/ARCH/test-fails", true, test_fails);
        add("rollback/ARCH/good-that-breaks", true, good_that_breaks);
        if arch == Arch::X86_64 {
            // On arm64 only `sbsa-ref` has a watchdog whose driver says that it runs, and Debian has no firmware for it.
            add("watchdog/ARCH/never-opened", true, never_opened);
            add("watchdog/ARCH/test-passes", true, test_passes);
        }
    }
    all
}

fn with(machine: &mut qemu::machine::Machine, words: &[&str]) {
    machine.extra.extend(words.iter().map(|word| (*word).to_owned()));
}

fn main_hangs(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.hang", ""],
        config: ONE_TRY,
        ..Plan::default()
    };
    b_takes_over(context, arch, &plan, "report: done")
}

/// Each slot has its tries, and then the entry without one is left.
fn all_hang(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.hang", "report.hang"],
        config: "[slots]\ntries = 2\n[watchdog]\ntimeout = 45\n",
        order: &["a", "b", "rescue"],
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    with(&mut chain.machine, &I6300ESB);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    for (slot, entry) in [("A", "a"), ("B", "b")] {
        for _ in 0..2 {
            each(&vm, &[&format!(r#"cato: select: entry "{entry}""#), "report: done"])?;
            let counted = format!(
                r"cato\[ *[0-9.]+\] slots: slot {slot}: booted, but not marked good: the watchdog reset the machine"
            );
            vm.wait_for(&counted, SOON * 2)?;
        }
        each(
            &vm,
            &[&format!("cato: slots: slot {slot} is given up: its tries are used up")],
        )?;
    }
    each(&vm, &[r#"cato: select: entry "rescue""#])?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Hangs at its first instruction: without interrupts, console or a driver.
fn kernel_hangs(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        change_kernel: Some(stops_at_its_entry),
        config: ONE_TRY,
        ..Plan::default()
    };
    b_takes_over(context, arch, &plan, r"cato: hand-off: reboot\(KEXEC\)")
}

/// A comes as far as `last` and hangs.
fn b_takes_over(context: &Context, arch: Arch, plan: &Plan, last: &str) -> Result<()> {
    let mut chain = plan.chain(context, arch)?;
    with(&mut chain.machine, &I6300ESB);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r"cato: watchdog: watchdog0 \(i6300ESB timer\) is armed: 60 s",
            r"command line: added .*watchdog\.open_timeout=45",
            last,
        ],
    )?;
    vm.wait_for(
        r"cato\[ *[0-9.]+\] slots: slot A: booted, but not marked good: the watchdog reset the machine",
        SOON * 2,
    )?;
    each(&vm, &[r#"cato: select: entry "b""#])?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Where Cato enters it (Documentation/arch/arm64/booting.rst, Documentation/arch/x86/boot.rst), nothing happens any more.
fn stops_at_its_entry(arch: Arch, mut kernel: Vec<u8>) -> Result<Vec<u8>> {
    let (at, code): (usize, &[u8]) = match arch {
        // The branch behind the PE header's magic: `b .`
        Arch::Arm64 => (4, &[0, 0, 0, 0x14]),
        // The 64-bit entry is 0x200 bytes behind the setup's sectors: `cli; hlt; jmp` to the `hlt`.
        Arch::X86_64 => {
            let sectors = kernel.get(0x1f1).copied().context("no bzImage")?;
            ((usize::from(sectors) + 1) * 512 + 0x200, &[0xfa, 0xf4, 0xeb, 0xfd])
        }
    };
    let place = kernel.get_mut(at..at + code.len()).context("a short kernel")?;
    place.copy_from_slice(code);
    Ok(kernel)
}

/// One that was good and hangs now: three resets by the watchdog are enough, whatever its tries.
fn good_that_breaks(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.hang", ""],
        good: Some(&["A", "B"]),
        config: "[watchdog]\ntimeout = 45\n",
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    with(&mut chain.machine, &I6300ESB);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r"cato: slots: A \(good\)",
            "report: done",
            r"cato: slots: A \(good; booted, but not marked good: the watchdog reset the machine\)",
            "report: done",
            r"cato: slots: A \(good; ",
            "report: done",
            "cato: slots: slot A is given up: it was good, but has failed too often since",
            r#"cato: select: entry "b""#,
        ],
    )?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Nothing is fed by a PID 1 that stands still.
fn pid1_hangs(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = Plan::default().chain(context, arch)?;
    chain.service.cmdline = service::command_line(arch, &["cato.fault=pid1:hang", "initcall_debug"]);
    chain.machine.no_reboot = true;
    with(&mut chain.machine, &I6300ESB);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(&vm, &["cato: start: cato"])?;
    vm.wait_end(Duration::from_mins(2))?;
    Ok(())
}

/// The main kernel has the driver, which feeds the watchdog until the time for opening it is over.
fn never_opened(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.hang", ""],
        config: ONE_TRY,
        has_cato: true,
        modules: &["lpc_ich", "iTCO_wdt"],
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    // QEMU's chip is strapped not to reset, as some boards are; noreboot=off is one that does.
    with(&mut chain.machine, &["-global", "ICH9-LPC.noreboot=off"]);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            r"cato: watchdog: watchdog0 \(iTCO_wdt\) is armed: 60 s",
            r"command line: added .*watchdog\.open_timeout=45",
            "report: watchdog=watchdog0 iTCO_wdt",
            "report: done",
        ],
    )?;
    vm.wait_for(
        r"cato\[ *[0-9.]+\] slots: slot A: booted, but not marked good",
        SOON * 2,
    )?;
    each(&vm, &[r#"cato: select: entry "b""#])?;
    context.reports(&ready, &mut vm).map(drop)
}

/// `cato wdtest`: a driver that stops the watchdog when it is loaded is found out.
fn test_fails(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=wdtest", ""],
        config: "[watchdog]\ntimeout = 15\n",
        has_cato: true,
        modules: &["i6300esb"],
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    chain.service.cmdline.push_str(" cato.wdtest");
    with(&mut chain.machine, &I6300ESB);
    let ready = context.prepare(&chain)?;
    let vm = context.start(&ready.machine)?;
    let failed =
        r"report: run=wdtest: exit 1: error: failed: this system is still up after .* s: watchdog0 \(i6300ESB timer\)";
    vm.wait_for(failed, SOON)?;
    Ok(())
}

/// One that knows that its watchdog runs, and nobody who opens it.
fn test_passes(context: &Context, arch: Arch) -> Result<()> {
    let plan = Plan {
        words: ["report.run=wdtest report.hang", ""],
        config: "[watchdog]\ntimeout = 10\n",
        has_cato: true,
        modules: &["lpc_ich", "iTCO_wdt"],
        ..Plan::default()
    };
    let mut chain = plan.chain(context, arch)?;
    chain.service.cmdline.push_str(" cato.wdtest");
    with(&mut chain.machine, &["-global", "ICH9-LPC.noreboot=off"]);
    let ready = context.prepare(&chain)?;
    let vm = context.start(&ready.machine)?;
    each(
        &vm,
        &[
            "cato: watchdog: wdtest: the main system is to be reset by the watchdog",
            r"command line: added .*cato\.wdtest=10 .*watchdog\.open_timeout=10",
            // Its driver can't tell.
            "cato: watchdog: wdtest: the main system is to be reset by the watchdog",
        ],
    )
}
