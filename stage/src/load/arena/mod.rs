//! Where the payload lives until the main kernel has it: in place, or in ordinary memory that the kernel copies (segments).
//!
//! Loading, unpacking and hashing write into [`Slot`]s; nothing else differs between the two.

pub(crate) mod in_place;
mod slot;

use std::fmt;

use super::budget::Budget;
use super::size::Size;
use crate::place::Places;
pub use in_place::{Pages, WhyNot};
pub use slot::{NoMemory, Resident, Slot};

/// Memory for a whole payload, reserved, and the open files it is for. [`load`](Self::load) fills it.
#[derive(Debug)]
pub struct Arena {
    pub(super) budget: Budget,
    pub(super) kernel: Slot,
    pub(super) initrd: Option<Slot>,
    /// What tells the kernel about the machine, when it stays in place, too; and all addresses.
    pub(super) resident: Option<(Places, Slot)>,
    pub(super) kind: Kind,
}

impl Arena {
    /// Which kind it is, and why.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }
}

/// The two kinds of arena.
#[derive(Debug)]
pub enum Kind {
    /// The payload is where the main kernel finds it.
    InPlace {
        /// Huge pages it is in.
        pages: u64,
        /// Bytes of one.
        size: u64,
    },
    /// The kernel copies it.
    Segments(WhyNot),
}

impl fmt::Display for Kind {
    /// `in place, 53 pages of 2 MiB`, `in place, 1 page of 1 GiB`, or `segments, as …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InPlace { pages, size } => {
                let plural = if *pages == 1 { "" } else { "s" };
                write!(f, "in place, {pages} page{plural} of {}", Size(*size))
            }
            Self::Segments(why) => write!(f, "segments, {why}"),
        }
    }
}
