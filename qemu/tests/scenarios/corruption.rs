//! A byte that changes between load and jump is found, named, and the machine starts again instead of the kernel.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use config::Arch;
use qemu::machine::Firmware::Direct;
use qemu::scenario::{Context, Scenario, also_in_segments};
use qemu::setup::Suite::{Bookworm, Trixie};

use crate::between::{At, Opened, Part, address_behind};

/// From the line that names the part to the reset.
const RESET: Duration = Duration::from_secs(2);
/// What a mismatch names (`purgatory::params::CHUNK`).
const CHUNK: u64 = 256 << 10;

/// The first and the last byte of each part, each in place and in segments.
pub(crate) fn scenarios() -> Vec<Scenario> {
    // The initrd's last byte is changed in `reason/`.
    let every_day = [
        (Arch::Arm64, Part::Info, At::First),
        (Arch::X86_64, Part::Digests, At::Last),
    ];
    let mut all = Vec::new();
    for arch in Arch::ALL {
        for part in Part::ALL {
            for at in [At::First, At::Last] {
                let where_in_it = format!("{at:?}").to_lowercase();
                let name = format!("corruption/{arch}/{}-{where_in_it}", part.row(arch));
                let scenario = Scenario::new(name, move |context| is_named(context, arch, part, at));
                all.push(scenario.long_if(!every_day.contains(&(arch, part, at))));
            }
        }
    }
    also_in_segments(all)
}

fn is_named(context: &Context, arch: Arch, part: Part, at: At) -> Result<()> {
    let mut chain = context.chain(arch, Bookworm, Trixie)?;
    chain.machine.firmware = Direct;
    let ready = context.prepare(&chain)?;
    let mut opened = Opened::start(context, &ready)?;
    opened.vm.forbid("Kernel panic - not syncing|report: ")?;
    let changed = opened.change(part, at)?;
    let vm = &mut opened.vm;

    let began = Instant::now();
    let line = vm.wait_for(&part.named(arch), Duration::from_mins(1))?;
    let named = Instant::now();
    vm.wait_end(Duration::from_secs(30))?;
    let took = named.elapsed();
    ensure!(
        took < RESET,
        vm.failure(&format!("the reset took {took:?}, {:?} in all", began.elapsed()))
    );
    if part != Part::Digests {
        let chunk = address_behind(&line.text, " at ").with_context(|| format!("no address in {:?}", line.text))?;
        ensure!(
            (chunk..chunk + CHUNK).contains(&changed),
            vm.failure(&format!("byte {changed:#x} changed, chunk {chunk:#x} was named"))
        );
    }
    if let Some(problem) = ready.wanted.arena_problem(&vm.lines()) {
        bail!(vm.failure(&problem));
    }
    Ok(())
}
