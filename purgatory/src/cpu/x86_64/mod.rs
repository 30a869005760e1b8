//! x86_64.

mod sha;
mod xxh;

pub use sha::Cpu;
