//! Coders that come and are dropped, one call after the other and beside each other.

use super::*;
use crate::codec::Plain;

fn codec() -> Arc<dyn Codec> {
    Arc::new(Plain)
}

/// A draft is interrupted between its look and its count in one run of several; the models have
/// every order.
const ROUNDS: usize = 300;
/// Coders dropped in each: all that there are numbers for, but for the newest.
const EXPELLED: usize = CODERS - 3;

fn pool() -> Pool {
    Pool::new(zpool::Config::new()).unwrap()
}

impl Coders {
    fn take(&self, codec: Arc<dyn Codec>, charged: usize) {
        self.adopt(&codec, charged).expect("there is memory");
    }

    /// Expels once no old table is left: other tests of this process read, too.
    fn expel_settled(&self, dying: impl Fn() -> usize) -> Option<Trained> {
        self.settle();
        self.expel(dying).or_else(|| {
            let leaves = self.desk.lock().leaving.is_some();
            self.settle();
            if leaves { self.expel(|| 0) } else { None }
        })
    }
}

#[test]
fn numbers_are_given_once_and_coders_go_when_nothing_is_left_of_them() {
    let coders = Coders::new(&pool(), None, None).unwrap();
    assert!(coders.writer().is_none() && coders.stronger().is_none() && coders.target() == 0);
    coders.take(codec(), 1);
    let first = coders.writer().expect("the newest");
    assert_eq!((first.number(), coders.target(), coders.is_superseded(2)), (2, 2, false));
    coders.take(codec(), 1);
    assert!(coders.is_superseded(2) && coders.trained() == (2, 2));
    assert!((0..3).all(|_| coders.expel_settled(|| 0).is_none()), "a draft is under way");
    drop(first);
    assert!(coders.expel_settled(|| 1).is_none(), "somebody reads");
    assert!(coders.expel_settled(|| 0).is_none(), "seen once");
    assert!(
        coders.expel_settled(|| 1).is_none() && coders.expel_settled(|| 0).is_none(),
        "seen once again"
    );
    assert_eq!(coders.expel_settled(|| 0).map(|gone| gone.number()), Some(2));
    assert!((0..3).all(|_| coders.expel_settled(|| 0).is_none()), "the newest one stays");
    assert!(coders.codec(2).is_none() && coders.codec(3).is_some());
    for number in 4..CODERS as u8 {
        assert_eq!(coders.next(), Some(number));
        coders.take(codec(), 1);
    }
    assert_eq!(coders.next(), None);
}

#[test]
fn a_codec_for_cold_entries_leaves_inserts_alone() {
    let coders = Coders::new(&pool(), Some(codec()), None).unwrap();
    assert_eq!((coders.target(), coders.writer().is_none()), (COLD, true));
    coders.take(codec(), 1);
    assert_eq!((coders.target(), coders.writer().is_none()), (2, true));
    assert_eq!(coders.stronger().map(|held| held.number()), Some(2));
    assert!(!coders.is_superseded(COLD), "it stays whatever comes");
    assert_eq!((coders.alive(COLD), coders.alive(2)), (0, 0));
}

/// Says in which thread it was dropped, and whether it was let.
#[derive(Debug)]
struct Watched {
    number: u64,
    let_go: Arc<Counter>,
    dropped: Arc<Counter>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let let_go = get(&self.let_go) == 1 || std::thread::panicking();
        assert!(let_go, "a codec is dropped by `discard` only");
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

impl Codec for Watched {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        self.number.to_string().into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        0
    }

    fn context(&self, _max_page: usize) -> std::io::Result<Box<dyn crate::codec::Context>> {
        Plain.context(0)
    }
}

#[derive(Debug, Default)]
struct Watch {
    made: Counter,
    let_go: Arc<Counter>,
    dropped: Arc<Counter>,
}

impl Watch {
    fn codec(&self) -> Arc<dyn Codec> {
        let (let_go, dropped) = (Arc::clone(&self.let_go), Arc::clone(&self.dropped));
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        Arc::new(Watched { number, let_go, dropped })
    }

    fn let_go(&self, drops: impl FnOnce()) {
        self.let_go.store(1, Ordering::Relaxed);
        drops();
        self.let_go.store(0, Ordering::Relaxed);
    }
}

impl crate::sync::Charge for Pool {
    fn charge(&self, bytes: usize) -> bool {
        self.reserve(bytes).is_ok()
    }

    fn release(&self, bytes: usize) {
        Pool::release(self, bytes);
    }
}

