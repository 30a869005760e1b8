//! The whole chain as one list of spans: firmware, service kernel, the stage's phases, purgatory, main kernel. Pure.
//!
//! Given what the record says and what the main Linux knows of itself; responsible for putting both kernels' clocks on one
//! axis by the counter that goes through all of it, and for leaving out, with a word, what is not known or can't be.
#![expect(clippy::arithmetic_side_effects, reason = "no time here is more than MOST_US")]

use purgatory::Record;

use super::{Anchor, Handover, Phase, check_rate, point, ticks_us};

/// Whose time it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// Whatever was before the service kernel's clock.
    Firmware,
    /// The service Linux.
    Service,
    /// PID 1 and its worker.
    Cato,
    /// Between the kernels.
    Purgatory,
    /// The main Linux.
    Main,
}

impl Owner {
    /// All, in the order of a boot.
    pub(crate) const ALL: [Self; 5] = [Self::Firmware, Self::Service, Self::Cato, Self::Purgatory, Self::Main];

    /// The word for people, and in `--json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Service => "service Linux",
            Self::Cato => "Cato",
            Self::Purgatory => "purgatory",
            Self::Main => "main Linux",
        }
    }
}

/// A part of the boot. Times are microseconds from the timeline's zero; `end_us` is never before `start_us`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    /// Its key: `firmware`, `service`, a phase's name, `leave` or `hand-off`, `check`, `exit`, `early`, `main`, or `between`.
    pub name: String,
    /// What happens, in words.
    pub label: String,
    /// Whose it is.
    pub owner: Owner,
    /// From.
    pub start_us: i64,
    /// To.
    pub end_us: i64,
    /// A rate, or what else is to be said; may be empty.
    pub note: String,
}

impl Span {
    /// How long.
    pub(crate) fn took_us(&self) -> i64 {
        self.end_us - self.start_us
    }
}

/// What the main Linux knows of itself when it is asked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Main {
    /// The counter now.
    pub counter: u64,
    /// Its ticks in a second, measured here; none: as the record says.
    pub hz: Option<u64>,
    /// Microseconds since this kernel's clock began, not slewed by NTP.
    pub uptime_us: i64,
    /// What that may be wrong by when it is compared to the counter, microseconds.
    pub error_us: i64,
    /// PID 1.
    pub pid1: Option<Pid1>,
}

/// When PID 1 ran.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pid1 {
    /// Microseconds of this kernel's clock.
    pub us: i64,
    /// How that is known.
    pub by: &'static str,
}

/// The chain.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Timeline {
    /// In order, without overlap.
    pub spans: Vec<Span>,
    /// What is not in it, and why.
    pub missing: Vec<String>,
    /// Its zero is power-on; else the start of the service kernel's clock.
    pub from_power_on: bool,
}

/// More phases than any boot has, and later than any.
const MOST_PHASES: usize = 64;
const MOST_US: i64 = 10_000_000_000_000;
/// An error of the main kernel's start that would show in the picture.
const MOST_ERROR: i64 = 100_000;
/// No kernel takes so long to start its clock. kexec-tools hands all of an arm64 tree's `/chosen` on, the record with it.
const MOST_EARLY: i64 = 60_000_000;

impl Timeline {
    /// From the record and, on a running main Linux, its own facts.
    pub(crate) fn new(stamps: &Record, handover: &Handover, main: Option<&Main>) -> Self {
        let firmware = handover.firmware_us.filter(|us| (0..MOST_US).contains(us));
        let mut chain = Chain {
            marks: Vec::new(),
            missing: Vec::new(),
            zero: firmware.unwrap_or(0),
        };
        match firmware {
            Some(_) => chain.mark(
                -chain.zero,
                "firmware",
                Owner::Firmware,
                "and the service kernel before its clock began",
            ),
            None => chain.lacks("firmware: time of power-on unknown; zero is the start of the service kernel's clock"),
        }
        chain.phases(handover);
        chain.purgatory(stamps, handover);
        let end = chain.main(stamps, handover, main);
        Self {
            from_power_on: firmware.is_some(),
            ..chain.finish(end)
        }
    }

    /// From the first span's start to the last one's end.
    pub(crate) fn total_us(&self) -> i64 {
        let start = self.spans.first().map_or(0, |s| s.start_us);
        self.spans.last().map_or(0, |s| s.end_us) - start
    }

    /// The span of that name.
    pub(crate) fn span(&self, name: &str) -> Option<&Span> {
        self.spans.iter().find(|s| s.name == name)
    }
}

