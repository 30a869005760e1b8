//! The whole machine: PID 1's policy, the state, a worker and a main system, through every order of what can happen to
//! them, to a stated depth. What decides is the code itself; only the world around it is made up here.
//!
//! A world is what is on the disk between two starts of the service Linux. From each, every start is played: each write may
//! be cut, torn or fail, at either copy; each slot holds one of several kinds of system, each of which does what it does.
//!
//! Each invariant is shown to be looked at: with a [`Bug`] put in between the code and the world, the search ends in a panic.

#![expect(
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "small numbers, and figures that are to be published"
)]

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use super::super::event::Exit;
use super::*;
use crate::select::Why;
use crate::state::block::{self, Block};
use crate::state::slots::{Now, Refusal, Suspect};
use crate::state::store::{self, Copies, Copy, LoadError, Stored};
use crate::state::{Because, Condition, EventKind, Failing, State};
use crate::worker::message::{Answer, FoundState, FoundStored};
use config::SlotName;

const NAMES: [&str; 2] = ["A", "B"];
/// Starts that are played, one after the other, from the factory, with every fault of the disk; with none, [`WELL`] more. Each more
/// takes five times as long.
const DEPTH: usize = 2;
const WELL: usize = 4;
/// Starts without a fault within which a system that works has to be up.
const SOON: u64 = 24;
const NONCE: u64 = 1;

/// What is in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Content {
    /// Boots, and marks itself good.
    Works,
    /// Boots, and never marks itself.
    Silent,
    /// Its kernel panics.
    Panics,
    /// Its files are not what they should be, as after an update that was cut off.
    Broken,
    /// Its disk fails.
    Flaky,
    /// Something else of it is not as it should be.
    Fails(Step, Cause),
    /// Its worker is killed.
    Dies,
    /// Its worker hangs.
    Hangs,
    /// Its files kill the service kernel, and the watchdog resets the machine.
    Kills,
    /// Nothing is there.
    Empty,
}

const NEW: [Content; 7] = [
    OOPS,
    Content::Kills,
    Content::Works,
    Content::Silent,
    Content::Panics,
    Content::Broken,
    Content::Flaky,
];

/// What else may be wrong with what is in a slot, each where it shows. The first ones, and [`Content::Dies`] and [`Content::Hangs`],
/// cost what [`Content::Broken`] or [`Content::Flaky`] does: they are only played where the disk is well.
const FAILS: [(Step, Cause); 7] = [
    (Step::Budget, Cause::Format),
    (Step::Load, Cause::Timeout),
    (Step::LayOut, Cause::Placement),
    (Step::Load, Cause::Memory),
    (Step::Kexec, Cause::Io),
    (Step::Kexec, Cause::Crash),
    (Step::Quiesce, Cause::Crash),
];
const ALIKE: usize = 2 + 4;

/// What may be wrong with the machine, whatever is booted. ([`Cause::Machine`] and [`Cause::Busy`] are decided as the second one.)
const MACHINE: [(Step, Cause); 2] = [(Step::Reserve, Cause::Memory), (Step::Kexec, Cause::Refused)];

/// An entry without a slot, the last in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Rescue {
    /// There is none.
    None,
    /// It boots, and marks nothing.
    Works,
    /// Its files are not what they should be.
    Broken,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    disk: Disk,
    contents: [Content; 2],
    rescue: Rescue,
    /// Why the machine comes up next.
    reset: Reset,
    /// Which machine the disk is in.
    machine: u64,
}

/// The two copies: what each holds, with how new it is; none where it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Disk([Option<(State, u64)>; 2]);

impl Disk {
    fn of(state: Option<State>) -> Self {
        let copy = state.map(|state| (state, 1));
        Self([copy.clone(), copy])
    }

