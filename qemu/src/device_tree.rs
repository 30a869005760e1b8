//! QEMU's own device tree with a mark in it, so that the tree the main system sees can be told from any other, and with
//! memory that no kernel may use.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, ensure};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

use crate::board::board;
use crate::machine::Machine;

/// The property the report program looks for in `/`.
const MARK: &str = "cato-test,nonce";

/// Has QEMU write the device tree of `machine` to `file`, with `nonce` in it, and `reserved` (address, length) kept out of
/// every kernel's hands.
pub fn write(machine: &Machine, nonce: &str, reserved: &[(u64, u64)], file: &Path) -> Result<()> {
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
    let marked = mark(&fs::read(file)?, nonce, reserved)?;
    fs::write(file, marked).with_context(|| format!("can't write {}", file.display()))
}

/// The same tree with the mark and the reserved memory.
pub fn mark(dtb: &[u8], nonce: &str, reserved: &[(u64, u64)]) -> Result<Vec<u8>> {
    let fdt = Fdt::new(dtb).map_err(|error| anyhow!("not a device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    tree.root.remove_property(MARK);
    let mark = DeviceTreeProperty::new(MARK, nonce).map_err(|error| anyhow!("no property {MARK}: {error}"))?;
    tree.root.add_property(mark);
    if !reserved.is_empty() {
        tree.root.add_child(reserved_memory(reserved)?);
    }
    Ok(tree.to_dtb())
}

/// The same tree with a serial number and a network port at `port`, whose address is `address`: what firmware writes into
/// the tree of a board.
pub fn with_identity(dtb: &[u8], serial: Option<&str>, port: &str, address: [u8; 6]) -> Result<Vec<u8>> {
    let fdt = Fdt::new(dtb).map_err(|error| anyhow!("not a device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let root = &mut tree.root;
    if let Some(serial) = serial {
        root.add_property(property(
            "serial-number",
            [serial.as_bytes(), &[0]].concat().as_slice(),
        )?);
    }
    let mut network = node(port)?;
    network.add_property(property("local-mac-address", &address)?);
    root.add_child(network);
    let alias = property("ethernet0", format!("/{port}\0").as_bytes())?;
    root.add_child_mut(node("aliases")?).add_property(alias);
    Ok(tree.to_dtb())
}

/// The same tree with a `linux,cma` of `size` bytes that the kernel is to find a place for in `within` (start, length).
pub fn with_cma(dtb: &[u8], size: u64, within: (u64, u64)) -> Result<Vec<u8>> {
    let fdt = Fdt::new(dtb).map_err(|error| anyhow!("not a device tree: {error}"))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let mut region = node("linux,cma")?;
    region.add_property(property("compatible", b"shared-dma-pool\0")?);
    region.add_property(property("reusable", &[])?);
    region.add_property(property("linux,cma-default", &[])?);
    region.add_property(property("size", &size.to_be_bytes())?);
    let range = [within.0, within.1].map(u64::to_be_bytes).concat();
    region.add_property(property("alloc-ranges", &range)?);
    tree.root.add_child(reserved_parent(region)?);
    Ok(tree.to_dtb())
}

fn property(name: &str, value: &[u8]) -> Result<DeviceTreeProperty> {
    DeviceTreeProperty::new(name, value).map_err(|error| anyhow!("no property {name}: {error}"))
}

fn node(name: &str) -> Result<DeviceTreeNode> {
    DeviceTreeNode::new(name).map_err(|error| anyhow!("no node {name}: {error}"))
}

/// `/reserved-memory` with one node for all of it: a page for a reason, or holes that leave memory in pieces
/// (Devicetree Specification 0.4, 3.5).
fn reserved_memory(reserved: &[(u64, u64)]) -> Result<DeviceTreeNode> {
    let cells: Vec<u8> = (reserved.iter())
        .flat_map(|(start, length)| [start.to_be_bytes(), length.to_be_bytes()])
        .flatten()
        .collect();
    let mut memory = node("cato-test")?;
    memory.add_property(property("reg", &cells)?);
    memory.add_property(property("no-map", &[])?);
    reserved_parent(memory)
}

/// `/reserved-memory` with that node in it.
fn reserved_parent(memory: DeviceTreeNode) -> Result<DeviceTreeNode> {
    let two = 2_u32.to_be_bytes();
    let mut parent = node("reserved-memory")?;
    parent.add_property(property("#address-cells", &two)?);
    parent.add_property(property("#size-cells", &two)?);
    parent.add_property(property("ranges", &[])?);
    parent.add_child(memory);
    Ok(parent)
}

#[cfg(test)]
mod tests {
    use dtoolkit::{Node as _, Property as _};

    use super::*;

    #[test]
    fn a_tree_has_the_mark_and_the_reserved_memory() {
        let plain = DeviceTree::new().to_dtb();
        let marked = mark(&plain, "n1", &[(0x6000_0000, 4096), (0x7000_0000, 8192)]).unwrap();
        let fdt = Fdt::new(&marked).unwrap();
        let root = fdt.root();
        assert_eq!(root.property(MARK).unwrap().value(), b"n1\0");
        let memory = fdt.find_node("/reserved-memory/cato-test").unwrap();
        let reg = memory.property("reg").unwrap();
        let wanted = [0x6000_0000_u64, 4096, 0x7000_0000, 8192]
            .map(u64::to_be_bytes)
            .concat();
        assert_eq!(reg.value(), wanted);
        assert!(memory.property("no-map").is_some());
        let without = mark(&plain, "n1", &[]).unwrap();
        assert!(Fdt::new(&without).unwrap().find_node("/reserved-memory").is_none());
    }
}
