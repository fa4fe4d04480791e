//! Every bit of a stored payload flipped in turn, every torn write and two payloads in each other's
//! place, for each codec and several kinds of pages. With checksums none gets through; without them
//! an error comes of it, or a page of the right length that depends on the payload alone.
#![cfg(not(zcache_loom))]
#![allow(clippy::print_stdout, reason = "figures for who asks for them by --nocapture")]

use tests::corpus;
use tests::pattern::{self, Random};
use tests::ram::{At, Ram, Window};
use zcache::codec::{self, Codec, Dictionary, Lz4, Zstd};
use zcache::{Cache, Config};

const LEN: usize = 1100;
const KEY: u64 = 7;
/// Bytes of a checksum.
const CHECKSUM: usize = 4;

fn codecs() -> Vec<std::sync::Arc<dyn Codec>> {
    let sample = corpus::sample();
    let samples: Vec<&[u8]> = sample.pages().step_by(2).collect();
    let dictionary = Dictionary::train(&samples, 8 << 10).unwrap();
    vec![
        std::sync::Arc::new(Lz4),
        std::sync::Arc::new(Zstd::level(3).unwrap()),
        std::sync::Arc::new(Zstd::level(-5).unwrap()),
        std::sync::Arc::new(Zstd::level(3).unwrap().with_dictionary(&dictionary)),
        std::sync::Arc::new(codec::Plain),
    ]
}

/// Real bytes; few values in runs; text with numbers; half random, half not.
fn pages() -> Vec<Vec<u8>> {
    let sample = corpus::sample();
    let real = sample.page(40)[sample.page_size() - LEN..].to_vec();
    let mut random = Random::new(3);
    let mut runs = Vec::new();
    while runs.len() < LEN {
        let (byte, len) = (random.below(12) as u8, 1 + random.below(70));
        runs.extend(std::iter::repeat_n(byte, len));
    }
    runs.truncate(LEN);
    let line = |at: usize| format!("{at}: page {} of relation {}\n", at * 7919 % 1000, at % 7);
    let mut text: Vec<u8> = (0..100).flat_map(|at| line(at).into_bytes()).collect();
    text.truncate(LEN);
    let mut half = vec![9; LEN];
    pattern::fill(5, &mut half[..LEN / 3]);
    vec![real, runs, text, half]
}

struct Field {
    cache: Cache<u64>,
    window: Window,
    page: Vec<u8>,
    payload: Vec<u8>,
    at: Option<At>,
}

/// What the cache stores for a page.
fn payload(codec: &dyn Codec, page: &[u8]) -> Vec<u8> {
    if codec.is_plain() {
        return page.to_vec();
    }
    let mut to = vec![0; page.len() - 1];
    let len = codec.context(4096).unwrap().compress(page, &mut to).unwrap();
    to.truncate(len);
    to
}

impl Field {
    fn new(codec: &std::sync::Arc<dyn Codec>, page: &[u8], checksum: bool) -> Self {
        let (source, window) = Ram::new(4096);
        // So large that an object goes where the one before it was, which is found at once.
        let config = Config::new(8 << 20).max_page(4096).shards(2).codec(codec.clone());
        let cache = Cache::new(config.checksum(checksum).page_source(source)).unwrap();
        let payload = payload(&**codec, page);
        Self { cache, window, page: page.to_vec(), payload, at: None }
    }

    /// Stores the page anew; where its payload stands.
    fn store(&mut self) -> At {
        self.cache.insert(KEY, &self.page).unwrap();
        let at = match self.at {
            Some(at) if self.window.stands(at, &self.payload) => at,
            _ => self.window.find(&self.payload),
        };
        self.at = Some(at);
        at
    }

    /// What is found, into buffers of either content; the two are the same.
    fn read(&self) -> Option<Vec<u8>> {
        let (mut zeros, mut ones) = (vec![0; LEN + 9], vec![0xff; LEN + 9]);
        let first = self.cache.get_into(&KEY, &mut zeros).unwrap();
        let second = self.cache.get_into(&KEY, &mut ones).unwrap();
        assert_eq!(first, second);
        let len = first?;
        assert_eq!(len, LEN, "the length is the cache's, never the payload's");
        assert!(zeros[..len] == ones[..len], "old bytes of the buffer stand in the page");
        assert!(zeros[len..] == [0; 9] && ones[len..] == [0xff; 9], "bytes behind the page");
        zeros.truncate(len);
        Some(zeros)
    }
}

