use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const NOW: Now<'_> = Now {
    uptime_ms: 1500,
    time: 0,
    kernel: [6, 12],
    kexecs: 1,
    entry: "a",
};
const MACHINE: u64 = 7;

fn name(name: &str) -> SlotName {
    name.parse().unwrap()
}

fn rules() -> Rules {
    Rules {
        slots: vec![name("A"), name("B")],
        tries: 3,
        ..Rules::default()
    }
}

fn state() -> State {
    let mut state = State::new(&rules());
    state.wake(&rules(), MACHINE, Reset::PowerOn, NOW);
    state
}

fn choices(state: &State) -> Vec<&str> {
    state.choices().into_iter().map(SlotName::as_str).collect()
}

fn slot<'s>(state: &'s State, of: &str) -> &'s Slot {
    state.slot(&name(of)).unwrap()
}

fn boot(state: &mut State, into: &str, marks: bool, reset: Reset) {
    state.jump(&name(into), 1, NOW);
    if marks {
        state.mark_booted_good(&name(into), 1, NOW).unwrap();
    }
    state.wake(&rules(), MACHINE, reset, NOW);
}

#[test]
fn an_untested_slot_has_its_tries_and_is_then_given_up() {
    let mut state = state();
    for tries in [2, 1, 0] {
        assert_eq!(choices(&state), ["A", "B"]);
        boot(&mut state, "A", false, Reset::Watchdog);
        assert_eq!(slot(&state, "A").tries, tries);
    }
    assert_eq!(choices(&state), ["B"]);
    let a = slot(&state, "A");
    assert_eq!(a.condition, Condition::Bad(Because::Unproven));
    assert_eq!(a.failure, Some(Failing::NotMarked(Reset::Watchdog)));
    let given_up = state.events.last().unwrap();
    assert_eq!(given_up.kind, EventKind::GivenUp(Because::Unproven));
    assert_eq!(given_up.slot, Some(name("A")));
    assert_eq!(state.last_resorts(), [&name("A")]);
}

/// Power cuts say nothing of a slot that is good, and it needs no tries.
#[test]
fn a_good_slot_stays_good_through_power_cuts_and_without_tries() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    for _ in 0..100 {
        boot(&mut state, "A", false, Reset::PowerOn);
    }
    let a = state.slot_mut(&name("A")).unwrap();
    assert_eq!((a.condition, a.strikes), (Condition::Good, 0));
    a.tries = 0;
    assert_eq!(choices(&state), ["A", "B"]);
}

#[test]
fn a_good_slot_that_fails_again_and_again_is_given_up() {
    for (reset, boots) in [
        (Reset::Watchdog, 3),
        (Reset::Panic, 3),
        (Reset::Purgatory, 3),
        (Reset::Unknown, 8),
    ] {
        let mut state = state();
        boot(&mut state, "A", true, Reset::PowerOn);
        for _ in 1..boots {
            boot(&mut state, "A", false, reset);
            assert_eq!(slot(&state, "A").condition, Condition::Good, "{reset:?}");
        }
        boot(&mut state, "A", false, reset);
        assert_eq!(
            slot(&state, "A").condition,
            Condition::Bad(Because::Strikes),
            "{reset:?}"
        );
        // It was good once, so it comes before one that never was.
        assert_eq!(state.last_resorts(), [&name("A")]);
    }
}

#[test]
fn a_mark_in_between_makes_good_for_all_strikes() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::Unknown);
    for _ in 0..10 {
        boot(&mut state, "A", false, Reset::Watchdog);
        boot(&mut state, "A", false, Reset::Watchdog);
        boot(&mut state, "A", true, Reset::Watchdog);
        assert_eq!(slot(&state, "A").strikes, 0);
    }
}