/// The start of a span; the next one's start is its end.
struct Mark {
    /// Microseconds of the service kernel's clock.
    us: i64,
    name: String,
    owner: Owner,
    note: String,
}

struct Chain {
    marks: Vec<Mark>,
    missing: Vec<String>,
    /// What the timeline's zero is before the service kernel's.
    zero: i64,
}

impl Chain {
    fn mark(&mut self, us: i64, name: &str, owner: Owner, note: impl Into<String>) {
        self.marks.push(Mark {
            us,
            name: name.to_owned(),
            owner,
            note: note.into(),
        });
    }

    fn lacks(&mut self, what: impl Into<String>) {
        self.missing.push(what.into());
    }

    /// The latest there is.
    fn last(&self) -> i64 {
        self.marks.last().map_or(0, |m| m.us)
    }

    fn phases(&mut self, handover: &Handover) {
        if handover.phases.is_empty() {
            self.lacks("phases: the record has none");
        }
        for Phase { name, us } in handover.phases.iter().take(MOST_PHASES) {
            if !(0..MOST_US).contains(us) || *us < self.last() {
                self.lacks(format!("{name}: began before the phase it follows"));
                continue;
            }
            match name.as_str() {
                "service" => self.mark(*us, name, Owner::Service, ""),
                "load" => {
                    let read = (handover.read != 0).then(|| format!("{} read", megabytes(handover.read)));
                    self.mark(*us, name, Owner::Cato, read.unwrap_or_default());
                }
                _ => self.mark(*us, name, Owner::Cato, ""),
            }
        }
    }

    /// From the jump to the purgatory's own.
    fn purgatory(&mut self, stamps: &Record, handover: &Handover) {
        let Some(axis) = Axis::of(stamps, handover) else {
            return self
                .lacks("purgatory and main Linux: the counter's frequency or its offset from the clock is unknown");
        };
        let copied = (handover.copied != 0).then(|| format!("{} to copy", megabytes(handover.copied)));
        if stamps.jump == 0 {
            // The record was copied before it could say so: what came after its last word is one span.
            let copied = copied.as_ref().map(|copied| format!("{copied} and the purgatory"));
            let said = axis.anchor.us.max(self.last());
            self.mark(said, "hand-off", Owner::Service, copied.unwrap_or_default());
            self.lacks(
                "leave: the record was copied before the jump, so its time is part of \"kexec_load, shut down\"",
            );
        }
        let jump = (stamps.jump != 0)
            .then(|| axis.at(stamps.jump))
            .filter(|us| (self.last()..MOST_US).contains(us));
        let Record {
            entered, checked, left, ..
        } = *stamps;
        let order = entered != 0 && stamps.jump <= entered && entered <= checked && checked <= left;
        let fits = order && axis.at(entered) >= self.last() && axis.at(left) < MOST_US;
        match jump {
            Some(us) if stamps.written() && fits => self.mark(us, "leave", Owner::Service, copied.unwrap_or_default()),
            Some(us) => self.mark(us, "between", Owner::Purgatory, "no stamps of the purgatory"),
            None if stamps.jump == 0 => {}
            None => self.lacks("leave: the time of the jump does not fit the last phase"),
        }
        if !stamps.written() {
            return self.lacks("purgatory: it wrote no stamps");
        }
        if !fits {
            return self.lacks("purgatory: its stamps contradict each other or the clock; the counter was reset");
        }
        let rate = check_rate(stamps).map(|rate| format!("{}, {rate} MB/s", megabytes(stamps.bytes)));
        self.mark(axis.at(entered), "check", Owner::Purgatory, rate.unwrap_or_default());
        self.mark(axis.at(checked), "exit", Owner::Purgatory, "");
        self.mark(axis.at(left), "early", Owner::Main, "");
    }

