//! One boot of one contender, and what it said.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use config::Arch;
use guest_report::Report;

use super::contender::Contender;
use super::initramfs::{Boot, Job, Programs};
use super::payload::{self, Payload};
use super::read::{self, Memory, Times};
use crate::board::board;
use crate::console::Line;
use crate::machine::{DirectKernel, Machine};
use crate::service;
use crate::setup::{Kernel, Suite, kernels};
use crate::verdict::{ArenaUsed, Wanted};
use crate::vm::{Vm, Watch};

/// How long one boot may take: several times the slowest contender, which checks 100 MB in half a minute.
const LIMIT: Duration = Duration::from_mins(10);

/// The service kernel's last words.
const LEFT: &str = r"Bye!$|kexec_core: Starting new kernel";

/// Everything that is the same for all contenders.
#[derive(Debug)]
pub struct Bench {
    /// The service kernel.
    pub service: Kernel,
    /// The main kernel.
    pub main: Kernel,
    /// The machine, without what it boots.
    pub machine: Machine,
    /// Further bytes in the service initramfs, millions: they take other memory away.
    pub ballast_mb: u32,
    /// The programs that are compared.
    pub programs: Programs,
    cmdline: String,
    folder: PathBuf,
}

impl Bench {
    /// Service Linux 6.1, main Linux 6.12, a board with `memory_mib` and two CPUs, started without firmware.
    pub fn new(arch: Arch, memory_mib: u32) -> Result<Self> {
        let folder = payload::folder(arch);
        fs::create_dir_all(&folder)?;
        Ok(Self {
            service: kernels::kernel(arch, Suite::Bookworm)?,
            main: kernels::kernel(arch, Suite::Trixie)?,
            machine: Machine {
                memory_mib,
                ..Machine::new(arch)
            },
            ballast_mb: 0,
            programs: Programs::new(arch)?,
            // With a word on panics, so that Cato has nothing to add to it.
            cmdline: format!("{} cato-test.nonce={} panic=30", board(arch).console, payload::NONCE),
            folder,
        })
    }

    /// The instruction set.
    pub fn arch(&self) -> Arch {
        self.machine.arch
    }

    /// A timed boot, up to the main system's report.
    pub fn times(&mut self, contender: Contender, payload: &Payload) -> Result<Times> {
        self.times_within(contender, payload, LIMIT)?
            .with_context(|| format!("{}: {contender}: no main kernel within {LIMIT:?}", self.arch()))
    }

    /// The same; nothing when the main kernel is not there within `cap` after the service kernel's last word.
    pub fn times_within(&mut self, contender: Contender, payload: &Payload, cap: Duration) -> Result<Option<Times>> {
        let name = format!("{}: {contender}", self.arch());
        let vm = self.start(contender, Job::Time, payload).context(name.clone())?;
        let lines = self.wait(vm, cap, contender).context(name.clone())?;
        let Some(lines) = lines else { return Ok(None) };
        let times = read::times(&lines).map_err(|missing| anyhow!("{name}: {missing}"))?;
        Ok(Some(times))
    }

    /// A boot in which memory is sampled, up to the service kernel's last line.
    pub fn memory(&mut self, contender: Contender, payload: &Payload) -> Result<Memory> {
        let name = format!("{}: {contender}, memory", self.arch());
        let vm = self.start(contender, Job::Memory, payload).context(name.clone())?;
        vm.wait_for(LEFT, LIMIT).context(name.clone())?;
        if let Some(problem) = arena_problem(contender, &vm.lines()) {
            return Err(vm.failure(&format!("{name}: {problem}")));
        }
        read::memory(&vm.lines()).map_err(|missing| vm.failure(&format!("{name}: {missing}")))
    }

    fn start(&mut self, contender: Contender, job: Job, payload: &Payload) -> Result<Vm> {
        let initramfs = self.folder.join("initramfs");
        let boot = Boot {
            contender,
            job,
            memory_mib: self.machine.memory_mib,
            cmdline: &self.cmdline,
            payload,
            ballast_mb: self.ballast_mb,
        };
        self.programs.write(&boot, &initramfs)?;
        let machine = Machine {
            kernel: Some(DirectKernel {
                kernel: self.service.image.clone(),
                initrd: Some(initramfs),
                cmdline: service::command_line(self.arch(), &[]),
            }),
            ..self.machine.clone()
        };
        let watch = Watch {
            print: false,
            log: Some(self.folder.join(format!("{}.log", contender.key()))),
        };
        let mut vm = Vm::start(&machine, LIMIT, &watch)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.forbid(r"bench\[.*\] failed: ")?;
        vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
        Ok(vm)
    }

    /// Waits for the main system, which must be the one that was asked for.
    fn wait(&self, mut vm: Vm, cap: Duration, contender: Contender) -> Result<Option<Vec<Line>>> {
        vm.wait_for(LEFT, LIMIT)?;
        let left = Instant::now();
        match vm.wait_for("Linux version ", cap) {
            Err(_) if left.elapsed() >= cap => return Ok(None),
            found => found?,
        };
        vm.wait_for("report: done", LIMIT)?;
        // It powers off by itself; one that does not has reported all the same.
        let _ = vm.wait_end(Duration::from_secs(10));
        let lines = vm.lines();
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let wanted = Wanted {
            cmdline: self.cmdline.clone(),
            initrd_nonce: Some(payload::NONCE.to_owned()),
            release: Some(self.main.version.clone()),
            cpus: Some(self.machine.cpus),
            ..Wanted::default()
        };
        let mut problems = wanted.problems(&Report::parse(&text.join("\n")));
        problems.extend(arena_problem(contender, &lines));
        ensure!(
            problems.is_empty(),
            vm.failure(&format!(
                "not the main system that was asked for: {}",
                problems.join("; ")
            ))
        );
        Ok(Some(lines))
    }
}

/// A contender whose payload waited elsewhere than its name says.
fn arena_problem(contender: Contender, lines: &[Line]) -> Option<String> {
    let arena = match contender {
        Contender::CatoSha256 | Contender::CatoFast | Contender::CatoOff => ArenaUsed::InPlace,
        Contender::CatoFastSegments => ArenaUsed::Segments,
        _ => return None,
    };
    let wanted = Wanted {
        arena,
        ..Wanted::default()
    };
    wanted.arena_problem(lines)
}
