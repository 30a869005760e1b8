//! `/init` of the service initramfs in `cargo qemu bench`, where that is not Cato itself: kexec-tools' boot stage, and
//! the sampler of memory in use beside either of them.
//!
//! Given the files named in the library; responsible for nothing in the way of what is measured: kexec-tools is started
//! as the first thing and nothing else runs. Where memory is sampled a second process does it, and what is measured
//! stays PID 1 (Cato) or its only other child (kexec-tools).

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest_bench::{ARGUMENTS, CATO, KEXEC, PROC, SAMPLE, in_use, line};
use nix::mount::{MsFlags, mount};
use nix::time::{ClockId, clock_gettime};

/// First argument of the sampler.
const SAMPLER: &str = "sample";

/// Between two samples.
const INTERVAL: Duration = Duration::from_millis(2);

/// Far more than a batch of pages that goes back to the allocator at a time.
const PAGES_FREED: usize = 32 << 20;

/// The peak is said again when it grew by this, KiB.
const STEP: u64 = 64;

fn main() {
    if std::env::args().nth(1).as_deref() == Some(SAMPLER) {
        let why = sample();
        say("failed", &format!("sampler: {why:?}"));
        return;
    }
    if let Err(why) = run() {
        say("failed", &why.to_string());
    }
    // PID 1 that returns panics the kernel, which ends the machine.
}

fn run() -> io::Result<()> {
    if fs::exists(SAMPLE)? {
        fs::create_dir_all(PROC)?;
        mount(Some("proc"), PROC, Some("proc"), MsFlags::empty(), None::<&str>)?;
        // The shortest per-CPU lists of free pages there are: what is in them counts as used, which after an initramfs
        // was freed is tens of megabytes that nobody uses.
        fs::write(format!("{PROC}/sys/vm/percpu_pagelist_high_fraction"), "1000000")?;
        let mut sampler = Command::new("/init").arg(SAMPLER).stdout(Stdio::piped()).spawn()?;
        // It says one byte when it has its first value.
        if let Some(mut ready) = sampler.stdout.take() {
            ready.read_exact(&mut [0])?;
        }
    }
    match fs::read_to_string(ARGUMENTS) {
        Ok(arguments) => kexec_tools(&arguments),
        Err(_) => Err(Command::new(CATO).exec()),
    }
}

fn kexec_tools(arguments: &str) -> io::Result<()> {
    say("start", "kexec-tools");
    for (kind, at) in [("proc", "/proc"), ("sysfs", "/sys")] {
        mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>)?;
    }
    say("load", &arguments.lines().collect::<Vec<_>>().join(" "));
    let begin = Instant::now();
    let status = Command::new(KEXEC).args(arguments.lines()).status()?;
    let took = begin.elapsed();
    if !status.success() {
        return Err(io::Error::other(format!("kexec -l: {status}")));
    }
    say("hand-off", &format!("loaded in {} ms", took.as_millis()));
    say("hand-off", "reboot(KEXEC) by kexec -e");
    let status = Command::new(KEXEC).arg("-e").status()?;
    Err(io::Error::other(format!("kexec -e came back: {status}")))
}

/// Samples for ever; says the highest value as it grows, since nobody tells it when the end is near.
fn sample() -> io::Result<()> {
    let meminfo = File::open(format!("{PROC}/meminfo"))?;
    let mut text = vec![0; 4096];
    let mut now = || -> io::Result<u64> {
        let read = meminfo.read_at(&mut text, 0)?;
        let text = String::from_utf8_lossy(text.get(..read).unwrap_or_default());
        in_use(&text).ok_or_else(|| io::Error::other("no MemAvailable in /proc/meminfo"))
    };
    // Freeing this brings the lists of free pages down to their new length; and the pages of this program are in place
    // before its first value counts.
    drop(std::hint::black_box(vec![1_u8; PAGES_FREED]));
    now()?;
    let mut said = now()?;
    // Standard output is the pipe to the one who waits.
    let mut console = io::stderr();
    let mut tell = |what: &str, value: u64| {
        let line = line(uptime(), "memory", &format!("{what} {value} kB"));
        console.write_all(format!("{line}\n").as_bytes())
    };
    tell("start", said)?;
    io::stdout().write_all(b"\n")?;
    io::stdout().flush()?;
    loop {
        thread::sleep(INTERVAL);
        let value = now()?;
        if value >= said.saturating_add(STEP) {
            said = value;
            tell("peak", value)?;
        }
    }
}

fn say(step: &str, text: &str) {
    // One write a line. There is nobody to tell of a console that fails.
    let _ = io::stderr().write_all(format!("{}\n", line(uptime(), step, text)).as_bytes());
}

/// Milliseconds since the kernel started, on the clock that Cato's lines have.
fn uptime() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
