//! What the pages look like.

use super::{Act, Page, Screen};
use crate::menu::Millis;
use crate::menu::fit::{Form, fitted, packed, shown, typed, width, wrapped};
use crate::menu::paint::{Frame, Row};
use crate::menu::view::{EntryView, View, Wait};
use crate::state::{Because, Condition};

impl Screen {
    /// What is on the screen now.
    pub(crate) fn frame(&self, view: &View, now: Millis, form: Form) -> Frame {
        let width = width(form);
        let mut foot = Vec::new();
        if !self.said.is_empty() {
            foot.push(Row::new(shown(&self.said, form)));
        }
        if form.is_full {
            foot.push(Row::new(self.wait(view, now)));
        }
        // On a small screen, the foot is what is always there.
        let room = if form.is_full {
            form.rows.saturating_sub(foot.len())
        } else {
            usize::MAX
        };
        let mut rows = Vec::new();
        let mut cursor = None;
        let says = |text: &str, most: usize| wrapped(text, width, most).into_iter().map(Row::new);
        match self.page {
            Page::Password => {
                rows.extend(says("This console is for whoever knows the password.", 2));
                if form.is_full {
                    cursor = Some((rows.len(), 10));
                    rows.push(Row::new("Password: "));
                }
            }
            Page::Main => self.main(&mut rows, view, form, room),
            Page::Entry(at) => {
                let facts = facts(view, at).into_iter();
                rows.extend(facts.flat_map(|fact| says(&shown(&fact, form), 8)));
                self.choices(&mut rows, view, form, room);
            }
            Page::Edit(at) => {
                let name = view.entries.get(at).map_or("", |entry| entry.name.as_str());
                let name = shown(name, form);
                let head = format!("Command line of entry \"{name}\" for one boot    Enter  boot it    Esc  back");
                rows.extend(says(&head, 3));
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
                rows.extend(says(how, 3));
                self.choices(&mut rows, view, form, room);
            }
            Page::PowerOff => {
                let what = "Power off? Only a person at the machine can switch it on again.";
                rows.extend(says(what, 3));
                self.choices(&mut rows, view, form, room);
            }
        }
        rows.truncate(room);
        rows.extend(foot);
        for row in &mut rows {
            row.text = fitted(&row.text, width);
        }
        Frame { rows, cursor }
    }

    /// What a plain terminal is told once, as it would be out of date soon.
    pub(crate) fn waits(&self, view: &View, now: Millis) -> Option<String> {
        matches!(self.page, Page::Main | Page::Password).then(|| self.wait(view, now))
    }

    /// What happens by itself, and when.
    fn wait(&self, view: &View, now: Millis) -> String {
        let seconds = |until: Millis| until.saturating_sub(now).div_ceil(1000);
        // What moves the timer.
        let key = if self.is_admitted() { "a key" } else { "the password" };
        match view.wait {
            // Somebody has the menu where they choose.
            Wait::Child | Wait::Countdown(_) => String::new(),
            Wait::Choice(until) if view.entries.is_empty() => {
                format!("Without {key}, the machine is reset in {} s.", seconds(until))
            }
            Wait::Choice(until) => {
                let first = if self.page == Page::Main {
                    ", and boots * first"
                } else {
                    ""
                };
                format!("Without {key}, Cato goes on in {} s{first}.", seconds(until))
            }
        }
    }

