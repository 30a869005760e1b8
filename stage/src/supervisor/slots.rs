//! What PID 1 knows of the slots during one start, and what it may do with it. Pure.
//!
//! Given what a child found, and what became of entries; responsible for the state that children write, and for the lines that
//! say what it means.

use config::SlotName;

use super::event::Millis;
use crate::cause::Cause;
use crate::select::Why;
use crate::state::slots::{Now, Refusal, Rules, Suspect};
use crate::state::store::Stored;
use crate::state::{Because, Condition, Event, EventKind, Reset, Slot, State};
use crate::step::Step;
use crate::worker::message::{Account, FoundState, FoundStored, Kept};

/// So many of the last events are shown at the prompt.
const SHOWN: usize = 6;

/// What is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots {
    /// The state, and where it is kept; none where no entry has a slot, or it can't be found.
    kept: Option<Kept>,
    /// It differs from what is on the disk.
    is_unsaved: bool,
    /// Writing it did not come back once: nobody waits for it again.
    is_stuck: bool,
    /// Stands in for the state where that can't be read: nothing of it is ever written.
    stand_in: Option<State>,
    /// Why the machine was reset last.
    pub(super) reset: Reset,
    /// The slot that is to come last in this start.
    pub(super) suspect: Option<Suspect>,
    /// The last start was a test of the watchdog.
    was_test: bool,
    /// What `boot.toml` says of them.
    rules: Rules,
    /// For what is written down: the kernel's version, and jumps since power-on.
    kernel: [u8; 2],
    kexecs: u16,
}

/// What an event is for whoever reads the log.
fn told(event: &Event) -> Option<String> {
    let slot = event.slot.as_ref().map(ToString::to_string).unwrap_or_default();
    match event.kind {
        EventKind::Failed(how) => Some(format!("slot {slot}: {how}")),
        EventKind::GivenUp(why) => Some(format!("slot {slot} is given up: {why}")),
        EventKind::Died(reset) => Some(format!("the last start booted nothing: {reset}")),
        EventKind::Reset(reset) => Some(format!("slot {slot} was marked good, and later {reset}")),
        EventKind::Cloned => {
            Some("the state is another machine's: its strikes and its last boot do not count".to_owned())
        }
        _ => None,
    }
}

/// `A (good), B (untested, 3 tries left)`
fn all(state: &State) -> String {
    let all: Vec<String> = state
        .slots
        .iter()
        .map(|slot| format!("{} ({slot})", slot.name))
        .collect();
    all.join(", ")
}

/// Which of so many slots has its turn; one more is what has no slot, where there is such.
fn turn(chance: u64, slots: usize, rules: &Rules) -> usize {
    let turns = slots.saturating_add(usize::from(rules.has_others));
    let turn = u64::try_from(turns).ok().and_then(|turns| chance.checked_rem(turns));
    turn.and_then(|turn| usize::try_from(turn).ok()).unwrap_or(0)
}

impl Slots {
    /// The state can't be read: nothing is counted. After a failure nothing remembers which system it was of, so `chance` decides
    /// whose turn it is: each slot's, or that of what has no slot.
    pub(super) fn do_without(&mut self, rules: &Rules, now: Millis, why: &str, chance: u64) -> Vec<String> {
        let mut state = State::lost(rules, self.moment(now, ""));
        let mut text = format!("warning: {why}; nothing is counted, and the slots are tried in the order of boot.toml");
        if self.reset.is_failure() {
            let turn = turn(chance, state.slots.len(), rules);
            if turn < state.slots.len() {
                state.slots.rotate_left(turn);
            } else {
                // After those.
                let bad = Condition::Bad(Because::Unproven);
                state.slots.iter_mut().for_each(|slot| slot.condition = bad);
            }
            text = format!(
                "warning: {why}; nothing is counted; {}, so chance decides what comes first",
                self.reset
            );
        }
        self.stand_in = Some(state);
        vec![text]
    }

