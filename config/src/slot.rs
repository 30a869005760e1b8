//! The names of slots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::quoted;
use crate::lookalike::named;
use crate::value::Fault;

/// The most slots a machine has: the state has room for no more.
pub const MAX_SLOTS: usize = 4;
/// The longest name of a slot, bytes.
pub const SLOT_NAME_BYTES: usize = 16;

/// The name of a slot: 1 to 16 characters of `A-Z a-z 0-9 . _ -`. It goes into a command line and into a fixed field.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotName(String);

impl SlotName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What Cato says of one boot on the main system's command line, and nobody else.
pub const BOOT_WORDS: [&str; 4] = ["cato.slot", "cato.nonce", "cato.state", "cato.trial"];

impl FromStr for SlotName {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let bad = text
            .chars()
            .find(|c| !(c.is_ascii_alphanumeric() || ".-_".contains(*c)));
        let label = match bad {
            Some(bad) => format!("contains {}", named(bad)),
            None if text.is_empty() => "empty".to_owned(),
            None if text.starts_with('-') => "begins with a -".to_owned(),
            None if text.len() > SLOT_NAME_BYTES => format!("{} characters long", text.len()),
            None => return Ok(Self(text.to_owned())),
        };
        let help = "a slot's name is 1 to 16 characters of A-Z a-z 0-9 . _ -, and does not begin with a -";
        Err(Fault::new(format!("slot name {} is not valid", quoted(text)), label).help(help))
    }
}

impl TryFrom<String> for SlotName {
    type Error = Fault;

    fn try_from(text: String) -> Result<Self, Fault> {
        text.parse()
    }
}

impl From<SlotName> for String {
    fn from(name: SlotName) -> Self {
        name.0
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
