//! The lines that the manual of the main system gives for a shell, run as they are printed there.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test helpers")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

const MANUAL: &str = include_str!("../main-system/README.md");
/// The health check that stands for the reader's own.
const CHECK: &str = "/usr/bin/my-health-check";
/// The programs that the lines start.
const PROGRAMS: [&str; 4] = ["cato", "reboot", "sleep", "my-health-check"];

/// The line in the last column of the row `what`.
fn line(what: &str) -> String {
    let row = MANUAL.lines().find(|line| line.starts_with(&format!("| {what} |")));
    let row = row.unwrap_or_else(|| panic!("no row {what:?}"));
    // The shell's bars are not those of the table.
    let row = row.replace("\\|", "\0");
    let cell = row.rsplit('|').nth(1).unwrap();
    let code = cell.split('`').nth(1).unwrap_or_else(|| panic!("no line in {cell:?}"));
    code.replace('\0', "|")
}

/// Runs `line` with programs that do what `bodies` say, or nothing; what was started, and the exit code.
fn run(line: &str, bodies: &[(&str, &str)]) -> (Vec<String>, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::write(&log, "").unwrap();
    for program in PROGRAMS {
        let path = folder.path().join(program);
        let own = bodies.iter().find(|(name, _)| *name == program);
        let body = own.map_or("exit 0", |(_, body)| body);
        fs::write(&path, format!("#!/bin/sh\necho {program} \"$@\" >>log\n{body}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }
    let shell = |text: &str| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", text]).env_clear().env("PATH", folder.path());
        command.current_dir(folder.path()).stdin(Stdio::null());
        command
    };
    // Never this machine's own.
    for program in PROGRAMS {
        let found = shell(&format!("command -v {program}")).output().unwrap();
        let found = String::from_utf8(found.stdout).unwrap();
        assert_eq!(Path::new(found.trim()), folder.path().join(program));
    }
    let line = line.replace(CHECK, "my-health-check");
    assert!(!line.contains('/'), "{line}: not from PATH");
    // Its exit code, or what it has left in the background.
    let status = shell(&format!("{line}\ncode=$?\nwait\nexit $code"))
        .stderr(Stdio::null())
        .status()
        .unwrap();
    let log = fs::read_to_string(log).unwrap();
    (
        log.lines().map(|line| line.trim_end().to_owned()).collect(),
        status.code(),
    )
}

/// What ends like that the first time, and well the second.
fn once(failed: &str) -> String {
    format!("if [ -e failed ]; then exit 0; else : >failed; {failed}; fi")
}

#[test]
fn a_trial_that_is_over_reboots_and_nothing_else_does() {
    let line = line("trial deadline");
    assert!(line.ends_with('&'), "{line}: the start would wait for it");
    // It is begun again until there is an answer.
    for failed in [
        "exit 1",
        "exit 2",
        "exit 3",
        "exit 5",
        "exit 127",
        "kill -9 $$",
        "kill $$",
        "kill -6 $$",
    ] {
        let (started, code) = run(&line, &[("cato", &once(failed))]);
        assert_eq!(started, ["cato trial", "sleep 10", "cato trial"], "{failed}");
        assert_eq!(code, Some(0), "{failed}");
    }
    assert_eq!(run(&line, &[]), (vec!["cato trial".to_owned()], Some(0)));
    // Where it does not go down by itself, it is made to, by a shell that ends at an error, too.
    for reboot in ["exit 0", "exit 1", "kill -9 $$"] {
        for line in [&line, &format!("set -e; {line}")] {
            let (mut started, code) = run(line, &[("cato", &once("exit 4")), ("reboot", reboot)]);
            started.truncate(4);
            assert_eq!(started, ["cato trial", "reboot", "sleep 60", "reboot -f"], "{reboot}");
            assert_eq!(code, Some(0), "{reboot}");
        }
    }
}

#[test]
fn a_mark_is_made_once_the_check_has_passed_and_tried_once_more() {
    let line = line("mark good");
    assert!(line.starts_with(CHECK), "{line}: not the check first");
    let check = "my-health-check";
    let mark = "cato mark-good";

    assert_eq!(run(&line, &[]), (vec![check.to_owned(), mark.to_owned()], Some(0)));
    for failed in ["exit 1", "kill -9 $$"] {
        let (started, code) = run(&line, &[(check, failed)]);
        assert_eq!(started, [check], "{failed}");
        assert_ne!(code, Some(0), "{failed}");

        let (started, code) = run(&line, &[("cato", failed)]);
        assert_eq!(started, [check, mark, "sleep 10", mark], "{failed}");
        assert_ne!(code, Some(0), "{failed}");
    }
    let (started, code) = run(&line, &[("cato", &once("exit 1"))]);
    assert_eq!(started, [check, mark, "sleep 10", mark]);
    assert_eq!(code, Some(0));
}
