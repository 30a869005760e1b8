//! The worker: one entry, from probing to the jump, in a process that may hang, be killed or take the kernel's oops.
//!
//! Given a chosen entry; responsible for the flow below, and for telling PID 1 ([`message`]) which step it is in. PID 1
//! decides on deadlines, on the jump and on what happens after a failure.

mod files;
mod keeping;
mod line;
pub(crate) mod message;
mod reason;
mod record;
mod run;
mod summary;

pub use run::{FLAG, main};
