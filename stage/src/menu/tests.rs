//! The menu as people see it: what is typed, and the screens that come of it, against the texts in `screens/`.
//!
//! `UPDATE=1` writes those. Each is what a terminal shows that got the bytes, not what the menu meant to send.

mod access;
mod pressed;

use std::fs;
use std::path::Path;

use super::demo::{Came, Demo};
use super::keys::Decoder;
use super::paint::tests::Terminal as Shown;
use super::*;
use config::Console;
use proptest::prelude::*;

/// Consoles, a machine and a person at the first console.
struct Sitting {
    menu: Menu,
    demo: Demo,
    shown: Shown,
    decoder: Decoder,
    now: Millis,
    /// Bytes since the last look.
    sent: usize,
    commands: Vec<Command>,
    /// What the terminal answers when it is asked.
    answers: &'static str,
    /// It was asked for its size.
    is_asked: bool,
}

/// How long the first key's bytes are.
fn first_key(text: &str) -> usize {
    let mut letters = text.char_indices().skip(1);
    let is_sequence = text.starts_with("\u{1b}[") || text.starts_with("\u{1b}O");
    if text.starts_with('\u{1b}') {
        let last = letters
            .skip(usize::from(is_sequence))
            .find(|(_, c)| ('@'..='~').contains(c));
        return last.map_or(text.len(), |(at, c)| at + c.len_utf8());
    }
    letters.next().map_or(text.len(), |(at, _)| at)
}

/// A terminal of that size, which is UTF-8.
const VT100: &str = "\u{1b}[1;2R\u{1b}[24;80R";

impl Sitting {
    fn new(failed: bool, terminal: Terminal, answers: &'static str) -> Self {
        Self::with(failed, terminal, Access::Open, answers)
    }

    fn with(failed: bool, terminal: Terminal, access: Access, answers: &'static str) -> Self {
        let console = Console {
            terminal,
            access,
            ..Console::default()
        };
        Self {
            menu: Menu::new(["ttyAMA0".to_owned(), "ttyS0".to_owned()], console),
            demo: Demo::new(failed, 0),
            shown: Shown::default(),
            decoder: Decoder::default(),
            now: 1000,
            sent: 0,
            commands: Vec::new(),
            answers,
            is_asked: false,
        }
    }

    fn open(failed: bool, answers: &'static str) -> Self {
        let mut sitting = Self::new(failed, Terminal::Auto, answers);
        sitting.stops();
        assert_eq!(sitting.commands, [Command::Stop]);
        sitting.commands.clear();
        sitting
    }

    /// Types the string, and waits for what it does.
    fn stops(&mut self) {
        self.types("   ");
        self.waits(300);
        self.waits(ASK);
    }

    fn waits(&mut self, time: Millis) {
        self.now += time;
        self.types("");
    }

    /// Key by key, as a person does.
    fn types(&mut self, text: &str) {
        let mut rest = text;
        while !rest.is_empty() {
            let (key, after) = rest.split_at(first_key(rest));
            self.comes(key);
            self.now += 20;
            self.settles();
            rest = after;
        }
        self.settles();
    }

    /// All of it at once, a while after what came before.
    fn comes(&mut self, text: &str) {
        self.now += 30;
        let keys = self.decoder.feed(self.now, text.as_bytes());
        for key in keys {
            let effects = self.menu.press(self.now, 0, key, &self.demo.view);
            self.take(effects);
        }
        self.settles();
    }

    fn settles(&mut self) {
        let effects = self.menu.tick(self.now, &self.demo.view);
        self.take(effects);
        let effects = self.menu.refresh(self.now, &self.demo.view);
        self.take(effects);
        assert!(
            self.menu.wake(self.now).is_none_or(|at| at > self.now),
            "a time that has passed keeps PID 1 awake"
        );
    }

    /// Answers the question for the size, where there was one.
    fn answers(&mut self, size: &str) {
        if std::mem::take(&mut self.is_asked) {
            self.types(size);
        }
    }

