//! The five ways a worker fails, and a box that nobody looks after: it is never stuck.

use std::time::Duration;

use anyhow::Result;
use config::Arch::{self, Arm64, X86_64};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::service;
use qemu::setup::Suite::{Bookworm, Trixie};

const SOON: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = vec![oops_in_kexec_load()];
    for arch in Arch::ALL {
        // PID 1 is the same on both: what is seen on one only is left out every day, and stuck-disk/ has the jump.
        all.push(no_entry_left(arch).long_if(arch == Arm64));
        // What the fault is, what PID 1 says of it, and whether the machine must be reset.
        for (fault, says, resets, long) in [
            ("load:crash", "the worker died in step load", false, arch == X86_64),
            ("load:hang", "step load did not end within", false, arch == X86_64),
            ("loaded:crash", "the worker died in step loaded", false, true),
            ("kexec:crash", "the worker died in step kexec", false, true),
            ("jump:hang", r"reboot\(KEXEC\) did not jump", true, arch == X86_64),
            ("jump:crash", "the worker died in step jump", false, true),
        ] {
            all.push(worker(arch, fault, says, resets).long_if(long));
        }
        all.push(pid1_panics(arch).long_if(arch == X86_64));
        all.push(pid1_has_no_memory(arch));
    }
    all
}

fn chain(context: &Context, arch: Arch, extra: &[&str]) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    chain.service.cmdline = service::command_line(arch, extra);
    Ok(chain)
}

fn worker(arch: Arch, fault: &'static str, says: &'static str, resets: bool) -> Scenario {
    Scenario::new(format!("worker/{arch}/{}", fault.replace(':', "-")), move |context| {
        let chain = chain(context, arch, &[&format!("cato.fault={fault}")])?;
        let ready = context.prepare(&chain)?;
        let mut vm = context.start(&ready.machine)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.wait_for(&format!(r#"cato\[.*"a": .*{says}"#), SOON)?;
        if resets {
            vm.wait_end(SOON)?;
            return Ok(());
        }
        // The fault is in every worker: the next entry fails in the same way, and the prompt comes.
        vm.wait_for(&format!(r#"cato\[.*"b": .*{says}"#), SOON)?;
        vm.wait_for(r"cato\[.*prompt: no entry left", SOON)?;
        Ok(())
    })
}

/// What can't happen does: the machine is reset, and says where it was.
fn pid1_panics(arch: Arch) -> Scenario {
    Scenario::new(format!("worker/{arch}/pid1-panics"), move |context| {
        let chain = chain(context, arch, &["cato.fault=pid1:panic"])?;
        let ready = context.prepare(&chain)?;
        let mut vm = context.start(&ready.machine)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.wait_for(
            r"cato\[.*panic: panicked at .*supervisor/mod\.rs:.*; resetting the machine",
            SOON,
        )?;
        vm.wait_end(SOON)?;
        Ok(())
    })
}

/// No memory is left for it, which ends a program of Rust's at once: the kernel panics, and resets the machine.
fn pid1_has_no_memory(arch: Arch) -> Scenario {
    let scenario = Scenario::new(format!("worker/{arch}/pid1-has-no-memory"), move |context| {
        let chain = chain(context, arch, &["cato.fault=pid1:no-memory"])?;
        let ready = context.prepare(&chain)?;
        let mut vm = context.start(&ready.machine)?;
        vm.wait_for("memory allocation of [0-9]+ bytes failed", SOON)?;
        vm.wait_for("Kernel panic - not syncing: Attempted to kill init!", SOON)?;
        vm.wait_end(SOON)?;
        Ok(())
    });
    scenario.long_if(true)
}

/// Design T3: 6.12 oopses in kexec_load on a CPU with 52-bit addresses, unless told `arm64.nolva`.
fn oops_in_kexec_load() -> Scenario {
    Scenario::new("worker/arm64/oops-in-kexec-load", |context| {
        let mut chain = context.chain(Arm64, Trixie, Trixie)?;
        chain.machine.firmware = Direct;
        chain.machine.cpu = Some("max".into());
        chain.machine.machine = Some("virt,gic-version=3".into());
        chain.service.cmdline = service::command_line_without(Arm64, &["arm64.nolva"], &[]);
        let ready = context.prepare(&chain)?;
        let mut vm = context.start(&ready.machine)?;
        let line = vm.wait_for(r"cato\[.*kexec is locked.*arm64\.nolva|report: done", SOON)?;
        let has_oopsed = !line.text.contains("report: done");
        // A kernel that is mended shows no EBUSY.
        println!(
            "worker/arm64/oops-in-kexec-load: the kernel {}",
            if has_oopsed { "oopsed" } else { "is mended, and booted" }
        );
        if has_oopsed {
            vm.wait_end(SOON)?;
        }
        Ok(())
    })
}

/// Nothing boots and nobody is there: it tries again by itself.
fn no_entry_left(arch: Arch) -> Scenario {
    Scenario::new(format!("prompt/{arch}/tries-again-by-itself"), move |context| {
        let mut chain = chain(context, arch, &[])?;
        let config = chain.usual_config().replace("retry = 60", "retry = 3");
        chain.config = Some(config.replace("PARTLABEL=boot-", "PARTLABEL=no-"));
        let ready = context.prepare(&chain)?;
        let vm = context.start(&ready.machine)?;
        for _ in 0..2 {
            vm.wait_for(
                r#"cato\[.*entry "a": source PARTLABEL=no-a: not found.*trying "b""#,
                SOON,
            )?;
            vm.wait_for(
                r#"cato\[.*entry "b": source PARTLABEL=no-b: not found.*no entry left"#,
                SOON,
            )?;
            vm.wait_for(r"cato\[.*prompt: no entry left", SOON)?;
        }
        Ok(())
    })
}
