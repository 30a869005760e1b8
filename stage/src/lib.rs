//! The boot stage, as a library that runs and is tested on any host, for both arches.
//!
//! ```text
//! PID 1 = cato:  probe ▸ select ▸ budget ▸ reserve ▸ load ▸ verify ▸ lay out ▸ hand off  ▸ purgatory
//! &str → Config → Vec<Volume> → Choice → Budget → Arena → Payload → Verified<Payload> → Layout → !
//! ```

pub mod cli;
mod decimal;
pub mod digest;
pub mod handoff;
pub mod handover;
pub mod load;
pub mod place;
pub mod probe;
pub mod quoted;
pub mod reason;
pub mod report;
pub mod select;
pub mod service;
pub mod supervisor;
pub mod sys;
pub mod tree;
pub mod verify;
pub mod worker;
