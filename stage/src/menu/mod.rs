//! The menu on the consoles: a state and an event make the next state, bytes for terminals, and commands for PID 1. Pure; time is
//! milliseconds since boot and comes in from outside.
//!
//! Given keys ([`keys`]) and what PID 1 knows ([`view`]); responsible for who may use it ([`gate`]), for what is shown
//! ([`screen`], [`paint`]), and for nothing that happens to the machine.

pub(crate) mod demo;
mod fit;
mod gate;
pub(crate) mod keys;
mod line;
mod paint;
mod screen;
mod strokes;
pub(crate) mod view;

use std::time::Duration;

use config::{Access, Console, SlotName, Terminal};

use fit::Form;
use gate::Gate;
use keys::Key;
use paint::{Row, Screenful, Typed};
use screen::Screen;
use strokes::{Stroke, Strokes};
use view::{Told, View, Wait};

/// Milliseconds since boot.
pub(crate) type Millis = u64;

/// Which console, as they were opened.
pub(crate) type Place = usize;

/// What somebody wants of PID 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// That it does not go on by itself: somebody is there.
    Stop,
    /// Nothing, but somebody is there.
    Attend,
    /// Everything again, in its order.
    Retry,
    /// This entry.
    Boot {
        entry: String,
        /// Instead of the entry's own.
        cmdline: Option<String>,
        /// Its slot is the first choice from now on.
        stays: bool,
    },
    /// The slot is good, or bad.
    Mark {
        slot: SlotName,
        is_good: bool,
    },
    /// To be let in; [`Menu::admit`] says whether.
    Password(String),
    /// To be told, by [`Menu::show`], what booting this entry would come to.
    Plan(String),
    /// To be told of it, by [`Menu::show`].
    Look(Topic),
    /// To be shown what is where a [`Told`] leads to; empty are all disks.
    Browse(String),
    /// That a child has this console for it.
    Lend(Use),
    Reboot,
    PowerOff,
    /// To be alone: it goes on by itself.
    Leave,
}

/// What can be read in the menu.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Why boots failed.
    Why,
    /// What Cato has said.
    Log,
    /// What machine it is.
    Machine,
    /// What booting an entry would come to.
    Plan,
    /// How long this start has taken so far, and for what.
    Timeline,
    /// Disks, and what is on them.
    Files,
}

/// What a console is lent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Files come in.
    Receive,
    /// The log goes out.
    SendLog,
    Shell,
}

/// What comes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// These bytes go to that console.
    Send(Place, String),
    /// A line for every console.
    Tell(String),
    Do(Command),
}

/// How long a terminal has to say what it is, ms.
const ASK: Millis = 500;
/// So often a terminal with a cursor is asked again for its size, ms: one that is connected anew gets the screen painted.
const ASK_AGAIN: Millis = 3000;
/// Somebody has the menu for so many times `menu_timeout`; then the string has to be typed again. A line that echoes, or a key that
/// is stuck, looks like somebody.
const LONGEST: Millis = 12;
/// So often, at most, a console without the menu is told how to have it, ms: what it is told may come back.
const HINT_AGAIN: Millis = 10_000;
/// Prints a letter of two bytes, which is one column where they are UTF-8, asks for the cursor, and asks for it in the last corner.
const QUESTION: &str = "\r\u{e9}\u{1b}[6n\r\u{1b}[K\u{1b}[999;999H\u{1b}[6n";
/// Only the second half, and back (DECSC, DECRC). A terminal that is new is told to mark what is pasted.
const SIZE: &str = "\u{1b}[?2004h\u{1b}7\u{1b}[999;999H\u{1b}[6n\u{1b}8";

/// Whoever uses the menu.
#[derive(Debug, Clone)]
struct Session {
    place: Place,
    terminal: Kind,
    screen: Screen,
    screenful: Screenful,
    typed: Typed,
    /// What a plain terminal has been printed.
    printed: Vec<Row>,
    strokes: Strokes,
    /// PID 1 is busy, as somebody wanted; the screen is not shown.
    is_away: bool,
    /// A command was given that may make it so.
    has_asked: bool,
    /// Then the stop string is asked for again, whatever has come.
    until: Millis,
}

/// What is known of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It is to answer until then. Whether its letters are UTF-8, it may have said.
    Asked {
        until: Millis,
        is_utf8: Option<bool>,
    },
    Known {
        form: Form,
        size: Size,
    },
}

/// The question for a terminal's size, which is asked again and again where there is a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    /// When it is asked next.
    next: Millis,
    /// It was asked, and has no answer yet.
    is_open: bool,
    /// One had no answer: whoever was there has gone, and may come back.
    was_silent: bool,
}

