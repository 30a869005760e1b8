//! The kernel's text files under a root folder.

use std::path::{Path, PathBuf};

use super::MachineError;

/// A number as sysfs writes it, with its `0x`.
pub(super) fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    u64::from_str_radix(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?, 16).ok()
}

/// The kernel's files under some root.
pub(super) struct Files<'a> {
    pub(super) root: &'a Path,
}

impl Files<'_> {
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(super) fn must(&self, path: &'static str) -> Result<String, MachineError> {
        std::fs::read_to_string(self.path(path)).map_err(|cause| MachineError::Read { path, cause })
    }

    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(path)).ok().filter(|b| !b.is_empty())
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.bytes(path)?).ok()
    }

    /// The names in a folder, in no order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }

    /// The numbered folders in a folder, in the order of their numbers.
    pub(super) fn numbered(&self, path: &str) -> Vec<String> {
        let mut numbers: Vec<u32> = std::fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        numbers.iter().map(|n| format!("{path}/{n}")).collect()
    }
}
