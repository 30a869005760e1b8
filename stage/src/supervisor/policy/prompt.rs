//! Where somebody chooses, because everything has failed or they want to; and a timer, for nobody may be there.

use std::time::Duration;

use config::Access;

use super::asking::Then;
use super::line;
use super::{Action, Event, Looking, Millis, NOTHING_LEFT, Phase, Policy, STOPPED, after};
use crate::deadlines;
use crate::menu::view::{EntryView, View, Wait};
use crate::menu::{Command, Topic, how_to_stop};
use crate::select::{Choice, Tried, Why, select};
use crate::worker::message::{Boot, Question};

impl Policy {
    /// Longer each time: what did not help after a minute may after an hour, and until then the machine is not worn out.
    pub(super) fn retry(&self) -> Duration {
        let Some(config) = &self.config else {
            return deadlines::RETRY_WITHOUT_CONFIG;
        };
        let first = config.console.retry;
        let factor = 2_u32.saturating_pow(self.retries.unwrap_or_default());
        first.saturating_mul(factor).min(deadlines::LONGEST_RETRY.max(first))
    }

    /// The same, but for whoever chose what has failed: they get the time to think.
    pub(super) fn pause(&self) -> Duration {
        match self.retries {
            None => self.retry().max(self.console.menu_timeout),
            Some(_) => self.retry(),
        }
    }

    /// Waits for somebody or the timer, and begins anew then: whoever is there may have repaired what did not work.
    pub(super) fn prompt(&mut self, now: Millis, why: &str) -> Vec<Action> {
        self.tried = Tried {
            all_failed: true,
            ..Tried::default()
        };
        self.late.clear();
        self.again = None;
        self.edited = None;
        self.is_stopped = false;
        self.took(now, format!("waiting at the console: {why}"));
        why.clone_into(&mut self.why);
        let wait = match why {
            // Somebody is there, and may have to say who.
            STOPPED if matches!(self.console.access, Access::Password(_)) => deadlines::LOGIN,
            STOPPED => self.console.menu_timeout,
            _ => self.pause(),
        };
        let retry = after(now, wait);
        self.phase = Phase::Prompt { retry };
        let alone = self.alone();
        let how = match self.console.access {
            Access::Locked => "the console is locked".to_owned(),
            _ => format!("{} for the menu", how_to_stop(&self.console.stop)),
        };
        let text = format!("{why}; {alone} by itself in {} s; {how}", wait.as_secs());
        // Why it came to this, for whoever reads nothing but the end of the log.
        let known = self.slots.told().into_iter().map(|line| Action::Log("slots", line));
        let mut actions: Vec<Action> = known.chain([Action::Log("prompt", text)]).collect();
        if why == STOPPED {
            self.slots.stopped(now);
            // A reset from here on is not the slot's doing.
            let kept = self.slots.unsaved().map(|kept| Question::Keep(Box::new(kept)));
            actions.extend(kept.map(|kept| self.ask(now, kept, Then::Prompt { retry })));
        }
        actions
    }

