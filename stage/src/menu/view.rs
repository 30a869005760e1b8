//! What PID 1 knows, for the menu to show. Data, no screens.

use serde::{Deserialize, Serialize};

use crate::state::Slot;

use super::Millis;

/// The machine as the menu sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// What PID 1 waits for.
    pub wait: Wait,
    /// Why it came to this, in one sentence without its dot.
    pub why: String,
    /// It came to this because entries failed.
    pub has_failed: bool,
    /// What can be booted, in file order; none without a valid `boot.toml`.
    pub entries: Vec<EntryView>,
    /// What was written down of earlier boots, the oldest first, and the last words of kernels.
    pub history: Vec<String>,
    /// The initramfs carries a shell.
    pub has_shell: bool,
}

/// A row of a text that is read in the menu.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub text: String,
    /// Where it leads to: what [`Command::Browse`](super::Command::Browse) takes.
    pub leads: Option<String>,
}

impl From<String> for Told {
    fn from(text: String) -> Self {
        Self { text, leads: None }
    }
}

/// What PID 1 waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// A child works.
    #[default]
    Child,
    /// Nobody stops the boot.
    Countdown(Millis),
    /// Somebody chooses something. Else it tries again then, or resets the machine where there is nothing to try.
    Choice(Millis),
}

/// An entry of `boot.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EntryView {
    pub name: String,
    pub title: String,
    pub cmdline: String,
    pub source: String,
    pub kernel: String,
    /// The name of its slot.
    pub slot: Option<String>,
    /// What is known of that.
    pub condition: Option<Slot>,
    /// Why it was not booted in this start.
    pub failure: Option<String>,
    /// It would be the next without anybody here.
    pub is_next: bool,
}
