//! PID 1: consoles, deadlines, watchdog, last resorts. Nothing here blocks, and nothing here ends but by a reset.
//!
//! Given the initramfs; responsible for deciding ([`policy`]) and for running one child at a time, which does all that
//! may hang: the worker that boots an entry, the call that drops a loaded image, `reboot(2)`.

mod child;
mod console;
mod event;
mod policy;
mod slots;
mod watchdog;

use std::collections::VecDeque;
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
use crate::menu::view::{Told, View, Wait};
use crate::menu::{Command, Effect, Menu, Place, Topic, Use};
use crate::text::printable;
use crate::worker::message::{Lent, Loan};
use child::Children;
use console::Consoles;
use event::{Action, Event};
use policy::{Millis, Policy};
use watchdog::Watchdogs;

/// Runs the box. Returns only as `!`: there is nothing to return to.
///
/// # Panics
/// Where `cato.fault=pid1:panic` asks for it; a panic resets the machine. `pid1:no-memory` ends it without one, and the kernel panics.
pub fn run() -> ! {
    let began_us = boottime_us();
    std::panic::set_hook(Box::new(|info| {
        let mut consoles = Consoles::open();
        consoles.print(&log_line("panic", &format!("{info}; resetting the machine")), None);
        reset(&mut consoles)
    }));
    let _ = set_cad_enabled(false); // Ctrl-Alt-Del: a reset key on an unattended box; not fatal where it fails
    let mounts = crate::probe::mount_basics();
    let mut log = Log {
        consoles: Consoles::open(),
        kept: VecDeque::new(),
        bytes: 0,
    };
    log.say("start", concat!("cato ", env!("CARGO_PKG_VERSION")));
    // A BREAK on a serial console and a letter would reset the machine (Documentation/admin-guide/sysrq.rst). What is written to
    // /proc/sysrq-trigger still counts.
    let _ = fs::write("/proc/sys/kernel/sysrq", "0");
    for problem in mounts {
        log.say("start", &problem.to_string());
    }
    let config = read_config(&mut log, paths::CONFIG);
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    warn_of_service(&mut log, &cmdline);
    let console = config.as_ref().map(|config| config.console.clone()).unwrap_or_default();
    for name in log.consoles.only(&console.devices) {
        log.say(
            "warning",
            &format!("[console] devices: there is no terminal /dev/{name}; going on without it"),
        );
    }
    let menu = Menu::new(log.consoles.names(), console);
    // Faults for the tests, as those of the worker.
    let fault = crate::text::cmdline::value(&cmdline, "cato.fault");
    let mut supervisor = Supervisor {
        log,
        menu,
        policy: Policy::new(config, began_us).testing(crate::text::cmdline::flag(&cmdline, "cato.wdtest")),
        children: Children::default(),
        watchdogs: Watchdogs::default(),
        signals: child_signals(),
        is_quiet: service::is_quiet(&cmdline),
        has_shell: Path::new(paths::SHELL).exists(),
    };
    loop {
        supervisor.turn();
        match fault {
            // Nothing is fed from here on.
            Some("pid1:hang") => {
                while supervisor.watchdogs.is_any_open() {
                    std::thread::park();
                }
            }
            #[expect(clippy::panic, reason = "asked for")]
            Some("pid1:panic") => panic!("cato.fault"),
            Some("pid1:no-memory") => {
                std::hint::black_box(Vec::<u8>::with_capacity(isize::MAX.unsigned_abs()));
            }
            _ => {}
        }
    }
}

/// Where lines go: to the consoles, to the kernel's log, and into memory, for the menu.
struct Log {
    consoles: Consoles,
    /// The latest lines.
    kept: VecDeque<String>,
    bytes: usize,
}

/// Bytes of lines that are kept.
const KEPT: usize = 64 * 1024;

impl Log {
    /// Prints a line of this step on every console.
    fn say(&mut self, step: &str, text: &str) {
        self.print(log_line(step, text), None);
    }

    fn print(&mut self, line: String, but: Option<Place>) {
        self.consoles.print(&line, but);
        self.bytes = self.bytes.saturating_add(line.len());
        self.kept.push_back(line);
        while self.bytes > KEPT
            && let Some(first) = self.kept.pop_front()
        {
            self.bytes = self.bytes.saturating_sub(first.len());
        }
    }
}

