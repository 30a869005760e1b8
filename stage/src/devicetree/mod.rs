//! The device tree for the main kernel (arm64).
//!
//! Given the running tree or one from a disk; responsible for a packed tree that says only what is true for the main
//! kernel: its command line, its initrd, fresh seeds, nothing of the service kernel's own boot.
//! Documentation/devicetree/usage-model.rst, Documentation/arch/arm64/booting.rst section 2.

mod check;
mod correct;
mod running;

use dtoolkit::fdt::Fdt;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};

pub(crate) use check::{MAGIC, MAX_SIZE, check_header};
pub(crate) use correct::Correction;
pub(crate) use running::facts;

use crate::handover;
use crate::memory::Span;
use crate::memory::range::{align_up, normalise};
use crate::text::Size;

/// Why bytes are no device tree, or cannot become the main kernel's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DtbError {
    /// It does not start like one.
    #[error("not a device tree blob (begins with {0:08x}, not d00dfeed); compile it with dtc")]
    Magic(u32),
    /// Shorter than it says.
    #[error("truncated ({have} of {need} bytes); copy it again")]
    Truncated {
        /// What there is, bytes.
        have: u64,
        /// `totalsize`, bytes.
        need: u64,
    },
    /// More than the kernel takes.
    #[error("too large: {}, the kernel takes at most {}", Size(*.0), Size(MAX_SIZE))]
    TooLong(u64),
    /// A format nobody writes since 2007, or one of the future.
    #[error(
        "format version {version} (compatible back to {oldest}), but Cato reads version 17; compile it with a current dtc"
    )]
    Version {
        /// `version`
        version: u32,
        /// `last_comp_version`
        oldest: u32,
    },
    /// Broken.
    #[error("malformed: {what} at offset {at:#x}; copy or compile it again")]
    Malformed {
        /// What is wrong.
        what: &'static str,
        /// Where, in bytes from the start.
        at: usize,
    },
    /// Deeper than any real tree.
    #[error("nodes nested more than {limit} deep at offset {at:#x}")]
    TooDeep {
        /// Nodes.
        limit: usize,
        /// Where, in bytes from the start.
        at: usize,
    },
    /// More than any real tree has.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are enough for every board.
        limit: usize,
    },
    /// Made for another machine.
    #[error(
        "made for {says}, but this machine is {runs}; name this board's device tree, or remove `dtb` from the entry"
    )]
    Board {
        /// The first word of its `compatible`.
        says: String,
        /// The first word of the running tree's.
        runs: String,
    },
    /// The kernel would find no memory, and die without a word.
    #[error(
        "describes no machine (nothing but /chosen); name this board's device tree, or remove `dtb` from the entry"
    )]
    Stub,
    /// Another thing in the same container.
    #[error("{0}, not a machine's device tree; name this board's device tree, or remove `dtb` from the entry")]
    Other(&'static str),
    /// The kernel would start without a CPU's interrupts and timer.
    #[error("describes no CPU; name this board's device tree, or remove `dtb` from the entry")]
    NoCpu,
    /// The kernel would ignore what firmware reserved.
    #[error(
        "#address-cells or #size-cells of /reserved-memory differ from the root node's, so the kernel would ignore it; make them equal"
    )]
    RegionCells,
    /// The root's `#address-cells` or `#size-cells` are too few.
    #[error(
        "address or size {value:#x} does not fit: the root node has #address-cells or #size-cells = {cells}; use 2"
    )]
    Cells {
        /// The address or size.
        value: u64,
        /// Cells of 32 bits.
        cells: u32,
    },
}

/// What goes into `/chosen`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chosen<'a> {
    /// The whole command line.
    pub cmdline: &'a str,
    /// Where the initrd is, to the byte.
    pub initrd: Option<Span>,
    /// 8 bytes for `kaslr-seed`, 128 for `rng-seed`.
    pub seed: Option<&'a [u8; 136]>,
}

/// A device tree that can be edited.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    tree: DeviceTree,
    /// Length of the blob it was read from, with its padding.
    size: u64,
}

/// Far more spans of memory, or reservations, than a machine has: each is compared with the others.
const MAX_SPANS: usize = 1024;

/// `/chosen` properties that belong to the boot that is over: kdump's, IMA's, the kexec handover's, and our own record.
const STALE: [&str; 7] = [
    handover::PROPERTY,
    "linux,elfcorehdr",
    "linux,usable-memory-range",
    "linux,dmcryptkeys",
    "linux,ima-kexec-buffer",
    "linux,kho-fdt",
    "linux,kho-scratch",
];

