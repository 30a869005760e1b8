//! Words: kernel command lines, passwords, and texts and sizes as people read them. Pure.

pub(crate) mod cmdline;
pub(crate) mod password;
mod quoted;
mod size;

pub use quoted::quoted;
pub(crate) use quoted::{cut, printable, word};
pub(crate) use size::{Listed, Size};
