//! The hand-over record: what this boot did and when, for the user space of the kernel it leads to.
//!
//! Given what the stage did and the purgatory stamped; responsible for the bytes ([`Handover::to_bytes`]), for reading any
//! bytes back safely ([`parse`]), and for one [`Timeline`] from power-on to the main Linux' PID 1.
//!
//! The record is 64 bytes that the purgatory fills in ([`purgatory::Record`]), then TOML text. arm64 has it as the property
//! [`PROPERTY`] of `/chosen`, x86_64 as a setup_data node of type [`SETUP_DATA`].

mod clock;
mod record;
mod stamps;
mod timeline;

#[cfg(feature = "fuzz")]
pub(crate) use clock::started;
pub(crate) use clock::{Clock, Phases, Sample, process_started};
pub(crate) use record::{Anchor, Handover, Payload, Phase, RecordError, parse};
pub(crate) use stamps::{check_rate, check_us};
pub(crate) use timeline::megabytes;
pub(crate) use timeline::{Main, Owner, Pid1, Span, Timeline};

/// arm64: the property of `/chosen`.
pub(crate) const PROPERTY: &str = "cato,handover";
/// x86_64: the type of the setup_data node, "CATO". Kernels pass over types they do not know, and keep the node's memory.
pub(crate) const SETUP_DATA: u32 = u32::from_le_bytes(*b"CATO");

/// More microseconds than any boot takes: sums of some of them do not overflow.
const MOST_TICKS_US: i64 = 1_000_000_000_000_000;

/// A duration, microseconds.
pub(crate) fn micros(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

/// How long `ticks` of a counter are, microseconds, rounded; 0 where its frequency is not known.
pub(crate) fn ticks_us(ticks: u64, hz: u64) -> i64 {
    let wide = u128::from(ticks)
        .saturating_mul(1_000_000)
        .saturating_add(u128::from(hz / 2));
    let us = wide.checked_div(hz.into()).unwrap_or(0);
    i64::try_from(us).unwrap_or(i64::MAX).min(MOST_TICKS_US)
}

/// `value` with a point before its last `digits` digits.
pub(crate) fn point(value: i64, digits: u32) -> String {
    let scale = 10_u64.saturating_pow(digits);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, part) = (
        value.unsigned_abs().div_euclid(scale),
        value.unsigned_abs().rem_euclid(scale),
    );
    format!(
        "{sign}{whole}.{part:0width$}",
        width = usize::try_from(digits).unwrap_or(0)
    )
}

/// Microseconds as `1234.567` milliseconds.
pub(crate) fn milliseconds(us: i64) -> String {
    point(us, 3)
}
