//! What the purgatory says: one line in, one line out, or why it resets the machine.

use crate::check::Outcome;
use crate::params::{Check, Params};
use crate::uart::{Bus, Console};

/// `purgatory: entry el2 vhe`
pub fn entered<B: Bus>(console: &mut Console<B>, state: &str) {
    console.text("purgatory: entry ").text(state).text("\n");
}

/// The outcome of the check in words: that it jumps, or what is wrong and that it resets.
pub fn outcome<B: Bus>(console: &mut Console<B>, params: &Params, outcome: &Outcome<'_>, ticks: u64, per_ms: u64) {
    let check = Check::from_code(params.check);
    match outcome {
        Outcome::Good { .. } if check == Some(Check::Off) => {
            console.text("purgatory: check off; jump\n");
        }
        Outcome::Good { bytes } => {
            console.text("purgatory: ");
            kind(console, check)
                .text(" ok ")
                .decimal(bytes.saturating_add(500_000) / 1_000_000)
                .text(" MB in ");
            match ticks.checked_div(per_ms) {
                Some(ms) => console.decimal(ms).text(" ms; jump\n"),
                None => console.decimal(ticks).text(" ticks; jump\n"),
            };
        }
        Outcome::Table { want, got } => {
            console.text("purgatory: digest table: sha256 mismatch");
            ending(console, want, got);
        }
        Outcome::Region { region, got, .. } => {
            console
                .text("purgatory: segment \"")
                .bytes(region.name())
                .text("\" at ")
                .hex(region.base)
                .text(": ");
            kind(console, check).text(" mismatch");
            ending(console, &region.digest, got);
        }
    }
}

fn kind<B: Bus>(console: &mut Console<B>, check: Option<Check>) -> &mut Console<B> {
    if check == Some(Check::Fast) {
        console.text("xxh64")
    } else {
        console.text("sha256")
    }
}

fn ending<B: Bus>(console: &mut Console<B>, want: &[u8; 32], got: &[u8; 32]) {
    console
        .text(" (want ")
        .digest(want)
        .text(", got ")
        .digest(got)
        .text("); resetting\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uart::tests::{Fake, PL011};

    fn said(check: Check, found: &Outcome<'_>, ticks: u64, per_ms: u64) -> String {
        let bus = Fake::default();
        let mut params = Params::EMPTY;
        params.check = check.code();
        outcome(&mut Console::new(bus.clone(), &PL011), &params, found, ticks, per_ms);
        bus.text()
    }

    #[test]
    fn the_lines() {
        let mut region = Params::EMPTY.regions[0];
        region.name[..6].copy_from_slice(b"initrd");
        region.base = 0x4800_0000;
        region.digest = [0x3f; 32];
        let wrong = Outcome::Region {
            index: 1,
            region: &region,
            got: [0x77; 32],
        };
        assert_eq!(
            said(Check::Sha256, &wrong, 0, 0),
            "purgatory: segment \"initrd\" at 0x48000000: sha256 mismatch (want 3f3f.., got 7777..); resetting\r\n"
        );
        assert_eq!(
            said(Check::Sha256, &Outcome::Good { bytes: 101_700_000 }, 2_187_500, 62_500),
            "purgatory: sha256 ok 102 MB in 35 ms; jump\r\n"
        );
        assert_eq!(
            said(Check::Fast, &Outcome::Good { bytes: 101_700_000 }, 99, 0),
            "purgatory: xxh64 ok 102 MB in 99 ticks; jump\r\n"
        );
        assert_eq!(
            said(Check::Off, &Outcome::Good { bytes: 0 }, 9, 1),
            "purgatory: check off; jump\r\n"
        );
        assert_eq!(
            said(
                Check::Off,
                &Outcome::Table {
                    want: [0; 32],
                    got: [1; 32]
                },
                9,
                1
            ),
            "purgatory: digest table: sha256 mismatch (want 0000.., got 0101..); resetting\r\n"
        );
    }
}
