//! A whole Debian as the main system: its kernel, its initramfs, its root file system, up to someone who logs in.

use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch;
use mkinitramfs::disk::{Files, Filesystem, Partition};
use qemu::board::board;
use qemu::chain::Chain;
use qemu::debian::{self, PARTLABEL, PASSWORD};
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::Bookworm;
use qemu::vm::Vm;
use stage::text::quoted;

pub(crate) fn scenarios() -> Vec<Scenario> {
    // Installing comes first, once: an emulated arm64 takes twice the time of an emulated x86_64.
    let scenario = |arch: Arch| {
        Scenario::new(format!("debian/{arch}/login"), move |context| login(context, arch))
            .limit(Duration::from_mins(5))
            .long_if(true)
    };
    Arch::ALL.into_iter().map(scenario).collect()
}

fn login(context: &Context, arch: Arch) -> Result<()> {
    let system = debian::installed(arch)?;
    let mut chain = context.chain(arch, Bookworm, debian::SUITE)?;
    chain.cmdline = format!("{} root=PARTLABEL={PARTLABEL} ro", board(arch).console);
    chain.config = Some(config(&chain));
    chain.partitions = Some(vec![Partition {
        image: Some(system.image),
        ..Partition::new(PARTLABEL, Filesystem::Ext4, Files::new())
    }]);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Kernel panic - not syncing")?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    let long = Duration::from_mins(5);
    // 6.12.107+deb13-arm64, in a regular expression.
    let release = system.release.replace('+', r"\+");
    vm.wait_for(r"cato\[.*hand-off: reboot", long)?;
    vm.wait_for(&format!("Linux version {release} "), long)?;
    log_in(&mut vm, long)?;
    vm.send("echo \"main: $(uname -r) $(cat /proc/1/comm) $(findmnt -no SOURCE,FSTYPE /) $(cat /proc/cmdline)\"\n")?;
    let says = format!("main: {release} systemd /dev/vda[0-9]+ +ext4 .*{}", chain.cmdline);
    vm.wait_for(&says, long)?;
    let problem = ready.wanted.arena_problem(&vm.lines());
    ensure!(problem.is_none(), vm.failure(&problem.unwrap_or_default()));
    Ok(())
}

/// From the first words of its init to a shell.
pub(crate) fn log_in(vm: &mut Vm, long: Duration) -> Result<()> {
    vm.wait_for("Welcome to .*Debian GNU/Linux", long)?;
    vm.wait_for("login:", long)?;
    vm.send("root\n")?;
    vm.wait_for("Password:", long)?;
    vm.send(&format!("{PASSWORD}\n"))?;
    vm.wait_for("root@debian:.*#", long)?;
    Ok(())
}

/// Kernel and initrd where Debian keeps them: the links in the root of the root file system.
fn config(chain: &Chain) -> String {
    format!(
        "version = 1\norder = [\"debian\"]\n\n[console]\ncountdown = 0\nretry = 60\n\n[entry.debian]\n\
         source = \"PARTLABEL={PARTLABEL}\"\nkernel = \"vmlinuz\"\ninitrd = [\"initrd.img\"]\ncmdline = {}\n",
        quoted(&chain.cmdline)
    )
}
