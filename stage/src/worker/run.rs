//! The worker's process: reads like the flow.

use std::convert::Infallible;
use std::fs;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use config::modules::{Index, IndexError};
use config::{Purgatory, paths};
use nix::sys::reboot::{RebootMode, reboot};

use super::files;
use super::keeping::{self, KeepingError};
use super::line;
use super::message::{Answer, Boot, Job, Lent, Loan, Message, Question, frame, parse};
use super::reason;
use super::record::Record;
use super::summary;
use crate::cause::{Cause, Failure};
use crate::deadlines::{DEVICE_WAIT, PROGRESS};
use crate::handover::{Clock, Phases};
use crate::kexec::{self, HandOffError};
use crate::layout::{self, LayoutError};
use crate::load::{self, ArenaKind, LoadError, VerifyError};
use crate::machine::service;
use crate::machine::{self, Machine, MachineError};
use crate::menu::view::Told;
use crate::probe::{self, Caller, ProbeError, Seen};
use crate::quiesce;
use crate::step::Step;
use crate::sys::{counter, hugepages, kernel_log};
use crate::text::cmdline::{self, Own};
use crate::text::{cut, password};

/// First argument of a worker.
pub const FLAG: &str = "--worker";

/// The purgatory, linked for this architecture; empty in a plain host build.
static PURGATORY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.elf"));

