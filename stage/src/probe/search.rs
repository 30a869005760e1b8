//! The way to one volume: load what present devices ask for, bind one device at a time, read what appears, stop at once
//! when it is there.
//!
//! Given the module index, a deadline and sysfs; responsible for never waiting on one device for longer than its share,
//! for saying which ones never came back, and for waiting on events only; but a reader without a card has no events, and is
//! asked once a second. Runs in the worker.

mod job;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::block::{self, Block};
use super::devices::{self, Device};
use super::modules::Modules;
use super::partition::Partition;
use super::volumes::{self, Contents, Fit, Known, State, Volume};
use super::{ProbeError, Wanted};
use crate::deadlines::{BIND_SHARE, LATE_SHARE, READ_SHARE, SAFETY_LOOK, SHORT_SHARE};
use crate::sys::child::{RemoteDevice, Write};
use crate::sys::netlink::Uevents;
pub(crate) use job::Unfinished;
use job::{Job, JobKind, is_ready};

/// So many late devices are a sign that something is wrong with what they all hang on.
const MANY: usize = 3;

/// What is known of the devices, from one search of a process to the next.
pub(crate) struct Seen {
    uevents: Uevents,
    /// Devices that were given to a driver or have none here, by their folder.
    tried: BTreeSet<PathBuf>,
    jobs: Vec<Job>,
    /// Block devices that were there before the search, or that the kernel has called ready since.
    announced: BTreeSet<String>,
    /// Disks whose partitions were compared with the table.
    compared: BTreeSet<String>,
    /// Disks that have not answered in their time or have no medium, with the child that waits for them.
    waited_for: Vec<(String, RemoteDevice)>,
    /// When readers without a card were last asked.
    asked: Option<Instant>,
    blocks: Vec<Block>,
    known: Known,
    /// When the last search ended well.
    ended: Option<Instant>,
}

impl Seen {
    fn nothing(sys: &Path) -> Result<Self, ProbeError> {
        // Before the first look, so that nothing falls between the two.
        let uevents = Uevents::listen().map_err(ProbeError::Events)?;
        Ok(Self {
            uevents,
            tried: BTreeSet::new(),
            jobs: Vec::new(),
            announced: block::blocks(sys).into_iter().map(|b| b.name).collect(),
            compared: BTreeSet::new(),
            waited_for: Vec::new(),
            asked: None,
            blocks: Vec::new(),
            known: BTreeMap::new(),
            ended: None,
        })
    }

    /// Nothing was changed since without being heard of, and no disk is to be read once more. After a countdown there is nothing
    /// fresh: then it does not matter either.
    fn is_fresh(&self) -> bool {
        self.ended.is_some_and(|at| at.elapsed() < SAFETY_LOOK) && self.known.values().all(Result::is_ok)
    }

    /// Devices that no driver took get another turn; those that are still being bound do not.
    fn again(mut self) -> Self {
        let bound: BTreeSet<&PathBuf> = self.jobs.iter().map(|job| &job.device().path).collect();
        self.tried.retain(|path| bound.contains(path));
        self
    }
}

/// One search: what is known, and how it goes on.
pub(crate) struct Search<'a, 'i> {
    sys: &'a Path,
    dev: &'a Path,
    modules: &'a mut Modules<'i>,
    seen: &'a mut Seen,
    deadline: Instant,
    /// Of one device: [`BIND_SHARE`].
    share: Duration,
    /// What is left of [`LATE_SHARE`].
    late_share: Duration,
    say: &'a mut dyn FnMut(&str),
    known_late: &'a [String],
    late: &'a mut dyn FnMut(&str),
    /// Those of which it was said that they are.
    excused: BTreeSet<String>,
}

/// Who looks for something: what they know, and what they want to hear.
pub(crate) struct Caller<'a> {
    /// What this process has seen a moment ago, which is not looked at again.
    pub seen: &'a mut Option<Seen>,
    /// Gets a line for everything out of the ordinary.
    pub say: &'a mut dyn FnMut(&str),
    /// Devices that were late in an earlier search: they get their turn last, and less time.
    pub known_late: &'a [String],
    /// Hears of each that is late in this one, by the name that such a list holds.
    pub late: &'a mut dyn FnMut(&str),
}

