//! The five ways a worker can fail, and that no sequence of events ends in a wait without a deadline.

mod line;
mod model;
mod prompt;
mod unattended;

use crate::menu::Topic;
use crate::menu::view::Wait;
use crate::select::Why;
use crate::state::slots::{Now, Rules};
use crate::state::store::Stored;
use crate::state::{EventKind, State};
use crate::worker::message::{Answer, FoundState, FoundStored, Lent, Loan, ReceivedKind};
use proptest::prelude::*;

use super::super::event::Exit;
use super::*;
use crate::select::tests::config;
use config::ReasonStore;

/// Started, without countdown, with the first entry's worker running.
fn booting(names: &[&str]) -> Policy {
    let mut config = config(names);
    config.console.countdown = Duration::ZERO;
    let mut policy = Policy::new(Some(config), 1);
    let actions = on(&mut policy, 0, Event::Tick);
    assert_eq!(booted(&actions), Some((names[0], Why::First)));
    policy
}

/// The entry that the last of these actions boots.
fn booted(actions: &[Action]) -> Option<(&str, Why)> {
    match actions.last() {
        Some(Action::Give(Job::Boot(boot))) => Some((&boot.choice.entry.name, boot.choice.why)),
        _ => None,
    }
}

/// What the policy does besides feeding watchdogs.
fn on(policy: &mut Policy, now: Millis, event: Event) -> Vec<Action> {
    let mut actions = policy.on(now, event);
    actions.retain(|action| *action != Action::Feed);
    actions
}

fn fail(cause: Cause, text: &str) -> Event {
    Event::Said(Message::fail(Failure::new(cause, text)))
}

fn asks(actions: &[Action], question: Question) -> bool {
    actions.last() == Some(&Action::Give(Job::Ask(question)))
}

fn limit_of(step: Step) -> Millis {
    millis(deadlines::step(step))
}

const STOP: Event = Event::Wants(Command::Stop);

fn boot(entry: &str) -> Event {
    Event::Wants(Command::Boot {
        entry: entry.to_owned(),
        cmdline: None,
        stays: false,
    })
}

const KILL: Millis = 2_000;
const ENTRY: Millis = 660_000;

fn step(policy: &mut Policy, now: Millis, step: Step) -> Vec<Action> {
    on(policy, now, Event::Said(Message::Step(step)))
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

/// What a child answered.
fn answered(policy: &mut Policy, now: Millis, said: Answer) -> Vec<Action> {
    on(policy, now, answer(said))
}

fn told(policy: &mut Policy, now: Millis, text: &str) {
    assert!(on(policy, now, Event::Said(Message::Told(text.to_owned().into()))).is_empty());
}

fn received(name: &str, kind: ReceivedKind) -> Received {
    Received {
        name: name.to_owned(),
        bytes: 3,
        kind,
    }
}

fn lends(what: Lent) -> Loan {
    let tty = "ttyS0".to_owned();
    Loan { tty, what }
}

#[test]
fn a_refused_entry_names_the_cause_and_the_next() {
    let mut policy = booting(&["a", "b"]);
    let actions = on(
        &mut policy,
        5,
        fail(Cause::Format, "kernel: sha256 mismatch (want 3fa9.., got 77c0..)"),
    );
    assert_eq!(
        log(&actions),
        r#"entry "a": kernel: sha256 mismatch (want 3fa9.., got 77c0..); trying "b""#
    );
    assert_eq!(actions.last(), Some(&Action::Kill));
    // It never came to kexec_load: there is nothing to drop, and no call that a locked-down kernel would refuse.
    assert_eq!(
        booted(&on(&mut policy, 6, Event::Gone(Exit::Code(1)))),
        Some(("b", Why::Next))
    );
}

#[test]
fn hung_before_load_is_killed_and_the_next_entry_tried() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 10, Step::Probe);
    let late = 10 + limit_of(Step::Probe);
    assert!(on(&mut policy, late - 1, Event::Tick).is_empty());
    let actions = on(&mut policy, late, Event::Tick);
    assert!(log(&actions).contains("step probe did not end within 30 s; trying \"b\""));
    // It is stuck in the kernel: no exit follows.
    let actions = on(&mut policy, late + KILL, Event::Tick);
    assert_eq!(actions[1], Action::Abandon);
    assert_eq!(booted(&actions), Some(("b", Why::Next)));
}

