//! What PID 1 decides: a state and an event make the next state and a list of actions. Pure; time is milliseconds since
//! boot and comes in from outside.
//!
//! The order of last resorts: next entry, the prompt's timer, sysrq-b, `reboot(2)`, the watchdog.

use std::collections::VecDeque;
use std::time::Duration;

use config::{Access, Config, Console, SlotName};

use crate::cause::{Cause, Failure};
use crate::deadlines;
use crate::menu::view::Told;
use crate::menu::{Command, how_to_stop};
use crate::select::{Choice, Tried, select};
use crate::state::Reset;
use crate::step::Step;
use crate::text::cut;
use crate::worker::message::{Boot, Job, Message, Question, Received};

mod asking;
mod line;
mod prompt;

use super::event::Exit;
pub(super) use super::event::{Action, Event, Millis};
use super::slots::Slots;
use asking::{Asking, Then};

/// A worker boots an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Booting {
    entry: String,
    step: Step,
    /// What the step may take, and when that is over.
    limit: Duration,
    until: Millis,
    /// The same for all of the entry.
    whole: Duration,
    latest: Millis,
}

impl Booting {
    /// The step has this time from now on.
    fn has(&mut self, now: Millis, limit: Duration) {
        (self.limit, self.until) = (limit, after(now, limit));
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing has happened yet.
    New,
    Asking(Asking),
    /// It may be stopped.
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
    /// Somebody may choose.
    Prompt {
        retry: Millis,
    },
    /// [`Action::Reset`] was given.
    Over,
}

/// What is done about a state that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// A worker that sees it says so.
    May,
    /// One has: it is looked for before the next entry is chosen.
    Next,
    /// It was, or is there and can't be read: not before everything is tried anew.
    Done,
    /// It did not answer.
    Never,
}

/// PID 1's mind.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    config: Option<Config>,
    /// What it says of the console, or what holds without one.
    console: Console,
    /// When PID 1 started, microseconds since boot. The last digits are chance.
    began_us: u64,
    tried: Tried,
    /// What is still to be asked before the first entry is tried; none when that is over.
    opening: Option<VecDeque<Question>>,
    /// Somebody wants to choose what is next, as soon as that can be.
    is_stopped: bool,
    /// Why somebody chooses, or is waited for.
    why: String,
    /// Why entries were not booted, each one's last, since everything was tried anew.
    failures: Vec<(String, String)>,
    /// The command line of the next boot of that entry, as somebody has changed it.
    edited: Option<(String, String)>,
    /// The entry whose load failed, and gets or had its second try.
    again: Option<String>,
    /// That try is still to come.
    is_paused: bool,
    /// How often the prompt's timer ran out since somebody chose what is booted; none until it does.
    retries: Option<u32>,
    /// What a kernel said as it died, before this start.
    last_words: Vec<String>,
    /// What this start did, and when each of it began.
    timeline: VecDeque<(Millis, String)>,
    /// Files that have come over a serial line.
    received: Vec<Received>,
    /// Wrong passwords since the last right one, and when the next one is looked at.
    denials: u32,
    password_from: Millis,
    /// Devices that did not answer to a worker.
    late: Vec<String>,
    /// What is known of the slots.
    slots: Slots,
    /// Whether a state that was not found is looked for again.
    looking: Looking,
    /// The service command line asks for a test of the watchdog.
    is_test: bool,
    /// When watchdogs are fed next.
    feed: Millis,
    phase: Phase,
}

/// Why somebody chooses, where it is because everything has failed.
const NOTHING_LEFT: &str = "no entry left";
/// The same where they want to.
const STOPPED: &str = "stopped at the console";

/// Most rows of the timeline, and of a kernel's last words.
const MOST_TIMES: usize = 200;
const MOST_HEARD: usize = 40;

/// Most devices that are remembered, and bytes of each one's name: they come from a worker.
const MOST_LATE: (usize, usize) = (64, 128);

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

fn after(now: Millis, duration: Duration) -> Millis {
    now.saturating_add(millis(duration))
}

