//! Hands the linker script to the freestanding guest, and to nothing else.

fn main() {
    println!("cargo:rerun-if-changed=entry.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| ".".to_owned());
    // Position independent on both architectures: without -pie the linker settles pointers for address 0 and the
    // script's ASSERT has no relocation left to see.
    for arg in [
        &format!("-T{folder}/entry.ld"),
        "--gc-sections",
        "-pie",
        "--no-dynamic-linker",
    ] {
        println!("cargo:rustc-link-arg-bins={arg}");
    }
}
