//! x86_64.

mod hardware;

pub(crate) use hardware::*;
