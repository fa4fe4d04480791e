use super::*;

fn with_room(entries: usize) -> Ghosts {
    let mut ghosts = Ghosts::new();
    while ghosts.growth(entries) > 0 {
        let made = ghosts.make(entries).expect("room");
        ghosts.install(made);
    }
    ghosts
}

fn tag(key: u32) -> u32 {
    key.wrapping_mul(0x9e37_79b1).rotate_left(15).wrapping_mul(0x85eb_ca77)
}

#[test]
fn a_ghost_is_taken_once() {
    let mut ghosts = with_room(1024);
    assert_eq!(ghosts.take(5), None);
    ghosts.remember(0, 5, 100);
    ghosts.remember(1, 0, 100);
    ghosts.check();
    assert_eq!(ghosts.take(0), Some(Ghost { queue: 1, age: 0 }));
    assert_eq!(ghosts.take(5), Some(Ghost { queue: 0, age: 0 }));
    assert_eq!((ghosts.take(0), ghosts.take(5)), (None, None));
    ghosts.check();
}

#[test]
fn few_ghosts_are_an_exact_queue() {
    let mut ghosts = with_room(1024);
    for key in 0..=10_000 {
        ghosts.remember(0, tag(key), 20);
        ghosts.check();
        if key % 3 == 0 {
            assert!(ghosts.take(tag(key)).is_some());
        }
    }
    let left = |key: &u32| key % 3 != 0;
    let kept: Vec<u32> = (0..=10_000).filter(|key| ghosts.take(tag(*key)).is_some()).collect();
    assert!(kept.into_iter().rev().eq((0..=10_000).rev().filter(left).take(18)));
}

#[test]
fn many_ghosts_are_nearly_one() {
    let mut ghosts = with_room(10_240);
    (0..100_000).for_each(|key| ghosts.remember(0, tag(key), 10_000));
    ghosts.check();
    let kept = |from: u32, to: u32, ghosts: &mut Ghosts| {
        (from..to).filter(|key| ghosts.take(tag(*key)).is_some()).count()
    };
    let strangers = kept(200_000, 300_000, &mut ghosts);
    assert!(strangers < 4, "{strangers} of 100000");
    let (old, young) = (kept(0, 90_850, &mut ghosts), kept(91_150, 100_000, &mut ghosts));
    assert!(old == 0, "{old} of 90850 that should be forgotten");
    assert!(young > 8650, "{young} of 8850");
    ghosts.check();
}

/// Of each queue's as many are kept as are wanted of it, however many came from the other one.
#[test]
fn each_queue_has_ghosts_and_ages_of_its_own() {
    let mut ghosts = with_room(10_240);
    for key in 0..40_000 {
        ghosts.remember(usize::from(key % 10 == 0), tag(key), 10_000);
    }
    ghosts.check();
    let generation = ghosts.generation();
    let mut counts = [0_usize; QUEUES];
    for key in (0..40_000).rev() {
        let Some(Ghost { queue, age }) = ghosts.take(tag(key)) else { continue };
        let since = (39_999 - key) as usize;
        let exact = if queue == 1 { since / 10 } else { since - since / 10 };
        assert_eq!(queue, usize::from(key % 10 == 0));
        assert!(age.abs_diff(exact) <= generation + 1, "{age}, {exact}");
        counts[queue] += 1;
    }
    assert!(counts[0].abs_diff(9000) <= generation, "{counts:?}");
    assert!(counts[1].abs_diff(500) <= generation, "{counts:?}");
    ghosts.check();
}

#[test]
fn they_are_forgotten_when_twice_or_a_quarter_as_many_are_wanted() {
    let mut ghosts = with_room(2200);
    for (tag, entries, buckets) in [(1, 1000, 38), (2, 2000, 38), (3, 2002, 77), (4, 526, 77)] {
        ghosts.remember(0, tag, entries);
        ghosts.check();
        assert_eq!(ghosts.buckets, buckets);
    }
    let is = |tag, ghosts: &mut Ghosts| ghosts.take(tag).is_some();
    assert!(!is(1, &mut ghosts) && !is(2, &mut ghosts) && is(3, &mut ghosts));
    ghosts.remember(0, 5, 500);
    assert_eq!(ghosts.buckets, 19);
    assert!(!is(4, &mut ghosts) && is(5, &mut ghosts));
}

