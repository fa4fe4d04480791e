//! Any sequence of operations, on every kind of cache, held against the oracle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::cache_ops::{CacheOp, LoadEnd};
use tests::cache_oracle::{CacheSetup, replay};

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, ops)) = bytes.split_first() else { return };
    let setup = CacheSetup::ALL[usize::from(*setup) % CacheSetup::ALL.len()];
    replay(setup, CacheOp::from_bytes(ops).filter(|op| !panics(op)));
});

/// Whether user code panics: libFuzzer takes any panic for a finding.
fn panics(op: &CacheOp) -> bool {
    matches!(op, CacheOp::Hook(true) | CacheOp::Load(_, _, LoadEnd::Panic))
}
