//! The stages of a phase, which follow each other on one cache, and the pages that their keys have.
//! ```text
//! key: stage 24 | number 40      mix and sweep have stage 0: their pages have versions
//! ```
//! A page of the other stages depends on its key alone. So every hit can be verified, whoever
//! inserted the page and however often.

use ::tests::corpus::PageFile;
use ::tests::pattern::{self, Random};
use zcache::{Cache, MAX_PIECE};

/// Threads that work in the herd's stage.
pub(crate) const HERD: usize = 64;
/// Lengths of tiny pages in bytes: the least, and the number of lengths.
const TINY: (usize, usize) = (20, 141);
/// The bit of a key at which its stage begins.
const SHIFT: u32 = 40;

/// What the threads of a phase do for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// All calls, on pages that have versions.
    Mix,
    /// Inserts of zero pages under new keys, and look-ups of some of them.
    Zeros,
    /// Inserts of pages of 20 to 160 bytes under new keys, and look-ups of some of them.
    Tiny,
    /// [`HERD`] threads insert and look up pages of all lengths up to the longest.
    Herd,
    /// The mix, while the capacity goes from the greatest to the least and back.
    Sweep,
    /// One thread fills the cache.
    Fill,
}

impl Stage {
    /// The stages in which threads work, in their order. The sweep is the last one, so that what
    /// the others left behind is measured in a cache of the full capacity that was a small one
    /// before.
    pub(crate) const WORKED: [Self; 5] =
        [Self::Mix, Self::Zeros, Self::Tiny, Self::Herd, Self::Sweep];

    /// The stage's part of a phase's time. What is left is for the fills at the end.
    pub(crate) const fn share(self) -> f64 {
        match self {
            Self::Mix => 0.35,
            Self::Zeros | Self::Tiny => 0.1,
            Self::Herd | Self::Sweep => 0.15,
            Self::Fill => 0.15,
        }
    }

    /// Whether its pages have versions.
    pub(crate) const fn is_mixed(self) -> bool {
        matches!(self, Self::Mix | Self::Sweep)
    }

    /// The stage's key of this number.
    pub(crate) const fn key(self, number: u64) -> u64 {
        (if self.is_mixed() { 0 } else { self as u64 }) << SHIFT | number
    }

    /// The stage whose page `key` has, which is the mix for all pages that have versions.
    pub(crate) fn of(key: u64) -> Self {
        let all = [Self::Zeros, Self::Tiny, Self::Herd, Self::Fill];
        all.into_iter().find(|stage| key >> SHIFT == *stage as u64).unwrap_or(Self::Mix)
    }
}

/// The longest page of a phase: the largest there may be, or less where [`HERD`] threads that have
/// two buffers of it each would need all of the capacity.
pub(crate) fn longest(capacity: usize, files: &[PageFile]) -> usize {
    let file = files.iter().map(PageFile::page_size).max().unwrap_or(0);
    (capacity / (2 * HERD)).min(MAX_PIECE).max(file)
}

/// Writes the page of `key`, whose stage has no versions, to `to`, in the place of what is in it.
pub(crate) fn write(key: u64, files: &[PageFile], longest: usize, to: &mut Vec<u8>) {
    let mut random = Random::new(key);
    let file = &files[random.below(files.len())];
    to.clear();
    match Stage::of(key) {
        Stage::Zeros => to.resize(1 + random.below(file.page_size()), 0),
        Stage::Tiny => {
            to.resize(TINY.0 + random.below(TINY.1), 0);
            pattern::words(1, key, to);
            to[..8].copy_from_slice(&key.to_le_bytes());
        }
        Stage::Herd => {
            let len = 8 + random.below(longest - 7);
            to.extend(key.to_le_bytes());
            while to.len() < len {
                let page = file.page(random.below(file.pages().len()));
                to.extend_from_slice(&page[..page.len().min(len - to.len())]);
            }
        }
        Stage::Fill => {
            to.extend_from_slice(file.page(random.below(file.pages().len())));
            to[..8].copy_from_slice(&key.to_le_bytes());
        }
        Stage::Mix | Stage::Sweep => panic!("key {key}: its pages have versions"),
    }
}

/// Verifies a page that was found under `key`. `room` is working memory.
pub(crate) fn verify(
    key: u64,
    page: &[u8],
    files: &[PageFile],
    longest: usize,
    room: &mut Vec<u8>,
) {
    write(key, files, longest, room);
    assert!(page == &room[..], "key {key:#x}: wrong bytes, {} of {}", page.len(), room.len());
}

/// What a cache holds, on average over some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Entries.
    pub(crate) entries: usize,
    /// Bytes that the entries' pages take as they are stored.
    pub(crate) payload: usize,
}

impl Held {
    /// How many entries it has for each of `fresh`.
    pub(crate) fn of_entries(self, fresh: Self) -> f64 {
        self.entries as f64 / fresh.entries.max(1) as f64
    }

