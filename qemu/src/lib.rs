//! The machines Cato is tried on: everything `cargo qemu` does, as a library its scenarios use too.
//!
//! Bottom up: [`board`] is what differs between the arches, [`machine`] a virtual machine as a value and as QEMU's
//! command line, [`vm`] one that runs, [`console`] what it said and when.

#![expect(
    clippy::print_stdout,
    clippy::arithmetic_side_effects,
    reason = "host tool: it talks to people, and its numbers are times and sizes it made itself"
)]

pub mod bench;
pub mod board;
pub mod boot;
pub mod chain;
pub mod console;
pub mod debian;
pub mod device_tree;
pub mod drive;
pub mod gdb;
pub mod guests;
pub mod loader;
pub mod machine;
pub mod nbd;
pub mod power;
pub mod qmp;
pub mod scenario;
pub mod service;
pub mod setup;
pub mod terminal;
pub mod test;
pub mod timeline;
pub mod tmux;
pub mod verdict;
pub mod vm;
pub mod workspace;
