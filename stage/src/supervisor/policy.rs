//! What PID 1 decides: a state and an event make the next state and a list of actions. Pure; time is milliseconds since
//! boot and comes in from outside.
//!
//! The order of last resorts: next entry, the prompt's timer, `reboot(2)` in a child, sysrq-b, the watchdog.

use std::collections::VecDeque;
use std::time::Duration;

use config::Config;

use crate::cause::{Cause, Failure};
use crate::deadlines;
use crate::select::{Tried, select};
use crate::state::Reset;
use crate::state::slots::Rules;
use crate::step::Step;
use crate::text::cut;
use crate::worker::message::{Answer, Boot, Job, Message, Question};

pub(super) use super::event::{Action, Event, Millis};
use super::slots::Slots;

/// A child looks for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asking {
    question: Question,
    until: Millis,
    /// What an earlier worker may have loaded is to be dropped afterwards.
    loaded: bool,
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
    /// A load that failed is tried once more then.
    Pause {
        until: Millis,
    },
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
#[derive(Debug, Clone)]
pub(super) struct Policy {
    config: Option<Config>,
    /// When PID 1 started, microseconds since boot. The last digits are chance.
    began_us: u64,
    tried: Tried,
    /// What is still to be asked before the first entry is tried; none when that is over.
    opening: Option<VecDeque<Question>>,
    /// A key was pressed before the countdown.
    key: bool,
    /// The entry whose load failed, and gets or had its second try.
    again: Option<String>,
    /// That try is still to come.
    is_paused: bool,
    /// How often the prompt's timer ran out since somebody pressed a key.
    retries: u32,
    /// Devices that did not answer to a worker.
    late: Vec<String>,
    /// What is known of the slots.
    slots: Slots,
    /// The service command line asks for a test of the watchdog.
    is_test: bool,
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
fn limit(question: &Question) -> Duration {
    match question {
        Question::LastJump(_) => deadlines::REASON,
        Question::Watchdog => deadlines::WATCHDOG,
        Question::State => deadlines::STATE,
        Question::LastWords(_) | Question::Keep(_) => deadlines::ACCOUNT,
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
            opening: None,
            key: false,
            again: None,
            is_paused: false,
            retries: 0,
            late: Vec::new(),
            slots: Slots::default(),
            is_test: false,
            feed: 0,
            phase: Phase::New,
        }
    }

    /// The same to test the watchdog: the first entry is booted with nobody to feed it.
    pub(super) fn testing(mut self, is_test: bool) -> Self {
        self.is_test = is_test;
        self
    }

    /// When [`Event::Tick`] is wanted at the latest.
    pub(super) fn wake(&self) -> Option<Millis> {
        self.due().map(|due| due.min(self.feed))
    }

    /// When the phase ends by itself.
    fn due(&self) -> Option<Millis> {
        match &self.phase {
            Phase::New => Some(0),
            Phase::Asking(Asking { until, .. })
            | Phase::Countdown { until }
            | Phase::Pause { until }
            | Phase::Stopping { until, .. } => Some(*until),
            Phase::Booting(booting) => Some(booting.until.min(booting.latest)),
            Phase::Prompt { retry } => Some(*retry),
            Phase::Over => None,
        }
    }

    /// The next state, and what to do.
    pub(super) fn on(&mut self, now: Millis, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // Whatever is waited for has its end: when that has passed and nothing came of it, there is no progress.
        let is_late = self.due().is_none_or(|due| now > after(due, deadlines::KILL));
        if now >= self.feed && (!is_late || self.phase == Phase::New) {
            self.feed = after(now, deadlines::TICK);
            actions.push(Action::Feed);
        }
        actions.extend(self.decide(now, event));
        actions
    }