impl Size {
    fn known(now: Millis) -> Self {
        Self {
            next: now.saturating_add(ASK_AGAIN),
            is_open: false,
            was_silent: false,
        }
    }

    /// What was painted has to get through first, at 9600 baud.
    fn waits(&mut self, now: Millis, painted: &str) {
        let time = Millis::try_from(painted.len()).unwrap_or(Millis::MAX);
        self.next = self.next.max(now.saturating_add(time));
    }

    /// The question, if it is to be asked now.
    fn ask(&mut self, now: Millis) -> Option<&'static str> {
        (now >= self.next).then(|| {
            *self = Self {
                is_open: true,
                was_silent: self.was_silent || self.is_open,
                ..Self::known(now)
            };
            SIZE
        })
    }
}

impl Session {
    fn new(now: Millis, place: Place, console: &Console) -> Self {
        let known = |is_full| Kind::Known {
            form: Form { is_full, ..Form::PLAIN },
            size: Size::known(now),
        };
        Self {
            place,
            terminal: match console.terminal {
                Terminal::Auto => Kind::Asked {
                    until: now.saturating_add(ASK),
                    is_utf8: None,
                },
                Terminal::Plain => known(false),
                Terminal::Vt100 => known(true),
            },
            screen: Screen::new(&console.access),
            screenful: Screenful::default(),
            typed: Typed::default(),
            printed: Vec::new(),
            strokes: Strokes::default(),
            is_away: false,
            // To stop what runs.
            has_asked: true,
            until: now.saturating_add(millis(console.menu_timeout).saturating_mul(LONGEST)),
        }
    }

    fn form(&self) -> Option<Form> {
        match self.terminal {
            Kind::Asked { .. } => None,
            Kind::Known { form, .. } => Some(form),
        }
    }

    /// The terminal has said where its cursor is.
    fn answered(&mut self, now: Millis, row: u16, column: u16) {
        let (row, column) = (usize::from(row), usize::from(column));
        let (rows, columns) = (row.clamp(8, 200), column.clamp(40, 200));
        match &mut self.terminal {
            // The first answer: how far a letter of two bytes has moved it.
            Kind::Asked { is_utf8, .. } if is_utf8.is_none() && column <= 3 => *is_utf8 = Some(column == 2),
            // No terminal is so small: it is a key (F3 with Shift is CSI 1 ; 2 R).
            _ if row == 1 || column <= 8 => {}
            Kind::Asked { is_utf8, .. } => {
                self.terminal = Kind::Known {
                    form: Form {
                        columns,
                        rows,
                        is_full: true,
                        is_utf8: *is_utf8 == Some(true),
                    },
                    size: Size::known(now),
                };
            }
            Kind::Known { form, size } if size.is_open => {
                // Another size, or somebody is there again: nobody knows what that terminal shows.
                if size.was_silent || (form.rows, form.columns) != (rows, columns) {
                    self.screenful.forget();
                }
                (form.rows, form.columns) = (rows, columns);
                (size.is_open, size.was_silent) = (false, false);
            }
            // Nobody asked.
            Kind::Known { .. } => {}
        }
    }

    /// Whether it has the screen, where no lines of the log may come between.
    fn has_screen(&self) -> bool {
        !self.is_away && self.form().is_some_and(|form| form.is_full)
    }

    /// Gives the terminal back to the log.
    fn leave(&mut self) -> String {
        self.printed.clear();
        match self.form() {
            Some(form) if form.is_full && !self.is_away => self.screenful.leave(),
            _ if self.typed.is_shown() => {
                self.typed.forget();
                "\n".to_owned()
            }
            _ => String::new(),
        }
    }

    /// Whether that key ends a line that this terminal was sent: then it comes back.
    fn is_echo(&self, key: Key) -> bool {
        if key != Key::Enter {
            return false;
        }
        let typed = self.screen.typed();
        typed.len() > 8 && self.printed.iter().any(|row| row.text.trim() == typed.trim())
    }

