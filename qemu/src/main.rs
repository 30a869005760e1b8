//! `cargo qemu`: the machines Cato is tried on.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Starts Cato in virtual machines, with real firmware and real kernels.
#[derive(Parser, Debug)]
#[command(name = "cargo qemu", bin_name = "cargo qemu", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand, Debug)]
enum Cmd {
    /// Installs the Debian packages that are missing and fetches the kernels the tests boot.
    ///
    /// As root it installs; for anyone else it prints the one command to run. The kernels go to target/kernels through
    /// an apt state of their own: nothing in the host's apt configuration changes. `boot` and `test` do what they need
    /// of this by themselves.
    Setup,
    Boot(Box<qemu::boot::BootArgs>),
    Bench(qemu::bench::BenchArgs),
    Test(qemu::test::TestArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Cmd::Setup => qemu::setup::all().map(|()| true),
        Cmd::Boot(args) => qemu::boot::run(&args),
        Cmd::Bench(args) => qemu::bench::run(&args).map(|()| true),
        Cmd::Test(args) => qemu::test::run(&args),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
