//! The steps of the flow, in order: what the console, the record, the deadlines and PID 1 call them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of the flow. Those from [`Kexec`](Self::Kexec) on are the parts of the hand-off: a worker that dies there leaves another mess in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Step {
    /// An entry was taken; its worker starts.
    Select,
    /// The machine's memory and tables; the source: modules, devices, mount.
    Probe,
    /// Headers and sizes.
    Budget,
    /// Memory for the payload.
    Reserve,
    /// Reading and unpacking.
    Load,
    /// Sizes and digests against the config.
    Verify,
    /// Addresses, device tree or zero page, purgatory.
    LayOut,
    /// `kexec_load(2)`.
    Kexec,
    /// The attempt is written down, where the entry has a slot.
    Account,
    /// Devices are taken from their drivers, where `boot.toml` has some.
    Quiesce,
    /// Loaded; waiting for PID 1's word.
    Loaded,
    /// `reboot(RB_KEXEC)`.
    Jump,
}

impl Step {
    /// All of them.
    pub(crate) const ALL: [Self; 12] = [
        Self::Select,
        Self::Probe,
        Self::Budget,
        Self::Reserve,
        Self::Load,
        Self::Verify,
        Self::LayOut,
        Self::Kexec,
        Self::Account,
        Self::Quiesce,
        Self::Loaded,
        Self::Jump,
    ];

    /// The word in messages, in the record and in `cato.fault`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Probe => "probe",
            Self::Budget => "budget",
            Self::Reserve => "reserve",
            Self::Load => "load",
            Self::Verify => "verify",
            Self::LayOut => "layout",
            Self::Kexec => "kexec",
            Self::Account => "account",
            Self::Quiesce => "quiesce",
            Self::Loaded => "loaded",
            Self::Jump => "jump",
        }
    }

    /// The word before a line of the log: the flow's own.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Kexec | Self::Account | Self::Quiesce | Self::Loaded | Self::Jump => "hand-off",
            other => other.name(),
        }
    }

    /// The step of that name.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_has_its_own_name() {
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
    }
}
