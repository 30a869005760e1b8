//! The pages of the menu: what is shown, and what a key or a typed line does. Pure.
//!
//! Each page has one list of what can be done on it, [`Item`]s, for both kinds of terminal.

use super::keys::Key;
use super::line::Line;
use super::paint::{Frame, Row};
use super::view::{EntryView, View, Wait};
use super::{Command, Millis, Topic};
use crate::state::Condition;
use crate::text::{cut, printable};
use config::Access;

/// What a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    pub columns: usize,
    pub rows: usize,
    /// Its cursor can be moved.
    pub is_full: bool,
    pub is_utf8: bool,
}

impl Form {
    /// The least that there is.
    pub(crate) const PLAIN: Self = Self {
        columns: 80,
        rows: 24,
        is_full: false,
        is_utf8: false,
    };
}

/// `text` for this terminal: the one place where what came from outside is cleaned.
fn shown(text: &str, form: Form) -> String {
    // Letters of one column, in the scripts that a terminal can be expected to have.
    let is_letter = |c: char| matches!(c, '\u{c0}'..='\u{24f}' | '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{4ff}');
    if !form.is_utf8 || text.is_ascii() {
        return printable(text);
    }
    let each = text.chars().map(|c| {
        if is_letter(c) {
            c.to_string()
        } else {
            printable(c.encode_utf8(&mut [0; 4]))
        }
    });
    each.collect()
}

/// The first `width` columns, with a mark that there is more.
fn fitted(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let head: String = text.chars().take(width.saturating_sub(2)).collect();
    format!("{head}..")
}

/// Columns that are used: a character in the last one may wrap.
fn width(form: Form) -> usize {
    form.columns.saturating_sub(1).max(20)
}

/// A word that is longer than a row, in pieces that are not.
fn pieces(word: &str, width: usize) -> Vec<String> {
    if word.chars().count() < width {
        return vec![word.to_owned()];
    }
    let letters: Vec<char> = word.chars().collect();
    letters
        .chunks(width.saturating_sub(1).max(1))
        .map(|piece| piece.iter().collect())
        .collect()
}

/// What is typed, one column a character.
fn typed(text: &str, form: Form) -> String {
    let each = text.chars().map(|c| {
        let is_shown = shown(c.encode_utf8(&mut [0; 4]), form).chars().eq([c]);
        if is_shown { c } else { '?' }
    });
    each.collect()
}

/// `text` in rows of at most `width`, broken at spaces where that goes; at most `most` of them.
fn wrapped(text: &str, width: usize, most: usize) -> Vec<String> {
    let mut rows = vec![String::new()];
    for word in text.split(' ').flat_map(|word| pieces(word, width)) {
        let length = |row: &str| row.chars().count();
        let count = rows.len();
        let Some(row) = rows.last_mut() else { break };
        if row.is_empty() {
            row.push_str(&word);
        } else if length(row).saturating_add(word.chars().count()) < width {
            row.extend([" ", &word]);
        } else if count < most {
            rows.push(word);
        } else {
            row.push_str(" ..");
            break;
        }
    }
    rows.iter().map(|row| fitted(row, width)).collect()
}

/// As many side by side as a row has room for.
fn packed(items: impl Iterator<Item = String>, width: usize) -> Vec<Row> {
    let mut rows: Vec<String> = Vec::new();
    for item in items {
        match rows.last_mut() {
            Some(row) if row.len().saturating_add(item.len()).saturating_add(4) < width => {
                row.extend(["    ", &item]);
            }
            _ => rows.push(format!("  {item}")),
        }
    }
    rows.into_iter().map(|row| Row::new(fitted(&row, width))).collect()
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Boot(usize),
    Details(usize),
    Edit(usize),
    Stays(usize),
    Mark(usize, bool),
    Plan(usize),
    Look(Topic),
    Retry,
    Reboot,
    PowerOff,
    SurelyPowerOff,
    Leave,
    Back,
}

/// One of the things to do on a page.
struct Item {
    key: char,
    label: String,
    act: Act,
}

