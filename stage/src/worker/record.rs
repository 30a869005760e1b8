//! The hand-over record of this boot, as it grows.

use zerocopy::IntoBytes as _;

use super::message::Boot;
use crate::handover::{Clock, Handover, Payload, Phases};
use crate::layout::Layout;
use crate::load::{self, ArenaKind};
use crate::machine::{Machine, record};
use crate::state::moment;
use crate::text::cut;

/// The longest text of a slot that failed, bytes: the record stays small.
const PASSED_OVER: usize = 256;

/// What is known so far, for bytes of a fixed length: their place is in what the main kernel is told, and is found before
/// all is known.
#[derive(Debug)]
pub(super) struct Record {
    handover: Handover,
    clock: Clock,
    /// Ticks of the counter in a second by another source, where there is one.
    about: Option<u64>,
    kexeced: bool,
    len: usize,
}

impl Record {
    /// For the choice whose files have been read.
    pub(super) fn new(boot: &Boot, nonce: u64, payload: &load::Payload, clock: Clock, machine: &Machine) -> Self {
        let choice = &boot.choice;
        let entry = &choice.entry;
        let slot = boot
            .account
            .as_ref()
            .and_then(|account| account.slot.as_ref().map(ToString::to_string));
        let bytes = |slot: Option<&[u8]>| slot.map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let sizes = Payload {
            kernel: bytes(Some(&payload.kernel.bytes)),
            initrd: bytes(payload.initrd.as_deref()),
            // The running one is what the main kernel's is made from.
            dtb: bytes(payload.dtb.as_deref().or(machine.fdt.as_deref())),
        };
        let handover = Handover {
            cato: env!("CARGO_PKG_VERSION").to_owned(),
            entry: entry.name.clone(),
            title: entry.title.clone(),
            why: choice.why.to_string(),
            nonce: slot.as_ref().map(|_| format!("{nonce:016x}")).unwrap_or_default(),
            slot: slot.unwrap_or_default(),
            passed_over: cut(boot.passed_over.as_deref().unwrap_or_default(), PASSED_OVER),
            kexecs: u64::from(moment::kexecs()).saturating_add(1),
            arena: payload.arena.to_string(),
            check: entry.check.to_string(),
            payload: sizes,
            // In segments the record is one of the copied things, and no later word reaches it.
            copied: match payload.arena {
                ArenaKind::InPlace { .. } => 0,
                ArenaKind::Segments(_) => sizes.total(),
            },
            read: payload
                .artefacts
                .iter()
                .fold(0, |sum, file| sum.saturating_add(file.read)),
            ..Handover::default()
        };
        Self {
            len: handover.room(),
            handover,
            clock,
            about: machine.ticks_per_ms.and_then(|ticks| ticks.checked_mul(1000)),
            kexeced: matches!(record::find(std::path::Path::new("/")), Ok(Some(_))),
        }
    }

    /// What is known once everything has its place.
    pub(super) fn laid_out(&mut self, layout: &Layout) {
        self.handover.copied = layout.bytes();
        let dtb = layout.segments().iter().find(|segment| segment.name == "dtb");
        self.handover.payload.dtb = dtb.map_or(0, |segment| u64::try_from(segment.bytes.len()).unwrap_or(u64::MAX));
    }

    /// The record with the phases so far; `jump` is the counter when the kernel is told to leave, 0 when that is still to come.
    pub(super) fn bytes(&mut self, phases: &Phases, jump: u64) -> Vec<u8> {
        let reading = self.clock.read(self.about, self.kexeced);
        self.handover.counter = reading.counter;
        self.handover.firmware_us = reading.firmware_us;
        self.handover.phases = phases.list().to_vec();
        let mut bytes = self.handover.to_bytes(self.len);
        let stamps = purgatory::Record {
            jump,
            hz: reading.hz,
            ..purgatory::Record::default()
        };
        if let Some(first) = bytes.get_mut(..purgatory::Record::SIZE) {
            first.copy_from_slice(stamps.as_bytes());
        }
        bytes
    }
}