    /// Takes in what was found, and says what it means.
    pub(super) fn know(&mut self, rules: &Rules, now: Millis, found: FoundState, chance: u64) -> Vec<String> {
        (self.kernel, self.kexecs) = (found.kernel, found.kexecs);
        let at = self.moment(now, "");
        let mut lines = Vec::new();
        // The purgatory's own word is the surest.
        if self.reset == Reset::Unknown || self.reset == Reset::PowerOn && found.reset.is_failure() {
            self.reset = found.reset;
        }
        let mut stored = match found.stored {
            FoundStored::Known(stored) => stored,
            FoundStored::Lost(why) => {
                lines.push(format!("warning: {}: {why}; each slot has one try", found.describe));
                Stored::new(State::lost(rules, at))
            }
            FoundStored::Nothing(why) => return self.do_without(rules, now, &why, chance),
        };
        let damage = stored.damage.take();
        if let Some(damage) = &damage {
            lines.push(format!("{}: one copy of the state is lost ({damage})", found.describe));
        }
        self.suspect = stored.state.suspect(self.reset);
        self.was_test = stored.state.was_test();
        self.rules = rules.clone();
        stored.state.wake(rules, found.machine, self.reset, at);
        if let Some(suspect) = self.suspect.as_ref().filter(|suspect| suspect.is_new) {
            stored.state.died_of(&suspect.slot, at);
        }
        if damage.is_some() {
            stored.state.damaged(at);
        }
        // The last wake's are this boot's; those before it may have been dropped.
        let (boot, events) = (stored.state.boots, &stored.state.events);
        let new = events.iter().filter(|event| event.boot == boot);
        lines.extend(new.filter_map(told));
        if let Some(suspect) = &self.suspect {
            lines.push(if suspect.again {
                "warning: the service Linux dies whichever slot comes last: all of them come last this time".to_owned()
            } else {
                let slot = &suspect.slot;
                let is_left = stored.state.slot(slot).is_some_and(Slot::is_bootable);
                let last = if is_left { ": it comes last this time" } else { "" };
                format!("warning: the service Linux may have died of the files of slot {slot}{last}")
            });
        }
        lines.push(all(&stored.state));
        self.kept = Some(Kept {
            device: found.device,
            partuuid: found.partuuid,
            stored,
        });
        self.is_unsaved = true;
        lines
    }

    /// Whether somebody in a shell may have changed it.
    pub(super) fn may_have_changed(&self) -> bool {
        self.kept.is_some() && !self.is_stuck
    }

    /// What somebody has changed it to. Gives the line that says so.
    pub(super) fn read_again(&mut self, found: FoundState) -> Option<String> {
        let kept = self.kept.as_mut()?;
        match found.stored {
            // What could not be written is better than what is there.
            FoundStored::Known(stored) if !stored.is_newer_than(&kept.stored) => None,
            FoundStored::Known(mut stored) => {
                stored.state.adopt(&self.rules);
                let line = format!("the state was changed meanwhile: {}", all(&stored.state));
                *kept = Kept {
                    device: found.device,
                    partuuid: found.partuuid,
                    stored,
                };
                self.is_unsaved = false;
                Some(line)
            }
            FoundStored::Lost(why) | FoundStored::Nothing(why) => {
                Some(format!("warning: the state can't be read again: {why}"))
            }
        }
    }

    /// Somebody stops this start.
    pub(super) fn stopped(&mut self, now: Millis) {
        let moment = self.moment(now, "");
        if let Some(kept) = &mut self.kept {
            self.is_unsaved |= kept.stored.state.stopped(moment);
        }
    }

