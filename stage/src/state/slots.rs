//! What each event does to the slots. Pure.

use config::{Config, DEFAULT_TRIES, SlotName};

use super::{
    Attempt, Because, Condition, ENTRY_BYTES, Event, EventKind, Failing, MOST_EVENTS, MOST_SLOTS, Reset, Slot, State,
};
use crate::cause::Cause;
use crate::step::Step;

/// The beginning of a text, to a whole character.
fn cut(text: &str, most: usize) -> String {
    let end = text.floor_char_boundary(most);
    text.get(..end).unwrap_or_default().to_owned()
}

/// What `boot.toml` says of the slots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Their names, the first choice first.
    pub slots: Vec<SlotName>,
    /// Boots that a new generation has to prove itself.
    pub tries: u8,
    /// Whether entries without a slot are in `order`, too.
    pub has_others: bool,
}

impl Rules {
    /// What a config says.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            slots: config.slot_names().into_iter().cloned().collect(),
            tries: config.slots.tries,
            has_others: config
                .order
                .iter()
                .filter_map(|name| config.entry(name))
                .any(|entry| entry.slot.is_none()),
        }
    }
}

/// When something happens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Now<'e> {
    /// Milliseconds since the kernel's start.
    pub uptime_ms: u32,
    /// Seconds since 1970; 0 when no clock was set.
    pub time: u64,
    /// The running kernel's version, two numbers.
    pub kernel: [u8; 2],
    /// Jumps since power-on.
    pub kexecs: u16,
    /// The entry it is about; empty for none.
    pub entry: &'e str,
}

/// What a failed boot of a good slot counts, and how much it takes to be bad: three resets that are known to be failures,
/// or eight that may be.
const STRIKE: u8 = 8;
const DOUBTFUL_STRIKE: u8 = 3;
const STRIKES: u8 = 24;

fn strikes(reset: Reset) -> u8 {
    match reset {
        // Somebody pulled the plug, or there was a power cut: it says nothing of the slot.
        Reset::PowerOn => 0,
        Reset::Unknown => DOUBTFUL_STRIKE,
        Reset::Watchdog | Reset::Panic | Reset::Purgatory => STRIKE,
    }
}

/// How much a start that booted nothing says against what it was about to boot, and how much is enough.
fn suspicion(reset: Reset) -> usize {
    match reset {
        Reset::PowerOn => 0,
        Reset::Unknown => 1,
        Reset::Watchdog | Reset::Panic | Reset::Purgatory => 2,
    }
}
const SUSPICION: usize = 4;

/// Starts in a row that an oops in loading a kernel has ended, and then it is no chance.
const OOPSES: usize = 2;

/// A slot whose files the service Linux may die of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// Which. It may be booted by itself.
    pub slot: SlotName,
    /// It may be any of those that may be booted: each came last twice and the service Linux died all the same, or it oopsed in loading
    /// one in as many starts in a row.
    pub again: bool,
    /// The slot has not been charged with it yet.
    pub is_new: bool,
}

/// Why a command for a slot is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no such slot.
    #[error("there is no such slot")]
    Unknown,
    /// The running system was not booted from this slot.
    #[error("this is not the slot that was booted")]
    Other,
    /// The running system is not the boot that the state tells of.
    #[error("this is not the boot that the state tells of: the machine was booted since, or the state was changed")]
    Stale,
    /// It has been counted already.
    #[error("this boot is counted as failed: its trial is over, or the machine was booted since")]
    Over,
    /// There is nothing to be judged any more.
    #[error("this boot is marked good already")]
    Marked,
    /// A bad one is not booted.
    #[error("the slot is bad, or its tries are used up; set-next without --once gives it new ones")]
    Bad,
    /// Nothing would be left to boot.
    #[error("no other slot can be booted; install into one first, or add --force")]
    Last,
}

impl Slot {
    fn new(name: SlotName, tries: u8) -> Self {
        Self {
            name,
            condition: Condition::Untested,
            tries,
            strikes: 0,
            failure: None,
        }
    }

