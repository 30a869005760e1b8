//! `Verified<Payload>` × [`Machine`] → [`Layout`]: where everything goes, byte for byte. Pure, for both arches on any host.

mod machine;

pub use machine::{Conduit, EfiInfo, Machine, MemoryMap, Span, Uart, UartKind};
