//! `cargo qemu test`: the host tests, then the scenarios.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde_json::Value;

use crate::scenario::{START, Tally, cpus};
use crate::{guests, setup, workspace};

/// Runs the workspace's tests, then whole boots in virtual machines.
///
/// Each scenario has a deadline; one that fails leaves its console in target/qemu-logs. The last line is the sum, and
/// the exit code is 0 only if nothing failed. A scenario that is only run with --long counts as skipped.
#[derive(Args, Debug, Clone)]
pub struct TestArgs {
    /// All of the matrix, not just the sample for every day.
    #[arg(long)]
    pub long: bool,
    /// Only names the scenarios that would run.
    #[arg(long)]
    pub list: bool,
    /// Leaves the host tests out.
    #[arg(long)]
    pub no_host: bool,
    /// Scenarios at the same time; as many as there are CPUs when not given.
    #[arg(long, default_value_t = cpus())]
    pub jobs: usize,
    /// Only scenarios whose name contains one of these; no host tests then.
    pub filter: Vec<String>,
}

/// Runs them, and returns whether all went well.
pub fn run(args: &TestArgs) -> Result<bool> {
    let mut options = vec![START.to_owned(), "--jobs".to_owned(), args.jobs.to_string()];
    if args.long {
        options.push("--long".into());
    }
    if args.list {
        options.push("--list".into());
    } else {
        setup::all()?;
        if !args.no_host && args.filter.is_empty() {
            let tally = host_tests()?;
            options.extend(["--host".to_owned(), tally.to_argument()]);
        }
    }
    options.extend(args.filter.iter().cloned());
    eprintln!("building the scenarios ...");
    let program = build_scenarios()?;
    if !args.list {
        eprintln!("building Cato and the guests ...");
        guests::all()?;
    }
    let status = Command::new(&program)
        .args(options)
        .status()
        .with_context(|| format!("can't start {}", program.display()))?;
    Ok(status.success())
}

/// Builds the scenarios and returns the program: run by cargo, it would not have the last word.
fn build_scenarios() -> Result<PathBuf> {
    let output = cargo()
        .args(["test", "--no-run", "--package", "qemu", "--test", "scenarios"])
        .args(["--message-format", "json-render-diagnostics"])
        .stderr(Stdio::inherit())
        .output()
        .context("can't start cargo")?;
    ensure!(output.status.success(), "the scenarios can't be built");
    executable(&String::from_utf8_lossy(&output.stdout)).context("cargo built no program called scenarios")
}

/// The scenarios' program in cargo's messages, one JSON object a line. Cargo builds this package's own program too, and
/// names the two in any order.
fn executable(messages: &str) -> Option<PathBuf> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| message.pointer("/target/name").and_then(Value::as_str) == Some("scenarios"))
        .find_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
}

/// `cargo test` of the whole workspace, shown and counted, with the figures that tests print.
fn host_tests() -> Result<Tally> {
    let mut child = cargo()
        .args(["test", "--workspace", "--", "--show-output"])
        .stdout(Stdio::piped())
        .spawn()
        .context("can't start cargo")?;
    let mut output = String::new();
    let mut is_told_again = false;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if is_news(&line, &mut is_told_again) {
                println!("{line}");
            }
            output.push_str(&line);
            output.push('\n');
        }
    }
    let mut tally = Tally::of_cargo_test(&output);
    if !child.wait()?.success() && tally.failed == 0 {
        // It did not even build.
        tally.failed = 1;
    }
    Ok(tally)
}

/// With `--show-output`, what tests that passed have printed comes behind the tests, each under its name, and all names again:
/// of that only what they printed is news, and not what is indented, which cargo prints where a test builds something.
fn is_news(line: &str, is_told_again: &mut bool) -> bool {
    if line == "successes:" {
        *is_told_again = true;
    } else if line == "failures:" || line.starts_with("test result: ") {
        *is_told_again = false;
    }
    let is_name = line.is_empty() || line == "successes:" || line.starts_with(' ') || line.ends_with(" stdout ----");
    !(*is_told_again && is_name)
}

/// The cargo this program was started by, in the checkout.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_and_nothing_twice() {
        let output = "
running 2 tests
test a ... ok
test b ... FAILED

successes:

---- a stdout ----
7 of 7 cuts


successes:
    a

failures:

---- b stdout ----
no

failures:
    b

test result: FAILED. 1 passed; 1 failed; 0 ignored";
        let mut is_told_again = false;
        let shown: Vec<&str> = output
            .lines()
            .filter(|line| is_news(line, &mut is_told_again))
            .collect();
        let expected = "
running 2 tests
test a ... ok
test b ... FAILED

7 of 7 cuts
failures:

---- b stdout ----
no

failures:
    b

test result: FAILED. 1 passed; 1 failed; 0 ignored";
        assert_eq!(shown.join("\n"), expected);
    }

    #[test]
    fn the_program_is_found_in_cargo_s_messages() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
{"reason":"compiler-artifact","target":{"name":"scenarios"},"executable":"/t/deps/scenarios-1"}
{"reason":"compiler-artifact","target":{"name":"qemu"},"executable":"/t/qemu"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some("/t/deps/scenarios-1".into()));
        assert_eq!(executable("no json"), None);
    }
}
