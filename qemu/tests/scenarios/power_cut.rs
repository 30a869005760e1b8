//! What was synced before a power cut is what boots, and the disk stays as it was (design T14).

use std::fs;

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
use mkinitramfs::cpio::Entry;
use qemu::disk::{Filesystem, Partition};
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{self, Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let cases = [
        (Arm64, Bookworm, false),
        (Arm64, Trixie, true),
        (X86_64, Bookworm, true),
        (X86_64, Trixie, false),
    ];
    let scenario = |(arch, service, long): (Arch, Suite, bool)| {
        let name = format!("power-cut/{arch}/update-in-the-journal/{}", service.series());
        Scenario::new(name, move |context| update_is_seen(context, arch, service)).long_if(long)
    };
    cases.into_iter().map(scenario).collect()
}

fn update_is_seen(context: &Context, arch: Arch, service: Suite) -> Result<()> {
    let mut chain = context.chain(arch, service, Bookworm)?;
    chain.machine.firmware = Direct;
    let initrd = chain.make_initrd(&context.folder)?;
    // A second archive whose nonce comes over the first one's: the old one on the disk, the new one in the journal.
    let old = mkinitramfs::archive([Entry::file("/nonce", "the-one-before---")])?;
    let new = mkinitramfs::archive([Entry::file("/nonce", format!("{}\n", chain.nonce))])?;
    ensure!(
        old.len() == new.len() && old.len() <= 1024,
        "the archives are not alike"
    );
    let files = chain.main_files(initrd.as_deref()).with_bytes("which", old);
    chain.partitions = Some(vec![Partition {
        unreplayed: vec![("which".into(), new)],
        ..Partition::new("boot-a", Filesystem::Ext4, files)
    }]);
    let config = chain
        .usual_config()
        .replace(r#"order = ["a", "b"]"#, r#"order = ["a"]"#);
    chain.config = Some(config.replace(r#"["initrd"]"#, r#"["initrd", "which"]"#));

    let ready = context.prepare(&chain)?;
    let disk = context.folder.join("disk.img");
    let before = fs::read(&disk)?;
    let mut vm = context.start(&ready.machine)?;
    vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
    context.reports(&ready, &mut vm)?;
    drop(vm);
    ensure!(fs::read(&disk)? == before, "the disk was written to");
    Ok(())
}