    fn medium(&self) -> Medium {
        let block = |copy: &Option<(State, u64)>| match copy {
            Some((state, sequence)) => block::encode(state, *sequence),
            None => [0xa5; block::SIZE],
        };
        Medium {
            blocks: self.0.each_ref().map(block),
            writes_left: usize::MAX,
            torn: false,
        }
    }

    fn load(&self) -> Result<Stored, LoadError> {
        store::load(&mut self.medium())
    }

    /// What [`load`](Self::load) finds, without reading blocks.
    fn state(&self) -> Option<&State> {
        let [first, second] = &self.0;
        let newer = match (first, second) {
            (Some(first), Some(second)) if second.1 > first.1 => second,
            (Some(first), _) => first,
            (None, second) => second.as_ref()?,
        };
        Some(&newer.0)
    }

    /// What a program of the main system does to it.
    fn change(&mut self, change: impl FnOnce(&mut State) -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut medium = self.medium();
        let mut stored = store::load(&mut medium).map_err(|_| Refusal::Unknown)?;
        change(&mut stored.state)?;
        stored.save(&mut medium).unwrap();
        *self = medium.disk();
        Ok(())
    }
}

/// The disk while it is written to.
#[derive(Debug, Clone)]
struct Medium {
    blocks: [Block; 2],
    /// Then the power fails.
    writes_left: usize,
    /// That write leaves a part of itself.
    torn: bool,
}

impl Medium {
    fn disk(&self) -> Disk {
        Disk(self.blocks.each_ref().map(|block| block::decode(block).ok()))
    }

    fn block(&mut self, copy: Copy) -> &mut Block {
        match copy {
            Copy::First => &mut self.blocks[0],
            Copy::Second => &mut self.blocks[1],
        }
    }
}

impl Copies for Medium {
    fn read(&mut self, copy: Copy) -> io::Result<Block> {
        Ok(*self.block(copy))
    }

    fn write(&mut self, copy: Copy, block: &Block) -> io::Result<()> {
        if self.writes_left == 0 {
            if std::mem::take(&mut self.torn) {
                self.block(copy)[..100].copy_from_slice(&block[..100]);
                self.block(copy)[100..].fill(0xff);
            }
            return Err(io::Error::other("no power"));
        }
        self.writes_left -= 1;
        *self.block(copy) = *block;
        Ok(())
    }
}

/// What may be wrong, one for each invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    /// The prompt has no timer.
    WaitsForEver,
    /// A bad slot is booted instead of the one that was chosen.
    BootsTheOther,
    /// The attempt is not written down.
    ForgetsTheAttempt,
    /// A slot gets a try for nothing.
    GivesTries,
    /// A slot that was marked is forgotten.
    LosesTheGoodOne,
    /// Both copies are written at once.
    WritesBothAtOnce,
    /// What may not be booted without being written down is.
    IgnoresTheAccount,
    /// The rescue entry is booted before the slots.
    RescuesTooSoon,
    /// A trial that is over can still be passed.
    TrialNeverEnds,
    /// A good slot never comes behind bad ones, whatever dies of it.
    SuspectsNobody,
}

thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

fn has(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// How a start ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum End {
    Jumped(usize),
    /// The same without the state, which was not found.
    JumpedBlind(usize),
    Rescued,
    Prompt,
    Reset,
    Cut,
    Died,
}

fn name(slot: usize) -> SlotName {
    NAMES[slot].parse().unwrap()
}

/// The entries of the slots.
const ENTRIES: [&str; 2] = ["a", "b"];

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

