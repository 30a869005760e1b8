//! The way to one volume: load what present devices ask for, bind one device at a time, read what appears, stop at once
//! when it is there.
//!
//! Given the module index, a deadline and sysfs; responsible for never waiting on one device for longer than its share,
//! and for waiting on events only. Runs in the worker.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use config::Source;
use config::modules::Index;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use super::ProbeError;
use super::devices::{self, Device};
use super::volumes::{self, Block, Contents, Known, Volume};
use crate::sys::child::Write;
use crate::sys::module;
use crate::sys::netlink::Uevents;

/// How long one device may take to be bound before the next one gets its turn. It may still finish later.
const BIND_SHARE: Duration = Duration::from_secs(3);
/// How long superblocks may take before the search goes on without them. They may still come later.
const READ_SHARE: Duration = Duration::from_secs(2);
/// Events can get lost; nobody waits longer than this without a look.
const SAFETY_LOOK: Duration = Duration::from_secs(1);
/// A thread that reads a few sectors needs little.
const READER_STACK: usize = 128 << 10;

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
    },
    /// Bound, and its disk is on the way.
    Show {
        disks_before: usize,
    },
    Read {
        disk: String,
        names: Vec<String>,
        results: mpsc::Receiver<(String, io::Result<Contents>)>,
        done: OwnedFd,
    },
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
            JobKind::Read { done, .. } => Some(done.as_fd()),
            JobKind::Show { .. } => None,
        }
    }
}

