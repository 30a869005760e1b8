//! The five ways a worker can fail, the prompt, and that no sequence of events ends in a wait without a deadline.

use super::super::select::Why;
use proptest::prelude::*;

use super::super::select::tests::config;
use super::*;

/// Started, without countdown, with the first entry's worker running.
fn booting(names: &[&str]) -> Policy {
    let mut config = config(names);
    config.console.countdown = std::time::Duration::ZERO;
    let mut policy = Policy::new(Some(config));
    let actions = policy.on(0, Event::Tick);
    assert_eq!(
        actions.last(),
        Some(&Action::Spawn(Job::Boot(names[0].to_owned(), Why::First)))
    );
    policy
}

fn step(policy: &mut Policy, now: Millis, step: Step) -> Vec<Action> {
    policy.on(now, Event::Said(Message::Step(step)))
}

fn log(actions: &[Action]) -> String {
    actions
        .iter()
        .filter_map(|a| {
            if let Action::Log(_, text) = a {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn a_refused_entry_names_the_cause_and_the_next() {
    let mut policy = booting(&["a", "b"]);
    let actions = policy.on(
        5,
        Event::Said(Message::Fail(
            "kernel: sha256 mismatch (want 3fa9.., got 77c0..)".to_owned(),
        )),
    );
    assert_eq!(
        log(&actions),
        r#"entry "a": kernel: sha256 mismatch (want 3fa9.., got 77c0..); trying "b""#
    );
    assert_eq!(actions.last(), Some(&Action::Kill));
    // It never came to kexec_load: there is nothing to drop, and no call that a locked-down kernel would refuse.
    assert_eq!(
        policy.on(6, Event::Gone(Exit::Code(1))).last(),
        Some(&Action::Spawn(Job::Boot("b".to_owned(), Why::Next)))
    );
}

#[test]
fn hung_before_load_is_killed_and_the_next_entry_tried() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 10, Step::Probe);
    let late = 10 + limit::step(Step::Probe);
    assert!(policy.on(late - 1, Event::Tick).is_empty());
    let actions = policy.on(late, Event::Tick);
    assert!(log(&actions).contains("step probe did not end within 30 s; trying \"b\""));
    // It is stuck in the kernel: no exit follows.
    let actions = policy.on(late + limit::KILL, Event::Tick);
    assert_eq!(actions[1], Action::Abandon);
    assert_eq!(
        actions.last(),
        Some(&Action::Spawn(Job::Boot("b".to_owned(), Why::Next)))
    );
}

#[test]
fn a_kexec_load_that_hangs_is_unloaded_or_reset() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 0, Step::Kexec);
    let late = limit::step(Step::Kexec);
    assert_eq!(policy.on(late, Event::Tick).last(), Some(&Action::Kill));
    let actions = policy.on(late + limit::KILL, Event::Tick);
    assert_eq!(actions[1..], [Action::Abandon, Action::Spawn(Job::Unload)]);
    assert_eq!(
        policy.on(late + limit::KILL + limit::UNLOAD, Event::Tick).last(),
        Some(&Action::Reset)
    );
}

#[test]
fn dead_after_load_is_unloaded_before_anything_else() {
    let mut policy = booting(&["a", "b"]);
    let go = [Action::Log("jump", "reboot(KEXEC)".to_owned()), Action::Go];
    assert_eq!(step(&mut policy, 1, Step::Loaded), go);
    let actions = policy.on(2, Event::Gone(Exit::Signal(9)));
    assert!(log(&actions).contains("the worker died in step loaded (signal 9)"));
    assert_eq!(actions.last(), Some(&Action::Spawn(Job::Unload)));
}

#[test]
fn an_oops_in_kexec_load_is_said_and_reset() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Kexec);
    let actions = policy.on(2, Event::Gone(Exit::Signal(11)));
    assert!(log(&actions).contains("oopsed in kexec_load"));
    let actions = policy.on(3, Event::Gone(Exit::Code(UNLOAD_BUSY)));
    assert!(log(&actions).contains("arm64.nolva"));
    assert_eq!(actions.last(), Some(&Action::Reset));
}