/// Of what happened, only what may be decided by, in as few boots as it takes: which slot was tried last; in the last start, whether it
/// ended in a jump, and which slots failed; how many starts in a row ended in an oops in loading a kernel, two of which are enough;
/// and how often in a row nothing was booted, of which, with two slots, a round is four, and those after the third are alike.
fn remembered(state: &State) -> (Vec<crate::state::Event>, u32) {
    const FAILED: EventKind = EventKind::Failed(Failing::Stage(Step::Probe, Cause::Missing));
    const TRIED: EventKind = EventKind::Failed(Failing::Trial);
    const OOPSED: EventKind = EventKind::Failed(Failing::Stage(Step::Kexec, Cause::Crash));
    let is_tried = |event: &&crate::state::Event| event.is_try();
    let last_of = |boot: u32| state.events.iter().rfind(|event| event.boot == boot && event.is_try());
    let boots = || (0..=state.boots).rev();
    let oopses = boots().map_while(|boot| last_of(boot).filter(|event| event.kind == OOPSED));
    let oopses = u32::try_from(oopses.take(2).count()).unwrap();
    let of_it: Vec<_> = (state
        .events
        .iter()
        .filter(|event| event.boot == state.boots)
        .filter(is_tried))
    .collect();
    let has_jumped = of_it.iter().any(|event| event.kind == EventKind::Jumped);
    let died = state.events.iter().rev().filter_map(|event| match event.kind {
        EventKind::Died(Reset::Unknown) => Some((event.boot, 1)),
        EventKind::Died(reset) => Some((event.boot, if reset.is_failure() { 2 } else { 0 })),
        _ => None,
    });
    let in_a_row = died.zip(boots()).take_while(|((at, _), boot)| at == boot);
    let sum: u32 = in_a_row.map(|((_, weight), _)| weight).sum();
    let sum = match sum {
        _ if has_jumped => 0,
        0..16 => sum,
        _ => sum % 4 + 12,
    };
    let count = sum.max(oopses).max(state.boots.min(1));
    let mut events = Vec::new();
    let mut tell = |boot: u32, kind: EventKind, slot: Option<&SlotName>| {
        events.push(crate::state::Event {
            kind,
            boot,
            uptime_ms: 0,
            time: 0,
            slot: slot.cloned(),
            entry: String::new(),
            kernel: [0; 2],
            kexecs: 0,
        });
    };
    let mut tried = state
        .events
        .iter()
        .filter(is_tried)
        .filter_map(|event| event.slot.as_ref());
    if let Some(slot) = tried.next_back() {
        tell(0, TRIED, Some(slot));
    }
    for boot in 1..=count {
        if boot > count - sum {
            tell(boot, EventKind::Died(Reset::Unknown), None);
        }
        if boot == count {
            for event in &of_it {
                let kind = match event.kind {
                    EventKind::Jumped => EventKind::Jumped,
                    EventKind::Failed(Failing::Stage(..)) => FAILED,
                    _ => TRIED,
                };
                tell(boot, kind, event.slot.as_ref());
            }
        }
        if boot > count - oopses {
            tell(boot, OOPSED, last_of(state.boots).and_then(|event| event.slot.as_ref()));
        }
    }
    (events, count)
}

/// Two disks that differ in nothing that is decided by are one.
fn normal(mut world: World) -> World {
    let newest = world.disk.0.iter().flatten().map(|(_, sequence)| *sequence).max();
    for (state, sequence) in world.disk.0.iter_mut().flatten() {
        (state.events, state.boots) = remembered(state);
        state.slots.iter_mut().for_each(|slot| slot.failure = None);
        *sequence = if Some(*sequence) == newest { 2 } else { 1 };
    }
    world
}

/// One start of the service Linux.
struct Start<'o> {
    /// Whether writes may be cut or fail.
    with_faults: bool,
    /// The state is not found.
    is_blind: bool,
    out: &'o mut Vec<(World, End)>,
}

