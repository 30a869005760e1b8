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
use std::collections::{HashSet, VecDeque};
use std::io;

use super::super::event::Exit;
use super::*;
use crate::select::Why;
use crate::state::block::{self, Block};
use crate::state::slots::{Now, Refusal};
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
    /// Its worker is killed.
    Dies,
    /// Its worker hangs.
    Hangs,
    /// Its files kill the service kernel, and the watchdog resets the machine.
    Kills,
    /// Nothing is there.
    Empty,
}

const NEW: [Content; 6] = [
    Content::Kills,
    Content::Works,
    Content::Silent,
    Content::Panics,
    Content::Broken,
    Content::Flaky,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    disk: Disk,
    contents: [Content; 2],
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
}

thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

fn has(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// How a start ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Jumped(usize),
    /// The same without the state, which was not found.
    JumpedBlind(usize),
    Prompt,
    Reset,
    Cut,
    Died,
}

fn name(slot: usize) -> SlotName {
    NAMES[slot].parse().unwrap()
}

fn rules_config() -> Config {
    let mut config = crate::select::tests::config(&["a", "b"]);
    config.console.countdown = Duration::ZERO;
    config.slots.tries = 2;
    for (slot, entry) in config.entries.iter_mut().enumerate() {
        entry.slot = Some(name(slot));
    }
    config
}

