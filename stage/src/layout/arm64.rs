//! What an arm64 `Image` is entered with: Documentation/arch/arm64/booting.rst.

use config::Arch;

use super::segments::{ArchRules, Segments};
use super::{Companions, Layout, LayoutError, in_slot, length, record_at, sized};
use crate::devicetree as dtb;
use crate::formats::Image;
use crate::machine::Machine;
use crate::memory::Slot;
use crate::place::{Ask, PlaceError, Regions, arm64, main_tree, usable_with, which_dtb};
use crate::text::cmdline;

pub(super) fn lay_out(
    header: Image,
    kernel: Slot,
    mut companions: Companions<'_>,
    machine: &Machine,
    blob: &[u8],
) -> Result<Layout, LayoutError> {
    if machine.live_lpis {
        return Err(LayoutError::LiveLpis);
    }
    cmdline::check(&companions.cmdline, cmdline::ARM64_MOST)?;
    let mut tree = main_tree(companions.dtb.as_deref(), machine)?;
    let usable = usable_with(machine, &tree);
    let regions = Regions::new(machine, &tree, &companions.cmdline);
    let ask = Ask::Arm64(arm64::Ask {
        header,
        kernel: length(&kernel),
        initrd: companions.initrd.as_deref().map(length),
        page: machine.page_size,
    });
    let (places, mut free, info) = companions.places(&ask, &usable, &regions)?;
    tree.set_chosen(&dtb::Chosen {
        cmdline: &companions.cmdline,
        initrd: places.initrd,
        seed: machine.seed.as_deref(),
    });
    if !companions.record.is_empty() {
        tree.set_handover(companions.record);
    }
    let which = which_dtb(companions.dtb.is_some());
    let tree = tree.to_dtb().map_err(|error| PlaceError::Dtb { which, error })?;
    let record = record_at(dtb::handover_at(&tree), companions.record);
    let tree = in_slot(tree, info, "dtb", places.info)?;

    let dtb = sized(places.info.start, &tree);
    let mut parts = Segments::new(machine.page_size);
    parts.add("kernel", places.kernel.start, kernel, "Image")?;
    if let (Some(initrd), Some(place)) = (companions.initrd, places.initrd) {
        parts.add("initrd", place.start, initrd, "initramfs")?;
    }
    parts.add("dtb", dtb.start, tree, "device tree")?;
    parts.has_record(record);
    let entry = parts.purgatory(
        &ArchRules {
            arch: Arch::Arm64,
            // booting.rst section 4: the boot loader jumps to the Image's first instruction, with the tree's physical
            // address in x0.
            entry: places.kernel.start,
            argument: dtb.start,
            map: &[],
            // booting.rst section 4, "Caches, MMUs": what the kernel reads before its MMU is on is clean to the point of
            // coherency. It also writes then, to the stack behind its file: a dirty line there would come down on it later.
            clean: &[places.kernel, dtb],
            check: companions.check,
        },
        machine,
        &mut free,
        blob,
    )?;
    let mut layout = parts.finish(Arch::Arm64, entry, places.kernel, machine, &usable)?;
    layout.shortage = regions.beside(&places).err();
    Ok(layout)
}