    fn take(&mut self, effects: impl IntoIterator<Item = Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(place, text) => {
                    assert_eq!(place, 0);
                    self.sent += text.len();
                    if text == QUESTION {
                        self.types(self.answers);
                    } else {
                        let painted = text.replace(SIZE, "");
                        self.shown.take(&painted);
                        self.is_asked |= painted.len() < text.len();
                    }
                }
                Effect::Tell(line) => self.says(&line),
                Effect::Do(command) => {
                    if command != Command::Attend {
                        self.commands.push(command.clone());
                    }
                    match self.demo.does(self.now, command) {
                        Some(Came::Text(text)) => self.menu.show(text),
                        Some(Came::Admitted) => self.menu.admit(Ok(())),
                        Some(Came::Said(line)) => self.says(&line),
                        Some(Came::Over(_)) | None => {}
                    }
                }
            }
        }
    }

    /// A line of the log comes.
    fn says(&mut self, line: &str) {
        let before = self.menu.tell(line);
        self.take(before);
        if self.menu.has_screen().is_none() {
            self.shown.take(&format!("{line}\n"));
        }
    }

    /// What stands on the terminal is what stands in that file.
    fn is(&self, name: &str) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/menu/screens/{name}.txt"));
        let text = format!("{}\n", self.shown.text());
        if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
            fs::write(&file, &text).unwrap();
        }
        let wanted = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, wanted, "{name}: UPDATE=1 writes what was found");
    }
}

#[test]
fn the_main_page() {
    for failed in [false, true] {
        let name = if failed { "failed" } else { "stopped" };
        let sitting = Sitting::open(failed, VT100);
        sitting.is(&format!("{name}-vt100"));
        assert!(sitting.sent - QUESTION.len() <= 1200, "{} bytes", sitting.sent);
        let sitting = Sitting::open(failed, "");
        sitting.is(&format!("{name}-plain"));
        assert!(sitting.sent - QUESTION.len() <= 1200, "{} bytes", sitting.sent);
    }
}

#[test]
fn a_short_title_is_shown_and_a_long_one_leaves_room_for_the_slot() {
    for (title, row) in [
        ("b", "* 1  a       b  slot A, good"),
        (&*"x".repeat(99), ".. slot A, good"),
    ] {
        let mut sitting = Sitting::new(false, Terminal::Auto, VT100);
        sitting.demo.view.entries[0].title = title.to_owned();
        sitting
            .demo
            .view
            .entries
            .iter_mut()
            .skip(1)
            .for_each(|entry| entry.title = "b".to_owned());
        sitting.stops();
        let text = sitting.shown.text().replace("..  ", ".. ");
        assert!(text.contains(row), "{text}");
    }
}

#[test]
fn the_bar_moves_and_its_entry_is_booted() {
    let mut sitting = Sitting::open(true, VT100);
    sitting.sent = 0;
    sitting.types("\u{1b}[B");
    assert!(sitting.sent <= 200, "{} bytes", sitting.sent);
    sitting.types("\r");
    let boot = |entry: &str, stays| Command::Boot {
        entry: entry.to_owned(),
        cmdline: None,
        stays,
    };
    assert_eq!(sitting.commands, [boot("b", false)]);
    // The same without a cursor.
    let mut sitting = Sitting::open(true, "");
    sitting.types("2\r");
    assert_eq!(sitting.commands, [boot("b", false)]);
    sitting.types("d1\r");
    sitting.types("2\r");
    assert_eq!(sitting.commands, [boot("b", false), boot("a", true)]);
}

#[test]
fn an_entry_and_its_choices() {
    for (answers, name, keys) in [(VT100, "vt100", "\u{1b}[B\u{1b}[C"), ("", "plain", "d 2\r")] {
        let mut sitting = Sitting::open(false, answers);
        sitting.types(keys);
        sitting.is(&format!("entry-{name}"));
        sitting.types(if name == "plain" { "4\r" } else { "4" });
        assert!(matches!(sitting.commands[..], [Command::Mark { is_good: true, .. }]));
        sitting.is(&format!("marked-{name}"));
    }
}

#[test]
fn a_command_line_is_edited_for_one_boot() {
    for (answers, name, keys) in [(VT100, "vt100", "e"), ("", "plain", "e 1\r")] {
        let mut sitting = Sitting::open(false, answers);
        sitting.types(keys);
        sitting.types("\u{17}single");
        sitting.is(&format!("edit-{name}"));
        // What is pasted does not boot it, whether a terminal says that it is, or no person types so quickly: with line ends
        // before it, in it and behind it, all at once or not.
        sitting.comes("\u{1b}[200~ a\rb\u{15}\r\u{1b}[201~");
        sitting.comes("\rc\r");
        sitting.now += 1000;
        sitting.comes("\r");
        sitting.now -= 25;
        sitting.comes("\r");
        assert_eq!(sitting.commands, []);
        assert!(
            sitting
                .shown
                .text()
                .contains("Press Enter, and nothing with it, to boot it.")
        );
        sitting.now += 1000;
        sitting.comes("\r");
        assert_eq!(sitting.commands, []);
        sitting.waits(20);
        let wanted = "root=PARTLABEL=root-a ro single a b c";
        assert!(
            matches!(&sitting.commands[..], [Command::Boot { cmdline: Some(cmdline), .. }] if cmdline == wanted),
            "{:?}",
            sitting.commands
        );
    }
}

