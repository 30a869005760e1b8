//! How the segments are put together, and the last check of them.

use std::ops::Range;

use config::{Arch, Check, ReasonStore};
use heapless::Vec as Fixed;

use super::purgatory::{self, Job, MapKind, Region};
use super::{Layout, Segment};
use super::{LayoutError, length};
use crate::machine::{Machine, UartKind};
use crate::memory::hole::Free;
use crate::memory::range::{align_down, covers};
use crate::memory::{Slot, Span, digest};
use crate::place::{PlaceError, pages, part};
use crate::sys::kexec::MAX_SEGMENTS;

/// What differs for the purgatory from one arch to the other.
pub(super) struct ArchRules<'a> {
    pub(super) arch: Arch,
    pub(super) entry: u64,
    pub(super) argument: u64,
    pub(super) map: &'a [(Span, MapKind)],
    pub(super) clean: &'a [Span],
    pub(super) check: Check,
}

/// The segments as they are put together.
pub(super) struct Segments {
    page: u64,
    segments: Fixed<Segment, MAX_SEGMENTS>,
}

impl Segments {
    pub(super) fn new(page: u64) -> Self {
        Self {
            page,
            segments: Fixed::new(),
        }
    }

    /// A segment at `start` with as many pages as `bytes` needs: the kernel clears and copies every one of them.
    pub(super) fn add(
        &mut self,
        name: &'static str,
        start: u64,
        bytes: Slot,
        purpose: &'static str,
    ) -> Result<(), LayoutError> {
        let mem = pages(length(&bytes), self.page)
            .and_then(|size| Span::sized(start, size))
            .ok_or(PlaceError::Header {
                what: name,
                value: start,
            })?;
        self.segments
            .push(Segment {
                name,
                mem,
                bytes,
                purpose,
                record: 0..0,
            })
            .map_err(|_| LayoutError::TooManySegments)
    }

    /// The segment that was added last holds the hand-over record.
    pub(super) fn has_record(&mut self, record: Range<usize>) {
        if let Some(last) = self.segments.last_mut() {
            last.record = record;
        }
    }

    /// The last segment: it knows all the others, and gets what is left.
    pub(super) fn purgatory(
        &mut self,
        rules: &ArchRules<'_>,
        machine: &Machine,
        free: &mut Free,
        blob: &[u8],
    ) -> Result<PurgatorySegment, LayoutError> {
        let mut checked = Vec::new();
        for segment in &mut self.segments {
            segment.checked(rules.check, &mut checked);
        }
        let regions: Vec<Region<'_>> = checked
            .iter()
            .map(|(name, span, len, digests)| Region {
                name,
                span: *span,
                len: *len,
                digests,
            })
            .collect();
        let job = Job {
            arch: rules.arch,
            regions: &regions,
            entry: rules.entry,
            argument: rules.argument,
            uart: machine.uart,
            conduit: machine.psci,
            check: rules.check,
            map: rules.map,
            clean: rules.clean,
            ticks_per_ms: machine.ticks_per_ms,
            record: self.segments.iter().find_map(Segment::record_address),
            reason: machine.reason.filter(|place| !is_mapped(*place, rules, machine)),
        };
        let size = purgatory::footprint(&job)?;
        let whole = Span {
            start: self.page,
            end: 1 << 46,
        };
        let place = part(free, "purgatory", size, self.page, whole)?;
        let image = purgatory::build(&job, place.start, blob)?;
        self.add("purgatory", place.start, image.bytes.into(), "check, then jump")?;
        Ok(PurgatorySegment {
            entry: image.entry,
            digests: image.digests,
            reason: job.reason,
        })
    }

    /// The last look, which trusts nothing above it.
    pub(super) fn finish(
        mut self,
        arch: Arch,
        last: PurgatorySegment,
        kernel: Span,
        machine: &Machine,
        usable: &[Span],
    ) -> Result<Layout, LayoutError> {
        self.segments.sort_unstable_by_key(|s| s.mem.start);
        for (i, s) in self.segments.iter().enumerate() {
            let aligned = [s.mem.start, s.mem.end].iter().all(|a| a.is_multiple_of(self.page));
            let alone = self
                .segments
                .iter()
                .skip(i.saturating_add(1))
                .all(|o| !o.mem.overlaps(&s.mem));
            let beside = s.name == "kernel" || !s.mem.overlaps(&kernel);
            if !(aligned && alone && beside && covers(usable, &s.mem) && length(&s.bytes) <= s.mem.len()) {
                return Err(LayoutError::Contradiction {
                    what: s.name,
                    span: s.mem,
                });
            }
        }
        if !covers(usable, &kernel) {
            return Err(LayoutError::Contradiction {
                what: "kernel",
                span: kernel,
            });
        }
        let layout = Layout {
            arch,
            entry: last.entry,
            segments: self.segments,
            kernel,
            digests: last.digests,
            reason: last.reason,
            shortage: None,
        };
        let there = machine.memory.kexec_most();
        if layout.bytes() > there {
            return Err(LayoutError::TooMuch {
                asked: layout.bytes(),
                there,
            });
        }
        Ok(layout)
    }
}

/// What is known of the purgatory's segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct PurgatorySegment {
    /// Its first instruction.
    entry: u64,
    /// The digest table in it.
    digests: Span,
    /// Where it leaves why it resets the machine.
    reason: Option<ReasonStore>,
}

/// Whether the purgatory uses that page for something else: then it can't be a device's, too, and a boot is worth more than
/// a reason.
fn is_mapped(place: ReasonStore, rules: &ArchRules<'_>, machine: &Machine) -> bool {
    let ReasonStore::Memory(at) = place else { return false };
    let page = |at: u64| Span::sized(align_down(at, machine.page_size), machine.page_size);
    let uart = machine.uart.filter(|uart| uart.kind != UartKind::Port16550);
    let mut used = (rules.map.iter().map(|(span, _)| *span)).chain(uart.and_then(|uart| page(uart.base)));
    page(at).is_none_or(|page| used.any(|used| used.overlaps(&page)))
}

/// A name, the memory from its first byte on, how many bytes are checked, and their digests.
type Checked = (&'static str, Span, u64, Vec<u8>);

impl Segment {
    /// What of it the purgatory checks: all but the record.
    fn checked(&mut self, check: Check, to: &mut Vec<Checked>) {
        if self.record.is_empty() {
            let digests = self.bytes.digests(check);
            to.push((self.name, self.mem, length(&self.bytes), digests));
            return;
        }
        let Range { start, end } = self.record.clone();
        for (at, bytes) in [(0, self.bytes.get(..start)), (end, self.bytes.get(end..))] {
            let bytes = bytes.unwrap_or_default();
            let behind = u64::try_from(at).unwrap_or(u64::MAX);
            let span = Span {
                start: self.mem.start.saturating_add(behind),
                end: self.mem.end,
            };
            if !bytes.is_empty() {
                to.push((self.name, span, length(bytes), digest::of(check, bytes)));
            }
        }
    }

    /// Physical address of the record.
    fn record_address(&self) -> Option<u64> {
        let behind = u64::try_from(self.record.start)
            .ok()
            .filter(|_| !self.record.is_empty())?;
        self.mem.start.checked_add(behind)
    }
}
