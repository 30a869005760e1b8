//! A console that is lent: files over the line, the log, a shell.

use super::*;

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
