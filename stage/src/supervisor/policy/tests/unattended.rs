//! Slots, their state, and the watchdog.

use super::*;

#[test]
fn watchdogs_are_fed_until_the_machine_is_to_be_reset() {
    let fed = |actions: &[Action]| actions.contains(&Action::Feed);
    let mut policy = asking(3);
    assert!(!fed(&policy.on(999, STOP)));
    assert_eq!(policy.wake(), Some(1000), "the look comes before the deadline");
    for second in 1..1000 {
        assert!(fed(&policy.on(second * 1000, Event::Tick)), "{second}");
        assert!(!fed(&policy.on(second * 1000 + 1, Event::Gone(Exit::Code(1)))));
    }
    let mut policy = Policy::new(None, 1);
    assert!(fed(&policy.on(0, Event::Tick)));
    assert!(policy.on(60_000, Event::Tick).contains(&Action::Reset));
    assert!(
        policy.on(70_000, Event::Tick).is_empty(),
        "the watchdog is the last resort"
    );
}

/// A config with slots A and B, a rescue and a watchdog.
fn slotted() -> Policy {
    let mut config = config(&["a", "b", "rescue"]);
    config.console.countdown = Duration::ZERO;
    config.watchdog = Some(Duration::from_mins(2));
    for (entry, slot) in config.entries.iter_mut().zip(["A", "B"]) {
        entry.slot = slot.parse().ok();
    }
    Policy::new(Some(config), 1)
}

pub(super) fn state(stored: FoundStored, reset: Reset) -> Answer {
    Answer::State(Box::new(FoundState {
        device: "vda9".into(),
        partuuid: None,
        describe: "vda9 (state)".into(),
        stored,
        kernel: [6, 12],
        kexecs: 0,
        machine: 1,
        reset,
    }))
}

/// Whoever updates the machine is told why its new generation does not run, whatever it failed of, and when.
#[test]
fn the_main_system_is_told_which_slot_was_passed_over() {
    let told = |actions: &[Action]| match actions.last() {
        Some(Action::Give(Job::Boot(boot))) => boot.passed_over.clone(),
        other => panic!("{other:?}"),
    };
    let mut policy = slotted();
    on(&mut policy, 0, Event::Tick);
    answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
    let rules = Rules::of(policy.config.as_ref().unwrap());
    let stored = Stored::new(State::new(&rules));
    let actions = known(&mut policy, 2, FoundStored::Known(stored), Reset::Unknown);
    assert_eq!(told(&actions), None);
    step(&mut policy, 3, Step::Verify);
    let mismatch = "kernel: sha256 mismatch (want 3fa9.., got 77c0..)";
    on(&mut policy, 4, fail(Cause::Verification, mismatch));
    let actions = on(&mut policy, 5, Event::Gone(Exit::Code(1)));
    let Some(Action::Give(Job::Ask(Question::Keep(kept)))) = actions.last() else {
        panic!("{actions:?}")
    };
    let kept = Answer::Kept(Box::new(kept.stored.clone()), None);
    let actions = answered(&mut policy, 6, kept);
    assert_eq!(told(&actions), Some(format!("slot A: {mismatch}")));
}

/// What was found, and that it has been written down then.
fn known(policy: &mut Policy, now: Millis, stored: FoundStored, reset: Reset) -> Vec<Action> {
    let actions = answered(policy, now, state(stored, reset));
    let Some(Action::Give(Job::Ask(Question::Keep(kept)))) = actions.last() else {
        panic!("{actions:?}")
    };
    let kept = Answer::Kept(Box::new(kept.stored.clone()), None);
    let mut all = actions.clone();
    all.extend(answered(policy, now, kept));
    assert!(asks(&all, Question::LastWords(Some("vda9".to_owned()))));
    all.extend(answered(policy, now, Answer::Done));
    all
}

#[test]
fn the_watchdog_comes_first_and_is_given_to_the_main_system_last() {
    let mut policy = slotted();
    assert!(asks(&on(&mut policy, 0, Event::Tick), Question::Watchdog));
    let actions = answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
    assert_eq!(actions, [Action::Arm, Action::Give(Job::Ask(Question::State))]);
    known(
        &mut policy,
        2,
        FoundStored::Known(Stored::new(State::default())),
        Reset::Unknown,
    );
    let actions = step(&mut policy, 3, Step::Loaded);
    assert_eq!(actions[1..], [Action::HandOff(Duration::from_mins(2)), Action::Go]);
}

