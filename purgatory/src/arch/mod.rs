//! The one place that knows which machine it is: entry and exit, memory, ports, registers, reset.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod memory;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::*;
pub(crate) use memory::*;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::*;
