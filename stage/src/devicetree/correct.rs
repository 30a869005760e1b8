//! What firmware would have corrected in a tree that comes from a disk.
//!
//! Given that tree and the running one, which firmware has edited; responsible for the same corrections, so that what the
//! main kernel is told about the machine is true: U-Boot's are `image_setup_libfdt` (boot/image-fdt.c) with `fdt_root`,
//! `fdt_fixup_ethernet`, `fdt_fixup_memory`, `optee_copy_fdt_nodes` and `psci_update_dt`.
//! Every step is linear in the size of the trees.

use std::collections::{HashMap, HashSet};
use std::fmt;

use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

use super::{DtbError, Tree, has_string, is_memory, is_usable};
use crate::memory::Span;
use crate::memory::range::{normalise, total};
use crate::text::Size;

/// Longest a line about a tree's names gets, characters of a name.
const SHOWN: usize = 64;
/// More network ports than a board has: from no tree are more addresses taken.
const MOST_PORTS: usize = 64;

/// Something in a tree from a disk that differs from the machine. Reads after `dtb: board.dtb: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Correction {
    /// The main kernel gets the machine's memory.
    Memory {
        /// What the tree names, bytes.
        says: u64,
        /// What the machine has, bytes.
        has: u64,
    },
    /// What firmware wrote, now in this tree, too.
    Taken(Vec<String>),
    /// Another board with the same chip: nothing is done about it.
    Board {
        /// The first word of the tree's `compatible`.
        says: String,
        /// The first word of the running tree's.
        runs: String,
    },
    /// `/reserved-memory` had none, now it has.
    Ranges,
    /// Nothing is done about it.
    Cpus {
        /// What the tree names.
        says: usize,
        /// What the running tree names.
        runs: usize,
    },
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { says: 0, has } => {
                write!(f, "describes no memory; corrected to this machine's {}", Size(*has))
            }
            Self::Memory { says, has } if says == has => {
                write!(
                    f,
                    "describes {} of memory, but at other addresses than this machine's; corrected",
                    Size(*says)
                )
            }
            Self::Memory { says, has } => {
                write!(
                    f,
                    "describes {} of memory; corrected to this machine's {}",
                    Size(*says),
                    Size(*has)
                )
            }
            Self::Taken(names) => write!(f, "copied from the running device tree: {}", names.join(", ")),
            Self::Ranges => f.write_str("/reserved-memory has no `ranges`, without which the kernel ignores it; added"),
            Self::Board { says, runs } => {
                write!(
                    f,
                    "warning: made for {says}, but this machine is {runs}; is it the right file?"
                )
            }
            Self::Cpus { says, runs } if says < runs => {
                write!(
                    f,
                    "warning: describes {says} of this machine's {runs} CPUs; the others stay off"
                )
            }
            Self::Cpus { says, runs } => {
                write!(
                    f,
                    "warning: describes {says} CPUs, but this machine has {runs}; the others will not start"
                )
            }
        }
    }
}

impl Tree {
    /// Corrects a tree that came from a disk by what the machine is known to be, and says what that was. `running` has
    /// forgotten its boot; `ram` counts only where it names no memory.
    ///
    /// # Errors
    /// It is another board's, no machine's, or can't hold what it has to.
    pub(crate) fn correct(&mut self, running: Option<&Self>, ram: &[Span]) -> Result<Vec<Correction>, DtbError> {
        let mut said = Vec::new();
        let mut taken = Vec::new();
        // It may have been saved from /sys/firmware/fdt.
        self.forget_last_boot();
        self.forget_efi();
        self.refuse_others()?;
        said.extend(self.mend_regions()?);
        if let Some(running) = running {
            if self.is_stub() && !running.is_stub() {
                return Err(DtbError::Stub);
            }
            said.extend(self.same_board(running)?);
            if self.cpus() == 0 && running.cpus() != 0 && !self.is_stub() {
                return Err(DtbError::NoCpu);
            }
            self.take_efi(running);
            // A further node in the root would turn ACPI off.
            if !self.is_stub() {
                self.take_reservations(running, &mut taken);
                self.take_regions(running, &mut taken)?;
                self.take_serial_number(running, &mut taken);
                self.take_addresses(running, &mut taken);
                self.take_firmware(running, &mut taken);
                said.extend(self.cpus_differ(running));
            }
        }
        said.extend(self.correct_memory(running, ram)?);
        if !taken.is_empty() {
            said.push(Correction::Taken(taken));
        }
        Ok(said)
    }