#[test]
fn a_kexec_load_that_hangs_is_unloaded_or_reset() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 0, Step::Kexec);
    let late = limit_of(Step::Kexec);
    assert_eq!(on(&mut policy, late, Event::Tick).last(), Some(&Action::Kill));
    let actions = on(&mut policy, late + KILL, Event::Tick);
    assert_eq!(
        actions[1..],
        [Action::Abandon, Action::Give(Job::Ask(Question::Unload))]
    );
    assert_eq!(
        on(&mut policy, late + KILL + millis(deadlines::UNLOAD), Event::Tick).last(),
        Some(&Action::Reset)
    );
}

#[test]
fn only_a_payload_that_is_copied_may_take_minutes() {
    let mut policy = booting(&["a", "b"]);
    on(&mut policy, 0, Event::Said(Message::Copying));
    step(&mut policy, 0, Step::Kexec);
    assert_eq!(policy.due(), Some(30_000));
    on(&mut policy, 5, Event::Said(Message::Copying));
    assert_eq!(policy.due(), Some(300_005));
    let actions = on(&mut policy, 300_005, Event::Tick);
    assert!(log(&actions).contains("step kexec did not end within 300 s"));
}

#[test]
fn dead_after_load_is_unloaded_before_anything_else() {
    let mut policy = booting(&["a", "b"]);
    let go = [Action::Log("hand-off", "reboot(KEXEC)".to_owned()), Action::Go];
    assert_eq!(step(&mut policy, 1, Step::Loaded), go);
    let actions = on(&mut policy, 2, Event::Gone(Exit::Signal(9)));
    assert!(log(&actions).contains("the worker died in step loaded (signal 9)"));
    assert!(asks(&actions, Question::Unload));
}

#[test]
fn an_oops_in_kexec_load_is_said_and_reset() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Kexec);
    let actions = on(&mut policy, 2, Event::Gone(Exit::Signal(11)));
    assert!(log(&actions).contains("oopsed in kexec_load"));
    let actions = on(&mut policy, 3, fail(Cause::Busy, "EBUSY"));
    assert!(log(&actions).contains("arm64.nolva"));
    assert_eq!(actions.last(), Some(&Action::Reset));
}

#[test]
fn a_jump_that_does_not_leave_is_reset_without_a_second_reboot() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Loaded);
    step(&mut policy, 2, Step::Jump);
    let actions = on(&mut policy, 2 + limit_of(Step::Jump), Event::Tick);
    assert!(log(&actions).contains("reboot(KEXEC) did not jump"));
    assert_eq!(actions.last(), Some(&Action::Reset));
    assert_eq!(policy.wake(), None);
}

#[test]
fn a_jump_that_comes_back_leads_to_the_next_entry() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 2, Step::Jump);
    let actions = on(
        &mut policy,
        3,
        fail(Cause::Format, "reboot(KEXEC) returned: EINVAL: nothing is loaded"),
    );
    assert!(log(&actions).contains("trying \"b\""));
}

#[test]
fn progress_moves_the_deadline_of_load_but_not_of_the_whole_entry() {
    let mut policy = booting(&["a"]);
    step(&mut policy, 0, Step::Load);
    let mut now = 0;
    while now < ENTRY {
        assert!(on(&mut policy, now, Event::Said(Message::Progress(now))).is_empty());
        assert!(on(&mut policy, now, Event::Tick).is_empty(), "at {now}");
        now += limit_of(Step::Load) - 1;
    }
    let text = log(&on(&mut policy, ENTRY, Event::Tick));
    assert!(text.contains(&format!("within {} s", ENTRY / 1000)), "{text}");
}

