//! An allocator that has no more than a target may take: the same run is as on a machine with little memory.
#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write as _;
use std::ptr::null_mut;

thread_local! {
    /// What is left; `usize::MAX` outside of a run.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
    /// Allocations up to the one that fails; 0 when none does.
    static UNTIL: Cell<usize> = const { Cell::new(0) };
    /// What runs.
    static WHAT: Cell<(&'static str, usize)> = const { Cell::new(("", 0)) };
}

/// The system's memory, as much of it as [`within`] gives the thread.
#[derive(Debug)]
pub(super) struct Capped;

/// Does `body` with `most` bytes of memory.
pub(super) fn within(most: usize, what: (&'static str, usize), body: impl FnOnce()) {
    WHAT.set(what);
    LEFT.set(most);
    body();
    LEFT.set(usize::MAX);
}

/// Does `body`, and its `nth` allocation, from 1, fails. Says whether it came to that one.
pub(super) fn without(nth: usize, body: impl FnOnce()) -> bool {
    UNTIL.set(nth);
    body();
    UNTIL.replace(0) == 0
}

/// Whether this is the allocation that fails.
fn is_refused() -> bool {
    let until = UNTIL.get();
    UNTIL.set(until.saturating_sub(1));
    until == 1
}

/// Takes `size` bytes off what is left, if there are so many.
fn take(size: usize) -> bool {
    if is_refused() {
        return false;
    }
    let left = LEFT.get();
    if left == usize::MAX {
        return true;
    }
    if let Some(rest) = left.checked_sub(size) {
        LEFT.set(rest);
        return true;
    }
    let (what, number) = WHAT.get();
    let _ = writeln!(
        std::io::stderr(),
        "{what}, change {number}: wants {size} bytes and has only {left} left"
    );
    false
}

fn give(size: usize) {
    let left = LEFT.get();
    if left != usize::MAX {
        LEFT.set(left.saturating_add(size));
    }
}

// SAFETY: memory is the system's; what is refused is a null pointer.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if take(layout.size()) {
            // SAFETY: as the caller's.
            unsafe { System.alloc(layout) }
        } else {
            null_mut()
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if take(layout.size()) {
            // SAFETY: as the caller's.
            unsafe { System.alloc_zeroed(layout) }
        } else {
            null_mut()
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give(layout.size());
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !take(size) {
            return null_mut();
        }
        // SAFETY: as the caller's.
        let new = unsafe { System.realloc(pointer, layout, size) };
        give(if new.is_null() { size } else { layout.size() });
        new
    }
}
