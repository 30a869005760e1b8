//! `[entry.NAME]`.
//!
//! Given the table of one entry; responsible for all of its keys, and for what they mean together.

use toml::de::DeValue;

use crate::diagnostic::quoted;
use crate::keys::Place;
use crate::reader::{Problems, Table, Value};
use crate::value;
use crate::{Check, Diagnostic, Entry, Kind, Sha256, Source, WantedDigests};

/// Reads the entry `name`; `None` after at least one problem.
pub(crate) fn read(name: &str, value: &Value<'_>, problems: &mut Problems) -> Option<Entry> {
    let shown = quoted(name);
    let path = format!("entry.{}", shown.trim_matches('`'));
    let described = format!("`[{path}]`");
    let table = problems.table(&path, value)?;
    let table = Table::new(table, value.span(), Place::Entry, &described);
    table.refuse_unknown(problems);

    let title = match optional(&table, "title", problems) {
        Given::Nothing => Some(name.to_owned()),
        Given::Text(text, value) => problems.check(value.span(), value::title(text)),
        Given::Wrong => None,
    };
    let source = table
        .required(
            "source",
            "source = \"PARTLABEL=…\" (or PARTUUID=, LABEL=, UUID=, or a folder of the initramfs)",
            problems,
        )
        .and_then(|found| Some((problems.string("source", "a string", found)?, found)))
        .and_then(|(text, found)| problems.check(found.span(), value::source(text)));
    let on_disk = !matches!(source, Some(Source::Initramfs(_)));
    let kernel = table
        .required("kernel", "kernel = \"PATH\", relative to the source", problems)
        .and_then(|found| file("kernel", found, on_disk, problems));
    let initrd = match table.get("initrd") {
        None => Some(Vec::new()),
        Some(found) => initrd(found, on_disk, problems),
    };
    let dtb = match table.get("dtb") {
        None => Some(None),
        Some(found) => file("dtb", found, on_disk, problems).map(Some),
    };
    let cmdline = match optional(&table, "cmdline", problems) {
        Given::Nothing => Some(String::new()),
        Given::Text(text, value) => problems.check(value.span(), value::cmdline(text)),
        Given::Wrong => None,
    };
    let cmdline_extra = match table.get("cmdline_extra") {
        None => Some(true),
        Some(found) => problems.boolean("cmdline_extra", found),
    };
    let check = match optional(&table, "check", problems) {
        Given::Nothing => Some(Check::default()),
        Given::Text(text, value) => problems.check(value.span(), value::check(text)),
        Given::Wrong => None,
    };
    let sha256 = match table.get("sha256") {
        None => Some(WantedDigests::default()),
        Some(found) => digests(found, &table, problems),
    };

    Some(Entry {
        name: name.to_owned(),
        title: title?,
        source: source?,
        kernel: kernel?,
        initrd: initrd?,
        dtb: dtb?,
        cmdline: cmdline?,
        cmdline_extra: cmdline_extra?,
        check: check?,
        sha256: sha256?,
    })
}

/// The value of a key that may be absent and is a string.
enum Given<'d, 'i> {
    Nothing,
    Text(&'d str, &'d Value<'i>),
    Wrong,
}

fn optional<'d, 'i>(table: &Table<'d, 'i>, key: &str, problems: &mut Problems) -> Given<'d, 'i> {
    match table.get(key) {
        None => Given::Nothing,
        Some(value) => match problems.string(key, "a string", value) {
            Some(text) => Given::Text(text, value),
            None => Given::Wrong,
        },
    }
}

fn file(key: &str, value: &Value<'_>, on_disk: bool, problems: &mut Problems) -> Option<String> {
    let text = problems.string(key, "a string", value)?;
    problems.check(value.span(), value::file(text, on_disk))
}

fn initrd(value: &Value<'_>, on_disk: bool, problems: &mut Problems) -> Option<Vec<String>> {
    one_or_many("initrd", value, problems, |item, problems| {
        file("initrd", item, on_disk, problems)
    })
}

/// What `read` makes of a string, or of each element of an array; `None` if one of them failed.
fn one_or_many<'i, T>(
    key: &str,
    value: &Value<'i>,
    problems: &mut Problems,
    mut read: impl FnMut(&Value<'i>, &mut Problems) -> Option<T>,
) -> Option<Vec<T>> {
    match value.get_ref() {
        DeValue::String(_) => read(value, problems).map(|one| vec![one]),
        DeValue::Array(items) => {
            let all: Vec<Option<T>> = items.iter().map(|item| read(item, problems)).collect();
            all.into_iter().collect()
        }
        _ => {
            problems.wrong_type(key, "a string or an array of strings", value);
            None
        }
    }
}

fn digests(value: &Value<'_>, entry: &Table<'_, '_>, problems: &mut Problems) -> Option<WantedDigests> {
    let table = problems.table("sha256", value)?;
    let table = Table::new(table, value.span(), Place::Sha256, "`sha256`");
    table.refuse_unknown(problems);
    let kernel = match table.get("kernel") {
        None => Some(None),
        Some(found) => digest("sha256.kernel", found, problems).map(Some),
    };
    let initrd = match table.get("initrd") {
        None => Some(Vec::new()),
        Some(found) => initrd_digests(found, entry.get("initrd"), problems),
    };
    let dtb = match table.get("dtb") {
        None => Some(None),
        Some(found) => {
            let digest = digest("sha256.dtb", found, problems);
            if entry.get("dtb").is_none() {
                problems.push(no_such_file("dtb", found));
            }
            digest.map(Some)
        }
    };
    Some(WantedDigests {
        kernel: kernel?,
        initrd: initrd?,
        dtb: dtb?,
    })
}

fn digest(key: &str, value: &Value<'_>, problems: &mut Problems) -> Option<Sha256> {
    let text = problems.string(key, "a string of 64 hex digits", value)?;
    problems.check(value.span(), value::digest(text))
}

/// In step with the files of `initrd`; an empty string stands for none.
fn initrd_digests(
    value: &Value<'_>,
    files: Option<&Value<'_>>,
    problems: &mut Problems,
) -> Option<Vec<Option<Sha256>>> {
    let digests = one_or_many("sha256.initrd", value, problems, |item, problems| {
        if matches!(item.get_ref(), DeValue::String(text) if text.is_empty()) {
            return Some(None);
        }
        digest("sha256.initrd", item, problems).map(Some)
    })?;
    let count = match files.map(Value::get_ref) {
        None => 0,
        Some(DeValue::Array(files)) => files.len(),
        Some(_) => 1,
    };
    let alone = matches!(value.get_ref(), DeValue::String(_));
    if alone && count > 1 {
        problems.bad(
            value.span(),
            format!("one digest for {count} initrds"),
            "expected an array of digests".to_owned(),
            Some("list the digests in the order of `initrd`; \"\" stands for none"),
        );
        return None;
    }
    if files.is_none() && !digests.is_empty() {
        problems.push(no_such_file("initrd", value));
        return None;
    }
    if digests.len() > count {
        let label = format!("{} here, {count} in `initrd`", digests.len());
        problems.bad(value.span(), "more digests than initrds".to_owned(), label, None);
        return None;
    }
    Some(digests)
}

fn no_such_file(key: &str, digest: &Value<'_>) -> Diagnostic {
    Diagnostic {
        kind: Kind::MissingKey,
        message: "a digest of a file that is not named".to_owned(),
        span: digest.span(),
        label: format!("the entry has no `{key}`"),
        help: None,
    }
}
