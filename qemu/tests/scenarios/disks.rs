//! Every way a disk is attached and every file system on it: each driver and its modules must be found and loaded.

use config::Arch::{Arm64, X86_64};
use mkinitramfs::disk::{Filesystem, Partition};
use qemu::chain::Chain;
use qemu::machine::{Bus, Firmware};
use qemu::scenario::Scenario;
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for arch in [Arm64, X86_64] {
        for (n, bus) in Bus::ALL.into_iter().enumerate() {
            for (m, filesystem) in Filesystem::ALL.into_iter().enumerate() {
                // Each driver has a turn with either service kernel, and so has each file system.
                let is_odd = (n + m) % 2 == 1;
                let service = if is_odd == (arch == Arm64) { Bookworm } else { Trixie };
                let name = format!("disk/{arch}/{bus}/{}/{}", filesystem.name(), service.series());
                let scenario = Scenario::new(name, move |context| {
                    let mut chain = context.chain(arch, service, Bookworm)?;
                    chain.machine.firmware = Firmware::Direct;
                    chain.bus = bus;
                    chain.config = Some(one_entry(&chain));
                    let initrd = chain.make_initrd(&context.folder)?;
                    let files = chain.main_files(initrd.as_deref());
                    chain.partitions = Some(vec![Partition::new("boot-a", filesystem, files)]);
                    context.boots(&chain)?;
                    Ok(())
                });
                // Every bus and every file system, on one of the two.
                let turn = if n % 2 == 0 { Arm64 } else { X86_64 };
                all.push(scenario.long_if((n + m) % 4 != 1 || arch != turn));
            }
        }
    }
    all
}

/// The usual config without its second entry.
pub(crate) fn one_entry(chain: &Chain) -> String {
    let text = chain
        .usual_config()
        .replace(r#"order = ["a", "b"]"#, r#"order = ["a"]"#);
    text.split("\n[entry.b]").next().unwrap_or_default().to_owned()
}
