//! Every reader of what comes from outside, fed with what libFuzzer thinks of. What it finds stays in the scenario's folder.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail, ensure};
use qemu::scenario::{Context, Scenario};
use qemu::setup::packages::{self, Need};
use qemu::workspace;

/// For each target, seconds.
const TIME: u32 = 20;
/// For one input, seconds; and for the process, MiB. What a target itself may take is less.
const INPUT: u32 = 10;
const MEMORY: u32 = 1536;
/// What libFuzzer wants to hear from the program. The stable compiler has the pass, and no name for it.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Lines of libFuzzer's last words: the panic, its stack and what the input was written to.
const LINES: usize = 60;

/// A target has a folder of inputs (`stage/fuzz/tests/corpus.rs` sees to it).
fn corpus() -> PathBuf {
    workspace::root().join("stage/fuzz/corpus")
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut targets: Vec<OsString> = fs::read_dir(corpus())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    targets.sort();
    let scenario = |target: OsString| {
        let name = format!("fuzz/{}", target.display());
        Scenario::new(name, move |context| search(context, &target)).long_if(true)
    };
    targets.into_iter().map(scenario).collect()
}

fn search(context: &Context, target: &OsString) -> Result<()> {
    static PROGRAM: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| build().map_err(|error| format!("{error:#}")));
    let program = PROGRAM.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
    let new = context.folder.join("new");
    fs::create_dir(&new)?;
    let output = Command::new(program)
        .arg(format!("-max_total_time={TIME}"))
        .arg(format!("-timeout={INPUT}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", context.folder.display()))
        .args([&new, &corpus().join(target)])
        .env("CATO_FUZZ", target)
        .env("RUST_BACKTRACE", "1")
        .current_dir(&context.folder)
        .output()
        .with_context(|| format!("can't start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    fs::write(context.folder.join("libfuzzer.log"), said.as_bytes())?;
    if output.status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
    bail!("libFuzzer ended with {}\n{}", output.status, last.join("\n"))
}

/// Builds the program for this machine. With `--target` what runs while it is built has no coverage.
fn build() -> Result<PathBuf> {
    packages::ensure(&Need {
        arches: Vec::new(),
        firmware: Vec::new(),
        images: false,
        compiler: true,
    })?;
    let rustc = run(Command::new("rustc").arg("-vV"))?;
    let rustc = String::from_utf8_lossy(&rustc.stdout);
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it runs on")?;
    let folder = workspace::target("fuzz");
    run(
        Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args([
                "build",
                "--package",
                "fuzz",
                "--bin",
                "libfuzzer",
                "--features",
                "libfuzzer",
            ])
            .args(["--profile", "fuzz", "--target", host])
            .env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.replace(' ', "\x1f"))
            .env("CARGO_TARGET_DIR", &folder)
            .current_dir(workspace::root()),
    )?;
    Ok(Path::new(&folder).join(host).join("fuzz/libfuzzer"))
}

fn run(command: &mut Command) -> Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {}", command.get_program().display()))?;
    ensure!(
        output.status.success(),
        "{} failed:\n{}",
        command.get_program().display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