/// An arrow key that a slow line cuts is an Escape: what was typed is not lost with it.
#[test]
fn a_command_line_that_was_left_comes_back() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("e debug");
    sitting.comes("\u{1b}");
    sitting.waits(200);
    sitting.types("[D");
    let text = sitting.shown.text();
    assert!(text.contains("Not booted; e and then Up has what was typed."), "{text}");
    sitting.types("e\u{1b}[A");
    assert!(
        sitting.shown.text().contains("console=ttyAMA0,115200 debug"),
        "{}",
        sitting.shown.text()
    );
    // As it was, there is nothing to say.
    sitting.types("\u{3}");
    sitting.types("e\u{3}");
    assert!(!sitting.shown.text().contains("Not booted"), "{}", sitting.shown.text());
}

/// What was said last is what is looked for.
#[test]
fn a_long_text_is_read_page_by_page() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("l");
    sitting.is("log-vt100");
    sitting.types("q");
    sitting.types("w");
    sitting.is("why-vt100");
    let mut sitting = Sitting::open(false, "");
    sitting.types("l\r");
    sitting.types("b\r");
    sitting.types("0\r");
    sitting.is("log-plain");
}

#[test]
fn disks_and_folders_are_walked_through() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("f");
    sitting.is("disks-vt100");
    sitting.types("\u{1b}[B\r");
    sitting.is("files-vt100");
    let open = |at: &str| Command::Browse(at.to_owned());
    assert_eq!(sitting.commands, [open(""), open("mmcblk0p2:")]);
    // What is marked is on the screen, wherever it is; the last one stays the last.
    sitting.types(&"\u{1b}[B".repeat(40));
    sitting.is("files-end-vt100");
    sitting.types("\u{1b}[H\u{1b}[B\r");
    assert_eq!(sitting.commands.last(), Some(&open("mmcblk0p2:grub")));
    sitting.is("file-vt100");
    // The way back, up to the disks and the main page.
    for above in ["mmcblk0p2:", ""] {
        sitting.types("\u{1b}[D");
        assert_eq!(sitting.commands.last(), Some(&open(above)));
    }
    sitting.types("\u{1b}[D");
    assert_eq!(
        sitting.shown.text().lines().next(),
        Some("Cato 0.1.0. Stopped at the console.")
    );

    // A text below a row that leads somewhere is read to its end, and back.
    let mut sitting = Sitting::open(false, VT100);
    drop(sitting.menu.press(sitting.now, 0, Key::Char('l'), &sitting.demo.view));
    sitting.now += 20;
    drop(sitting.menu.tick(sitting.now, &sitting.demo.view));
    let long: Vec<Told> = (0..60).map(|n| format!("row {n}").into()).collect();
    let up = Told {
        text: "..".to_owned(),
        leads: Some("x:".to_owned()),
    };
    sitting.menu.show([up].into_iter().chain(long).collect());
    sitting.types(&"\u{1b}[B".repeat(60));
    assert!(
        sitting.shown.text().contains("row 59\nRows 41 to 61 of 61"),
        "{}",
        sitting.shown.text()
    );
    sitting.types("\r");
    assert!(
        sitting.shown.text().contains("row 59"),
        "what is not seen is not opened"
    );
    sitting.types(&"\u{1b}[A".repeat(60));
    assert!(sitting.shown.text().starts_with("  ..\nrow 0\n"));
    sitting.types("  ");
    assert!(sitting.shown.text().contains("Rows 41 to 61"));

    let mut sitting = Sitting::open(false, "");
    sitting.types("f\r");
    sitting.is("disks-plain");
    sitting.types("2\r");
    sitting.types("\r32\r");
    assert_eq!(sitting.commands.last(), Some(&open("mmcblk0p2:30")));
    // A number that is none of them leaves nothing, where the next one would boot an entry.
    sitting.types("2\r");
    assert!(sitting.shown.text().contains("\"2\" is none of these.\n-- "));
    sitting.types("\r");
    assert!(sitting.shown.text().ends_with("cato>"));
}

#[test]
fn a_line_is_lent_to_whoever_may_change_something() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("y");
    sitting.is("line-vt100");
    sitting.types("2");
    assert_eq!(sitting.commands, [Command::Lend(Use::Receive)]);
    let mut sitting = Sitting::open(false, "");
    sitting.types("y\r1\r");
    assert_eq!(sitting.commands, [Command::Lend(Use::SendLog)]);
    sitting.types("s\r");
    assert_eq!(sitting.commands.last(), Some(&Command::Lend(Use::Shell)));
    let mut sitting = Sitting::with(false, Terminal::Plain, Access::Menu, "");
    sitting.stops();
    sitting.types("s\rf\ry\r2\r0\r");
    assert_eq!(sitting.commands, [Command::Stop]);
}

