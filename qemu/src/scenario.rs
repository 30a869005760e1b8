//! Scenarios: whole boots that must go a certain way.
//!
//! A scenario is a name and a function; [`Context`] gives it kernels, a folder and machines that can't outlive their
//! deadline. [`run`] runs them in order and sums up. They live under `qemu/tests/scenarios/`, one kind a file.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use config::{Arch, Arena};
use guest_report::Report;

use crate::chain::{Chain, Ready};
use crate::console::Console;
use crate::machine::Machine;
use crate::qmp::Qmp;
use crate::setup::{Kernel, Suite, kernels};
use crate::timeline::longest_to_an_end;
use crate::vm::{Vm, Watch};
use crate::workspace;

/// The argument without which the scenarios' program starts nothing, so that `cargo test` doesn't.
pub const START: &str = "--start-machines";

/// A machine's deadline where a scenario names none; one that has the host for itself needs a tenth of it. It grows with
/// the number of machines a CPU has to run.
pub const LIMIT: Duration = Duration::from_mins(3);

/// Whatever fails in a row, Cato jumps, waits at the prompt or resets the machine within this time, but for what a person does in
/// `console/`.
const TO_AN_END: Duration = Duration::from_secs(90);

type Body = Arc<dyn Fn(&Context) -> Result<()> + Send + Sync>;

/// One scenario.
pub struct Scenario {
    /// `kind/arch/what`: filters match any part of it.
    pub name: String,
    /// Runs only with `--long`.
    pub long: bool,
    /// The deadline of each of its machines.
    pub limit: Duration,
    /// What its chains ask Cato for.
    pub arena: Arena,
    body: Body,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("name", &self.name)
            .field("long", &self.long)
            .finish_non_exhaustive()
    }
}

impl Scenario {
    /// A scenario of every run.
    pub fn new(name: impl Into<String>, body: impl Fn(&Context) -> Result<()> + Send + Sync + 'static) -> Self {
        Self {
            name: name.into(),
            long: false,
            limit: LIMIT,
            arena: Arena::Auto,
            body: Arc::new(body),
        }
    }

    /// For `--long` only, if `long` is true.
    #[must_use]
    pub fn long_if(self, long: bool) -> Self {
        Self { long, ..self }
    }

    /// With another deadline for its machines.
    #[must_use]
    pub fn limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// The same with the payload in segments that the kernel copies, for `--long`.
    #[must_use]
    pub fn in_segments(&self) -> Self {
        Self {
            name: format!("{}/segments", self.name),
            long: true,
            limit: self.limit,
            arena: Arena::Segments,
            body: Arc::clone(&self.body),
        }
    }
}

/// All of `scenarios`, and each of them in segments.
pub fn also_in_segments(mut scenarios: Vec<Scenario>) -> Vec<Scenario> {
    let again: Vec<Scenario> = scenarios.iter().map(Scenario::in_segments).collect();
    scenarios.extend(again);
    scenarios
}

/// What a scenario works with.
#[derive(Debug)]
pub struct Context {
    /// Its own, and empty at the start.
    pub folder: PathBuf,
    arena: Arena,
    limit: Duration,
    patience: u32,
    /// Of each machine that was started.
    consoles: Mutex<Vec<Arc<Console>>>,
}

impl Context {
    /// One of Debian's kernels.
    pub fn kernel(&self, arch: Arch, suite: Suite) -> Result<Kernel> {
        kernels::kernel(arch, suite)
    }

    /// The usual boot from one suite's kernel to another's.
    pub fn chain(&self, arch: Arch, service: Suite, main: Suite) -> Result<Chain> {
        Ok(Chain {
            arena: self.arena,
            ..Chain::new(&self.kernel(arch, service)?, &self.kernel(arch, main)?)
        })
    }

    /// Makes everything a boot needs.
    pub fn prepare(&self, chain: &Chain) -> Result<Ready> {
        chain.prepare(&self.folder)
    }

    /// Starts a machine.
    pub fn start(&self, machine: &Machine) -> Result<Vm> {
        let mut consoles = self.consoles.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.folder.join(format!("console-{}.log", consoles.len() + 1));
        let watch = Watch {
            print: false,
            log: Some(log),
        };
        let vm = Vm::start(machine, self.limit, &watch)?.with_patience(self.patience);
        consoles.push(vm.console());
        Ok(vm)
    }

