//! Builds Cato for a board and packs the service initramfs.
#![forbid(unsafe_code)]

pub mod apt;
pub mod cross;
pub mod modules;
