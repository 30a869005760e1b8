//! What the blob does between the two assembler stubs, on both machines.

use core::panic::PanicInfo;

use purgatory::check::{Outcome, check};
use purgatory::cpu::Cpu;
use purgatory::reason::{Code, ReasonKind};
use purgatory::uart::Console;
use purgatory::{Params, message, reason};

use crate::arch::{self, Hardware, Ram};

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
    message::outcome(&mut console, params, &outcome, checked.wrapping_sub(started));
    match outcome {
        Outcome::Good { bytes } => {
            for range in params.cleans() {
                arch::clean_and_invalidate(range.start, range.end);
            }
            arch::stamp(params, entered, checked, bytes);
        }
        // A block that is damaged may name a wrong place for the reason, too; but only what it once named is mapped.
        ref wrong => give_up(&mut console, params, message::code(wrong)),
    }
}

/// An exception: says what and where in `words`, then resets. Called at most once; `entry.S` resets at the second.
///
/// A closure and no table: a table of texts would need relocations.
pub(crate) fn fault(kind: ReasonKind, words: impl FnOnce(&mut Console<Hardware>)) -> ! {
    let params = arch::params();
    let mut console = Console::new(Hardware, &params.uart);
    console.line().text("fault");
    words(&mut console);
    console.text("; resetting\n");
    give_up(&mut console, params, Some(Code { kind, region: 0 }))
}

/// Leaves the console's last line as the reason and resets.
fn give_up(console: &mut Console<Hardware>, params: &Params, code: Option<Code>) -> ! {
    if let Some(code) = code {
        reason::leave(console.bus(), &params.reason, code, console.kept());
    }
    console.flush();
    arch::reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    fault(ReasonKind::Panic, |console| {
        console.text(": panic");
    })
}
