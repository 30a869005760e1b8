//! `cases/good/*.toml` are read without a complaint; each `cases/bad/*.toml` gives the text beside it (`.stderr`).
//! With `UPDATE=1` in the environment those texts are written instead.
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

fn rendered(path: &Path) -> Result<config::Config, String> {
    let bytes = fs::read(path).unwrap();
    config::parse_bytes(&bytes).map_err(|problems| {
        let name = path.file_name().unwrap().to_str().unwrap();
        config::render(name, &String::from_utf8_lossy(&bytes), &problems)
    })
}

#[test]
fn good_files_are_read() {
    let cases = cases("good");
    assert!(cases.len() >= 5, "{cases:?}");
    for path in cases {
        if let Err(problems) = rendered(&path) {
            panic!("{problems}");
        }
    }
}

#[test]
fn bad_files_are_explained() {
    let cases = cases("bad");
    assert!(cases.len() >= 25, "{} cases", cases.len());
    let update = std::env::var_os("UPDATE").is_some_and(|v| v == "1");
    let mut different = Vec::new();
    for path in cases {
        let found = rendered(&path).expect_err(path.to_str().unwrap());
        let snapshot = path.with_extension("stderr");
        if update {
            fs::write(&snapshot, found).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&snapshot).unwrap_or_default();
        if found != expected {
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
