//! The service kernel made for the job: on every firmware and every bus, with nothing of it a module. The first one builds it.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::{Result, ensure};
use config::Arch;
use config::Arch::{Arm64, X86_64};
use mkinitramfs::bootable::Kind::{self, Esp, Fit, Initramfs};
use mkinitramfs::disk::tools::{run, tool};
use mkinitramfs::kernel::{self, KernelRecipe, source};
use mkinitramfs::{Compress, compress};
use qemu::chain::Chain;
use qemu::machine::Bus;
use qemu::machine::Firmware::{self, Direct, UBoot, Uefi};
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};
use qemu::setup::tuned;
use qemu::workspace;

use crate::packing::recipe;
use crate::stuck_disk::{STUCK, attach};

/// The largest that kernel and initramfs may get, compressed, bytes: 4.5 MiB.
const LARGEST: usize = 4_718_592;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (arch, firmware, kind) in [
        (Arm64, UBoot, Initramfs),
        (Arm64, UBoot, Fit),
        (Arm64, Uefi, Esp),
        (X86_64, Uefi, Esp),
    ] {
        let name = format!("service-kernel/{arch}/{firmware}/{kind}");
        all.push(Scenario::new(name, move |context| {
            boots(context, arch, firmware, kind, Bus::Virtio)
        }));
    }
    for arch in Arch::ALL {
        for bus in Bus::ALL {
            let name = format!("service-kernel/{arch}/{bus}");
            all.push(Scenario::new(name, move |context| {
                boots(context, arch, Direct, Initramfs, bus)
            }));
        }
        let name = format!("service-kernel/{arch}/stuck-disk");
        all.push(Scenario::new(name, move |context| goes_on_without(context, arch)));
        let name = format!("service-kernel/{arch}/is-small");
        all.push(Scenario::new(name, move |_| is_small(arch)));
        let name = format!("service-kernel/{arch}/reproducible");
        all.push(Scenario::new(name, move |context| is_reproducible(context, arch)));
    }
    all.into_iter().map(|scenario| scenario.long_if(true)).collect()
}

/// Has `chain` start with this kernel.
pub(crate) fn take(chain: &mut Chain) -> Result<()> {
    chain.service.image = tuned::kernel(chain.arch())?.image;
    chain.service.modules = None;
    Ok(())
}

/// The usual chain with this kernel.
fn chain(context: &Context, arch: Arch) -> Result<Chain> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    take(&mut chain)?;
    Ok(chain)
}

fn boots(context: &Context, arch: Arch, firmware: Firmware, kind: Kind, bus: Bus) -> Result<()> {
    let mut chain = chain(context, arch)?;
    chain.machine.firmware = firmware;
    chain.service.kind = kind;
    chain.bus = bus;
    context.boots(&chain)?;
    Ok(())
}

/// A disk that never answers, before the one that is wanted: all drivers are built in, and none waits for it.
fn goes_on_without(context: &Context, arch: Arch) -> Result<()> {
    let mut chain = chain(context, arch)?;
    chain.bus = Bus::Usb;
    attach(&mut chain, STUCK);
    let ready = context.prepare(&chain)?;
    let mut vm = context.start(&ready.machine)?;
    let said = r"cato\[.*vda: no answer within 2 s; going on without it";
    vm.wait_for(said, Duration::from_mins(1))?;
    context.reports(&ready, &mut vm).map(drop)
}

/// Built once more, from another folder into another one, it is the same.
fn is_reproducible(context: &Context, arch: Arch) -> Result<()> {
    let ours = workspace::root();
    let first = tuned::kernel(arch)?;
    let elsewhere = context.folder.join("elsewhere");
    fs::create_dir_all(&elsewhere)?;
    symlink(ours.join("mkinitramfs"), elsewhere.join("mkinitramfs"))?;
    let source = elsewhere.join("linux");
    // Names of their own for the same files.
    run(tool("cp").arg("-al").arg(source::debian(&ours, arch)?).arg(&source))?;
    let recipe = KernelRecipe {
        source: Some(source),
        ..KernelRecipe::usual(arch)
    };
    let second = kernel::build(&elsewhere, &recipe)?;
    for (one, other) in [(&first.image, &second.image), (&first.config, &second.config)] {
        let same = fs::read(one)? == fs::read(other)?;
        ensure!(same, "{} and {} differ", one.display(), other.display());
    }
    // Its folders are large.
    Ok(fs::remove_dir_all(elsewhere)?)
}

fn is_small(arch: Arch) -> Result<()> {
    let image = fs::read(tuned::kernel(arch)?.image)?;
    let kernel = match arch {
        Arm64 => compress(&image, Compress::Zstd)?.len(),
        // It unpacks itself.
        X86_64 => image.len(),
    };
    let initramfs = mkinitramfs::pack(&workspace::root(), &recipe(arch))?.bytes.len();
    println!("service-kernel/{arch}/is-small: kernel {kernel} bytes, initramfs {initramfs}, of {LARGEST} together");
    ensure!(kernel + initramfs <= LARGEST, "too large");
    Ok(())
}
