//! `boot.toml`, from text to [`Config`], and the other small texts that the host tools write and the stage reads.
//!
//! Given the text of a file; responsible for every diagnostic about it, with line and column, all in one run.
//! Pure: no I/O, no unsafe, the same code on the host (`cato check`) and in the initramfs.
#![forbid(unsafe_code)]

mod arch;
mod diagnostic;
mod entry;
pub mod keys;
mod model;
pub mod modules;
mod parse;
pub mod paths;
mod reader;
mod render;
mod syntax;
mod value;
mod word;

pub use arch::{Arch, UnknownArch};
pub use diagnostic::{Diagnostic, Kind, line_column};
pub use model::{Arena, Check, Config, Console, Entry, Purgatory, ReasonStore, Sha256, Source, WantedDigests};
pub use parse::{MAX_BYTES, parse, parse_bytes};
pub use render::render;
pub use value::Fault;
