//! What the purgatory's stamps in a record say of its check.

use purgatory::Record;

/// How long the check took, microseconds; none where it is not known.
pub(crate) fn check_us(stamps: &Record) -> Option<i64> {
    let ticks = stamps.checked.checked_sub(stamps.entered)?;
    let known = stamps.written() && stamps.hz != 0 && stamps.entered != 0;
    Some(super::ticks_us(ticks, stamps.hz)).filter(|_| known)
}

/// Megabytes (10⁶) a second that it checked; none where it checked nothing.
pub(crate) fn check_rate(stamps: &Record) -> Option<u64> {
    let us = u64::try_from(check_us(stamps)?).ok()?;
    let rounded = stamps.bytes.saturating_add(us / 2);
    rounded.checked_div(us).filter(|_| stamps.bytes != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes as _;

    #[test]
    fn they_are_where_the_purgatory_writes_them() {
        let mut bytes = b"CatoStmp".to_vec();
        bytes.extend((1..=7u64).flat_map(u64::to_le_bytes));
        let stamps = Record::parse(&bytes).unwrap();
        assert_eq!((stamps.jump, stamps.hz, stamps.entered), (1, 2, 3));
        assert_eq!((stamps.checked, stamps.left, stamps.bytes, stamps.flags), (4, 5, 6, 7));
        assert_eq!(stamps.as_bytes(), bytes);
        assert_eq!(Record::parse(&bytes[..63]), None);
        bytes[0] = b'c';
        assert_eq!(Record::parse(&bytes), None);
    }

    #[test]
    fn the_rate_is_of_a_check_that_was() {
        let stamps = Record {
            hz: 1_000_000,
            entered: 1_000,
            checked: 36_000,
            bytes: 102_000_000,
            flags: 1,
            ..Record::default()
        };
        assert_eq!(check_us(&stamps), Some(35_000));
        assert_eq!(check_rate(&stamps), Some(2914));
        for none in [
            Record { flags: 0, ..stamps },
            Record { hz: 0, ..stamps },
            Record { checked: 0, ..stamps },
            Record { bytes: 0, ..stamps },
            Record {
                checked: stamps.entered,
                ..stamps
            },
        ] {
            assert_eq!(check_rate(&none), None, "{none:?}");
        }
    }
}
