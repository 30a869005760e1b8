//! Hands the linker script to the blob, and to nothing else.

fn main() {
    println!("cargo:rerun-if-changed=purgatory.ld");
    // A test builds the blob with a table of pointers in it, to see the link fail.
    println!("cargo:rerun-if-env-changed=PURGATORY_RELOCATION_PROBE");
    println!("cargo:rustc-check-cfg=cfg(relocation_probe)");
    if std::env::var_os("PURGATORY_RELOCATION_PROBE").is_some() {
        println!("cargo:rustc-cfg=relocation_probe");
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        // Relative to the workspace, where cargo runs the compiler for it: a full path would end up in the symbol names.
        println!("cargo:rustc-link-arg-bins=-Tpurgatory/purgatory.ld");
        println!("cargo:rustc-link-arg-bins=--gc-sections");
        // Without -pie the aarch64 target resolves pointers for base 0 and emits no relocation, so the script's ASSERT
        // could never see them.
        println!("cargo:rustc-link-arg-bins=-pie");
        println!("cargo:rustc-link-arg-bins=--no-dynamic-linker");
        // Else lld has an error of its own for some relocations, and nobody would know whether the ASSERT works.
        println!("cargo:rustc-link-arg-bins=-znotext");
        // Else the arm64 file has 64 KiB of padding in it.
        println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    }
}