    /// What is to be sent so that the terminal shows how things are.
    fn refresh(&mut self, now: Millis, view: &View) -> String {
        let mut out = String::new();
        if let Kind::Asked { until, .. } = self.terminal {
            if now < until {
                return out;
            }
            // No answer: nothing more is expected of it than of a printer, which has the question on its row.
            self.terminal = Kind::Known {
                form: Form::PLAIN,
                size: Size::known(now),
            };
            out.push('\n');
        }
        let Kind::Known { form, size } = &mut self.terminal else {
            return out;
        };
        let form = *form;
        if form.is_full {
            out.push_str(&self.screenful.paint(&self.screen.frame(view, now, form)));
            out.extend(size.ask(now));
            size.waits(now, &out);
            return out;
        }
        let rows = self.screen.frame(view, now, form).rows;
        if rows != self.printed {
            out.push_str(if self.typed.is_shown() { "\n" } else { "" });
            self.typed.forget();
            for row in &rows {
                out.extend([row.text.as_str(), "\n"]);
            }
            if let Some(waits) = self.screen.waits(view, now) {
                out.extend([waits.as_str(), "\n"]);
            }
            self.printed = rows;
        }
        let (prompt, text, at) = self.screen.prompt(form);
        out.push_str(&self.typed.paint(&prompt, &text, at));
        out
    }

    /// What is to be sent while a text is awaited: what is shown stays, and below it stands why.
    fn awaits(&mut self) -> String {
        const LOOKING: &str = "Looking ...";
        match self.form() {
            Some(form) if form.is_full => self.screenful.says(LOOKING),
            _ if self.typed.is_shown() => {
                self.typed.forget();
                format!("\n{LOOKING}\n")
            }
            _ => String::new(),
        }
    }
}

fn millis(time: Duration) -> Millis {
    Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX)
}

/// How somebody gets the menu, for the log: `press Space 3 times`.
pub(crate) fn how_to_stop(stop: &str) -> String {
    let count = stop.chars().count();
    match stop.chars().next() {
        Some(first) if stop.chars().all(|c| c == first) => {
            let key = if first == ' ' {
                "Space".to_owned()
            } else {
                format!("{first:?}")
            };
            format!("press {key} {count} times")
        }
        _ => format!("type {stop:?}"),
    }
}

/// All consoles.
#[derive(Debug, Clone)]
pub(crate) struct Menu {
    /// Each one's name, and who may come in.
    gates: Vec<(String, Gate)>,
    console: Console,
    session: Option<Session>,
    /// From then on, whoever presses a key without having the menu is told how to have it.
    hint: Millis,
}

impl Menu {
    /// For consoles of these names.
    pub(crate) fn new(consoles: impl IntoIterator<Item = String>, console: Console) -> Self {
        let gates = consoles.into_iter().map(|name| (name, Gate::new(&console.stop)));
        Self {
            gates: gates.collect(),
            console,
            session: None,
            hint: 0,
        }
    }

    /// Nobody knows what that console shows.
    pub(crate) fn repaint(&mut self, place: Place) {
        if let Some(session) = self.session.as_mut().filter(|session| session.place == place) {
            session.screenful.forget();
            session.printed.clear();
        }
    }

    /// There is one more console, behind the others.
    pub(crate) fn add(&mut self, name: String) {
        self.gates.push((name, Gate::new(&self.console.stop)));
    }

    /// The console whose screen no lines of the log may come between.
    pub(crate) fn has_screen(&self) -> Option<Place> {
        let session = self.session.as_ref().filter(|session| session.has_screen());
        session.map(|session| session.place)
    }

    /// A line of the log is going to be printed on every console but [`has_screen`](Self::has_screen)'s.
    pub(crate) fn tell(&mut self, line: &str) -> Option<Effect> {
        let session = self.session.as_mut()?;
        if session.has_screen() {
            session.screen.say(line);
            return None;
        }
        let is_shown = session.typed.is_shown();
        session.typed.forget();
        // It begins below what is typed.
        is_shown.then(|| Effect::Send(session.place, "\n".to_owned()))
    }

    /// What was asked for.
    pub(crate) fn show(&mut self, text: Vec<Told>) {
        if let Some(session) = &mut self.session {
            session.has_asked = false;
            session.screen.show(text);
        }
    }

    /// Whether the password was right, or why whoever typed it is not let in.
    pub(crate) fn admit(&mut self, may: Result<(), String>) {
        if let Some(session) = &mut self.session {
            session.has_asked = false;
            session.printed.clear();
            // Whoever holds Enter down boots nothing with it.
            session.strokes.hush();
            session.screen.admit(may);
        }
    }

    /// When [`tick`](Self::tick) is wanted at the latest.
    pub(crate) fn wake(&self, now: Millis) -> Option<Millis> {
        let session = self.session.as_ref();
        let asked = session.and_then(|session| match session.terminal {
            Kind::Asked { until, .. } => Some(until),
            Kind::Known { .. } => None,
        });
        let held = session.and_then(|session| session.strokes.wake());
        let gates = self.gates.iter().filter_map(|(_, gate)| gate.wake());
        // What has passed was seen, and waits for something else.
        gates.chain(asked).chain(held).filter(|at| *at > now).min()
    }

