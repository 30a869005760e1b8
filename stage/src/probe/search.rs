//! The way to one volume: load what present devices ask for, bind one device at a time, read what appears, stop at once
//! when it is there.
//!
//! Given the module index, a deadline and sysfs; responsible for never waiting on one device for longer than its share,
//! for saying which ones never came back, and for waiting on events only. Runs in the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use config::Source;
use config::modules::Index;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ProbeError;
use super::devices::{self, Device};
use super::gpt::Table;
use super::volumes::{self, Block, Contents, Known, State, Volume};
use crate::deadlines::{BIND_SHARE, LATE_SHARE, READ_SHARE, SAFETY_LOOK, SHORT_SHARE};
use crate::sys::child::{RemoteDevice, Write};
use crate::sys::module;
use crate::sys::netlink::Uevents;

/// So many late devices are a sign that something is wrong with what they all hang on.
const MANY: usize = 3;

/// Something under way that may never end.
struct Job {
    started: Instant,
    share: Duration,
    /// Its time is up; it is only listened to.
    late: bool,
    kind: JobKind,
}

enum JobKind {
    Bind {
        device: Device,
        write: Write,
        before: BTreeSet<String>,
    },
    /// Bound, and its disk is on the way. The disks there were, for its own to differ from.
    Show { device: Device, before: BTreeSet<String> },
}

impl Job {
    fn new(share: Duration, kind: JobKind) -> Self {
        Self {
            started: Instant::now(),
            share,
            late: false,
            kind,
        }
    }

    fn expires(&self) -> Option<Instant> {
        (!self.late).then(|| self.started.checked_add(self.share)).flatten()
    }

    fn wakes(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            JobKind::Bind { write, .. } => Some(write.as_fd()),
            JobKind::Show { .. } => None,
        }
    }
}

/// A device whose driver was asked to take it and has not come back.
#[derive(Debug)]
pub struct Unfinished {
    device: String,
    write: Write,
    late: bool,
}

impl Unfinished {
    /// Whether it has not come back until now.
    pub fn is_running(&self) -> bool {
        !is_ready(&self.write)
    }

    /// Whether it had all the time a device gets.
    pub fn is_late(&self) -> bool {
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

/// The search's state: what is known, what was tried, what is under way.
pub(crate) struct Search<'a> {
    sys: &'a Path,
    dev: &'a Path,
    index: &'a Index,
    deadline: Instant,
    /// Of one device: [`BIND_SHARE`].
    share: Duration,
    /// What is left of [`LATE_SHARE`].
    late_share: Duration,
    say: &'a mut dyn FnMut(&str),
    /// Devices that were late in an earlier search: they get their turn last, and less time.
    known_late: &'a [String],
    /// Hears of each that is late in this one, by the name that such a list holds.
    late: &'a mut dyn FnMut(&str),
    uevents: Uevents,
    /// Modules that were loaded, or could not be.
    modules: BTreeSet<String>,
    /// Devices that were given to a driver or have none here, by their folder.
    tried: BTreeSet<PathBuf>,
    jobs: Vec<Job>,
    /// Block devices the kernel called ready since the search began.
    announced: BTreeSet<String>,
    /// Disks that have not answered in their time, with the child that still waits for them.
    late_disks: Vec<(String, RemoteDevice)>,
    blocks: Vec<Block>,
    known: Known,
}

impl<'a> Search<'a> {
    pub(crate) fn begin(
        sys: &'a Path,
        dev: &'a Path,
        index: &'a Index,
        deadline: Instant,
        say: &'a mut dyn FnMut(&str),
        known_late: &'a [String],
        late: &'a mut dyn FnMut(&str),
    ) -> Result<Self, ProbeError> {
        // Before the first look, so that nothing falls between the two.
        let uevents = Uevents::listen().map_err(ProbeError::Events)?;
        Ok(Self {
            sys,
            dev,
            index,
            deadline,
            share: BIND_SHARE,
            late_share: LATE_SHARE,
            say,
            known_late,
            late,
            uevents,
            modules: BTreeSet::new(),
            tried: BTreeSet::new(),
            jobs: Vec::new(),
            announced: BTreeSet::new(),
            late_disks: Vec::new(),
            blocks: Vec::new(),
            known: BTreeMap::new(),
        })
    }

