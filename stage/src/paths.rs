//! Where things are in the service initramfs: the contract with mkinitramfs.

/// The config.
pub const CONFIG: &str = "/etc/cato/boot.toml";
/// The module index.
pub const MODULES: &str = "/etc/cato/modules";
