//! Many threads on a few keys whose loads fail, panic, take long and are given up.
#![cfg(not(zcache_loom))]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use tests::callbacks::{Gone, cache, ignore, in_time, page};
use tests::pattern::Random;
use tests::user_code::pass_planted_panics;
use zcache::{Cache, Leased, LoadError, Waited};

/// One of 300 threads on a few keys whose loads fail, panic, take long and are given up.
fn one_of_a_crowd(cache: &Cache<u64>, number: u64, counts: &[AtomicUsize; 4]) {
    let mut random = Random::new(number);
    for _ in 0..40 {
        let key = random.below(5) as u64;
        let what = random.below(8);
        let load = |to: &mut Vec<u8>| {
            match what {
                0 => return Err(Gone(key)),
                1 => panic!("planted"),
                2 => thread::sleep(Duration::from_micros(300)),
                _ => {}
            }
            to.extend(page(key, 600));
            Ok(())
        };
        let ended = match what {
            0..=3 => catch_unwind(AssertUnwindSafe(|| cache.get_or_insert_with(&key, load))),
            4 => {
                let waited = match cache.get_or_lease(&key) {
                    Leased::Page(page) => Some(Waited::Page(page)),
                    Leased::Lease(lease) => Some(Waited::Lease(lease)),
                    Leased::Wait(waiting) => waiting.wait_timeout(Duration::from_micros(100)).ok(),
                };
                Ok(match waited {
                    Some(Waited::Page(page)) => Ok(page),
                    Some(Waited::Failed(error)) => Err(error),
                    _ => continue,
                })
            }
            5 => {
                let load = async { Err::<Vec<u8>, _>(Gone(key)) };
                let mut future = pin!(cache.get_or_insert_async(&key, load));
                match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(got) => Ok(got),
                    Poll::Pending => continue,
                }
            }
            6 => {
                cache.remove(&key);
                continue;
            }
            _ => {
                cache.retain(|other| *other != key);
                continue;
            }
        };
        let at = match ended {
            Ok(Ok(got)) => {
                assert!(got == page(key, 600));
                0
            }
            Ok(Err(LoadError::Panicked)) => 1,
            Ok(Err(error)) => {
                assert_eq!(error.downcast_ref(), Some(&Gone(key)));
                2
            }
            Err(_) => 3,
        };
        counts[at].fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn of_300_threads_none_is_left_waiting_whatever_ends_their_loads() {
    pass_planted_panics();
    in_time("threads", || {
        let (cache, counts) = (cache(2 << 20), [const { AtomicUsize::new(0) }; 4]);
        thread::scope(|scope| {
            for number in 0..300 {
                let (cache, counts) = (&cache, &counts);
                scope.spawn(move || one_of_a_crowd(cache, number, counts));
            }
        });
        let counts = counts.map(AtomicUsize::into_inner);
        assert!(counts[0] > 0 && counts[2] > 0 && counts[3] > 0, "{counts:?}");
        (0..5).for_each(|key| ignore(cache.remove(&key)));
        (0..5).for_each(|key| assert!(cache.get_or_lease(&key).lease().is_some()));
        cache.check();
    });
}
