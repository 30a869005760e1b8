//! `Payload` → `Verified<Payload>`: the only way to have one.

use std::ops::Deref;

/// A value whose origin has been checked against what the config demands. Only [`verify`](crate::verify) makes one,
/// and [`place`](crate::place) takes nothing else.
#[derive(Debug)]
pub struct Verified<T>(T);

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
