//! Where the payload lives until the main kernel has it: in place, or in ordinary memory that the kernel copies (segments).
//!
//! Loading, unpacking and hashing write into [`Slot`]s; nothing else differs between the two.

use super::budget::{Budget, OVERHEAD, reserve};
use super::error::LoadError;
use super::in_place::{self, ArenaKind, WhyNot};
use super::payload::Role;
use crate::machine::Machine;
use crate::memory::hole::Free;
use crate::memory::{NoMemory, Pages, Slot};
use crate::place::{self, Ask, Places, Regions, arrange};

/// Memory for a whole payload, reserved, and the open files it is for. [`load`](Self::load) fills it.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(super) budget: Budget,
    pub(super) kernel: Slot,
    pub(super) initrd: Option<Slot>,
    /// What tells the kernel about the machine, when it stays in place, too; and all addresses.
    pub(super) resident: Option<(Places, Slot)>,
    pub(super) kind: ArenaKind,
}

impl Arena {
    /// Which kind it is, and why.
    pub(crate) fn kind(&self) -> &ArenaKind {
        &self.kind
    }
}

impl Budget {
    /// Takes the memory for the payload: in place, from one of `sources`, or else ordinary memory.
    ///
    /// # Errors
    /// Where neither works.
    pub(crate) fn reserve(self, machine: &Machine, sources: &mut [Box<dyn Pages>]) -> Result<Arena, LoadError> {
        let mut arena = match self.take_pages(machine, sources) {
            Ok(taken) => self.in_place(taken)?,
            Err(why) => self.segments(why)?,
        };
        let check = arena.budget.check;
        arena.kernel.hash(check);
        if let Some(initrd) = &mut arena.initrd {
            initrd.hash(check);
        }
        Ok(arena)
    }

    fn take_pages(&self, machine: &Machine, sources: &mut [Box<dyn Pages>]) -> Result<in_place::Taken, WhyNot> {
        if !self.in_place {
            return Err(WhyNot::Asked);
        }
        // Guests are refused as a whole.
        if machine.encryption.is_some() {
            return Err(WhyNot::Encrypted);
        }
        let initrd = Some(self.initrd_len()).filter(|len| *len > 0);
        let header = &self.kernel.sniffed.plan.header;
        if header.must_be_low() {
            return Err(WhyNot::LowImage);
        }
        let ask = Ask::new(header, self.kernel.sniffed.plan.most, initrd, machine.page_size);
        let dtb = self.dtb.as_ref().map(|(bytes, _)| &**bytes);
        let place = |error| WhyNot::Place(Box::new(error));
        let (usable, mut regions) = place::usable(machine, dtb, &self.cmdline).map_err(place)?;
        // What has no room wherever the payload goes is not looked for.
        let anywhere = arrange(&ask, &Free::new(usable.clone()), &regions);
        if anywhere.is_ok_and(|(places, _)| regions.beside(&places).is_err()) {
            regions = Regions::default();
        }
        let spoken_for = OVERHEAD.saturating_add(self.kernel.sniffed.memory);
        let free = self.free.available.saturating_sub(spoken_for);
        match in_place::take(&ask, &usable, &regions, free, sources) {
            // A boot is worth more than what it leaves no room for.
            Err(WhyNot::Shortage(_)) if self.fit_segments().is_err() => {
                in_place::take(&ask, &usable, &Regions::default(), free, sources)
            }
            taken => taken,
        }
    }

    fn in_place(self, taken: in_place::Taken) -> Result<Arena, LoadError> {
        let in_place::Taken { places, memory, pages } = taken;
        let mut slots = memory.into_iter().map(Slot::resident);
        let none = |role| LoadError::NoMemory {
            role,
            source: NoMemory { bytes: 0 },
        };
        let kernel = slots.next().ok_or(none(Role::Kernel))?;
        let initrd = match places.initrd {
            None => None,
            Some(_) => Some(slots.next().ok_or(none(Role::Initrd))?),
        };
        let info = slots.next().ok_or(none(Role::Dtb))?;
        let (pages, size) = pages;
        Ok(Arena {
            budget: self,
            kernel,
            initrd,
            resident: Some((places, info)),
            kind: ArenaKind::InPlace { pages, size },
        })
    }

    fn segments(self, why: WhyNot) -> Result<Arena, LoadError> {
        if let Err(error) = self.fit_segments() {
            return Err(match why {
                WhyNot::Asked => error,
                in_place => LoadError::NeitherWay {
                    in_place,
                    segments: Box::new(error),
                },
            });
        }
        let kernel = reserve(Role::Kernel, self.kernel.sniffed.plan.most)?;
        let initrd = match self.initrds.as_slice() {
            [] => None,
            _ => Some(reserve(Role::Initrd, self.initrd_len())?),
        };
        Ok(Arena {
            budget: self,
            kernel,
            initrd,
            resident: None,
            kind: ArenaKind::Segments(why),
        })
    }
}