/// The search's state: what is known, what was tried, what is under way.
pub(crate) struct Search<'a> {
    sys: &'a Path,
    dev: &'a Path,
    index: &'a Index,
    deadline: Instant,
    say: &'a mut dyn FnMut(&str),
    uevents: Uevents,
    /// Modules that were loaded, or could not be.
    modules: BTreeSet<String>,
    /// Devices that were given to a driver or have none here, by their folder.
    tried: BTreeSet<PathBuf>,
    jobs: Vec<Job>,
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
    ) -> Result<Self, ProbeError> {
        // Before the first look, so that nothing falls between the two.
        let uevents = Uevents::listen().map_err(ProbeError::Events)?;
        Ok(Self {
            sys,
            dev,
            index,
            deadline,
            say,
            uevents,
            modules: BTreeSet::new(),
            tried: BTreeSet::new(),
            jobs: Vec::new(),
            blocks: Vec::new(),
            known: BTreeMap::new(),
        })
    }

    /// Searches until the volume is there or the deadline has passed.
    pub(crate) fn find(&mut self, source: &Source) -> Result<Volume, ProbeError> {
        let started = Instant::now();
        self.hold_buses();
        loop {
            self.uevents.drain().map_err(ProbeError::Events)?;
            self.look();
            if !self.is_reading()
                && let Some(volume) = self.choose(source)
            {
                return Ok(volume);
            }
            if Instant::now() >= self.deadline {
                return Err(self.not_found(source, started.elapsed()));
            }
            let undriven = devices::undriven(self.sys);
            let loaded = self.load_for_free_buses(&undriven);
            let busy = self.jobs.iter().any(|j| !j.late);
            let bound = !busy && self.bind_next(&undriven);
            if !loaded && !bound {
                self.wait()?;
            }
        }
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
                JobKind::Bind { device, write } if is_ready(&write) => {
                    if let Err(cause) = write.finish()
                        && cause != nix::errno::Errno::ENODEV
                    {
                        (self.say)(&format!("{} {}: not bound: {}", device.bus, device.name, cause.desc()));
                    } else if device.is_slow_to_show() {
                        let kind = JobKind::Show {
                            disks_before: self.disks(),
                        };
                        self.jobs.push(Job { kind, ..job });
                    }
                    continue;
                }
                JobKind::Show { disks_before } if self.disks() > disks_before => continue,
                JobKind::Read {
                    results,
                    done,
                    names,
                    disk,
                } => {
                    let finished = is_ready(&done);
                    while let Ok((name, result)) = results.try_recv() {
                        self.take(name, result);
                    }
                    if finished {
                        continue;
                    }
                    job.kind = JobKind::Read {
                        results,
                        done,
                        names,
                        disk,
                    };
                }
                _ => {}
            }
            if job.expires().is_some_and(|at| at <= now) {
                job.late = true;
                self.say_late(&job);
            }
            self.jobs.push(job);
        }
    }

    fn take(&mut self, name: String, result: io::Result<Contents>) {
        match result {
            // sysfs was quicker than /dev, or it is gone again: the next look tells.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENXIO)) => {}
            Err(e) => {
                let _ = self.known.insert(name, Err(e.to_string()));
            }
            Ok(contents) => {
                if let Some(problem) = &contents.table_problem {
                    (self.say)(&format!("{name}: {problem}"));
                }
                if let Some(super::gpt::Table::Gpt(gpt)) = &contents.table
                    && let Some(bad) = &gpt.primary_bad
                {
                    (self.say)(&format!(
                        "{name}: primary GPT: {bad}; the backup at the disk's end is used"
                    ));
                }
                let _ = self.known.insert(name, Ok(contents));
            }
        }
    }

    fn say_late(&mut self, job: &Job) {
        let seconds = job.share.as_secs();
        let text = match &job.kind {
            JobKind::Bind { device, .. } => {
                format!(
                    "{} {}: no answer within {seconds} s; going on without it",
                    device.bus, device.name
                )
            }
            JobKind::Show { .. } => return,
            JobKind::Read { names, .. } => {
                format!(
                    "{}: no answer within {seconds} s; going on without it",
                    names.join(", ")
                )
            }
        };
        (self.say)(&text);
    }

    /// One reader for the new block devices of each disk, so that one disk can't hold up another.
    fn read_new(&mut self) {
        let mut new: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        for block in &self.blocks {
            let under_way = |j: &Job| matches!(&j.kind, JobKind::Read { disk, .. } if disk == block.disk());
            if !self.known.contains_key(&block.name) && !self.jobs.iter().any(under_way) {
                new.entry(block.disk().to_owned()).or_default().push(block.clone());
            }
        }
        for (disk, blocks) in new {
            match start_reader(self.dev, disk, blocks) {
                Ok(kind) => self.jobs.push(Job::new(READ_SHARE, kind)),
                Err(e) => (self.say)(&format!("can't start a reader: {e}")),
            }
        }
    }

    fn is_reading(&self) -> bool {
        let reads = |j: &Job| !j.late && matches!(j.kind, JobKind::Read { .. });
        self.jobs.iter().any(reads)
    }

    fn disks(&self) -> usize {
        self.blocks.iter().filter(|b| b.partition.is_none()).count()
    }

    /// Of several volumes, the one that is first in the machine: by bus address, then partition number.
    fn choose(&mut self, source: &Source) -> Option<Volume> {
        let matching: Vec<Volume> = volumes::volumes(&self.blocks, &self.known)
            .into_iter()
            .filter(|v| v.is(source))
            .collect();
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
            .min_by(|(a, d), (b, e)| (a, &d.path).cmp(&(b, &e.path)));
        let Some((_, device)) = next else { return false };
        let _ = self.tried.insert(device.path.clone());
        let _ = self.load_for(device);
        match Write::start(&devices::probe_file(self.sys, &device.bus), &device.name) {
            Ok(write) => {
                let device = device.clone();
                self.jobs.push(Job::new(BIND_SHARE, JobKind::Bind { device, write }));
            }
            Err(e) => (self.say)(&format!("{} {}: can't be bound: {e}", device.bus, device.name)),
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
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(cause) => Err(ProbeError::Events(cause)),
        }
    }

    fn not_found(&self, source: &Source, waited: Duration) -> ProbeError {
        let stuck = self.jobs.iter().filter_map(|j| match &j.kind {
            JobKind::Bind { device, .. } => Some(format!("{} {}", device.bus, device.name)),
            _ => None,
        });
        let without_driver = devices::undriven(self.sys)
            .into_iter()
            .filter(Device::is_storage)
            .filter(|d| self.index.for_modalias(&d.modalias).next().is_none())
            .map(|d| format!("{} {} ({})", d.bus, d.name, d.modalias));
        ProbeError::NotFound {
            wanted: source.clone(),
            waited,
            seen: volumes::volumes(&self.blocks, &self.known),
            stuck: stuck.collect(),
            without_driver: without_driver.collect(),
        }
    }
}

fn start_reader(dev: &Path, disk: String, blocks: Vec<Block>) -> io::Result<JobKind> {
    let (done, held_by_reader) = pipe2(OFlag::O_CLOEXEC)?;
    let (sender, results) = mpsc::channel();
    let names = blocks.iter().map(|b| b.name.clone()).collect();
    let dev = dev.to_owned();
    let reader = move || {
        for block in blocks {
            let result = volumes::read(&dev, &block);
            if sender.send((block.name, result)).is_err() {
                break;
            }
        }
        // Only now: who sees the pipe closed must find every result.
        drop(held_by_reader);
    };
    let _ = thread::Builder::new()
        .name(format!("read {disk}"))
        .stack_size(READER_STACK)
        .spawn(reader)?;
    Ok(JobKind::Read {
        disk,
        names,
        results,
        done,
    })
}

fn is_ready(fd: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(n) if n > 0)
}
