//! `Choice` → `Payload`: sizes and headers first ([`Budget`](budget)), then one pass over every byte.

mod arena;
mod payload;

pub use arena::{NoMemory, Slot};
pub use payload::{Artefact, BzImage, Image, Kernel, Payload, Role};
