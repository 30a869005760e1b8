//! `cato report`: how the running system was booted, and where the time from power-on to its PID 1 went.
//!
//! Given the record that Cato handed over and what this kernel knows of itself; responsible for three forms of the same:
//! a table for people ([`text()`]), one JSON object ([`json()`]), and a picture ([`svg()`]).

mod json;
mod now;
mod svg;
mod text;

use std::path::Path;

use config::Arch;

pub(crate) use json::json;
pub(crate) use now::running;
#[cfg(feature = "fuzz")]
pub(crate) use now::{mark, run_init};
pub(crate) use svg::svg;
pub(crate) use text::text;

use crate::handover::{Handover, Main, Payload, RecordError, Timeline, check_rate, check_us, megabytes, parse, point};
use crate::machine::record::{FindError, find};

/// What is reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    /// The machine.
    pub arch: Arch,
    /// The stage's part.
    pub handover: Handover,
    /// The purgatory's part.
    pub stamps: purgatory::Record,
    /// All of it on one axis.
    pub timeline: Timeline,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReportError {
    /// It could not be looked for.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Not there.
    #[error(
        "no hand-over record: Cato did not start this kernel, or one older than 0.1 did, or this kernel does not show \
         how it was started (arm64: /sys/firmware/fdt, x86_64: /sys/kernel/boot_params/setup_data)"
    )]
    None,
    /// There, but of no use.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Reads the record under `root`, the folder with `sys` in it, and puts it on one axis with the running kernel's facts.
///
/// # Errors
/// [`ReportError`]
pub(crate) fn report(root: &Path, main: impl FnOnce() -> Main) -> Result<Report, ReportError> {
    let found = find(root)?.ok_or(ReportError::None)?;
    let (stamps, handover) = parse(&found.bytes)?;
    Ok(Report {
        arch: found.arch,
        timeline: Timeline::new(&stamps, &handover, Some(&main())),
        handover,
        stamps,
    })
}

/// Three digits or whole milliseconds: `0.215 ms`, `35.2 ms`, `312 ms`, `1.523 s`.
fn duration(us: i64) -> String {
    let us = us.max(0);
    let (value, digits, unit) = match us {
        ..1_000 => (us, 3, "ms"),
        1_000..9_995 => (us.saturating_add(5) / 10, 2, "ms"),
        9_995..99_950 => (us.saturating_add(50) / 100, 1, "ms"),
        99_950..999_500 => return format!("{} ms", us.saturating_add(500) / 1000),
        _ => (us.saturating_add(500) / 1000, 3, "s"),
    };
    format!("{} {unit}", point(value, digits))
}

/// The check in words: what, over how much, how quickly.
fn check(report: &Report) -> String {
    let kind = &report.handover.check;
    match (check_us(&report.stamps), check_rate(&report.stamps)) {
        (Some(us), Some(rate)) => format!(
            "{kind}: {} in {} ({rate} MB/s)",
            megabytes(report.stamps.bytes),
            duration(us)
        ),
        (Some(_), None) => format!("{kind}: nothing was checked"),
        (None, _) => format!("{kind}: its time is not known"),
    }
}

/// What was handed over: x86_64 has no device tree.
fn payload(report: &Report) -> String {
    let Payload { kernel, initrd, dtb } = report.handover.payload;
    let parts = [("kernel", kernel), ("initrd", initrd), ("device tree", dtb)].into_iter();
    let parts = parts.filter(|(_, bytes)| *bytes != 0);
    let parts: Vec<String> = parts
        .map(|(name, bytes)| format!("{name} {}", megabytes(bytes)))
        .collect();
    parts.join(", ")
}

/// The entry: name and, if it has one, title.
fn entry(report: &Report) -> String {
    let Handover { entry, title, .. } = &report.handover;
    if title.is_empty() {
        format!("\"{entry}\"")
    } else {
        format!("\"{entry}\" ({title})")
    }
}

/// What all of the spans come to, and from where.
fn total(report: &Report) -> String {
    let from = if report.timeline.from_power_on {
        "power-on"
    } else {
        "the service kernel's start"
    };
    let to = if report.timeline.span("main").is_some() {
        "the main Linux' PID 1"
    } else {
        "the last that is known"
    };
    format!("{} from {from} to {to}", duration(report.timeline.total_us()))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
