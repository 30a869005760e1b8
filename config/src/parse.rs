//! Text to [`Config`].
//!
//! Given the text of a `boot.toml`; responsible for finding every problem in it in one go: all that is not TOML, then
//! all that is TOML but not a valid configuration, in what could be read.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{BYTE_ORDER_MARK, quoted};
use crate::entry;
use crate::keys::{Place, nearest};
use crate::reader::{BOOLEAN, INTEGER, Problems, STRING, Table, in_file_order};
use crate::syntax;
use crate::value::{self, Countdown, Retry, Version};
use crate::{Config, Console, Diagnostic, Entry, Kind, Purgatory, ReasonStore};

/// The longest text that is looked at.
pub const MAX_BYTES: usize = 256 * 1024;

/// `[console] countdown` where the file has none.
const COUNTDOWN: Duration = Duration::from_secs(3);
/// `[console] retry` where the file has none.
const RETRY: Duration = Duration::from_mins(1);

/// Reads a `boot.toml`.
///
/// # Errors
/// Every problem of the text, in the order of the text.
pub fn parse(text: &str) -> Result<Config, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let config = read(text, &mut problems);
    problems.finish(config)
}

/// Reads a `boot.toml` that may not even be UTF-8.
///
/// # Errors
/// Every problem, in the order of the text. The spans are those of [`String::from_utf8_lossy`] of `bytes`, which is the
/// text to [`render`](crate::render) them with; the messages name the offsets in `bytes`.
pub fn parse_bytes(bytes: &[u8]) -> Result<Config, Vec<Diagnostic>> {
    if let Ok(text) = str::from_utf8(bytes) {
        return parse(text);
    }
    let mut problems = Problems::default();
    if bytes.len() > MAX_BYTES {
        problems.push(too_long());
        return problems.finish(None);
    }
    let (mut offset, mut in_text) = (0_usize, 0_usize);
    for chunk in bytes.utf8_chunks() {
        offset = offset.saturating_add(chunk.valid().len());
        in_text = in_text.saturating_add(chunk.valid().len());
        if let Some(first) = chunk.invalid().first() {
            let end = in_text.saturating_add(char::REPLACEMENT_CHARACTER.len_utf8());
            problems.push(Diagnostic {
                kind: Kind::Encoding,
                message: format!("not UTF-8: byte 0x{first:02x} at offset {offset}"),
                span: in_text..end,
                label: "can't be read".to_owned(),
                help: Some("save the file as UTF-8".to_owned()),
            });
            offset = offset.saturating_add(chunk.invalid().len());
            in_text = end;
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let config = read(&text, &mut problems);
    problems.finish(config)
}

fn too_long() -> Diagnostic {
    Diagnostic {
        kind: Kind::Size,
        message: format!("the file is too long: more than {MAX_BYTES} bytes"),
        span: 0..0,
        label: String::new(),
        help: None,
    }
}

fn read(text: &str, problems: &mut Problems) -> Option<Config> {
    if text.len() > MAX_BYTES {
        problems.push(too_long());
        return None;
    }
    let mut config = None;
    let mut semantic = Problems::default();
    let (sound, bare_keys) = syntax::without_bare_keys(text);
    problems.extend(bare_keys);
    syntax::for_each_piece(&sound, |piece| {
        problems.extend(syntax::problems(text, piece));
        let mut found = Problems::default();
        config = root(text, piece.document.get_ref(), &mut found);
        semantic.extend(piece.in_place(found.into_list()));
    });
    problems.add_semantic(text, semantic);
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

fn root(text: &str, document: &DeTable<'_>, problems: &mut Problems) -> Option<Config> {
    let table = Table::new(document, top(text), Place::Root, "the file");
    table.refuse_unknown(problems);

    let version: Option<Version> = table
        .required("version", "version = 1", problems)
        .and_then(|v| problems.read("version", INTEGER, v));
    let console = match table.get("console") {
        Some(value) => console(value, problems),
        None => Some(Console {
            countdown: COUNTDOWN,
            retry: RETRY,
        }),
    };
    let purgatory = match table.get("purgatory") {
        Some(value) => purgatory(value, problems),
        None => Some(Purgatory {
            console: true,
            reason: None,
        }),
    };
    let defined = entries(&table, problems);
    let order = table
        .required(
            "order",
            "order = [\"NAME\"], the entries in the order in which they are tried",
            problems,
        )
        .and_then(|v| order(v, &defined, problems));

    version?;
    Some(Config {
        order: order?,
        console: console?,
        purgatory: purgatory?,
        entries: defined.into_iter().map(|(_, entry)| entry).collect::<Option<_>>()?,
    })
}

fn console(value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Console> {
    let table = problems.table("console", value)?;
    let table = Table::new(table, value.span(), Place::Console, "`[console]`");
    table.refuse_unknown(problems);
    let countdown = table.read::<Option<Countdown>>("countdown", INTEGER, problems);
    let retry = table.read::<Option<Retry>>("retry", INTEGER, problems);
    Some(Console {
        countdown: countdown?.map_or(COUNTDOWN, |countdown| countdown.0),
        retry: retry?.map_or(RETRY, |retry| retry.0),
    })
}

fn purgatory(value: &Spanned<DeValue<'_>>, problems: &mut Problems) -> Option<Purgatory> {
    let table = problems.table("purgatory", value)?;
    let table = Table::new(table, value.span(), Place::Purgatory, "`[purgatory]`");
    table.refuse_unknown(problems);
    let console = table.read::<Option<bool>>("console", BOOLEAN, problems);
    let reason = table.read::<Option<ReasonStore>>("reason", STRING, problems);
    Some(Purgatory {
        console: console?.unwrap_or(true),
        reason: reason?,
    })
}

/// Every entry by name in file order, those with a problem as `None`: they count as defined.
fn entries<'d>(root: &Table<'d, '_>, problems: &mut Problems) -> Vec<(&'d str, Option<Entry>)> {
    let Some(value) = root.required("entry", "[entry.NAME] with `source` and `kernel`", problems) else {
        return Vec::new();
    };
    let Some(table) = problems.table("entry", value) else {
        return Vec::new();
    };
    let mut entries = Vec::new();
    for (name, value) in in_file_order(table) {
        let text: &str = name.get_ref();
        let valid = problems.check(name.span(), value::entry_name(text)).is_some();
        let entry = entry::read(text, value, problems).filter(|_| valid);
        entries.push((text, entry));
    }
    if entries.is_empty() {
        problems.push(Diagnostic {
            kind: Kind::MissingKey,
            message: "there is no entry".to_owned(),
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
    problems: &mut Problems,
) -> Option<Vec<String>> {
    let items = problems.array("order", "an array of entry names", value)?;
    if items.is_empty() {
        problems.bad(
            value.span(),
            "`order` is empty".to_owned(),
            "expected at least one entry".to_owned(),
            None,
        );
        return None;
    }
    let names: BTreeSet<&str> = defined.iter().map(|(name, _)| *name).collect();
    let mut seen = BTreeSet::new();
    let mut order = Some(Vec::new());
    for item in items {
        let name: Option<String> = problems.read("order", "the name of an entry", item);
        let name = name.filter(|name| {
            if !names.contains(name.as_str()) {
                let help = match nearest(name, names.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!(
                        "define it: [entry.{}]",
                        name.chars().take(40).collect::<String>().escape_debug()
                    ),
                };
                problems.push(Diagnostic {
                    kind: Kind::MissingKey,
                    message: format!("there is no entry {}", quoted(name)),
                    span: item.span(),
                    label: "not defined".to_owned(),
                    help: Some(help),
                });
                return false;
            }
            if !seen.insert(name.clone()) {
                let label = "already listed".to_owned();
                problems.bad(
                    item.span(),
                    format!("{} is in `order` twice", quoted(name)),
                    label,
                    None,
                );
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
