//! What the blob does between the two assembler stubs, on both machines.

use core::panic::PanicInfo;

use purgatory::check::{Outcome, check};
use purgatory::params::{FAILURE_NONE, FAILURE_REGION, RECORD_MAGIC};
use purgatory::uart::Console;
use purgatory::{Record, message};

use crate::arch::{self, Cpu, Hardware, Ram};

/// What the blob must not have: addresses in its data. Only a test builds it (`tests/links.rs`).
#[cfg(relocation_probe)]
#[used]
static PROBE: [fn(u64, &str); 2] = [run, run];

/// Checks the payload and returns if the main kernel may be entered; else resets the machine.
pub(crate) fn run(entered: u64, state: &str) {
    let params = arch::params();
    let mut console = Console::new(Hardware, &params.uart);
    message::entered(&mut console, state);

    let started = arch::counter();
    let outcome = check(params, &Ram, &Cpu::detect());
    let checked = arch::counter();
    let ticks_per_ms = arch::ticks_per_ms(params);
    message::outcome(
        &mut console,
        params,
        &outcome,
        checked.wrapping_sub(started),
        ticks_per_ms,
    );

    let mut record = Record {
        magic: RECORD_MAGIC,
        entered,
        checked: 0,
        left: 0,
        ticks_per_ms,
        bytes: 0,
        failure: FAILURE_NONE,
        region: 0,
    };
    match outcome {
        Outcome::Good { bytes } => {
            record.checked = checked;
            record.bytes = bytes;
            record.left = arch::counter();
            arch::record(params, record);
            return;
        }
        Outcome::Region { index, .. } => {
            record.failure = FAILURE_REGION;
            record.region = index;
            arch::record(params, record);
        }
        // Nothing the block says counts, so the address of the record does not either.
        Outcome::Table { .. } => {}
    }
    console.flush();
    arch::reset();
}

/// An exception: says what and where in `words`, then resets. Called at most once; `entry.S` resets at the second.
///
/// A closure and no table: a table of texts would need relocations.
pub(crate) fn fault(words: impl FnOnce(&mut Console<Hardware>)) -> ! {
    let mut console = Console::new(Hardware, &arch::params().uart);
    console.text("purgatory: fault");
    words(&mut console);
    console.text("; resetting\n");
    console.flush();
    arch::reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fault(|console| {
        console.text(": panic");
    })
}