#[test]
fn what_a_failure_costs() {
    use Cause::{Busy, Crash, Format, Io, Machine, Memory, Missing, Placement, Refused, Timeout, Verification};
    for (causes, tries) in [
        (
            [Missing, Format, Verification, Placement, Refused, Busy, Machine].as_slice(),
            3,
        ),
        (&[Io, Timeout, Crash, Memory], 2),
    ] {
        for cause in causes {
            let mut state = state();
            state.failed(&name("A"), Step::Load, *cause, NOW);
            assert_eq!(slot(&state, "A").tries, tries, "{cause:?}");
            assert_eq!(slot(&state, "A").failure, Some(Failing::Stage(Step::Load, *cause)));
            // A good one is as good as before.
            boot(&mut state, "A", true, Reset::PowerOn);
            let before = slot(&state, "A").clone();
            state.failed(&name("A"), Step::Load, *cause, NOW);
            let after = slot(&state, "A");
            assert_eq!(
                (after.condition, after.strikes),
                (before.condition, before.strikes),
                "{cause:?}"
            );
        }
    }
}

#[test]
fn once_is_once_whatever_comes_of_it() {
    let marked = || {
        let mut state = state();
        state.set_once(&name("B"), NOW).unwrap();
        assert_eq!(choices(&state), ["B", "A"]);
        state
    };
    let mut state = marked();
    boot(&mut state, "B", true, Reset::PowerOn);
    assert_eq!(choices(&state), ["A", "B"]);
    let mut state = marked();
    state.failed(&name("B"), Step::Probe, Cause::Missing, NOW);
    assert_eq!(choices(&state), ["A", "B"]);
    let mut state = marked();
    state.mark_bad(&name("B"), NOW).unwrap();
    assert_eq!((choices(&state), state.once.as_ref()), (vec!["A"], None));
    assert_eq!(state.set_once(&name("B"), NOW), Err(Refusal::Bad));
    assert_eq!(state.set_once(&name("C"), NOW), Err(Refusal::Unknown));
}

/// What RAUC does: the target is bad while it is written, and set-primary alone makes it bootable.
#[test]
fn an_update_is_bad_until_it_is_whole_and_then_untested() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    state.mark_bad(&name("B"), NOW).unwrap();
    assert_eq!(choices(&state), ["A"]);
    // Marked ones are no last resort: what is in there may be half of something.
    assert!(state.last_resorts().is_empty());
    state.set_primary(&name("B"), NOW).unwrap();
    assert_eq!(choices(&state), ["B", "A"]);
    assert_eq!(
        (slot(&state, "B").condition, slot(&state, "B").tries),
        (Condition::Untested, 3)
    );
    // It does not come up: back to the old one.
    for _ in 0..3 {
        boot(&mut state, "B", false, Reset::Unknown);
    }
    assert_eq!(choices(&state), ["A"]);
    // A good one keeps what it has when it is the first choice again.
    state.set_primary(&name("A"), NOW).unwrap();
    assert_eq!(slot(&state, "A").condition, Condition::Good);
}

/// RAUC 1.13 asks for the state alone: a target that Cato can't boot must not look like one that waits for its reboot.
#[test]
fn an_update_that_can_t_be_booted_is_not_well() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    state.mark_bad(&name("B"), NOW).unwrap();
    assert!(!state.is_well(slot(&state, "B")));
    state.set_primary(&name("B"), NOW).unwrap();
    assert!(state.is_well(slot(&state, "B")));
    // Not its own doing.
    state.failed(&name("B"), Step::Load, Cause::Busy, NOW);
    assert!(state.is_well(slot(&state, "B")));
    state.failed(&name("B"), Step::Budget, Cause::Format, NOW);
    assert!(!state.is_well(slot(&state, "B")));
    assert_eq!(choices(&state), ["B", "A"]);
    // The next bundle.
    state.mark_bad(&name("B"), NOW).unwrap();
    state.set_primary(&name("B"), NOW).unwrap();
    assert!(state.is_well(slot(&state, "B")));
    // A good one that could not be booted is the first choice as before, and whoever updates the machine hears of it.
    state.failed(&name("A"), Step::Probe, Cause::Missing, NOW);
    assert!(!state.is_well(slot(&state, "A")));
    boot(&mut state, "A", true, Reset::Unknown);
    assert!(state.is_well(slot(&state, "A")));
}

