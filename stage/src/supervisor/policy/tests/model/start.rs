//! One start of the service Linux, with whatever happens to it.

use super::checks::{check_choice, check_rescue};
use super::*;

/// How a start ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum End {
    Jumped(usize),
    /// The same without the state, which was not found.
    JumpedBlind(usize),
    Rescued,
    Prompt,
    Reset,
    Cut,
    Died,
}

fn rules_config(rescue: Rescue) -> Config {
    let names: &[&str] = if rescue == Rescue::None {
        &ENTRIES
    } else {
        &["a", "b", "rescue"]
    };
    let mut config = crate::select::tests::config(names);
    config.console.countdown = Duration::ZERO;
    config.slots.tries = 2;
    for (slot, entry) in config.entries.iter_mut().take(NAMES.len()).enumerate() {
        entry.slot = Some(name(slot));
    }
    config
}

/// A worker comes to a step and fails.
fn fail(mut policy: Policy, now: Millis, step: Step, cause: Cause) -> (Policy, Vec<Action>) {
    let mut actions = policy.on(now, Event::Said(Message::Step(step)));
    actions.extend(policy.on(now, Event::Said(Message::fail(Failure::new(cause, "x")))));
    (policy, actions)
}

/// One start of the service Linux.
pub(super) struct Start<'o> {
    /// Whether writes may be cut or fail.
    pub(super) with_faults: bool,
    /// The state is not found.
    pub(super) is_blind: bool,
    pub(super) out: &'o mut Vec<(World, End)>,
}

