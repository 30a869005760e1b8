//! What PID 1 decides: a state and an event make the next state and a list of actions. Pure; time is milliseconds since
//! boot and comes in from outside.
//!
//! The order of last resorts: next entry, the prompt's timer, `reboot(2)` in a child, sysrq-b, the watchdog.

use std::time::Duration;

use config::Config;

use crate::cause::{Cause, Failure};
use crate::deadlines;
use crate::select::{Tried, select};
use crate::step::Step;
use crate::text::cut;
use crate::worker::message::{Answer, Boot, Job, Message, Question};

pub(super) use super::event::{Action, Event};

/// Milliseconds since boot.
pub(super) type Millis = u64;

/// Whose failure it is. Decides what is tried next; what it costs an entry is to be decided by it as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// Another entry may do better.
    Entry,
    /// No entry can do better on this service kernel.
    Machine,
}

fn blame(cause: Cause) -> Blame {
    match cause {
        Cause::Refused | Cause::Busy | Cause::Machine => Blame::Machine,
        Cause::Missing
        | Cause::Io
        | Cause::Format
        | Cause::Verification
        | Cause::Placement
        | Cause::Memory
        | Cause::Timeout
        | Cause::Crash => Blame::Entry,
    }
}

/// A child looks for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asking {
    question: Question,
    until: Millis,
    /// What it has said so far; it counts when the child has ended.
    answer: Option<Result<Answer, Failure>>,
    /// A key was pressed in the meantime.
    key: bool,
}

/// A worker boots an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Booting {
    entry: String,
    step: Step,
    until: Millis,
    latest: Millis,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing has happened yet.
    New,
    Asking(Asking),
    /// A key press leads to the prompt.
    Countdown {
        until: Millis,
    },
    Booting(Booting),
    /// The worker failed or was killed, and is not gone yet; it may have loaded something.
    Stopping {
        until: Millis,
        loaded: bool,
    },
    /// Someone may press a key.
    Prompt {
        retry: Millis,
    },
    /// [`Action::Reset`] was given.
    Over,
}

/// PID 1's mind.
#[derive(Debug)]
pub(super) struct Policy {
    config: Option<Config>,
    /// When PID 1 started, microseconds since boot.
    began_us: u64,
    tried: Tried,
    /// Devices that did not answer to a worker.
    late: Vec<String>,
    /// When watchdogs are fed next.
    feed: Millis,
    phase: Phase,
}

/// Most devices that are remembered, and bytes of each one's name: they come from a worker.
const MOST_LATE: (usize, usize) = (64, 128);

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn after(now: Millis, duration: Duration) -> Millis {
    now.saturating_add(millis(duration))
}

/// How long the answer may take.
fn limit(question: Question) -> Duration {
    match question {
        Question::LastJump(_) => deadlines::REASON,
        Question::Unload => deadlines::UNLOAD,
        Question::Reboot => deadlines::REBOOT,
    }
}