impl<'a, 'i> Search<'a, 'i> {
    pub(crate) fn begin(
        sys: &'a Path,
        dev: &'a Path,
        modules: &'a mut Modules<'i>,
        caller: &'a mut Caller<'_>,
    ) -> Result<Self, ProbeError> {
        let Caller {
            seen,
            say,
            known_late,
            late,
        } = caller;
        let seen = match seen.take().filter(Seen::is_fresh) {
            Some(fresh) => seen.insert(fresh.again()),
            None => seen.insert(Seen::nothing(sys)?),
        };
        Ok(Self {
            sys,
            dev,
            modules,
            seen,
            deadline: Instant::now(),
            share: BIND_SHARE,
            late_share: LATE_SHARE,
            say,
            known_late,
            late,
            excused: BTreeSet::new(),
        })
    }

    /// Searches until the volume is there or the deadline has passed. One that can't be read is taken when there is
    /// nothing left to bind: another disk may have one of the same name.
    pub(crate) fn find(&mut self, wanted: Wanted<'_>, deadline: Instant) -> Result<Volume, ProbeError> {
        self.deadline = deadline;
        let found = self.search(wanted);
        // What was not found, or not loaded, is looked for once more, and then it is said why.
        self.seen.ended = (found.is_ok() && self.modules.doubt().is_none()).then(Instant::now);
        found
    }

    fn search(&mut self, wanted: Wanted<'_>) -> Result<Volume, ProbeError> {
        let started = Instant::now();
        self.hold_buses();
        loop {
            let announced = self.seen.uevents.drain().map_err(ProbeError::Events)?;
            self.seen
                .announced
                .extend(announced.iter().map(|e| e.name().to_owned()));
            self.look();
            let matching = self.matching(wanted);
            let is_over = Instant::now() >= self.deadline;
            if is_over || matching.first().is_some_and(|v| wanted.fit(v) == (Fit::First, false)) {
                return self
                    .take_first(wanted, matching)
                    .ok_or_else(|| self.not_found(wanted, started.elapsed()));
            }
            // With every driver in the kernel, all that is free to bind is bound.
            let undriven = if self.modules.index.modules.is_empty() {
                devices::held(self.sys)
            } else {
                devices::undriven(self.sys)
            };
            let loaded = self.load_for_free_buses(&undriven);
            let busy = self.seen.jobs.iter().any(|j| !j.late);
            let bound = !busy && self.bind_next(&undriven);
            if loaded || bound {
                continue;
            }
            if !busy && let Some(volume) = self.take_first(wanted, matching) {
                return Ok(volume);
            }
            self.wait()?;
        }
    }

    /// Whether such a volume was seen on the way.
    pub(crate) fn sees(&self, wanted: Wanted<'_>) -> bool {
        !self.matching(wanted).is_empty()
    }