struct Supervisor {
    log: Log,
    menu: Menu,
    policy: Policy,
    children: Children,
    watchdogs: Watchdogs,
    signals: Option<SignalFd>,
    is_quiet: bool,
    /// The initramfs carries one.
    has_shell: bool,
}

impl Supervisor {
    /// Waits for something, at most until the next deadline, and acts on it.
    fn turn(&mut self) {
        self.wait();
        let generation = self.children.generation();
        for event in self.children.events() {
            if self.children.generation() == generation {
                self.happened(event);
            }
        }
        // After what the child has said: whoever stops it has to know how far it is.
        for place in self.log.consoles.reopened() {
            self.menu.repaint(place);
        }
        let mut view = self.view();
        // What comes at once has one time, whatever comes of each key.
        let at = now();
        for (place, key) in self.log.consoles.keys(at) {
            let effects = self.menu.press(at, place, key, &view);
            if !effects.is_empty() {
                for effect in effects {
                    self.does(effect);
                }
                view = self.view();
            }
        }
        for effect in self.menu.tick(now(), &view) {
            self.does(effect);
        }
        self.happened(Event::Tick);
        // One that has not taken the last picture gets the next when it has.
        if self.menu.place().is_some_and(|place| self.log.consoles.has_room(place))
            && let Some(effect) = self.menu.refresh(now(), &self.view())
        {
            self.does(effect);
        }
        self.log.consoles.flush();
    }

    /// What the menu needs to know: nearly nothing where nobody has it.
    fn view(&self) -> View {
        if self.menu.place().is_some() {
            return View {
                has_shell: self.has_shell,
                ..self.policy.view()
            };
        }
        View {
            wait: self.policy.waits(),
            ..View::default()
        }
    }

    fn does(&mut self, effect: Effect) {
        match effect {
            Effect::Send(place, text) => self.log.consoles.send(place, &text),
            Effect::Tell(text) => self.log("prompt", &text),
            Effect::Do(Command::Look(Topic::Log)) => {
                self.menu.show(self.log.kept.iter().cloned().map(Told::from).collect());
            }
            Effect::Do(Command::Lend(lent)) => {
                if let Some(loan) = self.loan(lent) {
                    self.happened(Event::Asks(loan));
                }
            }
            Effect::Do(command) => self.happened(Event::Wants(command)),
        }
    }

    /// What a child is to do with the console of whoever has the menu.
    fn loan(&self, lent: Use) -> Option<Loan> {
        let what = match lent {
            Use::Receive => Lent::Receive,
            Use::SendLog => {
                let lines: Vec<&str> = self.log.kept.iter().map(String::as_str).collect();
                Lent::Send(lines.join("\n"))
            }
            Use::Shell => Lent::Shell,
        };
        let tty = self.log.consoles.name(self.menu.place()?)?.to_owned();
        Some(Loan { tty, what })
    }

    fn wait(&mut self) {
        // A clock that stands still must not make it longer.
        let now = now();
        let wake = self.policy.wake().unwrap_or(now);
        let others = [self.menu.wake(now), self.log.consoles.wake()];
        let wake = others.into_iter().flatten().fold(wake, Millis::min);
        let left = Duration::from_millis(wake.saturating_sub(now)).min(deadlines::TICK);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = heapless::Vec::<PollFd<'_>, { console::MOST + 2 }>::new();
        let mut places = heapless::Vec::<Place, { console::MOST }>::new();
        for (place, fd, wants_room) in self.log.consoles.fds(now) {
            let room = if wants_room {
                PollFlags::POLLOUT
            } else {
                PollFlags::empty()
            };
            let _ = fds.push(PollFd::new(fd, PollFlags::POLLIN | room));
            let _ = places.push(place);
        }
        if let Some(fd) = self.children.messages() {
            let _ = fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        if let Some(signals) = &self.signals {
            let _ = fds.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        }
        // EINTR: the loop comes round.
        let has_waited = poll(&mut fds, timeout).is_ok();
        let hung_up = |fd: &PollFd<'_>| fd.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
        let mut lost = heapless::Vec::<Place, { console::MOST }>::new();
        lost.extend(
            places
                .iter()
                .zip(&fds)
                .filter(|(_, fd)| has_waited && hung_up(fd))
                .map(|(place, _)| *place),
        );
        drop(fds);
        // After the wait and before the look at the children: one that ends from here on wakes the next wait.
        if let Some(signals) = &self.signals {
            while let Ok(Some(_)) = signals.read_signal() {}
        }
        for place in lost {
            self.log.consoles.hung_up(place, now);
        }
    }

    fn happened(&mut self, event: Event) {
        let actions = self.policy.on(now(), event);
        let is_reset = actions.contains(&Action::Reset);
        if (is_reset || self.policy.waits() == Wait::Child)
            && let Some(Effect::Send(place, text)) = self.menu.goes_on(is_reset)
        {
            self.log.consoles.send(place, &text);
        }
        if self.policy.lent().is_none() {
            // Before what is said of it.
            self.log.consoles.lend(None);
        }
        for action in actions {
            match action {
                Action::Log(step, text) => self.log(step, &text),
                Action::Show(text) => self.menu.show(text),
                Action::Configure(path) => {
                    if let Some(config) = read_config(&mut self.log, &path) {
                        self.happened(Event::Config(Box::new(config)));
                    }
                }
                Action::Leave => {
                    if let (Some(place), Some(text)) = (self.menu.place(), self.menu.close()) {
                        self.log.consoles.send(place, &text);
                    }
                }
                Action::Admit(may) => self.menu.admit(may),
                Action::Give(job) => {
                    if let Err(error) = self.children.give(&job) {
                        self.happened(Event::NotStarted(error.to_string()));
                    }
                }
                Action::Feed => {
                    self.look_for_consoles();
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
                        self.log.consoles.drain(deadlines::JUMP_WORDS);
                    }
                    self.children.go();
                }
                Action::Reset => reset(&mut self.log.consoles),
            }
        }
        self.log.consoles.lend(self.policy.lent());
    }

