//! What the pages look like.

use super::{Act, Page, Screen};
use crate::menu::Millis;
use crate::menu::fit::{Form, fitted, packed, shown, typed, width, wrapped};
use crate::menu::paint::{Frame, Row};
use crate::menu::view::{EntryView, View, Wait};
use crate::state::Condition;

impl Screen {
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
            Page::Line => {
                let how =
                    "Files over this line, with YMODEM: `sb` and `rb` of lrzsz, or what your terminal program has.";
                rows.extend(wrapped(how, width, 3).into_iter().map(Row::new));
                self.choices(&mut rows, view, form);
            }
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
        let count = if self.may(Act::Edit(0)) { 3 } else { 2 };
        let of_entry = of_entry.into_iter().take(count).filter(|_| !view.entries.is_empty());
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
        let marked = Self::links(&text).get(self.bar.unwrap_or(0)).map(|(row, _)| *row);
        let (count, last) = (text.len(), self.top.saturating_add(height).min(text.len()));
        for (at, row) in text.into_iter().enumerate().skip(self.top).take(height) {
            let is_bar = form.is_full && marked == Some(at);
            rows.push(Row { text: row.text, is_bar });
        }
        if count == 0 {
            rows.push(Row::new("Nothing yet."));
        }
        if form.is_full {
            let first = self.top.saturating_add(1).min(last);
            let is_marked = marked.is_some_and(|row| (self.top..last).contains(&row));
            let enter = if is_marked { "    Enter  open" } else { "" };
            rows.push(Row::new(format!(
                "Rows {first} to {last} of {count}    Up, Down, Space  move{enter}    q  back"
            )));
        }
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