/// The system that asks runs on it, and may still mark itself.
#[test]
fn the_last_try_is_well_while_it_runs() {
    let mut state = state();
    for _ in 0..2 {
        boot(&mut state, "A", false, Reset::Unknown);
    }
    state.jump(&name("A"), 1, NOW);
    assert_eq!((slot(&state, "A").tries, choices(&state)), (0, vec!["B"]));
    assert!(state.is_well(slot(&state, "A")));
    state.wake(&rules(), MACHINE, Reset::Unknown, NOW);
    assert!(!state.is_well(slot(&state, "A")));
}

#[test]
fn a_mark_that_says_nothing_new_leaves_no_event() {
    let mut state = state();
    state.jump(&name("A"), 1, NOW);
    state.mark_booted_good(&name("A"), 1, NOW).unwrap();
    let marked = state.clone();
    state.mark_booted_good(&name("A"), 1, NOW).unwrap();
    state.mark_good(&name("A"), NOW).unwrap();
    assert_eq!(state, marked);
    // The next boot's first mark does, and so does one after a failure.
    boot(&mut state, "A", true, Reset::Unknown);
    let count = |state: &State| state.events.iter().filter(|e| e.kind == EventKind::MarkedGood).count();
    assert_eq!(count(&state), 2);
    state.failed(&name("A"), Step::Load, Cause::Io, NOW);
    state.mark_good(&name("A"), NOW).unwrap();
    assert_eq!((count(&state), slot(&state, "A").failure), (3, None));
}

#[test]
fn whoever_says_from_now_on_does_not_mean_after_something_else() {
    let mut state = state();
    state.set_once(&name("B"), NOW).unwrap();
    assert_eq!(choices(&state), ["B", "A"]);
    state.set_primary(&name("A"), NOW).unwrap();
    assert_eq!((choices(&state), state.next_once()), (vec!["A", "B"], None));
}

/// A technician who looks at the menu and reboots is no reason to suspect a slot.
#[test]
fn a_start_that_somebody_stopped_says_nothing_of_a_slot() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::Unknown);
    for _ in 0..8 {
        state.stopped(NOW);
        state.stopped(NOW);
        assert_eq!(state.suspect(Reset::Watchdog), None);
        state.wake(&rules(), MACHINE, Reset::Watchdog, NOW);
    }
    let count = |wanted| state.events.iter().filter(|event| event.kind == wanted).count();
    assert_eq!(count(EventKind::Stopped), 8);
    assert_eq!(count(EventKind::Died(Reset::Watchdog)), 0);
}

#[test]
fn only_the_boot_itself_can_mark_itself() {
    let mut state = state();
    assert_eq!(state.mark_booted_good(&name("A"), 1, NOW), Err(Refusal::Stale));
    state.jump(&name("A"), 5, NOW);
    assert_eq!(state.mark_booted_good(&name("B"), 5, NOW), Err(Refusal::Other));
    assert_eq!(state.mark_booted_good(&name("A"), 4, NOW), Err(Refusal::Stale));
    assert_eq!(slot(&state, "A").condition, Condition::Untested);
    state.mark_booted_good(&name("A"), 5, NOW).unwrap();
    // Nothing is left to be tried.
    assert_eq!(state.trial_over(&name("A"), 5, NOW), Err(Refusal::Marked));
}