    fn longest_to_an_end(&self) -> Option<u64> {
        let consoles = self.consoles.lock().unwrap_or_else(PoisonError::into_inner);
        consoles
            .iter()
            .filter_map(|console| longest_to_an_end(&console.lines()))
            .max()
    }

    /// Starts a machine whose disks will come, go or grow.
    pub fn start_with_monitor(&self, machine: &Machine) -> Result<(Vm, Qmp)> {
        // A socket's path is short, whatever the checkout's is.
        let folder = tempfile::tempdir()?;
        let socket = folder.path().join("qmp");
        let vm = self.start(&Machine {
            qmp: Some(socket.clone()),
            ..machine.clone()
        })?;
        let qmp = Qmp::connect(folder, &socket).map_err(|error| vm.failure(&format!("{error:#}")))?;
        Ok((vm, qmp))
    }

    /// Boots to the main system's report, which must say what was asked for, and returns it with the machine.
    pub fn boots(&self, chain: &Chain) -> Result<(Report, Vm)> {
        let ready = self.prepare(chain)?;
        let mut vm = self.start(&ready.machine)?;
        vm.forbid("Kernel panic - not syncing")?;
        vm.forbid(r"cato\[ *[0-9.]+\] prompt: no ")?;
        let report = self.reports(&ready, &mut vm)?;
        Ok((report, vm))
    }

    /// Waits for the report of a machine that was started, and checks it.
    pub fn reports(&self, ready: &Ready, vm: &mut Vm) -> Result<Report> {
        vm.wait_for("report: done", self.limit)?;
        let lines = vm.lines();
        let text: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let report = Report::parse(&text.join("\n"));
        let mut problems = ready.wanted.problems(&report);
        problems.extend(ready.wanted.arena_problem(&lines));
        if !problems.is_empty() {
            bail!(vm.failure(&problems.join("\n")));
        }
        Ok(report)
    }
}

/// What is run, and how.
#[derive(Args, Debug, Clone, Default)]
pub struct RunArgs {
    /// All of the matrix, not just the sample for every day.
    #[arg(long)]
    pub long: bool,
    /// Only names what would run.
    #[arg(long)]
    pub list: bool,
    /// Only scenarios whose name contains one of these. Long ones among them run too.
    pub filter: Vec<String>,
    /// Scenarios at the same time; as many as there are CPUs when not given.
    #[arg(long, default_value_t = cpus())]
    pub jobs: usize,
    /// `PASSED,FAILED,SKIPPED` of the host tests, for the sum at the end.
    #[arg(long, hide = true, value_parser = parse_tally)]
    pub host: Option<Tally>,
}

/// CPUs of this host.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How many times as long a machine may take when `jobs` of them share `cpus`. Each has more threads than one.
fn patience(jobs: usize, cpus: usize) -> u32 {
    let shared = if jobs > 1 { jobs.div_ceil(cpus.max(1)) } else { 0 };
    u32::try_from(1 + shared).unwrap_or(u32::MAX)
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Went as they must.
    pub passed: usize,
    /// Did not.
    pub failed: usize,
    /// Were not run.
    pub skipped: usize,
}

impl Tally {
    /// As [`parse_tally`] reads it.
    pub fn to_argument(self) -> String {
        format!("{},{},{}", self.passed, self.failed, self.skipped)
    }

    /// The sum of the `test result:` lines of `cargo test`.
    pub fn of_cargo_test(output: &str) -> Self {
        let mut sum = Self::default();
        for line in output
            .lines()
            .filter_map(|line| line.trim().strip_prefix("test result: "))
        {
            for part in line.split([';', '.']) {
                let mut words = part.split_whitespace();
                let (Some(Ok(number)), Some(what)) = (words.next().map(str::parse::<usize>), words.next()) else {
                    continue;
                };
                match what {
                    "passed" => sum.passed += number,
                    "failed" => sum.failed += number,
                    "ignored" => sum.skipped += number,
                    _ => {}
                }
            }
        }
        sum
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} passed, {} failed, {} skipped",
            self.passed, self.failed, self.skipped
        )
    }
}