    /// Searches until the volume is there or the deadline has passed. One that can't be read is taken when there is
    /// nothing left to bind: another disk may have one of the same name.
    pub(crate) fn find(&mut self, source: &Source) -> Result<Volume, ProbeError> {
        let started = Instant::now();
        self.hold_buses();
        loop {
            let announced = self.uevents.drain().map_err(ProbeError::Events)?;
            self.announced.extend(announced.iter().map(|e| e.name().to_owned()));
            self.look();
            let matching = self.matching(source);
            let is_over = Instant::now() >= self.deadline;
            if is_over || matches!(matching.first(), Some(v) if v.is_readable()) {
                return self
                    .take_first(source, matching)
                    .ok_or_else(|| self.not_found(source, started.elapsed()));
            }
            let undriven = devices::undriven(self.sys);
            let loaded = self.load_for_free_buses(&undriven);
            let busy = self.jobs.iter().any(|j| !j.late);
            let bound = !busy && self.bind_next(&undriven);
            if loaded || bound {
                continue;
            }
            if !busy && let Some(volume) = self.take_first(source, matching) {
                return Ok(volume);
            }
            self.wait()?;
        }
    }

    /// The devices that have not come back.
    pub(crate) fn unfinished(self) -> Vec<Unfinished> {
        let jobs = self.jobs.into_iter();
        jobs.filter_map(|job| match job.kind {
            JobKind::Bind { device, write, .. } => Some(Unfinished {
                device: device.to_string(),
                write,
                late: job.late,
            }),
            JobKind::Show { .. } => None,
        })
        .collect()
    }

    /// Takes in what is finished and starts to read what is new.
    fn look(&mut self) {
        self.blocks = volumes::blocks(self.sys);
        let names: BTreeSet<&str> = self.blocks.iter().map(|b| b.name.as_str()).collect();
        self.known.retain(|name, _| names.contains(name.as_str()));
        self.harvest();
        self.read_new();
    }

    fn harvest(&mut self) {
        let now = Instant::now();
        for mut job in std::mem::take(&mut self.jobs) {
            match job.kind {
                JobKind::Bind { device, write, before } if is_ready(&write) => {
                    if let Err(cause) = write.finish()
                        && cause != nix::errno::Errno::ENODEV
                    {
                        (self.say)(&format!("{device}: not bound: {}", cause.desc()));
                    } else if device.is_slow_to_show() {
                        let kind = JobKind::Show { device, before };
                        self.jobs.push(Job { kind, ..job });
                    }
                    continue;
                }
                JobKind::Show { ref before, .. } if self.disks().any(|d| !before.contains(d)) => continue,
                _ => {}
            }
            if job.expires().is_some_and(|at| at <= now) {
                job.late = true;
                let (JobKind::Bind { device, .. } | JobKind::Show { device, .. }) = &job.kind;
                self.excuse(&device.to_string(), job.share);
            }
            self.jobs.push(job);
        }
    }

    /// Says that `who` was late, and gives the others the time it took.
    fn excuse(&mut self, who: &str, took: Duration) {
        let seconds = took.as_secs();
        (self.say)(&format!("{who}: no answer within {seconds} s; going on without it"));
        (self.late)(who);
        let took = took.min(self.late_share);
        self.late_share = self.late_share.saturating_sub(took);
        self.deadline = self.deadline.checked_add(took).unwrap_or(self.deadline);
    }

    /// Reads every block device that is new, disk by disk.
    fn read_new(&mut self) {
        let (answered, late) = std::mem::take(&mut self.late_disks)
            .into_iter()
            .partition(|(_, remote)| is_ready(remote));
        self.late_disks = late;
        for (disk, remote) in answered {
            remote.finish();
            let blocks = self.blocks.iter().filter(|b| b.disk() == disk);
            for block in blocks {
                let _ = self.known.remove(&block.name);
            }
        }
        let mut new: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        for block in &self.blocks {
            if !self.known.contains_key(&block.name) && !self.is_being_bound(block) {
                new.entry(block.disk().to_owned()).or_default().push(block.clone());
            }
        }
        let mut new: Vec<_> = new.into_iter().collect();
        new.sort_by_key(|(_, blocks)| self.were_late(blocks));
        for (disk, blocks) in new {
            if self.late_disks.iter().all(|(late, _)| *late != disk) {
                self.read_disk(&disk, &blocks);
            }
        }
    }

