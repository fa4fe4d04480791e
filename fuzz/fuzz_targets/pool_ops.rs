//! Any sequence of operations, on every page source and configuration, held against the oracle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::ops::{End, PoolOp};
use tests::oracle::replay;
use tests::setups::Setup;

fuzz_target!(|bytes: &[u8]| {
    let Some((setup, ops)) = bytes.split_first() else { return };
    let ops = PoolOp::from_bytes(ops).filter(|op| !forgets(op));
    replay(&Setup::ALL[usize::from(*setup) % Setup::ALL.len()], ops);
});

/// Whether a guard is forgotten: a leak that is meant, and would hide those that are not.
fn forgets(op: &PoolOp) -> bool {
    matches!(op, PoolOp::Use(_, _, End::Forget) | PoolOp::Release(_, End::Forget))
}