    /// Gives a full tree the machine's memory: that of the running tree, where it names any, else `ram`. A stub stays a stub,
    /// and with EFI's memory map the kernel does not ask.
    fn correct_memory(&mut self, running: Option<&Self>, ram: &[Span]) -> Result<Option<Correction>, DtbError> {
        if self.is_stub() || self.has_efi_map() {
            return Ok(None);
        }
        let running = running.and_then(|tree| Some((tree, tree.memory()?)));
        let wanted = running
            .as_ref()
            .map_or_else(|| normalise(ram.iter().copied()), |(_, memory)| memory.clone());
        let says = self.memory().unwrap_or_default();
        let Some(first) = wanted.first().filter(|_| wanted != says) else {
            return Ok(None);
        };
        let cells = self.cells();
        let mut nodes = Vec::new();
        for node in running
            .iter()
            .flat_map(|(tree, _)| tree.tree.root.children())
            .filter(|n| is_memory(n))
        {
            let spans = running
                .iter()
                .flat_map(|(tree, _)| tree.cells().memory(node))
                .collect::<Vec<_>>();
            let mut node = copied(node);
            node.remove_property("linux,usable-memory");
            node.add_property(DeviceTreeProperty::new_unchecked("reg", cells.encode(&spans)?));
            nodes.push(node);
        }
        if nodes.is_empty() {
            let mut node = DeviceTreeNode::new_unchecked(format!("memory@{:x}", first.start));
            node.add_property(DeviceTreeProperty::new_unchecked("device_type", "memory"));
            node.add_property(DeviceTreeProperty::new_unchecked("reg", cells.encode(&wanted)?));
            nodes.push(node);
        }
        // dtoolkit takes one child out in linear time: the others are moved instead.
        let old = std::mem::replace(&mut self.tree.root, DeviceTreeNode::new_unchecked(""));
        for property in old.properties() {
            self.tree.root.add_property(property.clone());
        }
        for child in old.children().filter(|n| !is_memory(n)) {
            self.tree.root.add_child(child.clone());
        }
        for node in nodes {
            self.tree.root.add_child(node);
        }
        Ok(Some(Correction::Memory {
            says: total(&says),
            has: total(&wanted),
        }))
    }

    /// Gives the running tree memory where it names none.
    pub(crate) fn add_memory(&mut self, ram: &[Span]) -> Result<(), DtbError> {
        if self.memory().is_none() {
            self.correct_memory(None, ram)?;
        }
        Ok(())
    }

    /// Refuses what else is kept in the format of a device tree.
    fn refuse_others(&self) -> Result<(), DtbError> {
        let root = &self.tree.root;
        if root.children().any(|node| node.child("__overlay__").is_some()) {
            return Err(DtbError::Other("a device tree overlay"));
        }
        if root.child("images").is_some() && root.child("configurations").is_some() {
            return Err(DtbError::Other("a FIT image"));
        }
        Ok(())
    }

    /// The kernel takes `/reserved-memory` only with the root's own cells and a `ranges`: __reserved_mem_check_root().
    fn mend_regions(&mut self) -> Result<Option<Correction>, DtbError> {
        let cells = self.cells();
        if self.regions().next().is_none() {
            return Ok(None);
        }
        let node = child_or_new(&mut self.tree.root, "reserved-memory");
        let is = |name: &str, cells: u32| node.property(name).is_some_and(|p| p.value() == cells.to_be_bytes());
        if !(is("#address-cells", cells.address) && is("#size-cells", cells.size)) {
            return Err(DtbError::RegionCells);
        }
        if node.property("ranges").is_some() {
            return Ok(None);
        }
        node.add_property(DeviceTreeProperty::new_unchecked("ranges", Vec::<u8>::new()));
        Ok(Some(Correction::Ranges))
    }

    /// Refuses a tree that has no name of a board or chip in common with the running one.
    fn same_board(&self, running: &Self) -> Result<Option<Correction>, DtbError> {
        let (ours, theirs) = (self.compatible(), running.compatible());
        let (Some(first), Some(here)) = (ours.first(), theirs.first()) else {
            return Ok(None);
        };
        let (says, runs) = (shown(first), shown(here));
        let known: HashSet<&String> = theirs.iter().collect();
        if !ours.iter().any(|name| known.contains(name)) {
            return Err(DtbError::Board { says, runs });
        }
        Ok((first != here).then_some(Correction::Board { says, runs }))
    }