/// Every way to damage an object of so many bytes, as what to do with it there.
#[derive(Debug, Clone, Copy)]
enum Damage {
    /// Flip a bit.
    Bit(usize),
    /// Only so many bytes were written; zeros follow.
    Torn(usize),
}

fn damages(bytes: usize) -> impl Iterator<Item = Damage> {
    (0..bytes * 8).map(Damage::Bit).chain((0..bytes).map(Damage::Torn))
}

/// Does it; `false` if that changes nothing.
fn damage(window: &Window, at: At, object: usize, how: Damage) -> bool {
    match how {
        Damage::Bit(bit) => {
            window.flip(at, bit / 8, 1 << (bit % 8));
            true
        }
        Damage::Torn(from) => {
            let all = window.overwrite(at, &vec![0; object]);
            let mut torn = all.clone();
            torn[from..].fill(0);
            window.overwrite(at, &torn);
            torn != all
        }
    }
}

#[test]
fn with_checksums_nothing_damaged_gets_through_any_codec() {
    let (mut caught, mut kinds) = (0, 0);
    for codec in codecs() {
        for page in pages() {
            let mut field = Field::new(&codec, &page, true);
            let object = field.payload.len() + CHECKSUM;
            for how in damages(object) {
                let at = field.store();
                if !damage(&field.window, at, object, how) {
                    continue;
                }
                let got = field.read();
                assert!(got.is_none(), "{}: {how:?} got through", codec.name());
                caught += 1;
            }
            kinds += 1;
            assert!(field.store() == field.at.unwrap() && field.read() == Some(page));
            field.cache.check();
        }
    }
    println!("damaged payloads with checksums: all {caught} caught, {kinds} kinds");
    assert!(caught > 50_000, "{caught}");
}

#[test]
fn without_checksums_damage_gives_an_error_or_a_page_of_the_right_length() {
    let mut total = [0; 3];
    for codec in codecs() {
        let [mut refused, mut wrong, mut right] = [0; 3];
        for page in pages() {
            let mut field = Field::new(&codec, &page, false);
            let object = field.payload.len();
            for how in damages(object) {
                let at = field.store();
                if !damage(&field.window, at, object, how) {
                    continue;
                }
                let before = field.cache.stats().removals.corrupt;
                match field.read() {
                    // A bit of no consequence, such as one in a hint of zstd's.
                    Some(got) if got == page => right += 1,
                    Some(_) => wrong += 1,
                    None => {
                        assert_eq!(field.cache.stats().removals.corrupt, before + 1);
                        refused += 1;
                    }
                }
            }
            field.cache.check();
        }
        println!(
            "damaged payloads without checksums, {}: {refused} refused, {wrong} wrong pages of the \
             right length, {right} pages unharmed",
            codec.name(),
        );
        // That is what checksums are for.
        assert!(wrong > 1000, "{wrong}");
        assert_eq!(refused == 0, codec.is_plain(), "{refused}");
        total = [total[0] + refused, total[1] + wrong, total[2] + right];
    }
    assert!(total.iter().sum::<usize>() > 50_000, "{total:?}");
}

#[test]
fn two_payloads_in_each_others_place_are_noticed_under_any_codec() {
    for codec in codecs() {
        let page = |seed: u64| {
            let mut page = b"two of a kind, two of a kind, ".repeat(40);
            pattern::fill(seed, &mut page[300..340 + seed as usize % 3]);
            page.truncate(LEN);
            page
        };
        let first = page(3);
        let stored = payload(&*codec, &first);
        let same = |other: &Vec<u8>| payload(&*codec, other).len() == stored.len();
        let second = (4..3000).map(page).find(same).unwrap();
        for checksum in [true, false] {
            let field = Field::new(&codec, &first, checksum);
            field.cache.insert(KEY, &first).unwrap();
            field.cache.insert(KEY + 1, &second).unwrap();
            let len = stored.len() + if checksum { CHECKSUM } else { 0 };
            let places =
                [field.window.find(&stored), field.window.find(&payload(&*codec, &second))];
            let one = field.window.overwrite(places[0], &vec![0; len]);
            let two = field.window.overwrite(places[1], &one);
            field.window.overwrite(places[0], &two);
            let got = [field.cache.get(&KEY), field.cache.get(&(KEY + 1))];
            if checksum {
                assert_eq!(got, [None, None], "{}", codec.name());
            } else {
                // Each is whole and the other's: nothing but a checksum with the key in it can
                // tell.
                assert!(got[0].as_deref() == Some(&second[..]), "{}", codec.name());
                assert!(got[1].as_deref() == Some(&first[..]), "{}", codec.name());
            }
            field.cache.check();
        }
    }
}
