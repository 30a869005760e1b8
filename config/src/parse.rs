//! Text to [`Config`].
//!
//! Given the text of a `boot.toml`; responsible for finding every problem in it in one go: all that is not TOML, then
//! all that is TOML but not a valid configuration, in what could be read.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::quoted;
use crate::keys::{MAX_CANDIDATES, TableKind};
use crate::lines::{BYTE_ORDER_MARK, Lines};
use crate::lookalike::named;
use crate::problems::{Advice, Problems};
use crate::reader::{BOOLEAN, INTEGER, STRING, Table, in_file_order};
use crate::survey::Survey;
use crate::value::{
    self, Countdown, Fault, MenuTimeout, PasswordHash, Retry, Stop, Trial, Tries, TtyName, Version, WatchdogTimeout,
};
use crate::word::{AccessName, TerminalName};
use crate::{
    Access, Config, Console, Diagnostic, DiagnosticKind, Entry, MAX_SLOTS, Purgatory, ReasonStore, SlotName, Slots,
    Unbind,
};
use crate::{entry, paste, render, syntax};

/// The longest text that is looked at.
pub const MAX_BYTES: usize = 256 * 1024;

/// `[slots] tries` where the file has none.
pub const DEFAULT_TRIES: u8 = 3;
/// `[watchdog] timeout` where the file has none, and has slots: who wants a new generation rolled back wants that of one that
/// hangs, too.
const WATCHDOG: Duration = Duration::from_mins(2);
/// The most consoles: as many as Cato has room for.
const MAX_CONSOLES: usize = 8;
/// The most devices to unbind: each may take its time.
const MAX_UNBIND: usize = 16;

/// What a `boot.toml` says, and what is wrong with it.
#[derive(Debug)]
pub struct Reading<'t> {
    /// What it says; none where there is an error.
    pub config: Option<Config>,
    /// Every problem, in the order of the text: errors, and warnings, with which the file can be booted from.
    pub diagnostics: Vec<Diagnostic>,
    /// The text that the places count in.
    pub text: Cow<'t, str>,
}

impl Reading<'_> {
    /// Of a file that is not looked into.
    fn refused(kind: DiagnosticKind, message: String, help: Option<&str>) -> Self {
        let diagnostic = Diagnostic {
            kind,
            message,
            span: 0..0,
            label: String::new(),
            help: help.map(str::to_owned),
        };
        Self {
            config: None,
            diagnostics: vec![diagnostic],
            text: Cow::Borrowed(""),
        }
    }

    /// Its problems as [`render`](render()) draws them.
    pub fn render(&self, file_name: &str) -> String {
        render(file_name, &self.text, &self.diagnostics)
    }
}

/// Reads a `boot.toml`, whatever the bytes: in bounded time and memory, without a panic.
///
/// Where they are not UTF-8, the places count in [`String::from_utf8_lossy`] of `bytes`; the messages name the offsets
/// in `bytes`.
pub fn read(bytes: &[u8]) -> Reading<'_> {
    if bytes.len() > MAX_BYTES {
        let message = format!("the file is longer than {} KiB", MAX_BYTES / 1024);
        return Reading::refused(DiagnosticKind::Size, message, None);
    }
    if is_utf_16(bytes) {
        let message = "every other byte is a NUL, as in UTF-16".to_owned();
        return Reading::refused(DiagnosticKind::Encoding, message, Some("save the file as UTF-8"));
    }
    let text = String::from_utf8_lossy(bytes);
    let lines = Lines::new(&text);
    let mut problems = Problems::new(&lines);
    encoding(bytes, &mut problems);
    let config = document(&text, &mut problems);
    let (config, diagnostics) = problems.finish(config);
    Reading {
        config,
        diagnostics,
        text,
    }
}

/// Reads a `boot.toml` for somebody who wants no warnings.
///
/// # Errors
/// Every problem of the text, in the order of the text.
pub fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    let Reading {
        config, diagnostics, ..
    } = read(text.as_bytes());
    config.ok_or(diagnostics)
}

/// Whether every other of the first bytes is a NUL: ASCII in UTF-16, without a byte order mark.
fn is_utf_16(bytes: &[u8]) -> bool {
    const LOOKED_AT: usize = 64;
    let (pairs, _) = bytes.get(..LOOKED_AT).unwrap_or(bytes).as_chunks();
    !pairs.is_empty() && pairs.iter().all(|[a, b]| (*a == 0) != (*b == 0))
}

