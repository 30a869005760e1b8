//! Which UART the service kernel's console is, for the purgatory to go on with.
//!
//! Given `/proc/consoles`, the command line and `/sys/class/tty`; documentation: Documentation/ABI/testing/sysfs-tty.

use super::files::{Files, hex};
use super::{Uart, UartKind};
use crate::text::cmdline;

/// The first console that is a UART the purgatory can drive: the one behind `/dev/console` (flag C), then the other
/// active ones, then those the command line names, last first.
pub(super) fn uart(files: &dyn Files, cmdline: &str) -> Option<Uart> {
    let consoles = files.text("/proc/consoles").unwrap_or_default();
    let active = consoles.lines().filter_map(|line| {
        let name = line.split_ascii_whitespace().next()?;
        let flags = line.split_once('(')?.1.split_once(')')?.0;
        Some((name, flags))
    });
    let (first, others): (Vec<_>, Vec<_>) = active.partition(|(_, flags)| flags.contains('C'));
    let named = cmdline::values(cmdline, "console");
    first
        .iter()
        .chain(&others)
        .map(|(name, _)| *name)
        .chain(named.iter().rev().map(|c| c.split(',').next().unwrap_or_default()))
        .find_map(|name| tty(files, name))
}

/// `UPIO_PORT`, include/uapi/linux/serial.h
const PORT: u64 = 0;
/// `UPIO_MEM`, `UPIO_MEM32`, `UPIO_MEM16`: byte, word and half-word registers in memory.
const MEMORY: [u64; 3] = [2, 3, 7];

fn tty(files: &dyn Files, name: &str) -> Option<Uart> {
    // A name, not a path.
    if !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let attribute = |attribute: &str| {
        let text = files.text(&format!("/sys/class/tty/{name}/{attribute}"))?;
        let text = text.trim();
        if text.starts_with("0x") || text.starts_with("0X") {
            hex(text)
        } else {
            text.parse().ok()
        }
    };
    let base = |at: &str| attribute(at).filter(|b| *b != 0);
    let reg_shift = u32::try_from(attribute("iomem_reg_shift").unwrap_or(0))
        .ok()
        .filter(|s| *s <= 3)?;
    // A type of 0 is a port nobody found.
    let io = attribute("io_type").filter(|_| attribute("type").is_some_and(|t| t != 0))?;
    if name.starts_with("ttyAMA") {
        // amba-pl011 numbers its registers in words itself.
        let base = base("iomem_base")?;
        return MEMORY.contains(&io).then_some(Uart {
            kind: UartKind::Pl011,
            base,
            reg_shift: 0,
        });
    }
    // ttySAC0, ttySTM0 and their like are other UARTs.
    if !name
        .strip_prefix("ttyS")
        .is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    {
        return None;
    }
    if io == PORT {
        return Some(Uart {
            kind: UartKind::Port16550,
            base: base("port")?,
            reg_shift: 0,
        });
    }
    MEMORY.contains(&io).then_some(Uart {
        kind: UartKind::Mmio16550,
        base: base("iomem_base")?,
        reg_shift,
    })
}
