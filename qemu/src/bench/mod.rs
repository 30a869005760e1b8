//! `cargo qemu bench`: Cato and kexec-tools on the same payload, in turn, in the same machine.
//!
//! Bottom up: [`contender`] is who is compared, [`payload`] what is booted, [`initramfs`] what the service Linux gets,
//! [`once`] one boot, [`read`] what it says, [`figures`] medians and ratios, [`ratios`] what is
//! compared, [`long`] how it grows, [`table`] the result as text and JSON. [`chain`] is the whole way from power on.

use anyhow::{Context as _, Result};
use clap::Args;
use config::Arch;

use crate::machine::Firmware;
use crate::setup::packages::{self, Need};

pub mod chain;
pub mod contender;
pub mod figures;
pub mod initramfs;
pub mod kexec_tools;
pub mod long;
pub mod once;
pub mod payload;
pub mod ratios;
pub mod read;
pub mod table;

use contender::Contender;
use figures::Figures;
use long::Long;
use once::Bench;
use table::{Contest, Entrant};

/// Memory of the machine, MiB.
const MEMORY: u32 = 2048;

/// Compares Cato with kexec-tools: load time, dead time, stage time, peak memory, bytes the kernel copies.
///
/// Cato with sha256, fast and off in place and with fast in ordinary segments, and Debian's kexec-tools with its check
/// and with --no-checks, all with -c. They take turns within each run, with the same service kernel (6.1) and main
/// kernel (6.12), payload in the service initramfs, command line and CPUs; memory is sampled in boots of its own. What
/// is printed is medians and what they are between, and the ratios that matter, the like-for-like one first.
///
/// Progress goes to standard error. The console of each contender's last boot stays in target/bench/ARCH.
#[derive(Args, Debug, Clone)]
pub struct BenchArgs {
    /// arm64 (aarch64) or x86_64 (amd64). Without it both in turn, with --json arm64.
    #[arg(long)]
    pub arch: Option<Arch>,
    /// Size of the initrd, in millions of bytes.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=700))]
    pub payload_mb: u32,
    /// How often each contender boots for its times, and again for its memory.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Prints one JSON object instead of the tables: times in seconds, medians.
    #[arg(long)]
    pub json: bool,
    /// Also how dead time grows from 16 to 700 MB, and how load time differs between 10 layouts of memory; with --chain,
    /// from slower disks.
    #[arg(long)]
    pub long: bool,
    /// From power on instead: booting without a chain, Cato with Debian's kernel, with the one made for the job (built where it is
    /// not there), and with that in one file, and a shell script with kexec-tools on it.
    #[arg(long)]
    pub chain: bool,
}

/// Measures and prints.
pub fn run(args: &BenchArgs) -> Result<()> {
    let arches = match args.arch {
        Some(arch) => vec![arch],
        None if args.json => vec![Arch::Arm64],
        None => Arch::ALL.into(),
    };
    if args.chain {
        return chain::run(args, &arches);
    }
    packages::ensure(&Need {
        arches: arches.clone(),
        firmware: vec![Firmware::Direct],
        images: false,
        compiler: false,
    })?;
    for arch in arches {
        eprintln!("{arch}: building Cato, the guests and the payload ...");
        let mut bench = Bench::new(arch, MEMORY)?;
        let contest = contest(&mut bench, args)?;
        // The table is there even if what takes much longer fails.
        if !args.json {
            println!("{contest}");
        }
        let long = args.long.then(|| Long::measure(&mut bench, args.runs)).transpose()?;
        if args.json {
            println!("{}", contest.json(long.as_ref()));
        } else if let Some(long) = long {
            println!("{long}");
        }
    }
    Ok(())
}

fn contest(bench: &mut Bench, args: &BenchArgs) -> Result<Contest> {
    let arch = bench.arch();
    let payload = payload::make(&bench.main, args.payload_mb)?;
    let mut results = Contender::ALL.map(|contender| (contender, Vec::new(), Vec::new()));
    for run in 1..=args.runs {
        for (contender, times, memory) in &mut results {
            let time = bench.times(*contender, &payload)?;
            let used = bench.memory(*contender, &payload)?;
            eprintln!(
                "{arch}: run {run} of {}: {contender:<23} load {:.3} s, dead {:.3} s, stage {:.3} s",
                args.runs,
                time.load.as_secs_f64(),
                time.dead.as_secs_f64(),
                time.stage.as_secs_f64()
            );
            times.push(time);
            memory.push(used);
        }
    }
    let entrants = results
        .into_iter()
        .map(|(contender, times, memory)| {
            let figures = Figures::of(&times, &memory, payload.bytes()).context("no run")?;
            Ok(Entrant { contender, figures })
        })
        .collect::<Result<_>>()?;
    Ok(Contest {
        arch,
        payload,
        runs: args.runs,
        machine: bench.machine.clone(),
        service: bench.service.version.clone(),
        main: bench.main.version.clone(),
        kexec_tools: bench.programs.kexec_tools.version.clone(),
        entrants,
    })
}