    /// The root's `compatible`, from the board to the chip.
    fn compatible(&self) -> Vec<String> {
        let Some(property) = self.tree.root.property("compatible") else {
            return Vec::new();
        };
        let names = property.value().split(|b| *b == 0).filter(|name| !name.is_empty());
        names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect()
    }

    fn forget_efi(&mut self) {
        if let Some(chosen) = self.chosen_mut() {
            let names = chosen.properties().filter(is_efi).map(|p| p.name().to_owned());
            for name in names.collect::<Vec<_>>() {
                chosen.remove_property(&name);
            }
        }
    }

    /// The way to EFI's tables.
    fn take_efi(&mut self, running: &Self) {
        let properties = running.chosen().into_iter().flat_map(Node::properties);
        for property in properties.filter(is_efi) {
            self.chosen_or_new().add_property(property.clone());
        }
    }

    fn take_reservations(&mut self, running: &Self, taken: &mut Vec<String>) {
        let known: HashSet<_> = self.tree.memory_reservations.iter().copied().collect();
        for entry in running.tree.memory_reservations.iter().filter(|e| !known.contains(e)) {
            taken.push(format!("/memreserve/ {:#x} {:#x}", entry.address(), entry.size()));
            self.tree.memory_reservations.push(*entry);
        }
    }

