//! Drafts beside coders that come and are dropped.

use zpool::{Pool, SourceKind};

use crate::codec::{self, Codec};
use crate::store::Coders;
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Plant, pause};

fn adopt(coders: &Coders) {
    let codec: Arc<dyn Codec> = Arc::new(codec::Plain);
    coders.adopt(&codec, 0).unwrap();
}

/// A draft begins while its coder gets a successor and is perhaps dropped. The other thread does
/// that, so that a draft in the middle of its work is one preemption away.
fn draft_and_expel() -> (u8, Option<u8>) {
    let pool: Pool = Pool::new(zpool::Config::new().source(SourceKind::Heap)).unwrap();
    let coders = Arc::new(Coders::new(&pool, None, None).unwrap());
    adopt(&coders);
    let expel = |coders: &Coders| coders.expel(|| 0).map(|trained| trained.number());
    let other = beside(&coders, move |coders| {
        adopt(coders);
        expel(coders).or_else(|| expel(coders))
    });
    let draft = coders.writer().expect("there is one");
    let number = draft.number();
    let codec = || coders.codec(number).map(|codec| Arc::as_ptr(&codec).cast::<()>());
    let first = codec();
    assert!(first.is_some() && codec() == first, "a draft has its coder");
    drop(draft);
    // A thread of loom's is joined before its thread-locals, a handle among them, are dropped.
    let later = || {
        pause();
        expel(&coders)
    };
    let expelled = other.join().unwrap();
    let gone = expelled.or_else(|| (0..10).find_map(|_| later()));
    assert_eq!(gone, Some(2), "nothing is left of it");
    (number, expelled)
}

#[test]
fn a_draft_has_its_coder_to_its_end() {
    let seen = model(Some(2), draft_and_expel);
    assert!(seen.contains_key(&(2, None)) && seen.contains_key(&(3, Some(2))));
}

#[test]
#[should_panic(expected = "a draft has its coder")]
fn a_coder_that_does_not_wait_for_readers_of_old_tables_is_noticed() {
    twin(Some(2), Plant::TablesUnawaited, draft_and_expel);
}

#[test]
#[should_panic(expected = "a draft has its coder")]
fn a_draft_that_counts_after_its_look_is_noticed() {
    twin(Some(2), Plant::DraftCountedLate, draft_and_expel);
}
