//! A service kernel that takes no image: said before anything is read, with the way out, and once for all entries.

use std::time::Duration;

use anyhow::Result;
use config::Arch;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::service;
use qemu::setup::Suite::Trixie;
use qemu::vm::Vm;

const SOON: Duration = Duration::from_mins(1);

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for (name, word, says) in [
            ("lockdown", "lockdown=integrity", "the service kernel is locked down"),
            ("disabled", "sysctl.kernel.kexec_load_disabled=1", "kexec is disabled"),
            (
                "spent",
                "sysctl.kernel.kexec_load_limit_reboot=0",
                "kexec_load is used up",
            ),
        ] {
            all.push(refused(arch, name, word, says).long_if(name != "lockdown"));
        }
        all.push(crash_kernels_spent(arch).long_if(arch == Arch::Arm64));
    }
    all
}

fn start(context: &Context, arch: Arch, word: &str) -> Result<Vm> {
    let mut chain = context.chain(arch, Trixie, Trixie)?;
    chain.machine.firmware = Direct;
    chain.service.cmdline = service::command_line(arch, &[word]);
    let ready = context.prepare(&chain)?;
    context.start(&ready.machine)
}

fn refused(arch: Arch, name: &str, word: &'static str, says: &'static str) -> Scenario {
    Scenario::new(format!("refused/{arch}/{name}"), move |context| {
        let mut vm = start(context, arch, word)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.forbid(r"cato\[.*\] (probe|budget|reserve|load): ")?;
        vm.forbid(r#"cato\[.*select: entry "b""#)?;
        vm.wait_for(
            &format!(r#"cato\[.*entry "a": {says}.*; no other entry can do better, trying again in"#),
            SOON,
        )?;
        vm.wait_for(r"cato\[.*prompt: no entry left", SOON)?;
        Ok(())
    })
}

/// The limit for kernels that are loaded for a crash is none for this.
fn crash_kernels_spent(arch: Arch) -> Scenario {
    Scenario::new(
        format!("refused/{arch}/not-by-the-limit-of-crash-kernels"),
        move |context| {
            let vm = start(context, arch, "sysctl.kernel.kexec_load_limit_panic=0")?;
            vm.wait_for("report: done", Duration::from_mins(2)).map(drop)
        },
    )
}
