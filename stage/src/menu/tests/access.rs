//! Who has the menu, on which console, and for how long.

use super::*;

#[test]
fn whoever_types_the_string_on_another_console_has_the_menu() {
    let mut sitting = Sitting::open(false, VT100);
    let view = sitting.demo.view.clone();
    let at = sitting.now;
    for _ in 0..3 {
        assert_eq!(sitting.menu.press(at, 1, Key::Char(' '), &view), []);
    }
    let effects = sitting.menu.tick(at + 300, &view);
    assert!(matches!(&effects[0], Effect::Send(0, _)));
    assert_eq!(
        effects[1..],
        [
            Effect::Tell("ttyS0 has the menu now".to_owned()),
            Effect::Do(Command::Stop),
            Effect::Send(1, QUESTION.to_owned())
        ]
    );
    // The first one's keys count for nothing any more.
    assert_eq!(sitting.menu.press(at + 400, 0, Key::Char('r'), &view), []);
}

#[test]
fn nobody_takes_it_from_whoever_knows_the_password() {
    let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), VT100);
    sitting.stops();
    let view = sitting.demo.view.clone();
    let on_the_other = |sitting: &mut Sitting| {
        (0..3).for_each(|_| drop(sitting.menu.press(sitting.now, 1, Key::Char(' '), &view)));
        sitting.menu.tick(sitting.now + 300, &view)
    };
    sitting.types("x\r");
    assert_eq!(on_the_other(&mut sitting), []);
    // Who has not said it yet may be sent away.
    let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), VT100);
    sitting.stops();
    assert_ne!(on_the_other(&mut sitting), []);
}

/// A key that is stuck looks like somebody, but not for ever.
#[test]
fn the_string_is_asked_for_again_in_the_end() {
    let mut sitting = Sitting::open(false, "");
    let begin = sitting.now;
    while sitting.menu.place().is_some() {
        sitting.waits(10_000);
        sitting.types("x");
        assert!(sitting.now - begin <= 12 * 300_000 + 10_100);
    }
    assert!(sitting.now - begin > 11 * 300_000);
}

#[test]
fn nobody_has_it_when_the_machine_goes_on_by_itself() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.demo.view.wait = Wait::Child;
    sitting.types("");
    assert_eq!((sitting.menu.place(), sitting.menu.has_screen()), (None, None));
    // What comes before a reset is for the log, whoever is there.
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("m");
    assert!(matches!(sitting.menu.goes_on(true), Some(Effect::Send(0, _))));
    assert_eq!(sitting.menu.has_screen(), None);
    // Who has asked for a boot has it when that comes back.
    let mut sitting = Sitting::open(false, VT100);
    let view = sitting.demo.view.clone();
    sitting.now += 100;
    assert_eq!(sitting.menu.press(sitting.now, 0, Key::Enter, &view), []);
    sitting.now += 20;
    let effects = sitting.menu.tick(sitting.now, &view);
    assert!(
        matches!(effects[..], [_, Effect::Send(..), Effect::Do(Command::Boot { .. })]),
        "{effects:?}"
    );
    assert_eq!(sitting.menu.has_screen(), None, "the log is to be seen");
    sitting.demo.view.wait = Wait::Child;
    sitting.types("");
    assert_eq!((sitting.menu.place(), sitting.menu.has_screen()), (Some(0), None));
    let begun = sitting.commands.len();
    sitting.types("\u{3}");
    // Or as anybody stops it.
    sitting.demo.view.wait = Wait::Child;
    sitting.waits(300);
    sitting.types("   ");
    sitting.waits(300);
    assert_eq!(sitting.commands[begun..], [Command::Stop, Command::Stop]);
    sitting.demo.view.wait = Wait::Choice(sitting.now + 1000);
    sitting.types("");
    assert_eq!(sitting.menu.has_screen(), Some(0));
}

/// Whoever comes late has not read how.
#[test]
fn a_key_that_does_nothing_says_what_does() {
    let mut sitting = Sitting::new(true, Terminal::Auto, VT100);
    sitting.types("\r");
    let hint = "Cato waits here: press Space 3 times for the menu.";
    assert!(sitting.shown.text().contains(hint), "{}", sitting.shown.text());
    // A line that sends it back does not hear it again and again; one that babbles is told no more.
    let sent = sitting.sent;
    sitting.types("x\r");
    assert_eq!((sitting.sent, sitting.commands.len()), (sent, 0));
    sitting.waits(HINT_AGAIN);
    sitting.types("x");
    assert!(sitting.sent > sent);
    // A boot that runs is not waiting.
    sitting.waits(HINT_AGAIN);
    let sent = sitting.sent;
    sitting.demo.view.wait = Wait::Child;
    sitting.types("\r");
    assert_eq!(sitting.sent, sent);
}

#[test]
fn nobody_gets_past_a_locked_console() {
    let mut sitting = Sitting::with(true, Terminal::Auto, Access::Locked, VT100);
    sitting.stops();
    sitting.types("1\r");
    assert_eq!((sitting.sent, sitting.commands.len()), (0, 0));
}

#[test]
fn whoever_has_the_menu_only_changes_nothing() {
    for (answers, name) in [(VT100, "vt100"), ("", "plain")] {
        let mut sitting = Sitting::with(false, Terminal::Auto, Access::Menu, answers);
        sitting.stops();
        sitting.is(&format!("menu-only-{name}"));
        sitting.commands.clear();
        sitting.types(if name == "plain" { "e 1\r" } else { "e" });
        sitting.types(if name == "plain" { "d 1\r" } else { "d" });
        sitting.types(if name == "plain" { "2\r4\r" } else { "245" });
        assert_eq!(sitting.commands, []);
        sitting.types(if name == "plain" { "1\r" } else { "1" });
        assert!(matches!(
            sitting.commands[..],
            [Command::Boot {
                cmdline: None,
                stays: false,
                ..
            }]
        ));
    }
}

#[test]
fn the_password_comes_first_and_is_not_shown() {
    for (answers, name) in [(VT100, "vt100"), ("", "plain")] {
        let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), answers);
        // A boot that runs is not stopped by somebody who may not know it.
        let wait = std::mem::replace(&mut sitting.demo.view.wait, Wait::Child);
        sitting.stops();
        assert_eq!((sitting.sent, sitting.commands.len()), (0, 0));
        sitting.demo.view.wait = wait;
        sitting.stops();
        // Whoever hammers on Space has typed more of them.
        sitting.types("  secreT\u{7f}t");
        sitting.is(&format!("password-{name}"));
        assert_eq!(sitting.commands, [Command::Stop]);
        sitting.types("\r");
        assert_eq!(
            sitting.commands,
            [Command::Stop, Command::Password("secret".to_owned())]
        );
        assert!(sitting.shown.text().contains("Stopped at the console"));
        // It is not remembered.
        sitting.types("\u{1b}[A");
        assert!(!sitting.shown.text().contains("secret"));
    }
}

#[test]
fn a_wrong_password_is_said() {
    let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), VT100);
    sitting.stops();
    sitting.menu.admit(Err("That is not the password.".to_owned()));
    sitting.types("");
    assert!(sitting.shown.text().contains("That is not the password."));
    sitting.types("r");
    assert_eq!(
        sitting.commands,
        [Command::Stop],
        "no key of the menu does anything yet"
    );
}
