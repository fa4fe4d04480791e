//! A stretch of a trace, replayed against one cache by one thread, its hits timed one by one.

use std::sync::OnceLock;
use std::time::Instant;

use benches::arguments::Failure;
use zcache::{Cache, Stats};

use super::share::Hasher;
use super::tally::{Kind, Tally};
use crate::contestant::Contestant;
use crate::quantiles::clock;
use crate::replay::verify;
use crate::stage::{Stage, WRITE};

/// One request in so many is compared with the file, where it is a hit, and told what kind of hit
/// it was.
const SAMPLED: u32 = 128;

/// What two looks at the clock take of a time between them: taken off each.
fn look() -> u64 {
    static LOOK: OnceLock<u64> = OnceLock::new();
    *LOOK.get_or_init(clock)
}

/// Replays `requests`: a read is looked up, and filled from the file where it misses; a write
/// stores the page. What is sampled goes by `seed`: the same for every cache.
pub(crate) fn replay(
    cache: &Cache<u64, Hasher>,
    stage: &Stage,
    requests: &[u32],
    seed: u64,
) -> Result<Tally, Failure> {
    let (mut tally, mut to) = (Tally::default(), vec![0; stage.page_size]);
    let (look, hot_before) = (look(), cache.stats().hot_hits);
    let mut random = fastrand::Rng::with_seed(seed);
    for request in requests {
        let number = request & !WRITE;
        let key = u64::from(number);
        if request & WRITE != 0 {
            Contestant::insert(cache, key, stage.page(number));
            continue;
        }
        tally.requests += 1;
        let before = (random.u32(..SAMPLED) == 0).then(|| cache.stats());
        let start = Instant::now();
        let hit = Contestant::get(cache, key, &mut to);
        let time = (start.elapsed().as_nanos() as u64).saturating_sub(look);
        if !hit {
            Contestant::insert(cache, key, stage.page(number));
            continue;
        }
        tally.hits += 1;
        let counts = tally.time(time);
        let Some(before) = before else { continue };
        verify(number, &to, stage.page(number))?;
        if counts {
            tally.sample(kind(&before, &cache.stats()), time);
        }
    }
    tally.hot_hits = cache.stats().hot_hits - hot_before;
    Ok(tally)
}

/// What the hit was that there is between two looks at the statistics.
fn kind(before: &Stats, after: &Stats) -> Kind {
    if after.hot_hits > before.hot_hits {
        Kind::Hot
    } else if after.promotions > before.promotions {
        Kind::Promoting
    } else {
        Kind::Decoded
    }
}

#[cfg(test)]
mod tests {
    use zcache::{Config, HotShare};

    use super::*;

    #[test]
    fn hits_are_counted_timed_and_told_apart() {
        let stage = Stage {
            page_size: 4096,
            bytes: (0..3 * 4096_u32).map(|at| (at / 9) as u8).collect(),
            page_of: vec![0, 1, 2],
            requests: [0, 1 | WRITE].into_iter().chain((0..3000).map(|at| at % 3)).collect(),
            ..Stage::default()
        };
        let config = Config::new(16 << 20).max_page(4096).hot(HotShare::Fraction(2));
        let cache = Cache::with_hasher(config, Hasher::default()).unwrap();
        let tally = replay(&cache, &stage, &stage.requests, 1).unwrap();
        assert_eq!((tally.requests, tally.hits), (3001, 2999));
        assert!(tally.hot_hits > 2900 && tally.hot_hits < 2999, "{tally:?}");
        assert!(tally.hit().is_some() && tally.hit_of(Kind::Hot).is_some(), "{tally:?}");
        assert_eq!(tally.hot_hits, cache.stats().hot_hits);
    }

    #[test]
    fn a_wrong_page_is_found_by_the_sample() {
        let stage = Stage {
            page_size: 4096,
            bytes: vec![1; 4096],
            page_of: vec![0],
            requests: vec![0; 4000],
            ..Stage::default()
        };
        let config = Config::new(16 << 20).max_page(4096);
        let cache = Cache::with_hasher(config, Hasher::default()).unwrap();
        cache.insert(0, &[2; 4096]).unwrap();
        let error = replay(&cache, &stage, &stage.requests, 1).unwrap_err().to_string();
        assert!(error.contains("page 0 differs"), "{error}");
    }
}
