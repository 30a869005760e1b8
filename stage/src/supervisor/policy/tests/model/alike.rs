//! Worlds that differ in nothing that is decided by are one.

use super::*;

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
pub(super) fn normal(mut world: World) -> World {
    let newest = world.disk.0.iter().flatten().map(|(_, sequence)| *sequence).max();
    for (state, sequence) in world.disk.0.iter_mut().flatten() {
        (state.events, state.boots) = remembered(state);
        state.slots.iter_mut().for_each(|slot| slot.failure = None);
        *sequence = if Some(*sequence) == newest { 2 } else { 1 };
    }
    world
}
