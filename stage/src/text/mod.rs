//! Words: kernel command lines, and texts and sizes as people read them. Pure.

pub(crate) mod cmdline;
mod quoted;
mod size;

pub use quoted::{cut, printable, quoted, word};
pub(crate) use size::{Listed, Size};
