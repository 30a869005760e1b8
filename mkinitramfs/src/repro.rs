//! Proof that an initramfs depends on nothing but the recipe and the sources.
//!
//! Given a checkout; responsible for building it a second time in another folder and comparing the bytes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cross::{self, TargetKind};
use crate::pack::{Recipe, pack};

/// Packs `recipe` in the workspace and in a copy of it in `scratch`, which must not lie in the workspace's sources, and
/// compares. It takes minutes: the copy has no build results.
///
/// # Errors
/// When the bytes differ (the error says which program differs and where), or as [`pack`].
pub fn check(workspace: &Path, scratch: &Path, recipe: &Recipe) -> Result<()> {
    // Another depth, too: a path's length must not matter either.
    let copy = scratch.join("another/place");
    fs::create_dir_all(&copy)?;
    for entry in fs::read_dir(workspace).with_context(|| workspace.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if name != "target" && name != ".git" {
            copy_all(&entry.path(), &copy.join(name))?;
        }
    }
    // What was downloaded need not be downloaded again.
    let sysroot = workspace.join("target/sysroot");
    if sysroot.exists() && !copy.join("target/sysroot").exists() {
        fs::create_dir_all(copy.join("target"))?;
        std::os::unix::fs::symlink(fs::canonicalize(sysroot)?, copy.join("target/sysroot"))?;
    }
    let (here, there) = (pack(workspace, recipe)?, pack(&copy, recipe)?);
    for program in ["purgatory", "cato"] {
        let kind = if program == "cato" {
            TargetKind::Musl
        } else {
            TargetKind::Bare
        };
        let path = |root: &Path| -> PathBuf {
            let target = cross::target(recipe.arch, kind);
            match kind {
                TargetKind::Musl => root.join("target/cross/ship").join(target).join(program),
                TargetKind::Bare => root.join("target/cross").join(target).join(program).join(program),
            }
        };
        let read = |root| fs::read(path(root)).with_context(|| path(root).display().to_string());
        same(program, &read(workspace)?, &read(&copy)?)?;
    }
    same("the initramfs", &here.bytes, &there.bytes)
}

fn same(what: &str, here: &[u8], there: &[u8]) -> Result<()> {
    let first = here
        .iter()
        .zip(there)
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| here.len().min(there.len()));
    ensure!(
        here == there,
        "{what}: {} and {} bytes, first difference at byte {first:#x}: the build depends on its folder",
        here.len(),
        there.len()
    );
    Ok(())
}

fn copy_all(from: &Path, to: &Path) -> Result<()> {
    let show = || from.display().to_string();
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from).with_context(show)? {
            let entry = entry?;
            copy_all(&entry.path(), &to.join(entry.file_name()))?;
        }
    } else {
        fs::copy(from, to).with_context(show)?;
    }
    Ok(())
}