/// A coder is adopted whenever there is a number, and dropped whenever one may be, beside
/// drafts.
fn adopt_and_expel_beside_drafts(pool: &Pool) {
    let (start, watch) = (pool.held_bytes(), Watch::default());
    let coders = Coders::new(pool, None, None).unwrap();
    coders.take(watch.codec(), 0);
    let (over, mut expelled) = (Counter::new(0), Vec::new());
    let draft = || {
        let mut last = 0;
        while get(&over) == 0 {
            let draft = coders.writer().expect("there is one");
            let codec = || coders.codec(draft.number()).expect("a draft has its coder");
            let number: u64 = codec().name().parse().expect("a number");
            assert!(number >= last, "an older one is not the newest again");
            last = number;
            std::thread::yield_now();
            assert_eq!(codec().name(), number.to_string(), "its number has no other one");
        }
    };
    std::thread::scope(|scope| {
        (0..3).for_each(|_| drop(scope.spawn(draft)));
        let end = std::time::Instant::now() + std::time::Duration::from_secs(600);
        while expelled.len() < EXPELLED {
            assert!(std::time::Instant::now() < end, "coders are dropped: {expelled:?}");
            if coders.next().is_some() {
                coders.take(watch.codec(), 0);
            }
            if let Some(trained) = coders.expel(|| 0) {
                expelled.push(trained.number());
                watch.let_go(|| trained.discard(pool));
            }
        }
        over.store(1, Ordering::Relaxed);
    });
    coders.settle();
    assert_eq!(get(&watch.dropped), EXPELLED as u64);
    watch.let_go(|| drop(coders));
    assert_eq!((get(&watch.dropped), pool.held_bytes()), (get(&watch.made), start));
}

#[test]
fn a_draft_has_its_coder_beside_those_that_come_and_are_dropped() {
    let pool = pool();
    (0..ROUNDS).for_each(|_| adopt_and_expel_beside_drafts(&pool));
}

#[test]
fn a_reader_that_stalls_delays_what_is_dropped_and_no_drop_of_a_codec_waits_for_it() {
    let (pool, watch) = (pool(), Watch::default());
    let coders = Coders::new(&pool, None, None).unwrap();
    coders.take(watch.codec(), 0);
    coders.settle();
    pool.reserve(7).unwrap();
    coders.table.read(|_| {
        coders.take(watch.codec(), 7);
        assert!((0..5).all(|_| coders.expel(|| 0).is_none()), "it may take coder 2 yet");
    });
    coders.settle();
    assert!(coders.expel(|| 0).is_none(), "seen once");
    coders.table.read(|table| {
        assert!((0..5).all(|_| coders.expel(|| 0).is_none()), "it has a table with coder 2");
        assert_eq!(table.len(), 2);
        assert!(coders.codec(2).is_none(), "which others find no more");
        assert_eq!(coders.trained(), (2, 7), "but it is there, and charged");
    });
    coders.settle();
    let trained = coders.expel(|| 0).expect("nobody has a table with coder 2");
    assert_eq!((trained.number(), coders.trained()), (2, (1, 7)));
    watch.let_go(|| trained.discard(&pool));
    // The drop of all coders drops the codecs, whoever has a table.
    let other = Coders::new(&pool, None, None).unwrap();
    other.table.read(|_| {
        coders.take(watch.codec(), 0);
        assert_eq!(get(&watch.dropped), 1);
        watch.let_go(|| drop(coders));
        assert_eq!(get(&watch.dropped), 3);
    });
}

#[test]
fn a_table_that_is_refused_changes_nothing() {
    let pool = pool();
    let coders = Coders::new(&pool, None, None).unwrap();
    coders.take(codec(), 0);
    coders.settle();
    let held = pool.held_bytes();
    pool.set_max_bytes(held + 50);
    assert!(matches!(coders.adopt(&codec(), 0), Err(Full::Cap(bytes)) if bytes > 50));
    assert_eq!((coders.target(), coders.next(), coders.trained()), (2, Some(3), (1, 0)));
    pool.set_max_bytes(held + 10_000);
    coders.take(codec(), 0);
    coders.settle();
    pool.set_max_bytes(pool.held_bytes());
    assert!((0..5).all(|_| coders.expel(|| 0).is_none()), "there is no room for a table");
    assert!(coders.codec(2).is_some() && coders.trained() == (2, 0));
    pool.set_max_bytes(usize::MAX);
    assert_eq!(coders.expel_settled(|| 0).map(|gone| gone.number()), Some(2));
}
