//! Devices being bound: what may never end is only listened to.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::probe::devices::Device;
use crate::sys::child::Write;

/// Something under way that may never end.
pub(super) struct Job {
    pub(super) started: Instant,
    pub(super) share: Duration,
    /// Its time is up; it is only listened to.
    pub(super) late: bool,
    pub(super) kind: JobKind,
}

pub(super) enum JobKind {
    Bind {
        device: Device,
        write: Write,
        before: BTreeSet<String>,
    },
    /// Bound, and its disk is on the way. The disks there were, for its own to differ from.
    Show { device: Device, before: BTreeSet<String> },
}

impl Job {
    pub(super) fn new(share: Duration, kind: JobKind) -> Self {
        Self {
            started: Instant::now(),
            share,
            late: false,
            kind,
        }
    }

    pub(super) fn device(&self) -> &Device {
        match &self.kind {
            JobKind::Bind { device, .. } | JobKind::Show { device, .. } => device,
        }
    }

    pub(super) fn expires(&self) -> Option<Instant> {
        (!self.late).then(|| self.started.checked_add(self.share)).flatten()
    }

    pub(super) fn wakes(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            JobKind::Bind { write, .. } => Some(write.as_fd()),
            JobKind::Show { .. } => None,
        }
    }
}

/// A device whose driver was asked to take it and has not come back.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(super) device: String,
    pub(super) write: Write,
    pub(super) late: bool,
}

impl Unfinished {
    /// Whether it has not come back until now.
    pub(crate) fn is_running(&self) -> bool {
        !is_ready(&self.write)
    }

    /// Whether it had all the time a device gets.
    pub(crate) fn is_late(&self) -> bool {
        self.late
    }
}

/// What it means for the way to the main kernel: `device_shutdown()` waits for every probe (T6).
impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "warning: {} has not finished its probe; the kernel may not be able to leave until it does \
             (remove or repair that disk)",
            self.device
        )
    }
}

pub(super) fn is_ready(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
}