impl Start<'_> {
    fn play(&mut self, world: &World, chance: u64) {
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
                let stored = match world.disk.load() {
                    _ if self.is_blind => FoundStored::Nothing(String::new()),
                    Ok(stored) => FoundStored::Known(stored),
                    Err(lost) => FoundStored::Lost(lost.to_string()),
                };
                let found = FoundState {
                    device: "vda9".into(),
                    partuuid: None,
                    describe: "vda9".into(),
                    stored,
                    kernel: [6, 12],
                    kexecs: 0,
                    machine: world.machine,
                    reset: world.reset,
                };
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
        let old = world.disk.state();
        let before = world.disk.medium();
        for (writes_left, torn) in [(0, false), (0, true), (1, false), (1, true), (2, false)] {
            let mut medium = Medium {
                writes_left,
                torn,
                ..before.clone()
            };
            if has(Bug::WritesBothAtOnce) && torn {
                medium.blocks = [[0xff; block::SIZE]; 2];
            }
            let _ = stored.clone().save(&mut medium);
            // What was not written to need not be read again.
            let copies = [0, 1].map(|copy| {
                if medium.blocks[copy] == before.blocks[copy] {
                    return world.disk.0[copy].clone();
                }
                block::decode(&medium.blocks[copy]).ok()
            });
            let next = World {
                disk: Disk(copies),
                ..world.clone()
            };
            let found = next.disk.state();
            let new = Some(&stored.state);
            assert!(
                found == old || found == new,
                "a cut left something else: {world:?} {next:?}"
            );
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

const OOPS: Content = Content::Fails(Step::Kexec, Cause::Crash);

fn has_oopsed(policy: &Policy, world: &World) -> bool {
    let last = policy.tried.failed.last();
    let slot = last.and_then(|failed| ENTRIES.iter().position(|entry| entry == failed));
    slot.is_some_and(|slot| world.contents[slot] == OOPS)
}

/// The rescue entry is booted only after every slot that may be booted, but for one that the service kernel may die of.
fn check_rescue(state: &State, tried: &Tried, world: &World) {
    for (slot, entry) in ENTRIES.iter().enumerate() {
        let suspect = tried.suspect.as_ref();
        let is_suspect = suspect.is_some_and(|suspect| suspect.again || suspect.slot == name(slot));
        let is_left = state.slot(&name(slot)).unwrap().is_bootable() && !is_suspect;
        let was_tried = tried.failed.iter().any(|failed| failed == entry);
        assert!(!is_left || was_tried, "rescue before slot {slot}: {state:?} {world:?}");
    }
}

fn boots(world: &World, slot: usize) -> bool {
    matches!(world.contents[slot], Content::Works | Content::Silent | Content::Panics)
}

/// A bad slot is booted only when no better one can be, or the better one may be what the service kernel dies of.
fn check_choice(state: &State, slot: usize, world: &World, why: Why, suspect: Option<&Suspect>) {
    let is = |slot: usize| state.slot(&name(slot)).unwrap();
    assert_ne!(is(slot).condition, Condition::Bad(Because::Marked), "{world:?}");
    if !is(slot).is_bootable() {
        assert_eq!(why, Why::LastResort, "slot {slot} is bad: {state:?} {world:?}");
        // A good one that is suspected may be innocent, until they all came last.
        let is_suspect = |slot: usize| {
            suspect.is_some_and(|suspect| {
                suspect.again || suspect.slot == name(slot) && is(slot).condition != Condition::Good
            })
        };
        let better = (0..2).find(|other| is(*other).is_bootable() && boots(world, *other) && !is_suspect(*other));
        assert_eq!(better, None, "slot {slot} is bad: {state:?} {world:?}");
    }
}

fn marked(world: &World, slot: usize) -> Option<World> {
    let mut world = world.clone();
    let marked = world
        .disk
        .change(|state| state.mark_booted_good(&name(slot), NONCE, Now::default()));
    match marked {
        Ok(()) => Some(world),
        Err(Refusal::Stale | Refusal::Other | Refusal::Unknown | Refusal::Over) => None,
        Err(other) => panic!("{other}"),
    }
}

/// The disk, or a copy of it, is put into another machine.
fn moved(world: &World) -> World {
    World {
        machine: 8,
        reset: Reset::PowerOn,
        ..world.clone()
    }
}

/// What the main system in `slot` does, until the machine comes up again.
fn main_system(world: &World, slot: usize, out: &mut Vec<World>) {
    let with = |world: &World, reset| World { reset, ..world.clone() };
    // The time for its mark is over, and it reboots itself.
    let mut late = world.clone();
    let is_over = late.disk.change(|state| {
        if has(Bug::TrialNeverEnds) {
            return Ok(());
        }
        state.trial_over(&name(slot), NONCE, Now::default())
    });
    let late = is_over.is_ok().then_some(late);
    match world.contents[slot] {
        Content::Silent => {
            out.extend([Reset::Unknown, Reset::PowerOn].map(|reset| with(world, reset)));
            out.extend(late);
            out.push(moved(world));
        }
        Content::Panics => out.push(with(world, Reset::Watchdog)),
        _ => {
            out.push(with(world, Reset::PowerOn)); // before the mark, or in the middle of it
            out.push(moved(world));
            if let Some(late) = late {
                assert_eq!(marked(&late, slot), None, "marked after its trial: {late:?}");
                out.push(with(&late, Reset::Unknown));
            }
            let Some(up) = marked(world, slot) else {
                out.push(with(world, Reset::Unknown));
                return;
            };
            out.extend([Reset::Unknown, Reset::PowerOn, Reset::Watchdog].map(|reset| with(&up, reset)));
            let other = 1 - slot;
            let changed = |world: &World, change: &dyn Fn(&mut State) -> Result<(), Refusal>| {
                let mut changed = world.clone();
                changed.disk.change(change).ok().map(|()| changed)
            };
            let bad = changed(&up, &|state| state.mark_bad(&name(other), Now::default())).unwrap();
            out.push(with(&bad, Reset::PowerOn));
            let trusted = changed(&up, &|state| state.mark_good(&name(other), Now::default())).unwrap();
            out.push(with(&trusted, Reset::Unknown));
            let gone = changed(&up, &|state| state.mark_bad(&name(slot), Now::default())).unwrap();
            out.push(with(&gone, Reset::Unknown));
            // An update that is cut off.
            let mut half = bad.clone();
            half.contents[other] = Content::Broken;
            out.push(with(&half, Reset::PowerOn));
            for new in NEW {
                let mut whole = changed(&bad, &|state| state.set_primary(&name(other), Now::default())).unwrap();
                whole.contents[other] = new;
                out.push(with(&whole, Reset::Unknown));
            }
            let once = changed(&up, &|state| state.set_once(&name(other), Now::default()));
            out.extend(once.map(|once| with(&once, Reset::Unknown)));
        }
    }
}

/// What the system of the rescue entry does: nothing, or somebody repairs a slot from there.
fn rescue_system(world: &World, out: &mut Vec<World>) {
    out.extend([Reset::Unknown, Reset::PowerOn, Reset::Watchdog].map(|reset| World { reset, ..world.clone() }));
    for slot in 0..2 {
        let mut repaired = world.clone();
        let change = |state: &mut State| state.set_primary(&name(slot), Now::default());
        if repaired.disk.change(change).is_ok() {
            repaired.contents[slot] = Content::Works;
            repaired.reset = Reset::Unknown;
            out.push(repaired);
        }
    }
}

/// Without any fault, or without its state (then nothing is `known`), a system that works and that nobody marked as bad is up soon,
/// or the one for rescue. After how many starts is remembered for worlds that were passed on the way.
fn comes_up(world: &World, mut known: Option<&mut HashMap<World, u64>>) -> bool {
    let is_left = |slot: usize| {
        let marked = world
            .disk
            .state()
            .and_then(|state| Some(state.slot(&name(slot))?.condition));
        world.contents[slot] == Content::Works && marked != Some(Condition::Bad(Because::Marked))
    };
    if !(0..2).any(is_left) && world.rescue != Rescue::Works {
        return true;
    }
    let is_blind = known.is_none();
    let mut world = world.clone();
    let mut passed = Vec::new();
    let mut more = loop {
        let here = normal(world.clone());
        if let Some(starts) = known.as_ref().and_then(|known| known.get(&here)) {
            break *starts;
        }
        let start_number = u64::try_from(passed.len()).unwrap();
        if start_number == SOON {
            return false;
        }
        passed.push(here);
        let mut out = Vec::new();
        let mut start = Start {
            with_faults: false,
            is_blind,
            out: &mut out,
        };
        start.play(&world, start_number);
        let (next, end) = out.pop().unwrap();
        world = next;
        world.reset = match end {
            End::Jumped(slot) | End::JumpedBlind(slot) => match world.contents[slot] {
                Content::Works => break 0,
                // Nobody can tell that it does not mark itself.
                Content::Silent if is_blind => break 0,
                Content::Panics => Reset::Watchdog,
                _ => Reset::Unknown,
            },
            // There somebody can repair it.
            End::Rescued => break 0,
            End::Died if is_blind => Reset::Watchdog,
            _ => Reset::Unknown,
        };
    };
    for world in passed.into_iter().rev() {
        more += 1;
        known.as_mut().map(|known| known.insert(world, more));
    }
    more <= SOON
}

/// Looks at every world that can be reached within `depth` starts; how many there were, and how many starts.
fn search(depth: usize, with_faults: bool, rescue: Rescue) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut known = HashMap::new();
    let mut blind: HashSet<([Content; 2], Reset)> = HashSet::new();
    // What has happened by then does not matter for what can come.
    let mut ends = HashSet::new();
    let mut queue = VecDeque::new();
    let mut starts = 0;
    let of_b = [Content::Empty, Content::Works, Content::Broken, Content::Kills];
    let fails = FAILS.map(|(step, cause)| Content::Fails(step, cause));
    let more = [Content::Dies, Content::Hangs].into_iter().chain(fails);
    let more = more.skip(if with_faults { ALIKE } else { 0 });
    let each = |a| of_b.into_iter().chain(more.clone()).map(move |b| [a, b]);
    let pairs = [Content::Works, Content::Silent, Content::Panics]
        .into_iter()
        .flat_map(each);
    for contents in pairs.chain([[Content::Kills; 2], [OOPS; 2]]) {
        for disk in [Some(State::default()), None] {
            let world = World {
                disk: Disk::of(disk),
                contents,
                rescue,
                reset: Reset::PowerOn,
                machine: 7,
            };
            queue.push_back((world, 0));
        }
    }
    while let Some((world, at)) = queue.pop_front() {
        let world = normal(world);
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(
            comes_up(&world, Some(&mut known)),
            "a system that works is not booted: {world:?}"
        );
        if at == depth {
            continue;
        }
        let mut out = Vec::new();
        Start {
            with_faults,
            is_blind: false,
            out: &mut out,
        }
        .play(&world, 1);
        starts += out.len();
        assert!(!out.is_empty());
        // Nothing on the disk matters then. Nothing else tells of an oops.
        if !world.contents.contains(&OOPS) && blind.insert((world.contents, world.reset)) {
            let is_up = comes_up(&world, None);
            assert!(is_up, "without its state, a system that works is not booted: {world:?}");
        }
        for (next, end) in out {
            check_tries(&world, &next);
            let next = normal(next);
            if !ends.insert((next.clone(), end.clone())) {
                continue;
            }
            let mut after = Vec::new();
            match end {
                End::Jumped(slot) => {
                    check_attempt(&next, slot);
                    main_system(&next, slot, &mut after);
                }
                End::Rescued => rescue_system(&next, &mut after),
                End::JumpedBlind(slot) => main_system(&next, slot, &mut after),
                End::Died => {
                    after.extend([Reset::Watchdog, Reset::Unknown].map(|reset| World { reset, ..next.clone() }));
                }
                End::Cut => after.push(World {
                    reset: Reset::PowerOn,
                    ..next
                }),
                End::Prompt | End::Reset => after.push(World {
                    reset: Reset::Unknown,
                    ..next
                }),
            }
            queue.extend(after.into_iter().map(|world| (world, at + 1)));
        }
    }
    (seen.len(), starts)
}

fn search_with(rescue: Rescue, faults: &[bool]) {
    let asked = std::env::var("CATO_MODEL_DEPTH")
        .ok()
        .and_then(|depth| depth.parse().ok());
    let more: usize = asked.unwrap_or(0);
    for with_faults in faults {
        let (depth, what) = if *with_faults {
            (DEPTH, "with")
        } else {
            (DEPTH + WELL, "without")
        };
        let (worlds, starts) = search(depth + more, *with_faults, rescue);
        println!(
            "rescue entry: {rescue:?}; {what} faults of the disk and the machine, {} starts deep: {worlds} worlds, {starts} ends of starts",
            depth + more
        );
        assert!(worlds > 1000, "{worlds}");
    }
}

#[test]
fn every_order_of_events_ends_well() {
    search_with(Rescue::None, &[true, false]);
}

#[test]
fn every_order_of_events_ends_well_with_a_rescue_entry() {
    search_with(Rescue::Works, &[true, false]);
    search_with(Rescue::Broken, &[false]);
}

#[test]
fn each_bug_is_found() {
    for (bug, rescue, said) in [
        (Bug::WaitsForEver, Rescue::None, "a wait without an end"),
        (Bug::BootsTheOther, Rescue::None, "is bad"),
        (Bug::ForgetsTheAttempt, Rescue::None, "jumped without a word"),
        (Bug::GivesTries, Rescue::None, "tries for nothing"),
        (Bug::LosesTheGoodOne, Rescue::None, "a system that works is not booted"),
        (Bug::WritesBothAtOnce, Rescue::None, "a cut left something else"),
        (
            Bug::IgnoresTheAccount,
            Rescue::None,
            "an unproven slot without its account",
        ),
        (Bug::SuspectsNobody, Rescue::None, "a system that works is not booted"),
        (Bug::RescuesTooSoon, Rescue::Works, "rescue before slot"),
        (Bug::TrialNeverEnds, Rescue::None, "marked after its trial"),
    ] {
        BUG.set(Some(bug));
        // It takes some starts until they all came last.
        let (depth, with_faults) = match bug {
            Bug::SuspectsNobody => (DEPTH + WELL, false),
            _ => (DEPTH, true),
        };
        let found = std::panic::catch_unwind(|| search(depth, with_faults, rescue)).expect_err(said);
        let text = found.downcast_ref::<String>().cloned();
        let text = text.or_else(|| found.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        assert!(
            text.as_ref().is_some_and(|text| text.contains(said)),
            "{bug:?}: {text:?}"
        );
    }
    BUG.set(None);
}

/// Whoever is not known to be good has its jump written down.
fn check_attempt(world: &World, slot: usize) {
    let Some(state) = world.disk.state() else {
        panic!("jumped without a word: {world:?}");
    };
    let is_good = state
        .slot(&name(slot))
        .is_some_and(|slot| slot.condition == Condition::Good);
    let is_told = state
        .attempt
        .as_ref()
        .is_some_and(|attempt| attempt.slot == name(slot) && !attempt.is_over);
    assert!(is_good || is_told, "jumped without a word: {world:?}");
}

/// Nobody but an updater gives tries.
fn check_tries(before: &World, after: &World) {
    let Some(found) = after.disk.state() else { return };
    for slot in &found.slots {
        let tries = match before.disk.state() {
            None => 1,
            Some(state) => state.slot(&slot.name).map_or(2, |slot| slot.tries),
        };
        assert!(slot.tries <= tries, "tries for nothing: {before:?} {after:?}");
    }
}
