//! Payloads that are not what was stored, and pages that cannot be had or read.
#![cfg(not(zcache_loom))]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::faults::{Faulty, Switch};
use tests::pattern::{self, Random};
use tests::ram::{At, Ram, Window};
use zcache::codec::{self, Codec, Lz4};
use zcache::{Cache, Config, InsertError, RemovalCause};

const LONGEST: usize = 8 << 10;
const KEY: u64 = 7;

type Told = Arc<Mutex<Vec<(u64, RemovalCause, bool)>>>;

/// A cache over pages that `Window` looks into, and what its hook was told: key, cause, and whether
/// the page could be read.
fn open(config: impl Fn(Config) -> Config) -> (Cache<u64>, Window, Told) {
    let (source, window) = Ram::new(4096);
    let told = Told::default();
    let log = Arc::clone(&told);
    let config = config(Config::new(4 << 20).max_page(LONGEST).shards(2)).page_source(source);
    let cache: Cache<u64> = Cache::new(config).unwrap();
    let cache = cache.on_removal(move |removal| {
        let read = removal.page().is_some();
        log.lock().unwrap().push((*removal.key(), removal.cause(), read));
    });
    (cache, window, told)
}

/// A page with runs, repetitions and random bytes: all that an LZ4 block can hold.
fn page(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut page = Vec::new();
    while page.len() < len {
        match random.below(4) {
            0 => page.extend(std::iter::repeat_n(random.bits() as u8, random.below(90))),
            1 => page.extend(random.bits().to_le_bytes()),
            2 => page.extend(b"the same text again, "),
            _ => {
                let from = random.below(page.len() + 1);
                page.extend_from_within(from..page.len().min(from + random.below(50)));
            }
        }
    }
    page.truncate(len);
    page
}

fn lz4(page: &[u8]) -> Vec<u8> {
    let mut payload = vec![0; page.len() + 100];
    let len = Lz4.context(page.len()).unwrap().compress(page, &mut payload).unwrap();
    payload.truncate(len);
    payload
}

/// Where the object with this payload stands: there if it is, else wherever.
fn locate(window: &Window, guess: Option<At>, payload: &[u8]) -> At {
    match guess {
        Some(at) if window.stands(at, payload) => at,
        _ => window.find(payload),
    }
}

/// All look-ups there are; whether they gave `page`, which is never anything else.
fn look(cache: &Cache<u64>, way: usize, page: &[u8]) -> bool {
    let mut to = vec![0xee; page.len()];
    let got = match way % 8 {
        0 => cache.get(&KEY).map(|page| page.to_vec()),
        1 => cache.get_into(&KEY, &mut to).unwrap().map(|len| to[..len].to_vec()),
        2 => cache.read(&KEY, <[u8]>::to_vec),
        3 => cache.peek(&KEY).map(|page| page.to_vec()),
        4 => cache.take(&KEY).map(|page| page.to_vec()),
        5 => cache.get_many([&KEY]).remove(0).map(|page| page.to_vec()),
        6 => return cache.contains_key(&KEY),
        _ => {
            let part = cache.get_range(&KEY, 0..page.len() / 2);
            assert!(part.as_deref().is_none_or(|part| part == &page[..page.len() / 2]));
            return part.is_some();
        }
    };
    assert!(got.as_deref().is_none_or(|got| got == page), "way {way}: a wrong page");
    got.is_some()
}

/// Flips each bit of an object in turn; each flip is noticed.
fn flip_each(config: fn(Config) -> Config, page: &[u8], payload: &[u8], trailer: usize) {
    let (cache, window, told) = open(config);
    let (mut at, mut flips) = (None, 0);
    for byte in 0..payload.len() + trailer {
        for bit in 0..8 {
            cache.insert(KEY, page).unwrap();
            assert_eq!(cache.stats().bytes.payload, payload.len() + trailer);
            let here = locate(&window, at, payload);
            at = Some(here);
            window.flip(here, byte, 1 << bit);
            assert!(!look(&cache, flips, page), "byte {byte}, bit {bit}");
            flips += 1;
            assert!(cache.is_empty() && !cache.contains_key(&KEY), "it is gone for good");
            let told = std::mem::take(&mut *told.lock().unwrap());
            assert_eq!(told, [(KEY, RemovalCause::Corrupt, false)], "byte {byte}, bit {bit}");
        }
    }
    let stats = cache.stats();
    assert_eq!((stats.removals.corrupt, stats.hits), (flips as u64, 0));
    cache.check();
    cache.insert(KEY, page).unwrap();
    assert!((0..4).all(|way| look(&cache, way, page)), "what is whole is found");
}

