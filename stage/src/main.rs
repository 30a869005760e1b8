//! `cato`: as PID 1 the boot stage, called by name the tool.

use std::process::ExitCode;

/// The name under which it is RAUC's custom boot loader backend: a link to it.
const RAUC_BACKEND: &str = "cato-rauc";

fn main() -> ExitCode {
    if nix::unistd::getpid().as_raw() == 1 {
        stage::supervisor::run()
    }
    let mut args = std::env::args_os();
    // RAUC starts its backend by path and gives it nothing but the request.
    let is_backend = args
        .next()
        .is_some_and(|own| std::path::Path::new(&own).ends_with(RAUC_BACKEND));
    let request = is_backend.then(|| "rauc".into());
    let mut args = request.into_iter().chain(args).peekable();
    match args.next_if(|first| first == stage::worker::FLAG) {
        Some(_) => stage::worker::main(),
        None => stage::cli::run(args),
    }
}