    /// The devices that have not come back.
    pub(crate) fn unfinished(self) -> Vec<Unfinished> {
        let jobs = std::mem::take(&mut self.seen.jobs).into_iter();
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

    /// Takes in what is finished and starts to read what is new. What is decided then knows of all partitions.
    fn look(&mut self) {
        loop {
            let before = std::mem::replace(&mut self.seen.blocks, block::blocks(self.sys));
            // What has another size is another medium, or has grown into its table. So may be the disk of a partition that is gone.
            let size = |name: &str, blocks: &[Block]| blocks.iter().find(|b| b.name == name).map(|b| b.size);
            for block in before {
                if size(&block.name, &self.seen.blocks) != Some(block.size) {
                    self.forget(&block.name);
                    self.forget(block.disk());
                }
            }
            self.harvest();
            self.ask_readers();
            self.read_new();
            if !self.compare_tables() || Instant::now() >= self.deadline {
                return;
            }
        }
    }

    /// It is read once more, and what it says compared.
    fn forget(&mut self, name: &str) {
        let _ = (self.seen.known.remove(name), self.seen.compared.remove(name));
    }

    fn harvest(&mut self) {
        let now = Instant::now();
        for mut job in std::mem::take(&mut self.seen.jobs) {
            match job.kind {
                JobKind::Bind { device, write, before } if is_ready(&write) => {
                    if let Err(cause) = write.finish()
                        && cause != nix::errno::Errno::ENODEV
                    {
                        (self.say)(&format!("{device}: not bound: {}", cause.desc()));
                    } else if device.is_slow_to_show() {
                        let kind = JobKind::Show { device, before };
                        self.seen.jobs.push(Job { kind, ..job });
                    }
                    continue;
                }
                JobKind::Show { ref before, .. } if self.disks().any(|d| !before.contains(d)) => continue,
                _ => {}
            }
            if job.expires().is_some_and(|at| at <= now) {
                job.late = true;
                self.excuse(&job.device().to_string(), job.share);
            }
            self.seen.jobs.push(job);
        }
    }

    /// Says that `who` was late, and gives the others the time it took.
    fn excuse(&mut self, who: &str, took: Duration) {
        let seconds = took.as_secs();
        // A slow disk is late again and again.
        if self.excused.insert(who.to_owned()) {
            (self.say)(&format!("{who}: no answer within {seconds} s; going on without it"));
            (self.late)(who);
        }
        let took = took.min(self.late_share);
        self.late_share = self.late_share.saturating_sub(took);
        self.deadline = self.deadline.checked_add(took).unwrap_or(self.deadline);
    }

    /// Reads every block device that is new, disk by disk.
    fn read_new(&mut self) {
        let (answered, late) = std::mem::take(&mut self.seen.waited_for)
            .into_iter()
            .partition(|(_, remote)| is_ready(remote));
        self.seen.waited_for = late;
        for (disk, remote) in answered {
            remote.finish();
            let blocks = self.seen.blocks.iter().filter(|b| b.disk() == disk);
            for name in blocks.map(|b| b.name.clone()).collect::<Vec<_>>() {
                self.forget(&name);
            }
        }
        let mut new: BTreeMap<String, Vec<Block>> = BTreeMap::new();
        for block in self.seen.blocks.iter().filter(|b| b.size != 0) {
            if !self.seen.known.contains_key(&block.name) && !self.is_being_bound(block) {
                new.entry(block.disk().to_owned()).or_default().push(block.clone());
            }
        }
        let mut new: Vec<_> = new.into_iter().collect();
        new.sort_by_key(|(_, blocks)| self.were_late(blocks));
        for (disk, blocks) in new {
            if !self.is_waited_for(&disk) {
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

    /// Opens disks that have no size, which makes the kernel look for a medium. Nobody waits for them.
    fn ask_readers(&mut self) {
        if self.seen.asked.is_some_and(|at| at.elapsed() < SAFETY_LOOK) {
            return;
        }
        self.seen.asked = Some(Instant::now());
        let empty: Vec<String> = (self.seen.blocks.iter())
            .filter(|b| b.size == 0 && !self.is_being_bound(b) && !self.is_waited_for(&b.name))
            .map(|b| b.name.clone())
            .collect();
        for name in empty {
            match RemoteDevice::start(&self.dev.join(&name), self.deadline).and_then(|r| r.ask_later().map(|()| r)) {
                Ok(remote) => self.seen.waited_for.push((name, remote)),
                Err(e) => (self.say)(&format!("{name}: can't start a reader: {e}")),
            }
        }
    }

    /// Adds what the kernel has not made of the tables; says whether that was anything. A disk whose scan may not have begun is
    /// left for later.
    fn compare_tables(&mut self) -> bool {
        let mut is_any = false;
        let mut todo = Vec::new();
        for (name, contents) in &self.seen.known {
            let Ok(Contents {
                table: Ok(Some(table)),
                signatures,
            }) = contents
            else {
                continue;
            };
            let disk = self.seen.blocks.iter().find(|b| b.name == *name);
            if let Some(disk) = disk.filter(|d| self.seen.announced.contains(&d.name) && !self.is_being_bound(d))
                && !self.seen.compared.contains(name)
                && !self.is_waited_for(name)
            {
                todo.push((disk.clone(), table.clone(), !signatures.is_empty()));
            }
        }
        for (disk, table, has_content) in todo {
            // The scan may have ended between the last look and the reading.
            let now = block::blocks(self.sys);
            if !now.contains(&disk) {
                continue;
            }
            let _ = self.seen.compared.insert(disk.name.clone());
            let partitions = volumes::partitions(&now, &disk.name);
            // What is on the whole disk is newer than a table that sector 0 says nothing of: only its backup is left.
            if partitions.is_empty() && has_content && !table.announced {
                continue;
            }
            let difference = table.compare(&disk, &partitions);
            difference.lines.iter().for_each(|line| (self.say)(line));
            is_any |= self.add(&disk.name, &difference.missing);
        }
        is_any
    }

    /// True when at least one was added.
    fn add(&mut self, disk: &str, missing: &[Partition]) -> bool {
        if missing.is_empty() {
            return false;
        }
        let Some(remote) = self.reader(disk, self.until(READ_SHARE)) else {
            return false;
        };
        let mut is_any = false;
        let mut failed = None;
        for partition in missing {
            match remote.add_partition(partition.number, partition.start, partition.length) {
                Ok(()) => is_any = true,
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    self.excuse(disk, READ_SHARE);
                    self.seen.waited_for.push((disk.to_owned(), remote));
                    return is_any;
                }
                Err(e) => failed = failed.or(Some((partition, e))),
            }
        }
        remote.finish();
        if let Some((partition, e)) = failed {
            let why = match e.raw_os_error() {
                Some(libc::EBUSY) => "another one has its place or its number".to_owned(),
                _ => e.to_string(),
            };
            (self.say)(&format!(
                "{disk}: {partition} can't be added: {why}; going on without it"
            ));
        }
        is_any
    }

    /// A child that reads `name` until then.
    fn reader(&mut self, name: &str, until: Instant) -> Option<RemoteDevice> {
        let remote = RemoteDevice::start(&self.dev.join(name), until);
        remote
            .map_err(|e| (self.say)(&format!("{name}: can't start a reader: {e}")))
            .ok()
    }

    /// The end of a share that begins now.
    fn until(&self, share: Duration) -> Instant {
        let end = Instant::now().checked_add(share);
        end.map_or(self.deadline, |at| at.min(self.deadline))
    }

    fn is_waited_for(&self, disk: &str) -> bool {
        self.seen.waited_for.iter().any(|(late, _)| late == disk)
    }

    /// A driver that still reads the partition table holds everybody else up.
    fn is_being_bound(&self, block: &Block) -> bool {
        !self.seen.announced.contains(&block.name)
            && self.seen.jobs.iter().any(|job| match &job.kind {
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
        let until = self.until(share);
        for block in blocks {
            let Some(remote) = self.reader(&block.name, until) else {
                return;
            };
            let result = volumes::read(&remote, block);
            if result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::TimedOut) {
                self.excuse(&block.name, share);
                self.seen.waited_for.push((disk.to_owned(), remote));
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
                if let Err(problem) = &contents.table {
                    (self.say)(&format!("{name}: {problem}"));
                }
                Ok(contents)
            }
        };
        let _ = self.seen.known.insert(name.to_owned(), known);
    }

    /// Whole disks the kernel has called ready.
    fn disks(&self) -> impl Iterator<Item = &String> {
        let whole = self.seen.blocks.iter().filter(|b| b.partition.is_none());
        whole
            .map(|b| &b.name)
            .filter(|name| self.seen.announced.contains(*name))
    }

    /// The volumes that are meant: first what can be read, then by place in the machine (bus address, partition
    /// number).
    fn matching(&self, wanted: Wanted<'_>) -> Vec<Volume> {
        let mut matching: Vec<Volume> = volumes::volumes(&self.seen.blocks, &self.seen.known)
            .into_iter()
            .filter(|v| wanted.means(v) && !matches!(v.state, State::Silent | State::Empty))
            .collect();
        matching.sort_by_key(|v| wanted.fit(v));
        matching
    }

    fn take_first(&mut self, wanted: Wanted<'_>, matching: Vec<Volume>) -> Option<Volume> {
        if let [first, others @ ..] = matching.as_slice()
            && !others.is_empty()
        {
            let others: Vec<String> = others.iter().map(Volume::to_string).collect();
            (self.say)(&format!(
                "warning: {wanted} is not unique: taking {first}, not {}",
                others.join(", ")
            ));
        }
        matching.into_iter().next()
    }

    /// Loads what devices ask for whose buses bind by themselves (platform, USB, …). True when something was loaded.
    fn load_for_free_buses(&mut self, undriven: &[Device]) -> bool {
        let mut loaded = false;
        for device in undriven.iter().filter(|d| !d.is_held()) {
            if self.seen.tried.insert(device.path.clone()) {
                loaded |= self.load_for(device);
            }
        }
        loaded
    }

    /// Starts to bind the next device that may lead to a disk. False when there is none left.
    fn bind_next(&mut self, undriven: &[Device]) -> bool {
        let next = undriven
            .iter()
            .filter(|d| d.is_held() && !self.seen.tried.contains(&d.path))
            .filter_map(|d| Some((d.rank()?, d)))
            .filter(|(_, d)| d.is_storage() || self.modules.index.for_modalias(&d.modalias).next().is_some())
            .min_by_key(|(rank, d)| (self.was_late(&d.to_string()), *rank, &d.path));
        let Some((_, device)) = next else { return false };
        let _ = self.seen.tried.insert(device.path.clone());
        let _ = self.load_for(device);
        match Write::start(&devices::probe_file(self.sys, &device.bus), &device.name) {
            Ok(write) => {
                let device = device.clone();
                let before = self.disks().cloned().collect();
                let late = self.seen.jobs.iter().filter(|j| j.late).count();
                let share = if late < MANY && !self.was_late(&device.to_string()) {
                    self.share
                } else {
                    self.share.min(SHORT_SHARE)
                };
                self.seen
                    .jobs
                    .push(Job::new(share, JobKind::Bind { device, write, before }));
            }
            Err(e) => (self.say)(&format!("{device}: can't be bound: {e}")),
        }
        true
    }

    /// Loads what a device asks for. Whoever needs a module that is refused finds out.
    fn load_for(&mut self, device: &Device) -> bool {
        let index = self.modules.index;
        let mut loaded = false;
        for module in index
            .for_modalias(&device.modalias)
            .flat_map(|m| index.closure(&m.name))
        {
            if self.modules.load_one(module, self.say) {
                loaded = true;
                // It may have brought a bus; its first devices must not be bound before it is held.
                self.hold_buses();
            }
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
        let next = self
            .seen
            .jobs
            .iter()
            .filter_map(Job::expires)
            .chain([self.deadline])
            .min();
        let timeout = next
            .map_or(SAFETY_LOOK, |at| at.saturating_duration_since(now))
            .min(SAFETY_LOOK)
            // poll(2) counts in whole milliseconds, and rounding down would spin.
            .saturating_add(Duration::from_millis(1));
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds: Vec<PollFd<'_>> = [self.seen.uevents.as_fd()]
            .into_iter()
            .chain(self.seen.jobs.iter().filter_map(Job::wakes))
            .chain(self.seen.waited_for.iter().map(|(_, remote)| remote.as_fd()))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(cause) => Err(ProbeError::Events(cause)),
        }
    }

    fn not_found(&self, wanted: Wanted<'_>, took: Duration) -> ProbeError {
        let stuck = self.seen.jobs.iter().filter_map(|j| match &j.kind {
            JobKind::Bind { device, .. } => Some(device.to_string()),
            JobKind::Show { .. } => None,
        });
        let without_driver = devices::held(self.sys)
            .into_iter()
            .filter(Device::is_storage)
            .filter(|d| self.modules.index.for_modalias(&d.modalias).next().is_none())
            .map(|d| format!("{d} ({})", d.modalias));
        ProbeError::NotFound {
            wanted: wanted.to_string(),
            waited: took,
            seen: volumes::volumes(&self.seen.blocks, &self.seen.known),
            stuck: stuck.collect(),
            without_driver: without_driver.collect(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
