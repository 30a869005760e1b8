//! Reading a spanned TOML tree key by key, and keeping every problem met on the way.
//!
//! Given a value; responsible for its type, for the keys of its table, and for the list of problems: sorted, without
//! repetitions, of bounded length, and without what only follows from a syntax error.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, ValueDeserializer};

use crate::diagnostic::quoted;
use crate::keys::Place;
use crate::value::Fault;
use crate::{Diagnostic, Kind};

/// More than this are not listed: nobody reads them, and a console is slow.
const MAX_LISTED: usize = 100;

pub(crate) const INTEGER: &str = "an integer";
pub(crate) const BOOLEAN: &str = "true or false";
pub(crate) const STRING: &str = "a string";

/// A value with its place.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

/// The problems found so far.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    list: Vec<Diagnostic>,
}

impl Problems {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.list.push(diagnostic);
    }

    pub(crate) fn extend(&mut self, diagnostics: impl IntoIterator<Item = Diagnostic>) {
        self.list.extend(diagnostics);
    }

    pub(crate) fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }

    /// A value that can't be used.
    pub(crate) fn bad(&mut self, span: Range<usize>, message: String, label: String, help: Option<&str>) {
        self.push(Diagnostic {
            kind: Kind::BadValue,
            message,
            span,
            label,
            help: help.map(str::to_owned),
        });
    }

    /// What a check of a single value says, at the place of that value.
    pub(crate) fn check<T>(&mut self, span: Range<usize>, result: Result<T, Fault>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Fault { message, label, help }) => {
                self.push(Diagnostic {
                    kind: Kind::BadValue,
                    message,
                    span,
                    label,
                    help,
                });
                None
            }
        }
    }

    /// A value of the wrong type. `wanted` has its article.
    pub(crate) fn wrong_type(&mut self, key: &str, wanted: &str, found: &Value<'_>) {
        let help = match (key, found.get_ref()) {
            ("order", DeValue::String(name)) => Some(format!("order = [{:?}]", clipped(name))),
            ("entry", DeValue::Array(_)) => Some("give each entry its name: [entry.NAME]".to_owned()),
            ("sha256", DeValue::String(_)) => Some("say of which file: sha256 = { kernel = \"…\" }".to_owned()),
            (_, DeValue::String(text)) if wanted == INTEGER && text.parse::<i64>().is_ok() => {
                Some(format!("without quotes: {}", clipped(text)))
            }
            (_, DeValue::String(text)) if wanted == BOOLEAN && text.parse::<bool>().is_ok() => {
                Some(format!("without quotes: {text}"))
            }
            (_, DeValue::Integer(_)) if wanted.starts_with("a string") => Some("put it between quotes".to_owned()),
            _ => None,
        };
        self.push(Diagnostic {
            kind: Kind::WrongType,
            message: format!("wrong type for `{key}`"),
            span: found.span(),
            label: format!("expected {wanted}, found {}", type_of(found.get_ref())),
            help,
        });
    }

    /// `value` as serde reads it. `wanted` is what it has to be, with its article.
    pub(crate) fn read<'i, T: Deserialize<'i>>(&mut self, key: &str, wanted: &str, value: &Value<'i>) -> Option<T> {
        let error = match T::deserialize(ValueDeserializer::from(value.clone())) {
            Ok(read) => return Some(read),
            Err(error) => error,
        };
        if error.message().starts_with("invalid type") {
            self.wrong_type(key, wanted, value);
        } else {
            // Of serde's own complaints only the one about a number that no type holds is left.
            let fault = Fault::from_text(error.message()).unwrap_or_else(|| Fault {
                message: format!("`{key}` is out of range"),
                label: "too many digits".to_owned(),
                help: None,
            });
            self.check::<T>(value.span(), Err(fault));
        }
        None
    }

    /// `found`, which is what `value` is as the wanted type; a complaint where it is none.
    fn typed<T>(&mut self, key: &str, wanted: &str, value: &Value<'_>, found: Option<T>) -> Option<T> {
        if found.is_none() {
            self.wrong_type(key, wanted, value);
        }
        found
    }

    pub(crate) fn array<'d, 'i>(&mut self, key: &str, wanted: &str, value: &'d Value<'i>) -> Option<&'d DeArray<'i>> {
        self.typed(key, wanted, value, value.get_ref().as_array())
    }

    pub(crate) fn table<'d, 'i>(&mut self, key: &str, value: &'d Value<'i>) -> Option<&'d DeTable<'i>> {
        self.typed(key, "a table", value, value.get_ref().as_table())
    }

    /// Takes over what the walk over the tree found. Where the text is not TOML, the tree has holes and stand-ins:
    /// nothing then counts as missing, and nothing is said about a line that has a syntax error.
    pub(crate) fn add_semantic(&mut self, text: &str, semantic: Self) {
        let broken: BTreeSet<usize> = (self.list.iter())
            .filter(|d| d.kind == Kind::Syntax)
            .map(|d| line_start(text, d.span.start))
            .collect();
        let sound = |d: &Diagnostic| {
            let lines = line_start(text, d.span.start)..=d.span.end.max(d.span.start);
            broken.is_empty()
                || (d.kind != Kind::MissingKey && !d.span.is_empty() && broken.range(lines).next().is_none())
        };
        self.list.extend(semantic.list.into_iter().filter(sound));
    }

    /// The value, if there is no problem; else the problems in the order of the text.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Diagnostic>> {
        match value {
            Some(value) if self.list.is_empty() => return Ok(value),
            _ => {}
        }
        self.list
            .sort_by(|a, b| (a.span.start, a.kind, &a.message).cmp(&(b.span.start, b.kind, &b.message)));
        self.list.dedup_by(|a, b| a.span == b.span && a.message == b.message);
        if self.list.len() > MAX_LISTED {
            self.list.truncate(MAX_LISTED);
            let end = self.list.last().map_or(0, |last| last.span.end);
            self.list.push(Diagnostic {
                kind: Kind::TooMany,
                message: "there are more problems, which are not listed".to_owned(),
                span: end..end,
                label: String::new(),
                help: None,
            });
        }
        Err(self.list)
    }
}