/// Two disks that differ in nothing that is decided by are one.
fn normal(mut world: World) -> World {
    let newest = world.disk.0.iter().flatten().map(|(_, sequence)| *sequence).max();
    for (state, sequence) in world.disk.0.iter_mut().flatten() {
        // What happened in the last boots may be decided by: a crash, whether there was a jump, or how often nothing was booted; with two
        // slots, four weights are a round.
        let crash = EventKind::Failed(Failing::Stage(Step::Kexec, Cause::Crash));
        let weight = |event: &crate::state::Event| match event.kind {
            EventKind::Died(Reset::Unknown) => 1,
            EventKind::Died(reset) if reset.is_failure() => 2,
            _ => 0,
        };
        let last = state.boots;
        let boots = (0..=last).rev();
        let died = (state.events.iter().rev().zip(boots))
            .take_while(|(event, boot)| event.boot == *boot && matches!(event.kind, EventKind::Died(_)))
            .count();
        let mut kept = state.events.split_off(state.events.len() - died);
        if died == 0 {
            let of_it = state.events.iter().filter(|event| event.boot == last);
            let mut jumped = of_it.rev().find(|event| event.kind == EventKind::Jumped).cloned();
            if let Some(event) = &mut jumped {
                event.slot = None;
            }
            kept.extend(jumped.or_else(|| {
                state
                    .events
                    .last()
                    .filter(|e| e.kind == crash && e.boot == last)
                    .cloned()
            }));
        } else {
            let sum: usize = kept.iter().map(weight).sum();
            let one = kept.first().cloned().map(|event| crate::state::Event {
                kind: EventKind::Died(Reset::Unknown),
                ..event
            });
            kept = one
                .into_iter()
                .cycle()
                .take(if sum < 8 { sum } else { sum % 4 + 4 })
                .collect();
        }
        for (event, boot) in kept.iter_mut().zip(1..) {
            (event.boot, event.uptime_ms, event.time) = (boot, 0, 0);
        }
        state.boots = u32::try_from(kept.len()).unwrap().max(last.min(1));
        state.events = kept;
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
        let mut policy = Policy::new(Some(rules_config()), chance);
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
        // The prompt, and once its timer.
        if again {
            return self.out.push((world, End::Prompt));
        }
        let due = policy.due().filter(|_| !has(Bug::WaitsForEver));
        let retry = due.expect("a wait without an end");
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
                self.answer(policy, world, Ok(Answer::State(Box::new(found))), now, again);
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
            Question::Unload | Question::LastWords(_) => self.answer(policy, world, Ok(Answer::Done), now, again),
            other => panic!("{other:?}"),
        }
    }

    /// The power fails in the middle of writing.
    fn cuts(&mut self, world: &World, stored: &Stored) {
        let old = world.disk.state();
        for (writes_left, torn) in [(0, false), (0, true), (1, false), (1, true), (2, false)] {
            let mut medium = Medium {
                writes_left,
                torn,
                ..world.disk.medium()
            };
            if has(Bug::WritesBothAtOnce) && torn {
                medium.blocks = [[0xff; block::SIZE]; 2];
            }
            let _ = stored.clone().save(&mut medium);
            let next = World {
                disk: medium.disk(),
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
        let slot = NAMES
            .iter()
            .position(|n| Some(*n) == boot.choice.entry.slot.as_ref().map(SlotName::as_str))
            .unwrap();
        let content = world.contents[slot];
        let fail = |mut policy: Policy, step, cause| {
            let mut actions = policy.on(now, Event::Said(Message::Step(step)));
            actions.extend(policy.on(now, Event::Said(Message::fail(Failure::new(cause, "x")))));
            (policy, actions)
        };
        let (policy, actions) = match content {
            Content::Kills => return self.out.push((world, End::Died)),
            Content::Broken => fail(policy, Step::Verify, Cause::Verification),
            Content::Flaky => fail(policy, Step::Load, Cause::Io),
            Content::Empty => fail(policy, Step::Probe, Cause::Missing),
            Content::Dies => {
                let mut actions = policy.on(now, Event::Said(Message::Step(Step::Load)));
                actions.extend(policy.on(now, Event::Gone(Exit::Signal(6))));
                (policy, actions)
            }
            Content::Hangs => {
                let actions = policy.on(now + millis(deadlines::ENTRY), Event::Tick);
                (policy, actions)
            }
            Content::Works | Content::Silent | Content::Panics => {
                let chosen = slot;
                let Some(account) = &boot.account else {
                    assert!(self.is_blind, "a slot without an account");
                    return self.out.push((world, End::JumpedBlind(slot)));
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
                        return self.out.push((world, End::Jumped(slot)));
                    }
                    let (policy, actions) = fail(policy, Step::Account, Cause::Timeout);
                    return self.act(policy, world, actions, now, again);
                }
                let mut stored = account.kept.stored.clone();
                stored.state.jump(&name(slot), NONCE, Now::default());
                if self.with_faults {
                    self.cuts(&world, &stored);
                    // The disk never answers.
                    let mut hung = policy.clone();
                    let mut actions = hung.on(now, Event::Said(Message::Step(Step::Account)));
                    let late = now + millis(deadlines::step(Step::Account));
                    actions.extend(hung.on(late, Event::Tick));
                    self.act(hung, world.clone(), actions, late, again);
                    if account.is_needed {
                        let (policy, actions) = fail(policy.clone(), Step::Account, Cause::Io);
                        self.act(policy, world.clone(), actions, now, again);
                    } else {
                        self.out.push((world.clone(), End::Jumped(slot)));
                    }
                }
                if !has(Bug::ForgetsTheAttempt) {
                    world.disk = Self::written(&world, &stored).0;
                }
                return self.out.push((world, End::Jumped(slot)));
            }
        };
        self.act(policy, world, actions, now, again);
    }
}

fn boots(world: &World, slot: usize) -> bool {
    matches!(world.contents[slot], Content::Works | Content::Silent | Content::Panics)
}

