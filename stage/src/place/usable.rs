//! Which memory the main kernel and its companions may go to, by what the main kernel will know of it.

use config::Arch;

use super::{PlaceError, Regions};
use crate::devicetree::{Correction, DtbError, Tree};
use crate::machine::Machine;
use crate::memory::Span;
use crate::memory::map;
use crate::memory::range::{intersect, normalise, subtract};

/// Firmware interrupt vectors, BIOS data and trampolines of x86.
pub(crate) const LOW_MEMORY: Span = Span { start: 0, end: 1 << 20 };

/// Memory that a payload with the device tree `dtb` (none is the running one) and the command line `words` may go to, and what it
/// has to leave room for.
///
/// # Errors
/// Where too little is known of the machine, or the tree is of no use.
pub(crate) fn usable(machine: &Machine, dtb: Option<&[u8]>, words: &str) -> Result<(Vec<Span>, Regions), PlaceError> {
    match machine.arch {
        Arch::Arm64 => {
            let tree = main_tree(dtb, machine)?;
            Ok((usable_with(machine, &tree), Regions::new(machine, &tree, words)))
        }
        Arch::X86_64 => Ok((usable_x86_64(machine)?, Regions::default())),
    }
}

/// The main kernel keeps off what its tree reserves, and does not see memory its tree does not name.
pub(crate) fn usable_with(machine: &Machine, tree: &Tree) -> Vec<Span> {
    let usable = subtract(&machine.memory.usable, &tree.reservations());
    match tree.memory() {
        Some(memory) => intersect(&usable, &memory),
        None => usable,
    }
}

/// The main kernel sees what the firmware's map calls RAM, which memmap= of the service kernel may differ from.
pub(crate) fn usable_x86_64(machine: &Machine) -> Result<Vec<Span>, PlaceError> {
    if machine.memory.firmware.is_empty() {
        return Err(PlaceError::NoFirmwareMap);
    }
    let (ram, other): (Vec<_>, Vec<_>) = machine.memory.firmware.iter().partition(|e| e.1 == map::E820_RAM);
    let spans = |entries: &[&(Span, u32)]| normalise(entries.iter().map(|e| e.0));
    let usable = intersect(&machine.memory.usable, &subtract(&spans(&ram), &spans(&other)));
    Ok(subtract(&usable, &[LOW_MEMORY]))
}

/// What the tree `named`, which comes from a disk, says otherwise than the machine.
///
/// # Errors
/// It can't be this machine's.
pub(crate) fn corrections(machine: &Machine, named: &[u8]) -> Result<Vec<Correction>, DtbError> {
    let running = running_tree(machine)?;
    Tree::parse(named)?.correct(running.as_ref(), &machine.memory.ram)
}

/// The running tree, without what belongs to the boot that is over.
fn running_tree(machine: &Machine) -> Result<Option<Tree>, DtbError> {
    let running = machine.fdt.as_deref().map(Tree::parse).transpose()?;
    Ok(running.map(|mut tree| {
        tree.forget_last_boot();
        tree
    }))
}

/// The tree the main kernel gets, but for its `/chosen`.
pub(crate) fn main_tree(named: Option<&[u8]>, machine: &Machine) -> Result<Tree, PlaceError> {
    let wrong = |named| {
        move |error| PlaceError::Dtb {
            which: which_dtb(named),
            error,
        }
    };
    let running = running_tree(machine).map_err(wrong(false))?;
    let ram = &machine.memory.ram;
    if let Some(named) = named {
        let mut tree = Tree::parse(named).map_err(wrong(true))?;
        tree.correct(running.as_ref(), ram).map_err(wrong(true))?;
        return Ok(tree);
    }
    let mut tree = running.ok_or(PlaceError::NoDtb)?;
    tree.add_memory(ram).map_err(wrong(false))?;
    Ok(tree)
}

/// What messages call the tree.
pub(crate) fn which_dtb(named: bool) -> &'static str {
    if named { "dtb" } else { "/sys/firmware/fdt" }
}
