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

mod alike;
mod checks;
mod disk;
mod start;
mod systems;

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;

use super::super::*;
use crate::select::Why;
use crate::state::block::{self, Block};
use crate::state::slots::{Now, Refusal, Suspect};
use crate::state::store::{self, Copies, Copy, LoadError, Stored};
use crate::state::{Because, Condition, EventKind, Failing, State};
use crate::supervisor::event::Exit;
use crate::worker::message::{Answer, FoundState, FoundStored};
use alike::normal;
use checks::{check_attempt, check_tries};
use config::SlotName;
use disk::Disk;
use start::{End, Start};
use systems::{main_system, rescue_system};

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

fn name(slot: usize) -> SlotName {
    NAMES[slot].parse().unwrap()
}

/// The entries of the slots.
const ENTRIES: [&str; 2] = ["a", "b"];

const OOPS: Content = Content::Fails(Step::Kexec, Cause::Crash);

fn boots(world: &World, slot: usize) -> bool {
    matches!(world.contents[slot], Content::Works | Content::Silent | Content::Panics)
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
                    main_system(&next, slot, with_faults, &mut after);
                }
                End::Rescued => rescue_system(&next, with_faults, &mut after),
                End::JumpedBlind(slot) => main_system(&next, slot, with_faults, &mut after),
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
