//! The contract between the stage and the purgatory, and everything of the purgatory that needs no hardware.
//!
//! Given a [`Params`] block filled in by the stage, the blob (this crate's binary) checks the payload, stamps the
//! time and enters the main kernel. What is here runs in the blob, in the stage and, in tests, on any host; but for the
//! digests' inner loops ([`cpu`]) it is safe code.
#![cfg_attr(not(test), no_std)]

pub mod check;
pub mod cpu;
pub mod message;
pub mod params;
pub mod reason;
pub mod sha256;
pub mod uart;
pub mod xxh3;

pub use params::{Check, Conduit, Params, Range, ReasonParams, ReasonPlace, Record, Region, UartKind, UartParams};
