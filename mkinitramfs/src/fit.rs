//! A Flattened Image Tree: service kernel, initramfs and device tree in one file that U-Boot's `bootm` checks and starts
//! (doc/usage/fit/source_file_format.rst; the format is also at <https://fitspec.osfw.foundation>).

use anyhow::{Result, anyhow, ensure};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use sha2::{Digest as _, Sha256};

/// What is in it.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'p> {
    /// An Image, unpacked.
    pub kernel: &'p [u8],
    /// The archive.
    pub initramfs: &'p [u8],
    /// The board's device tree, where U-Boot's own is not to be used.
    pub dtb: Option<&'p [u8]>,
}

/// The magic number of an arm64 Image, at byte 56 (Documentation/arch/arm64/booting.rst).
const IMAGE: &[u8] = b"ARM\x64";

fn property(name: &str, value: &[u8]) -> Result<DeviceTreeProperty> {
    DeviceTreeProperty::new(name, value).map_err(|error| anyhow!("no property {name}: {error}"))
}

fn text(name: &str, value: &str) -> Result<DeviceTreeProperty> {
    property(name, format!("{value}\0").as_bytes())
}

fn node(name: &str, properties: impl IntoIterator<Item = Result<DeviceTreeProperty>>) -> Result<DeviceTreeNode> {
    let mut node = DeviceTreeNode::new(name).map_err(|error| anyhow!("no node {name}: {error}"))?;
    for property in properties {
        node.add_property(property?);
    }
    Ok(node)
}

/// One image with its digest.
fn part(name: &str, kind: &str, arch: &str, bytes: &[u8], more: &[(&str, &[u8])]) -> Result<DeviceTreeNode> {
    let usual = [
        text("description", name),
        property("data", bytes),
        text("type", kind),
        text("arch", arch),
        text("compression", "none"),
    ];
    let more = more.iter().map(|(name, value)| property(name, value));
    let mut part = node(name, usual.into_iter().chain(more))?;
    part.add_child(node(
        "hash-1",
        [text("algo", "sha256"), property("value", &Sha256::digest(bytes))],
    )?);
    Ok(part)
}

/// The file. U-Boot starts it with `bootm ADDRESS#cato ADDRESS#cato DEVICE-TREE`: by its name, as an U-Boot that looks for the best
/// match (CONFIG_FIT_BEST_MATCH) takes no default.
///
/// # Errors
/// When the kernel is not one that U-Boot starts.
pub fn image(parts: &Parts<'_>) -> Result<Vec<u8>> {
    ensure!(
        parts.kernel.get(56..60) == Some(IMAGE),
        "the service kernel is no arm64 Image; U-Boot wants it unpacked"
    );
    let mut tree = DeviceTree::new();
    for first in [
        text("description", "Cato"),
        // Every build gives the same.
        property("timestamp", &0_u32.to_be_bytes()),
        property("#address-cells", &1_u32.to_be_bytes()),
    ] {
        tree.root.add_property(first?);
    }
    let os = ("os", b"linux\0".as_slice());
    let zero = 0_u32.to_be_bytes();
    // Not loaded anywhere: bootm puts an Image where its own header wants it.
    let (load, entry) = (("load", zero.as_slice()), ("entry", zero.as_slice()));
    let mut images = node("images", [])?;
    images.add_child(part(
        "kernel",
        "kernel_noload",
        "arm64",
        parts.kernel,
        &[os, load, entry],
    )?);
    images.add_child(part("initramfs", "ramdisk", "arm64", parts.initramfs, &[os])?);
    let mut board = node(
        "cato",
        [
            text("description", "Cato"),
            text("kernel", "kernel"),
            text("ramdisk", "initramfs"),
        ],
    )?;
    if let Some(dtb) = parts.dtb {
        images.add_child(part("fdt", "flat_dt", "arm64", dtb, &[])?);
        board.add_property(text("fdt", "fdt")?);
    }
    tree.root.add_child(images);
    let mut configurations = node("configurations", [text("default", "cato")])?;
    configurations.add_child(board);
    tree.root.add_child(configurations);
    Ok(tree.to_dtb())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::fdt::Fdt;
    use dtoolkit::{Node as _, Property as _};

    fn kernel() -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        bytes[56..60].copy_from_slice(IMAGE);
        bytes
    }

    #[test]
    fn it_holds_what_was_put_in() {
        let kernel = kernel();
        let parts = Parts {
            kernel: &kernel,
            initramfs: b"archive",
            dtb: Some(b"tree"),
        };
        let bytes = image(&parts).unwrap();
        assert_eq!(bytes, image(&parts).unwrap());
        let tree = DeviceTree::from_fdt(&Fdt::new(&bytes).unwrap());
        let images = tree.root.child("images").unwrap();
        for (name, want) in [
            ("kernel", kernel.as_slice()),
            ("initramfs", b"archive"),
            ("fdt", b"tree"),
        ] {
            let part = images.child(name).unwrap();
            assert_eq!(part.property("data").unwrap().value(), want);
            let digest = part.child("hash-1").unwrap().property("value").unwrap();
            assert_eq!(digest.value(), Sha256::digest(want).as_slice());
        }
        let configurations = tree.root.child("configurations").unwrap();
        assert_eq!(configurations.property("default").unwrap().value(), b"cato\0");
    }

    #[test]
    fn what_u_boot_does_not_start_is_refused() {
        let parts = Parts {
            kernel: b"\x1f\x8b",
            initramfs: b"",
            dtb: None,
        };
        assert!(image(&parts).unwrap_err().to_string().contains("unpacked"));
    }
}
