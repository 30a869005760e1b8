//! What the purgatory says: one line in, one line out, or why it resets the machine.

use crate::check::{Digest, Outcome};
use crate::params::{Check, Params};
use crate::reason::{Code, ReasonKind};
use crate::uart::{Bus, Console};

/// `purgatory: entry el2 vhe`
pub fn entered<B: Bus>(console: &mut Console<B>, state: &str) {
    console.line().text("entry ").text(state).text("\n");
}

/// The outcome of the check in words: that it jumps, or what is wrong and that it resets.
pub fn outcome<B: Bus>(console: &mut Console<B>, params: &Params, outcome: &Outcome<'_>, ticks: u64) {
    let per_ms = params.ticks_per_ms;
    let check = Check::from_code(params.check);
    console.line();
    match outcome {
        Outcome::Good { .. } if check == Some(Check::Off) => {
            console.text("check off; jump\n");
        }
        Outcome::Good { bytes } => {
            kind(console, check)
                .text(" ok ")
                .decimal(bytes.saturating_add(500_000) / 1_000_000)
                .text(" MB in ");
            match ticks.checked_div(per_ms) {
                Some(ms) => console.decimal(ms).text(" ms"),
                None => console.decimal(ticks).text(" ticks"),
            };
            // Bytes in a millisecond, in thousands.
            if let Some(rate) = bytes.saturating_mul(per_ms).checked_div(ticks)
                && per_ms != 0
            {
                console.text(" (").decimal(rate / 1000).text(" MB/s)");
            }
            console.text("; jump\n");
        }
        Outcome::Block { want, got } => {
            console.text("parameter block: sha256");
            ending(console, want, got);
        }
        Outcome::Table { want, got } => {
            console.text("digest table: sha256");
            ending(console, want, got);
        }
        Outcome::Chunk {
            region,
            chunk,
            address,
            want,
            got,
            ..
        } => {
            console
                .text("segment \"")
                .bytes(region.name())
                .text("\" chunk ")
                .decimal(*chunk)
                .text(" at ")
                .hex(*address)
                .text(": ");
            kind(console, check);
            ending(console, want, got);
        }
    }
}

fn kind<B: Bus>(console: &mut Console<B>, check: Option<Check>) -> &mut Console<B> {
    if check == Some(Check::Fast) {
        console.text("xxh3")
    } else {
        console.text("sha256")
    }
}

fn ending<B: Bus>(console: &mut Console<B>, want: &Digest, got: &Digest) {
    console
        .text(" mismatch (want ")
        .digest(want)
        .text(", got ")
        .digest(got)
        .text("); resetting\n");
}

/// What the reason says in one byte; none if all is well.
pub fn code(outcome: &Outcome<'_>) -> Option<Code> {
    let (kind, region) = match outcome {
        Outcome::Good { .. } => return None,
        Outcome::Block { .. } => (ReasonKind::Block, 0),
        Outcome::Table { .. } => (ReasonKind::Table, 0),
        Outcome::Chunk { index, .. } => (ReasonKind::Segment, u8::try_from(*index).unwrap_or(u8::MAX)),
    };
    Some(Code { kind, region })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uart::tests::{Fake, PL011};

    fn said(check: Check, found: &Outcome<'_>, ticks: u64, per_ms: u64) -> String {
        let bus = Fake::default();
        let mut params = Params::EMPTY;
        params.check = check.code();
        params.ticks_per_ms = per_ms;
        let mut console = Console::new(bus.clone(), &PL011);
        outcome(&mut console, &params, found, ticks);
        let text = bus.text();
        assert_eq!(
            text.strip_prefix("purgatory: ")
                .and_then(|t| t.strip_suffix("\r\n"))
                .map(str::as_bytes),
            Some(console.kept()),
            "the reason has the same words"
        );
        text
    }

    #[test]
    fn the_lines() {
        let mut region = Params::EMPTY.regions[0];
        let mut initrd = region;
        initrd.name[..6].copy_from_slice(b"initrd");
        let wrong = Outcome::Chunk {
            index: 1,
            region: &initrd,
            chunk: 17,
            address: 0x7bf7_4000,
            want: [0x3f; 32],
            got: [0x77; 32],
        };
        assert_eq!(
            said(Check::Sha256, &wrong, 0, 0),
            "purgatory: segment \"initrd\" chunk 17 at 0x7bf74000: sha256 mismatch (want 3f3f.., got 7777..); resetting\r\n"
        );
        region.name = *b"sixteen-letters!";
        let longest = Outcome::Chunk {
            index: 1,
            region: &region,
            chunk: 999_999,
            address: u64::MAX >> 16,
            want: [0x3f; 32],
            got: [0x77; 32],
        };
        assert!(said(Check::Sha256, &longest, 0, 0).len() <= crate::params::REASON_TEXT + "purgatory: \r\n".len());
        assert!(said(Check::Fast, &wrong, 0, 0).contains(": xxh3 mismatch (want 3f3f.., got 7777..)"));
        assert_eq!(code(&wrong).map(Code::encode), Some(0x89));
        let good = Outcome::Good { bytes: 101_700_000 };
        assert_eq!(
            said(Check::Sha256, &good, 2_187_500, 62_500),
            "purgatory: sha256 ok 102 MB in 35 ms (2905 MB/s); jump\r\n"
        );
        assert_eq!(
            said(Check::Fast, &good, 99, 0),
            "purgatory: xxh3 ok 102 MB in 99 ticks; jump\r\n"
        );
        assert_eq!(
            said(Check::Fast, &good, 0, 1),
            "purgatory: xxh3 ok 102 MB in 0 ms; jump\r\n"
        );
        assert_eq!(code(&good), None);
        assert_eq!(
            said(Check::Off, &Outcome::Good { bytes: 0 }, 9, 1),
            "purgatory: check off; jump\r\n"
        );
        let (want, got) = ([0; 32], [1; 32]);
        assert_eq!(
            said(Check::Off, &Outcome::Block { want, got }, 9, 1),
            "purgatory: parameter block: sha256 mismatch (want 0000.., got 0101..); resetting\r\n"
        );
        assert_eq!(
            said(Check::Off, &Outcome::Table { want, got }, 9, 1),
            "purgatory: digest table: sha256 mismatch (want 0000.., got 0101..); resetting\r\n"
        );
        assert_eq!(code(&Outcome::Block { want, got }).map(Code::encode), Some(0x83));
        assert_eq!(code(&Outcome::Table { want, got }).map(Code::encode), Some(0x82));
    }
}
