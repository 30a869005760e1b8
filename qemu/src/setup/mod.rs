//! `cargo qemu setup`: what a machine must have before a machine can be started on it.
//!
//! Given a Debian machine with a Rust; responsible for the packages ([`packages`]) and the kernels ([`kernels`], [`tuned`]).
//! When all is there it costs a few `stat` calls and one `rustc --print sysroot`.

pub mod kernels;
pub mod packages;
pub mod tuned;

use anyhow::Result;
use config::Arch;

pub use kernels::{Kernel, Suite};
use packages::Need;

/// Everything, for both architectures.
pub fn all() -> Result<()> {
    packages::ensure(&Need::everything())?;
    for suite in Suite::ALL {
        for arch in Arch::ALL {
            let kernel = kernels::kernel(arch, suite)?;
            println!("{arch:<7} {suite:<9} Linux {}", kernel.version);
        }
    }
    Ok(())
}
