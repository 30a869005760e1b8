//! Builds Cato for a board and packs the service initramfs.
#![forbid(unsafe_code)]
#![expect(
    clippy::arithmetic_side_effects,
    reason = "host tool: sizes of files that fit in memory; a panic here boots nothing"
)]

mod added;
pub mod apt;
pub mod bootable;
mod compression;
pub mod cpio;
pub mod cross;
pub mod disk;
pub mod errata;
pub mod fit;
pub mod kernel;
pub mod list;
pub mod modules;
mod pack;
pub mod progress;
pub mod repro;
pub mod uki;
pub mod whole_disk;

pub use added::Added;
pub use compression::{Compress, compress};
pub use cpio::archive;
pub use pack::{BUDGET, Packed, Recipe, Table, check_config, pack};

use std::path::{Path, PathBuf};

/// The checkout this program was built from.
pub fn workspace() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).to_owned()
}
