//! The pages of the menu: what is shown, and what a key or a typed line does. Pure.
//!
//! Each page has one list of what can be done on it, [`Item`]s, for both kinds of terminal.

use super::fit::{Form, fitted, shown, typed, width, wrapped};
use super::keys::Key;
use super::line::Line;
use super::view::{EntryView, Told, View};
use super::{Command, Topic, Use};
use crate::state::Condition;
use crate::text::{cut, printable};
use config::Access;

mod look;

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
    Files,
    /// Files over the line.
    Line,
    Lend(Use),
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
    Line,
    PowerOff,
}

/// Command lines that are remembered while somebody has the menu.
const EDITS: usize = 8;

/// Which page is up, and where on it somebody is.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    page: Page,
    /// The marked entry of the main page; none until somebody moves the bar.
    entry: Option<usize>,
    /// The marked item of another page; none until somebody moves the bar.
    bar: Option<usize>,
    /// The first line of a text that is shown.
    top: usize,
    /// What is typed at a plain prompt.
    typed: Line,
    /// A command line that is changed.
    edited: Line,
    /// Those that were booted or left, for the next time; at most [`EDITS`].
    edits: Vec<String>,
    /// What is read on a [`Page::Text`]; none while it is awaited.
    text: Option<Vec<Told>>,
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
            entry: None,
            bar: None,
            top: 0,
            typed: Line::default(),
            edited: Line::default(),
            edits: Vec::new(),
            text: None,
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

    /// What was asked for, if that is still awaited.
    pub(crate) fn show(&mut self, text: Vec<Told>) {
        if self.awaits_text() {
            self.text = Some(text);
        }
    }

    /// Whether there is nothing yet of what was asked for.
    pub(crate) fn awaits_text(&self) -> bool {
        matches!(self.page, Page::Text(_)) && self.text.is_none()
    }

    /// One sentence on what became of something.
    pub(crate) fn say(&mut self, said: &str) {
        said.clone_into(&mut self.said);
    }

    fn turn(&mut self, page: Page) {
        self.page = page;
        self.bar = None;
        self.top = 0;
        self.text = None;
    }

    /// Whether whoever is there may do that: without it, nothing is changed for longer than a boot of what `boot.toml` has.
    fn may(&self, act: Act) -> bool {
        let changes = matches!(
            act,
            Act::Edit(_)
                | Act::Stays(_)
                | Act::Mark(..)
                | Act::Files
                | Act::Lend(Use::Receive | Use::Shell)
                | Act::PowerOff
                | Act::SurelyPowerOff
        );
        self.may_change || !changes
    }

    /// What can be done on the page, but for the entries of the main one.
    fn items(&self, view: &View) -> Vec<Item> {
        let mut items = self.all_items(view);
        items.retain(|item| self.may(item.act));
        items
    }

    fn all_items(&self, view: &View) -> Vec<Item> {
        match self.page {
            Page::Main => {
                let mut items = vec![
                    item('w', "why boots failed", Act::Look(Topic::Why)),
                    item('l', "log", Act::Look(Topic::Log)),
                    item('m', "machine", Act::Look(Topic::Machine)),
                    item('h', "how long it took", Act::Look(Topic::Timeline)),
                    item('f', "files on the disks", Act::Files),
                    item('y', "files over this line", Act::Line),
                ];
                if view.has_shell {
                    items.push(item('s', "shell", Act::Lend(Use::Shell)));
                }
                if !view.entries.is_empty() {
                    items.push(item('t', "try again", Act::Retry));
                }
                items.extend([
                    item('r', "reboot", Act::Reboot),
                    item('o', "power off", Act::PowerOff),
                    // Not the `q` of a text, which may be pressed once too often.
                    item('g', "let Cato go on", Act::Leave),
                ]);
                items
            }
            Page::Password => Vec::new(),
            Page::Line => {
                let what = "take a kernel, initrds, a device tree, or a boot.toml from you";
                vec![
                    item('1', "send the log to you", Act::Lend(Use::SendLog)),
                    item('2', what, Act::Lend(Use::Receive)),
                    item('0', "back", Act::Back),
                ]
            }
            Page::Entry(at) => {
                let known = view.entries.get(at).and_then(|entry| entry.condition.as_ref());
                let slot = known.map(|slot| &slot.name);
                let tries = match known.map(|slot| slot.condition) {
                    Some(Condition::Good) | None => "",
                    Some(_) => ", with all its tries",
                };
                [
                    Some(item('1', "boot it this time", Act::Boot(at))),
                    slot.map(|slot| {
                        item(
                            '2',
                            format!("boot it from now on: slot {slot} first{tries}"),
                            Act::Stays(at),
                        )
                    }),
                    Some(item(
                        '3',
                        "edit its command line, then boot it this time",
                        Act::Edit(at),
                    )),
                    slot.map(|slot| item('4', format!("mark slot {slot} as good"), Act::Mark(at, true))),
                    slot.map(|slot| item('5', format!("mark slot {slot} as bad"), Act::Mark(at, false))),
                    Some(item('6', "show what a boot would come to", Act::Plan(at))),
                    Some(item('0', "back", Act::Back)),
                ]
                .into_iter()
                .flatten()
                .collect()
            }
            Page::PowerOff => vec![
                item('y', "power off", Act::SurelyPowerOff),
                item('0', "back", Act::Back),
            ],
            Page::Edit(_) | Page::Text(_) => vec![item('0', "back", Act::Back)],
        }
    }

    /// The entry that is marked: the one that somebody moved to, else the next, unless that has just failed and another has not.
    fn marked(&self, view: &View) -> usize {
        let find = |is: fn(&EntryView) -> bool| view.entries.iter().position(is);
        let next = find(|entry| entry.is_next && entry.failure.is_none());
        let fresh = next.or_else(|| find(|entry| entry.failure.is_none()));
        let next = fresh.or_else(|| find(|entry| entry.is_next));
        let bar = self.entry.or(next).unwrap_or(0);
        bar.min(view.entries.len().saturating_sub(1))
    }

    fn act(&mut self, act: Act, view: &View) -> Option<Command> {
        let entry = |at: usize| view.entries.get(at);
        self.said.clear();
        match act {
            Act::Boot(at) | Act::Stays(at) => {
                let entry = entry(at)?.name.clone();
                self.turn(Page::Main);
                // When it comes back, what is next is marked.
                self.entry = None;
                return Some(Command::Boot {
                    entry,
                    cmdline: None,
                    stays: matches!(act, Act::Stays(_)),
                });
            }
            Act::Details(at) => {
                self.entry = Some(at);
                self.turn(Page::Entry(at));
            }
            Act::Edit(at) => {
                let cmdline = &entry(at)?.cmdline;
                let history = [cmdline].into_iter().chain(&self.edits).cloned().collect();
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
                self.text = Some(why(view));
            }
            Act::Look(topic) => {
                self.turn(Page::Text(topic));
                if topic == Topic::Log {
                    // What was said last explains why.
                    self.top = usize::MAX;
                }
                return Some(Command::Look(topic));
            }
            Act::Files => return Some(self.browse(String::new())),
            Act::Line => self.turn(Page::Line),
            Act::Lend(lent) => {
                self.turn(Page::Main);
                return Some(Command::Lend(lent));
            }
            Act::PowerOff => self.turn(Page::PowerOff),
            Act::SurelyPowerOff => return Some(Command::PowerOff),
            Act::Reboot => return Some(Command::Reboot),
            Act::Retry => return Some(Command::Retry),
            Act::Leave => return Some(Command::Leave),
            Act::Back => match (&self.page, self.entry) {
                (Page::Text(Topic::Plan), Some(at)) => self.turn(Page::Entry(at)),
                _ => self.turn(Page::Main),
            },
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
        let last = count.saturating_sub(1);
        let moved = match key {
            Key::Up => Some(bar.saturating_sub(1)),
            Key::Down => Some(bar.saturating_add(1).min(last)),
            Key::Home => Some(0),
            Key::End => Some(last),
            _ => None,
        };
        if moved.is_some() {
            let bar = if self.page == Page::Main {
                &mut self.entry
            } else {
                &mut self.bar
            };
            *bar = moved;
            return None;
        }
        match key {
            Key::Left | Key::Escape if self.page != Page::Main => return self.act(Act::Back, view),
            Key::Enter if self.page == Page::Main => return self.act(Act::Boot(bar), view),
            Key::Enter => return self.act(items.get(bar)?.act, view),
            Key::Right | Key::Char('d') if self.page == Page::Main && count > 0 => {
                return self.act(Act::Details(bar), view);
            }
            Key::Char('e') if self.page == Page::Main && count > 0 && self.may(Act::Edit(bar)) => {
                return self.act(Act::Edit(bar), view);
            }
            Key::Char(c @ '1'..='9') if self.page == Page::Main => {
                let at = usize::try_from(c.to_digit(10)?).ok()?.saturating_sub(1);
                if at < count {
                    self.entry = Some(at);
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
            Key::Enter => return self.boot_edited(at, view),
            // A lagging line makes an Escape of a cut arrow: what was typed comes back.
            Key::Escape | Key::Control('c' | 'g') => {
                let text = self.edited.text();
                let is_changed = view.entries.get(at).is_none_or(|entry| entry.cmdline != text);
                let command = self.act(Act::Back, view);
                if is_changed {
                    self.remember(text);
                    "Not booted; e and then Up has what was typed.".clone_into(&mut self.said);
                }
                return command;
            }
            key => self.edited.press(key),
        }
        None
    }

    fn remember(&mut self, cmdline: String) {
        self.edits.retain(|known| *known != cmdline);
        if self.edits.len() >= EDITS {
            self.edits.remove(0);
        }
        self.edits.push(cmdline);
    }

    fn boot_edited(&mut self, at: usize, view: &View) -> Option<Command> {
        let entry = view.entries.get(at)?.name.clone();
        let cmdline = self.edited.text().trim().to_owned();
        self.remember(cmdline.clone());
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

    /// The text, in rows. One that leads somewhere is one row.
    fn text(&self, form: Form) -> Vec<TextRow<'_>> {
        let (mut rows, mut links) = (Vec::new(), 0_usize);
        for line in self.text.iter().flatten() {
            let text = shown(&line.text, form);
            let Some(leads) = line.leads.as_deref() else {
                let pieces = wrapped(&text, width(form), 8);
                rows.extend(pieces.into_iter().map(|text| TextRow { text, leads: None }));
                continue;
            };
            links = links.saturating_add(1);
            let number = if form.is_full {
                String::new()
            } else {
                format!("{links:>3}")
            };
            let text = fitted(&format!("{number}  {text}"), width(form));
            let leads = Some(leads);
            rows.push(TextRow { text, leads });
        }
        rows
    }

    /// Where the rows lead to, with each one's place.
    fn links<'r>(rows: &'r [TextRow<'r>]) -> Vec<(usize, &'r str)> {
        let rows = rows.iter().enumerate();
        rows.filter_map(|(at, row)| Some((at, row.leads?))).collect()
    }

    fn press_text(&mut self, key: Key, view: &View, form: Form) -> Option<Command> {
        let height = Self::height(form);
        let rows = self.text(form);
        let links = Self::links(&rows);
        let last = rows.len().saturating_sub(height);
        let now = self.top.min(last);
        let bar = self.bar.unwrap_or(0).min(links.len().saturating_sub(1));
        let row = |bar: usize| links.get(bar).map(|(row, _)| *row);
        let leads = |bar: usize| links.get(bar).map(|(_, leads)| (*leads).to_owned());
        let is_in_view = |row: usize, top: usize| (top..top.saturating_add(height)).contains(&row);
        let (top, bar) = match key {
            Key::Left if self.has_parent() => {
                let above = leads(0)?;
                return Some(self.browse(above));
            }
            Key::Escape | Key::Char('q' | '0') | Key::Left => return self.act(Act::Back, view),
            Key::Enter | Key::Right if row(bar).is_some_and(|row| is_in_view(row, now)) => {
                let goes = leads(bar)?;
                return Some(self.browse(goes));
            }
            // The bar goes first, where there is one to go to.
            Key::Up | Key::Down => {
                let (next, top) = if key == Key::Down {
                    (bar.checked_add(1), now.saturating_add(1).min(last))
                } else {
                    (bar.checked_sub(1), now.saturating_sub(1))
                };
                let next = next.and_then(|next| Some((next, row(next)?)));
                match next {
                    Some((next, row)) if is_in_view(row, now) => (now, Some(next)),
                    Some((next, row)) if is_in_view(row, top) => (top, Some(next)),
                    _ => (top, None),
                }
            }
            Key::Home => (0, Some(0)),
            Key::End => (last, links.len().checked_sub(1)),
            // Enter goes on, never back, where one more would boot something.
            Key::PageUp | Key::PageDown | Key::Char(' ') | Key::Enter => {
                let top = if key == Key::PageUp {
                    now.saturating_sub(height)
                } else {
                    now.saturating_add(height).min(last)
                };
                (top, links.iter().position(|(row, _)| is_in_view(*row, top)))
            }
            _ => return None,
        };
        (self.top, self.bar) = (top, bar.or(self.bar));
        None
    }

    /// Whether the first row leads to the folder above.
    fn has_parent(&self) -> bool {
        self.text.iter().flatten().next().is_some_and(|row| row.text == "..")
    }

    fn browse(&mut self, goes: String) -> Command {
        self.turn(Page::Text(Topic::Files));
        Command::Browse(goes)
    }

    /// A key on a plain terminal, where lines are typed.
    pub(crate) fn press_plain(&mut self, key: Key, view: &View, form: Form) -> Option<Command> {
        match self.page {
            Page::Password => return self.press_password(key),
            Page::Edit(at) => return self.press_edit(at, key, view),
            _ => {}
        }
        match key {
            Key::Enter => {
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
            let number = typed.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let goes = number.and_then(|number| {
                let rows = self.text(form);
                let (_, leads) = *Self::links(&rows).get(number)?;
                Some(leads.to_owned())
            });
            if let Some(goes) = goes {
                return Some(self.browse(goes));
            }
            match typed {
                "" if !self.is_at_end(form) => self.top = self.top.saturating_add(Self::height(form)),
                "b" => self.top = self.first(form).saturating_sub(Self::height(form)),
                "" | "0" | "q" => return self.act(Act::Back, view),
                _ => self.is_none_of_these(typed),
            }
            return None;
        }
        if let (Page::Main, Some(act)) = (&self.page, numbered(typed, view))
            && self.may(act)
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
                self.is_none_of_these(typed);
                None
            }
        }
    }

    fn is_none_of_these(&mut self, typed: &str) {
        let typed = printable(&cut(typed, 20));
        self.said = format!("\"{typed}\" is none of these.");
    }

    /// What stands on the line of a plain terminal.
    pub(crate) fn typed(&self) -> String {
        self.typed.text()
    }

    /// The prompt of a plain terminal, what stands behind it, and the cursor's column in that.
    pub(crate) fn prompt(&self, form: Form) -> (String, String, usize) {
        if self.page == Page::Password {
            return ("Password: ".to_owned(), String::new(), 0);
        }
        let (prompt, line) = match self.page {
            Page::Edit(_) => ("cmdline: ".to_owned(), &self.edited),
            Page::Text(_) => {
                let has_links = self.text.iter().flatten().any(|row| row.leads.is_some());
                let open = has_links.then_some("N  open N");
                let before = (self.first(form) > 0).then_some("b  page before");
                let ends: &[&str] = if self.is_at_end(form) {
                    &["Enter  back"]
                } else {
                    &["Enter  more", "0  back"]
                };
                let can: Vec<&str> = open.into_iter().chain(before).chain(ends.iter().copied()).collect();
                (format!("-- {} -- ", can.join("    ")), &self.typed)
            }
            _ => ("cato> ".to_owned(), &self.typed),
        };
        let (text, at) = line.window(form.columns.saturating_sub(prompt.len()));
        (prompt, typed(&text, form), at)
    }

    /// The first row of a text that is shown.
    fn first(&self, form: Form) -> usize {
        // The terminal may have become larger.
        self.top.min(self.text(form).len().saturating_sub(Self::height(form)))
    }

    fn is_at_end(&self, form: Form) -> bool {
        self.top.saturating_add(Self::height(form)) >= self.text(form).len()
    }

    /// Whether that key would do something, and not only stand on a line or move a mark: then it has to have been pressed.
    pub(crate) fn acts(&self, key: Key, form: Form) -> bool {
        match self.page {
            Page::Password => false,
            Page::Edit(_) => key == Key::Enter,
            _ => form.is_full && matches!(key, Key::Enter | Key::Char(_)),
        }
    }

    /// What is pasted is for a line. On a page without one, none of it was meant.
    pub(crate) fn paste(&mut self, key: Key, form: Form) {
        match self.page {
            Page::Edit(_) => {
                self.edited.paste(key);
                if key == Key::Enter {
                    "Press Enter, and nothing with it, to boot it.".clone_into(&mut self.said);
                }
            }
            Page::Password => self.typed.paste(key),
            _ if !form.is_full => self.typed.paste(key),
            _ => {}
        }
    }
}

/// A row of a text, clean.
struct TextRow<'t> {
    text: String,
    leads: Option<&'t str>,
}

/// Why boots failed: in this start, and what was written down of those before it.
fn why(view: &View) -> Vec<Told> {
    let now = view.entries.iter().filter_map(|entry| {
        let failure = entry.failure.as_ref()?;
        Some(format!("this start: entry {:?}: {failure}", entry.name))
    });
    let has_nothing = "this start: there is no valid boot.toml; the log (l) says what is wrong with it".to_owned();
    let nothing = view.entries.is_empty().then_some(has_nothing);
    let now = nothing.into_iter().chain(now);
    let mut all: Vec<Told> = now.chain(view.history.iter().cloned()).map(Told::from).collect();
    if all.is_empty() {
        all.push("No boot has failed, as far as is written down.".to_owned().into());
    }
    all
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