/// A disk that trickles does not keep the others waiting for ever, and they have their time all the same.
#[test]
fn all_entries_together_have_a_deadline() {
    let mut policy = booting(&["a", "b", "c", "d"]);
    let mut now = 0;
    for seconds in [660, 660, 330, 330] {
        step(&mut policy, now, Step::Load);
        let end = now + seconds * 1000;
        while now < end {
            assert!(on(&mut policy, now, Event::Said(Message::Progress(now))).is_empty());
            now += limit_of(Step::Load) / 2;
        }
        let text = log(&on(&mut policy, end, Event::Tick));
        assert!(
            text.contains(&format!("step load did not end within {seconds} s")),
            "{text}"
        );
        now = end;
        on(&mut policy, now, Event::Gone(Exit::Signal(9)));
    }
    // Everything is tried anew, with all of the time.
    now = policy.due().unwrap();
    assert_eq!(booted(&on(&mut policy, now, Event::Tick)), Some(("a", Why::First)));
    assert_eq!(policy.due(), Some(now + limit_of(Step::Select)));
    step(&mut policy, now, Step::Load);
    assert!(matches!(&policy.phase, Phase::Booting(booting) if booting.latest == now + ENTRY));
}

/// Started, with the child that reads the reason running.
fn asking(countdown: u64) -> Policy {
    let mut config = config(&["a"]);
    config.console.countdown = Duration::from_secs(countdown);
    config.purgatory.reason = Some(ReasonStore::Memory(0x1000));
    let mut policy = Policy::new(Some(config), 1);
    let place = Question::LastJump(ReasonStore::Memory(0x1000));
    assert!(asks(&on(&mut policy, 0, Event::Tick), place));
    policy
}

fn answer(answer: Answer) -> Event {
    Event::Said(Message::Answer(answer))
}

#[test]
fn the_reason_of_the_last_reset_comes_first() {
    let mut policy = asking(0);
    let text = "last jump: segment \"initrd\" ...".to_owned();
    let actions = on(&mut policy, 1, answer(Answer::LastJump(Some(text.clone()), None)));
    assert_eq!(actions[0], Action::Log("purgatory", text));
    assert_eq!(booted(&actions), Some(("a", Why::First)));
    let mut policy = asking(0);
    let actions = on(&mut policy, 1, answer(Answer::LastJump(None, None)));
    assert!(matches!(
        actions.as_slice(),
        [Action::Log("select", _), Action::Give(_)]
    ));
}

#[test]
fn a_reason_that_can_not_be_read_is_said_and_stops_nothing() {
    let change = "; change or remove `reason` in boot.toml";
    for (event, says) in [
        (
            Event::Gone(Exit::Signal(7)),
            format!("the child process ended without an answer (signal 7){change}"),
        ),
        (
            Event::NotStarted("EAGAIN".to_owned()),
            "can't start a child process: EAGAIN".to_owned(),
        ),
        (fail(Cause::Missing, "no /dev/mem"), "no /dev/mem".to_owned()),
        (
            answer(Answer::Done),
            "unexpected answer from the child process".to_owned(),
        ),
    ] {
        let mut policy = asking(0);
        let actions = on(&mut policy, 1, event);
        assert!(actions.contains(&Action::Log("warning", format!("[purgatory] reason: {says}"))));
        assert_eq!(booted(&actions), Some(("a", Why::First)));
    }
    let mut policy = asking(0);
    let late = millis(deadlines::REASON);
    assert_eq!(policy.due(), Some(late));
    let actions = on(&mut policy, late, Event::Tick);
    assert_eq!(actions[..2], [Action::Kill, Action::Abandon]);
    assert!(log(&actions).contains("no answer within 2 s; change"));
    assert_eq!(booted(&actions), Some(("a", Why::First)));
}

