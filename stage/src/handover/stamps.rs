//! The record's first 64 bytes, which the stage begins and the purgatory fills in.

use purgatory::Record;
use purgatory::params::{RECORD_MAGIC, RECORD_STAMPED};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Their length.
pub(crate) const STAMPS_SIZE: usize = Record::SIZE;

/// Values of the counter (`CNTVCT_EL0`, TSC) and what was between them: [`Record`] without its magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamps {
    /// When the stage called `reboot(KEXEC)`; 0 unknown.
    pub jump: u64,
    /// Ticks in a second; 0 unknown.
    pub hz: u64,
    /// At the purgatory's entry.
    pub entered: u64,
    /// After its check.
    pub checked: u64,
    /// When it jumps.
    pub left: u64,
    /// Bytes it checked.
    pub bytes: u64,
    /// Bit 0: the purgatory wrote its stamps.
    pub flags: u64,
}

impl Stamps {
    /// Reads them; none when the magic is not there.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (record, _) = Record::read_from_prefix(bytes).ok()?;
        (record.magic == RECORD_MAGIC).then_some(Self {
            jump: record.jump,
            hz: record.hz,
            entered: record.entered,
            checked: record.checked,
            left: record.left,
            bytes: record.bytes,
            flags: record.flags,
        })
    }

    /// The bytes.
    pub(crate) fn to_bytes(self) -> [u8; STAMPS_SIZE] {
        let record = Record {
            magic: RECORD_MAGIC,
            jump: self.jump,
            hz: self.hz,
            entered: self.entered,
            checked: self.checked,
            left: self.left,
            bytes: self.bytes,
            flags: self.flags,
        };
        let mut out = [0; STAMPS_SIZE];
        out.copy_from_slice(record.as_bytes());
        out
    }

    /// Whether the purgatory wrote its part.
    pub(crate) fn written(&self) -> bool {
        self.flags & RECORD_STAMPED != 0
    }

    /// How long the check took, microseconds; none where it is not known.
    pub(crate) fn check_us(&self) -> Option<i64> {
        let ticks = self.checked.checked_sub(self.entered)?;
        let known = self.written() && self.hz != 0 && self.entered != 0;
        Some(super::ticks_us(ticks, self.hz)).filter(|_| known)
    }

    /// Megabytes (10⁶) a second that it checked; none where it checked nothing.
    pub(crate) fn check_rate(&self) -> Option<u64> {
        let us = u64::try_from(self.check_us()?).ok()?;
        let rounded = self.bytes.saturating_add(us / 2);
        rounded.checked_div(us).filter(|_| self.bytes != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_where_the_purgatory_writes_them() {
        let mut bytes = b"CatoStmp".to_vec();
        bytes.extend((1..=7u64).flat_map(u64::to_le_bytes));
        let stamps = Stamps::parse(&bytes).unwrap();
        assert_eq!((stamps.jump, stamps.hz, stamps.entered), (1, 2, 3));
        assert_eq!((stamps.checked, stamps.left, stamps.bytes, stamps.flags), (4, 5, 6, 7));
        assert_eq!(stamps.to_bytes()[..], bytes);
        assert_eq!(Stamps::parse(&bytes[..63]), None);
        bytes[0] = b'c';
        assert_eq!(Stamps::parse(&bytes), None);
    }

    #[test]
    fn the_rate_is_of_a_check_that_was() {
        let stamps = Stamps {
            hz: 1_000_000,
            entered: 1_000,
            checked: 36_000,
            bytes: 102_000_000,
            flags: 1,
            ..Stamps::default()
        };
        assert_eq!(stamps.check_us(), Some(35_000));
        assert_eq!(stamps.check_rate(), Some(2914));
        for none in [
            Stamps { flags: 0, ..stamps },
            Stamps { hz: 0, ..stamps },
            Stamps { checked: 0, ..stamps },
            Stamps { bytes: 0, ..stamps },
            Stamps {
                checked: stamps.entered,
                ..stamps
            },
        ] {
            assert_eq!(none.check_rate(), None, "{none:?}");
        }
    }
}