#[test]
fn a_driver_that_hangs_costs_its_time_and_the_watchdog_is_still_looked_for() {
    let mut policy = slotted();
    on(&mut policy, 0, Event::Tick);
    let actions = on(&mut policy, millis(deadlines::WATCHDOG), Event::Tick);
    assert_eq!(actions[..2], [Action::Kill, Action::Abandon]);
    assert!(
        log(&actions).contains("warning: its driver: no answer within 10 s"),
        "{actions:?}"
    );
    assert_eq!(actions[3..], [Action::Arm, Action::Give(Job::Ask(Question::State))]);
}

#[test]
fn a_watchdog_that_passed_its_test_ends_at_the_prompt() {
    for (reset, was_test, is_passed) in [
        (Reset::Watchdog, true, true),
        (Reset::Watchdog, false, false),
        (Reset::Unknown, true, false),
    ] {
        let mut policy = slotted().testing(true);
        on(&mut policy, 0, Event::Tick);
        answered(&mut policy, 1, Answer::Watchdog(reset));
        let mut before = State::default();
        if was_test {
            before.leave(true, Now::default());
        }
        let actions = known(&mut policy, 2, FoundStored::Known(Stored::new(before)), reset);
        assert_eq!(log(&actions).contains("wdtest: passed"), is_passed);
        assert_eq!(booted(&actions).is_some(), !is_passed);
        if let Some(Action::Give(Job::Boot(boot))) = actions.last() {
            let account = boot.account.as_ref().unwrap();
            assert_eq!((account.slot.as_ref(), account.is_test), (None, true));
        }
    }
    // Whoever is there comes first.
    let mut policy = slotted().testing(true);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    answered(&mut policy, 2, Answer::Watchdog(Reset::Unknown));
    let actions = known(
        &mut policy,
        3,
        FoundStored::Known(Stored::new(State::default())),
        Reset::Unknown,
    );
    assert!(log(&actions).contains(STOPPED), "{}", log(&actions));
}

/// Without slots nothing is kept: the watchdog's word is enough.
#[test]
fn a_watchdog_passes_its_test_without_slots() {
    let mut config = config(&["a"]);
    config.console.countdown = Duration::ZERO;
    config.watchdog = Some(Duration::from_mins(2));
    let mut policy = Policy::new(Some(config), 1).testing(true);
    on(&mut policy, 0, Event::Tick);
    let actions = answered(&mut policy, 1, Answer::Watchdog(Reset::Watchdog));
    assert!(log(&actions).contains("wdtest: passed"), "{actions:?}");
}

/// After a failure nothing remembers which system it was of: each has its turn, one day.
#[test]
fn without_a_state_chance_decides_after_a_failure() {
    for (reset, chance, first) in [
        (Reset::Unknown, 5, "a"),
        (Reset::PowerOn, 5, "a"),
        (Reset::Watchdog, 3, "a"),
        (Reset::Panic, 4, "b"),
        (Reset::Watchdog, 5, "rescue"),
    ] {
        let mut policy = slotted();
        policy.began_us = chance;
        on(&mut policy, 0, Event::Tick);
        answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
        let nothing = FoundStored::Nothing("state partition: not found".to_owned());
        let actions = answered(&mut policy, 2, state(nothing, reset));
        assert!(log(&actions).contains("not found; nothing is counted"));
        assert!(asks(&actions, Question::LastWords(None)));
        let actions = answered(&mut policy, 2, Answer::Done);
        assert_eq!(booted(&actions), Some((first, Why::First)));
        let Some(Action::Give(Job::Boot(boot))) = actions.last() else {
            panic!()
        };
        assert_eq!(boot.account, None);
    }
}

/// A disk that did not come back once is not written to again.
#[test]
fn last_words_are_told_also_when_the_state_can_not_be_written() {
    for cause in [Cause::Io, Cause::Timeout] {
        let mut policy = slotted();
        on(&mut policy, 0, Event::Tick);
        answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
        let stored = FoundStored::Known(Stored::new(State::default()));
        answered(&mut policy, 2, state(stored, Reset::Unknown));
        let actions = on(&mut policy, 3, fail(cause, "x"));
        assert_eq!(actions[..2], [Action::Kill, Action::Abandon]);
        assert!(log(&actions).contains("the state can't be written: x"));
        let actions = if cause == Cause::Timeout {
            actions
        } else {
            assert!(asks(&actions, Question::LastWords(Some("vda9".to_owned()))));
            let actions = on(&mut policy, 4, fail(Cause::Timeout, "no answer"));
            assert!(log(&actions).contains("last words can't be kept: no answer"));
            actions
        };
        assert_eq!(booted(&actions), Some(("a", Why::First)));
    }
}