    /// How much it has of what `fresh` has, by entries or by payload, whichever is more. Entries
    /// that stayed from before are larger or smaller than those of the fill. Tables and contexts
    /// that nobody needs make both less.
    pub(crate) fn of_either(self, fresh: Self) -> f64 {
        self.of_entries(fresh).max(self.payload as f64 / fresh.payload.max(1) as f64)
    }
}

/// Inserts from one look at a cache that is filled to the next.
const LOOK: u64 = 32;

/// Fills a cache with `count` pages, the same ones for every cache. Without a count it takes as
/// many as evict twice the entries that the cache holds, so that most pages find a full cache.
/// Gives what the cache holds, and the count. What a full cache of a few MiB holds swings by some
/// percent, as free slots add up and come free, so it is looked at many times in the second half.
pub(crate) fn fill(
    cache: &Cache<u64>,
    files: &[PageFile],
    count: Option<u64>,
    room: &mut Vec<u8>,
) -> (Held, u64) {
    let before = cache.stats().removals.evicted;
    let is_full = || cache.stats().removals.evicted - before >= 2 * cache.len() as u64;
    let (mut number, mut looks) = (0, Vec::new());
    while count.map_or_else(|| number % 256 > 0 || number == 0 || !is_full(), |all| number < all) {
        let key = Stage::Fill.key(number);
        write(key, files, 0, room);
        cache.insert(key, room).unwrap_or_else(|error| panic!("key {key:#x}: {error}"));
        number += 1;
        if number % LOOK == 0 {
            looks.push((cache.len(), cache.stats().bytes.payload));
        }
    }
    let late = &looks[looks.len() / 2..];
    let mean = |sum: usize| sum / late.len().max(1);
    let entries = mean(late.iter().map(|(entries, _)| entries).sum());
    let payload = mean(late.iter().map(|(_, payload)| payload).sum());
    (Held { entries, payload }, number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::tests::corpus;

    #[test]
    fn every_stage_has_keys_of_its_own() {
        for stage in [Stage::Zeros, Stage::Tiny, Stage::Herd, Stage::Fill] {
            for number in [0, 1, (1 << SHIFT) - 1] {
                assert_eq!(Stage::of(stage.key(number)), stage);
            }
        }
        assert_eq!(Stage::of(Stage::Sweep.key(7)), Stage::Mix);
        let shares: f64 = Stage::WORKED.map(Stage::share).iter().sum();
        assert!((shares + Stage::Fill.share() - 1.0).abs() < 1e-9, "all of the time is given");
    }

    #[test]
    fn pages_have_the_lengths_that_their_stage_says() {
        let (files, mut page) = ([corpus::sample()], Vec::new());
        let longest = longest(64 << 20, &files);
        assert_eq!(longest, MAX_PIECE);
        let mut most = 0;
        for number in 0..2000 {
            write(Stage::Zeros.key(number), &files, longest, &mut page);
            assert!(page.iter().all(|byte| *byte == 0) && !page.is_empty());
            write(Stage::Tiny.key(number), &files, longest, &mut page);
            assert!((20..=160).contains(&page.len()));
            write(Stage::Herd.key(number), &files, longest, &mut page);
            most = most.max(page.len());
            assert!(page.len() <= longest);
        }
        assert!(most > longest / 10 * 9, "{most} bytes");
    }

    #[test]
    #[should_panic(expected = "wrong bytes")]
    fn a_page_of_another_key_is_found_out() {
        let (files, mut page) = ([corpus::sample()], Vec::new());
        write(Stage::Tiny.key(1), &files, 100, &mut page);
        verify(Stage::Tiny.key(2), &page, &files, 100, &mut Vec::new());
    }

    #[test]
    fn a_cache_whose_tables_take_room_holds_less_by_both() {
        let held = |entries, payload| Held { entries, payload };
        let fresh = held(1000, 1_000_000);
        assert!(held(900, 1_000_000).of_either(fresh) >= 1.0, "old long pages");
        assert!(held(2000, 900_000).of_either(fresh) >= 1.0, "old tiny pages");
        assert!(held(960, 960_000).of_either(fresh) < 0.97);
        assert!(held(960, 1_000_000).of_entries(fresh) < 0.97);
    }

    #[test]
    fn a_fill_without_a_count_fills_the_cache_and_the_next_one_does_the_same() {
        let (files, mut room) = ([corpus::sample()], Vec::new());
        // A hot share that goes by the times of hits differs from cache to cache.
        let config = || zcache::Config::new(2 << 20).max_page(8192).hot(zcache::HotShare::Off);
        let first = Cache::new(config()).expect("a capacity that will do");
        let (held, count) = fill(&first, &files, None, &mut room);
        assert!(held.entries > 0 && first.stats().removals.evicted >= 2 * first.len() as u64);
        let second = Cache::new(config()).expect("the same");
        let (fresh, same) = fill(&second, &files, Some(count), &mut room);
        assert_eq!(same, count);
        assert!(held.of_entries(fresh) >= 0.97, "{held:?}, {fresh:?}");
    }
}