#[test]
fn with_checksums_no_flipped_bit_of_a_coded_page_gets_through() {
    for (seed, len) in [(1, 700), (2, 2000)] {
        let page = page(seed, len);
        let payload = lz4(&page);
        assert!(payload.len() < len * 3 / 4);
        flip_each(|config| config.checksum(true), &page, &payload, 4);
    }
}

#[test]
fn with_checksums_no_flipped_bit_of_a_plain_page_gets_through() {
    let page = pattern::bytes(3, 300);
    flip_each(|config| config.checksum(true).codec(codec::Plain), &page, &page, 4);
}

#[test]
fn a_flipped_bit_in_a_time_to_live_is_corruption_and_no_expiry() {
    let page = page(4, 300);
    const HOUR: Duration = Duration::from_secs(3600);
    flip_each(|config| config.time_to_live(HOUR).checksum(true), &page, &lz4(&page), 10);
    // Without a checksum it may be taken for one that is over, or not.
    let payload = lz4(&page);
    for bit in 0..48 {
        let (cache, window, _) = open(|config| config.time_to_live(HOUR).checksum(false));
        cache.insert(KEY, &page).unwrap();
        window.flip(window.find(&payload), payload.len() + bit / 8, 1 << (bit % 8));
        assert!(cache.get(&KEY).is_none_or(|got| got == page), "bit {bit}");
        cache.check();
    }
}

#[test]
fn a_flipped_bit_of_a_same_filled_pages_word_is_noticed() {
    let (cache, window, told) = open(|config| config.checksum(true));
    let word = |key: u64| (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_ne_bytes();
    // Those with numbers of their own first.
    (1000..1200).for_each(|key| cache.insert(key, &word(key).repeat(64)).unwrap());
    let page = word(KEY).repeat(64);
    for bit in 0..64 {
        cache.insert(KEY, &page).unwrap();
        window.flip(window.find(&word(KEY)), bit / 8, 1 << (bit % 8));
        assert!(!look(&cache, bit, &page), "bit {bit}");
    }
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 64);
    assert!(told.iter().all(|told| *told == (KEY, RemovalCause::Corrupt, false)));
}

#[test]
fn without_checksums_a_flipped_bit_gives_an_error_or_a_page_of_the_right_length() {
    let (cache, window, _) = open(|config| config.checksum(false));
    let page = page(5, 1500);
    let payload = lz4(&page);
    let (mut at, mut wrong, mut none) = (None, 0, 0);
    for byte in 0..payload.len() {
        for bit in 0..8 {
            cache.insert(KEY, &page).unwrap();
            let here = locate(&window, at, &payload);
            at = Some(here);
            window.flip(here, byte, 1 << bit);
            let _ = cache.get_range(&KEY, 10..700);
            let got = cache.get(&KEY);
            assert!(got.as_ref().is_none_or(|got| got.len() == 1500));
            match got {
                Some(got) => wrong += usize::from(got != page),
                None => none += 1,
            }
        }
    }
    // That is what the checksum is for.
    assert!(wrong > 0 && none > 0, "{wrong} wrong, {none} refused");
    assert_eq!(cache.stats().removals.corrupt, none);
    cache.check();
}

#[test]
fn what_a_buffer_held_before_never_shows_in_a_page() {
    let (cache, window, _) = open(|config| config.checksum(false));
    let page = page(6, 1200);
    let payload = lz4(&page);
    let mut at = None;
    let mut random = Random::new(6);
    let mut read = 0;
    for round in 0..payload.len() * 8 + 3000 {
        cache.insert(KEY, &page).unwrap();
        let here = locate(&window, at, &payload);
        at = Some(here);
        if round < payload.len() * 8 {
            window.flip(here, round / 8, 1 << (round % 8));
        } else {
            for _ in 0..1 + random.below(4) {
                window.flip(here, random.below(payload.len()), random.bits() as u8);
            }
        }
        let (mut zeros, mut ones) = ([0; 1200], [0xff; 1200]);
        let first = cache.get_into(&KEY, &mut zeros).unwrap();
        let second = cache.get_into(&KEY, &mut ones).unwrap();
        assert_eq!(first, second, "round {round}");
        if first.is_some() {
            read += 1;
            assert!(zeros == ones, "round {round}: old bytes of the buffer stand in the page");
        }
    }
    assert!(read > 1000, "{read}");
}