/// The disk was too slow for it, and a good one is booted all the same. Its mark is the only trace that the start was well.
#[test]
fn a_good_slot_whose_jump_was_not_written_down_has_booted() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    for _ in 0..9 {
        state.wake(&rules(), MACHINE, Reset::Unknown, NOW);
        assert_eq!(state.suspect(Reset::Unknown), None);
        assert_eq!(state.mark_booted_good(&name("B"), 7, NOW), Err(Refusal::Other));
        // Each time that it is said.
        for _ in 0..2 {
            state.mark_booted_good(&name("A"), 7, NOW).unwrap();
        }
        assert!(state.has_jumped() && slot(&state, "A").is_plainly_good());
    }
}

/// An update that kills the service Linux is given up in the end, and is not what is booted once for ever; its updater hears of it.
#[test]
fn what_the_service_linux_dies_of_is_charged() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    state.set_primary(&name("B"), NOW).unwrap();
    let mut starts = 0;
    while slot(&state, "B").is_bootable() {
        let suspect = state.suspect(Reset::Unknown);
        state.wake(&rules(), MACHINE, Reset::Unknown, NOW);
        if let Some(suspect) = suspect {
            assert_eq!((&suspect.slot, suspect.is_new), (&name("B"), true));
            state.died_of(&suspect.slot, NOW);
            assert!(!state.is_well(slot(&state, "B")));
            state.jump(&name("A"), 1, NOW);
            state.mark_booted_good(&name("A"), 1, NOW).unwrap();
        }
        starts += 1;
        assert!(starts < 20);
    }
    assert_eq!(slot(&state, "B").condition, Condition::Bad(Because::Unproven));
    // A power cut costs it nothing, and each has its turn, whatever the one before it has lost.
    let mut state = self::state();
    boot(&mut state, "A", true, Reset::PowerOn);
    state.set_once(&name("B"), NOW).unwrap();
    let mut charged = Vec::new();
    for reset in [
        Reset::Watchdog,
        Reset::Watchdog,
        Reset::PowerOn,
        Reset::PowerOn,
        Reset::Watchdog,
        Reset::Watchdog,
    ] {
        let suspect = state.suspect(reset);
        state.wake(&rules(), MACHINE, reset, NOW);
        if let Some(suspect) = suspect {
            if suspect.is_new {
                state.died_of(&suspect.slot, NOW);
            }
            charged.push((suspect.slot.to_string(), suspect.is_new));
        }
    }
    let charged: Vec<(&str, bool)> = charged.iter().map(|(slot, is_new)| (slot.as_str(), *is_new)).collect();
    assert_eq!(
        charged,
        [("B", true), ("B", false), ("B", false), ("A", true), ("A", true)]
    );
    // Nor does it keep the other from its turn once both are given up.
    let mut state = self::state();
    for slot in &mut state.slots {
        (slot.condition, slot.tries) = (Condition::Bad(Because::Unproven), 0);
    }
    state.leave(false, NOW);
    let first = |state: &State| state.last_resorts().first().copied().cloned();
    let killer = first(&state).unwrap();
    for _ in 0..3 {
        let suspect = state.suspect(Reset::Watchdog);
        state.wake(&rules(), MACHINE, Reset::Watchdog, NOW);
        if let Some(suspect) = suspect.filter(|suspect| suspect.is_new) {
            state.died_of(&suspect.slot, NOW);
        }
    }
    assert_ne!(first(&state), Some(killer));
    // A good one stays good; what was to be booted once is not, from then on.
    let mut state = self::state();
    state.mark_good(&name("B"), NOW).unwrap();
    state.set_once(&name("B"), NOW).unwrap();
    state.died_of(&name("B"), NOW);
    assert_eq!((slot(&state, "B").condition, &state.once), (Condition::Good, &None));
}

#[test]
fn a_trial_that_is_over_counts_at_once_and_only_once() {
    let mut state = state();
    state.jump(&name("A"), 5, NOW);
    state.trial_over(&name("A"), 5, NOW).unwrap();
    let failures = |state: &State| {
        state
            .events
            .iter()
            .filter(|e| matches!(e.kind, EventKind::Failed(_)))
            .count()
    };
    assert_eq!((slot(&state, "A").failure, failures(&state)), (Some(Failing::Trial), 1));
    state.wake(&rules(), MACHINE, Reset::Unknown, NOW);
    assert_eq!((slot(&state, "A").failure, failures(&state)), (Some(Failing::Trial), 1));
}

