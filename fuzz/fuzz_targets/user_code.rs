//! Keys, hashers, hooks, loaders and codecs that panic or lie at any call: the cache stays whole
//! and usable.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tests::user_code::pass_planted_panics;
use tests::user_world::{UserOp, replay};

fuzz_target!(init: pass_planted_panics(), |bytes: &[u8]| {
    let Some((setup, ops)) = bytes.split_first() else { return };
    replay(*setup, UserOp::from_bytes(ops));
});
