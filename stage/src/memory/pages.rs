//! Where memory at known physical addresses comes from.

use std::io;

use super::{Resident, Span};

/// Huge pages this process can have.
pub(crate) trait Pages {
    /// Bytes of one.
    fn size(&self) -> u64;

    /// How many the kernel keeps for us already, which are not counted as free memory any more.
    fn kept(&self) -> u64;

    /// Asks the kernel to have `count` of them at hand; says how many there are.
    ///
    /// # Errors
    /// What the system said.
    fn grow(&mut self, count: u64) -> io::Result<u64>;

    /// Physical addresses of those at hand that begin in `memory`, in any order.
    ///
    /// # Errors
    /// What the system said.
    fn at_hand(&mut self, memory: &[Span]) -> io::Result<Vec<u64>>;

    /// Makes memory of `spans`, each in pages at hand, and gives all other pages back.
    ///
    /// # Errors
    /// What the system said.
    fn take(&mut self, spans: &[Span]) -> io::Result<Vec<Box<dyn Resident>>>;

    /// Gives all pages back that were not taken.
    fn give_back(&mut self);
}
