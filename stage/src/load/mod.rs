//! `Choice` → `Payload`: sizes and headers first ([`Budget`](budget)), then one pass over every byte.

mod payload;

pub use payload::{Artefact, BzImage, Image, Kernel, Payload};