/// Reads `1,2,3`.
pub fn parse_tally(text: &str) -> Result<Tally, String> {
    let mut numbers = text.split(',').map(str::parse::<usize>);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(passed)), Some(Ok(failed)), Some(Ok(skipped)), None) => Ok(Tally {
            passed,
            failed,
            skipped,
        }),
        _ => Err(format!("{text:?} is not three numbers")),
    }
}

/// Whether a scenario is asked for.
fn wanted(scenario: &Scenario, args: &RunArgs) -> bool {
    if args.filter.is_empty() {
        return args.long || !scenario.long;
    }
    args.filter.iter().any(|part| scenario.name.contains(part))
}

/// Runs scenarios and says how it went; the last line is the sum.
pub fn run(scenarios: &[Scenario], args: &RunArgs) -> ExitCode {
    // A mistyped filter must not pass.
    let is_in_a_name = |part: &&String| scenarios.iter().any(|scenario| scenario.name.contains(part.as_str()));
    if let Some(part) = args.filter.iter().find(|part| !is_in_a_name(part)) {
        eprintln!("no scenario's name contains {part:?}; `cargo qemu test --long --list` names them all");
        return ExitCode::FAILURE;
    }
    let (mut chosen, left): (Vec<_>, Vec<_>) = scenarios.iter().partition(|scenario| wanted(scenario, args));
    if args.list {
        for scenario in chosen {
            println!("{}", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    // What may take long begins first, so that the last ones end together.
    chosen.sort_by_key(|scenario| std::cmp::Reverse(scenario.limit));
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let jobs = args.jobs.max(1);
    let patience = patience(jobs, cpus());
    println!("{} scenarios, {jobs} at a time", chosen.len());
    let started = Instant::now();
    let mut results: Vec<(usize, Outcome)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs)
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        let Some(scenario) = chosen.get(n) else { return mine };
                        let outcome = one(scenario, patience);
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        tell(&format!("[{done}/{}] ", chosen.len()), scenario, &outcome);
                        mine.push((n, outcome));
                    }
                })
            })
            .collect();
        // A worker catches what a scenario panics with; one that dies all the same shows as a missing result.
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    results.sort_by_key(|(n, ..)| *n);

    println!();
    let mut tally = args.host.unwrap_or_default();
    if args.host.is_some() {
        let word = if tally.failed == 0 { "ok" } else { "FAILED" };
        println!("{word:<7} host tests: {tally}");
    }
    // With a filter the rest was not asked for.
    tally.skipped += if args.filter.is_empty() { left.len() } else { 0 };
    // Each was told when it ended; what failed is told again where it is looked for.
    let lost = Outcome {
        took: Duration::ZERO,
        longest: None,
        result: Err(anyhow::anyhow!("its thread died without a result")),
    };
    let mut longest = None;
    for (n, scenario) in chosen.iter().enumerate() {
        let found = results.iter().find(|(m, _)| *m == n);
        let outcome = found.map_or(&lost, |(_, outcome)| outcome);
        if outcome.result.is_ok() {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            tell("", scenario, outcome);
        }
        longest = longest.max(outcome.longest.map(|longest| (longest, &scenario.name)));
    }
    if let Some((longest, name)) = longest {
        let seconds = longest.as_secs_f64();
        println!("Cato's longest way to a jump, the prompt or a reset: {seconds:.1} s, in {name}");
    }
    println!("all scenarios took {:.0} s", started.elapsed().as_secs_f64());
    println!("{tally}");
    if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How a scenario went.
struct Outcome {
    took: Duration,
    /// See [`longest_to_an_end`].
    longest: Option<Duration>,
    result: Result<()>,
}

/// Runs one scenario in a folder of its own, which stays if it fails.
fn one(scenario: &Scenario, patience: u32) -> Outcome {
    let started = Instant::now();
    let folder = workspace::target("qemu-logs").join(scenario.name.replace('/', "-"));
    let context = Context {
        folder: folder.clone(),
        arena: scenario.arena,
        limit: scenario.limit,
        patience,
        consoles: Mutex::default(),
    };
    let result = fresh(&folder).and_then(|()| {
        let body = std::panic::AssertUnwindSafe(|| (scenario.body)(&context));
        std::panic::catch_unwind(body).unwrap_or_else(|_| bail!("the scenario itself panicked"))
    });
    // At a menu, it is a person's time.
    let longest = context
        .longest_to_an_end()
        .map(Duration::from_millis)
        .filter(|_| !scenario.name.starts_with("console/"));
    let result = result.and_then(|()| match longest {
        Some(longest) if longest > TO_AN_END => bail!(
            "Cato took {:.1} s to a jump, the prompt or a reset: more than {} s",
            longest.as_secs_f64(),
            TO_AN_END.as_secs()
        ),
        _ => Ok(()),
    });
    let result = match result {
        Ok(()) => {
            // Disk images are large; one that can't be removed does no harm.
            let _ = fs::remove_dir_all(&folder);
            Ok(())
        }
        Err(error) => Err(anyhow::anyhow!(
            "{error:#}\nits files and its whole console: {}",
            folder.display()
        )),
    };
    Outcome {
        took: started.elapsed(),
        longest,
        result,
    }
}

