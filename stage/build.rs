//! Puts the purgatory blob where `include_bytes!` finds it.
//!
//! mkinitramfs builds the blob first and names it in `CATO_PURGATORY`. A plain host build has none and embeds an empty file.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=CATO_PURGATORY");
    let out = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or(io::ErrorKind::NotFound)?
        .join("purgatory.elf");
    match env::var_os("CATO_PURGATORY") {
        Some(blob) => {
            println!("cargo::rerun-if-changed={}", PathBuf::from(&blob).display());
            fs::copy(blob, out).map(drop)
        }
        None => fs::write(out, []),
    }
}