#[test]
fn what_is_loaded_is_dropped_or_the_machine_is_reset() {
    let gone = Event::Gone(Exit::Code(0));
    for (said, says) in [
        (answer(Answer::Done), None),
        (fail(Cause::Busy, "EBUSY"), Some("arm64.nolva")),
        (
            fail(Cause::Refused, "EPERM"),
            Some("can't unload the kexec image: EPERM"),
        ),
        (
            answer(Answer::LastJump(None, None)),
            Some("unexpected answer from the child process"),
        ),
        (gone, Some("without an answer (exit code 0)")),
    ] {
        let mut policy = booting(&["a", "b"]);
        step(&mut policy, 1, Step::Kexec);
        assert!(asks(
            &on(&mut policy, 2, Event::Gone(Exit::Signal(9))),
            Question::Unload
        ));
        let actions = on(&mut policy, 3, said);
        match says {
            None => assert_eq!(booted(&actions), Some(("b", Why::Next))),
            Some(says) => {
                assert!(log(&actions).contains(says), "{actions:?}");
                assert_eq!(actions.last(), Some(&Action::Reset));
            }
        }
    }
}

#[test]
fn the_cause_decides_whether_another_entry_is_tried() {
    for cause in [
        Cause::Missing,
        Cause::Io,
        Cause::Format,
        Cause::Verification,
        Cause::Placement,
        Cause::Memory,
        Cause::Timeout,
        Cause::Crash,
    ] {
        let mut policy = booting(&["a", "b"]);
        assert_eq!(
            log(&on(&mut policy, 1, fail(cause, "x"))),
            r#"entry "a": x; trying "b""#
        );
    }
    for cause in [Cause::Refused, Cause::Busy, Cause::Machine] {
        let mut policy = booting(&["a", "b"]);
        let actions = on(&mut policy, 1, fail(cause, "locked down"));
        let says = r#"entry "a": locked down; no other entry can do better, trying again in 60 s"#;
        assert_eq!(log(&actions), says);
        let actions = on(&mut policy, 2, Event::Gone(Exit::Code(1)));
        assert!(log(&actions).starts_with("no entry left; trying again by itself"));
        assert_eq!(booted(&on(&mut policy, 60_002, Event::Tick)), Some(("a", Why::First)));
    }
}

fn late(actions: &[Action]) -> &[String] {
    match actions.last() {
        Some(Action::Give(Job::Boot(boot))) => &boot.late,
        _ => panic!("{actions:?}"),
    }
}

#[test]
fn what_a_worker_learnt_of_slow_disks_is_handed_to_the_next() {
    let mut policy = booting(&["a", "b"]);
    for name in ["virtio virtio1", "vdb", "virtio virtio1"] {
        assert!(on(&mut policy, 1, Event::Said(Message::Late(name.to_owned()))).is_empty());
    }
    assert_eq!(
        late(&on(&mut policy, 2, Event::Gone(Exit::Code(1)))),
        ["virtio virtio1", "vdb"]
    );
    // A worker that never stops is kept in bounds.
    for n in 0..1000 {
        on(
            &mut policy,
            3,
            Event::Said(Message::Late(format!("{n}{}", "x".repeat(4000)))),
        );
    }
    assert_eq!(policy.late.len(), MOST_LATE.0);
    assert!(policy.late.iter().all(|name| name.len() < 2 * MOST_LATE.1));
    // Whoever is at the prompt may have repaired it.
    on(&mut policy, 4, Event::Gone(Exit::Code(1)));
    assert_eq!(late(&on(&mut policy, 60_004, Event::Tick)), [""; 0]);
}

#[test]
fn a_load_that_fails_is_tried_once_more() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Kexec);
    let actions = on(&mut policy, 2, fail(Cause::Placement, "EADDRNOTAVAIL"));
    assert_eq!(log(&actions), "entry \"a\": EADDRNOTAVAIL; trying once more in 2 s");
    assert!(asks(&on(&mut policy, 3, Event::Gone(Exit::Code(1))), Question::Unload));
    assert!(answered(&mut policy, 4, Answer::Done).is_empty());
    assert_eq!(policy.due(), Some(2004));
    assert_eq!(booted(&on(&mut policy, 2004, Event::Tick)), Some(("a", Why::First)));
    step(&mut policy, 2005, Step::Kexec);
    let actions = on(&mut policy, 2006, fail(Cause::Placement, "EADDRNOTAVAIL"));
    assert!(log(&actions).ends_with("trying \"b\""));
}

