//! What has to be known, and a child looks for: before the first entry, and after one that failed.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Action, Event, Looking, Millis, Phase, Policy, after};
use crate::cause::{Cause, Failure};
use crate::deadlines;
use crate::menu::Command;
use crate::menu::view::Told;
use crate::state::Reset;
use crate::state::slots::Rules;
use crate::worker::message::{Answer, Job, Lent, Message, Question};

/// A child looks for the answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asking {
    question: Question,
    pub(super) until: Millis,
    /// Whatever its signs of life.
    latest: Millis,
    then: Then,
    /// The text that is the answer, as far as it has come.
    told: Vec<Told>,
}

/// What comes after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The boot goes on. What an earlier worker may have loaded is dropped first.
    Boot { loaded: bool },
    /// Somebody chooses what is next, until the timer runs out.
    Prompt { retry: Millis },
}

impl Asking {
    /// The console that the child has for it.
    pub(super) fn lent(&self) -> Option<&str> {
        match &self.question {
            Question::Lend(loan) => Some(&loan.tty),
            _ => None,
        }
    }

    /// It is a part of a boot.
    pub(super) fn is_boot(&self) -> bool {
        matches!(self.then, Then::Boot { .. })
    }
}

/// The most rows of a text, and bytes of them all: they come from a child.
const MOST_TOLD: (usize, usize) = (2000, 128 * 1024);

fn take(told: &mut Vec<Told>, row: Told) {
    let bytes: usize = told.iter().map(|row| row.text.len()).sum();
    if told.len() < MOST_TOLD.0 && bytes < MOST_TOLD.1 {
        told.push(row);
    }
}

/// What is asked on the way to a boot, for the timeline.
fn name(question: &Question) -> &'static str {
    match question {
        Question::LastJump(_) => "the reason of the last reset",
        Question::Watchdog => "watchdogs",
        Question::State => "finding the state",
        Question::LastWords(_) => "last words of a kernel",
        Question::Keep(_) => "writing the state",
        Question::Unload => "dropping a loaded image",
        _ => "",
    }
}

/// How long the answer may take; a file that comes, after each sign of life.
fn limit(question: &Question) -> Duration {
    match question {
        Question::LastJump(_) => deadlines::REASON,
        Question::Watchdog => deadlines::WATCHDOG,
        Question::State => deadlines::STATE,
        Question::LastWords(_) | Question::Keep(_) => deadlines::ACCOUNT,
        Question::Unload => deadlines::UNLOAD,
        Question::Reboot | Question::PowerOff => deadlines::REBOOT,
        Question::Machine => deadlines::SUMMARY,
        Question::Plan(_) => deadlines::PLAN,
        Question::Files { .. } => deadlines::FILES,
        Question::Lend(loan) if loan.what == Lent::Shell => deadlines::SHELL,
        Question::Lend(_) => deadlines::TRANSFER,
        Question::Password { .. } => deadlines::PASSWORD,
    }
}

/// Why there is no such answer.
pub(super) fn words(answer: Result<Answer, Failure>) -> String {
    match answer {
        Ok(_) => "unexpected answer from the child process".to_owned(),
        Err(Failure { text, .. }) => text,
    }
}

fn words_lost(failure: &Failure) -> Action {
    let text = format!("warning: a kernel's last words can't be kept: {failure}");
    Action::Log("slots", text)
}

impl Policy {
    /// Has a child look for the answer.
    pub(super) fn ask(&mut self, now: Millis, question: Question, then: Then) -> Action {
        self.phase = Phase::Asking(Asking {
            question: question.clone(),
            until: after(now, limit(&question)),
            latest: after(now, limit(&question).max(deadlines::TRANSFERS)),
            then,
            told: Vec::new(),
        });
        if matches!(then, Then::Boot { .. }) {
            self.took(now, name(&question));
        }
        Action::Give(Job::Ask(question))
    }

