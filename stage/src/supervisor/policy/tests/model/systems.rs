//! What a main system does until the machine comes up again.

use super::*;

/// Changes that a main system makes to a world.
struct Changes<'o> {
    /// Whether what they write may be cut.
    with_cuts: bool,
    /// What the cuts left.
    out: &'o mut Vec<World>,
}

impl Changes<'_> {
    /// One that is not refused.
    fn make(
        &mut self,
        world: &World,
        change: impl FnOnce(&mut State) -> Result<(), Refusal>,
    ) -> Result<World, Refusal> {
        let mut changed = world.clone();
        let written = changed.disk.change(change)?;
        if self.with_cuts {
            let cuts = world.disk.cuts(&written).into_iter();
            self.out.extend(cuts.map(|disk| World {
                disk,
                reset: Reset::PowerOn,
                ..world.clone()
            }));
        }
        Ok(changed)
    }

    /// The system in `slot` marks itself.
    fn mark(&mut self, world: &World, slot: usize) -> Option<World> {
        let change = |state: &mut State| state.mark_booted_good(&name(slot), NONCE, Now::default());
        match self.make(world, change) {
            Ok(marked) => Some(marked),
            Err(Refusal::Stale | Refusal::Other | Refusal::Unknown | Refusal::Over) => None,
            Err(other) => panic!("{other}"),
        }
    }

    /// The time for its mark is over.
    fn end_trial(&mut self, world: &World, slot: usize) -> Option<World> {
        let change = |state: &mut State| {
            if has(Bug::TrialNeverEnds) {
                return Ok(());
            }
            state.trial_over(&name(slot), NONCE, Now::default())
        };
        self.make(world, change).ok()
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

/// What the main system in `slot` does, until the machine comes up again; the power may fail in the middle of what it writes.
pub(super) fn main_system(world: &World, slot: usize, with_cuts: bool, out: &mut Vec<World>) {
    let with = |world: &World, reset| World { reset, ..world.clone() };
    let mut cut = Vec::new();
    let mut changes = Changes {
        with_cuts,
        out: &mut cut,
    };
    match world.contents[slot] {
        Content::Silent => {
            out.extend([Reset::Unknown, Reset::PowerOn].map(|reset| with(world, reset)));
            // It reboots itself.
            out.extend(changes.end_trial(world, slot));
            out.push(moved(world));
        }
        Content::Panics => out.push(with(world, Reset::Watchdog)),
        _ => {
            out.push(with(world, Reset::PowerOn)); // before the mark
            out.push(moved(world));
            if let Some(late) = changes.end_trial(world, slot) {
                assert_eq!(changes.mark(&late, slot), None, "marked after its trial: {late:?}");
                out.push(with(&late, Reset::Unknown));
            }
            match changes.mark(world, slot) {
                Some(up) => updater(&up, slot, &mut changes, out),
                None => out.push(with(world, Reset::Unknown)),
            }
        }
    }
    out.append(&mut cut);
}

/// What a main system in `slot` does that has marked itself.
fn updater(up: &World, slot: usize, changes: &mut Changes<'_>, out: &mut Vec<World>) {
    let with = |world: &World, reset| World { reset, ..world.clone() };
    let other = 1 - slot;
    let prefer = |state: &mut State| state.set_primary(&name(other), Now::default());
    out.extend([Reset::Unknown, Reset::PowerOn, Reset::Watchdog].map(|reset| with(up, reset)));
    let bad = changes
        .make(up, |state| state.mark_bad(&name(other), Now::default()))
        .unwrap();
    out.push(with(&bad, Reset::PowerOn));
    let trusted = changes
        .make(up, |state| state.mark_good(&name(other), Now::default()))
        .unwrap();
    out.push(with(&trusted, Reset::Unknown));
    // The other one is good: back to it.
    let back = changes.make(&trusted, prefer).unwrap();
    out.push(with(&back, Reset::Unknown));
    let gone = changes
        .make(up, |state| state.mark_bad(&name(slot), Now::default()))
        .unwrap();
    out.push(with(&gone, Reset::Unknown));
    // An update that is cut off.
    let mut half = bad.clone();
    half.contents[other] = Content::Broken;
    out.push(with(&half, Reset::PowerOn));
    for new in NEW {
        let mut whole = bad.clone();
        whole.contents[other] = new;
        let whole = changes.make(&whole, prefer).unwrap();
        out.push(with(&whole, Reset::Unknown));
    }
    let once = changes.make(up, |state| state.set_once(&name(other), Now::default()));
    out.extend(once.ok().map(|once| with(&once, Reset::Unknown)));
}

/// What the system of the rescue entry does: nothing, or somebody repairs a slot from there.
pub(super) fn rescue_system(world: &World, with_cuts: bool, out: &mut Vec<World>) {
    out.extend([Reset::Unknown, Reset::PowerOn, Reset::Watchdog].map(|reset| World { reset, ..world.clone() }));
    let mut cut = Vec::new();
    let mut changes = Changes {
        with_cuts,
        out: &mut cut,
    };
    for slot in 0..2 {
        let mut repaired = world.clone();
        repaired.contents[slot] = Content::Works;
        let repaired = changes.make(&repaired, |state| state.set_primary(&name(slot), Now::default()));
        out.extend(repaired.ok().map(|repaired| World {
            reset: Reset::Unknown,
            ..repaired
        }));
    }
    out.append(&mut cut);
}
