//! One load a key: leases, those who wait for them in threads and in tasks, and what ends a load.
#![cfg(not(zcache_loom))]

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use tests::callbacks::{Gone, in_time, page};
use tests::user_code::pass_planted_panics;
use zcache::{BufferTooSmall, Cache, InsertError, Lease, LoadError, Waited, Waiting};

fn cache() -> Cache<u64> {
    tests::callbacks::cache(2 << 20)
}

fn lease(cache: &Cache<u64>, key: u64) -> Lease<u64> {
    cache.get_or_lease(&key).lease().expect("nobody loads it")
}

fn waiting(cache: &Cache<u64>, key: u64) -> Waiting<u64> {
    cache.get_or_lease(&key).waiting().expect("it is loaded")
}

fn got(waited: Waited<u64>) -> Vec<u8> {
    match waited {
        Waited::Page(page) => page.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_all_who_miss_a_key_one_has_the_lease_and_all_get_its_page() {
    in_time("leases", || {
        let cache = cache();
        let lease = lease(&cache, 7);
        let mut waiting: Vec<_> = (0..99).map(|_| waiting(&cache, 7)).collect();
        assert_eq!(cache.stats().misses, 100, "each caller missed once");
        assert!(cache.get_or_lease(&8).lease().is_some(), "another key is another load");
        let early = waiting.split_off(50);
        thread::scope(|scope| {
            let early: Vec<_> =
                early.into_iter().map(|waiting| scope.spawn(|| waiting.wait())).collect();
            assert_eq!(cache.insert_if_valid(lease, &page(7, 900)), Ok(()));
            for waited in early {
                assert_eq!(got(waited.join().unwrap()), page(7, 900));
            }
        });
        for waiting in waiting {
            assert_eq!(got(waiting.wait()), page(7, 900));
        }
        assert_eq!(cache.get_or_lease(&7).page().unwrap(), page(7, 900));
        cache.check();
    });
}

#[test]
fn a_lease_goes_to_who_waited_longest_and_nothing_is_left_of_who_gave_up() {
    in_time("hand-over", || {
        let cache = cache();
        let first = lease(&cache, 7);
        let [second, gone, third] = [(); 3].map(|()| waiting(&cache, 7));
        let second = second.wait_timeout(Duration::from_millis(2)).unwrap_err();
        let second = second.wait_timeout(Duration::ZERO).unwrap_err();
        drop(gone);
        drop(first);
        let Waited::Lease(second) = second.wait() else { panic!("no lease") };
        assert_eq!(second.key(), &7);
        let third = third.wait_timeout(Duration::ZERO).unwrap_err();
        drop(second);
        let Ok(Waited::Lease(third)) = third.wait_timeout(Duration::MAX) else {
            panic!("no lease")
        };
        // It is as good as the first one.
        let last = waiting(&cache, 7);
        assert_eq!(cache.insert_if_valid(third, &[3; 30]), Ok(()));
        assert_eq!(got(last.wait()), [3; 30]);
        // A lease that nobody waits for is over; so is one that was offered to who left.
        cache.remove(&7);
        drop(lease(&cache, 7));
        let again = lease(&cache, 7);
        let offered = waiting(&cache, 7);
        drop(again);
        drop(offered);
        drop(lease(&cache, 7));
        cache.check();
    });
}

#[test]
fn a_lease_may_outlive_its_cache() {
    let cache = cache();
    let (lease, waiting) = (lease(&cache, 7), waiting(&cache, 7));
    drop(cache);
    drop(lease);
    assert!(matches!(waiting.wait(), Waited::Lease(_)));
}

#[test]
fn an_error_is_shared_with_its_type_by_all_who_waited() {
    in_time("errors", || {
        let cache = cache();
        let (failing, waits) = (lease(&cache, 7), [(); 3].map(|()| waiting(&cache, 7)));
        failing.fail(Gone(7));
        for waiting in waits {
            let Waited::Failed(error) = waiting.wait() else { panic!("no error") };
            assert_eq!(error.downcast_ref::<Gone>(), Some(&Gone(7)));
            assert!(error.downcast_ref::<std::io::Error>().is_none());
        }
        let error = cache.get_or_insert_with(&7, |_| Err(Gone(8))).unwrap_err();
        assert_eq!(error.downcast_ref::<Gone>(), Some(&Gone(8)));
        let (large, waits) = (lease(&cache, 7), waiting(&cache, 7));
        let len = cache.max_page() + 1;
        assert!(matches!(
            cache.insert_if_valid(large, &vec![0; len]),
            Err(InsertError::TooLarge { .. })
        ));
        assert!(matches!(waits.wait(), Waited::Failed(LoadError::TooLarge { .. })));
        cache.check();
    });
}

#[test]
fn who_waits_for_a_lease_that_is_given_up_runs_its_own_loader() {
    in_time("loader", || {
        let cache = cache();
        let lease = lease(&cache, 7);
        thread::scope(|scope| {
            let loader = scope.spawn(|| {
                cache.get_or_insert_with(&7, |to| {
                    to.push(5);
                    Ok::<(), Gone>(())
                })
            });
            // Counted when it is aboard.
            while cache.stats().misses < 2 {
                thread::yield_now();
            }
            drop(lease);
            assert_eq!(loader.join().unwrap().unwrap(), [5][..]);
        });
        assert_eq!((cache.stats().loads, cache.stats().misses), (1, 2));
        assert_eq!(cache.get(&7).as_deref(), Some(&[5][..]));
        cache.check();
    });
}

/// A table that was dropped while one of its pages was read came back.
#[test]
fn what_is_not_retained_is_not_stored_by_loads_under_way() {
    let cache = cache();
    let (dropped, kept) = (lease(&cache, 7), lease(&cache, 8));
    let late = waiting(&cache, 7);
    let loaded = cache.get_or_insert_with(&17, |to| {
        cache.retain(|key| key % 10 != 7);
        to.push(1);
        Ok::<(), Gone>(())
    });
    assert_eq!(loaded.unwrap(), [1][..], "its caller gets what it loaded");
    assert!(!cache.contains_key(&17));
    let newer = lease(&cache, 7);
    assert_eq!(cache.insert_if_valid(dropped, &[1; 40]), Err(InsertError::Outdated));
    assert_eq!(got(late.wait()), [1; 40], "it came before the change");
    assert_eq!(cache.insert_if_valid(newer, &[2; 40]), Ok(()), "it was read after the change");
    assert_eq!(cache.insert_if_valid(kept, &[3; 40]), Ok(()));
    assert_eq!(cache.get(&7).as_deref(), Some(&[2; 40][..]));
    cache.check();
}

/// Versions of groups of keys made strangers of most loads where many pages came in.
#[test]
fn pages_are_stored_whatever_other_keys_are_changed() {
    let (cache, stop) = (cache(), AtomicBool::new(false));
    let (mut stored, changes) = (0, AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let other = page(1, 500);
            for key in 1_000_000.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                cache.insert(key, &other).unwrap();
                cache.remove(&(key - 1));
                changes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for key in 0..500 {
            let before = changes.load(Ordering::Relaxed);
            let load = |to: &mut Vec<u8>| {
                while changes.load(Ordering::Relaxed) < before + 20 {
                    thread::yield_now();
                }
                to.push(key as u8);
                Ok::<(), Gone>(())
            };
            cache.get_or_insert_with(&key, load).unwrap();
            stored += usize::from(cache.contains_key(&key));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!((stored, cache.stats().rejected.outdated), (500, 0));
}

#[test]
fn a_page_is_loaded_into_the_callers_buffer() {
    in_time("buffers", || {
        let cache = cache();
        let mut to = [0xee; 64];
        let load = |to: &mut [u8]| {
            to[..40].fill(4);
            Ok::<usize, Gone>(40)
        };
        assert_eq!(cache.load_into(&7, &mut to, load).unwrap(), 40);
        assert_eq!((&to[..40], to[40]), (&[4; 40][..], 0xee));
        assert_eq!(cache.get(&7).as_deref(), Some(&[4; 40][..]));
        let unused = |_: &mut [u8]| -> Result<usize, Gone> { panic!("it is there") };
        to.fill(0);
        assert_eq!(cache.load_into(&7, &mut to, unused).unwrap(), 40);
        assert_eq!(to[..40], [4; 40]);
        let short = BufferTooSmall { needed: 40 };
        let error = cache.load_into(&7, &mut to[..39], unused).unwrap_err();
        assert!(matches!(error, LoadError::BufferTooSmall(error) if error == short));
        assert_eq!(cache.get_into_or_lease(&7, &mut to[..39]).unwrap_err(), short);
        to.fill(0);
        assert_eq!(cache.get_into_or_lease(&7, &mut to).unwrap().page(), Some(40));
        assert_eq!(to[..40], [4; 40]);
        let leased = cache.get_into_or_lease(&8, &mut to).unwrap().lease().unwrap();
        let waiting = cache.get_into_or_lease(&8, &mut to).unwrap().waiting().unwrap();
        assert_eq!(cache.insert_if_valid(leased, &[8; 8]), Ok(()));
        assert_eq!(got(waiting.wait()), [8; 8]);
        let long = |_: &mut [u8]| Ok::<usize, Gone>(65);
        let error = cache.load_into(&9, &mut to, long).unwrap_err();
        assert!(matches!(error, LoadError::BufferTooSmall(BufferTooSmall { needed: 65 })));
        // Who waits may have room for it, and loads it then.
        thread::scope(|scope| {
            let misses = cache.stats().misses;
            let error = cache.load_into(&9, &mut to, |_| {
                let other = scope.spawn(|| {
                    let mut to = [0; 65];
                    let load = |to: &mut [u8]| {
                        to.fill(5);
                        Ok::<usize, Gone>(to.len())
                    };
                    assert_eq!(cache.load_into(&9, &mut to, load).unwrap(), 65);
                    assert_eq!(to, [5; 65]);
                });
                while cache.stats().misses < misses + 1 {
                    thread::yield_now();
                }
                drop(other);
                Ok::<usize, Gone>(65)
            });
            let error = error.unwrap_err();
            assert!(matches!(error, LoadError::BufferTooSmall(BufferTooSmall { needed: 65 })));
        });
        assert!(cache.remove(&9));
        let error = cache.load_into(&9, &mut to, |_| Err(Gone(9))).unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&Gone(9)));
        // Another caller's page is copied, or too long.
        let lease = lease(&cache, 9);
        let misses = cache.stats().misses;
        thread::scope(|scope| {
            let wait = |len: usize| {
                let mut to = vec![0; len];
                cache.load_into(&9, &mut to, unused).map(|len| to[..len].to_vec())
            };
            let (fits, short) = (scope.spawn(move || wait(64)), scope.spawn(move || wait(29)));
            while cache.stats().misses < misses + 2 {
                thread::yield_now();
            }
            assert_eq!(cache.insert_if_valid(lease, &[3; 30]), Ok(()));
            assert_eq!(fits.join().unwrap().unwrap(), [3; 30]);
            let error = short.join().unwrap().unwrap_err();
            assert!(matches!(error, LoadError::BufferTooSmall(BufferTooSmall { needed: 30 })));
        });
        cache.check();
    });
}

#[test]
fn a_miss_is_counted_once_however_it_is_filled() {
    let cache = cache();
    let mut to = [0; 64];
    let load = |to: &mut Vec<u8>| {
        to.push(1);
        Ok::<(), Gone>(())
    };
    let calls: [&mut dyn FnMut(); 5] = [
        &mut || drop(cache.get_or_lease(&7)),
        &mut || drop(cache.get_into_or_lease(&7, &mut [0; 64]).unwrap()),
        &mut || drop(cache.get_or_insert_with(&7, load).unwrap()),
        &mut || assert_eq!(cache.load_into(&7, &mut to, |_| Ok::<usize, Gone>(1)).unwrap(), 1),
        &mut || {
            let load = async { Ok::<_, Gone>(vec![1]) };
            assert!(now(pin!(cache.get_or_insert_async(&7, load))).is_ready());
        },
    ];
    for (number, call) in calls.into_iter().enumerate() {
        cache.remove(&7);
        let before = cache.stats();
        call();
        let misses = cache.stats().misses - before.misses;
        assert_eq!((misses, cache.stats().hits - before.hits), (1, 0), "call {number}");
        if number > 1 {
            call();
            assert_eq!(cache.stats().hits - before.hits, 1, "call {number}");
            assert_eq!(cache.stats().misses - before.misses, 1, "call {number}");
        }
    }
}

/// What a future says when it is polled by nobody who could be woken up.
fn now<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// An executor: tasks that are to be polled, in their order.
type Queue = Arc<Mutex<VecDeque<Arc<Task>>>>;

struct Task {
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    queue: Queue,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        let queue = Arc::clone(&self.queue);
        queue.lock().unwrap().push_back(self);
    }
}

fn spawn(queue: &Queue, future: impl Future<Output = ()> + Send + 'static) -> Arc<Task> {
    let future = Mutex::new(Some(Box::pin(future) as _));
    let task = Arc::new(Task { future, queue: Arc::clone(queue) });
    Arc::clone(&task).wake();
    task
}

impl Task {
    /// Drops the future.
    fn cancel(&self) {
        let future = self.future.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(future);
    }
}

/// Polls until no task is awake.
fn run(queue: &Queue) {
    loop {
        let Some(task) = queue.lock().unwrap().pop_front() else { return };
        let waker = Waker::from(Arc::clone(&task));
        let mut future = task.future.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(polled) = future.as_mut() else { continue };
        let poll = || polled.as_mut().poll(&mut Context::from_waker(&waker));
        // As a runtime does with a task that panics.
        if !matches!(catch_unwind(AssertUnwindSafe(poll)), Ok(Poll::Pending)) {
            *future = None;
        }
    }
}

/// What tasks share.
#[derive(Default)]
struct Shared {
    /// The loaders go on.
    open: AtomicBool,
    loading: AtomicUsize,
    got: AtomicUsize,
    failed: AtomicUsize,
}

/// A loader that goes on when it may.
async fn load(shared: Arc<Shared>, key: u64) -> Result<Vec<u8>, Gone> {
    shared.loading.fetch_add(1, Ordering::Relaxed);
    poll_fn(|_| if shared.open.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending })
        .await;
    Ok(page(key, 700))
}

