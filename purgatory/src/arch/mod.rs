//! The one place that knows which CPU it is: entry and exit, digest instructions, ports, registers, reset.
//!
//! On a host only the digests are here, for their tests.

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(all(target_arch = "aarch64", not(target_os = "none")))]
pub(crate) use aarch64::Cpu;
#[cfg(all(target_arch = "x86_64", not(target_os = "none")))]
pub(crate) use x86_64::Cpu;

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
pub(crate) use aarch64::*;
#[cfg(target_os = "none")]
pub(crate) use memory::*;
#[cfg(all(target_arch = "x86_64", target_os = "none"))]
pub(crate) use x86_64::*;
