//! How many instructions the purgatory's digests take for a byte: a number that is the same on a busy machine and an idle one.
//! `cargo bench --package purgatory --bench instructions`.
//!
//! This program starts itself again for each digest and has that child do one instruction after the other (ptrace(2)). No
//! simulator is needed, so the CPU's own SHA-256 instructions count like any other.

#![expect(clippy::print_stdout, clippy::arithmetic_side_effects, reason = "a bench")]

use std::error::Error;
use std::hint::black_box;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use purgatory::cpu::Cpu;
use purgatory::sha256::{Scalar, sha256, sha256_pair};
use purgatory::xxh3::xxh3;

/// Bytes of each of the two runs: enough for what comes once a chunk to be little, and half a minute of single steps in all.
const FAST: u32 = 64 << 10;
const SHA: u32 = 4 << 10;
/// First argument of the child.
const CHILD: &str = "--steps-of";

/// Digests two runs.
type Case = fn([&[u8]; 2]);

/// The first is what all of them take besides.
const CASES: [(&str, u32, Case); 6] = [
    ("nothing", SHA, |data| {
        black_box((Cpu::detect(), data));
    }),
    ("fast: xxh3, purgatory", FAST, |data| {
        let cpu = Cpu::detect();
        black_box(data.map(|bytes| xxh3(&cpu, bytes)));
    }),
    ("xxh3, plain Rust", FAST, |data| {
        black_box(data.map(|bytes| xxh3(&Scalar, bytes)));
    }),
    ("sha256: purgatory, two at a time", SHA, |data| {
        black_box(sha256_pair(&Cpu::detect(), data));
    }),
    ("sha256, purgatory, one at a time", SHA, |data| {
        let cpu = Cpu::detect();
        black_box(data.map(|bytes| sha256(&cpu, bytes)));
    }),
    ("sha256, plain Rust", SHA, |data| {
        black_box(data.map(|bytes| sha256(&Scalar, bytes)));
    }),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match args.as_slice() {
        [_, CHILD, name] => child(name),
        args if args.contains(&"--bench") => table(),
        // `cargo test --benches` wants to know that it starts.
        _ => Ok(()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn table() -> Result<(), Box<dyn Error>> {
    let mut nothing = None;
    println!("{:<36} {:>21}", "", "instructions per byte");
    for (name, bytes, _) in CASES {
        let count = steps(name)?;
        let Some(nothing) = nothing else {
            nothing = Some(count);
            continue;
        };
        let count = u32::try_from(count.saturating_sub(nothing))?;
        println!("{name:<36} {:>21.3}", f64::from(count) / f64::from(2 * bytes));
    }
    Ok(())
}

/// Instructions that a child takes from its first signal to its second.
fn steps(name: &str) -> Result<u64, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    let child = command.arg0("steps").args([CHILD, name]).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        other => return Err(format!("{name}: {other:?} instead of a stop").into()),
    }
    let mut count = 0_u64;
    loop {
        ptrace::step(pid, None)?;
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => count += 1,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break,
            other => return Err(format!("{name}: {other:?} instead of a step").into()),
        }
    }
    ptrace::cont(pid, None)?;
    match waitpid(pid, None)? {
        WaitStatus::Exited(_, 0) => Ok(count),
        other => Err(format!("{name}: {other:?} instead of an end").into()),
    }
}

fn child(name: &str) -> Result<(), Box<dyn Error>> {
    let (_, bytes, case) = CASES.iter().find(|(n, ..)| *n == name).ok_or("no such digest")?;
    let data: Vec<u8> = (0..bytes / 2)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let (a, b) = data.split_at(data.len() / 2);
    // Finding out what the CPU can do is not to count.
    black_box(Cpu::detect());
    ptrace::traceme()?;
    raise(Signal::SIGSTOP)?;
    case(black_box([a, b]));
    raise(Signal::SIGSTOP)?;
    Ok(())
}
