//! PID 1: console, deadlines, watchdog, last resorts. Nothing here blocks, and nothing here ends but by a reset.
//!
//! Given the initramfs; responsible for deciding ([`policy`]) and for running one child at a time, which does all that
//! may hang: the worker that boots an entry, the call that drops a loaded image, `reboot(2)`.

mod child;
mod console;
mod event;
mod policy;
mod slots;
mod watchdog;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use config::{Arch, Config, paths};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::time::{ClockId, clock_gettime};

use crate::deadlines;
use crate::machine::service;
use crate::text::printable;
use child::Children;
use console::Console;
use event::{Action, Event};
use policy::{Millis, Policy};
use watchdog::Watchdogs;

/// Runs the box. Returns only as `!`: there is nothing to return to.
pub fn run() -> ! {
    let began_us = boottime_us();
    std::panic::set_hook(Box::new(|info| {
        let mut console = Console::open();
        console.print(&log_line("panic", &format!("{info}; resetting the machine")));
        reset(&mut console)
    }));
    let _ = set_cad_enabled(false); // Ctrl-Alt-Del: a reset key on an unattended box; not fatal where it fails
    let mounts = crate::probe::mount_basics();
    let mut console = Console::open();
    console.print(&log_line("start", concat!("cato ", env!("CARGO_PKG_VERSION"))));
    for problem in mounts {
        console.print(&log_line("start", &problem.to_string()));
    }
    let config = read_config(&mut console);
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    warn_of_service(&mut console, &cmdline);
    let hangs = crate::text::cmdline::value(&cmdline, "cato.fault") == Some("pid1:hang");
    let mut supervisor = Supervisor {
        console,
        policy: Policy::new(config, began_us).testing(crate::text::cmdline::flag(&cmdline, "cato.wdtest")),
        children: Children::default(),
        watchdogs: Watchdogs::default(),
        signals: child_signals(),
        is_quiet: service::is_quiet(&cmdline),
    };
    loop {
        supervisor.turn();
        // A fault for the tests, as those of the worker: nothing is fed from here on.
        while hangs && supervisor.watchdogs.is_any_open() {
            std::thread::park();
        }
    }
}

struct Supervisor {
    console: Console,
    policy: Policy,
    children: Children,
    watchdogs: Watchdogs,
    signals: Option<SignalFd>,
    is_quiet: bool,
}

impl Supervisor {
    /// Waits for something, at most until the next deadline, and acts on it.
    fn turn(&mut self) {
        self.wait();
        for key in self.console.keys() {
            self.happened(Event::Key(key));
        }
        let generation = self.children.generation();
        for event in self.children.events() {
            if self.children.generation() == generation {
                self.happened(event);
            }
        }
        self.happened(Event::Tick);
        self.console.flush();
    }

    fn wait(&mut self) {
        // A clock that stands still must not make it longer.
        let left = Duration::from_millis(self.policy.wake().map_or(0, |wake| wake.saturating_sub(now())));
        let left = left.min(deadlines::TICK);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = heapless::Vec::<PollFd<'_>, 3>::new();
        let console = self.console.fd();
        let has_console = console.is_some();
        if let Some(fd) = console {
            let room = if self.console.wants_room() {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            let _ = fds.push(PollFd::new(fd, PollFlags::POLLIN | room));
        }
        if let Some(fd) = self.children.messages() {
            let _ = fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        if let Some(signals) = &self.signals {
            let _ = fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        }
        let hung_up = match poll(&mut fds, timeout) {
            Ok(_) if has_console => fds
                .first()
                .and_then(PollFd::revents)
                .is_some_and(|r| r.contains(PollFlags::POLLHUP)),
            Ok(_) | Err(_) => false, // EINTR: the loop comes round
        };
        // After the wait and before the look at the children: one that ends from here on wakes the next wait.
        if let Some(signals) = &self.signals {
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        if hung_up {
            std::thread::sleep(left.min(deadlines::HUNG_UP));
        }
    }

    fn happened(&mut self, event: Event) {
        for action in self.policy.on(now(), event) {
            match action {
                Action::Log(step, text) => self.log(step, &text),
                Action::Give(job) => {
                    if let Err(error) = self.children.give(&job) {
                        self.happened(Event::NotStarted(error.to_string()));
                    }
                }
                Action::Feed => {
                    for line in self.watchdogs.adopt(Path::new("/")) {
                        self.log("watchdog", &line);
                    }
                    self.watchdogs.feed();
                }
                Action::Arm => {
                    for line in self.watchdogs.arm(Path::new("/")) {
                        self.log("watchdog", &line);
                    }
                }
                Action::HandOff(timeout) => {
                    for line in self.watchdogs.hand_off(Path::new("/"), timeout) {
                        self.log("watchdog", &line);
                    }
                }
                Action::Kill => self.children.kill(),
                Action::Abandon => self.children.abandon(),
                Action::Go => {
                    if !self.is_quiet {
                        self.console.drain(deadlines::JUMP_WORDS);
                    }
                    self.children.go();
                }
                Action::Reset => reset(&mut self.console),
            }
        }
    }

    fn log(&mut self, step: &str, text: &str) {
        self.console.print(&log_line(step, text));
    }
}

/// `cato[   2.345] step: text`, seconds since boot. The only way to the console, and so where texts are cleaned: they may be
/// a worker's, a disk's or a file's.
fn log_line(step: &str, text: &str) -> String {
    format!("{}{}", prefix(step), printable(text))
}

fn prefix(step: &str) -> String {
    let now = now();
    format!("cato[{:4}.{:03}] {step}: ", now / 1000, now % 1000)
}

/// Milliseconds since boot.
fn now() -> Millis {
    boottime_us() / 1000
}

/// Microseconds since boot; 0 if the kernel has no such clock, which stops deadlines but not children.
fn boottime_us() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|t| u64::try_from(Duration::from(t).as_micros()).ok())
        .unwrap_or(0)
}

fn child_signals() -> Option<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().ok()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()
}

fn read_config(console: &mut Console) -> Option<Config> {
    let bytes = match fs::read(paths::CONFIG) {
        Ok(bytes) => bytes,
        Err(error) => {
            console.print(&log_line("config", &format!("{}: {error}", paths::CONFIG)));
            return None;
        }
    };
    let reading = config::read(&bytes);
    for line in reading.render(paths::CONFIG).lines() {
        // The config's own drawing, cleaned by it: its marks would not be below what they mark any more.
        console.print(&format!("{}{line}", prefix("config")));
    }
    reading.config
}

fn warn_of_service(console: &mut Console, cmdline: &str) {
    for line in Arch::running()
        .into_iter()
        .flat_map(|arch| service::missing(arch, cmdline))
    {
        console.print(&log_line("warning", &line));
    }
}

/// The machine starts again, one way or another: sysrq-b, which waits for nothing; then `reboot(2)`; then nobody feeds
/// the watchdog.
fn reset(console: &mut Console) -> ! {
    console.drain(deadlines::LAST_WORDS);
    // Each is tried because the one before it failed; there is no one left to tell but the console.
    if let Err(error) = fs::write("/proc/sysrq-trigger", "b") {
        console.print(&log_line(
            "last-resort",
            &format!("sysrq-b: {error}; calling reboot(2)"),
        ));
    }
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        std::thread::park();
    }
}
