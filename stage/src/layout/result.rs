//! The end of the flow: what goes where, and where the CPU goes.

use std::fmt;
use std::ops::Range;

use config::{Arch, ReasonStore};
use heapless::Vec as Fixed;

use crate::memory::{Slot, Span};
use crate::place::Shortage;
use crate::sys::kexec::MAX_SEGMENTS;

/// Everything `kexec_load` is called with. Only [`lay_out`](super::lay_out) makes one.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(super) arch: Arch,
    pub(super) entry: u64,
    pub(super) segments: Fixed<Segment, MAX_SEGMENTS>,
    pub(super) kernel: Span,
    /// In the purgatory's segment.
    pub(super) digests: Span,
    pub(super) reason: Option<ReasonStore>,
    pub(super) shortage: Option<Shortage>,
}

/// Bytes and where they go.
#[derive(Debug)]
pub(crate) struct Segment {
    /// `kernel`, `initrd`, `dtb`, `boot-data`, `purgatory`.
    pub name: &'static str,
    /// Where to: page-aligned at both ends, at least as long as `bytes`; the kernel clears the rest.
    pub mem: Span,
    /// What.
    pub bytes: Slot,
    /// What it is there for, for people.
    pub purpose: &'static str,
    /// The hand-over record in it, which the purgatory completes: bytes that are not checked. Empty where there is none.
    pub record: Range<usize>,
}

impl Segment {
    /// Puts other bytes in the place of the record; says `false` and changes nothing where they do not fill it.
    #[must_use]
    pub(crate) fn rewrite_record(&mut self, bytes: &[u8]) -> bool {
        bytes.len() == self.record.len() && self.bytes.patch(self.record.start, bytes)
    }
}

impl Layout {
    /// Physical address of the purgatory's first instruction.
    pub(crate) fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments, by address.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Those the kernel copies: `kexec_load` gets them.
    pub(crate) fn copied(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|s| s.bytes.address().is_none())
    }

    /// Those that are in place already, with their memory.
    pub(crate) fn into_resident(self) -> Vec<Segment> {
        let all = self.segments.into_iter();
        all.filter(|s| s.bytes.address().is_some()).collect()
    }

    /// Where the purgatory leaves why it resets the machine; none also where it uses that page for something else.
    pub(crate) fn reason(&self) -> Option<ReasonStore> {
        self.reason
    }

    /// What the main kernel will have no room for.
    pub(crate) fn shortage(&self) -> Option<&Shortage> {
        self.shortage.as_ref()
    }

    /// Bytes that `kexec_load` copies and the kernel moves.
    pub(crate) fn bytes(&self) -> u64 {
        self.copied().fold(0, |sum, s| sum.saturating_add(s.mem.len()))
    }
}

/// A table, one segment a line.
impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10} {:>18} {:>18} {:>12}  purpose",
            "segment", "start", "end", "bytes"
        )?;
        for s in &self.segments {
            writeln!(
                f,
                "{:<10} {:>#18x} {:>#18x} {:>12}  {}",
                s.name,
                s.mem.start,
                s.mem.end,
                s.bytes.len(),
                s.purpose
            )?;
        }
        writeln!(
            f,
            "{:<10} {:>#18x} {:>#18x} {:>12}  what the purgatory compares with",
            "digests",
            self.digests.start,
            self.digests.end,
            self.digests.len()
        )?;
        write!(
            f,
            "{} kernel runs in {:#x}..{:#x}; entry {:#x}; {} bytes to copy",
            self.arch,
            self.kernel.start,
            self.kernel.end,
            self.entry,
            self.bytes()
        )
    }
}
