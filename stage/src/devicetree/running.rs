//! What the running kernel's own tree says about the machine.
//!
//! Given `/sys/firmware/fdt`, which the kernel made or took; read with `fdt`. That crate panics on malformed trees, and loses its way
//! where a property was blotted out with FDT_NOP in front of another one, as the kernel does to `rng-seed`: so it gets the tree checked and repacked.

use fdt::node::FdtNode;
use purgatory::Conduit;

use super::{DtbError, Tree};
use crate::memory::Span;

/// Facts of the running tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Memory reservations and the regions of `/reserved-memory` that have a place.
    pub reserved: Vec<Span>,
    /// How PSCI is called; none in a stub.
    pub psci: Option<Conduit>,
    /// A GICv3 with an ITS that is in use: interrupts that the controller writes to memory.
    pub its: bool,
    /// The kernel came through EFI.
    pub efi: bool,
}

/// Reads the running tree.
pub(crate) fn facts(data: &[u8]) -> Result<Facts, DtbError> {
    let tree = Tree::parse(data)?;
    let packed = tree.to_dtb()?;
    let fdt = fdt::Fdt::new(&packed).map_err(|_| DtbError::Malformed { what: "header", at: 0 })?;
    let mut facts = Facts {
        reserved: tree.reservations(),
        ..Facts::default()
    };
    let (mut gic, mut its) = (false, false);
    for node in fdt.all_nodes() {
        let enabled = text(node, "status").is_none_or(|s| matches!(s, "okay" | "ok"));
        gic |= enabled && compatible(node, |c| c == "arm,gic-v3");
        its |= enabled && compatible(node, |c| c == "arm,gic-v3-its");
        if compatible(node, |c| c.starts_with("arm,psci")) {
            facts.psci = match text(node, "method") {
                Some("smc") => Some(Conduit::Smc),
                Some("hvc") => Some(Conduit::Hvc),
                _ => facts.psci,
            };
        }
    }
    facts.its = gic && its;
    facts.efi = fdt
        .find_node("/chosen")
        .is_some_and(|c| c.property("linux,uefi-system-table").is_some());
    Ok(facts)
}

fn text<'a>(node: FdtNode<'_, 'a>, name: &str) -> Option<&'a str> {
    node.property(name)?.as_str()
}

fn compatible(node: FdtNode<'_, '_>, wanted: impl Fn(&str) -> bool) -> bool {
    text(node, "compatible").is_some_and(|list| list.split('\0').any(wanted))
}