/// A bad slot is booted only when no better one can be, or the better one may be what the service kernel dies of.
fn check_choice(state: &State, slot: usize, world: &World, why: Why, suspect: Option<&SlotName>) {
    let is = |slot: usize| state.slot(&name(slot)).unwrap();
    assert_ne!(is(slot).condition, Condition::Bad(Because::Marked), "{world:?}");
    if !is(slot).is_bootable() {
        assert_eq!(why, Why::LastResort, "slot {slot} is bad: {state:?} {world:?}");
        let better =
            (0..2).find(|other| is(*other).is_bootable() && boots(world, *other) && Some(&name(*other)) != suspect);
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
    match world.contents[slot] {
        Content::Silent => {
            out.extend([Reset::Unknown, Reset::PowerOn].map(|reset| with(world, reset)));
            out.push(moved(world));
        }
        Content::Panics => out.push(with(world, Reset::Watchdog)),
        _ => {
            out.push(with(world, Reset::PowerOn)); // before the mark, or in the middle of it
            out.push(moved(world));
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

/// Without any fault, or without its state, a system that works and that nobody marked as bad is up soon.
fn comes_up(world: &World, is_blind: bool) -> bool {
    let is_left = |slot: usize| {
        let marked = world
            .disk
            .state()
            .and_then(|state| Some(state.slot(&name(slot))?.condition));
        world.contents[slot] == Content::Works && marked != Some(Condition::Bad(Because::Marked))
    };
    if !(0..2).any(is_left) {
        return true;
    }
    let mut world = world.clone();
    for start_number in 0..SOON {
        let mut out = Vec::new();
        let mut start = Start {
            with_faults: false,
            is_blind,
            out: &mut out,
        };
        start.play(&world, start_number);
        let (next, end) = out.pop().unwrap();
        world = next;
        let end = match end {
            End::JumpedBlind(slot) => End::Jumped(slot),
            end => end,
        };
        match end {
            // Nobody can tell that it does not mark itself.
            End::Jumped(slot) if is_blind && world.contents[slot] == Content::Silent => return true,
            End::Jumped(slot) if world.contents[slot] == Content::Works => return true,
            End::Jumped(slot) if world.contents[slot] == Content::Panics => world.reset = Reset::Watchdog,
            End::Died => world.reset = if is_blind { Reset::Watchdog } else { Reset::Unknown },
            _ => world.reset = Reset::Unknown,
        }
    }
    false
}

/// Looks at every world that can be reached within `depth` starts; how many there were, and how many starts.
fn search(depth: usize, with_faults: bool) -> (usize, usize) {
    let mut seen = HashSet::new();
    let mut blind: HashSet<([Content; 2], Reset)> = HashSet::new();
    let mut queue = VecDeque::new();
    let mut starts = 0;
    for a in [Content::Works, Content::Silent, Content::Panics] {
        for b in [
            Content::Empty,
            Content::Works,
            Content::Broken,
            Content::Dies,
            Content::Hangs,
            Content::Kills,
        ] {
            for disk in [Some(State::default()), None] {
                let world = World {
                    disk: Disk::of(disk),
                    contents: [a, b],
                    reset: Reset::PowerOn,
                    machine: 7,
                };
                queue.push_back((world, 0));
            }
        }
    }
    while let Some((world, at)) = queue.pop_front() {
        let world = normal(world);
        if !seen.insert(world.clone()) {
            continue;
        }
        assert!(comes_up(&world, false), "a system that works is not booted: {world:?}");
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
        // Nothing on the disk matters then.
        if blind.insert((world.contents, world.reset)) {
            let is_up = comes_up(&world, true);
            assert!(is_up, "without its state, a system that works is not booted: {world:?}");
        }
        for (next, end) in out {
            check_tries(&world, &next);
            let mut after = Vec::new();
            match end {
                End::Jumped(slot) => {
                    check_attempt(&next, slot);
                    main_system(&next, slot, &mut after);
                }
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

#[test]
fn every_order_of_events_ends_well() {
    let asked = std::env::var("CATO_MODEL_DEPTH")
        .ok()
        .and_then(|depth| depth.parse().ok());
    let more: usize = asked.unwrap_or(0);
    for (depth, with_faults, what) in [(DEPTH + more, true, "with"), (DEPTH + WELL + more, false, "without")] {
        let (worlds, starts) = search(depth, with_faults);
        println!("{worlds} worlds, {starts} starts, {depth} deep, {what} faults of the disk");
        assert!(worlds > 1000, "{worlds}");
    }
}

#[test]
fn each_bug_is_found() {
    for (bug, said) in [
        (Bug::WaitsForEver, "a wait without an end"),
        (Bug::BootsTheOther, "is bad"),
        (Bug::ForgetsTheAttempt, "jumped without a word"),
        (Bug::GivesTries, "tries for nothing"),
        (Bug::LosesTheGoodOne, "a system that works is not booted"),
        (Bug::WritesBothAtOnce, "a cut left something else"),
        (Bug::IgnoresTheAccount, "an unproven slot without its account"),
    ] {
        BUG.set(Some(bug));
        let found = std::panic::catch_unwind(|| search(DEPTH, true)).expect_err(said);
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
