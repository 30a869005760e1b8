//! `cato`: as PID 1 the boot stage, called by name the tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    stage::cli::run(std::env::args_os().skip(1))
}