#[test]
fn an_unproven_slot_that_somebody_picks_needs_no_account() {
    let mut policy = slotted();
    on(&mut policy, 0, Event::Tick);
    answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
    let actions = known(&mut policy, 2, FoundStored::Lost("zeros".to_owned()), Reset::Unknown);
    let is_needed = |actions: &[Action]| match actions.last() {
        Some(Action::Give(Job::Boot(boot))) => boot.account.as_ref().unwrap().is_needed,
        other => panic!("{other:?}"),
    };
    assert!(is_needed(&actions));
    for _ in 0..2 {
        on(&mut policy, 3, fail(Cause::Io, "the attempt can't be written down"));
        on(&mut policy, 3, Event::Gone(Exit::Code(1)));
        let actions = answered(
            &mut policy,
            3,
            Answer::Kept(Box::new(Stored::new(State::default())), None),
        );
        if booted(&actions).is_none() {
            break;
        }
    }
    assert!(!is_needed(&on(&mut policy, 4, boot("a"))));
}

/// The loop still turns, but nothing comes of it: then the watchdog is not fed.
#[test]
fn without_progress_nothing_is_fed() {
    let mut policy = booting(&["a"]);
    policy.phase = Phase::Stopping {
        until: 1000,
        loaded: false,
    };
    assert!(policy.on(2000, Event::Tick).contains(&Action::Feed));
    policy.phase = Phase::Stopping {
        until: 1000,
        loaded: false,
    };
    assert!(!policy.on(3500, Event::Tick).contains(&Action::Feed));
}

/// Its disk is slower than the search for it.
#[test]
fn a_state_that_was_not_found_is_looked_for_again() {
    let state_of = |stored| state(stored, Reset::Unknown);
    let nothing = || match state_of(FoundStored::Nothing("no disk".to_owned())) {
        Answer::State(found) => Answer::State(Box::new(FoundState {
            device: String::new(),
            ..*found
        })),
        other => other,
    };
    let kept = || {
        let policy = slotted();
        let mut stored = Stored::new(State::new(&Rules::of(policy.config.as_ref().unwrap())));
        stored.state.mark_bad(&"A".parse().unwrap(), Now::default()).unwrap();
        FoundStored::Known(stored)
    };
    let blind = || {
        let mut policy = slotted();
        on(&mut policy, 0, Event::Tick);
        answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
        let actions = answered(&mut policy, 2, nothing());
        assert!(asks(&actions, Question::LastWords(None)));
        let actions = answered(&mut policy, 3, Answer::Done);
        assert_eq!(booted(&actions), Some(("a", Why::First)));
        policy
    };
    // It is there when the entry's own disk is: what was chosen without it is not booted.
    let mut policy = blind();
    step(&mut policy, 4, Step::Probe);
    let actions = on(&mut policy, 5, Event::Said(Message::StateIsThere));
    assert_eq!(actions.last(), Some(&Action::Kill));
    assert!(
        log(&actions).contains("the state is there now; choosing again"),
        "{}",
        log(&actions)
    );
    // What the worker says of it is no failure of the entry.
    on(&mut policy, 6, fail(Cause::Crash, "the state is there now"));
    assert!(asks(&on(&mut policy, 7, Event::Gone(Exit::Code(1))), Question::State));
    // Once more it is not looked for before the next entry, whatever became of it.
    let mut gone = policy.clone();
    let actions = answered(&mut gone, 8, nothing());
    let Some(Action::Give(Job::Boot(boot))) = actions.last() else {
        panic!("{actions:?}")
    };
    assert!(!boot.lacks_state);
    let actions = answered(&mut policy, 8, state_of(kept()));
    let Some(Action::Give(Job::Ask(Question::Keep(state)))) = actions.last() else {
        panic!("{actions:?}")
    };
    let state = Answer::Kept(Box::new(state.stored.clone()), None);
    assert_eq!(booted(&answered(&mut policy, 9, state)), Some(("b", Why::First)));
    // Or only after a while at the prompt.
    let mut policy = blind();
    let mut actions = Vec::new();
    for now in [10, 20, 30] {
        step(&mut policy, now, Step::Probe);
        on(&mut policy, now + 1, fail(Cause::Missing, "no disk"));
        actions = on(&mut policy, now + 2, Event::Gone(Exit::Code(1)));
    }
    assert!(log(&actions).contains("no entry left"));
    let retry = policy.due().unwrap();
    assert!(asks(&on(&mut policy, retry, Event::Tick), Question::State));
    let actions = answered(&mut policy, retry + 1, state_of(kept()));
    let Some(Action::Give(Job::Ask(Question::Keep(state)))) = actions.last() else {
        panic!("{actions:?}")
    };
    let state = Answer::Kept(Box::new(state.stored.clone()), None);
    assert_eq!(
        booted(&answered(&mut policy, retry + 2, state)),
        Some(("b", Why::First))
    );
}

