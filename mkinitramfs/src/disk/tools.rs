//! The programs that make and change file systems.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The time stamp of everything: 2020-09-13, late enough for FAT.
pub const EPOCH: &str = "1600000000";

/// A command from the folders a system administrator's tools are in, whatever `PATH` the user has.
pub fn tool(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .env("E2FSPROGS_FAKE_TIME", EPOCH)
        .env("MTOOLS_SKIP_CHECK", "1")
        // FAT has local time.
        .env("TZ", "UTC")
        .env("LC_ALL", "C");
    command
}

/// Runs it; an error is what it said.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs it and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {name}; e2fsprogs, dosfstools and mtools bring what most images need, and `cargo qemu setup` all of it"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said: Vec<&OsStr> = command.get_args().collect();
    bail!(
        "{name} failed ({}): {}{}\nits arguments: {said:?}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    )
}