fn commands() -> Vec<Command> {
    let boot = |entry: &str, stays| Command::Boot {
        entry: entry.to_owned(),
        cmdline: Some("x".to_owned()),
        stays,
    };
    vec![
        Command::Stop,
        Command::Attend,
        Command::Retry,
        boot("b", false),
        boot("a", true),
        boot("x", true),
        Command::Mark {
            slot: "A".parse().unwrap(),
            is_good: false,
        },
        Command::Look(Topic::Machine),
        Command::Look(Topic::Log),
        Command::Reboot,
        Command::PowerOff,
        Command::Password("x".to_owned()),
        Command::Plan("a".to_owned()),
        Command::Look(Topic::Timeline),
        Command::Browse("vda1:x".to_owned()),
        Command::Leave,
    ]
}

/// What a child may find, or have written.
fn states() -> Vec<Answer> {
    let stored = || Stored::new(State::new(&Rules::of(&config(&["a"]))));
    let found = |stored| unattended::state(stored, Reset::Unknown);
    vec![
        found(FoundStored::Nothing("x".to_owned())),
        found(FoundStored::Lost("x".to_owned())),
        found(FoundStored::Known(stored())),
        Answer::Kept(Box::new(stored()), None),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let steps = [
        Step::Select,
        Step::Probe,
        Step::Load,
        Step::Kexec,
        Step::Account,
        Step::Quiesce,
        Step::Loaded,
        Step::Jump,
    ];
    prop_oneof![
        Just(Event::Tick),
        prop::sample::select(commands()).prop_map(Event::Wants),
        prop::sample::select(steps.to_vec()).prop_map(|s| Event::Said(Message::Step(s))),
        Just(Event::Said(Message::Progress(1))),
        Just(Event::Said(Message::Say("x".to_owned()))),
        Just(Event::Said(Message::Late("x".to_owned()))),
        Just(Event::Said(Message::StateIsThere)),
        prop::sample::select(states()).prop_map(answer),
        Just(fail(Cause::Timeout, "x")),
        Just(Event::Said(Message::Told("x".to_owned().into()))),
        Just(Event::Asks(lends(Lent::Shell))),
        Just(Event::Asks(lends(Lent::Receive))),
        Just(Event::Config(Box::new(config(&["b", "c"])))),
        Just(answer(Answer::Received(vec![received("Image", ReceivedKind::Kernel)]))),
        Just(answer(Answer::Done)),
        Just(answer(Answer::LastJump(Some("x".to_owned()), Some(true)))),
        Just(fail(Cause::Busy, "x")),
        Just(fail(Cause::Format, "x")),
        (0i32..20).prop_map(|c| Event::Gone(Exit::Code(c))),
        Just(Event::Gone(Exit::Signal(9))),
        Just(Event::NotStarted("x".to_owned())),
    ]
}

proptest! {
    /// After any events, either the reset was given or a tick within a quarter of an hour moves things on.
    #[test]
    fn nothing_waits_for_ever(events in prop::collection::vec((0u64..20_000, any_event()), 0..60), known: bool, reason: bool, closed: bool, slotted: bool) {
        let mut config = config(&["a", "b"]);
        if slotted {
            config.entries[0].slot = "A".parse().ok();
        }
        config.purgatory.reason = reason.then_some(ReasonStore::Cmos(0x30));
        if closed {
            config.console.access = Access::Password("x".to_owned());
        }
        let mut policy = Policy::new(known.then_some(config), 1);
        let (mut now, mut reset) = (0, false);
        for (later, event) in events {
            now = u64::saturating_add(now, later);
            reset |= policy.on(now, event).contains(&Action::Reset);
        }
        prop_assert_eq!(policy.due().is_none(), reset);
        prop_assert_eq!(policy.wake().is_none(), reset);
        if let Some(due) = policy.due() {
            let longest = if policy.lent().is_some() { deadlines::SHELL } else { deadlines::LONGEST_RETRY };
            prop_assert!(due.saturating_sub(now) <= ENTRY.max(millis(longest)));
            prop_assert!(!on(&mut policy, due.max(now), Event::Tick).is_empty(), "a due tick does something");
        }
    }
}