    fn moment<'e>(&self, now: Millis, entry: &'e str) -> Now<'e> {
        Now {
            uptime_ms: u32::try_from(now).unwrap_or(u32::MAX),
            time: 0,
            kernel: self.kernel,
            kexecs: self.kexecs,
            entry,
        }
    }

    /// What decides the order of the slots, if anything is known.
    pub(super) fn state(&self) -> Option<&State> {
        let kept = self.kept.as_ref().map(|kept| &kept.stored.state);
        kept.or(self.stand_in.as_ref())
    }

    /// The state itself, if it could be read.
    pub(super) fn known(&self) -> Option<&State> {
        self.kept.as_ref().map(|kept| &kept.stored.state)
    }

    /// Somebody at the menu says what a slot is worth. Gives the line for the log.
    pub(super) fn mark(&mut self, slot: &SlotName, is_good: bool, now: Millis) -> String {
        let change = if is_good { State::mark_good } else { State::mark_bad };
        let what = if is_good { "marked as good" } else { "marked as bad" };
        self.change(slot, change, what, now)
    }

    /// Somebody at the menu makes a slot the first choice. Gives the line for the log.
    pub(super) fn prefer(&mut self, slot: &SlotName, now: Millis) -> String {
        self.change(slot, State::set_primary, "the first choice from now on", now)
    }

    fn change(
        &mut self,
        slot: &SlotName,
        change: fn(&mut State, &SlotName, Now<'_>) -> Result<(), Refusal>,
        what: &str,
        now: Millis,
    ) -> String {
        let moment = self.moment(now, "");
        let Some(kept) = &mut self.kept else {
            return format!("slot {slot}: the state could not be read, so nothing can be written down");
        };
        match change(&mut kept.stored.state, slot, moment) {
            Ok(()) if self.is_stuck => {
                format!("slot {slot}: {what}, for this start: its disk did not answer, so nothing can be written down")
            }
            Ok(()) => {
                self.is_unsaved = true;
                format!("slot {slot}: {what}, at the console")
            }
            Err(refusal) => format!("slot {slot}: {refusal}"),
        }
    }

    /// What is still to be written, where that can be done.
    pub(super) fn unsaved(&self) -> Option<Kept> {
        self.kept.clone().filter(|_| self.is_unsaved && !self.is_stuck)
    }

    /// It is on the disk.
    pub(super) fn saved(&mut self, stored: Stored) {
        if let Some(kept) = &mut self.kept {
            kept.stored = stored;
        }
        self.is_unsaved = false;
    }

    /// It is not; `is_stuck` when the disk did not answer.
    pub(super) fn not_saved(&mut self, is_stuck: bool) {
        self.is_stuck |= is_stuck;
        self.is_unsaved = false;
    }

    /// Whether the last start may have been a test of the watchdog: it was, or nothing is kept.
    pub(super) fn may_have_tested(&self) -> bool {
        self.kept.is_none() || self.was_test
    }

    /// Whether the disk did not answer once.
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck
    }

    /// What the worker is to write down before it jumps. A test is no attempt of the slot: it is meant to end in a reset.
    pub(super) fn account(&self, slot: Option<&SlotName>, why: Why, is_test: bool, chance: u64) -> Option<Account> {
        let kept = self.kept.clone()?;
        let slot = slot.filter(|_| !is_test);
        Some(Account {
            is_needed: slot.is_some_and(|slot| self.is_needed(&kept.stored.state, slot, why, chance)),
            is_stuck: self.is_stuck,
            kept,
            slot: slot.cloned(),
            is_test,
        })
    }

    /// Whether a slot may not be booted unless that is written down.
    fn is_needed(&self, state: &State, slot: &SlotName, why: Why, chance: u64) -> bool {
        let is_good = state.slot(slot).is_some_and(|slot| slot.condition == Condition::Good);
        // Where nothing can be written, nothing tells after a failure which of the good ones it was of, time and again.
        let is_good_one = |name: &&SlotName| state.slot(name).is_some_and(|slot| slot.condition == Condition::Good);
        let good: Vec<&SlotName> = state.choices().into_iter().filter(is_good_one).collect();
        let has_turn = good.get(turn(chance, good.len(), &self.rules)) == Some(&slot);
        match why {
            // Who picks an entry answers for it.
            Why::Picked => false,
            // Or it would not be once.
            Why::Once => true,
            _ => !is_good || self.reset.is_failure() && !has_turn,
        }
    }

    /// What would be preferred to the slot and was given up before this start, and why.
    pub(super) fn passed_over(&self, slot: Option<&SlotName>) -> Option<String> {
        let slots = &self.kept.as_ref()?.stored.state.slots;
        let mut better = slots.iter().take_while(|other| slot != Some(&other.name));
        let first = better.find(|other| other.failure.is_some() && !other.is_bootable())?;
        Some(format!("slot {}: {first}", first.name))
    }

    /// An entry of the slot was not booted.
    pub(super) fn failed(&mut self, slot: &SlotName, entry: &str, step: Step, cause: Cause, now: Millis) {
        let moment = self.moment(now, entry);
        if let Some(kept) = &mut self.kept {
            kept.stored.state.failed(slot, step, cause, moment);
            self.is_unsaved = true;
        }
    }

    /// What led to all this, for whoever reads nothing but the end of the log.
    pub(super) fn told(&self) -> Vec<String> {
        let Some(kept) = &self.kept else { return Vec::new() };
        let state = &kept.stored.state;
        let last = state.events.iter().skip(state.events.len().saturating_sub(SHOWN));
        last.map(ToString::to_string).chain([all(state)]).collect()
    }
}
