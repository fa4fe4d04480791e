//! Load on one cache: a phase is a process of its own that works a cache hard, verifies every hit, and
//! is watched by the process that started it.
//! ```text
//! parent                                                child
//!                                     <- ready          pages read, threads started, nothing of the cache
//! baseline; go ->                                       makes the cache, works it
//!                                     <- stage NAME     what comes now
//! looks away; go ->                   <- check          a check, in memory of its own
//! resident memory, every 10 ms        <- sample {...}   a soak's figures, now and then
//!                                     <- done {...}     what was counted; all is verified and checked
//! go ->                                                 ends; also when nobody is there any more
//! ```
//! The child ends itself with code 1 at the first thing that is not as it must be.

pub mod field;
mod house;
pub mod phase;
pub mod stage;
pub mod watcher;
pub mod work;
mod worker;
