//! Whole boots, one kind a file. `cargo qemu test` runs them; `cargo test` alone starts no machine.

#![expect(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "host tool: it talks to people, and its numbers are its own"
)]

use std::process::ExitCode;

use clap::Parser;
use qemu::scenario::{self, RunArgs, Scenario, also_in_segments};

mod arena;
mod bad_input;
mod between;
mod bootable;
mod consoles;
mod contract;
mod corruption;
mod debian;
mod device_tree;
mod disks;
mod faults;
mod firmware_by_suite;
mod format;
mod fuzz;
mod initrd;
mod last_words;
mod line;
mod machines;
mod menu;
mod modules;
mod odd_disks;
mod packing;
mod power_cut;
mod rauc;
mod reason;
mod refused;
mod repeat;
mod report;
mod reset;
mod service_kernel;
mod slots;
mod soak;
mod state_io;
mod stuck_disk;
mod terminal;
mod watchdog;

#[derive(Parser, Debug)]
struct Cli {
    #[command(flatten)]
    run: RunArgs,
}

fn all() -> Vec<Scenario> {
    // Where the payload waits for the jump matters to these: each is run once more with segments, for `--long`.
    let booting = [
        contract::scenarios(),
        firmware_by_suite::scenarios(),
        machines::scenarios(),
        device_tree::scenarios(),
        format::scenarios(),
        initrd::scenarios(),
        bad_input::scenarios(),
        faults::scenarios(),
        stuck_disk::scenarios(),
        debian::scenarios(),
    ];
    // It does not to what comes before the payload is read or after it has gone.
    let others = [
        packing::scenarios(),
        bootable::scenarios(),
        service_kernel::scenarios(),
        fuzz::scenarios(),
        disks::scenarios(),
        odd_disks::scenarios(),
        power_cut::scenarios(),
        corruption::scenarios(),
        reason::scenarios(),
        modules::scenarios(),
        refused::scenarios(),
        arena::scenarios(),
        repeat::scenarios(),
        report::scenarios(),
        reset::scenarios(),
        consoles::scenarios(),
        menu::scenarios(),
        line::scenarios(),
        terminal::scenarios(),
        slots::scenarios(),
        soak::scenarios(),
        last_words::scenarios(),
        rauc::scenarios(),
        state_io::scenarios(),
        watchdog::scenarios(),
    ];
    let booting = booting.into_iter().flat_map(also_in_segments);
    others.into_iter().flatten().chain(booting).collect()
}

fn main() -> ExitCode {
    let (asked, args): (Vec<_>, Vec<_>) = std::env::args_os().partition(|arg| arg == scenario::START);
    if asked.is_empty() {
        println!("scenarios: {} of them, for `cargo qemu test`", all().len());
        return ExitCode::SUCCESS;
    }
    scenario::run(&all(), &Cli::parse_from(args).run)
}