    /// A key came from a console. Of the view, only what is waited for is looked at unless somebody has the menu.
    pub(crate) fn press(&mut self, now: Millis, place: Place, key: Key, view: &View) -> Vec<Effect> {
        if self.place() != Some(place) {
            self.knock(now, place, key);
            return self.hint(now, place, key, view).into_iter().collect();
        }
        let mut effects = self.entered(now, view);
        let is_over = self.session.as_ref().is_none_or(|session| session.has_asked);
        // What comes of a held key is seen before another counts.
        if effects.is_empty() || !is_over {
            effects.extend(self.hear(now, key, view));
        }
        // Whoever waits for what they have asked for stops it like anybody.
        if view.wait == Wait::Child {
            self.knock(now, place, key);
        }
        effects
    }

    fn knock(&mut self, now: Millis, place: Place, key: Key) {
        if let Some((_, gate)) = self.gates.get_mut(place) {
            gate.press(now, key);
        }
    }

    /// How to have the menu, for somebody who came when that was said long ago.
    fn hint(&mut self, now: Millis, place: Place, key: Key, view: &View) -> Option<Effect> {
        let is_tried = match key {
            Key::Char(c) => !self.console.stop.contains(c),
            Key::Enter | Key::Escape | Key::Control('c') => true,
            _ => false,
        };
        let may_help = matches!(view.wait, Wait::Choice(_)) && self.may_open(view);
        if !is_tried || !may_help || now < self.hint {
            return None;
        }
        self.has_told(now);
        let how = how_to_stop(&self.console.stop);
        Some(Effect::Send(place, format!("Cato waits here: {how} for the menu.\n")))
    }

    /// All consoles have read how to have the menu.
    fn has_told(&mut self, now: Millis) {
        self.hint = now.saturating_add(HINT_AGAIN);
    }

    /// A key, or an answer, of the terminal that has the menu.
    fn hear(&mut self, now: Millis, key: Key, view: &View) -> Vec<Effect> {
        let Some(session) = &mut self.session else {
            return Vec::new();
        };
        if let Key::Cursor(row, column) = key {
            session.answered(now, row, column);
            return Vec::new();
        }
        let waits = session.form().is_some_and(|form| session.screen.acts(key, form));
        let strokes: Vec<Stroke> = session.strokes.feed(now, key, waits).collect();
        // What is pasted may have anything in it.
        if !session.strokes.is_paste() && self.is_noise(now, key) {
            return self.close_on_noise(now);
        }
        let each = strokes.into_iter();
        each.flat_map(|stroke| self.press_theirs(stroke, view)).collect()
    }

    /// Whether this key makes what comes from the terminal that has the menu more than a person sends.
    fn is_noise(&mut self, now: Millis, key: Key) -> bool {
        let Some(session) = &self.session else { return false };
        let gate = self.gates.get_mut(session.place);
        gate.is_some_and(|(_, gate)| gate.closes(now, key)) || session.is_echo(key)
    }

    fn close_on_noise(&mut self, now: Millis) -> Vec<Effect> {
        self.has_told(now);
        let gate = self.place().and_then(|place| self.gates.get(place));
        let how = how_to_stop(&self.console.stop);
        let tell = gate.map(|(name, _)| {
            Effect::Tell(format!(
                "{name} sends noise, or echoes what it is sent: its menu is closed; {how} to have it again"
            ))
        });
        self.shut().into_iter().chain(tell).collect()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Millis, view: &View) -> Vec<Effect> {
        let mut effects = self.entered(now, view);
        if self.session.as_ref().is_some_and(|session| now >= session.until) {
            effects.extend(self.shut());
            let how = how_to_stop(&self.console.stop);
            effects.push(Effect::Tell(format!(
                "the menu was open for too long; {how} to have it again"
            )));
        }
        let opened: Vec<Place> = (self.gates.iter_mut().enumerate())
            .filter_map(|(place, (_, gate))| gate.is_open(now).then_some(place))
            .collect();
        let Some(place) = opened.first().copied() else {
            return effects;
        };
        let has_it = |session: &Session| session.place == place && session.screen.is_admitted();
        if self.session.as_ref().is_some_and(has_it) {
            effects.push(Effect::Do(Command::Stop));
        } else if self.may_open(view) {
            effects.extend(self.open(now, place));
        }
        effects
    }

    /// What comes of a key that nothing has followed.
    fn entered(&mut self, now: Millis, view: &View) -> Vec<Effect> {
        let stroke = self.session.as_mut().and_then(|session| session.strokes.idle(now));
        stroke.map(|stroke| self.press_theirs(stroke, view)).unwrap_or_default()
    }

