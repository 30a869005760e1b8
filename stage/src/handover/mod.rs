//! The hand-over record: what this boot did and when, for the user space of the kernel it leads to.
//!
//! Given what the stage did and the purgatory stamped; responsible for the bytes ([`Handover::to_bytes`]), for reading them
//! back whatever is in them ([`parse`]), and for one [`Timeline`] from power-on to the main Linux' PID 1.
//!
//! The record is 64 bytes that the purgatory fills in ([`Stamps`]), then TOML text. arm64 has it as the property
//! [`PROPERTY`] of `/chosen`, x86_64 as a setup_data node of type [`SETUP_DATA`].

mod clock;
pub(crate) mod decimal;
mod record;
mod stamps;
mod timeline;

pub use clock::{Clock, Phases, Reading, Sample, boottime_ms, process_started};
pub use record::{Anchor, Handover, Payload, Phase, RecordError, parse};
pub use stamps::{STAMPS_SIZE, Stamps};
pub(crate) use timeline::megabytes;
pub use timeline::{Main, Owner, Pid1, Span, Timeline};

/// arm64: the property of `/chosen`.
pub const PROPERTY: &str = "cato,handover";
/// x86_64: the type of the setup_data node, "CATO". Kernels pass over types they do not know, and keep the node's memory.
pub const SETUP_DATA: u32 = u32::from_le_bytes(*b"CATO");

/// A count as a number with a point: exact as far as anything here reaches.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 ticks are a month at 3 GHz, and it is the rounding of a month then"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}