#[test]
fn a_jump_that_does_not_leave_is_reset_without_a_second_reboot() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Loaded);
    step(&mut policy, 2, Step::Jump);
    let actions = policy.on(2 + limit::step(Step::Jump), Event::Tick);
    assert!(log(&actions).contains("reboot(KEXEC) did not leave"));
    assert_eq!(actions.last(), Some(&Action::Reset));
    assert_eq!(policy.wake(), None);
}

#[test]
fn a_jump_that_comes_back_leads_to_the_next_entry() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 2, Step::Jump);
    let actions = policy.on(
        3,
        Event::Said(Message::Fail(
            "reboot(KEXEC) came back: EINVAL: nothing is loaded".to_owned(),
        )),
    );
    assert!(log(&actions).contains("trying \"b\""));
}

#[test]
fn progress_moves_the_deadline_of_load_but_not_of_the_whole_entry() {
    let mut policy = booting(&["a"]);
    step(&mut policy, 0, Step::Load);
    let mut now = 0;
    while now < limit::ENTRY {
        assert!(policy.on(now, Event::Said(Message::Progress(now))).is_empty());
        assert!(policy.on(now, Event::Tick).is_empty(), "at {now}");
        now += limit::step(Step::Load) - 1;
    }
    assert!(log(&policy.on(limit::ENTRY, Event::Tick)).contains("within 600 s"));
}

#[test]
fn with_no_entry_left_the_prompt_tries_again_by_itself() {
    let mut policy = booting(&["a"]);
    let actions = policy.on(2, Event::NotStarted("EAGAIN".to_owned()));
    assert!(log(&actions).contains("no entry left, trying again in 60 s"));
    assert!(log(&actions).contains("r = try again, 1 = \"a\", b = reboot; trying again by itself in 60 s"));
    assert_eq!(policy.wake(), Some(60_002));
    assert!(
        policy.on(30_000, Event::Key(0xff)).is_empty(),
        "noise does not move the timer"
    );
    assert_eq!(
        policy.on(60_002, Event::Tick).last(),
        Some(&Action::Spawn(Job::Boot("a".to_owned(), Why::First)))
    );
}

#[test]
fn the_prompt_takes_its_keys() {
    let mut policy = Policy::new(Some(config(&["a", "b"])));
    assert!(log(&policy.on(0, Event::Tick)).contains("within 3 s"));
    policy.on(1, Event::Key(b' '));
    assert!(log(&policy.on(2, Event::Key(b'9'))).contains("no such entry"));
    assert_eq!(
        policy.on(3, Event::Key(b'2')).last(),
        Some(&Action::Spawn(Job::Boot("b".to_owned(), Why::Picked)))
    );
    // The picked one fails: back to the prompt, not on to "a".
    assert!(log(&policy.on(5, Event::Gone(Exit::Code(1)))).contains("no entry left"));
    assert_eq!(policy.on(6, Event::Key(b'b')).last(), Some(&Action::Spawn(Job::Reboot)));
    assert_eq!(policy.on(6 + limit::REBOOT, Event::Tick).last(), Some(&Action::Reset));
}

#[test]
fn without_a_config_the_machine_is_reset_in_the_end() {
    let mut policy = Policy::new(None);
    assert!(log(&policy.on(0, Event::Tick)).contains("resetting by itself in 60 s"));
    assert_eq!(policy.on(60_000, Event::Tick).last(), Some(&Action::Reset));
}

/// Started, with the child that reads the reason running.
fn asking(countdown: u64) -> Policy {
    let mut config = config(&["a"]);
    config.console.countdown = std::time::Duration::from_secs(countdown);
    config.purgatory.reason = Some(ReasonStore::Memory(0x1000));
    let mut policy = Policy::new(Some(config));
    let first = policy.on(0, Event::Tick);
    assert_eq!(first, [Action::Spawn(Job::Reason(ReasonStore::Memory(0x1000)))]);
    policy
}

