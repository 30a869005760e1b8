//! When and where something happens, on the running system.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use super::slots::Now;
use crate::handover;
use crate::machine::record;

/// 2020: a clock that says less was never set.
const SET: u64 = 1_577_836_800;

/// Now, without an entry.
pub(crate) fn now() -> Now<'static> {
    let uptime = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |at| {
        let ms = at.tv_nsec().checked_div(1_000_000).unwrap_or(0);
        at.tv_sec().saturating_mul(1000).saturating_add(ms)
    });
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Now {
        uptime_ms: u32::try_from(uptime).unwrap_or(u32::MAX),
        time: if time < SET { 0 } else { time },
        kernel: version(&release),
        kexecs: kexecs(),
        entry: "",
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> [u8; 2] {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    [(); 2].map(|()| numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0))
}

/// Jumps since power-on, as the record of the last one says; 0 where firmware started this kernel.
pub(crate) fn kexecs() -> u16 {
    let record = record::find(Path::new("/")).ok().flatten();
    let handover = record.and_then(|record| handover::parse(&record.bytes).ok());
    handover.map_or(0, |(_, handover)| u16::try_from(handover.kexecs).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn a_release_has_two_numbers() {
        assert_eq!(version("6.12.117+deb13-amd64"), [6, 12]);
        assert_eq!(version("6"), [6, 0]);
        assert_eq!(version("x"), [0, 0]);
    }
}
