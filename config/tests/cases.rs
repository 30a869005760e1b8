//! `cases/good/*.toml` are read without a word; each of `cases/bad/` and, though it can be booted from, of
//! `cases/doubtful/` gives the text beside it (`.stderr`). With `UPDATE=1` in the environment those texts are written.
#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::fs;
use std::path::{Path, PathBuf};

fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(folder);
    let mut cases: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    cases.sort();
    cases
}

/// What is said of a file, and whether it can be booted from.
fn rendered(path: &Path) -> (String, bool) {
    let bytes = fs::read(path).unwrap();
    let reading = config::read(&bytes);
    let name = path.file_name().unwrap().to_str().unwrap();
    (reading.render(name), reading.config.is_some())
}

#[test]
fn good_files_are_read() {
    let cases = cases("good");
    assert!(cases.len() >= 5, "{cases:?}");
    for path in cases {
        assert_eq!(rendered(&path), (String::new(), true), "{}", path.display());
    }
}

#[test]
fn bad_files_are_explained() {
    explained("bad", 25, false);
}

#[test]
fn doubtful_files_are_read_with_warnings() {
    explained("doubtful", 2, true);
}

fn explained(folder: &str, least: usize, bootable: bool) {
    let cases = cases(folder);
    assert!(cases.len() >= least, "{} cases", cases.len());
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1");
    let mut different = Vec::new();
    for path in cases {
        let (found, is_read) = rendered(&path);
        assert_eq!(is_read, bootable, "{}\n{found}", path.display());
        let snapshot = path.with_extension("stderr");
        if update {
            fs::write(&snapshot, found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        if found != expected || found.is_empty() {
            different.push(format!(
                "{}\n--- expected\n{expected}--- found\n{found}",
                path.display()
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{}\nUPDATE=1 writes what was found",
        different.join("\n")
    );
}
