//! What counts as a key that somebody has pressed, and what is pasted, held down, echoed or noise.

use super::*;

/// On a page without a line, and of a terminal that loses the end.
#[test]
fn what_is_pasted_presses_no_key() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.comes("\u{1b}[200~root=/dev/vda2\ro\u{1b}[6n\u{1b}[24;1H");
    sitting.comes("rest");
    assert_eq!(
        (sitting.commands.as_slice(), sitting.menu.place()),
        ([].as_slice(), Some(0))
    );
    // A terminal says in between where its cursor is; that is no key.
    for _ in 0..2 {
        sitting.waits(600);
        sitting.types("\u{1b}[24;80R");
    }
    sitting.types("r");
    assert_eq!(sitting.commands, [Command::Reboot]);
    let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), VT100);
    sitting.stops();
    sitting.comes("\u{1b}[200~secret\r\u{1b}[201~\r");
    assert_eq!(sitting.commands.last(), Some(&Command::Password("secret".to_owned())));
}

/// The key that leaves a text is pressed once too often.
#[test]
fn leaving_a_text_boots_nothing() {
    for keys in ["l\r\r\r", "w\r\r", "wqqq", "lqq"] {
        let mut sitting = Sitting::open(false, VT100);
        sitting.types(keys);
        let does_more = |command: &&Command| !matches!(command, Command::Look(_));
        assert_eq!(sitting.commands.iter().find(does_more), None, "{keys:?}");
    }
}

/// Without a word of the terminal's that it is pasted, or from a line that begins to echo: what comes in one go was pressed by nobody.
#[test]
fn a_burst_presses_no_key() {
    for text in [
        "root=/dev/sda1",
        "sudo apt",
        "only",
        "\r\nhost login: ",
        "[    1.234567] random: crng init done\r\n",
        "^[[11;17H299 s without",
        "24;80R",
    ] {
        for page in ["", "d", "l", "o"] {
            let mut sitting = Sitting::open(false, VT100);
            sitting.types(page);
            sitting.commands.clear();
            sitting.comes(text);
            sitting.waits(100);
            assert_eq!(sitting.commands, [], "{text:?} on the page of {page:?}");
        }
    }
    // The answer to the question for the size comes in two pieces.
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("d");
    sitting.comes("\u{1b}[");
    sitting.waits(300);
    sitting.comes("24;80R");
    sitting.waits(100);
    assert_eq!(sitting.commands, []);
}

/// An Escape and an Enter in one packet are two keys, and Enter is for the page that Escape leads to.
#[test]
fn what_was_given_up_is_not_booted() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("e");
    sitting.types("x");
    sitting.comes("\u{1b}\r");
    sitting.waits(100);
    assert_eq!(sitting.commands, []);
    assert!(sitting.shown.text().starts_with("Cato "), "{}", sitting.shown.text());
}

/// Enter is held down behind the password.
#[test]
fn nothing_is_booted_by_the_password_s_enter() {
    let mut sitting = Sitting::with(false, Terminal::Auto, Access::Password(String::new()), VT100);
    sitting.stops();
    sitting.types("secret\r");
    sitting.commands.clear();
    for _ in 0..20 {
        sitting.comes("\r");
    }
    assert_eq!(sitting.commands, []);
    sitting.waits(500);
    sitting.types("\r");
    assert!(matches!(sitting.commands[..], [Command::Boot { .. }]));
}

/// A line that is noisy, if slowly, has it no longer than it takes to tell.
#[test]
fn slow_noise_takes_the_menu_away() {
    let mut sitting = Sitting::open(false, VT100);
    let mut count = 0;
    while sitting.menu.place().is_some() {
        sitting.waits(200);
        // Every other byte of noise is no UTF-8.
        let key = if count % 2 == 0 { Key::Noise } else { Key::Char('x') };
        drop(sitting.menu.press(sitting.now, 0, key, &sitting.demo.view));
        count += 1;
        assert!(count < 30);
    }
}

/// Cato's own bytes come back when somebody has it already: what paints the clock presses no key.
#[test]
fn a_line_that_begins_to_echo_presses_no_key() {
    for keys in ["", "d", "l"] {
        let mut sitting = Sitting::open(false, VT100);
        sitting.types(keys);
        sitting.commands.clear();
        for _ in 0..20 {
            sitting.now += 1000;
            let view = sitting.demo.view.clone();
            let Some(Effect::Send(_, text)) = sitting.menu.refresh(sitting.now, &view) else {
                continue;
            };
            for key in sitting.decoder.feed(sitting.now, text.as_bytes()) {
                let effects = sitting.menu.press(sitting.now, 0, key, &view);
                sitting.take(effects);
            }
        }
        assert_eq!(
            (sitting.menu.place(), sitting.commands.as_slice()),
            (None, [].as_slice()),
            "{keys:?}"
        );
    }
}

/// Cato's own bytes come back, as from a line with nothing at its other end, or with a login prompt there.
#[test]
fn a_line_that_echoes_has_the_menu_for_a_moment_only() {
    for terminal in [Terminal::Auto, Terminal::Plain, Terminal::Vt100] {
        let mut sitting = Sitting::new(true, terminal, "");
        sitting.types("   ");
        let mut back = String::new();
        for _ in 0..200 {
            sitting.now += 100;
            let mut effects = Vec::new();
            for key in sitting.decoder.feed(sitting.now, back.as_bytes()) {
                effects.extend(sitting.menu.press(sitting.now, 0, key, &sitting.demo.view));
            }
            effects.extend(sitting.menu.tick(sitting.now, &sitting.demo.view));
            effects.extend(sitting.menu.refresh(sitting.now, &sitting.demo.view));
            back.clear();
            for effect in effects {
                match effect {
                    Effect::Send(_, text) => back.push_str(&text.replace('\n', "\r\n")),
                    Effect::Do(command) => sitting.commands.push(command),
                    Effect::Tell(_) => {}
                }
            }
        }
        assert_eq!(sitting.menu.place(), None, "{terminal}");
        sitting.commands.retain(|command| *command != Command::Attend);
        assert_eq!(sitting.commands, [Command::Stop], "{terminal}");
    }
}

#[test]
fn noise_takes_the_menu_away() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.comes(&"\0".repeat(8));
    sitting.types("r");
    assert_eq!(sitting.commands, []);
    assert!(
        sitting
            .shown
            .text()
            .ends_with("its menu is closed; press Space 3 times to have it again"),
        "{}",
        sitting.shown.text()
    );
}

#[test]
fn keys_that_do_nothing_are_no_noise() {
    for (answers, letters) in [(VT100, "vt100"), ("", "plain")] {
        let mut sitting = Sitting::open(false, answers);
        for key in [
            "\u{1b}OP",
            "\u{1b}[15~",
            "\u{1b}8",
            "\u{1b}x",
            "\u{1b}[2~",
            "\u{1b}[1;5P",
            "\u{1b}[31m",
        ] {
            sitting.types(&key.repeat(8));
        }
        // A terminal that is not UTF-8, and somebody who types a letter like that now and then.
        for _ in 0..20 {
            sitting.waits(2100);
            let effects = sitting.menu.press(sitting.now, 0, Key::Noise, &sitting.demo.view);
            sitting.take(effects);
        }
        assert_eq!(sitting.menu.place(), Some(0), "{letters}");
    }
}
