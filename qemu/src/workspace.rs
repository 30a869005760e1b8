//! Where things are: the checkout, and what is made in it.

use std::path::PathBuf;

/// The root of the checkout this program was built from.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// A folder below `target/`, where everything downloaded or made goes. It may not exist yet.
pub fn target(name: &str) -> PathBuf {
    root().join("target").join(name)
}