#[test]
fn a_cloned_disk_keeps_what_is_good_and_forgets_what_failed() {
    let mut state = state();
    boot(&mut state, "A", true, Reset::PowerOn);
    boot(&mut state, "A", false, Reset::Watchdog);
    state.jump(&name("A"), 1, NOW);
    state.wake(&rules(), MACHINE + 1, Reset::Unknown, NOW);
    let a = slot(&state, "A");
    assert_eq!(
        (a.condition, a.strikes, state.machine),
        (Condition::Good, 0, MACHINE + 1)
    );
    assert_eq!(state.events.last().unwrap().kind, EventKind::Cloned);
    // Nobody knows which machine this is: no clone.
    state.wake(&rules(), 0, Reset::Unknown, NOW);
    let kinds: Vec<_> = state.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds.last(), Some(&EventKind::Died(Reset::Unknown)));
    assert_eq!(kinds.iter().filter(|kind| **kind == EventKind::Cloned).count(), 1);
    assert_eq!(state.machine, MACHINE + 1);
}

/// Two in a row are no chance, whichever it was.
#[test]
fn a_slot_that_makes_the_kernel_oops_is_suspected() {
    let oopses = |slots: &[Option<&str>]| {
        let mut state = state();
        for slot in slots {
            state.wake(&rules(), MACHINE, Reset::Unknown, NOW);
            if let Some(slot) = slot {
                state.failed(&name(slot), Step::Kexec, Cause::Crash, NOW);
            }
        }
        let suspect = state.suspect(Reset::Unknown);
        suspect.map(|suspect| (suspect.slot, suspect.again))
    };
    assert_eq!(oopses(&[Some("B")]), Some((name("B"), false)));
    assert_eq!(oopses(&[Some("B"), Some("B")]), Some((name("B"), true)));
    assert_eq!(oopses(&[Some("B"), Some("A")]), Some((name("A"), true)));
    assert_eq!(oopses(&[Some("B"), None, Some("B")]), Some((name("B"), false)));
    // It is given up by then, and comes last anyway.
    assert_eq!(oopses(&[Some("B"), Some("B"), Some("B")]), None);
}

/// Whoever came to the prompt and switched it off has killed nothing.
#[test]
fn what_failed_and_left_the_service_linux_alive_is_not_suspected() {
    let mut state = state();
    for _ in 0..20 {
        state.wake(&rules(), MACHINE, Reset::Watchdog, NOW);
        state.failed(&name("A"), Step::Verify, Cause::Verification, NOW);
        let suspect = state.suspect(Reset::Watchdog);
        state.failed(&name("B"), Step::Probe, Cause::Missing, NOW);
        assert_eq!(state.suspect(Reset::Watchdog), None);
        if state.boots > 3 {
            assert!(suspect.is_some(), "one of them was not tried");
        }
    }
}

/// The one that was tried last comes last, whatever became of it.
#[test]
fn last_resorts_take_turns() {
    let mut state = state();
    for slot in ["A", "B"] {
        for _ in 0..3 {
            boot(&mut state, slot, false, Reset::Watchdog);
        }
    }
    assert_eq!(state.last_resorts(), [&name("A"), &name("B")]);
    state.failed(&name("A"), Step::Kexec, Cause::Crash, NOW);
    assert_eq!(state.last_resorts(), [&name("B"), &name("A")]);
    state.jump(&name("B"), 1, NOW);
    assert_eq!(state.last_resorts(), [&name("A"), &name("B")]);
}

