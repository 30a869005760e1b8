//! Room for what the device tree has the main kernel find a place for by itself, before anything else: regions of `/reserved-memory`
//! with a size and no address, as `linux,cma`. A payload in the middle of memory would leave a large one none.

use super::Places;
use crate::devicetree::{Tree, Unplaced};
use crate::machine::Machine;
use crate::memory::Span;
use crate::memory::hole::{End, Want, find};
use crate::memory::range::subtract;
use crate::text::{Size, cmdline};

/// What the main kernel would have to do without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the device tree's /reserved-memory wants {} for {name:?}, for which there is no room beside kernel and initrd", Size(*.size))]
pub(crate) struct Shortage {
    /// The region's node.
    name: String,
    /// Bytes.
    size: u64,
}

/// What will be looked for, and where.
#[derive(Debug, Clone, Default)]
pub(crate) struct Regions {
    /// As they have a place while the payload has none; others are not ours to save.
    regions: Vec<Unplaced>,
    /// Memory as the main kernel will know it, without what it will keep off.
    free: Vec<Span>,
}

impl Regions {
    /// Those of `tree`, which the main kernel gets with the command line `words`.
    pub(crate) fn new(machine: &Machine, tree: &Tree, words: &str) -> Self {
        let memory = tree.memory().unwrap_or_else(|| machine.memory.ram.clone());
        let mut regions = tree.unplaced();
        // It counts instead of the tree's (kernel/dma/contiguous.c, rmem_cma_setup()).
        let has_own = cmdline::value(words, "cma").is_some();
        regions.retain(|region| !(has_own && region.is_default));
        Self::of(regions, subtract(&memory, &tree.reservations()))
    }

    /// `regions`, of which each has a place in `free`.
    pub(crate) fn of(regions: Vec<Unplaced>, free: Vec<Span>) -> Self {
        let mut known = Self {
            regions: Vec::new(),
            free,
        };
        for region in regions {
            known.regions.push(region);
            if known.found(&[], End::Top).is_err() {
                known.regions.pop();
            }
        }
        known
    }

    /// One place for each, where `taken` is not free: all of them at the top of memory, as the kernel does it, or at the bottom.
    ///
    /// # Errors
    /// The first for which there is none.
    fn found(&self, taken: &[Span], end: End) -> Result<Vec<Span>, &Unplaced> {
        let mut free = subtract(&self.free, taken);
        let mut found = Vec::new();
        for region in &self.regions {
            let place_in = |range: &Span| {
                let want = Want::top(region.size, region.align).within(*range);
                find(&free, &Want { end, ..want })
            };
            let place = region.within.iter().find_map(place_in).ok_or(region)?;
            free = subtract(&free, &[place]);
            found.push(place);
        }
        Ok(found)
    }

    /// Bytes of all of them.
    pub(crate) fn bytes(&self) -> u64 {
        self.regions
            .iter()
            .fold(0, |sum, region| sum.saturating_add(region.size))
    }

    /// What to keep free for them: places at the top of memory, or at its bottom.
    pub(super) fn to_keep_free(&self) -> impl Iterator<Item = Vec<Span>> {
        [End::Top, End::Bottom]
            .into_iter()
            .filter_map(|end| self.found(&[], end).ok())
    }

    /// Whether all of them have room beside a payload.
    ///
    /// # Errors
    /// The first that has none.
    pub(crate) fn beside(&self, places: &Places) -> Result<(), Shortage> {
        let spans = [Some(places.kernel), places.initrd, Some(places.info)];
        let taken: Vec<Span> = spans.into_iter().flatten().collect();
        let found = self.found(&taken, End::Top).map(drop);
        found.map_err(|region| Shortage {
            name: region.name.clone(),
            size: region.size,
        })
    }
}
