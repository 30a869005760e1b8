//! The five ways a worker can fail, the prompt, and that no sequence of events ends in a wait without a deadline.

use crate::menu::Topic;
use crate::menu::view::Wait;
use crate::select::Why;
use crate::state::State;
use crate::state::slots::{Now, Rules};
use crate::state::store::Stored;
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

#[test]
fn with_no_entry_left_the_prompt_tries_again_by_itself() {
    let mut policy = booting(&["a"]);
    let actions = on(&mut policy, 2, Event::NotStarted("EAGAIN".to_owned()));
    assert!(log(&actions).contains("no entry left, trying again in 60 s"));
    assert!(log(&actions).contains("no entry left; trying again by itself in 60 s; press Space 3 times for the menu"));
    assert_eq!(policy.due(), Some(60_002));
    assert_eq!(booted(&on(&mut policy, 60_002, Event::Tick)), Some(("a", Why::First)));
}

#[test]
fn the_prompt_takes_its_commands() {
    let mut policy = Policy::new(Some(config(&["a", "b"])), 1);
    assert!(log(&on(&mut policy, 0, Event::Tick)).contains("press Space 3 times within 3 s to stop"));
    assert!(log(&on(&mut policy, 1, STOP)).contains("stopped at the console; trying again by itself in 300 s"));
    assert!(on(&mut policy, 2, boot("c")).is_empty(), "there is no such entry");
    assert_eq!(booted(&on(&mut policy, 3, boot("b"))), Some(("b", Why::Picked)));
    // The picked one fails: back to the prompt, not on to "a".
    assert!(log(&on(&mut policy, 5, Event::Gone(Exit::Code(1)))).contains("no entry left"));
    assert!(asks(
        &on(&mut policy, 6, Event::Wants(Command::Reboot)),
        Question::Reboot
    ));
    assert_eq!(
        on(&mut policy, 6 + millis(deadlines::REBOOT), Event::Tick).last(),
        Some(&Action::Reset)
    );
}

#[test]
fn a_boot_is_stopped_until_the_word_to_jump_is_given() {
    let mut policy = booting(&["a", "b"]);
    step(&mut policy, 1, Step::Kexec);
    let actions = on(&mut policy, 2, STOP);
    assert_eq!(log(&actions), "entry \"a\": stopped at the console");
    assert_eq!(actions.last(), Some(&Action::Kill));
    // What it loaded is dropped before anybody chooses.
    assert!(asks(
        &on(&mut policy, 3, Event::Gone(Exit::Signal(9))),
        Question::Unload
    ));
    assert!(log(&answered(&mut policy, 4, Answer::Done)).contains("stopped at the console"));
    assert_eq!(policy.due(), Some(300_004));
    // It is no failure: nothing is said of it, and the next start begins with the same.
    assert_eq!(policy.view().entries[0].failure, None);
    assert_eq!(
        booted(&on(&mut policy, 5, Event::Wants(Command::Retry))),
        Some(("a", Why::First))
    );
    step(&mut policy, 6, Step::Loaded);
    assert!(on(&mut policy, 7, STOP).is_empty());
}

/// What is typed while the kernel boots is there before anything else.
#[test]
fn whoever_stops_it_before_it_has_begun_is_heard() {
    for countdown in [3, 0] {
        let mut config = config(&["a"]);
        config.console.countdown = Duration::from_secs(countdown);
        let mut policy = Policy::new(Some(config), 1);
        assert!(log(&on(&mut policy, 0, STOP)).contains("stopped at the console"));
    }
}

