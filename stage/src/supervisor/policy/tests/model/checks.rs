//! What holds whenever something is booted.

use super::*;

/// The rescue entry is booted only after every slot that may be booted, but for one that the service kernel may die of.
pub(super) fn check_rescue(state: &State, tried: &Tried, world: &World) {
    for (slot, entry) in ENTRIES.iter().enumerate() {
        let suspect = tried.suspect.as_ref();
        let is_suspect = suspect.is_some_and(|suspect| suspect.again || suspect.slot == name(slot));
        let is_left = state.slot(&name(slot)).unwrap().is_bootable() && !is_suspect;
        let was_tried = tried.failed.iter().any(|failed| failed == entry);
        assert!(!is_left || was_tried, "rescue before slot {slot}: {state:?} {world:?}");
    }
}

/// A bad slot is booted only when no better one can be, or the better one may be what the service kernel dies of.
pub(super) fn check_choice(state: &State, slot: usize, world: &World, why: Why, suspect: Option<&Suspect>) {
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

/// Whoever is not known to be good has its jump written down.
pub(super) fn check_attempt(world: &World, slot: usize) {
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
pub(super) fn check_tries(before: &World, after: &World) {
    let Some(found) = after.disk.state() else { return };
    for slot in &found.slots {
        let tries = match before.disk.state() {
            None => 1,
            Some(state) => state.slot(&slot.name).map_or(2, |slot| slot.tries),
        };
        assert!(slot.tries <= tries, "tries for nothing: {before:?} {after:?}");
    }
}
