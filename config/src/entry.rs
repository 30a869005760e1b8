//! `[entry.NAME]`.
//!
//! Given the table of one entry; responsible for all of its keys, and for what they mean together.

use toml::de::DeValue;

use crate::diagnostic::quoted;
use crate::keys::TableKind;
use crate::problems::Problems;
use crate::reader::{BOOLEAN, STRING, Table, Value};
use crate::value::{Cmdline, Fault, FilePath, MaybeDigest, Title};
use crate::word::{ArenaName, CheckName};
use crate::{Diagnostic, DiagnosticKind, Entry, Sha256, SlotName, Source, WantedDigests};

const FILES: &str = "a string or an array of strings";
const DIGEST: &str = "a string of 64 hex digits";

/// Reads the entry `name`; `None` after at least one problem.
pub(crate) fn read(name: &str, value: &Value<'_>, problems: &mut Problems<'_>) -> Option<Entry> {
    let shown = quoted(name);
    let path = format!("entry.{}", shown.trim_matches('`'));
    let described = format!("`[{path}]`");
    let table = problems.table(&path, value)?;
    let table = Table::new(table, value.span(), TableKind::Entry, &described);
    table.refuse_unknown(problems);

    let title = table.read::<Option<Title>>("title", STRING, problems);
    let slot = table.read::<Option<SlotName>>("slot", STRING, problems);
    let source: Option<Source> = table
        .required(
            "source",
            "source = \"PARTLABEL=…\" (or PARTUUID=, LABEL=, UUID=, or a folder of the initramfs)",
            problems,
        )
        .and_then(|found| problems.read("source", STRING, found));
    let on_disk = !matches!(source, Some(Source::Initramfs(_)));
    let kernel = table
        .required("kernel", "kernel = \"PATH\", relative to the source", problems)
        .and_then(|found| file("kernel", STRING, found, on_disk, problems));
    let initrd = match table.get("initrd") {
        None => Some(Vec::new()),
        Some(found) => initrd(found, on_disk, problems),
    };
    let dtb = match table.get("dtb") {
        None => Some(None),
        Some(found) => file("dtb", STRING, found, on_disk, problems).map(Some),
    };
    let cmdline: Option<Cmdline> = table.read("cmdline", STRING, problems);
    let cmdline_extra = table.read::<Option<bool>>("cmdline_extra", BOOLEAN, problems);
    let check: Option<CheckName> = table.read("check", STRING, problems);
    let arena: Option<ArenaName> = table.read("arena", STRING, problems);
    let sha256 = match table.get("sha256") {
        None => Some(WantedDigests::default()),
        Some(found) => digests(found, &table, problems),
    };

    Some(Entry {
        name: name.to_owned(),
        title: title?.map_or_else(|| name.to_owned(), |title| title.0),
        slot: slot?,
        source: source?,
        kernel: kernel?,
        initrd: initrd?,
        dtb: dtb?,
        cmdline: cmdline?.0,
        cmdline_extra: cmdline_extra?.unwrap_or(true),
        check: check?.0,
        arena: arena?.0,
        sha256: sha256?,
    })
}

fn file(key: &str, wanted: &str, value: &Value<'_>, on_disk: bool, problems: &mut Problems<'_>) -> Option<String> {
    let file: FilePath = problems.read(key, wanted, value)?;
    problems.check(value.span(), file.in_source(on_disk))
}

fn initrd(value: &Value<'_>, on_disk: bool, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    one_or_many("initrd", value, problems, |item, problems| {
        file("initrd", FILES, item, on_disk, problems)
    })
}

/// What `read` makes of a string, or of each element of an array; `None` if one of them failed.
fn one_or_many<'i, T>(
    key: &str,
    value: &Value<'i>,
    problems: &mut Problems<'_>,
    mut read: impl FnMut(&Value<'i>, &mut Problems<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match value.get_ref() {
        DeValue::String(_) => read(value, problems).map(|one| vec![one]),
        DeValue::Array(items) => {
            let all: Vec<Option<T>> = items.iter().map(|item| read(item, problems)).collect();
            all.into_iter().collect()
        }
        _ => {
            problems.wrong_type(key, FILES, value);
            None
        }
    }
}

fn digests(value: &Value<'_>, entry: &Table<'_, '_>, problems: &mut Problems<'_>) -> Option<WantedDigests> {
    let table = problems.table("sha256", value)?;
    let table = Table::new(table, value.span(), TableKind::Sha256, "`sha256`");
    table.refuse_unknown(problems);
    let kernel = table.read("kernel", DIGEST, problems);
    let initrd = match table.get("initrd") {
        None => Some(Vec::new()),
        Some(found) => initrd_digests(found, entry.get("initrd"), problems),
    };
    let dtb = table.read("dtb", DIGEST, problems);
    if let Some(found) = table.get("dtb").filter(|_| entry.get("dtb").is_none()) {
        problems.push(no_such_file("dtb", found));
    }
    Some(WantedDigests {
        kernel: kernel?,
        initrd: initrd?,
        dtb: dtb?,
    })
}

/// In step with the files of `initrd`; an empty string stands for none.
fn initrd_digests(
    value: &Value<'_>,
    files: Option<&Value<'_>>,
    problems: &mut Problems<'_>,
) -> Option<Vec<Option<Sha256>>> {
    let digests = one_or_many("sha256.initrd", value, problems, |item, problems| {
        let digest: MaybeDigest = problems.read("sha256.initrd", DIGEST, item)?;
        Some(digest.0)
    })?;
    let count = match files.map(Value::get_ref) {
        None => 0,
        Some(DeValue::Array(files)) => files.len(),
        Some(_) => 1,
    };
    let alone = matches!(value.get_ref(), DeValue::String(_));
    if alone && count > 1 {
        let message = format!("`initrd` has {count} files, but one digest");
        let fault = Fault::new(message, "expected an array of digests")
            .help("list the digests in the order of `initrd`; \"\" stands for none");
        problems.bad(value.span(), fault);
        return None;
    }
    if files.is_none() && !digests.is_empty() {
        problems.push(no_such_file("initrd", value));
        return None;
    }
    if digests.len() > count {
        let label = format!(
            "{} digests for {count} {}",
            digests.len(),
            if count == 1 { "file" } else { "files" }
        );
        problems.bad(value.span(), Fault::new("`initrd` has fewer files than digests", label));
        return None;
    }
    Some(digests)
}

fn no_such_file(key: &str, digest: &Value<'_>) -> Diagnostic {
    Diagnostic {
        kind: DiagnosticKind::MissingKey,
        message: format!("the digest `{key}` has no file"),
        span: digest.span(),
        label: format!("the entry has no `{key}`"),
        help: Some(format!("remove the digest, or add `{key}` to the entry")),
    }
}
