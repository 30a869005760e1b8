//! The purgatory's way out on arm64: whatever became of its memory, the machine is reset. There is no kernel here, only the
//! segment the stage would load, damaged, and a CPU that enters it.
//!
//! Memory that is as it should be comes first, with digests the crates made: stage and purgatory share their loops, so
//! nothing else would notice that an arm64 one is wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use config::Arch::Arm64;
use config::Check;
use mkinitramfs::cross;
use purgatory::params::{CHUNK, CONDUIT_AT, UART_AT};
use qemu::machine::Machine;
use qemu::scenario::{Context, Scenario};
use qemu::workspace;
use sha2::{Digest as _, Sha256};
use stage::layout::purgatory::{Job, PurgatoryImage, Region, build};
use stage::machine::{Conduit, Uart, UartKind};
use stage::memory::Span;

/// Where the segment goes, in the memory of QEMU's `virt`.
const BASE: u64 = 0x7000_0000;
/// Where a region is that has its digests: five whole chunks, so two pairs and one, and a part.
const GOOD: Span = Span {
    start: 0x5800_0000,
    end: 0x5815_0000,
};
const GOOD_BYTES: usize = 5 * 0x4_0000 + 12_345;
/// Where one is that never has its digest.
const REGION: Span = Span {
    start: 0x5000_0000,
    end: 0x5000_1000,
};
/// Comes before the MMU is on, and after the vectors are there.
const MRS_X9_ID_AA64MMFR3_EL1: u32 = 0xd538_0769;
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
        _ => Conduit::Smc,
    });
    let region = "segment \"region\" .* mismatch .*; resetting";
    let block = "parameter block: .* mismatch .*; resetting";
    let blob = fs::read(cross::purgatory(&workspace::root(), Arm64)?)?;
    let (fast, sha256) = (Check::Fast, Check::Sha256);
    for (what, check, conduit, damage, says) in [
        ("the right conduit", sha256, right, None, Some(region)),
        ("the other digest", fast, right, None, Some(region)),
        ("no conduit", sha256, None, None, Some(region)),
        ("the wrong conduit", sha256, wrong, None, Some(region)),
        (
            "a damaged conduit",
            sha256,
            right,
            Some(Damage::Bytes(CONDUIT_AT, 0x55)),
            Some(block),
        ),
        // The address of the UART: each word about it is a fault.
        (
            "a damaged UART",
            sha256,
            right,
            Some(Damage::Bytes(UART_AT + 8 + 3, 0x55)),
            None,
        ),
        ("no parameter block", sha256, right, Some(Damage::Unmap(BASE)), None),
        (
            "a fault with the MMU off",
            sha256,
            right,
            Some(Damage::Undefined(MRS_X9_ID_AA64MMFR3_EL1)),
            Some("fault with the MMU off; resetting"),
        ),
    ] {
        let image = segment(&blob, check, conduit, damage).context(what)?;
        let machine = machine(&context.folder, regime, &image)?;
        let mut vm = context.start(&machine)?;
        if let Some(says) = says {
            if !matches!(damage, Some(Damage::Undefined(_))) {
                vm.wait_for(&format!("purgatory: entry {}$", regime.name), SOON)
                    .context(what)?;
            }
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
    /// An undefined instruction in the place of the only one that is this word.
    Undefined(u32),
}

/// Different in each chunk.
fn good() -> Vec<u8> {
    let words = (0..u32::MAX).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes());
    words.take(GOOD_BYTES).collect()
}

/// The digests of `bytes` by the crates.
fn digests(check: Check, bytes: &[u8]) -> Result<Vec<u8>> {
    let chunks = bytes.chunks(usize::try_from(CHUNK)?);
    Ok(match check {
        Check::Off => Vec::new(),
        Check::Fast => chunks
            .flat_map(|chunk| xxhash_rust::xxh3::xxh3_64(chunk).to_le_bytes())
            .collect(),
        Check::Sha256 => chunks.flat_map(Sha256::digest).collect(),
    })
}

fn segment(blob: &[u8], check: Check, conduit: Option<Conduit>, damage: Option<Damage>) -> Result<PurgatoryImage> {
    let (good, wrong) = (digests(check, &good())?, digests(check, &[1; 4096])?);
    let job = Job {
        arch: Arm64,
        regions: &[
            Region {
                name: "good",
                span: GOOD,
                len: u64::try_from(GOOD_BYTES)?,
                digests: &good,
            },
            Region {
                name: "region",
                span: REGION,
                len: 4096,
                digests: &wrong,
            },
        ],
        entry: REGION.start,
        argument: 0,
        uart: Some(Uart {
            kind: UartKind::Pl011,
            base: UART,
            reg_shift: 0,
        }),
        conduit,
        check,
        map: &[],
        clean: &[],
        ticks_per_ms: None,
        record: None,
        reason: None,
    };
    let mut image = build(&job, BASE, blob)?;
    match damage {
        None => {}
        Some(Damage::Undefined(word)) => {
            let words = image.bytes.as_chunks_mut::<4>().0.iter_mut();
            let mut found: Vec<_> = words.filter(|bytes| u32::from_le_bytes(**bytes) == word).collect();
            ensure!(found.len() == 1, "{} such instructions", found.len());
            for bytes in &mut found {
                **bytes = [0; 4];
            }
        }
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
    let known = folder.join("good");
    fs::write(&known, good())?;
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
    for (file, at) in [(&segment, BASE), (&stub, BASE - 0x1000), (&known, GOOD.start)] {
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
