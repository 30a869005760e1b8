//! arm64.

#[cfg(target_os = "none")]
mod hardware;
mod sha;

#[cfg(target_os = "none")]
pub(crate) use hardware::*;
#[cfg(target_os = "none")]
pub(crate) use sha::Cpu;