impl Tree {
    /// Reads a tree; trailing bytes after it do not count.
    pub(crate) fn parse(data: &[u8]) -> Result<Self, DtbError> {
        let data = check::check(data)?;
        let tree = Self {
            tree: DeviceTree::from_fdt(&Fdt::new_unchecked(data)),
            size: u64::try_from(data.len()).unwrap_or(u64::MAX),
        };
        let cells = tree.cells();
        let memory: usize = tree.memory_nodes().map(|n| cells.memory(n).len()).sum();
        let regions: usize = tree.regions().map(|n| cells.reg(n).len()).sum();
        let within: usize = tree.unplaced().iter().map(|region| region.within.len()).sum();
        for (count, what) in [
            (memory, "memory ranges"),
            (regions, "reserved-memory ranges"),
            (within, "alloc-ranges of reserved-memory"),
            (tree.tree.memory_reservations.len(), "memory reservations"),
        ] {
            if count > MAX_SPANS {
                return Err(DtbError::TooMany { what, limit: MAX_SPANS });
            }
        }
        Ok(tree)
    }

    /// Whether it holds nothing but `/chosen`: what the EFI stub makes on a machine with ACPI. The main kernel takes
    /// ACPI off when it sees any other node but a Xen hypervisor's.
    pub(crate) fn is_stub(&self) -> bool {
        self.tree.root.children().all(|n| {
            let name = n.name();
            is_chosen(name) || (name == "hypervisor" && has_string(n, "compatible", "xen,xen"))
        })
    }

    /// Whether the main kernel takes its memory from EFI's map and not from the tree.
    fn has_efi_map(&self) -> bool {
        self.chosen()
            .is_some_and(|c| c.property("linux,uefi-mmap-start").is_some())
    }

    /// The memory the main kernel will find; none when it does not ask the tree, or the tree has none.
    pub(crate) fn memory(&self) -> Option<Vec<Span>> {
        if self.is_stub() || self.has_efi_map() {
            return None;
        }
        let cells = self.cells();
        let spans = normalise(self.memory_nodes().flat_map(|n| cells.memory(n)));
        (!spans.is_empty()).then_some(spans)
    }

    fn memory_nodes(&self) -> impl Iterator<Item = &DeviceTreeNode> {
        self.tree.root.children().filter(|n| is_memory(n))
    }

    /// What the main kernel will keep off: memory reservations and the regions of `/reserved-memory` that have a place.
    pub(crate) fn reservations(&self) -> Vec<Span> {
        let cells = self.cells();
        let regions = self.regions().flat_map(|n| cells.reg(n));
        let entries = self
            .tree
            .memory_reservations
            .iter()
            .filter_map(|r| Span::sized(r.address(), r.size()));
        normalise(regions.chain(entries))
    }

    /// The regions of `/reserved-memory` that the main kernel finds a place for by itself, in its order, as many as it takes
    /// (`MAX_RESERVED_REGIONS`).
    pub(crate) fn unplaced(&self) -> Vec<Unplaced> {
        let cells = self.cells();
        let regions = self.regions().filter(|n| is_usable(n) && n.property("reg").is_none());
        regions.filter_map(|n| cells.unplaced(n)).take(64).collect()
    }

    /// Takes out what the boot that is over left in a *running* tree: kexec properties, and the memory reservations of
    /// its tree, its initrd and its IMA buffer, which the main kernel would otherwise lose as RAM.
    pub(crate) fn forget_last_boot(&mut self) {
        let cells = self.cells();
        let ima = self
            .chosen()
            .and_then(|c| c.property("linux,ima-kexec-buffer"))
            .and_then(|p| cells.spans(p.value()).next());
        let initrd = self.initrd();
        // The tree's own reservation can only be told by its length; not if two have it, and never one that a
        // secondary CPU waits in.
        let alike = |r: &&MemoryReservation| r.size() == self.size;
        let own = (self.tree.memory_reservations.iter().filter(alike).count() == 1)
            .then(|| self.tree.memory_reservations.iter().find(alike))
            .flatten()
            .and_then(|r| Span::sized(r.address(), r.size()))
            .filter(|s| !self.release_addresses().any(|a| s.start <= a && a < s.end));
        let rounded = |s: Span| {
            [4096, 16384, 65536]
                .iter()
                .filter_map(|page| Span::sized(s.start, align_up(s.len(), *page)?))
                .chain([s])
                .collect::<Vec<_>>()
        };
        let stale: Vec<Span> = initrd.into_iter().flat_map(rounded).chain(own).chain(ima).collect();
        self.tree
            .memory_reservations
            .retain(|r| Span::sized(r.address(), r.size()).is_none_or(|s| !stale.contains(&s)));
        if let Some(chosen) = self.chosen_mut() {
            for name in STALE {
                chosen.remove_property(name);
            }
        }
    }

