//! Random sequences of operations, on every kind of pool, against the oracle.
#![cfg(not(zcache_loom))]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::ops::{End, Len, Mode, PoolOp};
use tests::oracle::replay;
use tests::setups::Setup;

fn len() -> impl Strategy<Value = Len> {
    (0_u32..1 << 24).prop_map(Len)
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        3 => Just(Mode::Shared),
        2 => Just(Mode::Mut),
        3 => len().prop_map(Mode::Write),
        1 => Just(Mode::Pinned),
        1 => Just(Mode::ById),
    ]
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        8 => Just(End::Drop),
        4 => Just(End::Finish),
        3 => Just(End::Cancel),
        3 => Just(End::Panic),
        1 => Just(End::Forget),
    ]
}

fn pool_op() -> impl Strategy<Value = PoolOp> {
    let pick = any::<u16>;
    prop_oneof![
        24 => len().prop_map(PoolOp::Alloc),
        8 => (len(), prop::bool::weighted(0.2))
            .prop_map(|(len, panics)| PoolOp::AllocWith(len, panics)),
        4 => (len(), any::<u8>()).prop_map(|(len, split)| PoolOp::AllocParts(len, split)),
        6 => (len(), any::<u8>()).prop_map(|(len, split)| PoolOp::TryAlloc(len, split)),
        16 => (pick(), mode(), end()).prop_map(|(pick, mode, end)| PoolOp::Use(pick, mode, end)),
        4 => (pick(), any::<i8>()).prop_map(|(pick, slack)| PoolOp::ReadInto(pick, slack)),
        2 => pick().prop_map(PoolOp::Record),
        20 => pick().prop_map(PoolOp::Free),
        2 => pick().prop_map(PoolOp::UseStale),
        1 => Just(PoolOp::UseForeign),
        1 => any::<u64>().prop_map(PoolOp::UseForged),
        2 => (pick(), any::<u8>()).prop_map(|(pick, bit)| PoolOp::UseFlipped(pick, bit)),
        4 => (pick(), mode()).prop_map(|(pick, mode)| PoolOp::Hold(pick, mode)),
        5 => (pick(), end()).prop_map(|(pick, end)| PoolOp::Release(pick, end)),
        3 => (0_u32..20_000).prop_map(PoolOp::Compact),
        2 => Just(PoolOp::CompactAll),
        1 => Just(PoolOp::Trim),
        1 => any::<u8>().prop_map(PoolOp::CapBytes),
        1 => any::<u8>().prop_map(PoolOp::CapPages),
        2 => (0_u32..100_000).prop_map(PoolOp::Reserve),
        2 => (0_u32..100_000).prop_map(PoolOp::Unreserve),
        2 => Just(PoolOp::Uncap),
    ]
}

/// Cases a test runs: `PROPTEST_CASES`, or enough to take a few seconds.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(24)
}

fn runner() -> TestRunner {
    let (cases, max_shrink_iters) = (cases(), 4000);
    let config = Config { cases, max_shrink_iters, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
}

fn agrees(setup: &Setup) {
    let run = runner().run(&vec(pool_op(), 1..160), |ops| {
        replay(setup, ops);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{setup:?}\n{error}");
    }
}

#[test]
fn uncapped_pools_agree_with_their_oracle() {
    Setup::ALL[..2].iter().for_each(agrees);
}

#[test]
fn pools_over_seams_agree_with_their_oracle() {
    Setup::ALL[2..4].iter().for_each(agrees);
}

#[test]
fn pools_at_their_caps_agree_with_their_oracle() {
    Setup::ALL[4..8].iter().for_each(agrees);
}

#[test]
fn pools_of_large_pages_agree_with_their_oracle() {
    Setup::ALL[8..12].iter().for_each(agrees);
}

#[test]
fn pools_that_grow_by_ranges_agree_with_their_oracle() {
    Setup::ALL[12..16].iter().for_each(agrees);
}

#[test]
fn pools_of_mixed_zspages_agree_with_their_oracle() {
    Setup::ALL[16..].iter().for_each(agrees);
}

#[test]
fn what_a_fuzzer_spells_agrees_with_the_oracle() {
    let run = runner().run(&vec(any::<u8>(), 0..600), |bytes| {
        let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
        replay(&Setup::ALL[usize::from(*first) % Setup::ALL.len()], PoolOp::from_bytes(rest));
        Ok(())
    });
    if let Err(error) = run {
        panic!("{error}");
    }
}
