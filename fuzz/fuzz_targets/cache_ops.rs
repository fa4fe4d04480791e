//! Any sequence of operations, on every kind of cache, held against the oracle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::cache_ops::CacheOp;
use tests::cache_oracle::{CacheSetup, replay};
use tests::user_code::pass_planted_panics;

fuzz_target!(init: pass_planted_panics(), |bytes: &[u8]| {
    let Some((setup, ops)) = bytes.split_first() else { return };
    let setup = CacheSetup::ALL[usize::from(*setup) % CacheSetup::ALL.len()];
    replay(setup, CacheOp::from_bytes(ops));
});
