//! `Choice` → `Budget` → `Arena` → `Payload`: sizes and headers first, then memory, then one pass over every byte.
//!
//! ```text
//! budget(entry, tree, machine, free, cmdline)?     opens, looks, refuses what is wrong or does not fit
//!     .reserve(machine, pages)?                    takes the memory
//!     .load(progress)?                             reads, unpacks, hashes
//! ```

mod arena;
mod budget;
mod error;
#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers in tests")]
pub(crate) mod fakes;
mod in_place;
mod initrds;
mod payload;
mod read;
#[cfg(test)]
mod tests;
mod verify;

pub(crate) use arena::Arena;
pub(crate) use budget::{Free, budget};
pub(crate) use error::LoadError;
pub(crate) use in_place::ArenaKind;
pub(crate) use payload::{Artefact, Payload};
pub(crate) use read::Progress;
pub(crate) use verify::{Verified, VerifyError, verify};
#[cfg(test)]
pub(crate) use {in_place::WhyNot, payload::Role};

use std::io;

use crate::devicetree;
use crate::formats::{FormatError, Kernel, unpack};
use crate::memory::Slot;
use budget::KernelFile;
use initrds::Joined;
use read::Meter;

impl Arena {
    /// Reads every file once, into the memory that was reserved for it. `progress` hears of every read, so that a slow
    /// disk can be told from a dead one.
    ///
    /// # Errors
    /// Names the file and what is wrong with it. What only the whole file shows, its length and its digest, is left to
    /// [`verify`](verify()).
    pub(crate) fn load(self, progress: &mut dyn FnMut(Progress)) -> Result<Payload, LoadError> {
        let Self {
            budget,
            kernel,
            initrd,
            resident,
            kind,
        } = self;
        let mut budget = budget;
        if matches!(kind, ArenaKind::InPlace { .. }) {
            budget.read_straight();
        }
        let mut artefacts = Vec::new();
        let mut meter = Meter {
            size: budget.stored_len(),
            done: 0,
            tell: progress,
        };

        let kernel = load_kernel(budget.kernel, kernel, &mut meter, &mut artefacts)?;
        let mut notes = budget.notes;
        let initrd = match initrd {
            None => None,
            Some(slot) => {
                let mut joined = Joined::new(slot, &kernel, &budget.cmdline);
                let mut files = budget.initrds.into_iter().peekable();
                while let Some(file) = files.next() {
                    joined.add(file, files.peek().is_none(), &mut meter, &mut artefacts)?;
                }
                let (slot, of_initrds) = joined.finish()?;
                notes.extend(of_initrds);
                Some(slot)
            }
        };
        // What was reserved had room for padding.
        let resident = resident.map(|(mut places, info)| {
            if let (Some(place), Some(initrd)) = (&mut places.initrd, &initrd) {
                place.end = place
                    .start
                    .saturating_add(u64::try_from(initrd.len()).unwrap_or(u64::MAX));
            }
            (places, info)
        });
        let dtb = budget.dtb.map(|(bytes, artefact)| {
            artefacts.push(artefact);
            bytes
        });

        Ok(Payload {
            kernel,
            initrd,
            dtb,
            cmdline: budget.cmdline,
            check: budget.check,
            artefacts,
            resident,
            arena: kind,
            notes,
        })
    }
}

/// Whether a device tree follows the `kernel`, whose sections end at `end`: nobody would look at it there.
fn follows(kernel: &[u8], end: u64) -> bool {
    let behind = usize::try_from(end).ok().and_then(|end| kernel.get(end..));
    let zeros = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte == 0).count();
    let rest = behind.and_then(|behind| behind.get(zeros(behind)..));
    rest.is_some_and(|rest| rest.starts_with(&devicetree::MAGIC.to_be_bytes()))
}

/// Reads and unpacks the kernel.
fn load_kernel(
    file: KernelFile,
    mut slot: Slot,
    meter: &mut Meter<'_>,
    artefacts: &mut Vec<Artefact>,
) -> Result<Kernel, LoadError> {
    let KernelFile { mut stored, sniffed } = file;
    let plan = sniffed.plan;
    let result = meter.pass(&mut stored, |from| {
        slot.fill(&mut *unpack(&sniffed.wrappers, Box::new(from)), plan.skip)
    });
    let more = match (result, sniffed.wrappers.first()) {
        (Ok(more), _) => more,
        (Err(source), Some(outermost)) => {
            // A stream that wants more than the file has is truncated, whatever the decoder calls it.
            let source = if stored.exhausted() {
                io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected end of file")
            } else {
                source
            };
            return Err(LoadError::Unpack {
                path: stored.path,
                format: outermost.name,
                source,
            });
        }
        (Err(source), None) => return Err(stored.failed(source)),
    };
    let have = u64::try_from(slot.len()).unwrap_or(u64::MAX);
    let format = |source| LoadError::Format {
        path: stored.path.clone(),
        source,
    };
    // A file that changed its length while it was read is for `verify` to refuse, which says so.
    if stored.whole() {
        if more {
            return Err(format(FormatError::TooLong {
                have: have.saturating_add(plan.skip).saturating_add(1),
                most: plan.most.saturating_add(plan.skip),
            }));
        }
        if have < plan.least {
            return Err(format(FormatError::Truncated {
                have: have.saturating_add(plan.skip),
                need: plan.least.saturating_add(plan.skip),
            }));
        }
    }
    if follows(&slot, plan.least) {
        return Err(format(FormatError::Appended));
    }
    artefacts.push(stored.artefact());
    Ok(Kernel {
        header: plan.header,
        bytes: slot,
    })
}