fn item(key: char, label: impl Into<String>, act: Act) -> Item {
    Item {
        key,
        label: label.into(),
        act,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Page {
    /// Nobody has said the password yet.
    Password,
    Main,
    Entry(usize),
    Edit(usize),
    Text(Topic),
    PowerOff,
}

/// Command lines that are remembered while somebody has the menu.
const EDITS: usize = 8;

/// Which page is up, and where on it somebody is.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    page: Page,
    /// The marked entry of the main page, or item of another one; none until somebody moves it.
    bar: Option<usize>,
    /// The first line of a text that is shown.
    top: usize,
    /// What is typed at a plain prompt.
    typed: Line,
    /// A command line that is changed.
    edited: Line,
    /// Those that were booted, for the next time; at most [`EDITS`].
    edits: Vec<String>,
    text: Vec<String>,
    /// What became of the last key.
    said: String,
    /// Somebody may do more than boot what is there, as it is, for one time.
    may_change: bool,
}

impl Screen {
    pub(crate) fn new(access: &Access) -> Self {
        Self {
            page: if matches!(access, Access::Password(_)) {
                Page::Password
            } else {
                Page::Main
            },
            may_change: *access != Access::Menu,
            bar: None,
            top: 0,
            typed: Line::default(),
            edited: Line::default(),
            edits: Vec::new(),
            text: Vec::new(),
            said: String::new(),
        }
    }

    /// Whether whoever is there may be: nobody has to say a password, or they have.
    pub(crate) fn is_admitted(&self) -> bool {
        self.page != Page::Password
    }

    /// What the password was worth.
    pub(crate) fn admit(&mut self, may: Result<(), String>) {
        if self.page != Page::Password {
            return;
        }
        match may {
            Ok(()) => {
                self.turn(Page::Main);
                self.said.clear();
            }
            Err(why) => self.said = why,
        }
    }

    /// What was asked for by [`Command::Look`].
    pub(crate) fn show(&mut self, text: Vec<String>) {
        self.text = text;
        self.top = 0;
    }

    /// One sentence on what became of something.
    pub(crate) fn say(&mut self, said: &str) {
        said.clone_into(&mut self.said);
    }

    fn turn(&mut self, page: Page) {
        self.page = page;
        self.bar = None;
        self.top = 0;
        self.text.clear();
    }

    /// What can be done on the page, but for the entries of the main one.
    fn items(&self, view: &View) -> Vec<Item> {
        match self.page {
            Page::Main => {
                let mut items = vec![
                    item('w', "why boots failed", Act::Look(Topic::Why)),
                    item('l', "log", Act::Look(Topic::Log)),
                    item('m', "machine", Act::Look(Topic::Machine)),
                ];
                if !view.entries.is_empty() {
                    items.push(item('t', "try again", Act::Retry));
                }
                items.push(item('r', "reboot", Act::Reboot));
                if self.may_change {
                    items.push(item('o', "power off", Act::PowerOff));
                }
                items.push(item('q', "leave it alone", Act::Leave));
                items
            }
            Page::Password => Vec::new(),
            Page::Entry(at) if !self.may_change => vec![
                item('1', "boot it this time", Act::Boot(at)),
                item('6', "show what a boot would come to", Act::Plan(at)),
                item('0', "back", Act::Back),
            ],
            Page::Entry(at) => {
                let mut items = vec![item('1', "boot it this time", Act::Boot(at))];
                let entry = view.entries.get(at);
                if let Some(slot) = entry.and_then(|entry| entry.condition.as_ref()) {
                    items.push(item(
                        '2',
                        format!("boot it from now on: slot {} first", slot.name),
                        Act::Stays(at),
                    ));
                }
                items.push(item(
                    '3',
                    "edit its command line, then boot it this time",
                    Act::Edit(at),
                ));
                if let Some(slot) = entry.and_then(|entry| entry.condition.as_ref()) {
                    items.push(item(
                        '4',
                        format!("mark slot {} as good", slot.name),
                        Act::Mark(at, true),
                    ));
                    items.push(item(
                        '5',
                        format!("mark slot {} as bad", slot.name),
                        Act::Mark(at, false),
                    ));
                }
                items.extend([
                    item('6', "show what a boot would come to", Act::Plan(at)),
                    item('0', "back", Act::Back),
                ]);
                items
            }
            Page::PowerOff => vec![
                item('y', "power off", Act::SurelyPowerOff),
                item('0', "back", Act::Back),
            ],
            Page::Edit(_) | Page::Text(_) => vec![item('0', "back", Act::Back)],
        }
    }

    /// The entry that is marked: the one that somebody moved to, else the next.
    fn marked(&self, view: &View) -> usize {
        let next = view.entries.iter().position(|entry| entry.is_next);
        let bar = self.bar.or(next).unwrap_or(0);
        bar.min(view.entries.len().saturating_sub(1))
    }

    fn act(&mut self, act: Act, view: &View) -> Option<Command> {
        let entry = |at: usize| view.entries.get(at);
        self.said.clear();
        match act {
            Act::Boot(at) | Act::Stays(at) => {
                let entry = entry(at)?.name.clone();
                self.turn(Page::Main);
                return Some(Command::Boot {
                    entry,
                    cmdline: None,
                    stays: matches!(act, Act::Stays(_)),
                });
            }
            Act::Details(at) => self.turn(Page::Entry(at)),
            Act::Edit(at) => {
                let cmdline = &entry(at)?.cmdline;
                let history = self.edits.iter().chain([cmdline]).cloned().collect();
                self.edited = Line::of(cmdline, history);
                self.turn(Page::Edit(at));
            }
            Act::Mark(at, is_good) => {
                let slot = entry(at)?.condition.as_ref()?.name.clone();
                return Some(Command::Mark { slot, is_good });
            }
            Act::Plan(at) => {
                let entry = entry(at)?.name.clone();
                self.turn(Page::Text(Topic::Plan));
                return Some(Command::Plan(entry));
            }
            Act::Look(Topic::Why) => {
                self.turn(Page::Text(Topic::Why));
                self.text = why(view);
            }
            Act::Look(topic) => {
                self.turn(Page::Text(topic));
                return Some(Command::Look(topic));
            }
            Act::PowerOff => self.turn(Page::PowerOff),
            Act::SurelyPowerOff => return Some(Command::PowerOff),
            Act::Reboot => return Some(Command::Reboot),
            Act::Retry => return Some(Command::Retry),
            Act::Leave => return Some(Command::Leave),
            Act::Back => self.turn(Page::Main),
        }
        None
    }

    /// A key on a terminal with a cursor.
    pub(crate) fn press(&mut self, key: Key, view: &View, form: Form) -> Option<Command> {
        match self.page {
            Page::Password => return self.press_password(key),
            Page::Edit(at) => return self.press_edit(at, key, view),
            Page::Text(_) => return self.press_text(key, view, form),
            _ => {}
        }
        let items = self.items(view);
        let (count, bar) = match self.page {
            Page::Main => (view.entries.len(), self.marked(view)),
            _ => (items.len(), self.bar.unwrap_or(0).min(items.len().saturating_sub(1))),
        };
        match key {
            Key::Up => self.bar = Some(bar.saturating_sub(1)),
            Key::Down => self.bar = Some(bar.saturating_add(1).min(count.saturating_sub(1))),
            Key::Home => self.bar = Some(0),
            Key::End => self.bar = Some(count.saturating_sub(1)),
            Key::Left | Key::Escape if self.page != Page::Main => return self.act(Act::Back, view),
            Key::Enter if self.page == Page::Main => return self.act(Act::Boot(bar), view),
            Key::Enter => return self.act(items.get(bar)?.act, view),
            Key::Right | Key::Char('d') if self.page == Page::Main && count > 0 => {
                return self.act(Act::Details(bar), view);
            }
            Key::Char('e') if self.page == Page::Main && count > 0 && self.may_change => {
                return self.act(Act::Edit(bar), view);
            }
            Key::Char(c @ '1'..='9') if self.page == Page::Main => {
                let at = usize::try_from(c.to_digit(10)?).ok()?.saturating_sub(1);
                if at < count {
                    self.bar = Some(at);
                }
            }
            Key::Char(c) => return self.act(items.iter().find(|item| item.key == c)?.act, view),
            _ => {}
        }
        None
    }

    fn press_password(&mut self, key: Key) -> Option<Command> {
        match key {
            Key::Enter => {
                self.said.clear();
                let typed = std::mem::take(&mut self.typed).text();
                (!typed.is_empty()).then_some(Command::Password(typed))
            }
            Key::Escape | Key::Control('c' | 'u') => {
                self.typed = Line::default();
                None
            }
            // What is left of three spaces, for one who types quickly: no password begins with one.
            Key::Char(' ') if self.typed.text().is_empty() => None,
            key => {
                self.typed.press(key);
                None
            }
        }
    }

    fn press_edit(&mut self, at: usize, key: Key, view: &View) -> Option<Command> {
        match key {
            Key::Enter if !self.edited.is_pasting() => return self.boot_edited(at, view),
            Key::Escape | Key::Control('c' | 'g') => return self.act(Act::Back, view),
            key => self.edited.press(key),
        }
        None
    }

    fn boot_edited(&mut self, at: usize, view: &View) -> Option<Command> {
        let entry = view.entries.get(at)?.name.clone();
        let cmdline = self.edited.text().trim().to_owned();
        if self.edits.len() >= EDITS {
            self.edits.remove(0);
        }
        self.edits.push(cmdline.clone());
        self.turn(Page::Main);
        Some(Command::Boot {
            entry,
            cmdline: Some(cmdline),
            stays: false,
        })
    }

    /// Rows of a text that are shown at once.
    fn height(form: Form) -> usize {
        form.rows.saturating_sub(3).max(1)
    }

    /// The text, in rows.
    fn text(&self, form: Form) -> Vec<String> {
        let lines = self.text.iter().map(|line| shown(line, form));
        lines.flat_map(|line| wrapped(&line, width(form), 8)).collect()
    }

    fn press_text(&mut self, key: Key, view: &View, form: Form) -> Option<Command> {
        let height = Self::height(form);
        let last = self.text(form).len().saturating_sub(height);
        match key {
            Key::Up => self.top = self.top.saturating_sub(1),
            Key::Down => self.top = self.top.saturating_add(1).min(last),
            Key::PageUp => self.top = self.top.saturating_sub(height),
            Key::PageDown | Key::Char(' ') => self.top = self.top.saturating_add(height).min(last),
            Key::Home => self.top = 0,
            Key::End => self.top = last,
            Key::Left | Key::Escape | Key::Enter | Key::Char('q' | '0') => return self.act(Act::Back, view),
            _ => {}
        }
        None
    }

    /// A key on a plain terminal, where lines are typed.
    pub(crate) fn press_plain(&mut self, key: Key, view: &View, form: Form) -> Option<Command> {
        match self.page {
            Page::Password => return self.press_password(key),
            Page::Edit(at) => return self.press_edit(at, key, view),
            _ => {}
        }
        match key {
            Key::Enter if !self.typed.is_pasting() => {
                let typed = std::mem::take(&mut self.typed).text();
                self.enter(typed.trim(), view, form)
            }
            Key::Escape | Key::Control('c' | 'g') => {
                self.typed = Line::default();
                self.act(Act::Back, view)
            }
            key => {
                self.typed.press(key);
                None
            }
        }
    }

    fn enter(&mut self, typed: &str, view: &View, form: Form) -> Option<Command> {
        self.said.clear();
        if let Page::Text(_) = self.page {
            if typed.is_empty() && !self.is_at_end(form) {
                self.top = self.top.saturating_add(Self::height(form));
                return None;
            }
            return self.act(Act::Back, view);
        }
        if let (Page::Main, Some(act)) = (&self.page, numbered(typed, view))
            && (self.may_change || !matches!(act, Act::Edit(_)))
        {
            return self.act(act, view);
        }
        let mut letters = typed.chars();
        let (first, rest) = (letters.next(), letters.next());
        match self
            .items(view)
            .iter()
            .find(|item| Some(item.key) == first && rest.is_none())
        {
            Some(item) => self.act(item.act, view),
            // Whoever presses Enter sees it again.
            None if typed.is_empty() || typed == "?" => None,
            None => {
                let typed = printable(&cut(typed, 20));
                self.said = format!("\"{typed}\" is none of these.");
                None
            }
        }
    }

    /// What stands on the line of a plain terminal.
    pub(crate) fn typed(&self) -> String {
        self.typed.text()
    }

    /// The prompt of a plain terminal, what stands behind it, and the cursor's column in that.
    pub(crate) fn prompt(&self, form: Form) -> (&'static str, String, usize) {
        if self.page == Page::Password {
            return ("Password: ", String::new(), 0);
        }
        let (prompt, line) = match self.page {
            Page::Edit(_) => ("cmdline: ", &self.edited),
            Page::Text(_) if self.is_at_end(form) => ("-- Enter  back -- ", &self.typed),
            Page::Text(_) => ("-- Enter  more    0  back -- ", &self.typed),
            _ => ("cato> ", &self.typed),
        };
        let (text, at) = line.window(form.columns.saturating_sub(prompt.len()));
        (prompt, typed(&text, form), at)
    }

    fn is_at_end(&self, form: Form) -> bool {
        self.top.saturating_add(Self::height(form)) >= self.text(form).len()
    }

    /// What is on the screen now.
    pub(crate) fn frame(&self, view: &View, now: Millis, form: Form) -> Frame {
        let width = width(form);
        let mut rows = Vec::new();
        let mut cursor = None;
        match self.page {
            Page::Password => {
                rows.push(Row::new("This console is for whoever knows the password."));
                if form.is_full {
                    rows.push(Row::new("Password: "));
                    cursor = Some((1, 10));
                }
            }
            Page::Main => self.main(&mut rows, view, form, width),
            Page::Entry(at) => self.entry(&mut rows, view, at, form, width),
            Page::Edit(at) => {
                let name = view.entries.get(at).map_or("", |entry| entry.name.as_str());
                rows.push(Row::new(fitted(
                    &format!(
                        "Command line of {} for one boot    Enter  boot it    Esc  back",
                        shown(name, form)
                    ),
                    width,
                )));
                if form.is_full {
                    rows.push(Row::default());
                    let (text, at) = self.edited.window(width);
                    cursor = Some((rows.len(), at));
                    rows.push(Row::new(typed(&text, form)));
                }
            }
            Page::Text(_) => self.lines(&mut rows, form),
            Page::PowerOff => {
                rows.push(Row::new(
                    "Power off? Only a person at the machine can switch it on again.",
                ));
                self.choices(&mut rows, view, form);
            }
        }
        if !self.said.is_empty() {
            rows.push(Row::new(fitted(&shown(&self.said, form), width)));
        }
        if form.is_full {
            let time = Row::new(waits(view, now));
            // Never more rows than there are: the last one is for the time.
            rows.truncate(form.rows.saturating_sub(1));
            rows.push(time);
        }
        Frame { rows, cursor }
    }

    /// What a plain terminal is told once, as it would be out of date soon.
    pub(crate) fn waits(&self, view: &View, now: Millis) -> Option<String> {
        (self.page == Page::Main).then(|| waits(view, now))
    }

    /// Whether Enter is a part of what is pasted.
    pub(crate) fn is_pasting(&self) -> bool {
        let line = if matches!(self.page, Page::Edit(_)) {
            &self.edited
        } else {
            &self.typed
        };
        line.is_pasting()
    }

    fn main(&self, rows: &mut Vec<Row>, view: &View, form: Form, width: usize) {
        let title = format!("Cato {}. {}", env!("CARGO_PKG_VERSION"), shown(&view.why, form));
        rows.extend(wrapped(&title, width, 3).into_iter().map(Row::new));
        rows.push(Row::default());
        let marked = self.marked(view);
        // On a small screen, those around the marked one.
        let room = if form.is_full {
            form.rows.saturating_sub(9).max(3)
        } else {
            usize::MAX
        };
        let first = marked
            .saturating_sub(room / 2)
            .min(view.entries.len().saturating_sub(room));
        let has_room = view.entries.len().saturating_mul(2) <= room;
        let column = |of: fn(&EntryView) -> &str, most: usize| {
            let longest = view
                .entries
                .iter()
                .map(|entry| shown(of(entry), form).chars().count())
                .max();
            longest.unwrap_or(0).min(most)
        };
        let (names, titles) = (column(|entry| &entry.name, 16), column(|entry| &entry.title, 30));
        for (at, entry) in view.entries.iter().enumerate().skip(first).take(room) {
            let sign = if entry.is_next { '*' } else { ' ' };
            let name = fitted(&shown(&entry.name, form), names);
            let title = fitted(&shown(&entry.title, form), titles);
            let number = at.saturating_add(1);
            let text = format!("{sign}{number:>2}  {name:<names$}  {title:<titles$}  {}", slot(entry));
            rows.push(Row {
                text: fitted(text.trim_end(), width),
                is_bar: form.is_full && at == marked,
            });
            if let Some(failure) = entry.failure.as_ref().filter(|_| has_room) {
                rows.push(Row::new(fitted(&format!("     {}", shown(failure, form)), width)));
            }
        }
        rows.push(Row::default());
        let of_entry = if form.is_full {
            [
                "Enter  boot it this time",
                "Right  more about it",
                "e  edit its command line",
            ]
        } else {
            [
                "N  boot entry N this time",
                "d N  more about it",
                "e N  edit its command line",
            ]
        };
        let count = match (view.entries.is_empty(), self.may_change) {
            (true, _) => 0,
            (false, true) => 3,
            (false, false) => 2,
        };
        let of_entry = of_entry.into_iter().take(count);
        let others = self
            .items(view)
            .into_iter()
            .map(|item| format!("{}  {}", item.key, item.label));
        rows.extend(packed(of_entry.map(str::to_owned).chain(others), width));
    }

    fn entry(&self, rows: &mut Vec<Row>, view: &View, at: usize, form: Form, width: usize) {
        let Some(entry) = view.entries.get(at) else { return };
        let mut facts = vec![format!("{}: {}", entry.name, entry.title)];
        facts.push(format!("source {}, kernel {}", entry.source, entry.kernel));
        facts.push(format!("cmdline {}", entry.cmdline));
        match (&entry.slot, &entry.condition) {
            (Some(_), Some(condition)) => facts.push(format!("slot {}: {condition}", condition.name)),
            (Some(slot), None) => facts.push(format!("slot {slot}: nothing is known of it")),
            (None, _) => {}
        }
        facts.extend(entry.failure.iter().map(|failure| format!("not booted: {failure}")));
        for fact in facts {
            rows.extend(wrapped(&shown(&fact, form), width, 3).into_iter().map(Row::new));
        }
        rows.push(Row::default());
        self.choices(rows, view, form);
    }

    /// The items as a list.
    fn choices(&self, rows: &mut Vec<Row>, view: &View, form: Form) {
        let items = self.items(view);
        let bar = self.bar.unwrap_or(0).min(items.len().saturating_sub(1));
        for (at, item) in items.iter().enumerate() {
            rows.push(Row {
                text: format!("  {}  {}", item.key, item.label),
                is_bar: form.is_full && at == bar,
            });
        }
    }

    fn lines(&self, rows: &mut Vec<Row>, form: Form) {
        let height = Self::height(form);
        let text = self.text(form);
        let (count, last) = (text.len(), self.top.saturating_add(height).min(text.len()));
        rows.extend(text.into_iter().skip(self.top).take(height).map(Row::new));
        if count == 0 {
            rows.push(Row::new("Nothing yet."));
        }
        if form.is_full {
            let first = self.top.saturating_add(1).min(last);
            rows.push(Row::new(format!(
                "Rows {first} to {last} of {count}    Up, Down, Space  move    q  back"
            )));
        }
    }
}

/// Why boots failed: in this start, and what was written down of those before it.
fn why(view: &View) -> Vec<String> {
    let now = view.entries.iter().filter_map(|entry| {
        let failure = entry.failure.as_ref()?;
        Some(format!("this start: entry {:?}: {failure}", entry.name))
    });
    now.chain(view.history.iter().cloned()).collect()
}

/// `2`, `d 2`, `e2` on the main page.
fn numbered(typed: &str, view: &View) -> Option<Act> {
    let digits = typed.trim_start_matches(['d', 'e', ' ']);
    let at = digits
        .parse::<usize>()
        .ok()?
        .checked_sub(1)
        .filter(|at| *at < view.entries.len())?;
    match typed.strip_suffix(digits)?.trim() {
        "" => Some(Act::Boot(at)),
        "d" => Some(Act::Details(at)),
        "e" => Some(Act::Edit(at)),
        _ => None,
    }
}

/// `slot A, untested, 2 tries left`
fn slot(entry: &EntryView) -> String {
    let Some(name) = &entry.slot else { return String::new() };
    let condition = match entry.condition.as_ref().map(|slot| (slot.condition, slot.tries)) {
        None => return format!("slot {name}"),
        Some((Condition::Good, _)) => "good".to_owned(),
        Some((Condition::Untested, 1)) => "untested, 1 try left".to_owned(),
        Some((Condition::Untested, tries)) => format!("untested, {tries} tries left"),
        Some((Condition::Bad(_), _)) => "bad".to_owned(),
    };
    format!("slot {name}, {condition}")
}

/// What happens by itself, and when.
fn waits(view: &View, now: Millis) -> String {
    let seconds = |until: Millis| until.saturating_sub(now).div_ceil(1000);
    match view.wait {
        Wait::Child => "Working.".to_owned(),
        Wait::Countdown(until) => format!("Booting in {} s.", seconds(until)),
        Wait::Choice(until) if view.entries.is_empty() => {
            format!("Without a key, the machine is reset in {} s.", seconds(until))
        }
        Wait::Choice(until) => format!("Without a key, Cato goes on in {} s, with * first.", seconds(until)),
    }
}
