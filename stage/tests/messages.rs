//! Every text that any part of Cato can print, in one file to be read: `messages.txt`, in the order of the sources.
//!
//! With `UPDATE=1` in the environment it is written anew. A text stands there as in the source, `{…}` to be filled in: so no
//! variant of an error can be forgotten. Help is the doc comments of what clap parses.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// What runs on boards, and what makers run.
const FOLDERS: [&str; 5] = [
    "config/src",
    "stage/src",
    "purgatory/src",
    "mkinitramfs/src",
    "qemu/src",
];

fn sources(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            sources(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs")
            && !name.contains("tests")
            && !["fakes.rs", "fuzz.rs"].contains(&name)
        {
            files.push(path);
        }
    }
}

/// The texts of `tokens`, but for tests and attributes; of the attributes, `error`, and `doc` where `help` says so.
fn texts(tokens: TokenStream, help: bool, found: &mut Vec<String>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut docs = Vec::new();
    let (mut is_test, mut is_clap) = (false, false);
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(p) if p.as_char() == '#' => {
                if matches!(tokens.peek(), Some(TokenTree::Punct(p)) if p.as_char() == '!') {
                    tokens.next();
                }
                let Some(TokenTree::Group(attribute)) = tokens.next() else {
                    continue;
                };
                let text = attribute.to_string().replace(' ', "");
                is_test |= text == "[cfg(test)]" || text == "[test]";
                is_clap |=
                    text.starts_with("[derive(") && ["Parser", "Args", "Subcommand"].iter().any(|d| text.contains(d));
                if text.starts_with("[doc=") {
                    literals(&attribute, &mut docs);
                } else if text.starts_with("[error(") {
                    literals(&attribute, found);
                }
            }
            // The end of an item, or of a field or variant: its attributes are used up.
            TokenTree::Punct(p) if matches!(p.as_char(), ';' | ',') => {
                if help {
                    found.append(&mut docs);
                }
                (is_test, is_clap) = (false, false);
                docs.clear();
            }
            TokenTree::Group(group) => {
                let body = group.delimiter() == Delimiter::Brace;
                if body && (help || is_clap) {
                    found.append(&mut docs);
                }
                if !is_test {
                    texts(group.stream(), is_clap && body, found);
                }
                if body {
                    (is_test, is_clap) = (false, false);
                    docs.clear();
                }
            }
            TokenTree::Literal(literal) if !is_test => found.extend(words(&literal.to_string())),
            _ => {}
        }
    }
    if help {
        found.append(&mut docs);
    }
}

fn literals(group: &Group, found: &mut Vec<String>) {
    for token in group.stream() {
        match token {
            TokenTree::Group(inner) => literals(&inner, found),
            TokenTree::Literal(literal) => found.extend(words(&literal.to_string())),
            _ => {}
        }
    }
}

/// A literal that holds words, without its quotes, on one line.
fn words(literal: &str) -> Option<String> {
    let inner = literal.trim_start_matches(['b', 'r', '#']).trim_end_matches('#');
    let inner = inner.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    for line in inner.split("\\\n") {
        text.push_str(if text.is_empty() { line } else { line.trim_start() });
    }
    let text = text.replace("\\\"", "\"").replace("\\\\", "\\").replace('\n', "\\n");
    let text = text.trim();
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    (text.contains(' ') && letters > 2).then(|| text.to_owned())
}

#[test]
fn every_text_is_in_the_file_that_is_read() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut all = String::from(
        "Every text that a part of Cato can print, as it stands in the source; {…} is filled in.\n\
         Written by `UPDATE=1 cargo test -p stage --test messages`, to be read in one place.\n",
    );
    for folder in FOLDERS {
        let mut files = Vec::new();
        sources(&root.join(folder), &mut files);
        files.sort();
        for file in files {
            let tokens: TokenStream = fs::read_to_string(&file).unwrap().parse().unwrap();
            let mut found = Vec::new();
            texts(tokens, false, &mut found);
            let name = file.strip_prefix(root).unwrap().to_str().unwrap();
            if !found.is_empty() {
                writeln!(all, "\n{name}").unwrap();
            }
            for text in found {
                writeln!(all, "  {text}").unwrap();
            }
        }
    }
    let path = root.join("stage/tests/messages.txt");
    if std::env::var_os("UPDATE").is_some_and(|v| v == "1") {
        fs::write(&path, all).unwrap();
        return;
    }
    let known = fs::read_to_string(&path).unwrap_or_default();
    let line = known.lines().zip(all.lines()).position(|(a, b)| a != b);
    assert!(
        known == all,
        "messages.txt differs from line {} on: UPDATE=1 writes it; read what changed",
        line.map_or(known.lines().count().min(all.lines().count()), |n| n) + 1
    );
}
