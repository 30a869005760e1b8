//! `cargo qemu`: the machines Cato is tried on.
fn main() {}