    /// Whether it may be booted by itself.
    pub(crate) fn is_bootable(&self) -> bool {
        match self.condition {
            Condition::Good => true,
            Condition::Untested => self.tries > 0,
            Condition::Bad(_) => false,
        }
    }

    /// Whether what is in it is as it was marked, as far as anybody knows.
    fn is_plainly_good(&self) -> bool {
        (self.condition, self.strikes, self.failure) == (Condition::Good, 0, None)
    }
}

impl State {
    /// As it leaves the factory.
    pub(crate) fn new(rules: &Rules) -> Self {
        let mut state = Self::default();
        state.adopt(rules);
        state
    }

    /// The same with slots that are known to be good; their tries come with the first boot. The others have nothing in them yet.
    pub(crate) fn factory(good: &[SlotName]) -> Self {
        let slot = |name: &SlotName| Slot {
            condition: Condition::Good,
            ..Slot::new(name.clone(), 0)
        };
        Self {
            // Until the first boot, which reads boot.toml.
            tries: DEFAULT_TRIES,
            slots: good.iter().take(MOST_SLOTS).map(slot).collect(),
            ..Self::default()
        }
    }

    /// After the one before was lost: each slot has one try, as nobody knows what it is worth.
    pub(crate) fn lost(rules: &Rules, now: Now<'_>) -> Self {
        let mut state = Self::new(&Rules {
            tries: 1,
            ..rules.clone()
        });
        state.tell(EventKind::Lost, None, now);
        state
    }

