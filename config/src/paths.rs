//! Where things are in the service initramfs: mkinitramfs puts them there, the stage looks there.

/// The program that the kernel starts: `cato`.
pub const INIT: &str = "/init";
/// `boot.toml`.
pub const CONFIG: &str = "/etc/cato/boot.toml";
/// The [index](crate::modules) of the kernel modules.
pub const MODULE_INDEX: &str = "/etc/cato/modules";
/// The folder of the kernel modules, uncompressed, without folders of its own.
pub const MODULE_FOLDER: &str = "/lib/modules";
/// Where the volume with the payload is mounted.
pub const VOLUME: &str = "/mnt";
/// The empty folders that PID 1 and its workers mount on, and one for files of the moment.
pub const FOLDERS: [&str; 6] = ["/proc", "/sys", "/dev", "/run", VOLUME, "/tmp"];
/// The shell for somebody at the menu, where one is packed.
pub const SHELL: &str = "/bin/sh";
/// Where files are that came over a serial line.
pub const RECEIVED: &str = "/received";
