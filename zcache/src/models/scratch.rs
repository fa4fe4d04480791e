//! Contexts that threads wait for, where there is memory for one only.

use std::borrow::Cow;
use std::io;
use std::sync::atomic::AtomicUsize;

use crate::codec::{Codec, Context, Corrupt};
use crate::store::{Scratch, Wanted};
use crate::sync::model::{beside, model, twin};
use crate::sync::{Arc, Charge, Ordering, Plant};

/// What a context takes.
const BYTES: usize = 100;

/// A codec whose contexts say at which use of theirs they are.
#[derive(Debug)]
struct Counting;

struct Uses(usize);

impl Codec for Counting {
    fn name(&self) -> Cow<'static, str> {
        "counting".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        BYTES
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(Uses(0)))
    }
}

impl Context for Uses {
    fn compress(&mut self, _page: &[u8], _to: &mut [u8]) -> Option<usize> {
        self.0 += 1;
        Some(self.0)
    }

    fn decompress(&mut self, _payload: &[u8], _page: &mut [u8]) -> Result<(), Corrupt> {
        Err(Corrupt)
    }
}

/// Bytes that are left. Which thread gets them is decided by who comes first, so loom need not see
/// it.
#[derive(Debug)]
struct Purse(AtomicUsize);

impl Charge for Purse {
    fn charge(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn release(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Bench {
    scratch: Scratch,
    purse: Purse,
}

/// Works once with a context; says which use of it this was.
fn work(bench: &Bench) -> usize {
    let (scratch, purse) = (&bench.scratch, &bench.purse);
    let found = scratch.context(1, 0, purse);
    let wanted = Wanted { len: 1, coder: 0, codec: &Counting };
    let mut context = found.map_or_else(|| scratch.context_of(wanted, purse), Ok);
    let context = context.as_mut().expect("a context is waited for");
    context.get().compress(&[], &mut []).unwrap()
}

/// Two threads need a context, and there is memory for one. `places`: that may have one.
fn share(places: usize) -> (usize, usize) {
    let capacity = 8 * places * BYTES;
    let bench =
        Bench { scratch: Scratch::new(places, capacity), purse: Purse(AtomicUsize::new(BYTES)) };
    let bench = Arc::new(bench);
    let other = beside(&bench, work);
    let uses = (work(&bench), other.join().unwrap());
    assert!(uses == (1, 2) || uses == (2, 1), "both had the one context, in turn: {uses:?}");
    bench.scratch.check();
    assert!(bench.scratch.trim(&bench.purse), "it is there");
    assert_eq!((bench.scratch.bytes(), bench.purse.0.load(Ordering::Relaxed)), (0, BYTES));
    uses
}

#[test]
fn two_threads_share_the_only_context_that_may_be() {
    assert_eq!(model(None, || share(1)).len(), 2);
}

#[test]
fn two_threads_share_the_only_context_that_there_is_memory_for() {
    assert_eq!(model(Some(4), || share(2)).len(), 2);
}

#[test]
#[should_panic(expected = "a context is waited for")]
fn going_without_a_context_that_is_out_is_noticed() {
    twin(Some(4), Plant::NotAwaited, || share(2));
}
