//! One boot of one way, and what it said.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use config::Arch;
use guest_report::Report;
use mkinitramfs::bootable;
use mkinitramfs::kernel;

use super::super::contender::{Told, placement_away};
use super::super::kexec_tools;
use super::super::payload::{self, Payload};
use super::disk::{self, Parts};
use super::times::{self, Times};
use super::way::Way;
use crate::board::board;
use crate::machine::{Drive, Firmware, Machine};
use crate::setup::{Kernel, Suite, kernels, tuned};
use crate::verdict::Wanted;
use crate::vm::{Vm, Watch};

/// How long one boot may take.
const LIMIT: Duration = Duration::from_mins(5);
/// Memory of the machine, MiB.
const MEMORY: u32 = 2048;

/// Everything that is the same for all of them.
#[derive(Debug)]
pub struct Bench {
    /// The machine, without what it boots.
    pub machine: Machine,
    /// Debian's service kernel.
    pub debian: Kernel,
    /// The kernel made for the job.
    pub tuned: kernel::Kernel,
    /// The main kernel.
    pub main: Kernel,
    /// What is booted.
    pub payload: Payload,
    images: BTreeMap<Way, PathBuf>,
    cmdline: String,
    folder: PathBuf,
}

/// The quickest way of kexec-tools that works there. On arm64 its own way wants `/proc/kcore`; the kernel's checks nothing.
fn kexec_arguments(arch: Arch, payload: u64, cmdline: &str) -> String {
    let told = Told {
        arch,
        memory_mib: MEMORY,
        payload,
        cmdline,
        describe: false,
    };
    match arch {
        Arch::Arm64 => "-s".to_owned(),
        Arch::X86_64 => format!("-c --no-checks {}", placement_away(&told)),
    }
}

impl Bench {
    /// Service Linux 6.1 of Debian and ours, main Linux 6.12 with an initrd of `mb` million bytes.
    pub fn new(arch: Arch, mb: u32) -> Result<Self> {
        let folder = payload::folder(arch).join("chain");
        fs::create_dir_all(&folder)?;
        let main = kernels::kernel(arch, Suite::Trixie)?;
        let payload = payload::make(&main, mb)?;
        let mut bench = Self {
            machine: Machine {
                firmware: match arch {
                    Arch::Arm64 => Firmware::UBoot,
                    Arch::X86_64 => Firmware::Uefi,
                },
                memory_mib: MEMORY,
                ..Machine::new(arch)
            },
            debian: kernels::kernel(arch, Suite::Bookworm)?,
            tuned: tuned::kernel(arch)?,
            main,
            payload,
            images: BTreeMap::new(),
            // With a word on panics, so that Cato has nothing to add to it.
            cmdline: format!("{} cato-test.nonce={} panic=30", board(arch).console, payload::NONCE),
            folder,
        };
        let kexec_tools = kexec_tools::fetched(arch)?;
        let parts = Parts {
            arch,
            debian: (&bench.debian.image, &bench.debian.modules),
            tuned: &bench.tuned.image,
            main: bootable::unpacked(&bench.main.image)?,
            payload: &bench.payload,
            cmdline: &bench.cmdline,
            kexec_tools: &kexec_tools,
            kexec_arguments: &kexec_arguments(arch, bench.payload.bytes(), &bench.cmdline),
        };
        for way in Way::ALL {
            let image = disk::write(&parts, way, &bench.folder).with_context(|| format!("{arch}: {way}"))?;
            bench.images.insert(way, image);
        }
        Ok(bench)
    }

    /// One boot up to the main system's report, from a disk that reads `rate` bytes a second.
    pub fn boot(&self, way: Way, rate: Option<u64>) -> Result<Times> {
        let name = format!("{}: {way}", self.machine.arch);
        let image = self.images.get(&way).context("a way without an image")?;
        let machine = Machine {
            drives: vec![Drive {
                snapshot: true,
                rate,
                ..Drive::raw(image)
            }],
            ..self.machine.clone()
        };
        let watch = Watch {
            print: false,
            log: Some(self.folder.join(format!("{}.log", way.key()))),
        };
        let mut vm = Vm::start(&machine, LIMIT, &watch)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
        vm.wait_for("report: done", LIMIT).with_context(|| name.clone())?;
        let lines = vm.lines();
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let wanted = Wanted {
            cmdline: self.cmdline.clone(),
            initrd_nonce: Some(payload::NONCE.to_owned()),
            release: Some(self.main.version.clone()),
            cpus: Some(machine.cpus),
            ..Wanted::default()
        };
        let problems = wanted.problems(&Report::parse(&text.join("\n")));
        let times = times::times(&lines, way == Way::Direct).map_err(|missing| anyhow!("{name}: {missing}"));
        ensure!(
            problems.is_empty(),
            vm.failure(&format!(
                "{name}: not the main system that was asked for: {}",
                problems.join("; ")
            ))
        );
        times
    }
}
