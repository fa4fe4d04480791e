//! Any sequence of operations on any cache, held against the oracle.

use proptest::collection::vec;
use proptest::prelude::*;
use tests::cache_ops::CacheOp;
use tests::cache_oracle::{CacheSetup, replay};

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_agrees_with_its_oracle(
        setup in 0..CacheSetup::ALL.len(),
        bytes in vec(any::<u8>(), 10..2000),
    ) {
        replay(CacheSetup::ALL[setup], CacheOp::from_bytes(&bytes));
    }
}