/// Starts that end before anything is booted: what was next is suspected, sooner where something says that it failed. A power cut
/// says nothing.
#[test]
fn what_may_kill_the_service_linux_is_suspected() {
    for (reset, starts, when_both_came_last_twice) in [
        (Reset::Watchdog, Some(2), Some(4)),
        (Reset::Unknown, Some(4), Some(8)),
        (Reset::PowerOn, None, None),
    ] {
        let mut state = state();
        boot(&mut state, "A", true, Reset::PowerOn);
        let mut suspects = Vec::new();
        for _ in 0..13 {
            let suspect = state.suspect(reset);
            state.wake(&rules(), MACHINE, reset, NOW);
            if let Some(suspect) = suspect.as_ref().filter(|suspect| suspect.is_new) {
                state.died_of(&suspect.slot, NOW);
            }
            suspects.push(suspect);
            // One before it fails by itself, each time.
            state.failed(&name("B"), Step::Probe, Cause::Missing, NOW);
        }
        let first = suspects.iter().position(Option::is_some).map(|at| at + 1);
        assert_eq!(first, starts, "{reset}");
        let suspects: Vec<_> = suspects.into_iter().flatten().collect();
        let again = suspects.iter().position(|suspect| suspect.again);
        assert_eq!(again, when_both_came_last_twice, "{reset}");
        let suspects: HashSet<_> = suspects.into_iter().map(|suspect| suspect.slot).collect();
        assert_eq!(
            suspects.len(),
            if starts.is_some() { 2 } else { 0 },
            "{reset}: they take turns"
        );
    }
    // A test of the watchdog, an entry without a slot, or a trial that is over have booted something.
    for kind in 0..3 {
        let mut state = state();
        match kind {
            0 => state.leave(true, NOW),
            1 => state.leave(false, NOW),
            _ => {
                state.jump(&name("A"), 1, NOW);
                state.trial_over(&name("A"), 1, NOW).unwrap();
                let again = state.mark_booted_good(&name("A"), 1, NOW);
                assert_eq!(again, Err(Refusal::Over));
            }
        }
        assert_eq!(state.was_test(), kind == 0);
        state.wake(&rules(), MACHINE, Reset::Watchdog, NOW);
        assert!(
            !state
                .events
                .iter()
                .any(|event| matches!(event.kind, EventKind::Died(_)))
        );
    }
}

#[test]
fn what_the_factory_does_not_name_is_empty_until_something_is_installed() {
    let mut state = State::factory(&[name("A")]);
    state.wake(&rules(), MACHINE, Reset::PowerOn, NOW);
    assert_eq!(choices(&state), ["A"]);
    assert!(state.last_resorts().is_empty(), "not even where A fails");
    assert_eq!(state.set_once(&name("B"), NOW), Err(Refusal::Bad));
    boot(&mut state, "A", true, Reset::PowerOn);
    assert_eq!(slot(&state, "B").condition, Condition::Bad(Because::Empty));
    state.set_primary(&name("B"), NOW).unwrap();
    assert_eq!((choices(&state), slot(&state, "B").tries), (vec!["B", "A"], 3));
    // What somebody boots all the same is not empty.
    let mut picked = State::factory(&[name("A")]);
    picked.wake(&rules(), MACHINE, Reset::PowerOn, NOW);
    boot(&mut picked, "B", false, Reset::Watchdog);
    assert_eq!(
        (slot(&picked, "B").condition, slot(&picked, "B").tries),
        (Condition::Untested, 2)
    );
    // One that comes later is an update's, and so is each where the factory has named none.
    let with_c = Rules {
        slots: vec![name("A"), name("B"), name("C")],
        ..rules()
    };
    state.wake(&with_c, MACHINE, Reset::PowerOn, NOW);
    assert_eq!(choices(&state), ["B", "A", "C"]);
    let mut state = State::factory(&[]);
    state.wake(&rules(), MACHINE, Reset::PowerOn, NOW);
    assert_eq!(choices(&state), ["A", "B"]);
}

