//! Loom models of the word, and of the table and its tokens around it.
//!
//! Run them with `RUSTFLAGS="--cfg zcache_loom" cargo nextest run -p zpool --release --lib
//! models`. With `CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true` the word's own assertions run too.
//! Each model names its iterations and seconds. Bounds are numbers of preemptions, `None` is every
//! interleaving. Under each stand its twins: the same scenario with a bug planted in the shipped
//! code. A twin has to fail in the way it expects.

mod chunks;
mod ending;
mod exclusive;
mod sharing;
mod slots;
mod tokens;