/// Why an entry can't be booted. Reads after `entry "a": `.
#[derive(Debug, thiserror::Error)]
enum WorkerError {
    #[error("{}: {_0}", paths::MODULE_INDEX)]
    Modules(#[from] IndexError),
    #[error("{}: {_0}", paths::MODULE_INDEX)]
    Unreadable(io::Error),
    #[error("machine: {_0}")]
    Machine(#[from] MachineError),
    #[error("/proc/meminfo has no MemAvailable in kB")]
    Memory,
    #[error("{_0}")]
    Probe(#[from] ProbeError),
    #[error("{_0}")]
    Load(#[from] LoadError),
    #[error("{error}; {}", said.join("; "))]
    Read { error: Box<LoadError>, said: Vec<String> },
    #[error("{_0}")]
    Verify(#[from] VerifyError),
    #[error("placement: {_0}")]
    Place(#[from] LayoutError),
    #[error("{_0}")]
    HandOff(#[from] HandOffError),
    #[error("state: {_0}")]
    Keeping(#[from] KeepingError),
    #[error("PID 1 did not confirm the jump")]
    NoWord,
    #[error("told to fail here by cato.fault")]
    Fault,
    /// PID 1 reads it, and chooses again.
    #[error("the state is there now")]
    StateIsThere,
}

impl WorkerError {
    fn cause(&self) -> Cause {
        match self {
            Self::Modules(_) | Self::Unreadable(_) | Self::Machine(_) | Self::Memory => Cause::Machine,
            Self::Probe(error) => error.cause(),
            Self::Load(error) => error.cause(),
            Self::Read { error, .. } => error.cause(),
            Self::Verify(error) => error.cause(),
            Self::Place(error) => error.cause(),
            Self::HandOff(error) => error.cause(),
            Self::Keeping(error) => error.cause(),
            Self::NoWord | Self::Fault | Self::StateIsThere => Cause::Crash,
        }
    }
}

/// Does the jobs that come on standard input, where PID 1 writes them. An entry is the last one.
pub fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|info| {
        tell(&Message::fail(Failure::new(
            Cause::Crash,
            format!("internal error: {info}"),
        )));
    }));
    let mut seen = None;
    let failure = loop {
        match job() {
            Ok(Job::Ask(question)) => match answer(question, &mut seen) {
                Ok(answer) => tell(&Message::Answer(answer)),
                Err(failure) => break failure,
            },
            Ok(Job::Boot(boot)) => match self::boot(&boot, &mut seen) {
                Err(error) => break Failure::new(error.cause(), error.to_string()),
            },
            Err(error) => break Failure::new(Cause::Crash, format!("no job from PID 1: {error}")),
        }
    };
    tell(&Message::fail(failure));
    ExitCode::FAILURE
}

fn job() -> io::Result<Job> {
    let mut bytes = Vec::new();
    io::stdin().lock().read_until(0, &mut bytes)?;
    parse(&mut bytes).map_err(io::Error::other)
}

fn answer(question: Question, seen: &mut Option<Seen>) -> Result<Answer, Failure> {
    match question {
        Question::LastJump(place) => match reason::take(place) {
            Ok(said) => Ok(Answer::LastJump(said, reason::was_off(place))),
            Err(error) => Err(Failure::new(error.cause(), error.to_string())),
        },
        Question::Watchdog => {
            let index = modules().map_err(|error| Failure::new(error.cause(), error.to_string()))?;
            probe::bind_watchdogs(&index, &mut |text| tell(&Message::say(text)));
            Ok(Answer::Watchdog(keeping::reset()))
        }
        Question::State => find_state(seen).map_err(|error| Failure::new(error.cause(), error.to_string())),
        Question::LastWords(device) => {
            keeping::keep_last_words(device.as_deref(), &mut |text| tell(&Message::say(text)));
            Ok(Answer::Done)
        }
        Question::Keep(kept) => keeping::keep(*kept).map_err(|error| Failure::new(error.cause(), error.to_string())),
        Question::Unload => kexec::unload()
            .map(|()| Answer::Done)
            .map_err(|error| Failure::new(error.cause(), error.to_string())),
        Question::Reboot => leave(RebootMode::RB_AUTOBOOT),
        Question::Password { typed, hash } => Ok(Answer::Fits(password::fits(&typed, &hash))),
        Question::PowerOff => leave(RebootMode::RB_POWER_OFF),
        Question::Plan(boot) => match lay_out(&boot, seen, &mut Phases::since(boot.began_us)) {
            Ok(laid_out) => Ok(tell_rows(
                laid_out.to_string().lines().map(|line| line.to_owned().into()),
            )),
            Err(error) => Err(Failure::new(error.cause(), error.to_string())),
        },
        Question::Machine => {
            let summary = summary::summary(Path::new("/"));
            Ok(tell_rows(summary.lines().map(|line| line.to_owned().into())))
        }
        Question::Files { at, late } => look_at(&at, &late, seen),
        Question::Lend(loan) => lent(loan),
    }
}

/// What is done with a console that PID 1 has lent.
fn lent(Loan { tty, what }: Loan) -> Result<Answer, Failure> {
    let mut tell_bytes = |bytes| tell(&Message::Progress(bytes));
    match what {
        Lent::Receive => {
            let machine = machine::running(Path::new("/")).ok();
            let (files, problem) = line::receive(&tty, machine.as_ref(), &mut tell_bytes)?;
            if let Some(problem) = problem {
                tell(&Message::say(&format!(
                    "{tty}: {problem}; what came before it is there"
                )));
            }
            Ok(Answer::Received(files))
        }
        Lent::Send(log) => {
            let files = [
                ("cato.log".to_owned(), log.into_bytes()),
                ("kernel.log".to_owned(), kernel_log::whole().into_bytes()),
            ];
            line::send(&tty, &files, &mut tell_bytes)?;
            Ok(Answer::Done)
        }
        Lent::Shell => Err(line::shell(&tty).into()),
    }
}

fn find_state(seen: &mut Option<Seen>) -> Result<Answer, WorkerError> {
    let caller = &mut Caller {
        seen,
        say: &mut |text| tell(&Message::say(text)),
        known_late: &[],
        late: &mut |name| tell(&Message::Late(name.to_owned())),
    };
    Ok(Answer::State(Box::new(keeping::find(&modules()?, caller))))
}

/// Sends a text, row by row.
fn tell_rows(rows: impl Iterator<Item = Told>) -> Answer {
    for row in rows {
        let text = cut(&row.text, Message::MOST / 2);
        // A message has room for no longer path.
        let leads = row.leads.filter(|leads| leads.len() <= Message::MOST / 2);
        tell(&Message::Told(Told { text, leads }));
    }
    Answer::Done
}

fn look_at(at: &str, known_late: &[String], seen: &mut Option<Seen>) -> Result<Answer, Failure> {
    let index = modules().map_err(|error| Failure::new(error.cause(), error.to_string()))?;
    let caller = &mut Caller {
        seen,
        say: &mut |text| tell(&Message::say(text)),
        known_late,
        late: &mut |name| tell(&Message::Late(name.to_owned())),
    };
    let rows = if at.is_empty() {
        files::volumes(&index, caller).map_err(|error| Failure::new(error.cause(), error.to_string()))?
    } else {
        files::look(at, &index, caller).map_err(|error| Failure::new(Cause::Io, error))?
    };
    Ok(tell_rows(rows.into_iter()))
}

/// An entry, ready to be handed over.
struct LaidOut {
    layout: layout::Layout,
    record: Record,
    /// Where its files were.
    source: String,
    /// Its whole command line.
    cmdline: String,
    /// Devices that did not answer while those were looked for.
    unfinished: Vec<probe::Unfinished>,
    nonce: u64,
    /// When the payload began to be read.
    begin: Instant,
    /// The kernel copies it.
    copies: bool,
}

impl std::fmt::Display for LaidOut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.copies {
            "copied by the kernel"
        } else {
            "in place"
        };
        writeln!(f, "source {}\ncommand line {}\n{how}", self.source, self.cmdline)?;
        write!(f, "{}", self.layout)
    }
}

/// The flow: select ▸ probe ▸ budget ▸ reserve ▸ load ▸ verify ▸ lay out ▸ hand off.
fn boot(boot: &Boot, seen: &mut Option<Seen>) -> Result<Infallible, WorkerError> {
    let phases = &mut Phases::since(boot.began_us);
    let laid_out = lay_out(boot, seen, phases)?;
    hand_off(boot, laid_out, phases)
}

/// All of it but the hand-off: what is read and placed is gone with what this gives.
fn lay_out(boot: &Boot, seen: &mut Option<Seen>, phases: &mut Phases) -> Result<LaidOut, WorkerError> {
    let mut say = |text: &str| tell(&Message::say(text));
    let clock = Clock::start();
    let entry = &boot.choice.entry;

    enter(Step::Select, phases)?;
    kexec::may_load(Path::new("/"))?;

    enter(Step::Probe, phases)?;
    let index = modules()?;
    let mut machine = machine(&boot.purgatory)?;
    kexec::may_run(&machine)?;
    if machine.seed.is_none() {
        say("warning: the service kernel has no entropy yet, so the main kernel gets no KASLR and no RNG seed");
    }
    let deadline = Instant::now().checked_add(DEVICE_WAIT).unwrap_or_else(Instant::now);
    let caller = &mut Caller {
        seen,
        say: &mut say,
        known_late: &boot.late,
        late: &mut |name| tell(&Message::Late(name.to_owned())),
    };
    let source = probe::open_source(&entry.source, &index, deadline, caller)?;
    *seen = None;
    if boot.lacks_state && source.has_state {
        tell(&Message::StateIsThere);
        return Err(WorkerError::StateIsThere);
    }
    say(&source.describe);
    for device in source.unfinished.iter().filter(|d| d.is_late() && d.is_running()) {
        say(&device.to_string());
    }

    enter(Step::Budget, phases)?;
    let running = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let nonce = keeping::nonce();
    let own = words(boot, nonce);
    let cmdline = cmdline::complete(&entry.cmdline, &running, &own, entry.cmdline_extra);
    if !cmdline.added.is_empty() {
        say(&format!("command line: added {}", cmdline.added.join(" ")));
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = load::Free::of(&meminfo).ok_or(WorkerError::Memory)?;
    let tree = source.tree;
    let explained = |error| with_the_kernels_words(error, tree.as_ref());
    let text = cmdline.text.clone();
    let budget = load::budget(entry, tree.as_ref(), &machine, free, text).map_err(explained)?;
    say(&budget.to_string());

    enter(Step::Reserve, phases)?;
    let arena = budget.reserve(&machine, &mut hugepages::sources(machine.page_size))?;
    say(&format!("arena: {}", arena.kind()));
    let copies = matches!(arena.kind(), ArenaKind::Segments(_));

    enter(Step::Load, phases)?;
    let begin = Instant::now();
    say("reading the payload");
    let mut told = begin;
    let payload = arena.load(&mut |done| {
        // A sign of life wakes PID 1: seldom is often enough.
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            tell(&Message::Progress(done.read));
        }
    });
    let payload = payload.map_err(explained)?;
    drop(tree);
    for note in &payload.notes {
        say(&note.to_string());
    }

    enter(Step::Verify, phases)?;
    let payload = load::verify(payload)?;

    enter(Step::LayOut, phases)?;
    machine.ticks_per_ms = clock.ticks_per_ms(machine.ticks_per_ms);
    machine.notes().for_each(|note| say(&note.to_string()));
    let mut record = Record::new(boot, nonce, &payload, clock, &machine);
    let layout = layout::lay_out(payload, &machine, PURGATORY, &record.bytes(phases, 0))?;
    record.laid_out(&layout);
    if let (Some(place), None) = (machine.reason, layout.reason()) {
        say(&format!(
            "warning: [purgatory] reason: {place} is memory that the hand-over uses, so no reason can be left there; choose another page"
        ));
    }
    if let Some(shortage) = layout.shortage() {
        say(&format!(
            "warning: {shortage}; the main system will be without it; use a smaller region or payload, or more memory"
        ));
    }
    // In the field a slow serial line would still be sending the table when it is time to jump.
    let (table, last) = (layout.to_string(), usize::from(service::is_quiet(&running)));
    let rows = table.lines().count();
    for line in table.lines().skip(rows.saturating_sub(1).saturating_mul(last)) {
        say(line);
    }
    Ok(LaidOut {
        layout,
        record,
        source: source.describe,
        cmdline: cmdline.text,
        unfinished: source.unfinished,
        nonce,
        begin,
        copies,
    })
}

/// The last step, which does not come back.
fn hand_off(boot: &Boot, laid_out: LaidOut, phases: &mut Phases) -> Result<Infallible, WorkerError> {
    let mut say = |text: &str| tell(&Message::say(text));
    let LaidOut {
        layout,
        mut record,
        unfinished,
        nonce,
        begin,
        copies,
        ..
    } = laid_out;
    enter(Step::Kexec, phases)?;
    if copies {
        tell(&Message::Copying);
    }
    let mut loaded = kexec::load(layout)?;
    say(&format!("loaded in {} ms", begin.elapsed().as_millis()));

    if let Some(account) = &boot.account {
        enter(Step::Account, phases)?;
        if let Some(stored) = keeping::account(account, &boot.choice.entry.name, nonce, &mut say)? {
            tell(&Message::Accounted(Box::new(stored)));
        }
    }

    if !boot.unbind.is_empty() {
        enter(Step::Quiesce, phases)?;
        quiesce::unbind(Path::new("/sys"), &boot.unbind, &mut say);
    }

    enter(Step::Loaded, phases)?;
    wait_for_word()?;
    // The last words before the kernel does not leave, if it does not: they have to name the cause.
    for device in unfinished.iter().filter(|d| d.is_running()) {
        say(&device.to_string());
    }

    enter(Step::Jump, phases)?;
    loaded.rewrite_record(&record.bytes(phases, counter::now()));
    Ok(loaded.jump()?)
}

fn leave(mode: RebootMode) -> Result<Answer, Failure> {
    match reboot(mode) {
        Err(errno) => Err(Failure::new(Cause::Refused, errno.desc())),
    }
}

/// What the main kernel is told besides: which boot this is, and what it has to do for it.
fn words(boot: &Boot, nonce: u64) -> Own {
    let mut own = Own::default();
    if let Some(account) = &boot.account
        && let Some(slot) = &account.slot
    {
        own.identity.extend(keeping::words(account, slot, nonce));
        own.identity
            .extend(boot.trial.map(|trial| format!("cato.trial={}", trial.as_secs())));
    }
    // RAUC looks for its own word first.
    own.identity
        .extend(boot.choice.entry.slot.as_ref().map(|slot| format!("rauc.slot={slot}")));
    // One that firmware or Cato left running, and that nobody opens, would be fed by the kernel for ever.
    let timeout = boot.watchdog.map(|timeout| timeout.as_secs());
    own.safety
        .extend(timeout.map(|timeout| format!("watchdog.open_timeout={timeout}")));
    if let (true, Some(timeout)) = (boot.is_test, timeout) {
        // So that nobody feeds it.
        own.identity
            .extend([format!("cato.wdtest={timeout}"), "systemd.watchdog_sec=0".to_owned()]);
    }
    own
}

/// A device's own error is only a number: the kernel's log has the reason.
fn with_the_kernels_words(error: LoadError, tree: &dyn probe::FileTree) -> WorkerError {
    match (error.cause(), tree.kernel_said()) {
        (Cause::Io, said) if !said.is_empty() => WorkerError::Read {
            error: Box::new(error),
            said,
        },
        _ => WorkerError::Load(error),
    }
}

/// The machine, with the memory that huge pages of earlier workers were, and what of it the purgatory may use.
fn machine(allowed: &Purgatory) -> Result<Machine, MachineError> {
    // Before the machine is looked at: they are free memory again, not pages at hand.
    hugepages::give_back_all(machine::page_size()?);
    let mut machine = machine::running(Path::new("/"))?;
    let started_with = hugepages::of_the_start(machine.page_size, &machine.memory.ram);
    machine.memory.add_usable(&started_with);
    machine.uart = machine.uart.filter(|_| allowed.console);
    machine.reason = (allowed.reason).filter(|place| reason::can_be_left(*place, machine.arch, &machine.memory.ram));
    Ok(machine)
}

/// The index of the packed modules. An initramfs without one has no modules: every driver is in the kernel.
fn modules() -> Result<Index, WorkerError> {
    match fs::read_to_string(paths::MODULE_INDEX) {
        Ok(text) => Ok(Index::parse(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Index::default()),
        Err(error) => Err(WorkerError::Unreadable(error)),
    }
}

/// Announces a step; a fault asked for on the service command line (`cato.fault=STEP:crash|hang|fail`) happens here.
fn enter(step: Step, phases: &mut Phases) -> Result<(), WorkerError> {
    phases.enter(step.name());
    tell(&Message::Step(step));
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    match fault(&cmdline, step) {
        None => Ok(()),
        Some("fail") => Err(WorkerError::Fault),
        Some("hang") => loop {
            std::thread::park();
        },
        Some(_) => std::process::abort(),
    }
}

/// The kind of fault `cmdline` asks for in `step`. Whoever writes the service command line owns the box anyway; the
/// scenarios use it to see that each failure is survived.
fn fault(cmdline: &str, step: Step) -> Option<&str> {
    let faults = cmdline
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("cato.fault="));
    faults
        .filter_map(|f| f.split_once(':'))
        .find(|(at, _)| Step::from_name(at) == Some(step))
        .map(|(_, kind)| kind)
}

/// Tells PID 1. When that fails PID 1 is gone, and so are we in a moment.
fn tell(message: &Message) {
    let frame = frame(message).unwrap_or_default();
    let mut out = io::stdout().lock();
    let _ = out.write_all(&frame).and_then(|()| out.flush());
}

/// Blocks until PID 1 says `go`; PID 1 kills us when it has something else in mind.
fn wait_for_word() -> Result<(), WorkerError> {
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(_) if line == "go\n" => Ok(()),
        _ => Err(WorkerError::NoWord),
    }
}

#[cfg(test)]
#[path = "cause_tests.rs"]
mod cause_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_meant_for_one_step() {
        let cmdline = "quiet cato.fault=kexec:crash cato.fault=load:hang";
        assert_eq!(fault(cmdline, Step::Kexec), Some("crash"));
        assert_eq!(fault(cmdline, Step::Load), Some("hang"));
        assert_eq!(fault(cmdline, Step::Probe), None);
        assert_eq!(fault("cato.fault=bogus:crash cato.fault=load", Step::Load), None);
    }
}