    /// The slot of that name.
    pub(crate) fn slot(&self, name: &SlotName) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == *name)
    }

    /// Whether an updater may take the slot for a system that boots. One that fell through in the service Linux keeps its tries, or is
    /// good, but another one runs in its place. One that runs may still prove itself, on its last try, too.
    pub(crate) fn is_well(&self, slot: &Slot) -> bool {
        let fell_through = match slot.failure {
            Some(Failing::Stage(_, cause)) => !cause.is_machines(),
            Some(Failing::Died) => true,
            _ => false,
        };
        let runs = |attempt: &Attempt| attempt.slot == slot.name && !attempt.is_over;
        let may_be_proven = slot.condition == Condition::Untested && self.attempt.as_ref().is_some_and(runs);
        may_be_proven || slot.is_bootable() && !fell_through
    }

    fn slot_mut(&mut self, name: &SlotName) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| slot.name == *name)
    }

    fn tell(&mut self, kind: EventKind, slot: Option<&SlotName>, now: Now<'_>) {
        let surplus = self.events.len().saturating_add(1).saturating_sub(MOST_EVENTS);
        self.events.drain(..surplus.min(self.events.len()));
        self.events.push(Event {
            kind,
            boot: self.boots,
            uptime_ms: now.uptime_ms,
            time: now.time,
            slot: slot.cloned(),
            entry: cut(now.entry, ENTRY_BYTES),
            kernel: now.kernel,
            kexecs: now.kexecs,
        });
    }

    /// Adds the slots it does not know yet, and drops those that `boot.toml` has no more.
    pub(crate) fn adopt(&mut self, rules: &Rules) {
        self.tries = rules.tries;
        let is_known = |name: &SlotName| rules.slots.contains(name);
        self.slots.retain(|slot| is_known(&slot.name));
        self.once = self.once.take().filter(is_known);
        // The first boot meets what the factory has named.
        let is_factory = self.boots <= 1 && !self.slots.is_empty();
        for name in rules.slots.iter().take(MOST_SLOTS) {
            if self.slot(name).is_none() {
                let mut slot = Slot::new(name.clone(), rules.tries);
                if is_factory {
                    (slot.condition, slot.tries) = (Condition::Bad(Because::Empty), 0);
                }
                self.slots.push(slot);
            }
        }
    }

    /// The slot whose files the service Linux itself may die of: it was reset twice in a row on its way to the first choice (four
    /// times, where nothing says that it failed), or its kernel oopsed in loading this one. To be asked before [`wake`](Self::wake).
    pub(crate) fn suspect(&self, reset: Reset) -> Option<Suspect> {
        const OOPS: EventKind = EventKind::Failed(Failing::Stage(Step::Kexec, Cause::Crash));
        let mut choices = self.choices();
        if choices.is_empty() {
            // One of these that kills it would have its turn for ever.
            choices = self.last_resorts();
        }
        let was_stopped = |boot: &u32| {
            let is_it = |event: &Event| event.boot == *boot && event.kind == EventKind::Stopped;
            self.events.iter().any(is_it)
        };
        let boots = || (0..=self.boots).rev().filter(|boot| !was_stopped(boot));
        let ended = |boot: u32| self.events.iter().rfind(|event| event.boot == boot && event.is_try());
        if let Some(last) = ended(self.boots).filter(|event| event.kind == OOPS) {
            let slot = last.slot.clone().filter(|slot| choices.contains(&slot))?;
            let oopses = boots().map_while(|boot| ended(boot).filter(|event| event.kind == OOPS));
            let again = oopses.count() >= choices.len().max(OOPSES);
            // It was charged when it oopsed.
            return Some(Suspect {
                slot,
                again,
                is_new: false,
            });
        }
        // Somebody was there, or it has survived them all: it was reset at the prompt.
        let has_failed = |slot: &&SlotName| {
            let mut of_it = self.events.iter().rev().take_while(|event| event.boot == self.boots);
            of_it.any(|event| {
                matches!(event.kind, EventKind::Failed(Failing::Stage(..))) && event.slot.as_ref() == Some(*slot)
            })
        };
        if self.has_jumped() || self.did(EventKind::Stopped) || choices.iter().all(has_failed) {
            return None;
        }
        let died = self.events.iter().rev().filter_map(|event| match event.kind {
            EventKind::Died(reset) => Some((event.boot, suspicion(reset))),
            _ => None,
        });
        let in_a_row: Vec<(u32, usize)> = died
            .zip(boots())
            .map_while(|(died, boot)| (died.0 == boot).then_some(died))
            .collect();
        let before: usize = in_a_row.iter().map(|(_, weight)| weight).sum();
        let turn_at = |sum: usize| sum.checked_sub(SUSPICION)?.checked_div(2);
        let turn = turn_at(before.saturating_add(suspicion(reset)))?;
        // A reset that says nothing, such as a power cut, leaves it as it was.
        let is_new = turn_at(before) != Some(turn);
        // Twice, for where nothing says that it failed.
        let again = turn >= choices.len().saturating_mul(2);
        // If it was not the first, it was another: they take turns.
        let begin = in_a_row.last().map_or(u32::MAX, |(boot, _)| *boot);
        let is_charge = |event: &&Event| event.boot >= begin && event.kind == EventKind::Failed(Failing::Died);
        let blamed: Vec<&SlotName> = self
            .events
            .iter()
            .filter(is_charge)
            .filter_map(|event| event.slot.as_ref())
            .collect();
        let count = |slot: &&&SlotName| blamed.iter().filter(|other| *other == *slot).count();
        let slot = if is_new || again {
            choices.iter().min_by_key(count)
        } else {
            choices.iter().find(|slot| blamed.last() == Some(slot))
        };
        Some(Suspect {
            slot: (*slot?).clone(),
            again,
            is_new: is_new && !again,
        })
    }

    /// Whether the last start was meant to end in a reset by the watchdog. To be asked before [`wake`](Self::wake).
    pub(crate) fn was_test(&self) -> bool {
        self.did(EventKind::Tested)
    }

    /// Whether the last start ended in a jump, into an entry without a slot, too.
    fn has_jumped(&self) -> bool {
        self.did(EventKind::Jumped) || self.was_test()
    }

    /// Somebody stops this start at the console. Gives whether that is news.
    pub(crate) fn stopped(&mut self, now: Now<'_>) -> bool {
        let is_news = !self.did(EventKind::Stopped);
        if is_news {
            self.tell(EventKind::Stopped, None, now);
        }
        is_news
    }

    /// One copy was lost. That is told as long as it is remembered, and not each time: a disk that is worn out would push out all else.
    pub(crate) fn damaged(&mut self, now: Now<'_>) {
        if self.events.iter().all(|event| event.kind != EventKind::Damaged) {
            self.tell(EventKind::Damaged, None, now);
        }
    }

    /// Whether nothing could be booted without this slot.
    pub(crate) fn is_last(&self, name: &SlotName) -> bool {
        self.choices() == [name]
    }

    /// Whether this happened in the last start.
    fn did(&self, kind: EventKind) -> bool {
        let of_it = self.events.iter().rev().take_while(|event| event.boot == self.boots);
        of_it.into_iter().any(|event| event.kind == kind)
    }

    /// An entry without a slot is booted, or one for a test.
    pub(crate) fn leave(&mut self, is_test: bool, now: Now<'_>) {
        let kind = if is_test { EventKind::Tested } else { EventKind::Jumped };
        self.tell(kind, None, now);
    }

    /// A new boot of the service Linux, after `reset`, on `machine` (a hash of what names it; 0 when nothing does).
    pub(crate) fn wake(&mut self, rules: &Rules, machine: u64, reset: Reset, now: Now<'_>) {
        // As it should, or as somebody wanted.
        let has_ended = self.has_jumped() || self.did(EventKind::Stopped);
        let is_first = self.boots == 0;
        self.boots = self.boots.saturating_add(1);
        if machine != 0 && self.machine != machine {
            if self.machine != 0 {
                self.attempt = None;
                self.once = None;
                self.slots.iter_mut().for_each(|slot| slot.strikes = 0);
                self.tell(EventKind::Cloned, None, now);
            }
            self.machine = machine;
        }
        self.adopt(rules);
        let open = self.attempt.as_mut().filter(|attempt| !attempt.is_over);
        if let Some(attempt) = open {
            attempt.is_over = true;
            let slot = attempt.slot.clone();
            if !attempt.is_confirmed {
                self.came_to_nothing(&slot, Failing::NotMarked(reset), now);
            } else if reset.is_failure() {
                self.tell(EventKind::Reset(reset), Some(&slot), now);
            }
        } else if !is_first && !has_ended {
            self.tell(EventKind::Died(reset), None, now);
        }
    }

    /// A boot of the slot did not end with a mark.
    fn came_to_nothing(&mut self, name: &SlotName, how: Failing, now: Now<'_>) {
        self.tell(EventKind::Failed(how), Some(name), now);
        let Some(slot) = self.slot_mut(name) else { return };
        slot.failure = Some(how);
        let given_up = match slot.condition {
            Condition::Untested => (slot.tries == 0).then_some(Because::Unproven),
            Condition::Good => {
                let more = match how {
                    Failing::NotMarked(reset) => strikes(reset),
                    Failing::Trial => STRIKE,
                    Failing::Stage(..) | Failing::Died => 0,
                };
                slot.strikes = slot.strikes.saturating_add(more);
                (slot.strikes >= STRIKES).then_some(Because::Strikes)
            }
            Condition::Bad(_) => None,
        };
        if let Some(why) = given_up {
            slot.condition = Condition::Bad(why);
            self.tell(EventKind::GivenUp(why), Some(name), now);
        }
    }

    /// An entry of the slot could not be booted. What is wrong with its files costs no try: they are as wrong the next time.
    pub(crate) fn failed(&mut self, name: &SlotName, step: Step, cause: Cause, now: Now<'_>) {
        if self.once.as_ref() == Some(name) {
            self.once = None;
        }
        let costs = match (step, cause) {
            // The state's disk, the machine's memory, or a process that can't be started: not the slot's doing.
            (Step::Account | Step::Select | Step::Reserve, _) => 0,
            (_, Cause::Io | Cause::Timeout | Cause::Crash | Cause::Memory) => 1,
            // What is wrong with its files is as wrong the next time; and what is no slot's doing at all.
            _ => 0,
        };
        // Its try was spent when the jump was written down.
        let open = self
            .attempt
            .as_mut()
            .filter(|attempt| attempt.slot == *name && !attempt.is_over);
        let is_written = open.map(|attempt| attempt.is_over = true).is_some();
        if let Some(slot) = self
            .slot_mut(name)
            .filter(|slot| slot.condition == Condition::Untested && !is_written)
        {
            slot.tries = slot.tries.saturating_sub(costs);
        }
        self.came_to_nothing(name, Failing::Stage(step, cause), now);
    }

    /// The service Linux seems to die of the slot: a try is spent, and it is not what is booted once. A good one stays good, as it may
    /// be the power.
    pub(crate) fn died_of(&mut self, name: &SlotName, now: Now<'_>) {
        if self.once.as_ref() == Some(name) {
            self.once = None;
        }
        if let Some(slot) = self.slot_mut(name).filter(|slot| slot.condition == Condition::Untested) {
            slot.tries = slot.tries.saturating_sub(1);
        }
        self.came_to_nothing(name, Failing::Died, now);
    }

    /// The machine is about to jump into the slot.
    pub(crate) fn jump(&mut self, name: &SlotName, nonce: u64, now: Now<'_>) {
        if self.once.as_ref() == Some(name) {
            self.once = None;
        }
        let tries = self.tries;
        if let Some(slot) = self.slot_mut(name) {
            if slot.condition == Condition::Bad(Because::Empty) {
                // Somebody picked it, and there is something in it.
                (slot.condition, slot.tries) = (Condition::Untested, tries);
            }
            if slot.condition == Condition::Untested {
                slot.tries = slot.tries.saturating_sub(1);
            }
        }
        self.attempt = Some(Attempt {
            slot: name.clone(),
            nonce,
            is_confirmed: false,
            is_over: false,
        });
        self.tell(EventKind::Jumped, Some(name), now);
    }

    /// The attempt that the main system is, which shows its slot and its nonce.
    fn running(&mut self, name: &SlotName, nonce: u64) -> Result<&mut Attempt, Refusal> {
        let attempt = self.attempt.as_mut().ok_or(Refusal::Stale)?;
        if attempt.slot != *name {
            return Err(Refusal::Other);
        }
        if attempt.nonce != nonce {
            return Err(Refusal::Stale);
        }
        if attempt.is_over {
            return Err(Refusal::Over);
        }
        Ok(attempt)
    }

    /// The main system that was booted says that it is well.
    ///
    /// # Errors
    /// [`Refusal::Other`] and [`Refusal::Stale`] when it is not that main system.
    pub(crate) fn mark_booted_good(&mut self, name: &SlotName, nonce: u64, now: Now<'_>) -> Result<(), Refusal> {
        // A good one is booted where its jump can't be written down, too: it is now, or the service Linux is taken to have died.
        let is_good = |slot: &Slot| slot.condition == Condition::Good;
        if !self.has_jumped() && self.slot(name).is_some_and(is_good) {
            self.jump(name, nonce, now);
        }
        let was_confirmed = std::mem::replace(&mut self.running(name, nonce)?.is_confirmed, true);
        self.prove(name, was_confirmed, now)
    }

    /// Somebody who knows says that a slot is well that is not the one that runs.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]
    pub(crate) fn mark_good(&mut self, name: &SlotName, now: Now<'_>) -> Result<(), Refusal> {
        self.prove(name, true, now)
    }

    /// What says nothing new leaves no event: a check each minute would push out all others.
    fn prove(&mut self, name: &SlotName, is_known: bool, now: Now<'_>) -> Result<(), Refusal> {
        let slot = self.slot_mut(name).ok_or(Refusal::Unknown)?;
        if is_known && slot.is_plainly_good() {
            return Ok(());
        }
        (slot.condition, slot.strikes, slot.failure) = (Condition::Good, 0, None);
        self.tell(EventKind::MarkedGood, Some(name), now);
        Ok(())
    }

    /// Somebody says that the slot is not to be booted.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]
    pub(crate) fn mark_bad(&mut self, name: &SlotName, now: Now<'_>) -> Result<(), Refusal> {
        let slot = self.slot_mut(name).ok_or(Refusal::Unknown)?;
        (slot.condition, slot.tries) = (Condition::Bad(Because::Marked), 0);
        if self.once.as_ref() == Some(name) {
            self.once = None;
        }
        self.tell(EventKind::MarkedBad, Some(name), now);
        Ok(())
    }

    /// Makes the slot the first choice. A bad one is taken for a new generation: it gets tries, and is untested.
    ///
    /// # Errors
    /// [`Refusal::Unknown`]
    pub(crate) fn set_primary(&mut self, name: &SlotName, now: Now<'_>) -> Result<(), Refusal> {
        let at = self
            .slots
            .iter()
            .position(|slot| slot.name == *name)
            .ok_or(Refusal::Unknown)?;
        let mut slot = self.slots.remove(at);
        if slot.condition != Condition::Good {
            slot = Slot::new(slot.name, self.tries);
        }
        self.slots.insert(0, slot);
        // From now on, and not after something else.
        self.once = None;
        self.tell(EventKind::Primary, Some(name), now);
        Ok(())
    }

    /// Has the slot booted next, and then no more than before.
    ///
    /// # Errors
    /// [`Refusal::Unknown`], and [`Refusal::Bad`] for one that is not bootable.
    pub(crate) fn set_once(&mut self, name: &SlotName, now: Now<'_>) -> Result<(), Refusal> {
        if !self.slot(name).ok_or(Refusal::Unknown)?.is_bootable() {
            return Err(Refusal::Bad);
        }
        self.once = Some(name.clone());
        self.tell(EventKind::Once, Some(name), now);
        Ok(())
    }

    /// The main system was up for as long as it may be without a mark.
    ///
    /// # Errors
    /// [`Refusal::Other`] and [`Refusal::Stale`] when it is not the one that was booted, [`Refusal::Marked`] when it is marked.
    pub(crate) fn trial_over(&mut self, name: &SlotName, nonce: u64, now: Now<'_>) -> Result<(), Refusal> {
        let attempt = self.running(name, nonce)?;
        if attempt.is_confirmed {
            return Err(Refusal::Marked);
        }
        attempt.is_over = true;
        self.came_to_nothing(name, Failing::Trial, now);
        Ok(())
    }

    /// The slot that is booted next and then no more than before, where it can be.
    pub(crate) fn next_once(&self) -> Option<&SlotName> {
        let can_be = |name: &&SlotName| self.slot(name).is_some_and(Slot::is_bootable);
        self.once.as_ref().filter(can_be)
    }

    /// The slot that is booted but for a boot that is asked for once.
    pub(crate) fn primary(&self) -> Option<&SlotName> {
        let good = self.slots.iter().find(|slot| slot.is_bootable());
        good.map(|slot| &slot.name)
            .or_else(|| self.last_resorts().first().copied())
    }

    /// The slots to boot, the best first.
    pub(crate) fn choices(&self) -> Vec<&SlotName> {
        let once = self.next_once();
        let others = self
            .slots
            .iter()
            .filter(|slot| slot.is_bootable())
            .map(|slot| &slot.name);
        once.into_iter()
            .chain(others.filter(|name| Some(*name) != once))
            .collect()
    }

    /// The slots to boot when there is nothing else at all: bad ones, but for those that somebody marked, or that are empty. What was
    /// good once comes first.
    pub(crate) fn last_resorts(&self) -> Vec<&SlotName> {
        let because = |why| {
            self.slots
                .iter()
                .filter(move |slot| slot.condition == Condition::Bad(why))
        };
        let mut tried = self.events.iter().rev().filter(|event| event.is_try());
        let last = tried.find_map(|event| event.slot.as_ref());
        let used_up = self
            .slots
            .iter()
            .filter(|slot| slot.condition == Condition::Untested && slot.tries == 0);
        let mut all: Vec<&SlotName> = because(Because::Strikes)
            .chain(because(Because::Unproven))
            .chain(used_up)
            .map(|slot| &slot.name)
            .collect();
        // They take turns.
        all.sort_by_key(|name| Some(*name) == last);
        all
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
