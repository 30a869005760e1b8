//! The boot stage, as a library that runs and is tested on any host, for both arches.
//!
//! ```text
//! PID 1 = cato:  select ▸ probe ▸ budget ▸ reserve ▸ load ▸ verify ▸ lay out ▸ hand off  ▸ purgatory
//! &str → Config → Choice → Source → Budget → Arena → Payload → Verified<Payload> → Layout → !
//! ```
//!
//! The modules are a tower: `tests/tower.rs` lists them from the ground up, and fails where one imports another above it.

mod cause;
pub mod cli;
mod deadlines;
mod devicetree;
mod formats;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod handover;
mod kexec;
pub mod layout;
mod load;
pub mod machine;
pub mod memory;
mod menu;
mod place;
mod probe;
mod quiesce;
mod report;
mod select;
mod state;
mod step;
pub mod supervisor;
mod sys;
pub mod text;
pub mod worker;
mod ymodem;

pub use probe::STATE_TYPE;