#[test]
fn the_reason_of_the_last_reset_comes_first() {
    let mut policy = asking(0);
    let text = "last jump: segment \"initrd\" ...".to_owned();
    let said = policy.on(1, Event::Said(Message::Say(text.clone())));
    assert_eq!(said, [Action::Log("purgatory", text)]);
    let actions = policy.on(2, Event::Gone(Exit::Code(0)));
    assert_eq!(
        actions.last(),
        Some(&Action::Spawn(Job::Boot("a".to_owned(), Why::First)))
    );
}

#[test]
fn a_reason_that_can_not_be_read_is_said_and_stops_nothing() {
    let boot = Action::Spawn(Job::Boot("a".to_owned(), Why::First));
    for (event, says) in [
        (Event::Gone(Exit::Signal(7)), "can't be read there (signal 7)"),
        (Event::NotStarted("EAGAIN".to_owned()), "EAGAIN"),
    ] {
        let actions = asking(0).on(1, event);
        assert!(log(&actions).contains(says), "{actions:?}");
        assert_eq!(actions.last(), Some(&boot));
    }
    let mut policy = asking(0);
    let warning = policy.on(1, Event::Said(Message::Fail("no /dev/mem".to_owned())));
    assert_eq!(log(&warning), "[purgatory] reason: no /dev/mem");
    assert_eq!(policy.on(1, Event::Gone(Exit::Code(1))).last(), Some(&boot));
    let mut policy = asking(0);
    assert_eq!(policy.wake(), Some(limit::REASON));
    let actions = policy.on(limit::REASON, Event::Tick);
    assert_eq!(actions[..2], [Action::Kill, Action::Abandon]);
    assert_eq!(actions.last(), Some(&boot));
}

#[test]
fn a_key_while_the_reason_is_read_stops_the_countdown() {
    let mut policy = asking(3);
    assert!(policy.on(1, Event::Key(b' ')).is_empty());
    assert!(log(&policy.on(2, Event::Gone(Exit::Code(0)))).contains("stopped by a key press"));
    let mut policy = asking(0);
    policy.on(1, Event::Key(b' '));
    let actions = policy.on(2, Event::Gone(Exit::Code(0)));
    assert_eq!(
        actions.last(),
        Some(&Action::Spawn(Job::Boot("a".to_owned(), Why::First)))
    );
}

fn any_event() -> impl Strategy<Value = Event> {
    let steps = [
        Step::Start,
        Step::Probe,
        Step::Load,
        Step::Kexec,
        Step::Loaded,
        Step::Jump,
    ];
    prop_oneof![
        Just(Event::Tick),
        any::<u8>().prop_map(Event::Key),
        prop::sample::select(steps.to_vec()).prop_map(|s| Event::Said(Message::Step(s))),
        Just(Event::Said(Message::Progress(1))),
        Just(Event::Said(Message::Say("x".to_owned()))),
        Just(Event::Said(Message::Fail("x".to_owned()))),
        (0i32..20).prop_map(|c| Event::Gone(Exit::Code(c))),
        Just(Event::Gone(Exit::Signal(9))),
        Just(Event::NotStarted("x".to_owned())),
    ]
}

proptest! {
    /// After any events, either the reset was given or a tick within ten minutes and a bit moves things on.
    #[test]
    fn nothing_waits_for_ever(events in prop::collection::vec((0u64..20_000, any_event()), 0..60), known: bool, reason: bool) {
        let mut config = config(&["a", "b"]);
        config.purgatory.reason = reason.then_some(ReasonStore::Cmos(0x30));
        let mut policy = Policy::new(known.then_some(config));
        let (mut now, mut reset) = (0, false);
        for (later, event) in events {
            now = u64::saturating_add(now, later);
            reset |= policy.on(now, event).contains(&Action::Reset);
        }
        prop_assert_eq!(policy.wake().is_none(), reset);
        if let Some(wake) = policy.wake() {
            prop_assert!(wake.saturating_sub(now) <= limit::ENTRY);
            prop_assert!(!policy.on(wake.max(now), Event::Tick).is_empty(), "a due tick does something");
        }
    }
}
