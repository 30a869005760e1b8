//! The kernel's text files, under a root folder or wherever a test has them.

use std::io;
use std::path::Path;

use super::MachineError;

/// A number as sysfs writes it, with its `0x`.
pub(super) fn hex(text: &str) -> Option<u64> {
    let text = text.trim();
    u64::from_str_radix(text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?, 16).ok()
}

/// The kernel's files: a folder with `proc` and `sys` in it, or what a test has instead.
pub(crate) trait Files {
    /// All of a file.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The names in a folder, in no order.
    fn names(&self, path: &str) -> Vec<String>;
}

impl Files for &Path {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(self.join(path.trim_start_matches('/')))
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.join(path.trim_start_matches('/')));
        let entries = entries.into_iter().flatten();
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }
}

impl dyn Files + '_ {
    pub(super) fn must(&self, path: &'static str) -> Result<String, MachineError> {
        let text = self.read(path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        text.map_err(|cause| MachineError::Read { path, cause })
    }

    pub(super) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path).ok().filter(|b| !b.is_empty())
    }

    pub(super) fn text(&self, path: &str) -> Option<String> {
        String::from_utf8(self.bytes(path)?).ok()
    }

    /// The numbered folders in a folder, in the order of their numbers.
    pub(super) fn numbered(&self, path: &str) -> Vec<String> {
        let mut numbers: Vec<u32> = self.names(path).iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.iter().map(|n| format!("{path}/{n}")).collect()
    }
}
