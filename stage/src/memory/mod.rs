//! Physical memory as plain data: pieces and sets of it, room in it, what the kernel says of it, and the payload's own. Pure.

pub(crate) mod crc;
pub(crate) mod digest;
pub(crate) mod hole;
pub(crate) mod map;
mod pages;
pub(crate) mod range;
mod slot;
mod span;

pub(crate) use map::MemoryMap;
pub(crate) use pages::Pages;
pub(crate) use slot::{NoMemory, Resident, Slot};
pub use span::Span;
