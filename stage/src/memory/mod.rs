//! Physical memory as plain data: pieces and sets of it, room in it, what the kernel says of it, and the payload's own. Pure.

pub mod digest;
pub mod hole;
pub mod map;
mod pages;
pub mod range;
mod slot;
mod span;

pub use map::MemoryMap;
pub use pages::Pages;
pub use slot::{NoMemory, Resident, Slot};
pub use span::Span;