    pub(super) fn asking(&mut self, now: Millis, event: Event, mut asking: Asking) -> Vec<Action> {
        let answer = match event {
            Event::Said(Message::Answer(answer)) => Ok(answer),
            Event::Said(Message::Fail(failure)) => Err(failure),
            // It became the shell, which has ended.
            Event::Gone(_) if matches!(&asking.question, Question::Lend(loan) if loan.what == Lent::Shell) => {
                Ok(Answer::Done)
            }
            // Somebody at another console, for nobody may be at this one any more.
            Event::Wants(Command::Stop) if asking.lent().is_some() => {
                Err(Failure::new(Cause::Timeout, "stopped from another console"))
            }
            Event::Gone(exit) => {
                let text = format!("the child process ended without an answer ({exit})");
                Err(Failure::new(Cause::Crash, text))
            }
            Event::NotStarted(why) => {
                let text = format!("can't start a child process: {why}");
                Err(Failure::new(Cause::Io, text))
            }
            Event::Tick | Event::Wants(_) | Event::Asks(_) | Event::Config(_) if now >= asking.until => {
                let text = format!("no answer within {} s", limit(&asking.question).as_secs());
                Err(Failure::new(Cause::Timeout, text))
            }
            Event::Said(Message::Told(row)) => {
                take(&mut asking.told, row);
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(Message::Progress(_)) if asking.lent().is_some() => {
                asking.until = after(now, limit(&asking.question)).min(asking.latest);
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(Message::Say(text)) => {
                if let Question::LastWords(_) = asking.question {
                    self.heard(&text);
                }
                let label = match asking.question {
                    Question::Watchdog => "watchdog",
                    Question::Plan(_) => "plan",
                    Question::Files { .. } => "prompt",
                    _ if asking.lent().is_some() => "prompt",
                    _ => "slots",
                };
                self.phase = Phase::Asking(asking);
                return vec![Action::Log(label, text)];
            }
            Event::Said(Message::Late(name)) => {
                self.was_late(&name);
                return self.stay(Phase::Asking(asking));
            }
            Event::Said(_) | Event::Tick | Event::Wants(_) | Event::Asks(_) | Event::Config(_) => {
                return self.stay(Phase::Asking(asking));
            }
        };
        // One that hangs, or failed, is not asked again; nobody waits for its end.
        let mut actions = Vec::new();
        if answer.is_err() {
            actions.extend([Action::Kill, Action::Abandon]);
        }
        actions.extend(self.answered(now, asking, answer));
        actions
    }

    /// Whatever comes of a question, the boot goes on, until the image of a dead worker is to be dropped.
    fn answered(&mut self, now: Millis, asking: Asking, answer: Result<Answer, Failure>) -> Vec<Action> {
        let Asking {
            question, then, told, ..
        } = asking;
        // What is written down takes nobody's time, and a wrong password gives none.
        let is_theirs = match question {
            Question::Keep(_) => false,
            Question::Password { .. } => matches!(answer, Ok(Answer::Fits(true))),
            _ => true,
        };
        let mut actions = match question {
            Question::Watchdog => self.watchdog_bound(answer),
            Question::LastJump(_) => self.last_jump(answer),
            Question::State => self.state_found(now, answer),
            Question::Keep(kept) => self.state_kept(&kept.device, answer),
            Question::LastWords(_) => answer.err().iter().map(words_lost).collect(),
            Question::Unload => return self.unloaded(now, answer),
            Question::Reboot | Question::PowerOff => {
                return Self::reset(&format!("reboot(2) failed: {}", words(answer)));
            }
            Question::Password { .. } => vec![self.password_checked(now, answer)],
            Question::Machine | Question::Files { .. } | Question::Plan(_) => match answer {
                Ok(Answer::Done) => vec![Action::Show(told)],
                other => vec![Action::Show(vec![words(other).into()])],
            },
            // Whoever was there may have changed it.
            Question::Lend(loan) if loan.what == Lent::Shell && self.slots.may_have_changed() => {
                let mut actions = Self::line_over(&loan.tty, answer);
                actions.push(self.ask(now, Question::State, then));
                return actions;
            }
            Question::Lend(loan) if loan.what == Lent::Receive => self.received(&loan.tty, answer),
            Question::Lend(loan) => Self::line_over(&loan.tty, answer),
        };
        actions.extend(match then {
            // Whoever has asked has the time to read it; whoever has not said the password has none.
            Then::Prompt { retry } if is_theirs => {
                let retry = retry.max(after(now, self.console.menu_timeout));
                self.stay(Phase::Prompt { retry })
            }
            Then::Prompt { retry } => self.stay(Phase::Prompt { retry }),
            Then::Boot { .. } if self.opening.is_some() => self.open_next(now),
            Then::Boot { loaded } => self.clear(now, loaded, Vec::new()),
        });
        actions
    }

    fn password_checked(&mut self, now: Millis, answer: Result<Answer, Failure>) -> Action {
        let why = match answer {
            Ok(Answer::Fits(true)) => {
                self.denials = 0;
                return Action::Admit(Ok(()));
            }
            Ok(Answer::Fits(false)) => "That is not the password.".to_owned(),
            other => format!("The password can't be checked: {}.", words(other)),
        };
        let wait = deadlines::DENIAL.saturating_mul(2_u32.saturating_pow(self.denials));
        self.denials = self.denials.saturating_add(1);
        self.password_from = after(now, wait.min(deadlines::LONGEST_DENIAL));
        Action::Admit(Err(why))
    }

    fn watchdog_bound(&mut self, answer: Result<Answer, Failure>) -> Vec<Action> {
        if let Ok(Answer::Watchdog(reset)) = answer {
            self.slots.reset = self.trusted(reset);
        }
        let problem = answer.err().map(|failure| format!("warning: its driver: {failure}"));
        let problem = problem.map(|text| Action::Log("watchdog", text));
        problem.into_iter().chain([Action::Arm]).collect()
    }

    /// Many a board's watchdog resets it by switching the power off and on: there, the firmware's word for that is no power cut.
    fn trusted(&self, reset: Reset) -> Reset {
        let is_watched = self.config.as_ref().is_some_and(|config| config.watchdog.is_some());
        match reset {
            Reset::PowerOn if is_watched => Reset::Unknown,
            other => other,
        }
    }

    fn last_jump(&mut self, answer: Result<Answer, Failure>) -> Vec<Action> {
        let (said, was_off) = match answer {
            Ok(Answer::LastJump(said, was_off)) => (said, was_off),
            other => {
                // What the child could not say itself.
                let advice = match &other {
                    Err(Failure {
                        cause: Cause::Crash | Cause::Timeout,
                        ..
                    }) => "; change or remove `reason` in boot.toml",
                    _ => "",
                };
                let text = format!("[purgatory] reason: {}{advice}", words(other));
                return vec![Action::Log("warning", text)];
            }
        };
        if was_off == Some(true) && self.slots.reset == Reset::Unknown {
            self.slots.reset = Reset::PowerOn;
        }
        if said.is_some() {
            self.slots.reset = Reset::Purgatory;
        }
        said.into_iter().map(|text| Action::Log("purgatory", text)).collect()
    }

    fn state_found(&mut self, now: Millis, answer: Result<Answer, Failure>) -> Vec<Action> {
        if self.slots.known().is_some() {
            let line = match answer {
                Ok(Answer::State(found)) => self.slots.read_again(*found),
                other => Some(format!("warning: the state can't be read again: {}", words(other))),
            };
            return line.into_iter().map(|line| Action::Log("slots", line)).collect();
        }
        let rules = self.config.as_ref().map(Rules::of).unwrap_or_default();
        let lines = match answer {
            Ok(Answer::State(mut found)) => {
                found.reset = self.trusted(found.reset);
                // What is there and can't be read is not found again by looking for it.
                if !found.device.is_empty() {
                    self.looking = Looking::Done;
                }
                self.slots.know(&rules, now, *found, self.began_us)
            }
            other => {
                self.looking = Looking::Never;
                self.slots.do_without(&rules, now, &words(other), self.began_us)
            }
        };
        self.tried.suspect = self.slots.suspect.take();
        // What comes now may be the end of the service Linux itself: it has to leave a trace.
        self.ask_first(match self.slots.unsaved() {
            Some(kept) => Question::Keep(Box::new(kept)),
            None => Question::LastWords(None),
        });
        lines.into_iter().map(|line| Action::Log("slots", line)).collect()
    }

    fn state_kept(&mut self, device: &str, answer: Result<Answer, Failure>) -> Vec<Action> {
        let problem = match answer {
            Ok(Answer::Kept(stored, other)) => {
                self.slots.saved(*stored);
                other.map(|error| format!("{device}: only one copy of the state is written: {error}"))
            }
            other => {
                let is_stuck = matches!(&other, Err(failure) if failure.cause == Cause::Timeout);
                self.slots.not_saved(is_stuck);
                Some(format!("the state can't be written: {}", words(other)))
            }
        };
        // A disk that does not come back is not written to again: they stay where they are until the next start.
        if !self.slots.is_stuck() {
            self.ask_first(Question::LastWords(Some(device.to_owned())));
        }
        problem.into_iter().map(|text| Action::Log("warning", text)).collect()
    }

    fn unloaded(&mut self, now: Millis, answer: Result<Answer, Failure>) -> Vec<Action> {
        match answer {
            Ok(Answer::Done) => self.go_on(now),
            Err(Failure { cause: Cause::Busy, .. }) => Self::reset(
                "kexec is locked by a call that oopsed or never returned, so nothing can be loaded any more \
                 (if the service kernel is 6.12 on a CPU with 52-bit addresses: add arm64.nolva to its command line)",
            ),
            other => Self::reset(&format!("can't unload the kexec image: {}", words(other))),
        }
    }

    /// This is to be known next, before the first entry is tried; afterwards it is too late for it.
    fn ask_first(&mut self, question: Question) {
        if let Some(opening) = &mut self.opening {
            opening.push_front(question);
        }
    }

    /// Everything that has to be known before the first entry is tried, the watchdog first.
    pub(super) fn open(&mut self, now: Millis) -> Vec<Action> {
        if let Some(config) = &self.config {
            let watchdog = config.watchdog.map(|_| Question::Watchdog);
            let reason = config.purgatory.reason.map(Question::LastJump);
            let state = self.lacks_state().then_some(Question::State);
            self.opening = Some([watchdog, reason, state].into_iter().flatten().collect());
        }
        self.open_next(now)
    }

    pub(super) fn open_next(&mut self, now: Millis) -> Vec<Action> {
        if let Some(question) = self.opening.as_mut().and_then(VecDeque::pop_front) {
            return vec![self.ask(now, question, Then::Boot { loaded: false })];
        }
        self.opening = None;
        self.start(now)
    }
}