/// What is not UTF-8, with its place in the text with stand-ins.
fn encoding(bytes: &[u8], problems: &mut Problems<'_>) {
    let (mut offset, mut in_text) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        offset = offset.saturating_add(chunk.valid().len());
        in_text = in_text.saturating_add(chunk.valid().len());
        let Some(first) = chunk.invalid().first() else {
            continue;
        };
        if problems.is_past(in_text) {
            break;
        }
        let end = in_text.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8());
        problems.syntax(Diagnostic {
            kind: DiagnosticKind::Encoding,
            message: format!("byte 0x{first:02x} at offset {offset} is not UTF-8"),
            span: in_text..end,
            label: "can't be read".to_owned(),
            help: Some("save the file as UTF-8".to_owned()),
        });
        offset = offset.saturating_add(chunk.invalid().len());
        in_text = end;
    }
}

fn document(text: &str, problems: &mut Problems<'_>) -> Option<Config> {
    let text = &*syntax::without_marks(text, problems);
    let survey = Survey::new(text);
    let sound = syntax::without_stray_keys(text, &survey, problems);
    problems.stop_at(survey.readable);
    let mut config = None;
    syntax::for_each_piece(&sound, |piece| {
        piece.report(&survey, problems);
        config = root(text, piece.document.get_ref(), problems);
        paste::check(piece.text, piece.document.get_ref(), problems);
    });
    config
}

/// Where to say that something is missing from the file as a whole: at its first line that says anything.
fn top(text: &str) -> Range<usize> {
    let mut at = if text.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len_utf8()
    } else {
        0
    };
    let start = at;
    for line in text.get(at..).unwrap_or_default().split_inclusive('\n') {
        let says = line.trim_start();
        if !says.is_empty() && !says.starts_with('#') {
            let first = at.saturating_add(line.len().saturating_sub(says.len()));
            return first..first;
        }
        at = at.saturating_add(line.len());
    }
    start..start
}

fn root(text: &str, document: &DeTable<'_>, problems: &mut Problems<'_>) -> Option<Config> {
    let table = Table::new(document, top(text), TableKind::Root, "the file");
    table.refuse_unknown(problems);

    let version: Option<Version> = table
        .required("version", "version = 1", problems)
        .and_then(|v| problems.read("version", INTEGER, v));
    let console = match table.get("console") {
        Some(value) => console(value, problems),
        None => Some(Console::default()),
    };
    let purgatory = match table.get("purgatory") {
        Some(value) => purgatory(value, problems),
        None => Some(Purgatory {
            console: true,
            reason: None,
        }),
    };
    let slots = match table.get("slots") {
        Some(value) => slots(value, problems),
        None => Some(Slots {
            tries: DEFAULT_TRIES,
            trial: None,
        }),
    };
    let watchdog = match table.get("watchdog") {
        Some(value) => watchdog(value, problems),
        None => Some(WatchdogTimeout::Usual),
    };
    let unbind = match table.get("quiesce") {
        Some(value) => quiesce(value, problems),
        None => Some(Vec::new()),
    };
    let defined = entries(&table, problems);
    let order = table
        .required(
            "order",
            "order = [\"NAME\"], with the entries in the order in which to try them",
            problems,
        )
        .and_then(|v| order(v, &defined, problems));

    version?;
    let mut config = Config {
        order: order?,
        console: console?,
        purgatory: purgatory?,
        slots: slots?,
        watchdog: None,
        unbind: unbind?,
        entries: defined.into_iter().map(|(_, entry)| entry).collect::<Option<_>>()?,
    };
    forgotten(document, &config, problems);
    let usual = (!config.slot_names().is_empty()).then_some(WATCHDOG);
    config.watchdog = match watchdog? {
        WatchdogTimeout::Usual => usual,
        WatchdogTimeout::Off => None,
        WatchdogTimeout::After(timeout) => Some(timeout),
    };
    Some(config)
}

/// A slot that only a person would ever boot is most likely one that `order` lacks.
fn forgotten(document: &DeTable<'_>, config: &Config, problems: &mut Problems<'_>) {
    let in_order = config.order.iter().filter_map(|name| config.entry(name)?.slot.as_ref());
    let ordered: BTreeSet<&SlotName> = in_order.collect();
    for entry in &config.entries {
        let slot = entry.slot.as_ref().filter(|slot| !ordered.contains(slot));
        let value = document
            .get("entry")
            .and_then(|entries| entries.get_ref().get(&*entry.name)?.get_ref().get("slot"));
        if let Some((slot, value)) = slot.zip(value) {
            problems.push(Diagnostic {
                kind: DiagnosticKind::Doubtful,
                message: format!("slot {slot} is never booted by itself"),
                span: value.span(),
                label: "no entry of this slot is in `order`".to_owned(),
                help: Some("add this entry to `order`, or remove its `slot`".to_owned()),
            });
        }
    }
}

