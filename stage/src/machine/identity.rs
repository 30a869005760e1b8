//! Which machine this is.
//!
//! Given sysfs; responsible for a number that is the same at each boot and on no other machine, so that a disk that was
//! copied to another machine is noticed.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::files::Files;

/// What firmware names a machine by: SMBIOS (System Management BIOS specification, 7.2.1), and the board's serial number in
/// its device tree.
const NAMES: [&str; 2] = [
    "/sys/class/dmi/id/product_uuid",
    "/sys/firmware/devicetree/base/serial-number",
];

/// A hash of the machine's name; 0 where it has none.
pub(crate) fn identity(root: &Path) -> u64 {
    of(&root)
}

fn of(files: &dyn Files) -> u64 {
    let names = NAMES.into_iter().filter_map(|file| files.text(file));
    let mut names = names.map(|name| name.trim_matches(['\0', '\n', ' ']).to_owned());
    // A maker that numbers nothing says zeros, or ones.
    let is_name = |name: &String| !name.chars().all(|c| "0fF-".contains(c));
    names.find(is_name).map_or(0, |name| {
        let digest: [u8; 32] = Sha256::digest(name.as_bytes()).into();
        digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_machine_is_named_by_its_firmware_or_not_at_all() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(identity(root.path()), 0);
        let put = |file: &str, text: &str| {
            let file = root.path().join(file.trim_start_matches('/'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        put(NAMES[1], "board-7\0");
        let board = identity(root.path());
        assert_ne!(board, 0);
        put(NAMES[0], "00000000-0000-0000-0000-000000000000\n");
        assert_eq!(identity(root.path()), board);
        put(NAMES[0], "4c4c4544-0042-3510-8052-b4c04f4d3132\n");
        assert!(![0, board].contains(&identity(root.path())));
    }
}