impl Policy {
    /// With a config, or without one when it was bad: then the prompt's timer resets the machine. `began_us` is when
    /// PID 1 started, microseconds since boot.
    pub(super) fn new(config: Option<Config>, began_us: u64) -> Self {
        Self {
            config,
            began_us,
            tried: Tried::default(),
            late: Vec::new(),
            feed: 0,
            phase: Phase::New,
        }
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub(super) fn wake(&self) -> Option<Millis> {
        self.due().map(|due| due.min(self.feed))
    }

    /// When the phase ends by itself.
    fn due(&self) -> Option<Millis> {
        match &self.phase {
            Phase::New => Some(0),
            Phase::Asking(Asking { until, .. }) | Phase::Countdown { until } | Phase::Stopping { until, .. } => {
                Some(*until)
            }
            Phase::Booting(booting) => Some(booting.until.min(booting.latest)),
            Phase::Prompt { retry } => Some(*retry),
            Phase::Over => None,
        }
    }

    /// The next state, and what to do.
    pub(super) fn on(&mut self, now: Millis, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if now >= self.feed && self.phase != Phase::Over {
            self.feed = after(now, deadlines::TICK);
            actions.push(Action::Feed);
        }
        actions.extend(self.decide(now, event));
        actions
    }

    fn decide(&mut self, now: Millis, event: Event) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New => match self.config.as_ref().and_then(|c| c.purgatory.reason) {
                Some(place) => vec![self.ask(now, Question::LastJump(place))],
                None => self.start(now),
            },
            Phase::Asking(asking) => self.asking(now, event, asking),
            Phase::Countdown { until } => match event {
                Event::Key(_) => self.prompt(now, "stopped by a key press"),
                _ if now >= until => self.boot_next(now),
                _ => self.stay(Phase::Countdown { until }),
            },
            Phase::Booting(booting) => self.booting(now, event, booting),
            Phase::Stopping { until, loaded } => match event {
                Event::Gone(_) => self.clear(now, loaded, Vec::new()),
                _ if now >= until => {
                    let text = "the worker can't be killed: it is stuck in the kernel".to_owned();
                    self.clear(now, loaded, vec![Action::Log("last-resort", text), Action::Abandon])
                }
                _ => self.stay(Phase::Stopping { until, loaded }),
            },
            Phase::Prompt { retry } => self.at_prompt(now, &event, retry),
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

    /// Has a child look for the answer.
    fn ask(&mut self, now: Millis, question: Question) -> Action {
        self.phase = Phase::Asking(Asking {
            question,
            until: after(now, limit(question)),
            answer: None,
            key: false,
        });
        Action::Spawn(Job::Ask(question))
    }

    fn asking(&mut self, now: Millis, event: Event, mut asking: Asking) -> Vec<Action> {
        let failed = |cause, text: String| Err(Failure::new(cause, text));
        let (mut actions, answer) = match event {
            Event::Gone(exit) => {
                let silent = || {
                    failed(
                        Cause::Crash,
                        format!("the child process ended without an answer ({exit})"),
                    )
                };
                (Vec::new(), asking.answer.take().unwrap_or_else(silent))
            }
            Event::NotStarted(why) => (
                Vec::new(),
                failed(Cause::Io, format!("can't start a child process: {why}")),
            ),
            Event::Tick | Event::Key(_) if now >= asking.until => {
                let text = format!("no answer within {} s", limit(asking.question).as_secs());
                (vec![Action::Kill, Action::Abandon], failed(Cause::Timeout, text))
            }
            Event::Said(Message::Answer(answer)) => {
                asking.answer = Some(Ok(answer));
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(Message::Fail(failure)) => {
                asking.answer = Some(Err(failure));
                return self.stay(Phase::Asking(asking));
            }
            Event::Key(_) => {
                asking.key = true;
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(_) | Event::Tick => return self.stay(Phase::Asking(asking)),
        };
        actions.extend(self.answered(now, asking.question, answer, asking.key));
        actions
    }

    fn answered(&mut self, now: Millis, question: Question, answer: Result<Answer, Failure>, key: bool) -> Vec<Action> {
        let words = |answer| match answer {
            Ok(_) => "unexpected answer from the child process".to_owned(),
            Err(Failure { text, .. }) => text,
        };
        match (question, answer) {
            // Whatever comes of it, the boot goes on.
            (Question::LastJump(_), answer) => {
                let line = match answer {
                    Ok(Answer::LastJump(said)) => said.map(|text| Action::Log("purgatory", text)),
                    other => {
                        // What the child could not say itself.
                        let advice = match &other {
                            Err(Failure {
                                cause: Cause::Crash | Cause::Timeout,
                                ..
                            }) => "; change or remove `reason` in boot.toml",
                            _ => "",
                        };
                        Some(Action::Log(
                            "warning",
                            format!("[purgatory] reason: {}{advice}", words(other)),
                        ))
                    }
                };
                let mut actions: Vec<Action> = line.into_iter().collect();
                actions.extend(self.start(now));
                if key && matches!(self.phase, Phase::Countdown { .. }) {
                    actions.extend(self.prompt(now, "stopped by a key press"));
                }
                actions
            }
            (Question::Unload, Ok(Answer::Unloaded)) => self.boot_next(now),
            (Question::Unload, Err(Failure { cause: Cause::Busy, .. })) => Self::reset(
                "kexec is locked by a call that oopsed or never returned, so nothing can be loaded any more \
                 (if the service kernel is 6.12 on a CPU with 52-bit addresses: add arm64.nolva to its command line)",
            ),
            (Question::Unload, other) => Self::reset(&format!("can't unload the kexec image: {}", words(other))),
            (Question::Reboot, other) => Self::reset(&format!("reboot(2) failed: {}", words(other))),
        }
    }

    fn start(&mut self, now: Millis) -> Vec<Action> {
        let Some(config) = &self.config else {
            return self.prompt(now, "there is no valid boot.toml");
        };
        let countdown = config.console.countdown;
        if countdown.is_zero() {
            return self.boot_next(now);
        }
        self.phase = Phase::Countdown {
            until: after(now, countdown),
        };
        let text = format!("press a key within {} s to stop", countdown.as_secs());
        vec![Action::Log("prompt", text)]
    }

    fn boot_next(&mut self, now: Millis) -> Vec<Action> {
        let Some((config, choice)) = self.config.as_ref().and_then(|c| Some((c, select(c, &self.tried)?))) else {
            return self.prompt(now, "no entry left");
        };
        let (entry, title) = (&choice.entry.name, &choice.entry.title);
        let log = Action::Log(
            Step::Select.label(),
            format!("entry {entry:?} ({title}), {}", choice.why),
        );
        self.phase = Phase::Booting(Booting {
            entry: entry.clone(),
            step: Step::Select,
            until: after(now, deadlines::step(Step::Select)),
            latest: after(now, deadlines::ENTRY),
        });
        let boot = Boot {
            purgatory: config.purgatory.clone(),
            choice,
            began_us: self.began_us,
            late: self.late.clone(),
        };
        vec![log, Action::Spawn(Job::Boot(Box::new(boot)))]
    }

    fn booting(&mut self, now: Millis, event: Event, mut at: Booting) -> Vec<Action> {
        let again = |at: &mut Booting, step| {
            if at.step == step {
                at.until = after(now, deadlines::step(step));
            }
        };
        let actions = match event {
            Event::Said(Message::Step(next)) => {
                (at.step, at.until) = (next, after(now, deadlines::step(next)));
                if next == Step::Loaded {
                    // Before the word is given: afterwards nobody here may run again.
                    vec![Action::Log(Step::Jump.label(), "reboot(KEXEC)".to_owned()), Action::Go]
                } else {
                    Vec::new()
                }
            }
            Event::Said(Message::Say(text)) => {
                again(&mut at, Step::Probe);
                vec![Action::Log(at.step.label(), text)]
            }
            Event::Said(Message::Progress(_)) => {
                again(&mut at, Step::Load);
                Vec::new()
            }
            Event::Said(Message::Late(name)) => {
                let name = cut(&name, MOST_LATE.1);
                if self.late.len() < MOST_LATE.0 && !self.late.contains(&name) {
                    self.late.push(name);
                }
                Vec::new()
            }
            Event::Said(Message::Fail(failure)) => return self.failed(now, &at, &failure, false),
            Event::Gone(exit) => {
                let oops = if at.step == Step::Kexec {
                    ": the service kernel probably oopsed in kexec_load"
                } else {
                    ""
                };
                let text = format!("the worker died in step {} ({exit}){oops}", at.step);
                return self.failed(now, &at, &Failure::new(Cause::Crash, text), true);
            }
            Event::NotStarted(why) => {
                let text = format!("can't start the worker: {why}");
                return self.failed(now, &at, &Failure::new(Cause::Io, text), true);
            }
            Event::Tick | Event::Key(_) if now >= at.until.min(at.latest) => {
                let step = deadlines::step(at.step);
                // A second reboot(2) would wait for the first one's mutex, and so would a kexec call.
                if at.step == Step::Jump {
                    let (entry, s) = (&at.entry, step.as_secs());
                    return Self::reset(&format!("entry {entry:?}: reboot(KEXEC) did not jump within {s} s"));
                }
                let spent = if now >= at.latest { deadlines::ENTRY } else { step };
                let text = format!("step {} did not end within {} s", at.step, spent.as_secs());
                return self.failed(now, &at, &Failure::new(Cause::Timeout, text), false);
            }
            Event::Said(Message::Answer(_)) | Event::Tick | Event::Key(_) => Vec::new(),
        };
        self.phase = Phase::Booting(at);
        actions
    }

    /// Says why and what is next, then gets the worker out of the way.
    fn failed(&mut self, now: Millis, at: &Booting, failure: &Failure, gone: bool) -> Vec<Action> {
        let blame = blame(failure.cause);
        self.tried.failed.push(at.entry.clone());
        if let (Blame::Machine, Some(config)) = (blame, &self.config) {
            self.tried.failed.extend(config.order.iter().cloned());
        }
        let next = match (blame, self.config.as_ref().and_then(|c| select(c, &self.tried))) {
            (_, Some(choice)) => format!("trying {:?}", choice.entry.name),
            (Blame::Entry, None) => format!("no entry left, trying again in {} s", self.retry().as_secs()),
            (Blame::Machine, None) => format!(
                "no other entry can do better, trying again in {} s",
                self.retry().as_secs()
            ),
        };
        let log = Action::Log("entry", format!("entry {:?}: {failure}; {next}", at.entry));
        let loaded = at.step >= Step::Kexec;
        if gone {
            return self.clear(now, loaded, vec![log]);
        }
        self.phase = Phase::Stopping {
            until: after(now, deadlines::KILL),
            loaded,
        };
        vec![log, Action::Kill]
    }

    /// Before anything else, what the worker may have loaded is dropped. One that never came to `kexec_load` costs no
    /// call: a locked-down kernel refuses this one too, and each counts against `kexec_load_limit_reboot`.
    fn clear(&mut self, now: Millis, loaded: bool, mut actions: Vec<Action>) -> Vec<Action> {
        if loaded {
            actions.push(self.ask(now, Question::Unload));
        } else {
            actions.extend(self.boot_next(now));
        }
        actions
    }

    fn retry(&self) -> Duration {
        (self.config.as_ref()).map_or(deadlines::RETRY_WITHOUT_CONFIG, |c| c.console.retry)
    }

    /// Waits for a key or the timer, and begins anew then: whoever is there may have repaired what did not work.
    fn prompt(&mut self, now: Millis, why: &str) -> Vec<Action> {
        self.tried = Tried::default();
        self.late.clear();
        let retry = self.retry();
        self.phase = Phase::Prompt {
            retry: after(now, retry),
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
        let text = format!(
            "{why}. Keys: {again}{keys}b = reboot; {alone} by itself in {} s",
            retry.as_secs()
        );
        vec![Action::Log("prompt", text)]
    }

    fn at_prompt(&mut self, now: Millis, event: &Event, retry: Millis) -> Vec<Action> {
        match event {
            Event::Key(b'b') => {
                let log = Action::Log("prompt", "rebooting".to_owned());
                vec![log, self.ask(now, Question::Reboot)]
            }
            Event::Key(b'r') if self.config.is_some() => self.boot_next(now),
            Event::Key(key @ b'1'..=b'9') => {
                let picked = usize::from(key.saturating_sub(b'1'));
                match self.config.as_ref().and_then(|c| c.entries.get(picked)) {
                    Some(entry) => {
                        self.tried.picked = Some(entry.name.clone());
                        self.boot_next(now)
                    }
                    None => self.prompt(now, "no such entry"),
                }
            }
            Event::Key(b'\r' | b'\n' | b'?') => self.prompt(now, "waiting"),
            _ if now >= retry && self.config.is_none() => Self::reset("there is no valid boot.toml"),
            _ if now >= retry => self.boot_next(now),
            // Any other key is noise: it must not keep an unattended box here.
            _ => self.stay(Phase::Prompt { retry }),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
