//! What a main system does until the machine comes up again.

use super::*;

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
pub(super) fn main_system(world: &World, slot: usize, out: &mut Vec<World>) {
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
pub(super) fn rescue_system(world: &World, out: &mut Vec<World>) {
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