    fn decide(&mut self, now: Millis, event: Event) -> Vec<Action> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New => self.open(now),
            Phase::Asking(asking) => self.asking(now, event, asking),
            Phase::Countdown { until } => match event {
                Event::Key(_) => self.prompt(now, "stopped by a key press"),
                _ if now >= until => self.boot_next(now),
                _ => self.stay(Phase::Countdown { until }),
            },
            Phase::Booting(booting) => self.booting(now, event, booting),
            Phase::Pause { until } if now >= until => self.boot_next(now),
            Phase::Pause { until } => self.stay(Phase::Pause { until }),
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
    fn ask(&mut self, now: Millis, question: Question, loaded: bool) -> Action {
        self.phase = Phase::Asking(Asking {
            question: question.clone(),
            until: after(now, limit(&question)),
            loaded,
        });
        Action::Give(Job::Ask(question))
    }

    fn asking(&mut self, now: Millis, event: Event, asking: Asking) -> Vec<Action> {
        let answer = match event {
            Event::Said(Message::Answer(answer)) => Ok(answer),
            Event::Said(Message::Fail(failure)) => Err(failure),
            Event::Gone(exit) => {
                let text = format!("the child process ended without an answer ({exit})");
                Err(Failure::new(Cause::Crash, text))
            }
            Event::NotStarted(why) => {
                let text = format!("can't start a child process: {why}");
                Err(Failure::new(Cause::Io, text))
            }
            Event::Tick | Event::Key(_) if now >= asking.until => {
                let text = format!("no answer within {} s", limit(&asking.question).as_secs());
                Err(Failure::new(Cause::Timeout, text))
            }
            Event::Key(_) => {
                self.key = true;
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(Message::Say(text)) => {
                let label = match asking.question {
                    Question::Watchdog => "watchdog",
                    _ => "slots",
                };
                self.phase = Phase::Asking(asking);
                return vec![Action::Log(label, text)];
            }
            Event::Said(Message::Late(name)) => {
                self.was_late(&name);
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(_) | Event::Tick => return self.stay(Phase::Asking(asking)),
        };
        // One that hangs, or failed, is not asked again; nobody waits for its end.
        let mut actions = Vec::new();
        if answer.is_err() {
            actions.extend([Action::Kill, Action::Abandon]);
        }
        actions.extend(self.answered(now, asking, answer));
        actions
    }

    fn answered(&mut self, now: Millis, asking: Asking, answer: Result<Answer, Failure>) -> Vec<Action> {
        let Asking { question, loaded, .. } = asking;
        let words = |answer| match answer {
            Ok(_) => "unexpected answer from the child process".to_owned(),
            Err(Failure { text, .. }) => text,
        };
        match (question, answer) {
            // Whatever comes of these, the boot goes on, until the image of a dead worker is to be dropped.
            (Question::Watchdog, answer) => {
                if let Ok(Answer::Watchdog(reset)) = answer {
                    self.slots.reset = reset;
                }
                let problem = answer.err().map(|failure| format!("warning: its driver: {failure}"));
                let mut actions: Vec<Action> = problem.into_iter().map(|text| Action::Log("watchdog", text)).collect();
                actions.push(Action::Arm);
                actions.extend(self.open_next(now));
                actions
            }
            (Question::LastJump(_), answer) => {
                let line = match answer {
                    Ok(Answer::LastJump(said, was_off)) => {
                        if was_off == Some(true) && self.slots.reset == Reset::Unknown {
                            self.slots.reset = Reset::PowerOn;
                        }
                        said.map(|text| Action::Log("purgatory", text))
                    }
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
                if matches!(&line, Some(Action::Log("purgatory", _))) {
                    self.slots.reset = Reset::Purgatory;
                }
                let mut actions: Vec<Action> = line.into_iter().collect();
                actions.extend(self.open_next(now));
                actions
            }
            (Question::State, answer) => {
                let rules = self.config.as_ref().map(Rules::of).unwrap_or_default();
                let lines = match answer {
                    Ok(Answer::State(found)) => self.slots.know(&rules, now, *found, self.began_us),
                    other => self.slots.do_without(&rules, now, &words(other), self.began_us),
                };
                self.tried.suspect = self.slots.suspect.take();
                // What comes now may be the end of the service Linux itself: it has to leave a trace.
                let next = match self.slots.unsaved() {
                    Some(kept) => Question::Keep(Box::new(kept)),
                    None => Question::LastWords(None),
                };
                self.opening
                    .iter_mut()
                    .for_each(|opening| opening.push_back(next.clone()));
                let mut actions: Vec<Action> = lines.into_iter().map(|line| Action::Log("slots", line)).collect();
                actions.extend(self.open_next(now));
                actions
            }
            (Question::LastWords(_), answer) => {
                let problem = answer.err().map(|failure| {
                    Action::Log(
                        "slots",
                        format!("warning: a kernel's last words can't be kept: {failure}"),
                    )
                });
                let mut actions: Vec<Action> = problem.into_iter().collect();
                actions.extend(self.open_next(now));
                actions
            }
            (Question::Keep(kept), answer) => {
                let problem = match answer {
                    Ok(Answer::Kept(stored, other)) => {
                        self.slots.saved(*stored);
                        other.map(|error| format!("{}: only one copy of the state is written: {error}", kept.device))
                    }
                    other => {
                        self.slots
                            .not_saved(matches!(&other, Err(failure) if failure.cause == Cause::Timeout));
                        Some(format!("the state can't be written: {}", words(other)))
                    }
                };
                let mut actions: Vec<Action> = problem.into_iter().map(|text| Action::Log("warning", text)).collect();
                if let Some(opening) = &mut self.opening {
                    let place = (!self.slots.is_stuck()).then_some(kept.device);
                    opening.push_back(Question::LastWords(place));
                    actions.extend(self.open_next(now));
                } else {
                    actions.extend(self.clear(now, loaded, Vec::new()));
                }
                actions
            }
            (Question::Unload, Ok(Answer::Done)) => self.go_on(now),
            (Question::Unload, Err(Failure { cause: Cause::Busy, .. })) => Self::reset(
                "kexec is locked by a call that oopsed or never returned, so nothing can be loaded any more \
                 (if the service kernel is 6.12 on a CPU with 52-bit addresses: add arm64.nolva to its command line)",
            ),
            (Question::Unload, other) => Self::reset(&format!("can't unload the kexec image: {}", words(other))),
            (Question::Reboot, other) => Self::reset(&format!("reboot(2) failed: {}", words(other))),
        }
    }

    /// Everything that has to be known before the first entry is tried, the watchdog first.
    fn open(&mut self, now: Millis) -> Vec<Action> {
        if let Some(config) = &self.config {
            let watchdog = config.watchdog.map(|_| Question::Watchdog);
            let reason = config.purgatory.reason.map(Question::LastJump);
            let state = (!config.slot_names().is_empty()).then_some(Question::State);
            self.opening = Some([watchdog, reason, state].into_iter().flatten().collect());
        }
        self.open_next(now)
    }

    fn open_next(&mut self, now: Millis) -> Vec<Action> {
        if let Some(question) = self.opening.as_mut().and_then(VecDeque::pop_front) {
            return vec![self.ask(now, question, false)];
        }
        self.opening = None;
        self.start(now)
    }

    fn was_late(&mut self, name: &str) {
        let name = cut(name, MOST_LATE.1);
        if self.late.len() < MOST_LATE.0 && !self.late.contains(&name) {
            self.late.push(name);
        }
    }

    fn start(&mut self, now: Millis) -> Vec<Action> {
        let Some(config) = &self.config else {
            return self.prompt(now, "there is no valid boot.toml");
        };
        let countdown = config.console.countdown;
        if self.is_test && self.slots.may_have_tested() && self.slots.reset == Reset::Watchdog {
            self.is_test = false;
            let passed = "wdtest: passed, the watchdog has reset the machine; remove cato.wdtest from the service kernel's command line";
            return self.prompt(now, passed);
        }
        if self.is_test {
            // Many drivers can't tell afterwards.
            let hint = "wdtest: the main system is to be reset by the watchdog; coming back to this line means that it was, where no \
                        driver says so";
            let mut actions = vec![Action::Log("watchdog", hint.to_owned())];
            actions.extend(self.boot_next(now));
            return actions;
        }
        if countdown.is_zero() {
            return self.boot_next(now);
        }
        if self.key {
            return self.prompt(now, "stopped by a key press");
        }
        self.phase = Phase::Countdown {
            until: after(now, countdown),
        };
        let text = format!("press a key within {} s to stop", countdown.as_secs());
        vec![Action::Log("prompt", text)]
    }

    fn boot_next(&mut self, now: Millis) -> Vec<Action> {
        let chosen = |config| Some((config, select(config, &self.tried, self.slots.state())?));
        let Some((config, choice)) = self.config.as_ref().and_then(chosen) else {
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
        let chance = self.began_us.saturating_add(self.retries.into());
        let boot = Boot {
            account: (self.slots).account(choice.entry.slot.as_ref(), choice.why, self.is_test, chance),
            passed_over: self.slots.passed_over(choice.entry.slot.as_ref()),
            watchdog: config.watchdog,
            trial: config.slots.trial,
            is_test: self.is_test,
            unbind: config.unbind.clone(),
            purgatory: config.purgatory.clone(),
            choice,
            began_us: self.began_us,
            late: self.late.clone(),
        };
        vec![log, Action::Give(Job::Boot(Box::new(boot)))]
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
                    let mut actions = vec![Action::Log(Step::Jump.label(), "reboot(KEXEC)".to_owned())];
                    let timeout = self.config.as_ref().and_then(|config| config.watchdog);
                    actions.extend(timeout.map(Action::HandOff));
                    actions.push(Action::Go);
                    actions
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
                self.was_late(&name);
                Vec::new()
            }
            Event::Said(Message::Accounted(stored)) => {
                self.slots.saved(*stored);
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
        let loaded = at.step >= Step::Kexec;
        // Some machines take a load only the second time.
        let may_help = !matches!(failure.cause, Cause::Refused | Cause::Crash | Cause::Timeout);
        if at.step == Step::Kexec && may_help && self.again.as_ref() != Some(&at.entry) {
            (self.again, self.is_paused) = (Some(at.entry.clone()), true);
            let pause = deadlines::LOAD_AGAIN.as_secs();
            let text = format!("entry {:?}: {failure}; trying once more in {pause} s", at.entry);
            return self.stop(now, Action::Log("entry", text), loaded, gone);
        }
        // A write that never comes back: a good slot is booted without it.
        if at.step == Step::Account && failure.cause == Cause::Timeout && !self.slots.is_stuck() {
            self.slots.not_saved(true);
            let text = format!("entry {:?}: {failure}; trying once more, without writing", at.entry);
            return self.stop(now, Action::Log("entry", text), loaded, gone);
        }
        if at.step == Step::Account {
            // What needs to be written down as much is no better: no bad slot takes its place.
            self.tried.all_failed = false;
        }
        self.tried.failed.push(at.entry.clone());
        if let Some(slot) = self.config.as_ref().and_then(|c| c.entry(&at.entry)?.slot.as_ref()) {
            self.slots.failed(slot, &at.entry, at.step, failure.cause, now);
        }
        let is_machines = failure.cause.is_machines();
        if let (true, Some(config)) = (is_machines, &self.config) {
            self.tried.failed.extend(config.order.iter().cloned());
        }
        let next = self
            .config
            .as_ref()
            .and_then(|c| select(c, &self.tried, self.slots.state()));
        let next = match next {
            Some(choice) => format!("trying {:?}", choice.entry.name),
            None if is_machines => format!(
                "no other entry can do better, trying again in {} s",
                self.retry().as_secs()
            ),
            None => format!("no entry left, trying again in {} s", self.retry().as_secs()),
        };
        let log = Action::Log("entry", format!("entry {:?}: {failure}; {next}", at.entry));
        self.stop(now, log, loaded, gone)
    }

    /// Gets the worker out of the way.
    fn stop(&mut self, now: Millis, log: Action, loaded: bool, gone: bool) -> Vec<Action> {
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
        if let Some(kept) = self.slots.unsaved() {
            actions.push(self.ask(now, Question::Keep(Box::new(kept)), loaded));
        } else if loaded {
            actions.push(self.ask(now, Question::Unload, false));
        } else {
            actions.extend(self.go_on(now));
        }
        actions
    }

    /// The next entry, or the same again after a pause.
    fn go_on(&mut self, now: Millis) -> Vec<Action> {
        if std::mem::take(&mut self.is_paused) {
            let until = after(now, deadlines::LOAD_AGAIN);
            return self.stay(Phase::Pause { until });
        }
        self.boot_next(now)
    }

    /// Longer each time: what did not help after a minute may after an hour, and until then the machine is not worn out.
    fn retry(&self) -> Duration {
        let Some(config) = &self.config else {
            return deadlines::RETRY_WITHOUT_CONFIG;
        };
        let first = config.console.retry;
        let factor = 2_u32.saturating_pow(self.retries);
        first.saturating_mul(factor).min(deadlines::LONGEST_RETRY.max(first))
    }

    /// Waits for a key or the timer, and begins anew then: whoever is there may have repaired what did not work.
    fn prompt(&mut self, now: Millis, why: &str) -> Vec<Action> {
        self.tried = Tried {
            all_failed: true,
            ..Tried::default()
        };
        self.late.clear();
        self.again = None;
        let retry = self.retry();
        self.phase = Phase::Prompt {
            retry: after(now, retry),
        };
        let keys = self.keys(why, retry);
        // Why it came to this, for whoever reads nothing but the end of the log.
        let known = self.slots.told().into_iter().map(|line| Action::Log("slots", line));
        known.chain([keys]).collect()
    }

    /// The line of the prompt.
    fn keys(&self, why: &str, left: Duration) -> Action {
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
            left.as_secs()
        );
        Action::Log("prompt", text)
    }

    /// Says again what there is to do. Whoever it was gets no more time: a line that babbles must not keep an unattended box here.
    fn again_at_prompt(&mut self, now: Millis, why: &str, retry: Millis) -> Vec<Action> {
        let left = Duration::from_millis(retry.saturating_sub(now));
        self.phase = Phase::Prompt { retry };
        vec![self.keys(why, left)]
    }

    fn at_prompt(&mut self, now: Millis, event: &Event, retry: Millis) -> Vec<Action> {
        match event {
            Event::Key(b'b') => {
                let log = Action::Log("prompt", "rebooting".to_owned());
                vec![log, self.ask(now, Question::Reboot, false)]
            }
            Event::Key(b'r') if self.config.is_some() => {
                self.retries = 0;
                self.boot_next(now)
            }
            Event::Key(key @ b'1'..=b'9') => {
                let picked = usize::from(key.saturating_sub(b'1'));
                match self.config.as_ref().and_then(|c| c.entries.get(picked)) {
                    Some(entry) => {
                        self.retries = 0;
                        self.tried.picked = Some(entry.name.clone());
                        self.boot_next(now)
                    }
                    None => self.again_at_prompt(now, "no such entry", retry),
                }
            }
            Event::Key(b'\r' | b'\n' | b'?') if now < retry => self.again_at_prompt(now, "waiting", retry),
            _ if now >= retry && self.config.is_none() => Self::reset("there is no valid boot.toml"),
            _ if now >= retry => {
                self.retries = self.retries.saturating_add(1);
                self.boot_next(now)
            }
            // Any other key is noise: it must not keep an unattended box here.
            _ => self.stay(Phase::Prompt { retry }),
        }
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "model_tests.rs"]
mod model_tests;
