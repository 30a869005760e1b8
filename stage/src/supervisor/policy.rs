//! What PID 1 decides: a state and an event make the next state and a list of actions. Pure; time is milliseconds since
//! boot and comes in from outside.
//!
//! The order of last resorts: next entry, the prompt's timer, `reboot(2)` in a child, sysrq-b, the watchdog.

use config::{Config, ReasonStore};

use super::select::{Tried, Why, select};
use crate::worker::message::{Message, Step};

/// Milliseconds since boot.
pub type Millis = u64;

/// A child process PID 1 runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Job {
    /// Read from there why the purgatory reset the machine: it may fault, and may never come back.
    Reason(ReasonStore),
    /// Boot this entry, which was taken for this reason.
    Boot(String, Why),
    /// `kexec_load` with nothing: drop what a dead worker may have loaded, before its pages are used again.
    Unload,
    /// `reboot(RB_AUTOBOOT)`.
    Reboot,
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// Exit code of [`Job::Unload`] when the kexec lock is taken.
pub const UNLOAD_BUSY: i32 = 16;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed.
    Tick,
    /// A byte came from the console.
    Key(u8),
    /// The worker said something.
    Said(Message),
    /// The child ended.
    Gone(Exit),
    /// The child could not be started, and why.
    NotStarted(String),
}

/// What to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Print a line of this step.
    Log(&'static str, String),
    /// Start a child; there is no other one.
    Spawn(Job),
    /// Kill the child; [`Event::Gone`] follows unless it is stuck in the kernel.
    Kill,
    /// Forget the child: it can't be killed.
    Abandon,
    /// Tell the worker to jump.
    Go,
    /// Reset at once: sysrq-b, then `reboot(2)`, then wait for the watchdog.
    Reset,
}

/// Time limits, milliseconds. Each is tested below or in QEMU.
pub mod limit {
    use super::{Millis, Step};

    /// For reading a page or a byte.
    pub const REASON: Millis = 2_000;
    /// Between `SIGKILL` and giving up on a child.
    pub const KILL: Millis = 2_000;
    /// For dropping a loaded image.
    pub const UNLOAD: Millis = 10_000;
    /// For `reboot(2)` to leave.
    pub const REBOOT: Millis = 10_000;
    /// For all of one entry, whatever its progress.
    pub const ENTRY: Millis = 600_000;

