//! What the programs and benches of this package share. `README.md` beside this folder lists them,
//! with the question that each of them answers.
//!
//! ```text
//! arguments   command lines, units, how a program ends
//! policy, codec  zcache's by name; the payloads that they make; bare: a look-up without a cache
//! order       the order in which payloads come
//! race        windows of work, timed in turns; memory: what a process holds
//! results     the tables and the pictures of a suite
//! ```
//! Figures of different runs are not comparable on a shared machine. Figures of one run are, which
//! is why each program prints its yardstick too. Instructions are comparable always, under one
//! compiler.

pub mod arguments;
pub mod bare;
pub mod codec;
pub mod memory;
pub mod order;
pub mod parallel;
pub mod policy;
pub mod race;
pub mod results;