impl Policy {
    /// With a config, or without one when it was bad: then the prompt's timer resets the machine. `began_us` is when
    /// PID 1 started, microseconds since boot.
    pub(super) fn new(config: Option<Config>, began_us: u64) -> Self {
        Self {
            console: config.as_ref().map(|config| config.console.clone()).unwrap_or_default(),
            config,
            began_us,
            tried: Tried::default(),
            opening: None,
            is_stopped: false,
            why: String::new(),
            failures: Vec::new(),
            edited: None,
            again: None,
            is_paused: false,
            retries: Some(0),
            last_words: Vec::new(),
            timeline: VecDeque::new(),
            received: Vec::new(),
            denials: 0,
            password_from: 0,
            late: Vec::new(),
            slots: Slots::default(),
            looking: Looking::May,
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

    /// The console that a child has.
    pub(super) fn lent(&self) -> Option<&str> {
        match &self.phase {
            Phase::Asking(asking) => asking.lent(),
            _ => None,
        }
    }

    /// Something begins.
    fn took(&mut self, now: Millis, what: impl Into<String>) {
        if self.timeline.len() >= MOST_TIMES {
            self.timeline.pop_front();
        }
        self.timeline.push_back((now, what.into()));
    }

    /// What this start did, and how long each of it took, as far as it is remembered.
    fn timeline(&self, now: Millis) -> Vec<Told> {
        let ends = self.timeline.iter().skip(1).map(|(at, _)| *at).chain([now]);
        let row = |((at, what), end): (&(Millis, String), Millis)| {
            let took = end.saturating_sub(*at);
            let seconds = |ms: Millis| format!("{}.{:03}", ms / 1000, ms % 1000);
            format!("{:>10}  +{:<9} {what}", seconds(*at), seconds(took)).into()
        };
        let head = "  at, in s  for, in s  since the service kernel started".to_owned();
        [head.into()]
            .into_iter()
            .chain(self.timeline.iter().zip(ends).map(row))
            .collect()
    }

    /// A kernel's last words.
    fn heard(&mut self, text: &str) {
        if self.last_words.len() < MOST_HEARD {
            self.last_words.push(text.to_owned());
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
        // Heard whenever it comes, but obeyed only where it can be.
        let is_boot = match &self.phase {
            Phase::New | Phase::Stopping { .. } => true,
            Phase::Asking(asking) => asking.is_boot(),
            _ => false,
        };
        self.is_stopped |= is_boot && event == Event::Wants(Command::Stop);
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New => {
                self.took(self.began_us / 1000, "PID 1 starts");
                self.open(now)
            }
            Phase::Asking(asking) => self.asking(now, event, asking),
            Phase::Countdown { until } => match event {
                Event::Wants(_) => self.prompt(now, STOPPED),
                _ if now >= until => self.boot_next(now),
                _ => self.stay(Phase::Countdown { until }),
            },
            Phase::Booting(booting) => self.booting(now, event, booting),
            Phase::Pause { .. } if event == Event::Wants(Command::Stop) => self.prompt(now, STOPPED),
            Phase::Pause { until } if now >= until => self.boot_next(now),
            Phase::Pause { until } => self.stay(Phase::Pause { until }),
            Phase::Stopping { until, loaded } => match event {
                Event::Gone(_) => self.clear(now, loaded, Vec::new()),
                _ if now >= until => {
                    let text = "the worker can't be killed: it is stuck in the kernel".to_owned();
                    self.clear(now, loaded, vec![Action::Log("last-resort", text), Action::Abandon])
                }
                // What it had said before it heard of it.
                Event::Said(Message::Step(step)) if step >= Step::Kexec => {
                    self.stay(Phase::Stopping { until, loaded: true })
                }
                Event::Said(Message::Accounted(stored)) => {
                    self.slots.saved(*stored);
                    self.stay(Phase::Stopping { until, loaded })
                }
                _ => self.stay(Phase::Stopping { until, loaded }),
            },
            Phase::Prompt { retry } => self.at_prompt(now, event, retry),
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
        if std::mem::take(&mut self.is_stopped) {
            return self.prompt(now, STOPPED);
        }
        if self.is_test {
            // Many drivers can't tell afterwards.
            let hint = "wdtest: the main system is to be reset by the watchdog; coming back to this line means that it was, where no \
                        driver says so";
            let mut actions = vec![Action::Log("watchdog", hint.to_owned())];
            actions.extend(self.boot_next(now));
            return actions;
        }
        // Where nobody can stop it, nobody waits for that.
        if countdown.is_zero() || config.console.access == Access::Locked {
            return self.boot_next(now);
        }
        self.took(now, "countdown");
        self.phase = Phase::Countdown {
            until: after(now, countdown),
        };
        let how = how_to_stop(&self.console.stop);
        let text = format!("{how} within {} s to stop", countdown.as_secs());
        vec![Action::Log("prompt", text)]
    }

    fn boot_next(&mut self, now: Millis) -> Vec<Action> {
        let chosen = |config| select(config, &self.tried, self.slots.state());
        let Some(mut choice) = self.config.as_ref().and_then(chosen) else {
            return match self.tried.picked.take() {
                Some(entry) => self.prompt(now, &format!("entry {entry:?} could not be booted")),
                None => self.prompt(now, NOTHING_LEFT),
            };
        };
        if let Some((entry, cmdline)) = &self.edited
            && *entry == choice.entry.name
        {
            choice.entry.cmdline.clone_from(cmdline);
        }
        let begun = now.saturating_sub(*self.tried.since.get_or_insert(now));
        let whole = deadlines::entry(Duration::from_millis(begun));
        self.is_stopped = false;
        self.took(now, format!("entry {:?}: {}", choice.entry.name, Step::Select));
        let (entry, title) = (&choice.entry.name, &choice.entry.title);
        let log = Action::Log(
            Step::Select.label(),
            format!("entry {entry:?} ({title}), {}", choice.why),
        );
        self.phase = Phase::Booting(Booting {
            entry: entry.clone(),
            step: Step::Select,
            limit: deadlines::step(Step::Select),
            until: after(now, deadlines::step(Step::Select)),
            whole,
            latest: after(now, whole),
        });
        let boot = self.boot(choice).map(|boot| Action::Give(Job::Boot(Box::new(boot))));
        [log].into_iter().chain(boot).collect()
    }

    /// What a worker has to know for that; there is a config where there is a choice.
    fn boot(&self, choice: Choice) -> Option<Boot> {
        let config = self.config.as_ref()?;
        let chance = self.began_us.saturating_add(self.retries.unwrap_or_default().into());
        Some(Boot {
            account: (self.slots).account(choice.entry.slot.as_ref(), choice.why, self.is_test, chance),
            lacks_state: self.lacks_state() && self.looking == Looking::May,
            passed_over: self.passed_over(config, choice.entry.slot.as_ref()),
            watchdog: config.watchdog,
            trial: config.slots.trial,
            is_test: self.is_test,
            unbind: config.unbind.clone(),
            purgatory: config.purgatory.clone(),
            choice,
            began_us: self.began_us,
            late: self.late.clone(),
        })
    }

    /// Whether a state is wanted that is not known, and may be looked for.
    fn lacks_state(&self) -> bool {
        let has_slots = |config: &Config| !config.slot_names().is_empty();
        self.config.as_ref().is_some_and(has_slots) && self.slots.known().is_none() && self.looking != Looking::Never
    }

    /// Looks for a state that was not found, and chooses an entry then.
    fn look_again(&mut self, now: Millis) -> Vec<Action> {
        vec![self.ask(now, Question::State, Then::Boot { loaded: false })]
    }

    /// The slot that was preferred to this one and failed, in this start or before it: for whoever updates the machine.
    fn passed_over(&self, config: &Config, slot: Option<&SlotName>) -> Option<String> {
        let of = |entry: &str| config.entry(entry)?.slot.as_ref();
        let now = self.failures.iter().find_map(|(entry, why)| {
            let failed = of(entry).filter(|failed| Some(*failed) != slot)?;
            Some(format!("slot {failed}: {why}"))
        });
        now.or_else(|| self.slots.passed_over(slot))
    }

    fn booting(&mut self, now: Millis, event: Event, mut at: Booting) -> Vec<Action> {
        let again = |at: &mut Booting, step| {
            if at.step == step {
                at.has(now, deadlines::step(step));
            }
        };
        let actions = match event {
            Event::Said(Message::Step(next)) => {
                at.step = next;
                at.has(now, deadlines::step(next));
                if next != Step::Select {
                    self.took(now, format!("entry {:?}: {next}", at.entry));
                }
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
            Event::Said(Message::Copying) => {
                if at.step == Step::Kexec {
                    at.has(now, deadlines::COPY);
                }
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
            // Its disk was late: what was chosen without it may be the wrong one.
            Event::Said(Message::StateIsThere) if self.lacks_state() && self.looking == Looking::May => {
                self.looking = Looking::Next;
                let text = format!("entry {:?}: the state is there now; choosing again", at.entry);
                return self.stop(now, Action::Log("entry", text), false, false);
            }
            Event::Said(Message::Fail(failure)) => return self.failed(now, &at, &failure, false),
            Event::Gone(exit) => {
                let likely = match exit {
                    Exit::Signal(9) => ": the service kernel ended it, most likely for want of memory",
                    _ if at.step == Step::Kexec => ": the service kernel probably oopsed in kexec_load",
                    _ => "",
                };
                let text = format!("the worker died in step {} ({exit}){likely}", at.step);
                return self.failed(now, &at, &Failure::new(Cause::Crash, text), true);
            }
            Event::NotStarted(why) => {
                let text = format!("can't start the worker: {why}");
                return self.failed(now, &at, &Failure::new(Cause::Io, text), true);
            }
            // Not once the attempt is being written down: it would count.
            Event::Wants(Command::Stop) if at.step < Step::Account => {
                self.is_stopped = true;
                let log = Action::Log("entry", format!("entry {:?}: {STOPPED}", at.entry));
                return self.stop(now, log, at.step >= Step::Kexec, false);
            }
            Event::Tick | Event::Wants(_) | Event::Asks(_) | Event::Config(_) if now >= at.until.min(at.latest) => {
                // A second reboot(2) would wait for the first one's mutex, and so would a kexec call.
                if at.step == Step::Jump {
                    let (entry, s) = (&at.entry, at.limit.as_secs());
                    return Self::reset(&format!("entry {entry:?}: reboot(KEXEC) did not jump within {s} s"));
                }
                let spent = if now >= at.latest { at.whole } else { at.limit };
                let text = format!("step {} did not end within {} s", at.step, spent.as_secs());
                return self.failed(now, &at, &Failure::new(Cause::Timeout, text), false);
            }
            Event::Said(Message::Answer(_) | Message::Told(_) | Message::StateIsThere)
            | Event::Tick
            | Event::Wants(_)
            | Event::Asks(_)
            | Event::Config(_) => Vec::new(),
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
        self.failures.retain(|(entry, _)| *entry != at.entry);
        self.failures.push((at.entry.clone(), failure.to_string()));
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
                self.pause().as_secs()
            ),
            None => format!("no entry left, trying again in {} s", self.pause().as_secs()),
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
            actions.push(self.ask(now, Question::Keep(Box::new(kept)), Then::Boot { loaded }));
        } else if loaded {
            actions.push(self.ask(now, Question::Unload, Then::Boot { loaded: false }));
        } else {
            actions.extend(self.go_on(now));
        }
        actions
    }

    /// The next entry, or the same again after a pause.
    fn go_on(&mut self, now: Millis) -> Vec<Action> {
        if std::mem::take(&mut self.is_stopped) {
            self.is_paused = false;
            return self.prompt(now, STOPPED);
        }
        if self.looking == Looking::Next {
            self.looking = Looking::Done;
            return self.look_again(now);
        }
        if std::mem::take(&mut self.is_paused) {
            let until = after(now, deadlines::LOAD_AGAIN);
            return self.stay(Phase::Pause { until });
        }
        self.boot_next(now)
    }
}

#[cfg(test)]
mod tests;
