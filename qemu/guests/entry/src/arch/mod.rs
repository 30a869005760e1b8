//! Given the machine state `entry.S` saved, prints it and all that it points to, then powers off.
//!
//! Responsible for the machine: the only unsafe code of the guest is in the modules below.
#![expect(unsafe_code, reason = "reads physical memory, talks to the UART, ends the machine")]

mod common;
#[cfg_attr(target_arch = "aarch64", path = "aarch64/mod.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64/mod.rs")]
mod entry;
#[cfg_attr(target_arch = "aarch64", path = "aarch64/hardware.rs")]
#[cfg_attr(target_arch = "x86_64", path = "x86_64/hardware.rs")]
mod hardware;
