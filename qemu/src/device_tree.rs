//! QEMU's own device tree with a mark in it, so that the tree the main system sees can be told from any other.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};

use crate::board::board;
use crate::machine::Machine;

/// The property the report program looks for in `/`.
const MARK: &str = "cato-test,nonce";

/// Has QEMU write the device tree of `machine` to `file`, with `nonce` in it.
pub fn write_marked(machine: &Machine, nonce: &str, file: &Path) -> Result<()> {
    let dump = Machine {
        kernel: None,
        dtb: None,
        drives: Vec::new(),
        gdb: None,
        ..machine.clone()
    };
    let mut command = Command::new(board(machine.arch).qemu);
    for argument in dump.arguments() {
        command.args(argument.words);
    }
    // A second -machine adds to the first; QEMU ends when it has written the file.
    command.arg("-machine").arg(format!("dumpdtb={}", file.display()));
    let output = command.stdin(Stdio::null()).output().context("can't start QEMU")?;
    ensure!(
        output.status.success(),
        "QEMU wrote no device tree: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let marked = mark(&fs::read(file)?, nonce)?;
    fs::write(file, marked).with_context(|| format!("can't write {}", file.display()))
}

/// The same tree with the mark.
pub fn mark(dtb: &[u8], nonce: &str) -> Result<Vec<u8>> {
    let fdt = Fdt::new(dtb).map_err(|error| anyhow!("not a device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    tree.root.remove_property(MARK);
    let mark = DeviceTreeProperty::new(MARK, nonce).map_err(|error| anyhow!("no property {MARK}: {error}"))?;
    tree.root.add_property(mark);
    Ok(tree.to_dtb())
}
