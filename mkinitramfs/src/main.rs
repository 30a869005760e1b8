//! `cargo mkinitramfs`.
fn main() {}
