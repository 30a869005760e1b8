//! The service kernel that `cargo mkinitramfs` builds, with what it takes to build it.

use anyhow::Result;
use config::Arch;
use mkinitramfs::kernel::{self, Kernel, KernelRecipe};

use super::packages;
use crate::workspace;

/// The usual one for `arch`, built if it was not.
pub fn kernel(arch: Arch) -> Result<Kernel> {
    if let Some(kernel) = built(arch) {
        return Ok(kernel);
    }
    packages::install(|| kernel::missing_packages(arch))?;
    kernel::build(&workspace::root(), &KernelRecipe::usual(arch))
}

/// The same, where it was built.
pub fn built(arch: Arch) -> Option<Kernel> {
    kernel::built(&workspace::root(), &KernelRecipe::usual(arch))
}
