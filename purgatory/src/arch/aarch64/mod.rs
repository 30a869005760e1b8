//! arm64.

#[cfg(target_os = "none")]
mod hardware;
mod sha;
mod xxh;

#[cfg(target_os = "none")]
pub(crate) use hardware::*;
pub(crate) use sha::Cpu;
