//! The purgatory's way out on arm64: whatever became of its memory, the machine is reset. There is no kernel here, only the
//! segment the stage would load, damaged, and a CPU that enters it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch::Arm64;
use config::Check;
use mkinitramfs::cross;
use purgatory::params::{CONDUIT_AT, UART_AT};
use qemu::machine::Machine;
use qemu::scenario::{Context, Scenario};
use qemu::workspace;
use stage::digest;
use stage::place::purgatory::{Job, PurgatoryImage, Region, build};
use stage::place::{Conduit, Span, Uart, UartKind};

/// Where the segment goes, in the memory of QEMU's `virt`.
const BASE: u64 = 0x7000_0000;
/// Where a region is that never has its digest.
const REGION: Span = Span {
    start: 0x5000_0000,
    end: 0x5000_1000,
};
/// QEMU's PL011.
const UART: u64 = 0x900_0000;

/// A CPU without work is there in a second.
const SOON: Duration = Duration::from_secs(20);

/// How the purgatory is entered.
#[derive(Debug, Clone, Copy)]
struct Regime {
    name: &'static str,
    machine: &'static str,
    /// How QEMU wants to be called.
    conduit: Conduit,
    /// HCR_EL2 is set to E2H and TGE first.
    vhe: bool,
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let el1 = Regime {
        name: "el1",
        machine: "virt",
        conduit: Conduit::Hvc,
        vhe: false,
    };
    let el2 = Regime {
        name: "el2",
        machine: "virt,virtualization=on",
        conduit: Conduit::Smc,
        ..el1
    };
    let vhe = Regime {
        name: "el2 vhe",
        vhe: true,
        ..el2
    };
    [el1, el2, vhe]
        .into_iter()
        .map(|regime| {
            let name = format!("reset/arm64/{}", regime.name.replace(' ', "-"));
            Scenario::new(name, move |context| resets(context, regime))
        })
        .collect()
}

fn resets(context: &Context, regime: Regime) -> Result<()> {
    let right = Some(regime.conduit);
    let wrong = Some(match regime.conduit {
        Conduit::Smc => Conduit::Hvc,
        Conduit::Hvc => Conduit::Smc,
    });
    let region = "segment \"region\" .* mismatch .*; resetting";
    let block = "parameter block: .* mismatch .*; resetting";
    let blob = fs::read(cross::purgatory(&workspace::root(), Arm64)?)?;
    for (what, conduit, damage, says) in [
        ("the right conduit", right, None, Some(region)),
        ("no conduit", None, None, Some(region)),
        ("the wrong conduit", wrong, None, Some(region)),
        (
            "a damaged conduit",
            right,
            Some(Damage::Bytes(CONDUIT_AT, 0x55)),
            Some(block),
        ),
        // The address of the UART: each word about it is a fault.
        (
            "a damaged UART",
            right,
            Some(Damage::Bytes(UART_AT + 8 + 3, 0x55)),
            None,
        ),
        ("no parameter block", right, Some(Damage::Unmap(BASE)), None),
    ] {
        let image = segment(&blob, conduit, damage).context(what)?;
        let machine = machine(&context.folder, regime, &image)?;
        let mut vm = context.start(&machine)?;
        if let Some(says) = says {
            vm.wait_for(&format!("purgatory: entry {}$", regime.name), SOON)
                .context(what)?;
            vm.wait_for(&format!("purgatory: {says}"), SOON).context(what)?;
        }
        vm.wait_end(SOON).context(what)?;
    }
    Ok(())
}

/// What became of the segment.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Bits of the byte at this offset flipped.
    Bytes(usize, u8),
    /// The page at this address not mapped any more.
    Unmap(u64),
}

fn segment(blob: &[u8], conduit: Option<Conduit>, damage: Option<Damage>) -> Result<PurgatoryImage> {
    let job = Job {
        arch: Arm64,
        regions: &[Region {
            name: "region",
            span: REGION,
            len: 4096,
            digests: &digest::of(Check::Sha256, &[1; 4096]),
        }],
        entry: REGION.start,
        argument: 0,
        uart: Some(Uart {
            kind: UartKind::Pl011,
            base: UART,
            reg_shift: 0,
        }),
        conduit,
        check: Check::Sha256,
        map: &[],
        clean: &[],
        ticks_per_ms: None,
        record: None,
        reason: None,
    };
    let mut image = build(&job, BASE, blob)?;
    match damage {
        None => {}
        Some(Damage::Bytes(at, mask)) => *image.bytes.get_mut(at).context("no such byte")? ^= mask,
        Some(Damage::Unmap(page)) => {
            // Page descriptors: Arm ARM D8.3, bits 1..0 are 3, 47..12 the address.
            let found = image.bytes.as_chunks_mut::<8>().0.iter_mut().filter(|entry| {
                let entry = u64::from_le_bytes(**entry);
                entry & 3 == 3 && entry & 0xffff_ffff_f000 == page && entry & 0xfff != 3
            });
            let mut cut = 0;
            for entry in found {
                *entry = [0; 8];
                cut += 1;
            }
            ensure!(cut == 1, "{cut} entries map {page:#x}");
        }
    }
    Ok(image)
}

/// A machine whose CPU begins with the purgatory, MMU and caches off, as the service kernel leaves it.
fn machine(folder: &Path, regime: Regime, image: &PurgatoryImage) -> Result<Machine> {
    let segment = folder.join("segment");
    fs::write(&segment, &image.bytes)?;
    // In front of it: movz x0, #0x800, lsl #16; movk x0, #4, lsl #32; msr hcr_el2, x0; isb; ldr x0, .+8; br x0
    let stub = folder.join("stub");
    let mut words: Vec<u8> = [
        0xd2a1_0000_u32,
        0xf2c0_0080,
        0xd51c_1100,
        0xd503_3fdf,
        0x5800_0040,
        0xd61f_0000,
    ]
    .iter()
    .flat_map(|word| word.to_le_bytes())
    .collect();
    words.extend(image.entry.to_le_bytes());
    fs::write(&stub, words)?;

    let start = if regime.vhe { BASE - 0x1000 } else { image.entry };
    let mut machine = Machine::new(Arm64);
    machine.machine = Some(regime.machine.into());
    machine.cpu = regime.vhe.then(|| "max".into());
    machine.cpus = 1;
    for (file, at) in [(&segment, BASE), (&stub, BASE - 0x1000)] {
        let file = file.display().to_string().replace(',', ",,");
        machine.extra.extend([
            "-device".into(),
            format!("loader,file={file},addr={at:#x},force-raw=on"),
        ]);
    }
    machine
        .extra
        .extend(["-device".into(), format!("loader,addr={start:#x},cpu-num=0")]);
    Ok(machine)
}
