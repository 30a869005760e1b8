//! Child processes, without ever waiting for one: a pipe in, a pipe out, and `waitpid(WNOHANG)`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::policy::{Event, Exit, Job};
use crate::handover::PID1_VARIABLE;
use crate::handover::decimal::Decimal;
use crate::worker;
use crate::worker::message::{Lines, Message};

/// The child that runs, if any, and the reaping of all others.
#[derive(Debug, Default)]
pub(crate) struct Children {
    /// When PID 1 started, milliseconds since boot: the workers' reports begin with it.
    began_ms: f64,
    current: Option<Child>,
    /// How many were started: tells whose events a batch holds.
    started: u64,
}

#[derive(Debug)]
struct Child {
    pid: Pid,
    to: File,
    from: Option<File>,
    lines: Lines,
    exit: Option<Exit>,
}

impl Children {
    /// Of a PID 1 that started then, milliseconds since boot.
    pub(crate) fn new(began_ms: f64) -> Self {
        Self {
            began_ms,
            ..Self::default()
        }
    }

    /// Starts `job` as the current child.
    pub(crate) fn spawn(&mut self, job: &Job) -> io::Result<()> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(worker::FLAG);
        match job {
            Job::Boot(entry, why) => command.args(["boot", entry, &why.to_string()]),
            Job::Reason(place) => command.args(["reason", &place.to_string()]),
            Job::Unload => command.arg("unload"),
            Job::Reboot => command.arg("reboot"),
        };
        command
            .env_clear()
            .env(PID1_VARIABLE, Decimal(self.began_ms, 3).to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("no pipes"));
        };
        let to = unblocked(to.into())?;
        let from = Some(unblocked(from.into())?);
        self.started = self.started.saturating_add(1);
        self.current = Some(Child {
            pid,
            to,
            from,
            lines: Lines::default(),
            exit: None,
        });
        Ok(())
    }

    /// Changes with every [`spawn`](Self::spawn): events taken before belong to another child.
    pub(crate) fn generation(&self) -> u64 {
        self.started
    }

    /// For `poll`: readable when the child said something.
    pub(crate) fn messages(&self) -> Option<BorrowedFd<'_>> {
        self.current.as_ref()?.from.as_ref().map(AsFd::as_fd)
    }

    /// What the child said, and how it ended, in this order. Reaps orphans on the way.
    pub(crate) fn events(&mut self) -> Vec<Event> {
        self.reap();
        let Some(child) = &mut self.current else {
            return Vec::new();
        };
        let mut events: Vec<Event> = child.read();
        if let Some(exit) = child.exit {
            events.push(Event::Gone(exit));
            self.current = None;
        }
        events
    }

    /// Every dead child, ours or handed to PID 1 by the kernel.
    fn reap(&mut self) {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(child) = self.current.as_mut().filter(|c| c.pid == pid) {
                child.exit = Some(exit);
            }
        }
    }

    /// `SIGKILL`.
    pub(crate) fn kill(&mut self) {
        if let Some(child) = &self.current {
            // ESRCH: it is gone already, and its exit comes with the next events.
            let _ = kill(child.pid, Signal::SIGKILL);
        }
    }

    /// Stops listening to a child that can't be killed.
    pub(crate) fn abandon(&mut self) {
        self.current = None;
    }

    /// Gives the worker the word to jump. A worker that can't hear it runs into its deadline.
    pub(crate) fn go(&mut self) {
        if let Some(child) = &mut self.current {
            let _ = child.to.write_all(b"go\n");
        }
    }
}

impl Child {
    /// Messages that have come in: a few thousand bytes at a time so that one child can't starve the loop, and all that
    /// a pipe holds once the child is dead.
    fn read(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut buffer = [0; 4096];
        let reads = if self.exit.is_some() { 32 } else { 4 };
        for _ in 0..reads {
            let Some(from) = &mut self.from else { break };
            match from.read(&mut buffer) {
                Ok(0) => self.from = None,
                Ok(n) => {
                    let lines = self.lines.push(buffer.get(..n).unwrap_or_default());
                    events.extend(lines.iter().filter_map(|l| Message::parse(l)).map(Event::Said));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.from = None,
            }
        }
        events
    }
}

fn unblocked(fd: OwnedFd) -> io::Result<File> {
    let flags = fcntl(&fd, FcntlArg::F_GETFL).map(OFlag::from_bits_retain)?;
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map_err(|e: Errno| io::Error::from(e))?;
    Ok(File::from(fd))
}
