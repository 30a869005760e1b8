//! Where the payload can't be read in place, Cato goes on with segments by itself, and says so in one line.

use anyhow::{Result, ensure};
use config::Arch::{self, Arm64, X86_64};
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
        gigantic(Arm64),
        gigantic(X86_64).long_if(true),
    ]
}

const MIB: u64 = 1 << 20;
/// Where memory begins on QEMU's `virt`.
const RAM: u64 = 0x4000_0000;

/// Memory in pieces but for one page of 1 GiB that the service kernel was started with: it is used.
fn gigantic(arch: Arch) -> Scenario {
    Scenario::new(format!("arena/{arch}/1-gib-page"), move |context| {
        const MEMORY_MIB: u32 = 3328;
        let mut chain = context.chain(arch, Bookworm, Trixie)?;
        chain.machine.firmware = Direct;
        chain.machine.memory_mib = MEMORY_MIB;
        // What else would take a large piece of it: the service kernel itself (x86_64), memory for devices (arm64).
        let own = if arch == Arm64 { "cma=0" } else { "nokaslr" };
        chain.service.cmdline += [" ", own, " hugepagesz=1G hugepages=1"].concat().as_str();
        // A GiB is whole, and 64 MiB at the end, where the kernel keeps what it knows of its pages.
        chain.reserved = match arch {
            Arm64 => pieces(
                RAM,
                (64..3264).filter(|mib| *mib != 128 && !(1024..2048).contains(mib)),
                16,
            ),
            X86_64 => pieces(0, (96..2048).chain(5120..5312), 32),
        };
        let (_, vm) = context.boots(&chain)?;
        let lines = vm.lines();
        let said = lines
            .iter()
            .any(|line| line.text.contains("reserve: arena: in place, 1 page of 1 GiB"));
        ensure!(said, vm.failure("the page of 1 GiB was not used"));
        Ok(())
    })
}

/// A page in the middle of each `every` MiB of those from `start` on.
fn pieces(start: u64, mib: impl Iterator<Item = u64>, every: u64) -> Vec<(u64, u64)> {
    let first = mib.filter(|mib| mib.is_multiple_of(every));
    first.map(|mib| (start + (mib + every / 2) * MIB, 4096)).collect()
}

/// A page in each 16 MiB of the board's memory but the first 64 MiB, where QEMU puts the kernel, and the 16 MiB from 128
/// MiB on, where it puts initramfs and device tree.
fn holes() -> Vec<(u64, u64)> {
    pieces(RAM, (64..512).filter(|mib| *mib != 128), 16)
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