    /// One that is named and comes late has all that was said so far.
    fn look_for_consoles(&mut self) {
        for place in self.log.consoles.look() {
            let name = self.log.consoles.name(place).unwrap_or_default().to_owned();
            for line in &self.log.kept {
                self.log.consoles.send(place, &format!("{line}\n"));
            }
            self.log("start", &format!("{name} is a console now"));
            self.menu.add(name);
        }
    }

    fn log(&mut self, step: &str, text: &str) {
        let line = log_line(step, text);
        if let Some(Effect::Send(place, text)) = self.menu.tell(&line) {
            self.log.consoles.send(place, &text);
        }
        self.log.print(line, self.menu.has_screen());
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

fn read_config(log: &mut Log, path: &str) -> Option<Config> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            log.say("config", &format!("{path}: {error}"));
            return None;
        }
    };
    let reading = config::read(&bytes);
    for line in reading.render(path).lines() {
        // The config's own drawing, cleaned by it: its marks would not be below what they mark any more.
        log.print(format!("{}{}", prefix("config"), masked(line)), None);
    }
    reading.config
}

/// The line without a password's hash, at which somebody could try passwords. What stands below it stays there.
fn masked(line: &str) -> String {
    const HASH: &str = "$argon2";
    let mut pieces = line.split(HASH);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let end = piece.find(['"', '\'']).unwrap_or(piece.len());
        let (hash, after) = piece.split_at_checked(end).unwrap_or((piece, ""));
        text.extend([HASH, &"*".repeat(hash.chars().count()), after]);
    }
    text
}

fn warn_of_service(log: &mut Log, cmdline: &str) {
    for line in Arch::running()
        .into_iter()
        .flat_map(|arch| service::missing(arch, cmdline))
    {
        log.say("warning", &line);
    }
}

/// The machine starts again, one way or another: sysrq-b, which waits for nothing; then `reboot(2)`; then nobody feeds
/// the watchdog.
fn reset(consoles: &mut Consoles) -> ! {
    consoles.drain(deadlines::LAST_WORDS);
    // Each is tried because the one before it failed; there is no one left to tell but the console.
    if let Err(error) = fs::write("/proc/sysrq-trigger", "b") {
        let line = log_line("last-resort", &format!("sysrq-b: {error}; calling reboot(2)"));
        consoles.print(&line, None);
    }
    let _ = reboot(RebootMode::RB_AUTOBOOT);
    loop {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_does_not_reach_the_consoles() {
        let line = r#"9 | password = "$argon2id$v=19$m=1$c29t$aGFzaA" # "$argon2i$x""#;
        let shown = r#"9 | password = "$argon2***********************" # "$argon2***""#;
        assert_eq!(masked(line), shown);
        assert_eq!(masked("  |     ^^^^ expected"), "  |     ^^^^ expected");
        assert_eq!(masked("$argon2"), "$argon2");
    }
}
