//! arm64.

mod hardware;

pub(crate) use hardware::*;
