//! Disks, partitions, file systems: from a `source` in the config to a tree of files.

pub mod blocks;
pub mod gpt;
pub mod superblock;
pub mod uevent;