    /// Writes `/chosen`: command line, initrd and seeds, or their absence.
    pub(crate) fn set_chosen(&mut self, facts: &Chosen<'_>) {
        let node = self.chosen_or_new();
        let mut set = |name: &str, value: Option<Vec<u8>>| match value {
            Some(value) => node.add_property(DeviceTreeProperty::new_unchecked(name, value)),
            None => {
                node.remove_property(name);
            }
        };
        let text = [facts.cmdline.as_bytes(), &[0]].concat();
        set("bootargs", (!facts.cmdline.is_empty()).then_some(text));
        // 64 bits whatever was there: old trees have 32.
        set(
            "linux,initrd-start",
            facts.initrd.map(|s| s.start.to_be_bytes().to_vec()),
        );
        set("linux,initrd-end", facts.initrd.map(|s| s.end.to_be_bytes().to_vec()));
        let (kaslr, rng) = facts
            .seed
            .and_then(|s| s.split_first_chunk::<8>())
            .map_or((None, None), |(k, r)| (Some(k.to_vec()), Some(r.to_vec())));
        set("kaslr-seed", kaslr);
        set("rng-seed", rng);
    }

    /// Puts the hand-over record into `/chosen`; [`handover_at`] says where it went in the blob.
    pub(crate) fn set_handover(&mut self, record: &[u8]) {
        self.chosen_or_new()
            .add_property(DeviceTreeProperty::new_unchecked(handover::PROPERTY, record.to_vec()));
    }

    /// The hand-over record in a running tree.
    pub(crate) fn handover(&self) -> Option<Vec<u8>> {
        Some(self.chosen()?.property(handover::PROPERTY)?.value().to_vec())
    }

    /// The packed blob.
    pub(crate) fn to_dtb(&self) -> Result<Vec<u8>, DtbError> {
        let blob = self.tree.to_dtb();
        let len = u64::try_from(blob.len()).unwrap_or(u64::MAX);
        if len > MAX_SIZE {
            return Err(DtbError::TooLong(len));
        }
        Ok(blob)
    }

    /// The running initrd, to the byte; written as 32 or 64 bits.
    fn initrd(&self) -> Option<Span> {
        let chosen = self.chosen()?;
        let number = |name: &str| {
            let property = chosen.property(name)?;
            big_endian(property.value())
        };
        Some(Span {
            start: number("linux,initrd-start")?,
            end: number("linux,initrd-end")?,
        })
    }

    /// The children of `/reserved-memory`.
    fn regions(&self) -> impl Iterator<Item = &DeviceTreeNode> {
        self.tree
            .root
            .child("reserved-memory")
            .into_iter()
            .flat_map(Node::children)
    }

    /// Where secondary CPUs of a board without PSCI wait.
    fn release_addresses(&self) -> impl Iterator<Item = u64> {
        self.tree
            .root
            .child("cpus")
            .into_iter()
            .flat_map(Node::children)
            .filter_map(|n| big_endian(n.property("cpu-release-addr")?.value()))
    }

    fn cells(&self) -> Cells {
        // The kernel's own defaults for a root without them: include/linux/of.h.
        let of = |name: &str| {
            let property = self.tree.root.property(name)?;
            u32::try_from(big_endian(property.value())?).ok()
        };
        Cells {
            address: of("#address-cells").unwrap_or(1),
            size: of("#size-cells").unwrap_or(1),
        }
    }

    fn chosen(&self) -> Option<&DeviceTreeNode> {
        self.tree.root.children().find(|n| is_chosen(n.name()))
    }

    fn chosen_mut(&mut self) -> Option<&mut DeviceTreeNode> {
        let name = self.chosen()?.name().to_owned();
        self.tree.root.child_mut(&name)
    }

    fn chosen_or_new(&mut self) -> &mut DeviceTreeNode {
        let name = self.chosen().map_or("chosen", |n| n.name()).to_owned();
        self.tree.root.add_child_mut(DeviceTreeNode::new_unchecked(name))
    }
}

/// Where the hand-over record begins in a blob that [`Tree::to_dtb`] made, in bytes; none when it has none.
pub(crate) fn handover_at(blob: &[u8]) -> Option<usize> {
    let tree = Fdt::new_unchecked(check::check(blob).ok()?);
    let chosen = tree.root().children().find(|n| is_chosen(n.name()))?;
    let property = chosen.property(handover::PROPERTY)?;
    let value = property.value();
    // The value is a part of the blob, so this is where it is.
    let at = value.as_ptr().addr().checked_sub(blob.as_ptr().addr())?;
    (blob.get(at..at.checked_add(value.len())?)? == value).then_some(at)
}

fn is_chosen(name: &str) -> bool {
    matches!(name, "chosen" | "chosen@0")
}