#[test]
fn switching_off_is_asked_for_twice() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("o");
    assert_eq!(sitting.commands, []);
    sitting.types("0oy");
    assert_eq!(sitting.commands, [Command::PowerOff]);
}

#[test]
fn a_terminal_that_comes_back_is_painted_anew() {
    let mut sitting = Sitting::open(false, VT100);
    let before = sitting.shown.text();
    let size = "\u{1b}[24;80R";
    for _ in 0..5 {
        // One that is there all the time, or behind a slow line, gets what has changed.
        sitting.sent = 0;
        sitting.waits(ASK_AGAIN + 1000);
        sitting.answers(size);
        assert!(sitting.sent < 100, "{} bytes", sitting.sent);
    }
    // Nobody was there for a question.
    sitting.waits(ASK_AGAIN);
    assert!(std::mem::take(&mut sitting.is_asked));
    sitting.shown = Shown::default();
    sitting.waits(ASK_AGAIN);
    sitting.answers(size);
    assert_eq!(sitting.shown.text().lines().count(), before.lines().count());
    // Behind a slow line, the answer comes after what was painted.
    sitting.types("\u{c}");
    sitting.sent = 0;
    sitting.waits(ASK_AGAIN + 500);
    assert!(!sitting.is_asked || sitting.sent < 100);
    sitting.waits(1500);
    sitting.answers(size);
    assert!(sitting.sent < 200, "{} bytes", sitting.sent);
    // One of another size.
    sitting.waits(ASK_AGAIN);
    sitting.answers("\u{1b}[12;60R");
    sitting.is("small-vt100");
    // Nobody has asked for these: a key, and an answer that came twice.
    for answer in ["\u{1b}[1;2R", "\u{1b}[8;40R"] {
        sitting.types(answer);
        sitting.is("small-vt100");
    }
    sitting.waits(ASK_AGAIN);
    sitting.types("\u{1b}[1;2R");
    sitting.answers("\u{1b}[12;60R");
    assert!(sitting.shown.text().contains("Right  more about it\n"));
}

/// The first answer comes when the menu is there already, without a cursor.
#[test]
fn a_late_answer_changes_nothing() {
    let mut sitting = Sitting::open(false, "");
    let before = sitting.shown.text();
    sitting.types("\u{1b}[1;2R");
    sitting.types("\u{1b}[12;60R");
    assert_eq!(sitting.shown.text(), before);
    assert!(
        sitting
            .shown
            .text()
            .starts_with("ttyAMA0 has the menu now\n\nCato 0.1.0.")
    );
}

/// The smallest terminal that is believed: what acts is to be seen, and nothing is wider than a row.
#[test]
fn a_small_terminal_shows_what_would_be_done() {
    let mut sitting = Sitting::open(true, "\u{1b}[1;2R\u{1b}[8;40R");
    let is_shown = |sitting: &Sitting, text: &str| {
        let all = sitting.shown.text();
        assert!(all.contains(text), "no {text:?} in:\n{all}");
        assert!(
            all.lines().count() <= 8 && all.lines().all(|row| row.chars().count() < 40),
            "{all}"
        );
    };
    sitting.says("cato[   1.000] x: a line of the log that says something");
    sitting.types("");
    is_shown(&sitting, "a line of the log");
    is_shown(&sitting, "* 1  a");
    sitting.types("\u{1b}[B\u{1b}[B");
    is_shown(&sitting, "  3  rescue");
    sitting.types("1d");
    is_shown(&sitting, "a: appliance");
    is_shown(&sitting, "1  boot it this time");
    sitting.types("\u{1b}[F");
    is_shown(&sitting, "0  back");
    sitting.types("0l");
    is_shown(&sitting, "q  back");
    sitting.types("qo");
    is_shown(&sitting, "switch it on again.");
    is_shown(&sitting, "y  power off");
}

/// What was asked for comes when another page is up, or was shown already.
#[test]
fn a_late_text_is_for_nobody() {
    let mut sitting = Sitting::open(false, VT100);
    sitting.types("\u{1b}[B");
    let before = sitting.shown.text();
    sitting.menu.show(vec!["late".to_owned().into()]);
    sitting.types("");
    assert_eq!(sitting.shown.text(), before);
    sitting.types("l");
    let before = sitting.shown.text();
    sitting.menu.show(vec!["late".to_owned().into()]);
    sitting.types("");
    assert_eq!(sitting.shown.text(), before);
}