#[test]
fn two_payloads_that_change_places_are_noticed() {
    for plain in [false, true] {
        let (cache, window, told) = open(|config| match plain {
            true => config.checksum(true).codec(codec::Plain),
            false => config.checksum(true),
        });
        // Two pages of one length, and of one length when compressed.
        let stored = |page: &Vec<u8>| if plain { page.clone() } else { lz4(page) };
        let first = page(1, 900);
        let same = |other: &Vec<u8>| stored(other).len() == stored(&first).len();
        let second = (2..5000).map(|seed| page(seed, 900)).find(same).unwrap();
        assert_ne!(first, second);
        cache.insert(1, &first).unwrap();
        cache.insert(2, &second).unwrap();
        let places = [window.find(&stored(&first)), window.find(&stored(&second))];
        let len = stored(&first).len() + 4;
        let swap = || {
            let one = window.overwrite(places[0], &vec![0; len]);
            let two = window.overwrite(places[1], &one);
            window.overwrite(places[0], &two);
        };
        // There and back: nothing has happened.
        swap();
        swap();
        assert_eq!(cache.get(&1).as_deref(), Some(&first[..]));
        assert_eq!(cache.get(&2).as_deref(), Some(&second[..]));
        swap();
        assert_eq!((cache.get(&1), cache.get(&2)), (None, None));
        let told = told.lock().unwrap();
        assert_eq!(*told, [(1, RemovalCause::Corrupt, false), (2, RemovalCause::Corrupt, false)]);
        assert_eq!(cache.stats().removals.corrupt, 2);
        drop(told);
        cache.check();
    }
}

#[test]
fn a_payload_overwritten_with_anything_is_never_returned() {
    let (cache, window, _) = open(|config| config.checksum(true));
    let mut random = Random::new(8);
    for round in 0..500 {
        let page = page(round, 600 + random.below(1000));
        let payload = lz4(&page);
        cache.insert(KEY, &page).unwrap();
        let junk = match round % 4 {
            0 => vec![0; payload.len() + 4],
            1 => vec![0xff; payload.len() + 4],
            2 => pattern::bytes(round, payload.len() + 4),
            // Another page's payload, whole or in part.
            _ => {
                let mut other = lz4(&self::page(round + 10_000, 1600));
                other.truncate(payload.len() + 4);
                other
            }
        };
        window.overwrite(window.find(&payload), &junk);
        assert!(!look(&cache, round as usize, &page), "round {round}");
    }
    assert_eq!(cache.stats().removals.corrupt, 500);
    cache.check();
}

/// A cache over pages that fail on demand.
fn faulty(checksum: bool) -> (Cache<u64>, Arc<Switch>) {
    let (source, switch) = Faulty::new(Ram::new(4096).0);
    let config = Config::new(2 << 20).max_page(LONGEST).shards(2).checksum(checksum);
    (Cache::new(config.page_source(source)).unwrap(), switch)
}

#[test]
fn a_page_source_that_fails_once_costs_one_page_at_the_most() {
    for checksum in [false, true] {
        for nth in 1..30 {
            let (cache, switch) = faulty(checksum);
            for key in 0..100 {
                cache.insert(key, &page(key, 3000)).unwrap();
            }
            switch.arm(nth, false);
            let mut lost = 0;
            for key in 0..100 {
                let new = page(key + 500, 3000);
                match cache.insert(key, &new) {
                    Ok(()) => {
                        let got = cache.get(&key);
                        lost += usize::from(got.is_none());
                        assert!(got.is_none_or(|got| got == new), "call {nth}, key {key}");
                    }
                    Err(error) => {
                        assert!(matches!(error, InsertError::NoRoom { .. }), "{error}");
                        assert!(cache.get(&key).is_none(), "never stale");
                        lost += 1;
                    }
                }
            }
            assert_eq!(switch.failed(), 1);
            assert!(lost <= 1, "call {nth}: {lost} pages lost");
            cache.check();
        }
    }
}

#[test]
fn a_page_source_that_fails_for_ever_makes_misses_and_errors_until_it_works_again() {
    for checksum in [false, true] {
        let (cache, switch) = faulty(checksum);
        for key in 0..1000 {
            cache.insert(key, &page(key, 3000)).unwrap();
        }
        switch.arm(1, true);
        for key in 0..200 {
            let new = page(key + 500, 3000);
            assert!(cache.insert(key, &new).is_err(), "nothing can be written");
            assert!(cache.get(&key).is_none(), "never stale");
        }
        cache.keys().iter().for_each(|key| assert!(cache.get(key).is_none()));
        cache.compact(1 << 20);
        cache.trim();
        switch.disarm();
        cache.check();
        for key in 0..1000 {
            cache.insert(key, &page(key, 3000)).unwrap();
            assert_eq!(cache.get(&key).as_deref(), Some(&page(key, 3000)[..]));
        }
        cache.clear();
        cache.trim();
        cache.check();
        assert_eq!(cache.stats().bytes.pages, 0);
    }
}
