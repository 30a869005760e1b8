//! A service kernel that takes none of the packed modules: what needs one fails and says why, what needs none boots.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use config::Arch::{self, X86_64};
use mkinitramfs::Added;
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::service;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in Arch::ALL {
        let name = |what: &str| format!("modules/{arch}/{what}");
        let off = Scenario::new(name("switched-off"), move |context| {
            let mut chain = chain(context, arch)?;
            chain.service.cmdline = service::command_line(arch, &["sysctl.kernel.modules_disabled=1"]);
            boots_the_second(
                context,
                &mut chain,
                r"this kernel lets no modules in \(kernel.modules_disabled",
            )
        });
        let other = Scenario::new(name("of-another-kernel"), move |context| {
            let mut chain = chain(context, arch)?;
            chain.service.modules = context.chain(arch, Bookworm, Trixie)?.service.modules;
            let says =
                r"kernel 6\.12\S* is running, but the modules are built for 6\.1\.\S*; pack those of the running";
            boots_the_second(context, &mut chain, says)
        });
        all.push(off.long_if(true));
        all.push(other.long_if(arch == X86_64));
    }
    all
}

fn chain(context: &Context, arch: Arch) -> Result<Chain> {
    let mut chain = context.chain(arch, Trixie, Trixie)?;
    chain.machine.firmware = Direct;
    Ok(chain)
}

/// Entry `a` on the disk fails as `says`; `b`, whose files are in the initramfs, boots.
fn boots_the_second(context: &Context, chain: &mut Chain, says: &str) -> Result<()> {
    let added = |source: PathBuf, dest: &str| Added {
        source,
        dest: dest.to_owned(),
    };
    chain.service.add = vec![added(chain.kernel.clone(), "/b/kernel")];
    let initrd = chain.make_initrd(&context.folder)?;
    chain.service.add.extend(initrd.map(|file| added(file, "/b/initrd")));
    chain.config = Some(chain.usual_config().replace("PARTLABEL=boot-b", "/b"));
    let ready = context.prepare(chain)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid("Function not implemented|Operation not permitted|Invalid argument|Exec format")?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    let failed = format!(r#"cato\[.*entry "a": source PARTLABEL=boot-a: not found .*{says}.*; trying "b""#);
    vm.wait_for(&failed, Duration::from_mins(1))?;
    context.reports(&ready, &mut vm).map(drop)
}
