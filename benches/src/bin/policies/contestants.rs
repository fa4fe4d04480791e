//! Who plays.

use benches::arguments::Failure;
#[cfg(feature = "peers")]
use foyer_memory::{CacheBuilder, S3FifoConfig};
use tests::driven::{Driven, Hits};
use zcache::policy::{Lru, S3Fifo, Sieve};

use crate::arc::Arc;
use crate::played::Played;

/// The hits of a trace at a number of entries.
type Play = fn(&Played, usize) -> usize;

/// A policy, by name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) play: Play,
}

/// The one that the others are held against.
pub(crate) const RIVAL: &str = "quick_cache";

/// Hits of something that says of each page whether it was there.
fn count(trace: &Played, mut request: impl FnMut(u32) -> bool) -> usize {
    trace.pages.iter().filter(|page| request(**page)).count()
}

fn driven(
    policy: impl zcache::policy::Policy,
    hits: Hits,
    trace: &Played,
    entries: usize,
) -> usize {
    Driven::new(policy, hits, entries, trace.distinct).play(&trace.pages)
}

/// All of them.
pub(crate) fn all() -> Vec<Contestant> {
    let ours: [(&str, Play); 6] = [
        ("s3-fifo", |trace, entries| driven(S3Fifo::new(), Hits::Mark, trace, entries)),
        ("s3-fifo-plain", |trace, entries| driven(S3Fifo::plain(), Hits::Mark, trace, entries)),
        ("sieve", |trace, entries| driven(Sieve::new(), Hits::Mark, trace, entries)),
        ("clock", |trace, entries| driven(Lru::new(), Hits::Mark, trace, entries)),
        ("lru", |trace, entries| driven(Lru::new(), Hits::Touch, trace, entries)),
        ("arc", |trace, entries| {
            let mut arc = Arc::new(entries, trace.distinct);
            count(trace, |page| arc.request(page))
        }),
    ];
    let all = ours.into_iter();
    #[cfg(feature = "peers")]
    let all = {
        let peers: [(&str, Play); 3] = [
            ("moka", |trace, entries| {
                let (cache, mut asked) = (moka::sync::Cache::new(entries as u64), 0);
                count(trace, |page| {
                    let hit = cache.get(&page).is_some();
                    if !hit {
                        cache.insert(page, ());
                    }
                    // It hears of hits from a queue, which is worked off now and then.
                    asked += 1;
                    if !hit || asked % 32 == 0 {
                        cache.run_pending_tasks();
                    }
                    hit
                })
            }),
            (RIVAL, |trace, entries| {
                let mut cache = quick_cache::unsync::Cache::new(entries);
                count(trace, |page| {
                    let hit = cache.get(&page).is_some();
                    if !hit {
                        cache.insert(page, ());
                    }
                    hit
                })
            }),
            ("foyer", |trace, entries| {
                let builder = CacheBuilder::new(entries).with_shards(1);
                let cache: foyer_memory::Cache<u32, ()> =
                    builder.with_eviction_config(S3FifoConfig::default()).build();
                count(trace, |page| {
                    let hit = cache.get(&page).is_some();
                    if !hit {
                        cache.insert(page, ());
                    }
                    hit
                })
            }),
        ];
        all.chain(peers)
    };
    all.map(|(name, play)| Contestant { name, play }).collect()
}

/// The one called `name`.
pub(crate) fn named(name: &str) -> Result<Contestant, Failure> {
    let all = all();
    let names = || all.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    let found = all.iter().find(|one| one.name == name).copied();
    found.ok_or_else(|| format!("no policy {name:?}: one of {}", names()).into())
}