    /// Whether whoever types the string gets the menu, or is asked for the password.
    fn may_open(&self, view: &View) -> bool {
        match self.console.access {
            Access::Open | Access::Menu => true,
            // Whoever may not know it does not stop a boot that runs, nor sends anybody away.
            Access::Password(_) => {
                let is_taken = self
                    .session
                    .as_ref()
                    .is_some_and(|session| session.screen.is_admitted());
                view.wait != Wait::Child && !is_taken
            }
            Access::Locked => false,
        }
    }

    fn open(&mut self, now: Millis, place: Place) -> Vec<Effect> {
        if self.place() == Some(place) {
            return Vec::new();
        }
        self.has_told(now);
        let mut effects: Vec<Effect> = self.shut().into_iter().collect();
        if let ([_, _, ..], Some((name, _))) = (self.gates.as_slice(), self.gates.get(place)) {
            effects.push(Effect::Tell(format!("{name} has the menu now")));
        }
        effects.push(Effect::Do(Command::Stop));
        let session = Session::new(now, place, &self.console);
        if session.form().is_none() {
            effects.push(Effect::Send(place, QUESTION.to_owned()));
        }
        self.session = Some(session);
        effects
    }

    fn press_theirs(&mut self, Stroke { key, is_pasted }: Stroke, view: &View) -> Vec<Effect> {
        let Some(session) = &mut self.session else {
            return Vec::new();
        };
        let Some(form) = session.form() else { return Vec::new() };
        if view.wait == Wait::Child {
            let stops = key == Key::Control('c') && !is_pasted && session.screen.is_admitted();
            return stops.then_some(Effect::Do(Command::Stop)).into_iter().collect();
        }
        if key == Key::Noise {
            return Vec::new();
        }
        let mut effects = Vec::new();
        if session.screen.is_admitted() {
            effects.push(Effect::Do(Command::Attend));
        }
        let command = match key {
            key if is_pasted => {
                session.screen.paste(key, form);
                None
            }
            Key::Control('l') => {
                session.screenful.forget();
                session.printed.clear();
                None
            }
            key if form.is_full => session.screen.press(key, view, form),
            key => {
                if key == Key::Enter {
                    // What is typed is read line by line: each gets an answer.
                    session.printed.clear();
                }
                session.screen.press_plain(key, view, form)
            }
        };
        let Some(command) = command else { return effects };
        session.has_asked = true;
        match command {
            Command::Leave => effects.extend(self.shut()),
            // What comes of it is in the log.
            Command::Boot { .. } | Command::Retry | Command::Reboot | Command::PowerOff | Command::Lend(_) => {
                effects.push(Effect::Send(session.place, session.leave()));
                session.is_away = true;
            }
            _ => {}
        }
        effects.push(Effect::Do(command));
        effects
    }

    fn shut(&mut self) -> Option<Effect> {
        let place = self.place()?;
        Some(Effect::Send(place, self.close()?))
    }

    /// PID 1 goes on, or resets the machine, and nobody asked for it: whoever had the menu has gone, and what is said is for the log.
    pub(crate) fn goes_on(&mut self, is_reset: bool) -> Option<Effect> {
        let has_asked = self.session.as_ref().is_some_and(|session| session.has_asked);
        if has_asked && !is_reset {
            return None;
        }
        self.shut()
    }

    /// Nobody has the menu any more. Gives what is to be sent to the terminal that had it.
    pub(crate) fn close(&mut self) -> Option<String> {
        Some(self.session.take()?.leave())
    }

    /// What is to be sent to a terminal that takes it, so that it shows how things are.
    pub(crate) fn refresh(&mut self, now: Millis, view: &View) -> Option<Effect> {
        let session = self.session.as_mut()?;
        if view.wait == Wait::Child {
            if !session.has_asked {
                // It went on by itself: whoever was here has gone.
                return self.shut();
            }
            let is_there = !session.is_away && session.screen.awaits_text();
            let out = if is_there { session.awaits() } else { String::new() };
            return (!out.is_empty()).then_some(Effect::Send(session.place, out));
        }
        if std::mem::take(&mut session.is_away) {
            session.screenful.forget();
        }
        session.has_asked = false;
        let out = session.refresh(now, view);
        (!out.is_empty()).then_some(Effect::Send(session.place, out))
    }

    /// The console to which [`refresh`](Self::refresh) would send.
    pub(crate) fn place(&self) -> Option<Place> {
        self.session.as_ref().map(|session| session.place)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers")]
mod tests;