impl Start<'_> {
    pub(super) fn play(&mut self, world: &World, chance: u64) {
        let mut policy = Policy::new(Some(rules_config(world.rescue)), chance);
        let actions = policy.on(0, Event::Tick);
        self.act(policy, world.clone(), actions, 0, false);
    }

    fn act(&mut self, mut policy: Policy, world: World, actions: Vec<Action>, now: Millis, again: bool) {
        let now = now + 1;
        // One that is abandoned has no end for PID 1.
        let is_abandoned = actions.contains(&Action::Abandon);
        for action in actions {
            match action {
                Action::Log(..)
                | Action::Show(_)
                | Action::Admit(_)
                | Action::Configure(_)
                | Action::Leave
                | Action::Feed
                | Action::Abandon
                | Action::Arm
                | Action::HandOff(_) => {}
                Action::Give(Job::Ask(question)) => return self.ask(policy, world, question, now, again),
                Action::Give(Job::Boot(boot)) => return self.boot(policy, world, &boot, now, again),
                Action::Kill if is_abandoned => {}
                Action::Kill => {
                    let actions = policy.on(now, Event::Gone(Exit::Signal(9)));
                    return self.act(policy, world, actions, now, again);
                }
                Action::Go => unreachable!("a worker that is told to go has jumped"),
                Action::Reset => return self.out.push((world, End::Reset)),
            }
        }
        // The load that failed is tried once more.
        if let Phase::Pause { until } = policy.phase {
            let actions = policy.on(until, Event::Tick);
            return self.act(policy, world, actions, until, again);
        }
        // The prompt, and once its timer.
        let due = policy.due().filter(|_| !has(Bug::WaitsForEver));
        let retry = due.expect("a wait without an end");
        if again {
            return self.out.push((world, End::Prompt));
        }
        let actions = policy.on(retry, Event::Tick);
        self.act(policy, world, actions, retry, true);
    }

    fn answer(&mut self, mut policy: Policy, world: World, answer: Result<Answer, Failure>, now: Millis, again: bool) {
        let message = match answer {
            Ok(answer) => Message::Answer(answer),
            Err(failure) => Message::fail(failure),
        };
        let actions = policy.on(now, Event::Said(message));
        self.act(policy, world, actions, now, again);
    }

    fn ask(&mut self, policy: Policy, mut world: World, question: Question, now: Millis, again: bool) {
        match question {
            Question::State => {
                if self.with_faults && world.reset != Reset::Unknown {
                    let mut blind = Start {
                        with_faults: true,
                        is_blind: true,
                        out: &mut *self.out,
                    };
                    let failed = Err(Failure::new(Cause::Timeout, "x"));
                    blind.answer(policy.clone(), world.clone(), failed, now, again);
                }
                let found = |device: &str, stored| FoundState {
                    device: device.into(),
                    partuuid: None,
                    describe: device.into(),
                    stored,
                    kernel: [6, 12],
                    kexecs: 0,
                    machine: world.machine,
                    reset: world.reset,
                };
                if self.with_faults && !self.is_blind && policy.looking == Looking::May && world.reset == Reset::PowerOn
                {
                    let mut late = Start {
                        with_faults: true,
                        is_blind: true,
                        out: &mut *self.out,
                    };
                    let nothing = Answer::State(Box::new(found("", FoundStored::Nothing(String::new()))));
                    late.answer(policy.clone(), world.clone(), Ok(nothing), now, again);
                }
                let stored = match world.disk.load() {
                    _ if self.is_blind => FoundStored::Nothing(String::new()),
                    Ok(stored) => FoundStored::Known(stored),
                    Err(lost) => FoundStored::Lost(lost.to_string()),
                };
                let found = found("vda9", stored);
                let mut policy = policy;
                let answer = Message::Answer(Answer::State(Box::new(found)));
                let actions = policy.on(now, Event::Said(answer));
                if let Some(suspect) = &mut policy.tried.suspect {
                    suspect.again &= !has(Bug::SuspectsNobody);
                }
                self.act(policy, world, actions, now, again);
            }
            Question::Keep(kept) => {
                if self.with_faults {
                    self.cuts(&world, &kept.stored);
                    let failed = Err(Failure::new(Cause::Io, "no"));
                    self.answer(policy.clone(), world.clone(), failed, now, again);
                }
                let (disk, stored) = Self::written(&world, &kept.stored);
                world.disk = disk;
                self.answer(policy, world, Ok(Answer::Kept(Box::new(stored), None)), now, again);
            }
            // An oops in the call keeps its lock.
            Question::Unload if has_oopsed(&policy, &world) => {
                let busy = Err(Failure::new(Cause::Busy, "x"));
                self.answer(policy, world, busy, now, again);
            }
            Question::Unload | Question::LastWords(_) => self.answer(policy, world, Ok(Answer::Done), now, again),
            other => panic!("{other:?}"),
        }
    }

    /// The power fails in the middle of writing.
    fn cuts(&mut self, world: &World, stored: &Stored) {
        for disk in world.disk.cuts(stored) {
            let next = World { disk, ..world.clone() };
            self.out.push((next, End::Cut));
        }
    }

    fn written(world: &World, stored: &Stored) -> (Disk, Stored) {
        let mut stored = stored.clone();
        if has(Bug::GivesTries) {
            stored.state.slots.iter_mut().for_each(|slot| slot.tries += 1);
        }
        if has(Bug::LosesTheGoodOne) {
            stored
                .state
                .slots
                .iter_mut()
                .for_each(|slot| slot.condition = Condition::Bad(Because::Marked));
        }
        let mut medium = world.disk.medium();
        assert!(stored.save(&mut medium).unwrap().is_none());
        (medium.disk(), stored)
    }

    fn boot(&mut self, mut policy: Policy, mut world: World, boot: &Boot, now: Millis, again: bool) {
        if self.with_faults && boot.lacks_state {
            // Its disk is there when the entry's is.
            let mut policy = policy.clone();
            let actions = policy.on(now, Event::Said(Message::StateIsThere));
            let mut sees = Start {
                with_faults: true,
                is_blind: false,
                out: &mut *self.out,
            };
            sees.act(policy, world.clone(), actions, now, again);
        }
        if self.with_faults && !again && policy.tried.failed.is_empty() {
            for (step, cause) in MACHINE {
                let (policy, actions) = fail(policy.clone(), now, step, cause);
                self.act(policy, world.clone(), actions, now, true);
            }
        }
        let slot =
            (boot.choice.entry.slot.as_ref()).map(|slot| NAMES.iter().position(|n| *n == slot.as_str()).unwrap());
        let Some(slot) = slot.filter(|_| !has(Bug::RescuesTooSoon) || world.rescue == Rescue::None) else {
            return self.rescue(policy, world, boot, now, again);
        };
        let (policy, actions) = match world.contents[slot] {
            Content::Kills => return self.out.push((world, End::Died)),
            Content::Broken => fail(policy, now, Step::Verify, Cause::Verification),
            Content::Flaky => fail(policy, now, Step::Load, Cause::Io),
            Content::Empty => fail(policy, now, Step::Probe, Cause::Missing),
            Content::Fails(step, cause) if step < Step::Account => fail(policy, now, step, cause),
            Content::Dies => {
                let mut actions = policy.on(now, Event::Said(Message::Step(Step::Load)));
                actions.extend(policy.on(now, Event::Gone(Exit::Signal(6))));
                (policy, actions)
            }
            Content::Hangs => {
                let actions = policy.on(now + millis(deadlines::ENTRY), Event::Tick);
                (policy, actions)
            }
            content => {
                let chosen = slot;
                let Some(account) = &boot.account else {
                    assert!(self.is_blind, "a slot without an account");
                    return self.leave(policy, world, content, None, End::JumpedBlind(slot), now, again);
                };
                let other = account.kept.stored.state.slot(&name(1 - slot)).unwrap();
                let is_wrong = has(Bug::BootsTheOther) && boots(&world, 1 - slot) && !other.is_bootable();
                let slot = if is_wrong { 1 - slot } else { slot };
                // With a disk that does not answer, what has to be written down is not booted.
                if !(account.is_stuck && account.is_needed) {
                    let suspect = policy.tried.suspect.as_ref();
                    check_choice(&account.kept.stored.state, slot, &world, boot.choice.why, suspect);
                }
                let is_good = account.kept.stored.state.slot(&name(chosen)).unwrap().condition == Condition::Good;
                let is_needed = account.is_needed && !has(Bug::IgnoresTheAccount);
                assert!(is_needed || is_good, "an unproven slot without its account");
                if account.is_stuck {
                    if !account.is_needed {
                        return self.leave(policy, world, content, None, End::Jumped(slot), now, again);
                    }
                    let (policy, actions) = fail(policy, now, Step::Account, Cause::Timeout);
                    return self.act(policy, world, actions, now, again);
                }
                let mut stored = account.kept.stored.clone();
                stored.state.jump(&name(slot), NONCE, Now::default());
                if self.with_faults {
                    self.cuts(&world, &stored);
                    self.hang(&policy, &world, Step::Account, now, again);
                    if account.is_needed {
                        let (policy, actions) = fail(policy.clone(), now, Step::Account, Cause::Io);
                        self.act(policy, world.clone(), actions, now, again);
                    } else {
                        let end = End::Jumped(slot);
                        self.leave(policy.clone(), world.clone(), content, None, end, now, again);
                    }
                }
                if !has(Bug::ForgetsTheAttempt) {
                    (world.disk, stored) = Self::written(&world, &stored);
                }
                return self.leave(policy, world, content, Some(stored), End::Jumped(slot), now, again);
            }
        };
        self.act(policy, world, actions, now, again);
    }

    /// Everything is ready, and the attempt is written down, if it is `stored`.
    #[expect(clippy::too_many_arguments, reason = "all of a start")]
    fn leave(
        &mut self,
        mut policy: Policy,
        world: World,
        content: Content,
        stored: Option<Stored>,
        end: End,
        now: Millis,
        again: bool,
    ) {
        let told = stored.map(|stored| Message::Accounted(Box::new(stored)));
        let mut actions: Vec<Action> = told
            .into_iter()
            .flat_map(|told| policy.on(now, Event::Said(told)))
            .collect();
        if let Content::Fails(step, cause) = content {
            let (policy, failed) = fail(policy, now, step, cause);
            actions.extend(failed);
            return self.act(policy, world, actions, now, again);
        }
        if self.with_faults {
            self.hang(&policy, &world, Step::Jump, now, again);
        }
        self.out.push((world, end));
    }

    /// The entry without a slot is next.
    fn rescue(&mut self, policy: Policy, mut world: World, boot: &Boot, now: Millis, again: bool) {
        if world.rescue == Rescue::Broken {
            let (policy, actions) = fail(policy, now, Step::Verify, Cause::Verification);
            return self.act(policy, world, actions, now, again);
        }
        let Some(account) = &boot.account else {
            assert!(self.is_blind, "nothing of it is written down");
            return self.leave(policy, world, Content::Works, None, End::Rescued, now, again);
        };
        check_rescue(&account.kept.stored.state, &policy.tried, &world);
        if account.is_stuck {
            return self.leave(policy, world, Content::Works, None, End::Rescued, now, again);
        }
        let mut stored = account.kept.stored.clone();
        stored.state.leave(false, Now::default());
        if self.with_faults {
            self.cuts(&world, &stored);
            self.hang(&policy, &world, Step::Account, now, again);
            self.leave(
                policy.clone(),
                world.clone(),
                Content::Works,
                None,
                End::Rescued,
                now,
                again,
            );
        }
        (world.disk, stored) = Self::written(&world, &stored);
        self.leave(policy, world, Content::Works, Some(stored), End::Rescued, now, again);
    }

    /// The worker comes to a step and never to its end.
    fn hang(&mut self, policy: &Policy, world: &World, step: Step, now: Millis, again: bool) {
        let mut hung = policy.clone();
        let mut actions = hung.on(now, Event::Said(Message::Step(step)));
        let late = now + millis(deadlines::step(step));
        actions.extend(hung.on(late, Event::Tick));
        self.act(hung, world.clone(), actions, late, again);
    }
}

fn has_oopsed(policy: &Policy, world: &World) -> bool {
    let last = policy.tried.failed.last();
    let slot = last.and_then(|failed| ENTRIES.iter().position(|entry| entry == failed));
    slot.is_some_and(|slot| world.contents[slot] == OOPS)
}