    fn main(&self, rows: &mut Vec<Row>, view: &View, form: Form, most: usize) {
        let width = width(form);
        // On a small screen, those around the marked one, and what can be done with them as far as there is room.
        let room = most.saturating_sub(10).max(3);
        let reasons = reasons(view, form, room);
        let below = match (&reasons, view.has_failed) {
            (_, false) => "",
            (Some(_), true) => "; below is why",
            (None, true) => "; w says why",
        };
        let why = shown(&view.why, form);
        let title = format!("Cato {}. {why}{below}.", env!("CARGO_PKG_VERSION"));
        rows.extend(wrapped(&title, width, 3).into_iter().map(Row::new));
        rows.push(Row::default());
        let marked = self.marked(view);
        let room = room.min(most.saturating_sub(rows.len()));
        let first = around(marked, room, view.entries.len());
        let column = |of: fn(&EntryView) -> String| {
            let lengths = view.entries.iter().map(|entry| shown(&of(entry), form).chars().count());
            lengths.max().unwrap_or(0)
        };
        // The title has what the others leave.
        let names = column(|entry| entry.name.clone()).min(width / 4);
        let left = width
            .saturating_sub(9)
            .saturating_sub(names)
            .saturating_sub(column(slot));
        let longest = column(|entry| entry.title.clone());
        let titles = longest.min(left);
        for (at, entry) in view.entries.iter().enumerate().skip(first).take(room) {
            let sign = if entry.is_next { '*' } else { ' ' };
            let name = fitted(&shown(&entry.name, form), names);
            let title = match titles {
                // So little of it says nothing.
                ..4 if titles < longest => String::new(),
                _ => format!("{:<titles$}  ", fitted(&shown(&entry.title, form), titles)),
            };
            let number = at.saturating_add(1);
            let text = format!("{sign}{number:>2}  {name:<names$}  {title}{}", slot(entry));
            rows.push(Row {
                text: text.trim_end().to_owned(),
                is_bar: form.is_full && at == marked,
            });
            let reason = reasons.iter().flatten().filter(|(of, _)| *of == at);
            rows.extend(reason.map(|(_, row)| Row::new(row.clone())));
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

    /// The items as a list below what stands there. Of `most` rows, the items have what they need, and the rest is cut.
    fn choices(&self, rows: &mut Vec<Row>, view: &View, form: Form, most: usize) {
        let items = self.items(view);
        let bar = self.bar.unwrap_or(0).min(items.len().saturating_sub(1));
        rows.push(Row::default());
        rows.truncate(most.saturating_sub(items.len()).max(1));
        let room = most.saturating_sub(rows.len());
        let first = around(bar, room, items.len());
        for (at, item) in items.iter().enumerate().skip(first).take(room) {
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
        let top = self.first(form);
        let (count, last) = (text.len(), top.saturating_add(height).min(text.len()));
        for (at, row) in text.into_iter().enumerate().skip(top).take(height) {
            let is_bar = form.is_full && marked == Some(at);
            rows.push(Row { text: row.text, is_bar });
        }
        if form.is_full {
            let first = top.saturating_add(1).min(last);
            let is_marked = marked.is_some_and(|row| (top..last).contains(&row));
            let enter = if is_marked { "    Enter  open" } else { "" };
            rows.push(Row::new(format!(
                "Rows {first} to {last} of {count}    q  back{enter}    Up, Down, Space  move"
            )));
        }
    }
}

/// The first of `count` rows, of which there is room for `room` around that one.
fn around(at: usize, room: usize, count: usize) -> usize {
    at.saturating_sub(room / 2).min(count.saturating_sub(room))
}

/// Why each entry failed, in as many rows as go between the entries in `room`; none where one each is too many.
fn reasons(view: &View, form: Form, room: usize) -> Option<Vec<(usize, String)>> {
    let of = |most| {
        let entries = view.entries.iter().enumerate();
        let rows = entries.flat_map(move |(at, entry)| {
            let text = entry.failure.as_ref().map(|failure| shown(failure, form));
            let rows = text
                .into_iter()
                .flat_map(move |text| wrapped(&text, width(form).saturating_sub(5), most));
            rows.map(move |row| (at, format!("     {row}")))
        });
        rows.collect::<Vec<_>>()
    };
    let room = room.saturating_sub(view.entries.len());
    [3, 2, 1].into_iter().map(of).find(|rows| rows.len() <= room)
}

/// What is known of an entry.
fn facts(view: &View, at: usize) -> Vec<String> {
    let Some(entry) = view.entries.get(at) else {
        return Vec::new();
    };
    let mut facts = vec![format!("{}: {}", entry.name, entry.title)];
    facts.push(format!("source {}, kernel {}", entry.source, entry.kernel));
    facts.push(format!("cmdline {}", entry.cmdline));
    match (&entry.slot, &entry.condition) {
        (Some(_), Some(condition)) => facts.push(format!("slot {}: {condition}", condition.name)),
        (Some(slot), None) => facts.push(format!("slot {slot}: nothing is known of it")),
        (None, _) => {}
    }
    facts.extend(entry.failure.iter().map(|failure| format!("not booted: {failure}")));
    facts
}

/// `slot A, untested, 2 tries left`
fn slot(entry: &EntryView) -> String {
    let Some(name) = &entry.slot else { return String::new() };
    let condition = match entry.condition.as_ref().map(|slot| (slot.condition, slot.tries)) {
        None => return format!("slot {name}"),
        Some((Condition::Good, _)) => "good".to_owned(),
        Some((Condition::Untested, 1)) => "untested, 1 try left".to_owned(),
        Some((Condition::Untested, tries)) => format!("untested, {tries} tries left"),
        Some((Condition::Bad(why), _)) => format!("bad: {}", in_short(why)),
    };
    format!("slot {name}, {condition}")
}

/// For a row that has more on it; the whole of it is on the entry's page.
fn in_short(why: Because) -> &'static str {
    match why {
        Because::Marked => "marked",
        Because::Unproven => "never good",
        Because::Strikes => "failed too often",
        Because::Empty => "empty",
    }
}
