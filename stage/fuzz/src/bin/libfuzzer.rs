//! libFuzzer around the target that `CATO_FUZZ` names. How it is built: `qemu/src/fuzz.rs`.
#![no_main]
#![expect(clippy::expect_used, reason = "without a target there is nothing to do")]

use std::sync::LazyLock;

use fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("CATO_FUZZ").expect("CATO_FUZZ names a target");
    fuzz::targets()
        .find(|target| target.name == name)
        .expect("a target of that name")
});

fuzz_target!(|input: &[u8]| {
    let target = *TARGET;
    let _ = fuzz::run(target, input, (target.name, 0));
});
