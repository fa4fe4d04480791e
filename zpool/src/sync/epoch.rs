//! The epoch that versions of a [`Swapped`](crate::swapped::Swapped) wait for: a collector of this
//! crate's own, so that no reader runs what other crates left behind.

use crossbeam_epoch::{Collector, LocalHandle};

pub(crate) use crossbeam_epoch::{Atomic, Guard, Owned};

#[cfg(all(zcache_loom, not(crossbeam_loom)))]
compile_error!("models need `--cfg crossbeam_loom` beside `--cfg zcache_loom`");

#[cfg(not(zcache_loom))]
fn collector() -> &'static Collector {
    static COLLECTOR: std::sync::OnceLock<Collector> = std::sync::OnceLock::new();
    COLLECTOR.get_or_init(Collector::new)
}

#[cfg(zcache_loom)]
fn collector() -> &'static Collector {
    loom::lazy_static! {
        static ref COLLECTOR: Collector = Collector::new();
    }
    &COLLECTOR
}

#[cfg(not(zcache_loom))]
use std::thread_local;

#[cfg(zcache_loom)]
use loom::thread_local;

thread_local! {
    static HANDLE: LocalHandle = collector().register();
}

/// Pins this thread: what others retire from now on stays until the guard is dropped.
///
/// A thread that ends drops its handle before its last thread-locals, perhaps. What those call
/// registers a handle for the one call.
#[inline]
pub(crate) fn pin() -> Guard {
    HANDLE.try_with(LocalHandle::pin).unwrap_or_else(|_| collector().register().pin())
}
