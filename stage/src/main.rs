//! `cato`: as PID 1 the boot stage, called by name the tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    if nix::unistd::getpid().as_raw() == 1 {
        stage::supervisor::run()
    }
    let mut args = std::env::args_os().skip(1).peekable();
    match args.next_if(|first| first == stage::worker::FLAG) {
        Some(_) => stage::worker::main(),
        None => stage::cli::run(args),
    }
}
