//! Reading a spanned TOML tree key by key.
//!
//! Given a value; responsible for its type and for the keys of its table.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue, ValueDeserializer};

use crate::diagnostic::quoted;
use crate::keys::TableKind;
use crate::lookalike::named;
use crate::problems::{Advice, Problems};
use crate::value::Fault;
use crate::{Diagnostic, DiagnosticKind};

pub(crate) const INTEGER: &str = "an integer";
pub(crate) const BOOLEAN: &str = "true or false";
pub(crate) const STRING: &str = "a string";

/// A value with its place.
pub(crate) type Value<'i> = Spanned<DeValue<'i>>;

impl Problems<'_> {
    /// A value of the wrong type. `wanted` has its article.
    pub(crate) fn wrong_type(&mut self, key: &str, wanted: &str, found: &Value<'_>) {
        let help = match (key, found.get_ref()) {
            ("order", DeValue::String(name)) => Some(format!("write order = [{:?}]", clipped(name))),
            ("entry", DeValue::Array(_)) => Some("name each entry: [entry.NAME]".to_owned()),
            ("sha256", DeValue::String(_)) => Some("name the file: sha256 = { kernel = \"…\" }".to_owned()),
            (_, DeValue::String(text)) if wanted == INTEGER && text.parse::<i64>().is_ok() => {
                Some(format!("remove the quotes: {}", clipped(text)))
            }
            (_, DeValue::String(text)) if wanted == BOOLEAN && text.parse::<bool>().is_ok() => {
                Some(format!("remove the quotes: {text}"))
            }
            (_, DeValue::Integer(_)) if wanted.starts_with("a string") => Some("put it in quotes".to_owned()),
            _ => None,
        };
        self.push(Diagnostic {
            kind: DiagnosticKind::WrongType,
            message: format!("`{key}` must be {wanted}"),
            span: found.span(),
            label: format!("this is {}", type_of(found.get_ref())),
            help,
        });
    }

    /// `value` as serde reads it. `wanted` is what it has to be, with its article.
    pub(crate) fn read<'i, T: Deserialize<'i>>(&mut self, key: &str, wanted: &str, value: &Value<'i>) -> Option<T> {
        if self.is_past(value.span().start) {
            return None;
        }
        let fits = match value.get_ref() {
            DeValue::Integer(_) => wanted == INTEGER,
            DeValue::Boolean(_) => wanted == BOOLEAN,
            DeValue::String(_) => wanted != INTEGER && wanted != BOOLEAN,
            _ => false,
        };
        if !fits {
            self.wrong_type(key, wanted, value);
            return None;
        }
        T::deserialize(ValueDeserializer::from(value.clone()))
            .map_err(|error| {
                // Of serde's own complaints only the one about a number that no type holds is left.
                let fault = Fault::from_text(error.message())
                    .unwrap_or_else(|| Fault::new(format!("`{key}` is out of range"), "too many digits"));
                self.bad(value.span(), fault);
            })
            .ok()
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
    kind: TableKind,
    name: &'d str,
}

impl<'d, 'i> Table<'d, 'i> {
    pub(crate) fn new(keys: &'d DeTable<'i>, span: Range<usize>, kind: TableKind, name: &'d str) -> Self {
        Self { keys, span, kind, name }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'d Value<'i>> {
        self.keys.get(key)
    }

    /// The value of `key` as serde reads it, or the default where there is none.
    pub(crate) fn read<T: Deserialize<'i> + Default>(
        &self,
        key: &str,
        wanted: &str,
        problems: &mut Problems<'_>,
    ) -> Option<T> {
        let Some(value) = self.get(key) else {
            return Some(T::default());
        };
        match self.kind {
            TableKind::Sha256 => problems.read(&format!("sha256.{key}"), wanted, value),
            _ => problems.read(key, wanted, value),
        }
    }

    /// The value of `key`; `example` says what to add where there is none.
    pub(crate) fn required(&self, key: &str, example: &str, problems: &mut Problems<'_>) -> Option<&'d Value<'i>> {
        let value = self.get(key);
        if value.is_none() {
            problems.push(Diagnostic {
                kind: DiagnosticKind::MissingKey,
                message: format!("{} has no `{key}`", self.name),
                span: self.span.clone(),
                label: format!("`{key}` is required"),
                help: Some(format!("add {example}")),
            });
        }
        value
    }

    /// Complains about every key the table should not have.
    pub(crate) fn refuse_unknown(&self, problems: &mut Problems<'_>) {
        for (key, _) in in_file_order(self.keys) {
            let name: &str = key.get_ref();
            if problems.is_past(key.span().start) {
                break;
            }
            if self.kind.keys().contains(&name) {
                continue;
            }
            let odd = name.chars().find(|c| !c.is_ascii());
            let odd = odd.map(|c| format!("; contains {}", named(c)));
            let diagnostic = Diagnostic {
                kind: DiagnosticKind::UnknownKey,
                message: format!("unknown key {}", quoted(name)),
                span: key.span(),
                label: format!("not a key of {}{}", self.name, odd.unwrap_or_default()),
                help: None,
            };
            // No longer ones are like any other.
            let name = name.chars().take(80).collect();
            problems.push_with(diagnostic, Some(Advice::Key(self.kind, name)));
        }
    }
}
