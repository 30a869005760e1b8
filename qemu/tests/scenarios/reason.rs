//! A failed check is known to the next service boot, which says so once, and boots.

use anyhow::Result;
use config::Arch::{self, Arm64, X86_64};
use config::ReasonStore;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};

use crate::between::{At, Opened, Part, WAIT};

/// A page in the middle of the machine's memory, away from all that QEMU and SeaBIOS load again at a reset.
const ARM64_PAGE: u64 = 0x6000_0000;
const X86_64_PAGE: u64 = 0x2000_0000;
/// A byte that neither SeaBIOS nor QEMU uses.
const CMOS: u8 = 0x70;

pub(crate) fn scenarios() -> Vec<Scenario> {
    let words = r#"segment "initrd" chunk [0-9]+ at 0x[0-9a-f]+: .*mismatch \(want .*, got .*\)"#;
    [
        ("memory", Arm64, ReasonStore::Memory(ARM64_PAGE), words),
        ("memory", X86_64, ReasonStore::Memory(X86_64_PAGE), words),
        ("cmos", X86_64, ReasonStore::Cmos(CMOS), "segment [0-9]+: mismatch"),
    ]
    .map(|(name, arch, reason, words)| {
        Scenario::new(format!("reason/{arch}/{name}"), move |context| {
            is_said(context, arch, reason, words)
        })
        .long_if((name, arch) == ("memory", X86_64))
    })
    .into()
}

fn is_said(context: &Context, arch: Arch, reason: ReasonStore, words: &str) -> Result<()> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    chain.machine.no_reboot = false;
    if let ReasonStore::Memory(page) = reason {
        chain.reserved.push((page, 4096));
    }
    chain.config = Some(format!(
        "{}\n[purgatory]\nreason = \"{reason}\"\n",
        chain.usual_config()
    ));
    let ready = context.prepare(&chain)?;
    let mut opened = Opened::start(context, &ready)?;
    opened.vm.forbid("Kernel panic - not syncing")?;
    opened.vm.forbid(r"cato\[.*warning: \[purgatory\] reason: ")?;
    opened.change(Part::Initrd, At::Last)?;
    let mut vm = opened.vm;
    vm.wait_for(&Part::Initrd.named(arch), WAIT)?;
    vm.wait_for(
        &format!(r"cato\[.*\] purgatory: last jump: {words}; the machine was reset"),
        WAIT,
    )?;
    context.reports(&ready, &mut vm)?;
    Ok(())
}