fn line_start(text: &str, offset: usize) -> usize {
    let before = text.get(..text.floor_char_boundary(offset)).unwrap_or(text);
    before.rfind('\n').map_or(0, |newline| newline.saturating_add(1))
}

/// As much of `text` as belongs into a message.
fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The keys of a table, in the order in which the file has them.
pub(crate) fn in_file_order<'d, 'i>(table: &'d DeTable<'i>) -> Vec<(&'d Spanned<DeString<'i>>, &'d Value<'i>)> {
    let mut all: Vec<_> = table.iter().collect();
    all.sort_by_key(|(key, _)| key.span().start);
    all
}

/// A table whose keys are known.
#[derive(Debug)]
pub(crate) struct Table<'d, 'i> {
    keys: &'d DeTable<'i>,
    span: Range<usize>,
    place: Place,
    name: &'d str,
}

impl<'d, 'i> Table<'d, 'i> {
    pub(crate) fn new(keys: &'d DeTable<'i>, span: Range<usize>, place: Place, name: &'d str) -> Self {
        Self {
            keys,
            span,
            place,
            name,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'d Value<'i>> {
        self.keys.get(key)
    }

    /// The value of `key` as serde reads it, or the default where there is none.
    pub(crate) fn read<T: Deserialize<'i> + Default>(
        &self,
        key: &str,
        wanted: &str,
        problems: &mut Problems,
    ) -> Option<T> {
        let Some(value) = self.get(key) else {
            return Some(T::default());
        };
        match self.place {
            Place::Sha256 => problems.read(&format!("sha256.{key}"), wanted, value),
            _ => problems.read(key, wanted, value),
        }
    }

    /// The value of `key`; `example` says what to add where there is none.
    pub(crate) fn required(&self, key: &str, example: &str, problems: &mut Problems) -> Option<&'d Value<'i>> {
        let value = self.get(key);
        if value.is_none() {
            problems.push(Diagnostic {
                kind: Kind::MissingKey,
                message: format!("{} has no `{key}`", self.name),
                span: self.span.clone(),
                label: format!("`{key}` is required"),
                help: Some(format!("add {example}")),
            });
        }
        value
    }

    /// Complains about every key the table should not have.
    pub(crate) fn refuse_unknown(&self, problems: &mut Problems) {
        for (key, _) in self.keys {
            if !self.place.keys().contains(&key.get_ref().as_ref()) {
                problems.push(Diagnostic {
                    kind: Kind::UnknownKey,
                    message: format!("unknown key {}", quoted(key.get_ref())),
                    span: key.span(),
                    label: format!("not a key of {}", self.name),
                    help: Some(self.place.advice(key.get_ref())),
                });
            }
        }
    }
}