    /// The main kernel's own; answers with the end of it all.
    fn main(&mut self, stamps: &Record, handover: &Handover, main: Option<&Main>) -> Option<i64> {
        let Some(main) = main else {
            self.lacks("main Linux: this report was not made on it");
            return None;
        };
        let axis = Axis::of(stamps, handover)?;
        if main.error_us > MOST_ERROR {
            self.lacks(format!(
                "main Linux: up for too long to tell when its clock began (uncertain by {} ms); run the report sooner after boot",
                main.error_us / 1000
            ));
            return None;
        }
        // From the last stamp to now by the counter, less the time that this kernel's clock knows of.
        let from = [stamps.left, stamps.checked, stamps.entered, stamps.jump, axis.anchor.at];
        let from = from
            .into_iter()
            .find(|c| *c != 0 && (stamps.written() || *c == stamps.jump || *c == axis.anchor.at));
        let ticks = from.and_then(|from| main.counter.checked_sub(from).map(|ticks| (from, ticks)));
        let hz = main.hz.filter(|hz| *hz != 0).unwrap_or(stamps.hz);
        let zero = ticks.map(|(from, ticks)| {
            axis.at(from)
                .saturating_add(ticks_us(ticks, hz))
                .saturating_sub(main.uptime_us)
        });
        // A kernel that is quicker at its clock than the error does not start before it was entered.
        let last = self.last();
        let zero = zero.map(|us| {
            if us < last && last.saturating_sub(us) <= main.error_us.max(1000) {
                last
            } else {
                us
            }
        });
        match zero.filter(|us| *us >= last && *us < MOST_US) {
            None => {
                self.lacks(
                    "main Linux: its clock began before the purgatory left, by this counter; the counter was reset",
                );
                None
            }
            Some(us) if us - last > MOST_EARLY => {
                self.lacks(format!(
                    "main Linux: its clock began {} s later, so another kernel ran in between and passed the record on: \
                     the record is from an earlier boot",
                    (us - last) / 1_000_000
                ));
                None
            }
            Some(us) => {
                let by = main.pid1.map_or("", |p| p.by);
                self.mark(us, "main", Owner::Main, by);
                let pid1 = main.pid1.filter(|p| (0..MOST_US).contains(&p.us))?;
                Some(us + pid1.us)
            }
        }
    }

    /// Every mark up to the next one. The last one's end is `end`; without it, it is left out.
    fn finish(self, end: Option<i64>) -> Timeline {
        let mut spans = Vec::new();
        let mut marks = self.marks.into_iter().peekable();
        let mut missing = self.missing;
        while let Some(mark) = marks.next() {
            let Some(to) = marks.peek().map(|m| m.us).or(end) else {
                missing.push(format!("{}: nothing says when it ended", mark.name));
                break;
            };
            let (start_us, end_us) = (mark.us + self.zero, to + self.zero);
            let label = label(&mark.name).unwrap_or(&mark.name).to_owned();
            // The rate of a read belongs to its span.
            let mut note = mark.note;
            if mark.name == "load" && !note.is_empty() {
                note.push_str(" from the source");
            }
            spans.push(Span {
                name: mark.name,
                label,
                owner: mark.owner,
                start_us,
                end_us: end_us.max(start_us),
                note,
            });
        }
        Timeline {
            spans,
            missing,
            from_power_on: false,
        }
    }
}

/// The counter on the service kernel's clock.
struct Axis {
    anchor: Anchor,
    hz: u64,
}

impl Axis {
    fn of(stamps: &Record, handover: &Handover) -> Option<Self> {
        let anchor = handover.counter.filter(|a| (0..MOST_US).contains(&a.us) && a.at != 0)?;
        (stamps.hz != 0).then_some(Self { anchor, hz: stamps.hz })
    }

    fn at(&self, counter: u64) -> i64 {
        let ticks = ticks_us(counter.abs_diff(self.anchor.at), self.hz);
        self.anchor.us + if counter < self.anchor.at { -ticks } else { ticks }
    }
}

fn label(name: &str) -> Option<&'static str> {
    Some(match name {
        "firmware" => "firmware",
        "service" => "service kernel to PID 1",
        "start" => "PID 1, config, countdown",
        "select" => "start the worker",
        "probe" => "find machine and source",
        "budget" => "headers and sizes",
        "reserve" => "take memory",
        "load" => "read, unpack, hash",
        "verify" => "compare digests",
        "layout" => "lay out, write tables",
        "kexec" => "kexec_load",
        "loaded" => "last look",
        "leave" => "service kernel shuts down",
        "hand-off" => "kexec_load, shut down",
        "between" => "between the kernels",
        "check" => "check",
        "exit" => "clean, turn off, jump",
        "early" => "main kernel before its clock",
        "main" => "main kernel to PID 1",
        _ => return None,
    })
}

/// `101.7 MB`, in powers of ten as all rates here.
pub(crate) fn megabytes(count: u64) -> String {
    let tenths = |unit: u64| i64::try_from(count.saturating_add(unit / 20) / (unit / 10)).unwrap_or(i64::MAX);
    match count {
        1_000_000.. => format!("{} MB", point(tenths(1_000_000), 1)),
        1_000.. => format!("{} kB", point(tenths(1_000), 1)),
        _ => format!("{count} bytes"),
    }
}

#[cfg(test)]
mod tests;
