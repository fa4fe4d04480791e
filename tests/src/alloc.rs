//! A global allocator that counts, and fails on demand; both for the calling thread alone, so that
//! tests beside each other do not disturb one another.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, watched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Watched;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static FAIL_AT: Cell<usize> = const { Cell::new(0) };
    static FAIL_ON: Cell<bool> = const { Cell::new(false) };
}

/// What a block costs: the bytes and the C library's header, rounded as it rounds.
const fn cost(layout: Layout) -> isize {
    let header = (layout.size() + 8).next_multiple_of(16);
    (if header < 32 { 32 } else { header }) as isize
}

/// Bytes that this thread has allocated and not freed, as they cost the C library.
#[must_use]
pub fn held() -> isize {
    HELD.with(Cell::get)
}

/// Calls `f`; its `nth` allocation, counted from 1, fails. Says how many it made, too.
pub fn failing<R>(nth: usize, f: impl FnOnce() -> R) -> (R, usize) {
    CALLS.with(|calls| calls.set(0));
    FAIL_AT.with(|at| at.set(nth));
    let made = f();
    FAIL_AT.with(|at| at.set(0));
    (made, CALLS.with(Cell::get))
}

/// The same, and all allocations of `f` after the `nth` fail as well, if it is `forever`.
pub fn failing_from<R>(nth: usize, forever: bool, f: impl FnOnce() -> R) -> (R, usize) {
    FAIL_ON.with(|on| on.set(forever));
    let made = failing(nth, f);
    FAIL_ON.with(|on| on.set(false));
    made
}

/// Calls `f`. Says how many bytes the largest allocation had that it made, too.
pub fn largest<R>(f: impl FnOnce() -> R) -> (R, usize) {
    LARGEST.with(|largest| largest.set(0));
    let made = f();
    (made, LARGEST.with(Cell::get))
}

fn fails(layout: Layout) -> bool {
    LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
    let call = CALLS.with(|calls| {
        calls.set(calls.get() + 1);
        calls.get()
    });
    let at = FAIL_AT.with(Cell::get);
    call == at || at != 0 && call > at && FAIL_ON.with(Cell::get)
}

fn count(by: isize) {
    HELD.with(|held| held.set(held.get() + by));
}

// SAFETY: the system's allocator does the work; null is an answer that the contract allows.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout) {
            return std::ptr::null_mut();
        }
        count(cost(layout));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails(layout) {
            return std::ptr::null_mut();
        }
        count(cost(layout));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-cost(layout));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(at, layout) };
    }
}
