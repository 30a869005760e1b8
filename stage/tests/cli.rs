//! `cato` as a command: what it prints where, and its exit codes.

#![expect(clippy::unwrap_used, reason = "test helpers")]

use std::ffi::OsStr;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

const GOOD: &str = "version = 1\norder = [\"a\"]\n\n[entry.a]\nsource = \"PARTLABEL=boot-a\"\nkernel = \"Image\"\n";

fn cato(arguments: &[&OsStr]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_cato"))
        .args(arguments)
        .output()
        .unwrap();
    (
        status.code().unwrap(),
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

fn words(words: &[&str]) -> (i32, String, String) {
    cato(&words.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// A folder and the path of a `boot.toml` with `text` in it.
fn file(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("boot.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn a_good_file_is_ok() {
    let (_folder, path) = file(GOOD.as_bytes());
    let name = path.to_str().unwrap();
    assert_eq!(
        words(&["check", name]),
        (0, format!("{name}: ok, 1 entry\n"), String::new())
    );
}

#[test]
fn the_example_of_the_manual_is_ok() {
    let name = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/boot.toml");
    assert_eq!(
        words(&["check", name]),
        (0, format!("{name}: ok, 3 entries\n"), String::new())
    );
}

#[test]
fn every_problem_of_a_bad_file_is_on_stderr_with_its_place() {
    let (_folder, path) = file(
        GOOD.replace("kernel", "kernl")
            .replace("version = 1", "version = 2")
            .as_bytes(),
    );
    let name = path.to_str().unwrap();
    let (code, out, err) = words(&["check", name]);
    assert_eq!((code, out.as_str()), (1, ""));
    for line in [
        &format!("{name}:1:11"),
        &format!("{name}:4:1"),
        &format!("{name}:6:1"),
        "6 | kernl = \"Image\"",
        "  = help: did you mean `kernel`?",
        &format!("{name}: 3 problems"),
    ] {
        assert!(
            err.lines().any(|found| found.trim_start_matches(" --> ") == line),
            "no {line:?} in\n{err}"
        );
    }
}

#[test]
fn what_is_no_text_or_no_file_is_said() {
    let (folder, path) = file(b"version = \xff\n");
    let (code, out, err) = words(&["check", path.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("byte 0xff at offset 10") && err.contains("boot.toml:1:11"),
        "{err}"
    );

    let (code, _, err) = words(&["check", folder.path().join("none").to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: ") && err.contains("none: No such file"),
        "{err}"
    );

    let (code, _, err) = words(&["check", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(err.contains("directory"), "{err}");

    let (code, _, err) = words(&["check", "/dev/zero"]);
    assert_eq!(code, 1);
    assert!(err.contains("longer than 256 KiB"), "{err}");
}

#[test]
fn a_name_need_not_be_utf_8() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(OsStr::from_bytes(b"b\xfft.toml"));
    fs::write(&path, GOOD).unwrap();
    let (code, out, _) = cato(&[OsStr::new("check"), path.as_os_str()]);
    assert_eq!(code, 0);
    assert!(out.ends_with("b\u{fffd}t.toml: ok, 1 entry\n"), "{out}");
}

#[test]
fn what_is_shown_back_drives_no_terminal() {
    for arguments in [
        &["check", "/nope\u{1b}[2J\nerror: K\u{e4}se"][..],
        &["mark-good", "A", "/nope\u{1b}[2J\nerror: K\u{e4}se"],
        &["check", "--\u{1b}[2J\nerror: K\u{e4}se"],
        &["\u{1b}[2J\nerror: K\u{e4}se"],
        &["rauc", "get-state", "A\u{1b}[2J\nerror: K\u{e4}se"],
    ] {
        let (_, _, err) = words(arguments);
        assert!(!err.contains('\u{1b}') && !err.contains("\nerror: K"), "{err}");
        assert!(
            err.contains("K\u{e4}se") || err.contains("not valid; a slot's name is"),
            "{err}"
        );
    }
}

#[test]
fn a_system_that_cato_did_not_boot_has_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("x.svg");
    let (code, out, err) = words(&["report", "--json", "--svg", picture.to_str().unwrap()]);
    assert_eq!((code, out.as_str()), (1, ""));
    // Whoever may not look is told that instead.
    assert!(
        err.starts_with("error: no hand-over record: ") || err.contains("only root can read it"),
        "{err}"
    );
    assert!(!picture.exists());
}

#[test]
fn help_and_version_are_on_stdout() {
    for help in [&["--help"][..], &["check", "--help"], &["report", "-h"]] {
        let (code, out, err) = words(help);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("usage: cato check FILE"), "{out}");
    }
    let (code, out, err) = words(&["--version"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with(concat!("cato ", env!("CARGO_PKG_VERSION"))), "{out}");
}

#[test]
fn arguments_without_a_sense_give_2_and_the_usage() {
    for (arguments, why) in [
        (&[][..], "no command given"),
        (&["chek", "x"][..], "unknown command `chek`"),
        (&["check"][..], "check: no FILE given"),
        (&["check", "--all"][..], "check: unknown option `--all`"),
        (&["check", "a", "b"][..], "check: more than one FILE given"),
        (&["--verbose"][..], "unknown option `--verbose`"),
        (&["report", "--xml"][..], "report: unknown option `--xml`"),
        (&["report", "file"][..], "report: unexpected `file`"),
        (&["report", "--svg"][..], "report: --svg: no FILE given"),
        (&["report", "--svg", "--json"][..], "report: --svg: no FILE given"),
    ] {
        let (code, out, err) = words(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(
            err.starts_with(&format!("cato: {why}\nusage: ")),
            "{arguments:?}: {err}"
        );
    }
}

/// What PID 1 hears of a worker that it could not hand a job: never nothing.
#[test]
fn a_worker_without_a_job_says_so_and_ends() {
    for job in [b"".as_slice(), b"\x00", b"boot a\n", &[0xff; 100]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_cato"))
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(job).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("no job from PID 1") && said.ends_with('\0'), "{said:?}");
    }
}

/// The exit code is what units and scripts go by: a log that is full or hangs does not change it.
#[test]
fn nobody_who_reads_stderr_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("state.img");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let run = |words: &[&str], stderr: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cato"));
        command.args(words).arg(&image).stderr(stderr);
        command.status().unwrap().code().unwrap()
    };
    assert_eq!(run(&["state", "init"], Stdio::null()), 0);
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    assert_eq!(run(&["mark-good", "ZZ"], full()), 3);
    assert_eq!(run(&["mark-good", "a/b"], full()), 2);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // As much as fits.
    writer.write_all(&vec![b'.'; 1 << 16]).unwrap();
    assert_eq!(run(&["mark-good", "ZZ"], writer.into()), 3);
}

/// On a terminal of its own, as `script` makes one, that answers like a VT100 of 80 columns.
#[test]
fn the_menu_is_shown_on_a_terminal() {
    let command = format!("{} menu --demo --failed", env!("CARGO_BIN_EXE_cato"));
    // What is awaited in vain ends with the terminal.
    let mut script = Command::new("timeout")
        .args(["60", "script", "-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut keys = script.stdin.take().unwrap();
    let mut screen = script.stdout.take().unwrap();
    let mut shown = Vec::new();
    let mut until = |wanted: &str| {
        while !String::from_utf8_lossy(&shown).contains(wanted) {
            let mut bytes = [0; 256];
            let count = screen.read(&mut bytes).unwrap();
            assert_ne!(count, 0, "it ended without {wanted:?}");
            shown.extend_from_slice(&bytes[..count]);
        }
        shown.clear();
    };
    let mut press = |key: &[u8]| {
        // Nobody presses two keys at once.
        sleep(Duration::from_millis(100));
        keys.write_all(key).unwrap();
    };
    // It asks where its cursor is, and for the last corner.
    until("\u{1b}[999;999H\u{1b}[6n");
    press(b"\x1b[1;2R\x1b[24;80R");
    until("\u{1b}[7m* 1  a");
    press(b"\x1b[B");
    until("\u{1b}[7m  2  b");
    press(b"\r");
    until("demo: \"b\" would be booted, this time");
    assert!(script.wait().unwrap().success());
}

#[test]
fn the_menu_without_a_machine_is_the_demonstration() {
    let (code, _, err) = words(&["menu"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("cato: menu: add --demo"), "{err}");
}