/// Says how a scenario went: `[12/91] ok  NAME  34 s`.
fn tell(progress: &str, scenario: &Scenario, outcome: &Outcome) {
    let seconds = outcome.took.as_secs_f64();
    match &outcome.result {
        Ok(()) => println!("{progress}ok      {}  {seconds:.0} s", scenario.name),
        Err(error) => println!("{progress}FAILED  {}  {seconds:.0} s\n{error:#}", scenario.name),
    }
}

fn fresh(folder: &PathBuf) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("can't empty {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, long: bool) -> Scenario {
        Scenario::new(name, |_| Ok(())).long_if(long)
    }

    #[test]
    fn filters_reach_long_scenarios_and_long_reaches_all() {
        let short = named("boot/arm64/u-boot", false);
        let long = named("boot/x86_64/uefi", true);
        let every_day = RunArgs::default();
        assert!(wanted(&short, &every_day) && !wanted(&long, &every_day));
        let all = RunArgs {
            long: true,
            ..RunArgs::default()
        };
        assert!(wanted(&short, &all) && wanted(&long, &all));
        let some = RunArgs {
            filter: vec!["x86".into()],
            ..RunArgs::default()
        };
        assert!(!wanted(&short, &some) && wanted(&long, &some));
    }

    #[test]
    fn machines_that_share_cpus_may_take_longer() {
        let all = [(1, 2), (2, 2), (4, 2), (2, 8), (1, 1), (2, 1)];
        assert_eq!(all.map(|(jobs, cpus)| patience(jobs, cpus)), [1, 2, 3, 2, 1, 3]);
    }

    #[test]
    fn the_matrix_in_segments_is_for_long_runs() {
        let both = also_in_segments(vec![named("size/arm64/512M", false)]);
        let shown: Vec<_> = both.iter().map(|s| (s.name.as_str(), s.long, s.arena)).collect();
        assert_eq!(
            shown,
            [
                ("size/arm64/512M", false, Arena::Auto),
                ("size/arm64/512M/segments", true, Arena::Segments)
            ]
        );
    }

    #[test]
    fn the_host_tests_are_counted() {
        let output = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; \
                      finished in 0.20s\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n";
        let tally = Tally::of_cargo_test(output);
        assert_eq!(
            tally,
            Tally {
                passed: 4,
                failed: 2,
                skipped: 1
            }
        );
        assert_eq!(parse_tally(&tally.to_argument()), Ok(tally));
        assert_eq!(tally.to_string(), "4 passed, 2 failed, 1 skipped");
        assert!(parse_tally("1,2").is_err() && parse_tally("1,2,3,4").is_err());
    }

    #[test]
    fn a_failure_is_a_failure_of_the_whole() {
        let scenarios = [
            named("unit/ok", false),
            Scenario::new("unit/fails", |_| bail!("no")),
            Scenario::new("unit/panics", |_| panic!("no")),
        ];
        for (filter, wanted) in [
            ("unit/ok", ExitCode::SUCCESS),
            ("unit/fails", ExitCode::FAILURE),
            ("unit/p", ExitCode::FAILURE),
            ("unit/o", ExitCode::SUCCESS),
            ("unit/typo", ExitCode::FAILURE),
        ] {
            let args = RunArgs {
                filter: vec![filter.into()],
                jobs: 1,
                ..RunArgs::default()
            };
            assert_eq!(run(&scenarios, &args), wanted, "{filter}");
        }
        for name in ["unit-fails", "unit-panics"] {
            fs::remove_dir_all(workspace::target("qemu-logs").join(name)).unwrap();
        }
    }
}