fn console(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Console> {
    let table = problems.table("console", value)?;
    let table = Table::new(table, value.span(), TableKind::Console, "`[console]`");
    table.refuse_unknown(problems);
    let countdown = table.read::<Option<Countdown>>("countdown", INTEGER, problems);
    let retry = table.read::<Option<Retry>>("retry", INTEGER, problems);
    let devices = some_of("devices", MAX_CONSOLES, &table, problems);
    let devices = devices.and_then(|devices| once_each(&table, devices, problems));
    let stop = table.read::<Option<Stop>>("stop", STRING, problems);
    let menu_timeout = table.read::<Option<MenuTimeout>>("menu_timeout", INTEGER, problems);
    let terminal = table.read::<Option<TerminalName>>("terminal", STRING, problems);
    let word = table.read::<Option<AccessName>>("access", STRING, problems);
    let hash = table.read::<Option<PasswordHash>>("password", STRING, problems);
    let usual = Console::default();
    let access = access(&table, word?, hash?, problems)?;
    Some(Console {
        countdown: countdown?.map_or(usual.countdown, |countdown| countdown.0),
        retry: retry?.map_or(usual.retry, |retry| retry.0),
        devices: devices?.into_iter().map(|TtyName(name)| name).collect(),
        stop: stop?.map_or(usual.stop, |stop| stop.0),
        menu_timeout: menu_timeout?.map_or(usual.menu_timeout, |timeout| timeout.0),
        terminal: terminal?.unwrap_or_default().0,
        access,
    })
}

/// The access, with the password where it needs one.
fn access(
    table: &Table<'_, '_>,
    word: Option<AccessName>,
    hash: Option<PasswordHash>,
    problems: &mut Problems<'_>,
) -> Option<Access> {
    let fault = match (word.unwrap_or(AccessName::Open), hash) {
        (AccessName::Password, Some(hash)) => return Some(Access::Password(hash.0)),
        (AccessName::Open, None) => return Some(Access::Open),
        (AccessName::Menu, None) => return Some(Access::Menu),
        (AccessName::Locked, None) => return Some(Access::Locked),
        (AccessName::Password, None) => {
            Fault::new("`access` needs a `password`", "there is none").help("`cato password` makes one")
        }
        (_, Some(_)) => Fault::new("`password` is of no use", "nobody is asked for it")
            .help("add access = \"password\", or remove it"),
    };
    let value = table.get("password").or_else(|| table.get("access"))?;
    problems.bad(value.span(), fault);
    None
}

fn purgatory(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Purgatory> {
    let table = problems.table("purgatory", value)?;
    let table = Table::new(table, value.span(), TableKind::Purgatory, "`[purgatory]`");
    table.refuse_unknown(problems);
    let console = table.read::<Option<bool>>("console", BOOLEAN, problems);
    let reason = table.read::<Option<ReasonStore>>("reason", STRING, problems);
    Some(Purgatory {
        console: console?.unwrap_or(true),
        reason: reason?,
    })
}

fn slots(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Slots> {
    let table = problems.table("slots", value)?;
    let table = Table::new(table, value.span(), TableKind::Slots, "`[slots]`");
    table.refuse_unknown(problems);
    let tries = table.read::<Option<Tries>>("tries", INTEGER, problems);
    let trial = table.read::<Option<Trial>>("trial", "a string such as \"10min\"", problems);
    Some(Slots {
        tries: tries?.map_or(DEFAULT_TRIES, |tries| tries.0),
        trial: trial?.map(|trial| trial.0),
    })
}

fn watchdog(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<WatchdogTimeout> {
    let table = problems.table("watchdog", value)?;
    let table = Table::new(table, value.span(), TableKind::Watchdog, "`[watchdog]`");
    table.refuse_unknown(problems);
    let timeout = table.read::<Option<WatchdogTimeout>>("timeout", INTEGER, problems)?;
    Some(timeout.unwrap_or(WatchdogTimeout::After(WATCHDOG)))
}

fn quiesce(value: &Spanned<DeValue<'_>>, problems: &mut Problems<'_>) -> Option<Vec<Unbind>> {
    let table = problems.table("quiesce", value)?;
    let table = Table::new(table, value.span(), TableKind::Quiesce, "`[quiesce]`");
    table.refuse_unknown(problems);
    some_of("unbind", MAX_UNBIND, &table, problems)
}

/// One that is listed twice would get each line twice, and half of the keys.
fn once_each(table: &Table<'_, '_>, devices: Vec<TtyName>, problems: &mut Problems<'_>) -> Option<Vec<TtyName>> {
    let mut seen = BTreeSet::new();
    let twice = devices.iter().find(|TtyName(name)| !seen.insert(name));
    if let (Some(TtyName(name)), Some(value)) = (twice, table.get("devices")) {
        let fault = Fault::new(format!("terminal {} is listed twice", quoted(name)), "once is enough");
        problems.bad(value.span(), fault);
        return None;
    }
    Some(devices)
}

/// An array of at most so many strings, which may be left out.
fn some_of<T: DeserializeOwned>(
    key: &str,
    most: usize,
    table: &Table<'_, '_>,
    problems: &mut Problems<'_>,
) -> Option<Vec<T>> {
    let Some(value) = table.get(key) else {
        return Some(Vec::new());
    };
    let items = problems.array(key, "an array of strings", value)?;
    if items.len() > most {
        let fault = Fault::new(
            format!("`{key}` is too long"),
            format!("expected at most {most} devices"),
        );
        problems.bad(value.span(), fault);
        return None;
    }
    let all: Vec<Option<T>> = items
        .iter()
        .map(|item| problems.read(key, "an array of strings", item))
        .collect();
    all.into_iter().collect()
}

/// Every entry by name in file order, those with a problem as `None`: they count as defined.
fn entries<'d>(root: &Table<'d, '_>, problems: &mut Problems<'_>) -> Vec<(&'d str, Option<Entry>)> {
    let Some(value) = root.required("entry", "[entry.NAME] with `source` and `kernel`", problems) else {
        return Vec::new();
    };
    let Some(table) = problems.table("entry", value) else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    let mut slots: BTreeSet<SlotName> = BTreeSet::new();
    for (name, value) in in_file_order(table) {
        let text: &str = name.get_ref();
        if problems.is_past(name.span().start) {
            entries.push((text, None));
            continue;
        }
        let valid = problems.check(name.span(), value::entry_name(text)).is_some();
        let entry = entry::read(text, value, problems).filter(|_| valid);
        if let Some(slot) = entry.as_ref().and_then(|entry| entry.slot.as_ref())
            && slots.insert(slot.clone())
            && slots.len() > MAX_SLOTS
        {
            let at = value.get_ref().get("slot").map_or(value.span(), Spanned::span);
            let fault = Fault::new(format!("more than {MAX_SLOTS} slots"), "one too many");
            problems.bad(
                at,
                fault.help("the state has room for no more; entries of one generation share a slot"),
            );
        }
        entries.push((text, entry));
    }
    if entries.is_empty() {
        problems.push(Diagnostic {
            kind: DiagnosticKind::MissingKey,
            message: "the file defines no entry".to_owned(),
            span: value.span(),
            label: "empty".to_owned(),
            help: Some("add [entry.NAME] with `source` and `kernel`".to_owned()),
        });
    }
    entries
}

fn order(
    value: &Spanned<DeValue<'_>>,
    defined: &[(&str, Option<Entry>)],
    problems: &mut Problems<'_>,
) -> Option<Vec<String>> {
    let items = problems.array("order", "an array of entry names", value)?;
    if items.is_empty() {
        problems.bad(
            value.span(),
            Fault::new("`order` is empty", "expected at least one entry"),
        );
        return None;
    }
    let names: BTreeSet<&str> = defined.iter().map(|(name, _)| *name).collect();
    let candidates: Rc<[String]> = names
        .iter()
        .take(MAX_CANDIDATES)
        .map(|name| (*name).to_owned())
        .collect();
    let mut seen = BTreeSet::new();
    let mut order = Some(Vec::new());
    for item in items {
        let span = item.span();
        if problems.is_past(span.start) {
            return None;
        }
        let name: Option<String> = problems.read("order", "an array of entry names", item);
        let name = name.filter(|name| {
            if !names.contains(name.as_str()) {
                let odd = name.chars().find(|c| !c.is_ascii());
                let missing = Diagnostic {
                    kind: DiagnosticKind::MissingKey,
                    message: format!("entry {} does not exist", quoted(name)),
                    span: span.clone(),
                    label: odd.map_or_else(|| "not defined".to_owned(), |c| format!("contains {}", named(c))),
                    help: None,
                };
                let advice = Advice::Entry {
                    name: name.chars().take(80).collect(),
                    defined: Rc::clone(&candidates),
                };
                problems.push_with(missing, Some(advice));
                return false;
            }
            if !seen.insert(name.clone()) {
                let fault = Fault::new(format!("entry {} is listed twice", quoted(name)), "listed before");
                problems.bad(span.clone(), fault.help("an entry may appear only once in `order`"));
                return false;
            }
            true
        });
        order = order.zip(name).map(|(mut order, name)| {
            order.push(name);
            order
        });
    }
    order
}
