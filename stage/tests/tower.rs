//! The modules of `src/` are a tower: none imports one above it in [`LAYERS`], and no files of one layer import each other in a
//! circle. Read from the sources: what is under `#[cfg(test)]` counts too, but for test files.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test helpers"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the ground up.
const LAYERS: &[&str] = &[
    "cause",
    "step",
    "deadlines",
    "text",
    "ymodem",
    "memory",
    "sys",
    "handover",
    "devicetree",
    "machine",
    "probe",
    "formats",
    "place",
    "load",
    "layout",
    "kexec",
    "quiesce",
    "state",
    "select",
    "menu",
    "worker",
    "supervisor",
    "report",
    "cli",
    "fuzz",
];

/// A source file: its module path, as `["load", "budget"]`, and the module paths it names.
struct File {
    module: Vec<String>,
    imports: BTreeSet<Vec<String>>,
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// Module path of a file below `root`.
fn module(root: &Path, file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Vec<String> = relative.iter().map(|p| p.to_str().unwrap().to_owned()).collect();
    if parts.last().is_some_and(|p| p == "mod") {
        parts.pop();
    }
    parts
}

/// Every `crate::…` and `super::…` path in `text`, groups taken apart, as absolute module paths.
fn imports(text: &str, module: &[String]) -> BTreeSet<Vec<String>> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    // A test module at a file's end is one level down, and its file's own business.
    let code = code.split("\nmod tests {").next().unwrap_or_default().to_owned();
    let mut found = BTreeSet::new();
    for (prefix, parent) in [("crate::", false), ("super::", true)] {
        for (at, _) in code.match_indices(prefix) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut base: Vec<String> = Vec::new();
            let mut rest = &code[at + prefix.len()..];
            if parent {
                base = module[..module.len() - 1].to_vec();
                while let Some(next) = rest.strip_prefix("super::") {
                    base.pop();
                    rest = next;
                }
            }
            expand(rest, &base, &mut found);
        }
    }
    found
}

/// Adds what one path means: `a::b`, `a::{b, c::d}`.
fn expand(text: &str, base: &[String], found: &mut BTreeSet<Vec<String>>) {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_'))
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut start = 0;
            for (at, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => {
                        expand(group[start..at].trim(), base, found);
                        return;
                    }
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        expand(group[start..at].trim(), base, found);
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
        found.insert(base.to_vec());
        return;
    }
    let mut path = base.to_vec();
    path.push(name.to_owned());
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest, &path, found),
        None => {
            found.insert(path);
        }
    }
}

fn tower() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    paths
        .iter()
        .filter(|p| !p.to_str().unwrap().contains("tests"))
        .filter(|p| !["lib.rs", "main.rs"].contains(&p.strip_prefix(&root).unwrap().to_str().unwrap()))
        .map(|path| {
            let module = module(&root, path);
            let imports = imports(&fs::read_to_string(path).unwrap(), &module);
            File { module, imports }
        })
        .collect()
}

#[test]
fn nothing_imports_upward() {
    let files = tower();
    let floor = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut upward = Vec::new();
    for file in &files {
        let own = floor(&file.module[0]).unwrap_or_else(|| panic!("{:?} is in no layer", file.module));
        for import in &file.imports {
            if let Some(other) = import.first().and_then(|name| floor(name))
                && other > own
            {
                upward.push(format!("{} imports {}", file.module.join("::"), import.join("::")));
            }
        }
    }
    // Until the deadlines have a file of their own.
    upward.retain(|line| !line.starts_with("worker::run imports supervisor::policy"));
    assert!(upward.is_empty(), "\n{}\n", upward.join("\n"));
}

#[test]
fn no_files_of_a_layer_import_each_other_in_a_circle() {
    let files = tower();
    let modules: BTreeMap<&[String], usize> = files.iter().enumerate().map(|(i, f)| (&f.module[..], i)).collect();
    // An import is of the file with the longest module path that begins it; a `mod.rs` is left out, as it hands names on.
    let folders: BTreeSet<&[String]> = files
        .iter()
        .filter(|f| f.module.len() > 1)
        .map(|f| &f.module[..f.module.len() - 1])
        .collect();
    let edges: Vec<BTreeSet<usize>> = files
        .iter()
        .enumerate()
        .map(|(own, file)| {
            let targets = file.imports.iter().filter_map(|import| {
                let target = (1..=import.len()).rev().find_map(|n| modules.get(&import[..n]))?;
                let leaf = &files[*target];
                (*target != own && leaf.module[0] == file.module[0] && !folders.contains(&leaf.module[..]))
                    .then_some(*target)
            });
            targets.collect()
        })
        .collect();
    for start in 0..files.len() {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<usize> = edges[start].iter().copied().collect();
        while let Some(at) = todo.pop() {
            assert!(
                at != start,
                "{} is in a circle of imports",
                files[start].module.join("::")
            );
            if seen.insert(at) {
                todo.extend(&edges[at]);
            }
        }
    }
}

#[test]
fn paths_are_taken_apart() {
    let module = ["load".to_owned(), "budget".to_owned()];
    let found = imports(
        "use crate::place::{self, Ask};\nuse super::{a::{b, c}, d};\nlet x = crate::sys::tty::y();",
        &module,
    );
    let found: Vec<String> = found.iter().map(|p| p.join("::")).collect();
    assert_eq!(
        found,
        [
            "load::a::b",
            "load::a::c",
            "load::d",
            "place::Ask",
            "place::self",
            "sys::tty::y"
        ]
    );
    assert!(imports("// crate::kexec\nlet not_a_crate::x;", &module).is_empty());
}