fn ask(
    cache: &Arc<Cache<u64>>,
    shared: &Arc<Shared>,
    key: u64,
) -> impl Future<Output = ()> + use<> {
    let (cache, shared) = (Arc::clone(cache), Arc::clone(shared));
    async move {
        match cache.get_or_insert_async(&key, load(Arc::clone(&shared), key)).await {
            Ok(got) => {
                assert!(got == page(key, 700));
                shared.got.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => drop(shared.failed.fetch_add(1, Ordering::Relaxed)),
        }
    }
}

#[test]
fn a_thousand_tasks_of_ten_keys_are_ten_loads_on_any_executor() {
    in_time("tasks", || {
        let (cache, shared, queue) =
            (Arc::new(cache()), Arc::<Shared>::default(), Queue::default());
        let tasks: Vec<_> =
            (0..1000).map(|task| spawn(&queue, ask(&cache, &shared, task % 10))).collect();
        run(&queue);
        assert_eq!(shared.loading.load(Ordering::Relaxed), 10);
        shared.open.store(true, Ordering::Relaxed);
        // Those who load; they wake the others.
        tasks.iter().take(10).for_each(|task| Arc::clone(task).wake());
        run(&queue);
        assert_eq!(shared.got.load(Ordering::Relaxed), 1000);
        assert_eq!((cache.stats().loads, cache.stats().misses), (10, 1000));
        cache.check();
    });
}

#[test]
fn a_task_that_is_cancelled_while_it_loads_hands_over() {
    in_time("cancellation", || {
        let (cache, shared, queue) =
            (Arc::new(cache()), Arc::<Shared>::default(), Queue::default());
        let tasks: Vec<_> = (0..10).map(|_| spawn(&queue, ask(&cache, &shared, 7))).collect();
        run(&queue);
        // One that waits, one that loads, and one that is offered the load and was not polled yet.
        tasks[1].cancel();
        tasks[0].cancel();
        tasks[2].cancel();
        run(&queue);
        assert_eq!(shared.loading.load(Ordering::Relaxed), 2, "the fourth loads");
        tasks[3].cancel();
        shared.open.store(true, Ordering::Relaxed);
        run(&queue);
        assert_eq!(shared.got.load(Ordering::Relaxed), 6);
        assert_eq!((cache.stats().loads, cache.stats().load_failures), (3, 2));
        cache.check();
    });
}

#[test]
fn a_task_whose_loader_panics_fails_those_who_wait_and_the_next_one_loads() {
    pass_planted_panics();
    in_time("panics", || {
        let (cache, shared, queue) =
            (Arc::new(cache()), Arc::<Shared>::default(), Queue::default());
        let other = Arc::clone(&cache);
        spawn(&queue, async move {
            let mut polls = 0;
            let load = poll_fn(|context| {
                polls += 1;
                assert!(polls < 2, "planted");
                context.waker().wake_by_ref();
                Poll::<Result<Vec<u8>, Gone>>::Pending
            });
            let _ = other.get_or_insert_async(&7, load).await;
        });
        (0..9).for_each(|_| drop(spawn(&queue, ask(&cache, &shared, 7))));
        run(&queue);
        assert_eq!(shared.failed.load(Ordering::Relaxed), 9);
        shared.open.store(true, Ordering::Relaxed);
        spawn(&queue, ask(&cache, &shared, 7));
        run(&queue);
        assert_eq!(shared.got.load(Ordering::Relaxed), 1);
        cache.check();
    });
}

#[test]
fn a_future_that_awaits_its_own_key_is_told_so() {
    in_time("recursion", || {
        let cache = cache();
        let inner = || cache.get_or_insert_async(&7, async { Ok::<_, Gone>(vec![9]) });
        let outer = cache.get_or_insert_async(&7, async {
            // At once, and through another key's loader.
            assert!(matches!(inner().await, Err(LoadError::Recursive)));
            let through = cache.get_or_insert_async(&8, async { inner().await });
            let error = through.await.unwrap_err();
            assert!(matches!(error.downcast_ref(), Some(LoadError::Recursive)));
            Ok::<_, Gone>(vec![5])
        });
        assert!(matches!(now(pin!(outer)), Poll::Ready(Ok(page)) if page == [5][..]));
        // Not beside its loader, in the same thread.
        let shared = Arc::<Shared>::default();
        let mut first = pin!(cache.get_or_insert_async(&9, load(Arc::clone(&shared), 9)));
        let mut second = pin!(cache.get_or_insert_async(&9, load(Arc::clone(&shared), 9)));
        assert!(now(first.as_mut()).is_pending() && now(second.as_mut()).is_pending());
        shared.open.store(true, Ordering::Relaxed);
        assert!(now(second.as_mut()).is_pending() && now(first).is_ready());
        assert!(matches!(now(second), Poll::Ready(Ok(got)) if got == page(9, 700)));
        assert_eq!(shared.loading.load(Ordering::Relaxed), 1);
    });
}

/// A pool's thread that waits for the pool inside a loader runs other tasks meanwhile.
#[test]
fn a_task_that_a_pool_runs_inside_the_loader_of_its_key_is_told_so() {
    in_time("pool", || {
        let cache = cache();
        let read = |to: &mut Vec<u8>| {
            to.push(5);
            Ok::<(), Gone>(())
        };
        let task = |key: u64| match cache.get_or_insert_with(&key, read) {
            // As documented: it reads the page itself.
            Err(LoadError::Recursive) => vec![5],
            got => got.unwrap().to_vec(),
        };
        let outer = cache.get_or_insert_with(&7, |to| {
            assert_eq!((task(7), task(8), task(7)), (vec![5], vec![5], vec![5]));
            read(to)
        });
        assert_eq!(outer.unwrap(), [5][..]);
        assert_eq!(cache.stats().loads, 2);
        cache.check();
    });
}

#[test]
fn a_hundred_thousand_may_wait_for_one_key() {
    const MANY: usize = 100_000;
    in_time("many", || {
        let cache = cache();
        let first = lease(&cache, 7);
        let mut crowd: VecDeque<_> = (0..MANY).map(|_| waiting(&cache, 7)).collect();
        assert!(crowd.iter_mut().all(|waiting| now(Pin::new(waiting)).is_pending()));
        // A tenth gives up in the middle, and a tenth one after the other as the lease comes to
        // them.
        drop(crowd.drain(MANY / 2..MANY / 2 + MANY / 10));
        drop(first);
        drop(crowd.drain(..MANY / 10));
        let Waited::Lease(lease) = crowd.pop_front().unwrap().wait() else { panic!("no lease") };
        assert_eq!(cache.insert_if_valid(lease, &[5; 50]), Ok(()));
        for waiting in &mut crowd {
            let waited = now(Pin::new(waiting));
            assert!(matches!(waited, Poll::Ready(Waited::Page(page)) if page == [5; 50][..]));
        }
        drop(crowd);
        cache.check();
    });
}