    /// For a step; [`Step::Load`]'s and [`Step::Probe`]'s start again at each sign of life.
    pub const fn step(step: Step) -> Millis {
        match step {
            Step::Start | Step::Verify | Step::Jump => 10_000,
            // The kernel may have to make room for huge pages, and clears each of them.
            Step::Probe | Step::Reserve => 30_000,
            Step::Budget | Step::Load => 15_000,
            // Work of the CPU alone: the digests of a large payload on a small core.
            Step::Place => 120_000,
            // One that looks for pages in the kernel's list of them was measured at 97 s.
            Step::Kexec => 300_000,
            Step::Loaded => 5_000,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing has happened yet.
    New,
    /// A child reads what the last jump came to. A key pressed in the meantime counts as one in the countdown.
    Asking { until: Millis, key: bool },
    /// A key press leads to the prompt.
    Countdown { until: Millis },
    /// A worker boots an entry.
    Booting {
        entry: String,
        step: Step,
        until: Millis,
        latest: Millis,
    },
    /// The worker failed or was killed, and is not gone yet; it may have loaded something.
    Stopping { until: Millis, loaded: bool },
    /// A child drops what may be loaded.
    Unloading { until: Millis },
    /// Someone may press a key.
    Prompt { retry: Millis },
    /// A child calls `reboot(2)`.
    Rebooting { until: Millis },
    /// [`Action::Reset`] was given.
    Over,
}

/// PID 1's mind.
#[derive(Debug)]
pub struct Policy {
    config: Option<Config>,
    tried: Tried,
    phase: Phase,
}

/// Prompt timer when there is no config to name one, milliseconds.
const RETRY_WITHOUT_CONFIG: Millis = 60_000;

fn millis(duration: std::time::Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

impl Policy {
    /// With a config, or without one when it was bad: then the prompt's timer resets the machine.
    pub fn new(config: Option<Config>) -> Self {
        Self {
            config,
            tried: Tried::default(),
            phase: Phase::New,
        }
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub fn wake(&self) -> Option<Millis> {
        match self.phase {
            Phase::New => Some(0),
            Phase::Asking { until, .. }
            | Phase::Countdown { until }
            | Phase::Stopping { until, .. }
            | Phase::Unloading { until }
            | Phase::Rebooting { until } => Some(until),
            Phase::Booting { until, latest, .. } => Some(until.min(latest)),
            Phase::Prompt { retry } => Some(retry),
            Phase::Over => None,
        }
    }

    /// The next state, and what to do.
    pub fn on(&mut self, now: Millis, event: Event) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New => self.ask(now),
            Phase::Asking { until, key } => self.asking(now, event, until, key),
            Phase::Countdown { until } => match event {
                Event::Key(_) => self.prompt(now, "stopped by a key press"),
                _ if now >= until => self.boot_next(now),
                _ => self.stay(Phase::Countdown { until }),
            },
            Phase::Booting {
                entry,
                step,
                until,
                latest,
            } => self.booting(now, event, entry, step, (until, latest)),
            Phase::Stopping { until, loaded } => match event {
                Event::Gone(_) => self.clear(now, loaded, Vec::new()),
                _ if now >= until => {
                    let text = "the worker can't be killed: it is stuck in the kernel".to_owned();
                    self.clear(now, loaded, vec![Action::Log("last-resort", text), Action::Abandon])
                }
                _ => self.stay(Phase::Stopping { until, loaded }),
            },
            Phase::Unloading { until } => self.unloading(now, event, until),
            Phase::Prompt { retry } => self.at_prompt(now, &event, retry),
            Phase::Rebooting { until } => match event {
                Event::Gone(exit) => Self::reset(&format!("reboot(2) came back ({exit})")),
                Event::NotStarted(why) => Self::reset(&format!("no child for reboot(2): {why}")),
                _ if now >= until => Self::reset("reboot(2) did not leave"),
                _ => self.stay(Phase::Rebooting { until }),
            },
            Phase::Over => Vec::new(),
        }
    }

    fn stay(&mut self, phase: Phase) -> Vec<Action> {
        self.phase = phase;
        Vec::new()
    }

    /// [`Phase::Over`] is already set.
    fn reset(why: &str) -> Vec<Action> {
        vec![
            Action::Log("last-resort", format!("{why}; resetting the machine")),
            Action::Reset,
        ]
    }

    fn ask(&mut self, now: Millis) -> Vec<Action> {
        let Some(place) = self.config.as_ref().and_then(|c| c.purgatory.reason) else {
            return self.start(now);
        };
        self.phase = Phase::Asking {
            until: now.saturating_add(limit::REASON),
            key: false,
        };
        vec![Action::Spawn(Job::Reason(place))]
    }

    /// Whatever comes of it, the boot goes on.
    fn asking(&mut self, now: Millis, event: Event, until: Millis, key: bool) -> Vec<Action> {
        let advice = "change or leave out `reason` in boot.toml";
        let (mut actions, problem) = match event {
            Event::Said(Message::Say(text)) => {
                self.phase = Phase::Asking { until, key };
                return vec![Action::Log("purgatory", text)];
            }
            Event::Said(Message::Fail(text)) => {
                self.phase = Phase::Asking { until, key };
                return vec![Action::Log("warning", format!("[purgatory] reason: {text}"))];
            }
            // It has said what there is to say.
            Event::Gone(Exit::Code(_)) => (Vec::new(), None),
            Event::Gone(exit) => (Vec::new(), Some(format!("can't be read there ({exit}); {advice}"))),
            Event::NotStarted(why) => (Vec::new(), Some(format!("no child to read it: {why}"))),
            _ if now >= until => {
                let text = format!("reading it did not end within {} s; {advice}", limit::REASON / 1000);
                (vec![Action::Kill, Action::Abandon], Some(text))
            }
            Event::Key(_) => return self.stay(Phase::Asking { until, key: true }),
            _ => return self.stay(Phase::Asking { until, key }),
        };
        actions.extend(problem.map(|text| Action::Log("warning", format!("[purgatory] reason: {text}"))));
        actions.extend(self.start(now));
        if key && matches!(self.phase, Phase::Countdown { .. }) {
            actions.extend(self.prompt(now, "stopped by a key press"));
        }
        actions
    }

    fn start(&mut self, now: Millis) -> Vec<Action> {
        let Some(config) = &self.config else {
            return self.prompt(now, "no valid boot.toml");
        };
        let countdown = millis(config.console.countdown);
        if countdown == 0 {
            return self.boot_next(now);
        }
        let text = format!("press a key within {} s to stop", config.console.countdown.as_secs());
        self.phase = Phase::Countdown {
            until: now.saturating_add(countdown),
        };
        vec![Action::Log("prompt", text)]
    }

    fn boot_next(&mut self, now: Millis) -> Vec<Action> {
        let Some(choice) = self.config.as_ref().and_then(|c| select(c, &self.tried)) else {
            return self.prompt(now, "no entry left");
        };
        let why = choice.why;
        let entry = choice.entry.name.clone();
        let text = format!("entry {:?} ({}), {}", entry, choice.entry.title, choice.why);
        self.phase = Phase::Booting {
            entry: entry.clone(),
            step: Step::Start,
            until: now.saturating_add(limit::step(Step::Start)),
            latest: now.saturating_add(limit::ENTRY),
        };
        vec![Action::Log("select", text), Action::Spawn(Job::Boot(entry, why))]
    }

    fn booting(
        &mut self,
        now: Millis,
        event: Event,
        entry: String,
        step: Step,
        (until, latest): (Millis, Millis),
    ) -> Vec<Action> {
        match event {
            Event::Said(Message::Step(next)) => {
                let until = now.saturating_add(limit::step(next));
                self.phase = Phase::Booting {
                    entry,
                    step: next,
                    until,
                    latest,
                };
                if next == Step::Loaded {
                    // Before the word is given: afterwards nobody here may run again.
                    vec![Action::Log(Step::Jump.name(), "reboot(KEXEC)".to_owned()), Action::Go]
                } else {
                    Vec::new()
                }
            }
            Event::Said(Message::Say(text)) => {
                let until = if step == Step::Probe {
                    now.saturating_add(limit::step(step))
                } else {
                    until
                };
                self.phase = Phase::Booting {
                    entry,
                    step,
                    until,
                    latest,
                };
                vec![Action::Log(step.name(), text)]
            }
            Event::Said(Message::Progress(_)) => {
                let until = if step == Step::Load {
                    now.saturating_add(limit::step(step))
                } else {
                    until
                };
                self.stay(Phase::Booting {
                    entry,
                    step,
                    until,
                    latest,
                })
            }
            Event::Said(Message::Fail(text)) => self.failed(now, &entry, step, &text, false),
            Event::Gone(exit) => {
                let oops = if step == Step::Kexec {
                    ": the service kernel probably oopsed in kexec_load"
                } else {
                    ""
                };
                self.failed(
                    now,
                    &entry,
                    step,
                    &format!("the worker died in step {step} ({exit}){oops}"),
                    true,
                )
            }
            Event::NotStarted(why) => {
                let text = format!("the worker could not be started: {why}");
                self.failed(now, &entry, step, &text, true)
            }
            Event::Tick | Event::Key(_) if now >= until.min(latest) => {
                // A second reboot(2) would wait for the first one's mutex, and so would a kexec call.
                if step == Step::Jump {
                    return Self::reset(&format!(
                        "entry {entry:?}: reboot(KEXEC) did not leave within {} s",
                        limit::step(step) / 1000
                    ));
                }
                let spent = if now >= latest { limit::ENTRY } else { limit::step(step) };
                self.failed(
                    now,
                    &entry,
                    step,
                    &format!("step {step} did not end within {} s", spent / 1000),
                    false,
                )
            }
            Event::Tick | Event::Key(_) => self.stay(Phase::Booting {
                entry,
                step,
                until,
                latest,
            }),
        }
    }

    /// Says why and what is next, then gets the worker out of the way.
    fn failed(&mut self, now: Millis, entry: &str, step: Step, why: &str, gone: bool) -> Vec<Action> {
        self.tried.failed.push(entry.to_owned());
        let next = match self.config.as_ref().and_then(|c| select(c, &self.tried)) {
            Some(choice) => format!("trying {:?}", choice.entry.name),
            None => format!("no entry left, trying again in {} s", self.retry() / 1000),
        };
        let log = Action::Log("entry", format!("entry {entry:?}: {why}; {next}"));
        let loaded = step >= Step::Kexec;
        if gone {
            return self.clear(now, loaded, vec![log]);
        }
        self.phase = Phase::Stopping {
            until: now.saturating_add(limit::KILL),
            loaded,
        };
        vec![log, Action::Kill]
    }

    /// Before anything else, what the worker may have loaded is dropped. One that never came to `kexec_load` costs no
    /// call: a locked-down kernel refuses this one too, and each counts against `kexec_load_limit_reboot`.
    fn clear(&mut self, now: Millis, loaded: bool, mut actions: Vec<Action>) -> Vec<Action> {
        if !loaded {
            actions.extend(self.boot_next(now));
            return actions;
        }
        self.phase = Phase::Unloading {
            until: now.saturating_add(limit::UNLOAD),
        };
        actions.push(Action::Spawn(Job::Unload));
        actions
    }

    fn unloading(&mut self, now: Millis, event: Event, until: Millis) -> Vec<Action> {
        match event {
            Event::Gone(Exit::Code(0)) => self.boot_next(now),
            Event::Gone(Exit::Code(UNLOAD_BUSY)) => Self::reset(
                "kexec is locked by a call that oopsed or never ended, so nothing can be loaded any more \
                 (if the service kernel is 6.12 on a CPU with 52-bit addresses: add arm64.nolva to its command line)",
            ),
            Event::Gone(exit) => Self::reset(&format!("what is loaded can't be dropped ({exit})")),
            Event::NotStarted(why) => Self::reset(&format!("no child to drop what is loaded: {why}")),
            _ if now >= until => Self::reset("dropping what is loaded did not end"),
            _ => self.stay(Phase::Unloading { until }),
        }
    }

    fn retry(&self) -> Millis {
        self.config
            .as_ref()
            .map_or(RETRY_WITHOUT_CONFIG, |c| millis(c.console.retry))
    }

    fn prompt(&mut self, now: Millis, why: &str) -> Vec<Action> {
        self.tried = Tried::default();
        let retry = self.retry();
        self.phase = Phase::Prompt {
            retry: now.saturating_add(retry),
        };
        let mut keys = String::new();
        for (entry, key) in self.config.iter().flat_map(|c| &c.entries).zip('1'..='9') {
            keys.extend([format!("{key} = {:?}, ", entry.name)]);
        }
        let (again, alone) = if self.config.is_some() {
            ("r = try again, ", "trying again")
        } else {
            ("", "resetting")
        };
        vec![Action::Log(
            "prompt",
            format!(
                "{why}. Keys: {again}{keys}b = reboot; {alone} by itself in {} s",
                retry / 1000
            ),
        )]
    }

    fn at_prompt(&mut self, now: Millis, event: &Event, retry: Millis) -> Vec<Action> {
        match event {
            Event::Key(b'b') => {
                self.phase = Phase::Rebooting {
                    until: now.saturating_add(limit::REBOOT),
                };
                vec![
                    Action::Log("prompt", "rebooting".to_owned()),
                    Action::Spawn(Job::Reboot),
                ]
            }
            Event::Key(b'r') if self.config.is_some() => self.boot_next(now),
            Event::Key(key @ b'1'..=b'9') => {
                let picked = usize::from(key.saturating_sub(b'1'));
                match self.config.as_ref().and_then(|c| c.entries.get(picked)) {
                    Some(entry) => {
                        self.tried = Tried {
                            picked: Some(entry.name.clone()),
                            failed: Vec::new(),
                        };
                        self.boot_next(now)
                    }
                    None => self.prompt(now, "no such entry"),
                }
            }
            Event::Key(b'\r' | b'\n' | b'?') => self.prompt(now, "waiting"),
            _ if now >= retry && self.config.is_none() => Self::reset("no valid boot.toml"),
            _ if now >= retry => self.boot_next(now),
            // Any other key is noise: it must not keep an unattended box here.
            _ => self.stay(Phase::Prompt { retry }),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
