//! The record of the running kernel, from where each architecture's kernel shows it to user space.

use std::fs;
use std::io;
use std::path::Path;

use config::Arch;

use crate::devicetree::{DtbError, Tree};
use crate::handover::SETUP_DATA;

const FDT: &str = "/sys/firmware/fdt";
const NODES: &str = "/sys/kernel/boot_params/setup_data";

/// Why it is not known whether there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    /// A file that only root reads, as a rule.
    #[error("{path}: {cause}{}", if cause.kind() == io::ErrorKind::PermissionDenied { "; only root can read it" } else { "" })]
    Read {
        /// Which.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The running tree is not one.
    #[error("{FDT}: {_0}")]
    Fdt(#[from] DtbError),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The architecture that has it in this place.
    pub arch: Arch,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// Looks for the record under `root`, the folder with `sys` in it.
///
/// # Errors
/// [`FindError`]
pub(crate) fn find(root: &Path) -> Result<Option<Found>, FindError> {
    if let Some(tree) = read(root, FDT)? {
        let tree = Tree::parse(&tree)?;
        if let Some(bytes) = tree.handover() {
            return Ok(Some(Found {
                arch: Arch::Arm64,
                bytes,
            }));
        }
    }
    let nodes = match fs::read_dir(at(root, NODES)) {
        Ok(nodes) => nodes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => {
            return Err(FindError::Read {
                path: NODES.to_owned(),
                cause,
            });
        }
    };
    let mut names: Vec<String> = nodes.filter_map(|n| n.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    for name in names {
        let kind = read(root, &format!("{NODES}/{name}/type"))?.unwrap_or_default();
        let kind = String::from_utf8(kind).unwrap_or_default();
        if kind.trim() == format!("{SETUP_DATA:#x}") {
            let bytes = read(root, &format!("{NODES}/{name}/data"))?;
            return Ok(bytes.map(|bytes| Found {
                arch: Arch::X86_64,
                bytes,
            }));
        }
    }
    Ok(None)
}

/// The file; none when it is not there.
fn read(root: &Path, path: &str) -> Result<Option<Vec<u8>>, FindError> {
    match fs::read(at(root, path)) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(FindError::Read {
            path: path.to_owned(),
            cause,
        }),
    }
}

fn at(root: &Path, path: &str) -> std::path::PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(root: &Path, n: u32, kind: &str, data: &[u8]) {
        let dir = at(root, NODES).join(n.to_string());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("type"), format!("{kind}\n")).unwrap();
        fs::write(dir.join("data"), data).unwrap();
    }

    #[test]
    fn it_is_found_among_other_nodes() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(find(root.path()).unwrap(), None);
        node(root.path(), 0, "0x9", b"seed");
        assert_eq!(find(root.path()).unwrap(), None);
        node(root.path(), 1, "0x4f544143", b"record");
        let found = find(root.path()).unwrap().unwrap();
        assert_eq!((found.arch, found.bytes.as_slice()), (Arch::X86_64, &b"record"[..]));
    }

    #[test]
    fn it_is_found_in_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let fdt = at(root.path(), FDT);
        fs::create_dir_all(fdt.parent().unwrap()).unwrap();
        let stub = include_bytes!("../devicetree/samples/stub.dtb");
        fs::write(&fdt, stub).unwrap();
        assert_eq!(find(root.path()).unwrap(), None);
        let mut tree = Tree::parse(stub).unwrap();
        tree.set_handover(b"record");
        fs::write(&fdt, tree.to_dtb().unwrap()).unwrap();
        let found = find(root.path()).unwrap().unwrap();
        assert_eq!((found.arch, found.bytes.as_slice()), (Arch::Arm64, &b"record"[..]));
        fs::write(&fdt, b"junk").unwrap();
        assert!(
            find(root.path())
                .unwrap_err()
                .to_string()
                .starts_with("/sys/firmware/fdt: not a device tree blob")
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(at(root.path(), FDT)).unwrap();
        let said = find(root.path()).unwrap_err().to_string();
        assert!(
            said.starts_with("/sys/firmware/fdt: ") && said.contains("directory"),
            "{said}"
        );
        let denied = FindError::Read {
            path: FDT.into(),
            cause: io::ErrorKind::PermissionDenied.into(),
        };
        assert!(denied.to_string().ends_with("only root can read it"), "{denied}");
    }
}
