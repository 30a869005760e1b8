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

use super::event::{Event, Exit};
use crate::worker;
use crate::worker::message::{Frames, Job, Message, frame};

/// The child that runs, if any, and the reaping of all others.
#[derive(Debug, Default)]
pub(crate) struct Children {
    current: Option<Child>,
    /// How many were started: tells whose events a batch holds.
    started: u64,
}

#[derive(Debug)]
struct Child {
    pid: Pid,
    to: File,
    from: Option<File>,
    frames: Frames,
    exit: Option<Exit>,
}

/// Room in the pipe down to a child, bytes: a job is at most as long as `boot.toml`, and PID 1 does not wait for it to be read.
const ROOM: i32 = 512 << 10;
const _: () = assert!(ROOM as usize > config::MAX_BYTES + config::MAX_BYTES / 2);

impl Children {
    /// Gives `job` to the current child, which has answered, or to a new one.
    pub(crate) fn give(&mut self, job: &Job) -> io::Result<()> {
        let job = frame(job).map_err(io::Error::other)?;
        // One that has died meanwhile can't take it.
        if let Some(child) = &mut self.current
            && child.to.write_all(&job).is_ok()
        {
            return Ok(());
        }
        self.current = None;
        let mut child = Command::new("/proc/self/exe")
            .arg(worker::FLAG)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let pid = i32::try_from(child.id()).map(Pid::from_raw).map_err(io::Error::other)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("the child process has no pipes"));
        };
        let mut to = unblocked(to.into())?;
        let from = Some(unblocked(from.into())?);
        fcntl(&to, FcntlArg::F_SETPIPE_SZ(ROOM))?;
        // One that gets no job, or half of one, ends by itself as the pipe is closed, and is reaped.
        to.write_all(&job)?;
        self.started = self.started.saturating_add(1);
        self.current = Some(Child {
            pid,
            to,
            from,
            frames: Frames::default(),
            exit: None,
        });
        Ok(())
    }

    /// Changes with every child: events taken before belong to another child.
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
                    let messages = self.frames.push(buffer.get(..n).unwrap_or_default());
                    let noise = || Message::Say("warning: malformed message from the child process".to_owned());
                    events.extend(messages.into_iter().map(|m| Event::Said(m.unwrap_or_else(noise))));
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
