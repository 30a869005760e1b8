//! Values out of a few words: a check, an arena, a terminal, a place for the reason.
//!
//! Given the text of one value; responsible for the words there are, and for the one somebody may have meant.

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as NoVariant, StrDeserializer};

use crate::diagnostic::quoted;
use crate::keys::nearest;
use crate::lookalike::named;
use crate::value::{Fault, try_from};
use crate::{Arena, Check, ReasonStore, Terminal};

/// `check`. TOML's own way to read a [`Check`] would take a table with its name, too.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct CheckName(pub(crate) Check);

/// `arena`, likewise.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct ArenaName(pub(crate) Arena);

/// `terminal`, likewise.
#[derive(Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TerminalName(pub(crate) Terminal);

/// `access`, likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum AccessName {
    Open,
    Menu,
    Password,
    Locked,
}

try_from! {
    String => AccessName: |text: String| access(&text);
    String => TerminalName: |text: String| terminal(&text).map(TerminalName);
    String => CheckName: |text: String| check(&text).map(CheckName);
    String => ArenaName: |text: String| arena(&text).map(ArenaName);
    String => ReasonStore: |text: String| reason(&text);
}

fn check(text: &str) -> Result<Check, Fault> {
    word(text).ok_or_else(|| {
        let meant = match nearest(text, ["fast", "sha256", "off"]) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if ["none", "no", "false"].contains(&text) => "did you mean \"off\"?".to_owned(),
            None if ["xxh3", "xxhash", "crc32"].contains(&text) => "did you mean \"fast\"?".to_owned(),
            None => "leave it out for \"fast\", the default".to_owned(),
        };
        Fault::new(
            format!("unknown check {}", quoted(text)),
            "expected \"fast\", \"sha256\" or \"off\"",
        )
        .help(meant)
    })
}

fn arena(text: &str) -> Result<Arena, Fault> {
    word(text).ok_or_else(|| {
        let meant = match nearest(text, ["auto", "segments"]) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None => "leave it out for \"auto\", the default: in place where that works".to_owned(),
        };
        Fault::new(
            format!("unknown arena {}", quoted(text)),
            "expected \"auto\" or \"segments\"",
        )
        .help(meant)
    })
}

fn access(text: &str) -> Result<AccessName, Fault> {
    match text {
        "open" => Ok(AccessName::Open),
        "menu" => Ok(AccessName::Menu),
        "password" => Ok(AccessName::Password),
        "locked" => Ok(AccessName::Locked),
        _ => {
            let meant = match nearest(text, ["open", "menu", "password", "locked"]) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => "leave it out for \"open\", the default: all that the menu has".to_owned(),
            };
            Err(Fault::new(
                format!("unknown access {}", quoted(text)),
                "expected \"open\", \"menu\", \"password\" or \"locked\"",
            )
            .help(meant))
        }
    }
}

fn terminal(text: &str) -> Result<Terminal, Fault> {
    word(text).ok_or_else(|| {
        let meant = match nearest(text, ["auto", "plain", "vt100"]) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if ["dumb", "none", "text"].contains(&text) => "did you mean \"plain\"?".to_owned(),
            None if ["xterm", "vt102", "vt220", "linux", "ansi", "screen"].contains(&text) => {
                "did you mean \"vt100\"?".to_owned()
            }
            None => "leave it out for \"auto\", the default: each terminal is asked".to_owned(),
        };
        Fault::new(
            format!("unknown terminal {}", quoted(text)),
            "expected \"auto\", \"plain\" or \"vt100\"",
        )
        .help(meant)
    })
}

/// The variant that serde calls `text`.
fn word<'de, T: Deserialize<'de>>(text: &'de str) -> Option<T> {
    let name: StrDeserializer<'_, NoVariant> = text.into_deserializer();
    T::deserialize(name).ok()
}

/// What an address of memory has to be a multiple of: the smallest page of both architectures.
const PAGE: u64 = 4096;
/// What the purgatory's tables reach.
const ADDRESS_BITS: u32 = 47;
/// The indices of the clock's memory that firmware leaves alone on most boards: below are the clock itself and what a
/// PC's firmware keeps with a checksum.
const CMOS: std::ops::RangeInclusive<u8> = 0x30..=0x7f;

const REASON_HELP: &str =
    "write \"memory:0x…\", the address of a page that no kernel uses, or \"cmos:0x30\" to \"cmos:0x7f\"";

