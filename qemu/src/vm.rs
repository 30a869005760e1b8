//! A machine that runs: QEMU as a child that never outlives its owner or its deadline.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use regex_lite::Regex;

use crate::board::board;
use crate::console::{Console, Line, NotSeen};
use crate::machine::{Machine, Serial};
use crate::terminal::Raw;

/// What is done with the console besides keeping it.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Each line goes to standard output with its time.
    pub print: bool,
    /// Each line goes to this file with its time.
    pub log: Option<PathBuf>,
}

/// A running machine. Dropping it ends it.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    input: Option<ChildStdin>,
    tap: Tap,
    console: Arc<Console>,
    readers: Vec<JoinHandle<()>>,
    deadline: Instant,
    patience: u32,
    forbidden: Vec<Regex>,
    person: Option<Person>,
}

/// Who else gets the console's bytes.
type Tap = Arc<Mutex<Option<ChildStdin>>>;

/// A user at the console.
#[derive(Debug)]
struct Person {
    gone: Arc<AtomicBool>,
    _terminal: Raw,
}

impl Vm {
    /// Starts `machine`. Nothing that waits for it waits longer than `limit` from now.
    pub fn start(machine: &Machine, limit: Duration, watch: &Watch) -> Result<Self> {
        let program = board(machine.arch).qemu;
        let mut command = owned_by_us(program);
        for argument in machine.arguments() {
            command.args(argument.words);
        }
        let mut log = match &watch.log {
            Some(path) => Some(File::create(path).with_context(|| format!("can't write the log {}", path.display()))?),
            None => None,
        };
        if let Some(log) = &mut log {
            writeln!(log, "{}", machine.command_line())?;
        }
        let started = Instant::now();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        let console = Arc::new(Console::default());
        let mut readers = Vec::new();
        let raw = machine.serial == Serial::Person;
        let tap = Tap::default();
        if let Some(stdout) = child.stdout.take() {
            let sink = Sink {
                console: Arc::clone(&console),
                tap: Arc::clone(&tap),
                log,
                print: watch.print,
                raw,
                started,
            };
            readers.push(thread::spawn(move || sink.read(stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            let console = Arc::clone(&console);
            let print = watch.print;
            readers.push(thread::spawn(move || {
                for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let line = Line {
                        ms: since(started),
                        text: format!("{program}: {text}"),
                    };
                    if print {
                        println!("{line}\r");
                    }
                    console.note(line);
                }
            }));
        }
        let mut vm = Self {
            input: child.stdin.take(),
            tap,
            child,
            console,
            readers,
            deadline: started + limit,
            patience: 1,
            forbidden: Vec::new(),
            person: None,
        };
        if raw {
            vm.hand_over_the_keyboard()?;
        }
        Ok(vm)
    }

    /// The same with every wait, and its own deadline, so many times as long: for machines that share CPUs.
    #[must_use]
    pub fn with_patience(mut self, factor: u32) -> Self {
        let now = Instant::now();
        self.deadline = now + self.deadline.saturating_duration_since(now) * factor;
        self.patience = factor;
        self
    }

    /// From now on a line that matches ends every wait with an error.
    pub fn forbid(&mut self, pattern: &str) -> Result<()> {
        self.forbidden.push(Regex::new(pattern)?);
        Ok(())
    }

    /// Waits for a line that matches, not longer than `within` (times its patience) and never past the machine's own deadline. A line that
    /// has only begun may match too (it could be a prompt), so a pattern for a number says what follows the number.
    pub fn wait_for(&self, pattern: &str, within: Duration) -> Result<Line> {
        let wanted = Regex::new(pattern).with_context(|| format!("{pattern:?} is not a regular expression"))?;
        let now = Instant::now();
        let deadline = self.deadline.min(now + within * self.patience);
        self.console
            .wait_for(&wanted, &self.forbidden, deadline)
            .map_err(|why| match why {
                NotSeen::TooLate => {
                    let seconds = now.elapsed().as_secs_f64();
                    self.failure(&format!("no line matched {pattern:?} within {seconds:.1} s"))
                }
                NotSeen::Ended => self.failure(&format!("the machine ended before a line matched {pattern:?}")),
                NotSeen::Forbidden(line) => self.failure(&format!(
                    "while waiting for {pattern:?} the console said {:?}",
                    line.text
                )),
            })
    }

    /// Types on the console.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.send_bytes(text.as_bytes())
    }

    /// The same with what nobody can type.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(input) = &mut self.input else {
            bail!("the console belongs to the terminal");
        };
        input.write_all(bytes)?;
        input.flush()?;
        Ok(())
    }

    /// Has a program talk to the machine over the console until it ends: what it says is typed, and it hears what the console
    /// says from now on.
    pub fn attach(&mut self, program: &mut Command, within: Duration) -> Result<()> {
        let name = program.get_program().display().to_string();
        let deadline = self.deadline.min(Instant::now() + within * self.patience);
        let mut input = self.input.take().context("the console belongs to the terminal")?;
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("can't start {name}"))?;
        *self.tap.lock().unwrap_or_else(PoisonError::into_inner) = child.stdin.take();
        let mut from = child.stdout.take();
        let talk = thread::spawn(move || {
            let mut bytes = [0_u8; 4096];
            while let Some(n @ 1..) = from.as_mut().and_then(|from| from.read(&mut bytes).ok()) {
                let said = bytes.get(..n).unwrap_or_default();
                if input.write_all(said).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
            input
        });
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    child.kill()?;
                    break child.wait()?;
                }
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        *self.tap.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.input = talk.join().ok();
        if !status.success() {
            bail!(self.failure(&format!("{name}: {status}")));
        }
        Ok(())
    }

    /// Waits until the machine has ended by itself, its last words read.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = self.deadline.min(Instant::now() + within * self.patience);
        if !self.console.wait_end(deadline) {
            bail!(self.failure("the machine did not end in time"));
        }
        Ok(self.child.wait()?)
    }

    /// When this machine has to be done.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What it says, for whoever looks at it when the machine is gone.
    pub(crate) fn console(&self) -> Arc<Console> {
        Arc::clone(&self.console)
    }

    /// Everything it said.
    pub fn lines(&self) -> Vec<Line> {
        self.console.lines()
    }

    /// Ends the machine now and returns everything it said.
    pub fn stop(mut self) -> Vec<Line> {
        self.kill();
        self.console.lines()
    }

    /// An error with the end of the transcript below it.
    pub fn failure(&self, what: &str) -> anyhow::Error {
        let lines = self.lines();
        let shown = lines.get(lines.len().saturating_sub(25)..).unwrap_or_default();
        if shown.is_empty() {
            return anyhow!("{what}; the console said nothing");
        }
        let shown: Vec<String> = shown.iter().map(|line| format!("    {line}")).collect();
        anyhow!("{what}; its last lines:\n{}", shown.join("\n"))
    }

    /// Everything typed goes to the machine until it ends.
    fn hand_over_the_keyboard(&mut self) -> Result<()> {
        let Some(mut input) = self.input.take() else {
            return Ok(());
        };
        let gone = Arc::new(AtomicBool::new(false));
        let terminal = Raw::enter().context("can't take over the terminal")?;
        let stop = Arc::clone(&gone);
        // Not joined: it sits in a read of the keyboard that only a key ends.
        thread::spawn(move || {
            let mut keyboard = std::io::stdin();
            let mut bytes = [0_u8; 256];
            while let Ok(n @ 1..) = keyboard.read(&mut bytes) {
                let typed = bytes.get(..n).unwrap_or_default();
                if stop.load(Ordering::Relaxed) || input.write_all(typed).and_then(|()| input.flush()).is_err() {
                    break;
                }
            }
            // With the keyboard at its end (not a terminal) the machine keeps its console.
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(100));
            }
        });
        self.person = Some(Person {
            gone,
            _terminal: terminal,
        });
        Ok(())
    }

    fn kill(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if let Some(person) = &self.person {
            person.gone.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command whose process dies with the thread that starts it, even when this program is killed outright.
fn owned_by_us(program: &str) -> Command {
    let setpriv = "/usr/bin/setpriv";
    if !std::path::Path::new(setpriv).exists() {
        return Command::new(program);
    }
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Where the console's bytes go.
struct Sink {
    console: Arc<Console>,
    tap: Tap,
    log: Option<File>,
    print: bool,
    raw: bool,
    started: Instant,
}

impl Sink {
    fn read(mut self, mut from: impl Read) {
        let mut bytes = vec![0_u8; 16384];
        while let Ok(n @ 1..) = from.read(&mut bytes) {
            let new = bytes.get(..n).unwrap_or_default();
            if self.raw {
                let mut out = std::io::stdout();
                let _ = out.write_all(new).and_then(|()| out.flush());
            }
            // One that listens no more has ended.
            if let Some(tap) = self.tap.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                let _ = tap.write_all(new).and_then(|()| tap.flush());
            }
            for line in self.console.feed(new, since(self.started)) {
                self.show(&line);
            }
        }
        if let Some(line) = self.console.end() {
            self.show(&line);
        }
    }

    fn show(&mut self, line: &Line) {
        if self.print && !self.raw {
            println!("{line}");
        }
        if let Some(log) = &mut self.log {
            // A full disk must not take the console down.
            let _ = writeln!(log, "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_dies_with_its_owner() {
        let mut child = owned_by_us("/bin/sleep").arg("30").spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
