//! `Verified<Payload>` × [`Machine`] → [`Layout`]: where everything goes, byte for byte. Pure, for both arches on any host.

pub mod cmdline;
pub mod hole;
mod layout;
mod machine;
pub mod purgatory;
pub mod range;

pub use layout::{Layout, MAX_SEGMENTS, Segment};
pub use machine::{Conduit, EfiInfo, Machine, MemoryMap, Span, Uart, UartKind};
