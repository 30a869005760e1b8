//! `cato`: as PID 1 the boot stage, called by name the tool.
fn main() {}