/// Memory the kernel uses: a secure world's is there, and disabled.
fn is_memory(node: &DeviceTreeNode) -> bool {
    has_string(node, "device_type", "memory") && is_usable(node)
}

/// Whether it is not disabled.
fn is_usable(node: &DeviceTreeNode) -> bool {
    node.property("status").is_none() || has_string(node, "status", "okay") || has_string(node, "status", "ok")
}

/// Whether a property is a list of strings with `wanted` in it.
fn has_string(node: &DeviceTreeNode, name: &str, wanted: &str) -> bool {
    node.property(name)
        .is_some_and(|p| p.value().split(|b| *b == 0).any(|s| s == wanted.as_bytes()))
}

/// A number of one or two cells.
fn big_endian(value: &[u8]) -> Option<u64> {
    match value.len() {
        4 => Some(u32::from_be_bytes(*value.first_chunk()?).into()),
        8 => Some(u64::from_be_bytes(*value.first_chunk()?)),
        _ => None,
    }
}

/// A region of `/reserved-memory` with a size and no place: early in its boot the kernel takes one that is free, most often the
/// highest (`__reserved_mem_alloc_size()`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unplaced {
    /// The node's.
    pub(crate) name: String,
    /// Bytes, not 0.
    pub(crate) size: u64,
    /// Bytes, not 0.
    pub(crate) align: u64,
    /// It is in one of these, the first that has room.
    pub(crate) within: Vec<Span>,
    /// It is for every device that has none of its own.
    pub(crate) is_default: bool,
}

/// What a CMA area is aligned to in a kernel with pages of 4 KiB, at most (`CMA_MIN_ALIGNMENT_BYTES`). Larger pages need more.
const CMA_ALIGN: u64 = 4 << 20;

/// How the root writes addresses and sizes.
#[derive(Debug, Clone, Copy)]
struct Cells {
    address: u32,
    size: u32,
}

impl Cells {
    /// The spans of a `reg` with addresses the CPU uses; empty ones left out.
    fn reg(self, node: &DeviceTreeNode) -> Vec<Span> {
        let value = node.property("reg");
        value.map_or_else(Vec::new, |value| self.spans(value.value()).collect())
    }

    /// The spans of a memory node: early_init_dt_scan_memory().
    fn memory(self, node: &DeviceTreeNode) -> Vec<Span> {
        let value = node.property("linux,usable-memory");
        value.map_or_else(|| self.reg(node), |value| self.spans(value.value()).collect())
    }

    fn unplaced(self, node: &DeviceTreeNode) -> Option<Unplaced> {
        // The kernel skips a node with numbers of another length.
        let bytes = |cells: u32| usize::try_from(cells.saturating_mul(4)).ok();
        let number = |name: &str, cells: u32| {
            let property = node.property(name)?;
            big_endian(property.value()).filter(|_| bytes(cells) == Some(property.value().len()))
        };
        let align = match node.property("alignment") {
            Some(_) => number("alignment", self.address)?,
            None => 1,
        };
        let is_cma = has_string(node, "compatible", "shared-dma-pool") && node.property("reusable").is_some();
        let anywhere = Span {
            start: 0,
            end: u64::MAX,
        };
        let within = node.property("alloc-ranges");
        Some(Unplaced {
            name: node.name().to_owned(),
            size: number("size", self.size).filter(|size| *size > 0)?,
            align: align.max(if is_cma { CMA_ALIGN } else { 1 }),
            is_default: is_cma && node.property("linux,cma-default").is_some(),
            within: within.map_or_else(|| vec![anywhere], |ranges| self.spans(ranges.value()).collect()),
        })
    }

    fn spans(self, value: &[u8]) -> impl Iterator<Item = Span> {
        let bytes = |cells: u32| usize::try_from(cells.min(2)).unwrap_or(0).saturating_mul(4);
        let (address, size) = (bytes(self.address), bytes(self.size));
        let known = matches!((self.address, self.size), (1 | 2, 1 | 2));
        value
            .chunks_exact(address.saturating_add(size).max(1))
            .filter(move |_| known)
            .filter_map(move |pair| {
                let (start, len) = pair.split_at_checked(address)?;
                Span::sized(big_endian(start)?, big_endian(len)?)
            })
            .filter(|s| !s.is_empty())
    }

    fn encode(self, spans: &[Span]) -> Result<Vec<u8>, DtbError> {
        let mut out = Vec::new();
        for span in spans {
            for (value, cells) in [(span.start, self.address), (span.len(), self.size)] {
                match (cells, u32::try_from(value)) {
                    (1, Ok(short)) => out.extend(short.to_be_bytes()),
                    (2, _) => out.extend(value.to_be_bytes()),
                    _ => return Err(DtbError::Cells { value, cells }),
                }
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
mod tests;