    /// What happens where nobody is.
    fn alone(&self) -> &'static str {
        if self.config.is_some() {
            "trying again"
        } else {
            "resetting"
        }
    }

    /// Everything is tried anew; a state that was not found may be there now.
    fn try_again(&mut self, now: Millis) -> Vec<Action> {
        self.failures.clear();
        if self.lacks_state() {
            self.looking = Looking::May;
            return self.look_again(now);
        }
        self.boot_next(now)
    }

    pub(super) fn at_prompt(&mut self, now: Millis, event: Event, retry: Millis) -> Vec<Action> {
        let later = retry.max(after(now, self.console.menu_timeout));
        match event {
            Event::Wants(command) => return self.obey(now, command, retry),
            // A child gets the console that somebody is at.
            Event::Asks(loan) if self.may(&loan) => {
                let log = Action::Log("prompt", line::advice(&loan));
                return vec![log, self.ask(now, Question::Lend(loan), Then::Prompt { retry: later })];
            }
            Event::Config(config) => return self.configured(now, *config, later),
            _ => {}
        }
        if now < retry {
            return self.stay(Phase::Prompt { retry });
        }
        if self.config.is_none() {
            return Self::reset("there is no valid boot.toml");
        }
        // Nobody is there any more.
        let retries = self.retries.get_or_insert(0);
        if self.why != STOPPED {
            *retries = retries.saturating_add(1);
        }
        self.try_again(now)
    }

    fn obey(&mut self, now: Millis, command: Command, retry: Millis) -> Vec<Action> {
        let until = retry;
        // Whoever is there gets the time to think.
        let retry = retry.max(after(now, self.console.menu_timeout));
        match command {
            Command::Retry if self.config.is_some() => {
                self.retries = None;
                self.try_again(now)
            }
            Command::Boot { entry, cmdline, stays } => self.boot_picked(now, entry, cmdline, stays, retry),
            Command::Mark { slot, is_good } => {
                let log = Action::Log("slots", self.slots.mark(&slot, is_good, now));
                self.keep(now, log, Then::Prompt { retry })
            }
            Command::Reboot => {
                let log = Action::Log("prompt", "rebooting".to_owned());
                vec![log, self.ask(now, Question::Reboot, Then::Prompt { retry })]
            }
            Command::PowerOff => {
                let log = Action::Log("prompt", "switching off".to_owned());
                vec![log, self.ask(now, Question::PowerOff, Then::Prompt { retry })]
            }
            Command::Password(typed) => self.check_password(now, typed, until),
            Command::Plan(entry) => self.plan(now, &entry, retry),
            Command::Look(Topic::Machine) => vec![self.ask(now, Question::Machine, Then::Prompt { retry })],
            Command::Look(Topic::Timeline) => {
                self.phase = Phase::Prompt { retry };
                vec![Action::Show(self.timeline(now))]
            }
            Command::Browse(at) => self.look_at(now, at, retry),
            Command::Leave if self.why == STOPPED && self.config.is_some() => {
                self.retries.get_or_insert(0);
                self.try_again(now)
            }
            Command::Leave => {
                self.retries.get_or_insert(0);
                let wait = self.retry();
                self.phase = Phase::Prompt {
                    retry: after(now, wait),
                };
                let text = format!("left alone; {} by itself in {} s", self.alone(), wait.as_secs());
                vec![Action::Log("prompt", text)]
            }
            // Before the password there is nobody.
            Command::Stop if matches!(self.console.access, Access::Password(_)) => {
                self.stay(Phase::Prompt { retry: until })
            }
            Command::Stop | Command::Attend | Command::Retry | Command::Look(_) | Command::Lend(_) => {
                self.stay(Phase::Prompt { retry })
            }
        }
    }

    /// Whoever does not know it moves no timer.
    fn check_password(&mut self, now: Millis, typed: String, retry: Millis) -> Vec<Action> {
        let Access::Password(hash) = self.console.access.clone() else {
            return self.stay(Phase::Prompt { retry });
        };
        if now < self.password_from {
            let seconds = self.password_from.saturating_sub(now).div_ceil(1000);
            self.phase = Phase::Prompt { retry };
            return vec![Action::Admit(Err(format!("The next one is looked at in {seconds} s.")))];
        }
        vec![self.ask(now, Question::Password { typed, hash }, Then::Prompt { retry })]
    }

    fn plan(&mut self, now: Millis, entry: &str, retry: Millis) -> Vec<Action> {
        let known = self.config.as_ref().and_then(|config| config.entry(entry)).cloned();
        let choice = known.map(|entry| Choice {
            entry,
            why: Why::Picked,
        });
        let Some(boot) = choice.and_then(|choice| self.boot(choice)) else {
            self.phase = Phase::Prompt { retry };
            return vec![Action::Show(vec!["There is no such entry any more.".to_owned().into()])];
        };
        // It is only looked at.
        let boot = Boot {
            lacks_state: false,
            ..boot
        };
        vec![self.ask(now, Question::Plan(Box::new(boot)), Then::Prompt { retry })]
    }

    fn look_at(&mut self, now: Millis, at: String, retry: Millis) -> Vec<Action> {
        let late = self.late.clone();
        vec![self.ask(now, Question::Files { at, late }, Then::Prompt { retry })]
    }

    fn boot_picked(
        &mut self,
        now: Millis,
        entry: String,
        cmdline: Option<String>,
        stays: bool,
        retry: Millis,
    ) -> Vec<Action> {
        let Some(known) = self.config.as_ref().and_then(|config| config.entry(&entry)) else {
            return self.stay(Phase::Prompt { retry });
        };
        let slot = known.slot.clone().filter(|_| stays);
        self.retries = None;
        self.tried.picked = Some(entry.clone());
        self.edited = cmdline.map(|cmdline| (entry, cmdline));
        match slot {
            Some(slot) => {
                let log = Action::Log("slots", self.slots.prefer(&slot, now));
                self.keep(now, log, Then::Boot { loaded: false })
            }
            None => self.boot_next(now),
        }
    }

    /// Writes down what somebody has changed, where it can be.
    fn keep(&mut self, now: Millis, log: Action, then: Then) -> Vec<Action> {
        let mut actions = vec![log];
        match (self.slots.unsaved(), then) {
            (Some(kept), then) => actions.push(self.ask(now, Question::Keep(Box::new(kept)), then)),
            (None, Then::Prompt { retry }) => self.phase = Phase::Prompt { retry },
            (None, Then::Boot { .. }) => actions.extend(self.boot_next(now)),
        }
        actions
    }

    /// What PID 1 waits for, for the menu.
    pub(in crate::supervisor) fn waits(&self) -> Wait {
        match &self.phase {
            Phase::Countdown { until } => Wait::Countdown(*until),
            Phase::Prompt { retry } => Wait::Choice(*retry),
            _ => Wait::Child,
        }
    }

    /// What there is to see, for the menu.
    pub(in crate::supervisor) fn view(&self) -> View {
        let has_failed = !self.failures.is_empty() && self.why != STOPPED;
        let mut why = match self.why.as_str() {
            NOTHING_LEFT if has_failed => "Nothing could be booted".to_owned(),
            NOTHING_LEFT => "There is nothing to boot".to_owned(),
            why => why.to_owned(),
        };
        if let Some(first) = why.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        let fresh = Tried {
            all_failed: true,
            ..Tried::default()
        };
        let next = self
            .config
            .as_ref()
            .and_then(|config| select(config, &fresh, self.slots.state()));
        let entries = self.config.iter().flat_map(|config| &config.entries);
        let entries = entries.map(|entry| EntryView {
            name: entry.name.clone(),
            title: entry.title.clone(),
            cmdline: entry.cmdline.clone(),
            source: entry.source.to_string(),
            kernel: entry.kernel.clone(),
            slot: entry.slot.as_ref().map(ToString::to_string),
            condition: entry
                .slot
                .as_ref()
                .and_then(|slot| self.slots.known()?.slot(slot).cloned()),
            failure: self
                .failures
                .iter()
                .find(|(name, _)| *name == entry.name)
                .map(|(_, why)| why.clone()),
            is_next: next.as_ref().is_some_and(|next| next.entry.name == entry.name),
        });
        View {
            wait: self.waits(),
            why,
            has_failed,
            entries: entries.collect(),
            history: self
                .slots
                .known()
                .iter()
                .flat_map(|state| &state.events)
                .map(ToString::to_string)
                .chain(self.last_words.iter().cloned())
                .collect(),
            has_shell: false,
        }
    }
}