/// The worker had gone further than PID 1 knew when it was told to stop.
#[test]
fn what_a_stopped_worker_had_loaded_is_dropped() {
    let mut policy = booting(&["a"]);
    step(&mut policy, 1, Step::LayOut);
    on(&mut policy, 2, STOP);
    step(&mut policy, 3, Step::Kexec);
    assert!(asks(
        &on(&mut policy, 4, Event::Gone(Exit::Signal(9))),
        Question::Unload
    ));
    // Once the attempt is being written down, it goes its way.
    let mut policy = booting(&["a"]);
    step(&mut policy, 1, Step::Account);
    assert!(on(&mut policy, 2, STOP).is_empty());
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

/// Somebody at a prompt sends these files.
fn sends(policy: &mut Policy, now: Millis, files: Vec<Received>) -> Vec<Action> {
    let loan = lends(Lent::Receive);
    assert!(asks(&on(policy, now, Event::Asks(loan.clone())), Question::Lend(loan)));
    assert_eq!(policy.lent(), Some("ttyS0"));
    // As long as they come, and no longer.
    let later = |time| after(now, Duration::from_secs(time));
    on(policy, later(70), Event::Said(Message::Progress(1)));
    on(policy, later(140), Event::Tick);
    let actions = answered(policy, later(144), Answer::Received(files));
    assert_eq!(policy.lent(), None);
    actions
}

#[test]
fn what_is_received_is_an_entry_and_is_booted_by_nobody_but_a_person() {
    let mut policy = Policy::new(Some(config(&["a"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    sends(&mut policy, 2, vec![received("initrd.img", ReceivedKind::Initrd)]);
    assert_eq!(policy.view().entries.len(), 1);
    sends(&mut policy, 200_000, vec![received("Image-6.12", ReceivedKind::Kernel)]);
    assert_eq!(policy.view().entries.len(), 2);
    // The latest batch counts, and nothing of those before.
    sends(
        &mut policy,
        400_000,
        vec![
            received("Image", ReceivedKind::Kernel),
            received("board.dtb", ReceivedKind::DeviceTree),
            received("b.img", ReceivedKind::Initrd),
        ],
    );
    let entry = policy.config.as_ref().unwrap().entry("received files").unwrap();
    assert_eq!(
        (entry.kernel.as_str(), entry.dtb.as_deref()),
        ("Image", Some("board.dtb"))
    );
    assert_eq!(entry.initrd, ["b.img"]);
    assert_eq!(entry.source.to_string(), "/received");
    assert_eq!(policy.view().entries.len(), 2);
    let picked = boot("received files");
    assert_eq!(
        booted(&on(&mut policy, 600_000, picked)),
        Some(("received files", Why::Picked))
    );
    on(&mut policy, 600_001, fail(Cause::Format, "x"));
    // Its failure leads to what the box has, as that of any entry that is picked.
    let actions = on(&mut policy, 600_002, Event::Gone(Exit::Code(1)));
    let Phase::Prompt { retry } = policy.phase else {
        panic!("{actions:?}")
    };
    assert_eq!(booted(&on(&mut policy, retry, Event::Tick)), Some(("a", Why::First)));
}

#[test]
fn a_kernel_can_be_received_where_there_is_no_valid_boot_toml() {
    let mut policy = Policy::new(None, 1);
    on(&mut policy, 0, Event::Tick);
    sends(&mut policy, 2, vec![received("Image", ReceivedKind::Kernel)]);
    assert_eq!(policy.view().entries[0].name, "received files");
    assert!(booted(&on(&mut policy, 200_000, boot("received files"))).is_some());

    // The next batch breaks off: it is a box without a boot.toml again, and reset in the end.
    let mut policy = Policy::new(None, 1);
    on(&mut policy, 0, Event::Tick);
    sends(&mut policy, 2, vec![received("Image", ReceivedKind::Kernel)]);
    on(&mut policy, 200_000, Event::Asks(lends(Lent::Receive)));
    on(&mut policy, 200_001, fail(Cause::Io, "cancelled"));
    let Phase::Prompt { retry } = policy.phase else {
        panic!("{:?}", policy.phase)
    };
    assert!(on(&mut policy, retry, Event::Tick).contains(&Action::Reset));
}

#[test]
fn a_received_boot_toml_holds_for_this_start_and_changes_no_slot() {
    let mut policy = Policy::new(Some(config(&["a"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    let actions = sends(&mut policy, 2, vec![received("boot.toml", ReceivedKind::Config)]);
    assert!(actions.contains(&Action::Configure("/received/boot.toml".to_owned())));
    let mut other = config(&["x", "y"]);
    other.console.countdown = Duration::from_secs(9);
    other.entries[0].slot = Some("A".parse().unwrap());
    other.watchdog = Some(Duration::from_mins(1));
    let before = policy.slots.state().cloned();
    let actions = on(&mut policy, 200_000, Event::Config(Box::new(other)));
    assert!(asks(&actions, Question::Watchdog));
    let actions = answered(&mut policy, 200_001, Answer::Watchdog(Reset::Unknown));
    assert_eq!(actions, [Action::Arm]);
    let view = policy.view();
    assert_eq!(view.wait, Wait::Choice(200_001 + 300_000), "somebody chooses");
    let names: Vec<_> = view
        .entries
        .iter()
        .map(|entry| (entry.name.as_str(), &entry.slot))
        .collect();
    assert_eq!(names, [("x", &None), ("y", &None)]);
    let held = &policy.config.as_ref().unwrap().console;
    assert_eq!(*held, policy.console, "who may use the console stays");
    assert_eq!(policy.slots.state().cloned(), before);
    // One without a watchdog does not leave that one to itself.
    on(&mut policy, 200_002, Event::Config(Box::new(config(&["z"]))));
    let kept = policy.config.as_ref().unwrap().watchdog;
    assert_eq!(kept, Some(Duration::from_mins(1)));
    assert!(matches!(policy.phase, Phase::Prompt { .. }));
}

/// A shell whose terminal has gone is ended by whoever comes to another console; a lent console comes back in any case.
#[test]
fn a_loan_ends_with_its_child_with_a_stop_and_in_the_end() {
    let lend = |what: Lent| {
        let mut policy = Policy::new(Some(config(&["a"])), 1);
        on(&mut policy, 0, Event::Tick);
        on(&mut policy, 1, STOP);
        on(&mut policy, 2, Event::Asks(lends(what)));
        assert_eq!(policy.lent(), Some("ttyS0"));
        policy
    };
    let mut policy = lend(Lent::Shell);
    let actions = on(&mut policy, 3, Event::Gone(Exit::Code(1)));
    assert!(!actions.contains(&Action::Leave), "{actions:?}");
    assert_eq!(policy.lent(), None);
    for (now, event) in [(3, STOP), (3_600_002, Event::Tick)] {
        let mut policy = lend(Lent::Shell);
        let actions = on(&mut policy, now, event);
        assert!(actions.contains(&Action::Kill) && actions.contains(&Action::Leave));
        assert_eq!(policy.lent(), None);
    }
    // Signs of life for ever are not enough.
    let mut policy = lend(Lent::Receive);
    for minute in 0..200 {
        on(&mut policy, 2 + minute * 60_000, Event::Said(Message::Progress(minute)));
        on(&mut policy, 3 + minute * 60_000, Event::Tick);
    }
    assert_eq!(policy.lent(), None);
}

#[test]
fn who_may_only_look_gets_the_log_and_no_console_for_more() {
    for (access, may) in [
        (Access::Open, [true, true, true]),
        (Access::Menu, [false, true, false]),
        (Access::Locked, [false, false, false]),
    ] {
        let all = [Lent::Receive, Lent::Send(String::new()), Lent::Shell];
        for (what, may) in all.into_iter().zip(may) {
            let mut policy = Policy::new(None, 1);
            policy.console.access = access.clone();
            on(&mut policy, 0, Event::Tick);
            let actions = on(&mut policy, 1, Event::Asks(lends(what.clone())));
            assert_eq!(asks(&actions, Question::Lend(lends(what))), may, "{access}");
        }
    }
}

#[test]
fn nobody_waits_for_a_sender_that_has_gone() {
    let mut policy = Policy::new(Some(config(&["a"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    on(&mut policy, 2, Event::Asks(lends(Lent::Receive)));
    let actions = on(&mut policy, 160_000, Event::Tick);
    assert!(actions.contains(&Action::Kill) && actions.contains(&Action::Leave));
    assert_eq!(policy.lent(), None);
    assert!(booted(&on(&mut policy, 500_000, Event::Tick)).is_some());
}

#[test]
fn the_timeline_says_what_took_how_long() {
    let mut config = config(&["a"]);
    config.console.countdown = Duration::ZERO;
    let mut policy = Policy::new(Some(config), 400_000);
    on(&mut policy, 500, Event::Tick);
    step(&mut policy, 520, Step::Probe);
    on(&mut policy, 600, fail(Cause::Missing, "x"));
    on(&mut policy, 601, Event::Gone(Exit::Code(1)));
    let shown = on(&mut policy, 1000, Event::Wants(Command::Look(Topic::Timeline)));
    let [Action::Show(rows)] = shown.as_slice() else {
        panic!("{shown:?}")
    };
    let rows: Vec<&str> = rows.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(
        rows[1..],
        [
            "     0.400  +0.100     PID 1 starts",
            "     0.500  +0.020     entry \"a\": select",
            "     0.520  +0.081     entry \"a\": probe",
            "     0.601  +0.399     waiting at the console: no entry left",
        ]
    );
    // However long it runs.
    for now in 0..1000 {
        on(&mut policy, 2000 + now, Event::Wants(Command::Look(Topic::Machine)));
        answered(&mut policy, 2000 + now, Answer::Done);
    }
    assert!(policy.timeline(9000).len() <= MOST_TIMES + 1);
}

#[test]
fn a_stop_that_comes_too_late_does_not_hit_a_later_boot() {
    let mut policy = Policy::new(Some(config(&["a", "b"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    on(&mut policy, 2, Event::Wants(Command::Look(Topic::Machine)));
    on(&mut policy, 3, STOP);
    answered(&mut policy, 4, Answer::Done);
    assert_eq!(
        booted(&on(&mut policy, 5, Event::Wants(Command::Retry))),
        Some(("a", Why::First))
    );
    on(&mut policy, 6, fail(Cause::Format, "x"));
    assert_eq!(
        booted(&on(&mut policy, 7, Event::Gone(Exit::Code(1)))),
        Some(("b", Why::Next))
    );
}

#[test]
fn a_plan_is_shown_and_costs_a_slot_nothing() {
    let mut policy = Policy::new(Some(config(&["a", "b"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    let plan = || Event::Wants(Command::Plan("b".to_owned()));
    let actions = on(&mut policy, 2, plan());
    assert!(
        matches!(actions.last(), Some(Action::Give(Job::Ask(Question::Plan(boot)))) if boot.choice.entry.name == "b")
    );
    assert!(step(&mut policy, 3, Step::Probe).is_empty());
    told(&mut policy, 4, "table");
    let shown = answered(&mut policy, 4, Answer::Done);
    assert_eq!(shown, [Action::Show(vec!["table".to_owned().into()])]);
    on(&mut policy, 5, plan());
    let actions = on(&mut policy, 6, fail(Cause::Missing, "kernel: not found"));
    assert_eq!(
        actions.last(),
        Some(&Action::Show(vec!["kernel: not found".to_owned().into()]))
    );
    assert_eq!(policy.view().entries[1].failure, None);
    let actions = on(&mut policy, 7, Event::Wants(Command::Plan("c".to_owned())));
    assert!(matches!(actions[..], [Action::Show(_)]), "whoever waits is told");
    assert_eq!(policy.due(), Some(300_007));
}

/// Who does not know the password holds nothing up: the boot goes on, and each wrong one takes longer.
#[test]
fn wrong_passwords_are_taken_ever_more_slowly() {
    let mut config = config(&["a"]);
    config.console.access = Access::Password("hash".to_owned());
    let mut policy = Policy::new(Some(config), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    assert_eq!(policy.due(), Some(60_001));
    let typed = |text: &str| Event::Wants(Command::Password(text.to_owned()));
    let mut now = 2;
    for seconds in [1, 2, 4] {
        let question = Question::Password {
            typed: "x".to_owned(),
            hash: "hash".to_owned(),
        };
        assert!(asks(&on(&mut policy, now, typed("x")), question));
        let said = answered(&mut policy, now, Answer::Fits(false));
        assert_eq!(said, [Action::Admit(Err("That is not the password.".to_owned()))]);
        now += 1;
        let said = on(&mut policy, now, typed("x"));
        assert_eq!(
            said,
            [Action::Admit(Err(format!("The next one is looked at in {seconds} s.")))]
        );
        now += seconds * 1000;
    }
    on(&mut policy, now, STOP);
    assert_eq!(policy.due(), Some(60_001), "nobody has more time for it");
    on(&mut policy, now, typed("y"));
    // In the last second, and after it: whoever knows it has the time of the menu.
    assert_eq!(
        answered(&mut policy, 61_000, Answer::Fits(true)),
        [Action::Admit(Ok(()))]
    );
    assert_eq!(policy.due(), Some(361_000));
    now = 61_000;
    assert_eq!(policy.denials, 0);
    on(&mut policy, now, Event::Wants(Command::Attend));
    assert_eq!(policy.due(), Some(now + 300_000));
    // A child that dies of it is no way in.
    on(&mut policy, now, typed("y"));
    let said = on(&mut policy, now, Event::Gone(Exit::Signal(11)));
    assert!(matches!(said.last(), Some(Action::Admit(Err(_)))), "{said:?}");
}

#[test]
fn a_locked_console_has_no_countdown() {
    let mut config = config(&["a"]);
    config.console.access = Access::Locked;
    let mut policy = Policy::new(Some(config), 1);
    assert_eq!(booted(&on(&mut policy, 0, Event::Tick)), Some(("a", Why::First)));
    assert!(log(&on(&mut policy, 1, Event::Gone(Exit::Code(1)))).ends_with("in 60 s; the console is locked"));
}

#[test]
fn a_changed_command_line_is_for_one_boot() {
    let cmdline = |actions: &[Action]| match actions.last() {
        Some(Action::Give(Job::Boot(boot))) => boot.choice.entry.cmdline.clone(),
        other => panic!("{other:?}"),
    };
    let mut policy = Policy::new(Some(config(&["a"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    let edited = Command::Boot {
        entry: "a".to_owned(),
        cmdline: Some("single".to_owned()),
        stays: false,
    };
    assert_eq!(cmdline(&on(&mut policy, 2, Event::Wants(edited))), "single");
    // A load that is tried once more is the same boot.
    step(&mut policy, 2, Step::Kexec);
    on(&mut policy, 2, fail(Cause::Placement, "EADDRNOTAVAIL"));
    on(&mut policy, 2, Event::Gone(Exit::Code(1)));
    answered(&mut policy, 2, Answer::Done);
    assert_eq!(cmdline(&on(&mut policy, 2002, Event::Tick)), "single");
    on(&mut policy, 3, Event::Gone(Exit::Code(1)));
    assert_eq!(cmdline(&on(&mut policy, 4, Event::Wants(Command::Retry))), "");
}

/// Whoever is there gets the time of `menu_timeout` after each key, and no more; what is not there is nobody's.
#[test]
fn the_menu_is_left_when_nobody_is_there() {
    let mut policy = Policy::new(Some(config(&["a"])), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    on(&mut policy, 100_000, Event::Wants(Command::Attend));
    assert_eq!(policy.due(), Some(400_000));
    assert!(asks(
        &on(&mut policy, 400_000 - 1, Event::Wants(Command::Look(Topic::Machine))),
        Question::Machine
    ));
    told(&mut policy, 400_000, "x");
    told(&mut policy, 400_000, "y");
    let shown = answered(&mut policy, 400_000, Answer::Done);
    assert_eq!(
        shown,
        [Action::Show(vec!["x".to_owned().into(), "y".to_owned().into()])]
    );
    // To read it, there is as much time.
    assert_eq!(policy.due(), Some(700_000));
    assert_eq!(booted(&on(&mut policy, 700_000, Event::Tick)), Some(("a", Why::First)));
    // A child that does not answer does not keep anybody from choosing.
    on(&mut policy, 700_000, Event::Gone(Exit::Code(1)));
    on(&mut policy, 700_001, Event::Wants(Command::Look(Topic::Machine)));
    let late = 700_001 + millis(deadlines::SUMMARY);
    assert!(on(&mut policy, late, Event::Tick).contains(&Action::Kill));
    assert_eq!(booted(&on(&mut policy, late + 1, boot("a"))), Some(("a", Why::Picked)));
    // Left alone, it goes on after the usual time.
    on(&mut policy, late + 2, Event::Gone(Exit::Code(1)));
    on(&mut policy, late + 3, Event::Wants(Command::Leave));
    assert_eq!(policy.due(), Some(late + 60_003));
}

#[test]
fn without_a_config_the_machine_is_reset_in_the_end() {
    let mut policy = Policy::new(None, 1);
    assert!(log(&on(&mut policy, 0, Event::Tick)).contains("resetting by itself in 60 s"));
    assert_eq!(on(&mut policy, 60_000, Event::Tick).last(), Some(&Action::Reset));
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

/// One that is not in `order` fails for a reason that holds for all: it is not tried for ever.
#[test]
fn a_picked_entry_that_the_machine_refuses_leads_back_to_the_prompt() {
    let mut config = config(&["a", "b"]);
    config.order.truncate(1);
    let mut policy = Policy::new(Some(config), 1);
    on(&mut policy, 0, Event::Tick);
    on(&mut policy, 1, STOP);
    assert_eq!(booted(&on(&mut policy, 2, boot("b"))), Some(("b", Why::Picked)));
    on(&mut policy, 3, fail(Cause::Refused, "x"));
    assert!(log(&on(&mut policy, 4, Event::Gone(Exit::Code(1)))).contains("no entry left"));
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

#[test]
fn whoever_stops_it_while_the_reason_is_read_is_heard() {
    for countdown in [3, 0] {
        let mut policy = asking(countdown);
        assert!(on(&mut policy, 1, STOP).is_empty());
        assert!(log(&on(&mut policy, 2, Event::Gone(Exit::Code(0)))).contains("stopped at the console"));
    }
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

/// What a child answered.
fn answered(policy: &mut Policy, now: Millis, said: Answer) -> Vec<Action> {
    on(policy, now, answer(said))
}

fn state(stored: FoundStored, reset: Reset) -> Answer {
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

#[test]
fn the_prompt_waits_longer_each_time_until_somebody_is_there() {
    let mut policy = booting(&["a"]);
    let mut now = 0;
    for seconds in [60, 120, 240, 480, 900, 900] {
        now += 1;
        assert!(log(&on(&mut policy, now, Event::Gone(Exit::Code(1)))).contains(&format!("in {seconds} s")));
        now += seconds * 1000;
        assert_eq!(booted(&on(&mut policy, now, Event::Tick)), Some(("a", Why::First)));
    }
    on(&mut policy, now, Event::Gone(Exit::Code(1)));
    assert_eq!(
        booted(&on(&mut policy, now + 1, Event::Wants(Command::Retry))),
        Some(("a", Why::First))
    );
    assert!(log(&on(&mut policy, now + 2, Event::Gone(Exit::Code(1)))).contains("in 60 s"));
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
    fn nothing_waits_for_ever(events in prop::collection::vec((0u64..20_000, any_event()), 0..60), known: bool, reason: bool, closed: bool) {
        let mut config = config(&["a", "b"]);
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
