//! Builds Cato for a board and packs the service initramfs.
fn main() {}