#[test]
fn slots_come_and_go_with_the_config_and_there_are_never_too_many() {
    let mut state = state();
    let with = |slots: &[&str]| Rules {
        slots: slots.iter().map(|slot| name(slot)).collect(),
        tries: 2,
        ..Rules::default()
    };
    state.wake(&with(&["A", "B", "C", "D", "E"]), MACHINE, Reset::PowerOn, NOW);
    assert_eq!(choices(&state), ["A", "B", "C", "D"], "no room for a fifth");
    state.wake(&with(&["A", "E"]), MACHINE, Reset::PowerOn, NOW);
    assert_eq!(choices(&state), ["A", "E"], "those that are not wanted any more went");
    for _ in 0..100 {
        boot(&mut state, "A", true, Reset::PowerOn);
    }
    assert_eq!(state.events.len(), MOST_EVENTS);
}

/// What a main system may hold of the boot that it is: each jump has a nonce of its own.
#[derive(Debug, Clone)]
enum Deed {
    Jump(&'static str),
    Wake(Reset),
    /// With the nonce of so many jumps ago.
    Good(&'static str, u64),
    TrialOver(&'static str, u64),
    /// An updater's.
    Bad(&'static str),
    Primary(&'static str),
}

fn deed() -> impl Strategy<Value = Deed> {
    let slot = || prop_oneof![Just("A"), Just("B")];
    let reset = prop_oneof![Just(Reset::Unknown), Just(Reset::PowerOn), Just(Reset::Watchdog)];
    prop_oneof![
        slot().prop_map(Deed::Jump),
        reset.prop_map(Deed::Wake),
        (slot(), 0..2_u64).prop_map(|(slot, ago)| Deed::Good(slot, ago)),
        (slot(), 0..2_u64).prop_map(|(slot, ago)| Deed::TrialOver(slot, ago)),
        slot().prop_map(Deed::Bad),
        slot().prop_map(Deed::Primary),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// RB-6: whatever happens in whatever order, a mark counts only from the system that was booted last, in this boot of it, and
    /// while it is not counted yet.
    #[test]
    fn only_the_boot_that_runs_is_marked(deeds in proptest::collection::vec(deed(), 1..12)) {
        let mut state = state();
        let mut nonce = 0_u64;
        let mut runs: Option<(&str, u64)> = None;
        let mut is_marked = false;
        for deed in deeds {
            let before = state.clone();
            match deed {
                Deed::Jump(slot) => {
                    nonce = nonce.wrapping_add(1);
                    state.jump(&name(slot), nonce, NOW);
                    (runs, is_marked) = (Some((slot, nonce)), false);
                }
                Deed::Wake(reset) => {
                    state.wake(&rules(), MACHINE, reset, NOW);
                    runs = None;
                }
                Deed::Good(slot, ago) => {
                    let shown = nonce.wrapping_sub(ago);
                    // What was not written down can be good already, and nothing else.
                    let is_unwritten = !state.has_jumped() && self::slot(&state, slot).condition == Condition::Good;
                    let is_good = state.mark_booted_good(&name(slot), shown, NOW).is_ok();
                    prop_assert_eq!(is_good, runs == Some((slot, shown)) || is_unwritten);
                    prop_assert!(is_good || state == before);
                    if is_unwritten {
                        runs = Some((slot, shown));
                    }
                    is_marked |= is_good;
                }
                Deed::TrialOver(slot, ago) => {
                    let shown = nonce.wrapping_sub(ago);
                    let is_over = state.trial_over(&name(slot), shown, NOW).is_ok();
                    prop_assert_eq!(is_over, runs == Some((slot, shown)) && !is_marked);
                    prop_assert!(is_over || state == before);
                    if is_over {
                        runs = None;
                    }
                }
                Deed::Bad(slot) => state.mark_bad(&name(slot), NOW).unwrap(),
                Deed::Primary(slot) => state.set_primary(&name(slot), NOW).unwrap(),
            }
        }
    }
}
