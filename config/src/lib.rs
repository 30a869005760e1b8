//! `boot.toml`, from text to [`Config`], and the other small texts that the host tools write and the stage reads.
//!
//! Given the text of a file; responsible for every diagnostic about it, with line and column, all in one run.
//! Pure: no I/O, no unsafe, the same code on the host (`cato check`) and in the initramfs. No text costs more than its
//! length: [`read`] and [`modules::Index::parse`] are where fuzzing starts.
#![forbid(unsafe_code)]

mod arch;
mod diagnostic;
mod entry;
pub mod keys;
mod lines;
mod lookalike;
mod model;
pub mod modules;
mod parse;
mod paste;
pub mod paths;
mod problems;
mod reader;
mod render;
mod slot;
mod survey;
mod syntax;
mod value;
mod word;

pub use arch::{Arch, UnknownArch};
pub use diagnostic::{Diagnostic, DiagnosticKind};
pub use lines::line_column;
pub use model::{
    Access, Arena, Config, Console, Entry, Purgatory, ReasonStore, Sha256, Slots, Source, Terminal, Unbind,
    WantedDigests,
};
pub use parse::{DEFAULT_TRIES, MAX_BYTES, Reading, parse, read};
pub use purgatory::Check;
pub use render::render;
pub use slot::{BOOT_WORDS, MAX_SLOTS, SLOT_NAME_BYTES, SlotName};
pub use value::Fault;
