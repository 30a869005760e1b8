//! A kernel that only says how it was entered, and the host's side of it.
//!
//! The guest (`main.rs`, freestanding) is entered as a Linux kernel is: as an arm64 `Image`, or as an x86_64 `bzImage` at its
//! 64-bit entry point. It prints `entry: key=value` lines on QEMU's UART and powers off. The host makes the image
//! ([`image`]), reads the lines back ([`facts`]) and holds them against the boot protocol ([`contract`]).
//!
//! What the guest prints is gathered by code that runs on either side ([`fdt`], [`zero_page`], [`paging`]), through
//! [`memory::Memory`]: the guest's is the machine, a test's is an array.
#![cfg_attr(target_os = "none", no_std)]
#![forbid(unsafe_code)]
#![cfg_attr(test, expect(clippy::arithmetic_side_effects, reason = "tests count freely"))]

pub mod fdt;
pub mod memory;
pub mod out;
pub mod paging;
pub mod zero_page;

#[cfg(not(target_os = "none"))]
pub mod contract;
#[cfg(not(target_os = "none"))]
pub mod facts;
#[cfg(not(target_os = "none"))]
pub mod image;