fn reason(text: &str) -> Result<ReasonStore, Fault> {
    let (kind, value) = match text.split_once(':') {
        Some((kind, value)) => (kind, Some(value)),
        None => (text, None),
    };
    match (kind, value) {
        ("memory", Some(value)) => memory(value).map(ReasonStore::Memory),
        ("cmos", Some(value)) => cmos(value).map(ReasonStore::Cmos),
        (_, value) => Err(Fault::new(
            format!("unknown place {} for the reason", quoted(text)),
            "expected \"memory:0x…\" or \"cmos:0x…\"",
        )
        .help(match (nearest(kind, ["memory", "cmos"]), value) {
            (Some(meant), Some(value)) => format!("did you mean \"{meant}:{}\"?", clipped(value)),
            (None, None) if text.starts_with("0x") => format!("did you mean \"memory:{}\"?", clipped(text)),
            _ => REASON_HELP.to_owned(),
        })),
    }
}

fn memory(text: &str) -> Result<u64, Fault> {
    let fault = |message: String, label: String| Fault::new(message, label);
    let address = hex(text).map_err(|label| fault(format!("{} is not an address", quoted(text)), label))?;
    if address == 0 {
        let message = "address 0 can't hold the reason".to_owned();
        return Err(fault(message, "firmware and kernels use this page".to_owned()).help(REASON_HELP));
    }
    if address >> ADDRESS_BITS != 0 {
        let label = format!("the purgatory reaches {ADDRESS_BITS} bits");
        return Err(fault(format!("address {address:#x} is too high"), label));
    }
    let below = address & !PAGE.saturating_sub(1);
    if below == address {
        return Ok(address);
    }
    let help = match below {
        0 => format!("a page starts at a multiple of {PAGE:#x}"),
        _ => format!("did you mean \"memory:{below:#x}\"?"),
    };
    Err(fault(
        format!("address {address:#x} is not at the start of a page"),
        format!("expected a multiple of {PAGE:#x}"),
    )
    .help(help))
}

fn cmos(text: &str) -> Result<u8, Fault> {
    let index = hex(text).map_err(|label| Fault::new(format!("{} is not an index", quoted(text)), label))?;
    match u8::try_from(index) {
        Ok(index) if CMOS.contains(&index) => Ok(index),
        _ => Err(Fault::new(
            format!("index {index:#x} can't be used"),
            format!("expected {:#x} to {:#x}", CMOS.start(), CMOS.end()),
        )
        .help("those below 0x30 belong to the clock and to the firmware")),
    }
}

/// A number as `0x` and hex digits, or what to write under one that is none.
fn hex(text: &str) -> Result<u64, String> {
    let digits = match text.strip_prefix("0x") {
        None | Some("") => return Err("expected 0x and hex digits".to_owned()),
        Some(digits) => digits,
    };
    if let Some(bad) = digits.chars().find(|c| !c.is_ascii_hexdigit()) {
        return Err(format!("{} is not a hex digit", named(bad)));
    }
    u64::from_str_radix(digits, 16).map_err(|_| "more than 64 bits".to_owned())
}

/// As much of `text` as belongs into a help.
fn clipped(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_for_the_reason() {
        for (text, expected) in [
            ("memory:0x1000", ReasonStore::Memory(0x1000)),
            ("memory:0x00000000be0ff000", ReasonStore::Memory(0xbe0f_f000)),
            ("memory:0x7FFFFFFFF000", ReasonStore::Memory((1 << 47) - 4096)),
            ("cmos:0x30", ReasonStore::Cmos(0x30)),
            ("cmos:0x7F", ReasonStore::Cmos(0x7f)),
        ] {
            assert_eq!(reason(text).unwrap(), expected, "{text}");
        }
        for text in [
            "",
            "memory",
            "memory:",
            "memory:0x",
            "memory:4096",
            "memory:0x0",
            "memory:0x800",
            "memory:0x1001",
            "memory:+0x1000",
            "memory:0x+1000",
            "memory: 0x1000",
            "memory:0x800000000000",
            "memory:0x10000000000000",
            "memory:0x10000000000001000",
            "Memory:0x1000",
            "cmos:0x2f",
            "cmos:0x80",
            "cmos:0x130",
            "cmos:48",
            "nvmem:0x30",
        ] {
            assert!(reason(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_word_is_read_and_no_other() {
        for check in [Check::Fast, Check::Sha256, Check::Off] {
            assert_eq!(super::check(&check.to_string()).unwrap(), check);
        }
        for arena in [Arena::Auto, Arena::Segments] {
            assert_eq!(super::arena(&arena.to_string()).unwrap(), arena);
        }
        for text in ["", "Fast", "fast ", "SHA256", "on"] {
            assert!(check(text).is_err() && arena(text).is_err(), "{text}");
        }
    }
}