    fn was_late(&self, who: &str) -> bool {
        self.known_late.iter().any(|late| late == who)
    }

    fn were_late(&self, blocks: &[Block]) -> bool {
        blocks.iter().any(|block| self.was_late(&block.name))
    }

    /// A driver that still reads the partition table holds everybody else up.
    fn is_being_bound(&self, block: &Block) -> bool {
        !self.announced.contains(&block.name)
            && self.jobs.iter().any(|job| match &job.kind {
                // With several paths to a namespace, its disk is not below any of them in sysfs.
                JobKind::Bind { device, .. } | JobKind::Show { device, .. } => {
                    block.path.starts_with(&device.path) || device.is_slow_to_show() && block.name.starts_with("nvme")
                }
            })
    }

    fn read_disk(&mut self, disk: &str, blocks: &[Block]) {
        let share = if self.were_late(blocks) {
            SHORT_SHARE
        } else {
            READ_SHARE
        };
        let until = Instant::now()
            .checked_add(share)
            .map_or(self.deadline, |at| at.min(self.deadline));
        for block in blocks {
            let remote = match RemoteDevice::start(&self.dev.join(&block.name), until) {
                Ok(remote) => remote,
                Err(e) => return (self.say)(&format!("{}: can't start a reader: {e}", block.name)),
            };
            let result = volumes::read(&remote, block);
            if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::TimedOut) {
                self.excuse(&block.name, share);
                self.late_disks.push((disk.to_owned(), remote));
                return;
            }
            remote.finish();
            self.take(&block.name, result);
        }
    }

    fn take(&mut self, name: &str, result: io::Result<Contents>) {
        let known = match result {
            // sysfs was quicker than /dev, or it is gone again: the next look tells.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => return,
            Err(e) => Err(e.to_string()),
            Ok(contents) => {
                if let Some(problem) = &contents.table_problem {
                    (self.say)(&format!("{name}: {problem}"));
                }
                if let Some(Table::Gpt(gpt)) = &contents.table
                    && let Some(bad) = &gpt.primary_bad
                {
                    (self.say)(&format!(
                        "{name}: primary GPT: {bad}; using the backup at the disk's end"
                    ));
                }
                Ok(contents)
            }
        };
        let _ = self.known.insert(name.to_owned(), known);
    }

    /// Whole disks the kernel has called ready.
    fn disks(&self) -> impl Iterator<Item = &String> {
        let whole = self.blocks.iter().filter(|b| b.partition.is_none());
        whole.map(|b| &b.name).filter(|name| self.announced.contains(*name))
    }

    /// The volumes that `source` means: first what can be read, then by place in the machine (bus address, partition
    /// number).
    fn matching(&self, source: &Source) -> Vec<Volume> {
        let mut matching: Vec<Volume> = volumes::volumes(&self.blocks, &self.known)
            .into_iter()
            .filter(|v| v.is(source) && v.state != State::Silent)
            .collect();
        matching.sort_by_key(|v| !v.is_readable());
        matching
    }

    fn take_first(&mut self, source: &Source, matching: Vec<Volume>) -> Option<Volume> {
        if let [first, others @ ..] = matching.as_slice()
            && !others.is_empty()
        {
            let others: Vec<String> = others.iter().map(Volume::to_string).collect();
            (self.say)(&format!(
                "warning: {source} is not unique: taking {first}, not {}",
                others.join(", ")
            ));
        }
        matching.into_iter().next()
    }

    /// Loads what devices ask for whose buses bind by themselves (platform, USB, …). True when something was loaded.
    fn load_for_free_buses(&mut self, undriven: &[Device]) -> bool {
        let mut loaded = false;
        for device in undriven.iter().filter(|d| !d.is_held()) {
            if self.tried.insert(device.path.clone()) {
                loaded |= self.load_for(device);
            }
        }
        loaded
    }

