//! Where the payload can't be read in place, Cato goes on with segments by itself, and says so in one line.

use anyhow::{Result, ensure};
use config::Arch::{Arm64, X86_64};
use qemu::chain::Chain;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario};
use qemu::setup::Suite::{Bookworm, Trixie};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        // No huge pages at all: x86_64 has them with the page size extension only.
        Scenario::new(format!("arena/{X86_64}/falls-back"), |context| {
            let mut chain = context.chain(X86_64, Bookworm, Trixie)?;
            chain.machine.cpu = Some("max,pse=off".into());
            falls_back(context, chain)
        }),
        // Memory in pieces: the kernel fits nowhere but where the service kernel is.
        Scenario::new(format!("arena/{Arm64}/falls-back"), |context| {
            let mut chain = context.chain(Arm64, Bookworm, Trixie)?;
            chain.machine.memory_mib = 512;
            chain.reserved = holes();
            falls_back(context, chain)
        }),
    ]
}

/// A page in each 16 MiB of the board's memory but the first 64 MiB, where QEMU puts the kernel, and the 16 MiB from 128
/// MiB on, where it puts initramfs and device tree.
fn holes() -> Vec<(u64, u64)> {
    const MIB: u64 = 1 << 20;
    const RAM: u64 = 0x4000_0000;
    let all = (64..512).step_by(16).filter(|mib| *mib != 128);
    all.map(|mib| (RAM + mib * MIB + 8 * MIB, 4096)).collect()
}

fn falls_back(context: &Context, mut chain: Chain) -> Result<()> {
    chain.machine.firmware = Direct;
    chain.falls_back = true;
    let (_, vm) = context.boots(&chain)?;
    let lines = vm.lines();
    let said = lines.iter().filter(|line| line.text.contains("reserve: arena: "));
    ensure!(said.count() == 1, vm.failure("the arena is not said once"));
    Ok(())
}
