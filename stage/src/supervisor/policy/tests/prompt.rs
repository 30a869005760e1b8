//! The countdown, and what somebody at the prompt wants.

use super::*;

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
    // The picked one fails: back to the prompt, not on to "a", and whoever picked it has the time to think.
    let said = log(&on(&mut policy, 5, Event::Gone(Exit::Code(1))));
    let left = "entry \"b\" could not be booted; trying again by itself in 300 s";
    assert!(
        said.contains("no entry left, trying again in 300 s") && said.contains(left),
        "{said}"
    );
    let view = policy.view();
    assert_eq!(
        (view.why.as_str(), view.has_failed),
        ("Entry \"b\" could not be booted", true)
    );
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
    assert!(log(&on(&mut policy, 4, Event::Gone(Exit::Code(1)))).contains("entry \"b\" could not be booted; "));
}

#[test]
fn whoever_stops_it_while_the_reason_is_read_is_heard() {
    for countdown in [3, 0] {
        let mut policy = asking(countdown);
        assert!(on(&mut policy, 1, STOP).is_empty());
        assert!(log(&on(&mut policy, 2, Event::Gone(Exit::Code(0)))).contains("stopped at the console"));
    }
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
    // They have as long as at the menu, and then it begins anew.
    assert!(log(&on(&mut policy, now + 2, Event::Gone(Exit::Code(1)))).contains("in 300 s"));
    on(&mut policy, now + 300_002, Event::Tick);
    assert!(log(&on(&mut policy, now + 300_003, Event::Gone(Exit::Code(1)))).contains("in 120 s"));
}