#[test]
fn whoever_waits_for_a_text_is_told() {
    for (answers, keys) in [(VT100, "f"), ("", "f\r")] {
        let mut sitting = Sitting::open(false, answers);
        let view = sitting.demo.view.clone();
        // The machine takes its time.
        let mut effects = Vec::new();
        for key in Decoder::default().feed(sitting.now, keys.as_bytes()) {
            effects.extend(sitting.menu.press(sitting.now, 0, key, &view));
        }
        sitting.now += 20;
        effects.extend(sitting.menu.tick(sitting.now, &view));
        for effect in effects {
            if let Effect::Send(_, text) = effect {
                sitting.shown.take(&text);
            }
        }
        let wait = std::mem::replace(&mut sitting.demo.view.wait, Wait::Child);
        sitting.types("\r\r");
        sitting.types("");
        let text = sitting.shown.text();
        assert_eq!(text.matches("Looking ...").count(), 1, "{text}");
        assert!(text.ends_with("Looking ..."), "{text}");
        sitting.demo.view.wait = wait;
        sitting.menu.show(vec!["vda1".to_owned().into()]);
        sitting.types("");
        assert!(sitting.shown.text().contains("vda1\n"), "{}", sitting.shown.text());
        assert_eq!(sitting.commands, []);
    }
}

#[test]
fn a_line_of_the_log_does_not_spoil_what_is_typed() {
    let mut sitting = Sitting::open(false, "");
    sitting.types("d");
    assert_eq!(sitting.menu.has_screen(), None, "lines come between");
    sitting.says("cato[   1.000] x: y");
    sitting.types(" 2");
    assert!(
        sitting
            .shown
            .text()
            .ends_with("cato> d\ncato[   1.000] x: y\ncato> d 2"),
        "{}",
        sitting.shown.text()
    );
    let mut sitting = Sitting::open(false, VT100);
    assert_eq!(sitting.menu.has_screen(), Some(0));
    sitting.says("cato[   1.000] x: y");
    sitting.types("");
    assert!(sitting.shown.text().contains("x: y"));
}

/// The way back is to the entry that was marked.
#[test]
fn what_was_marked_is_marked_again() {
    for keys in ["d\u{1b}[D", "l\u{1b}[D", "e\u{3}", "d6q"] {
        let mut sitting = Sitting::open(false, VT100);
        sitting.types("\u{1b}[B\u{1b}[B");
        sitting.types(keys);
        sitting.types("\r");
        assert!(
            matches!(sitting.commands.last(), Some(Command::Boot { entry, .. }) if entry == "rescue"),
            "{keys:?}: {:?}",
            sitting.commands
        );
    }
}

#[test]
fn what_comes_from_a_disk_does_not_drive_the_terminal() {
    for (answers, wanted) in [(VT100, "K\u{e4}se"), ("", r"K\u{e4}se")] {
        let mut sitting = Sitting::new(true, Terminal::Auto, answers);
        let entry = &mut sitting.demo.view.entries[0];
        entry.title = "\u{1b}[2J\u{9b}31m\n\u{202e}K\u{e4}se".to_owned();
        entry.failure = Some("\u{1b}]0;x\u{7}".to_owned());
        sitting.stops();
        let text = sitting.shown.text();
        assert!(text.contains(r"\u{1b}[2J\u{9b}31m"), "{text}");
        sitting.types(if answers.is_empty() { "d 1\r" } else { "d" });
        let text = sitting.shown.text();
        assert!(text.contains(wanted) && text.contains(r"\u{202e}"), "{text}");
    }
}

proptest! {
    /// Whatever comes in on a line that has the menu: it is one of the commands at most, and what is sent has a bound.
    #[test]
    fn any_bytes_are_taken(failed: bool, full: bool, pieces in prop::collection::vec(any::<Vec<u8>>(), 0..40)) {
        let mut sitting = Sitting::open(failed, if full { VT100 } else { "" });
        for piece in pieces {
            sitting.now += 10;
            sitting.sent = 0;
            let keys = sitting.decoder.feed(sitting.now, &piece);
            let count = keys.len();
            for key in keys {
                let effects = sitting.menu.press(sitting.now, 0, key, &sitting.demo.view);
                prop_assert!(effects.len() <= 4);
                sitting.take(effects);
            }
            sitting.types("");
            prop_assert!(sitting.sent <= 4000 * (count + 1), "{} bytes for {count} keys", sitting.sent);
        }
    }
}
