//! Load on one cache: a phase is a process of its own that works a cache hard, verifies every hit, and
//! is watched by the process that started it.
//! ```text
//! parent                                                child
//!                                     <- ready          pages read, threads started, nothing of the cache
//! baseline; go ->                                       makes the cache, works it
//! resident memory, every 10 ms        <- sample {...}   a soak's figures, now and then
//!                                     <- done {...}     what was counted; all is verified and checked
//! go ->                                                 ends; also when nobody is there any more
//! ```
//! The child ends itself with code 1 at the first thing that is not as it must be.

pub mod phase;
pub mod watcher;
pub mod work;
