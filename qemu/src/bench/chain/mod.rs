//! `cargo qemu bench --chain`: from power to the main system, by each way there is, in turn, on the same machine.
//!
//! Bottom up: [`way`] is who is compared, [`disk`] what is on its disk, [`times`] what a console says, [`once`] one boot,
//! [`table`] the result.

use std::time::Duration;

use anyhow::{Context as _, Result};
use config::Arch;

use super::BenchArgs;
use super::figures::Spread;
use crate::machine::Firmware;
use crate::setup::packages::{self, Need};

pub mod disk;
pub mod once;
pub mod table;
pub mod times;
pub mod way;

use once::Bench;
use table::{Race, Rate, Row};
use times::Times;
use way::Way;

/// Rates of disks that are tried with `--long`, millions of bytes a second: an SD card, eMMC, SATA.
const RATES: [u64; 3] = [20, 90, 300];
/// How often each is booted from: such a disk's rate differs little from one boot to the next.
const RATE_RUNS: u32 = 3;

/// Measures and prints.
pub fn run(args: &BenchArgs, arches: &[Arch]) -> Result<()> {
    packages::ensure(&Need {
        arches: arches.to_vec(),
        firmware: vec![Firmware::UBoot, Firmware::Uefi],
        images: false,
        compiler: false,
    })?;
    for &arch in arches {
        eprintln!("{arch}: building Cato, the service kernel and the payload ...");
        let bench = Bench::new(arch, args.payload_mb)?;
        let mut all = Way::ALL.map(|way| (way, Vec::new()));
        for run in 1..=args.runs {
            for (way, boots) in &mut all {
                let times = bench.boot(*way, None)?;
                eprintln!("{arch}: run {run} of {}: {way:<35} {times}", args.runs);
                boots.push(times);
            }
        }
        let rows = all.iter().map(|(way, boots)| Row::of(*way, boots).context("no run"));
        let race = Race {
            arch,
            machine: bench.machine.clone(),
            payload: bench.payload.clone(),
            runs: args.runs,
            tuned: bench.tuned.release.clone(),
            debian: bench.debian.version.clone(),
            main: bench.main.version.clone(),
            rows: rows.collect::<Result<_>>()?,
            rates: if args.long { rates(&bench)? } else { Vec::new() },
        };
        if args.json {
            println!("{}", race.json());
        } else {
            println!("{race}");
        }
    }
    Ok(())
}

/// The chain and a boot without it, from slower disks.
fn rates(bench: &Bench) -> Result<Vec<Rate>> {
    let arch = bench.machine.arch;
    let mut all = Vec::new();
    for rate in RATES {
        let mut boots = [Vec::new(), Vec::new()];
        for run in 1..=RATE_RUNS {
            for (way, boots) in [Way::Direct, Way::CatoTunedImage].iter().zip(&mut boots) {
                let times = bench.boot(*way, Some(rate * 1_000_000))?;
                eprintln!("{arch}: {rate} MB/s, run {run} of {RATE_RUNS}: {way:<35} {times}");
                boots.push(times);
            }
        }
        let first_line = |boots: &[Times]| median(boots, |times| times.first_line).context("no run");
        let [direct, tuned] = &boots;
        let (direct, tuned) = (first_line(direct)?, first_line(tuned)?);
        all.push(Rate {
            mb_per_s: rate,
            direct,
            tuned,
        });
    }
    Ok(all)
}

/// The median of one part over all boots, seconds.
fn median(boots: &[Times], part: impl Fn(&Times) -> Duration) -> Option<f64> {
    Spread::of(boots.iter().map(|times| part(times).as_secs_f64())).map(|spread| spread.median)
}