/// Each one that looked for it would hang as well.
#[test]
fn a_state_that_does_not_answer_is_not_looked_for_again() {
    let mut policy = slotted();
    on(&mut policy, 0, Event::Tick);
    assert!(asks(
        &answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown)),
        Question::State
    ));
    let late = 1 + millis(deadlines::STATE);
    assert!(asks(&on(&mut policy, late, Event::Tick), Question::LastWords(None)));
    let mut actions = answered(&mut policy, late + 1, Answer::Done);
    for entry in ["a", "b", "rescue"] {
        let Some(Action::Give(Job::Boot(boot))) = actions.last() else {
            panic!("{actions:?}")
        };
        assert_eq!((boot.choice.entry.name.as_str(), boot.lacks_state), (entry, false));
        on(&mut policy, late + 2, fail(Cause::Missing, "no disk"));
        actions = on(&mut policy, late + 2, Event::Gone(Exit::Code(1)));
    }
    let retry = policy.due().unwrap();
    assert_eq!(booted(&on(&mut policy, retry, Event::Tick)), Some(("a", Why::First)));
}

/// A reset from the menu is not the slot's doing: that somebody was there is written down at once, and gives nobody more time.
#[test]
fn a_stop_is_written_down() {
    let mut policy = slotted();
    policy.console.access = Access::Password("x".to_owned());
    on(&mut policy, 0, Event::Tick);
    answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
    let stored = Stored::new(State::new(&Rules::of(policy.config.as_ref().unwrap())));
    known(&mut policy, 2, FoundStored::Known(stored), Reset::Unknown);
    on(&mut policy, 3, STOP);
    let actions = on(&mut policy, 4, Event::Gone(Exit::Signal(9)));
    let Some(Action::Give(Job::Ask(Question::Keep(kept)))) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(kept.stored.state.events.last().unwrap().kind, EventKind::Stopped);
    let kept = Answer::Kept(Box::new(kept.stored.clone()), None);
    assert_eq!(answered(&mut policy, 5, kept), []);
    assert_eq!(policy.waits(), Wait::Choice(4 + millis(deadlines::LOGIN)));
}

/// Or it would be undone by what is written next.
#[test]
fn what_somebody_changes_in_the_shell_counts() {
    let mut policy = slotted();
    policy.console.countdown = Duration::ZERO;
    on(&mut policy, 0, Event::Tick);
    answered(&mut policy, 1, Answer::Watchdog(Reset::Unknown));
    let mut stored = Stored::new(State::new(&Rules::of(policy.config.as_ref().unwrap())));
    known(&mut policy, 2, FoundStored::Known(stored.clone()), Reset::Unknown);
    on(&mut policy, 3, STOP);
    on(&mut policy, 4, Event::Gone(Exit::Signal(9)));
    let kept = Box::new(policy.slots.unsaved().unwrap().stored);
    answered(&mut policy, 5, Answer::Kept(kept, None));
    on(&mut policy, 6, Event::Asks(lends(Lent::Shell)));
    assert!(asks(&on(&mut policy, 7, Event::Gone(Exit::Code(0))), Question::State));
    let slot = "A".parse().unwrap();
    stored.state = policy.slots.known().unwrap().clone();
    stored.state.mark_bad(&slot, Now::default()).unwrap();
    // What is older than what is known counts for nothing: it could not be written.
    let mut before = policy.clone();
    let said = log(&answered(
        &mut before,
        8,
        state(FoundStored::Known(stored.clone()), Reset::Unknown),
    ));
    assert_eq!(said, "");
    let stored = stored.written_again();
    let said = log(&answered(
        &mut policy,
        8,
        state(FoundStored::Known(stored), Reset::Unknown),
    ));
    assert!(
        said.contains("the state was changed meanwhile: A (bad: marked as bad)"),
        "{said}"
    );
    assert_eq!(
        booted(&on(&mut policy, 9, Event::Wants(Command::Retry))),
        Some(("b", Why::First))
    );
}