    /// Starts to bind the next device that may lead to a disk. False when there is none left.
    fn bind_next(&mut self, undriven: &[Device]) -> bool {
        let next = undriven
            .iter()
            .filter(|d| d.is_held() && !self.tried.contains(&d.path))
            .filter_map(|d| Some((d.rank()?, d)))
            .filter(|(_, d)| d.is_storage() || self.index.for_modalias(&d.modalias).next().is_some())
            .min_by_key(|(rank, d)| (self.was_late(&d.to_string()), *rank, &d.path));
        let Some((_, device)) = next else { return false };
        let _ = self.tried.insert(device.path.clone());
        let _ = self.load_for(device);
        match Write::start(&devices::probe_file(self.sys, &device.bus), &device.name) {
            Ok(write) => {
                let device = device.clone();
                let before = self.disks().cloned().collect();
                let late = self.jobs.iter().filter(|j| j.late).count();
                let share = if late < MANY && !self.was_late(&device.to_string()) {
                    self.share
                } else {
                    self.share.min(SHORT_SHARE)
                };
                self.jobs.push(Job::new(share, JobKind::Bind { device, write, before }));
            }
            Err(e) => (self.say)(&format!("{device}: can't be bound: {e}")),
        }
        true
    }

    fn load_for(&mut self, device: &Device) -> bool {
        let names: Vec<&str> = self
            .index
            .for_modalias(&device.modalias)
            .map(|m| m.name.as_str())
            .collect();
        let mut loaded = false;
        for name in names {
            loaded |= self.load(name);
        }
        loaded
    }

    /// Loads a module after all it needs. What fails is said once; whoever needed it finds out.
    fn load(&mut self, name: &str) -> bool {
        let mut loaded = false;
        for module in self.index.closure(name) {
            if !self.modules.insert(module.name.clone()) {
                continue;
            }
            match module::load(module) {
                Ok(()) => loaded = true,
                Err(e) => (self.say)(&e.to_string()),
            }
            // A module may have brought a bus; its first devices must not be bound before it is held.
            self.hold_buses();
        }
        loaded
    }

    fn hold_buses(&mut self) {
        if let Err((file, e)) = devices::hold_buses(self.sys) {
            (self.say)(&format!(
                "{}: {e}; the kernel binds every disk by itself",
                file.display()
            ));
        }
    }

    /// Until an event, a finished job, a job's or the whole search's deadline, or the safety look.
    fn wait(&mut self) -> Result<(), ProbeError> {
        let now = Instant::now();
        let next = self.jobs.iter().filter_map(Job::expires).chain([self.deadline]).min();
        let timeout = next
            .map_or(SAFETY_LOOK, |at| at.saturating_duration_since(now))
            .min(SAFETY_LOOK)
            // poll(2) counts in whole milliseconds, and rounding down would spin.
            .saturating_add(Duration::from_millis(1));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<PollFd<'_>> = [self.uevents.as_fd()]
            .into_iter()
            .chain(self.jobs.iter().filter_map(Job::wakes))
            .chain(self.late_disks.iter().map(|(_, remote)| remote.as_fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(cause) => Err(ProbeError::Events(cause)),
        }
    }

    fn not_found(&self, source: &Source, waited: Duration) -> ProbeError {
        let stuck = self.jobs.iter().filter_map(|j| match &j.kind {
            JobKind::Bind { device, .. } => Some(device.to_string()),
            JobKind::Show { .. } => None,
        });
        let without_driver = devices::undriven(self.sys)
            .into_iter()
            .filter(Device::is_storage)
            .filter(|d| self.index.for_modalias(&d.modalias).next().is_none())
            .map(|d| format!("{d} ({})", d.modalias));
        ProbeError::NotFound {
            wanted: source.clone(),
            waited,
            seen: volumes::volumes(&self.blocks, &self.known),
            stuck: stuck.collect(),
            without_driver: without_driver.collect(),
        }
    }
}

fn is_ready(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