    /// The regions of `/reserved-memory` that have a place. What firmware keeps there is there, whatever this tree says.
    fn take_regions(&mut self, running: &Self, taken: &mut Vec<String>) -> Result<(), DtbError> {
        let (theirs, ours) = (running.cells(), self.cells());
        let is_mapped = |node: &DeviceTreeNode| node.property("no-map").is_none();
        let known = self
            .regions()
            .map(|n| (ours.reg(n), (n.name().to_owned(), is_mapped(n))));
        let known: HashMap<Vec<Span>, (String, bool)> = known.collect();
        let mut missing = Vec::new();
        for node in running.regions() {
            let spans = theirs.reg(node);
            let here = known.get(&spans);
            // Sized only: each kernel finds a place of its own.
            if !spans.is_empty() && here.is_none_or(|(_, mapped)| *mapped != is_mapped(node)) {
                let name = here.map_or(node.name(), |(name, _)| name);
                missing.push((name, node, ours.encode(&spans)?));
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let parent = child_or_new(&mut self.tree.root, "reserved-memory");
        parent.add_property(DeviceTreeProperty::new_unchecked("#address-cells", ours.address));
        parent.add_property(DeviceTreeProperty::new_unchecked("#size-cells", ours.size));
        parent.add_property(DeviceTreeProperty::new_unchecked("ranges", Vec::<u8>::new()));
        for (name, node, reg) in missing {
            let region = child_or_new(parent, name);
            // It keeps its phandle, by which devices of this tree name it.
            for property in copied(node).properties() {
                region.add_property(property.clone());
            }
            if is_mapped(node) {
                region.remove_property("no-map");
            }
            region.add_property(DeviceTreeProperty::new_unchecked("reg", reg));
            taken.push(format!("/reserved-memory/{}", shown(name)));
        }
        Ok(())
    }

    fn take_serial_number(&mut self, running: &Self, taken: &mut Vec<String>) {
        if take_property(&mut self.tree.root, &running.tree.root, "serial-number") {
            taken.push("serial-number".to_owned());
        }
    }

    /// MAC and Bluetooth addresses, by alias as U-Boot finds them, or else by path.
    fn take_addresses(&mut self, running: &Self, taken: &mut Vec<String>) {
        const MAC: [&str; 2] = ["mac-address", "local-mac-address"];
        const BLUETOOTH: [&str; 1] = ["local-bd-address"];
        let mut ports = Vec::new();
        find_ports(&running.tree.root, &mut String::new(), &mut ports);
        let aliases = running
            .tree
            .root
            .child("aliases")
            .into_iter()
            .flat_map(Node::properties);
        let aliases: HashMap<String, String> = aliases
            .filter_map(|p| Some((alias_path(&p)?, p.name().to_owned())))
            .collect();
        for (path, port) in ports {
            let alias = aliases.get(&path);
            let target = alias
                .and_then(|alias| self.alias(alias))
                .unwrap_or_else(|| path.clone());
            let Some(node) = self.tree.find_node_mut(&target) else {
                continue;
            };
            for names in [&MAC[..], &BLUETOOTH] {
                if !names.iter().any(|name| is_address(port, name)) {
                    continue;
                }
                for name in names {
                    if is_address(port, name) {
                        if take_property(node, port, name) {
                            taken.push(format!("{name} of {}", shown(alias.unwrap_or(&path))));
                        }
                    } else {
                        // The kernel would take this one first.
                        node.remove_property(name);
                    }
                }
            }
        }
    }

    /// The path that `/aliases` has for a name.
    fn alias(&self, name: &str) -> Option<String> {
        alias_path(&self.tree.root.child("aliases")?.property(name)?)
    }

    /// How firmware is called, and how CPUs are started.
    fn take_firmware(&mut self, running: &Self, taken: &mut Vec<String>) {
        let root = &running.tree.root;
        if let Some(psci) = root.child("psci") {
            let missing = self.tree.root.child("psci").is_none();
            let here = child_or_new(&mut self.tree.root, "psci");
            if missing {
                *here = copied(psci);
                taken.push("/psci".to_owned());
            } else if take_property(here, psci, "method") {
                taken.push("method of /psci".to_owned());
            }
        }
        if let Some(optee) = root.child("firmware").and_then(|n| n.child("optee")) {
            let firmware = child_or_new(&mut self.tree.root, "firmware");
            if firmware.child("optee").is_none() {
                firmware.add_child(copied(optee));
                taken.push("/firmware/optee".to_owned());
            }
        }
        let theirs = root
            .child("cpus")
            .into_iter()
            .flat_map(Node::children)
            .filter(|n| is_cpu(n));
        for running in theirs {
            let cpu = self
                .tree
                .root
                .child_mut("cpus")
                .and_then(|n| n.child_mut(running.name()));
            let Some(cpu) = cpu else { continue };
            for name in ["enable-method", "cpu-release-addr"] {
                if take_property(cpu, running, name) {
                    taken.push(format!("{name} of {}", shown(running.name())));
                }
            }
        }
    }

    fn cpus(&self) -> usize {
        let cpus = self.tree.root.child("cpus").into_iter().flat_map(Node::children);
        cpus.filter(|n| is_cpu(n) && is_usable(n)).count()
    }

    fn cpus_differ(&self, running: &Self) -> Option<Correction> {
        let (says, runs) = (self.cpus(), running.cpus());
        (says != runs && runs != 0).then_some(Correction::Cpus { says, runs })
    }
}

/// Nodes with a network address that firmware wrote, and their paths.
fn find_ports<'a>(node: &'a DeviceTreeNode, path: &mut String, out: &mut Vec<(String, &'a DeviceTreeNode)>) {
    let names = ["mac-address", "local-mac-address", "local-bd-address"];
    if out.len() < MOST_PORTS && names.iter().any(|name| is_address(node, name)) {
        out.push((path.clone(), node));
    }
    let len = path.len();
    for child in node.children() {
        path.push('/');
        path.push_str(child.name());
        find_ports(child, path, out);
        path.truncate(len);
    }
}

fn alias_path(alias: &impl Property) -> Option<String> {
    String::from_utf8(alias.value().strip_suffix(&[0])?.to_vec()).ok()
}

/// Six bytes that are not all zero, as in a tree nobody has filled in.
fn is_address(node: &DeviceTreeNode, name: &str) -> bool {
    node.property(name)
        .is_some_and(|p| p.value().len() == 6 && p.value() != [0; 6])
}

fn is_efi(property: &impl Property) -> bool {
    property.name().starts_with("linux,uefi-")
}

fn is_cpu(node: &DeviceTreeNode) -> bool {
    has_string(node, "device_type", "cpu")
}

/// Brings a property of `from` into `to`; whether that changed anything.
fn take_property(to: &mut DeviceTreeNode, from: &DeviceTreeNode, name: &str) -> bool {
    let Some(property) = from.property(name) else {
        return false;
    };
    let differs = to.property(name).is_none_or(|p| p.value() != property.value());
    if differs {
        to.add_property(property.clone());
    }
    differs
}

/// A node for another tree, where its phandle may be some other node's.
fn copied(node: &DeviceTreeNode) -> DeviceTreeNode {
    let mut copy = node.clone();
    copy.remove_property("phandle");
    copy.remove_property("linux,phandle");
    copy
}

/// The child of that name, whatever its unit address, or a new one.
fn child_or_new<'a>(node: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    let name = node.child(name).map_or(name, |n| n.name()).to_owned();
    node.add_child_mut(DeviceTreeNode::new_unchecked(name))
}

/// A name out of a tree, fit for a console.
fn shown(name: &str) -> String {
    name.chars()
        .take(SHOWN)
        .collect::<String>()
        .escape_default()
        .to_string()
}

#[cfg(test)]
mod tests;