/// A generation of more ghosts than were wanted was retired while it was the newest one, and all
/// that had died were alive again.
#[test]
fn few_ghosts_in_a_table_for_many_die_in_their_order() {
    for full in 1..400 {
        let mut ghosts = with_room(1024);
        ghosts.remember(0, tag(0), full);
        for key in 1..2000 {
            let entries = 1 + full / 7 + key as usize % (full / 16 + 1);
            ghosts.remember(usize::from(key % 3 > 0), tag(key), entries);
            if key % 5 == 0 {
                ghosts.take(tag(key - 3));
            }
            if key % 64 == 0 {
                ghosts.check();
            }
        }
    }
}

/// One hold of a lock has a bounded part in a large table: all of a million ghosts were emptied in
/// one.
#[test]
fn a_large_table_is_forgotten_and_given_back_step_by_step() {
    let mut ghosts = with_room(300_000);
    let (full, bytes) = (270_000, ghosts.bytes());
    (0..270_000).for_each(|key| ghosts.remember(0, tag(key), full));
    let (old, buckets, mut steps) = (tag(269_999), ghosts.buckets, 0);
    assert!(ghosts.take(old).is_some());
    ghosts.check();
    while ghosts.buckets == 0 || steps == 0 {
        let before = ghosts.dirty.max(ghosts.buckets);
        ghosts.remember(0, tag(300_000 + steps), 60_000);
        assert!(before - ghosts.dirty <= CLEANED);
        ghosts.check();
        assert!(ghosts.take(old).is_none(), "forgotten at once");
        steps += 1;
    }
    assert_eq!(steps as usize, buckets.div_ceil(CLEANED));
    assert!(ghosts.take(tag(300_000 + steps - 1)).is_some(), "all of it is clean");
    // Half of it is cleaned, and then it gets shorter.
    (0..200_000).for_each(|key| ghosts.remember(0, tag(key), full));
    for wanted in [100_000, 30_000] {
        (0..3).for_each(|key| ghosts.remember(0, tag(key), wanted / 4));
        let (mut calls, page) = (0, zpool::Words::page_bytes());
        loop {
            let (freed, now) = (ghosts.shrink(wanted), ghosts.bytes());
            ghosts.check();
            assert!(freed <= CLOSED * page && !ghosts.lacks(wanted));
            assert_eq!(
                ghosts.is_closing(),
                freed > 0 && ghosts.room.chunks() > Ghosts::chunks_for(wanted)
            );
            if freed == 0 {
                break;
            }
            calls += 1;
            assert!(now < bytes);
        }
        let going = cfg!(any(target_os = "linux", target_os = "android"));
        assert!(!going || calls > 1 && ghosts.room.chunks() == Ghosts::chunks_for(wanted));
    }
    // Room that grows meanwhile stays.
    assert_eq!(ghosts.shrink(10_000) > 0, cfg!(any(target_os = "linux", target_os = "android")));
    while ghosts.growth(29_000) > 0 {
        let made = ghosts.make(29_000).expect("room");
        ghosts.install(made);
    }
    while ghosts.shrink(29_000) > 0 {}
    ghosts.check();
    assert!(!ghosts.lacks(29_000) && !ghosts.is_closing());
    (0..29_000).for_each(|key| ghosts.remember(0, tag(key), 26_000));
    assert!(ghosts.take(tag(28_999)).is_some());
    ghosts.check();
}

#[test]
fn ghosts_taken_as_fast_as_they_come_are_swept_in_time() {
    for queue in 0..QUEUES {
        let mut ghosts = with_room(1024);
        ghosts.remember(queue, tag(0), 1000);
        for key in 1..40_000 {
            ghosts.remember(queue, tag(key), 1000);
            assert!(ghosts.take(tag(key)).is_some());
            if key % 16 == 0 {
                ghosts.check();
            }
        }
        assert!(ghosts.take(tag(0)).is_none(), "the span of generations is bounded");
    }
}
