//! How a cache comes to be.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::io;
use std::time::Duration;

use zpool::source::heap_cost;
use zpool::{Pool, SourceKind, Words};

use super::Cache;
use super::maintain::{found_training, strength};
use crate::codec::{Codec, Lz4, candidates};
use crate::config::{Config, HotShare, HugePages, Source};
use crate::error::{ConfigError, MAX_PAGE, MAX_PIECE};
use crate::hot::Hot;
use crate::index::{Flights, Table};
use crate::stats::Counters;
use crate::store::{Coders, Large, Memory, Scratch, Store, TRAILER, context_bytes, context_size};
use crate::sync::{Arc, Charge, MIXED};
use crate::tier::{ASIDE, Removal, Tier, aside};
use crate::worth::{Purpose, Scales};

/// The pages that zpool's heap source takes at once, in bytes.
const HEAP_REGION: usize = 256 << 10;

/// A cap in bytes under which a pool can be made, whatever its largest object is.
const LEAST_CAP: usize = 1 << 20;

/// The least capacity in bytes for huge pages: below, 2 MiB are too large a part.
const LEAST_HUGE: usize = 64 << 20;

/// Threads that can run at once: processors, of which 64 are counted at most.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 64)
}

impl<K: Hash + Eq + Clone + Send + Sync> Cache<K> {
    /// A cache as `config` says, with a hasher seeded at random.
    ///
    /// ```
    /// use zcache::{Cache, Config, ConfigError};
    ///
    /// let cache: Cache<u64> = Cache::new(Config::new(64 << 20).max_page(8192))?;
    /// assert!(cache.is_empty() && cache.held_bytes() < 1 << 20);
    /// // The least capacity depends on the settings, and the error says it.
    /// let refused = Cache::<u64>::new(Config::new(1000));
    /// assert!(matches!(refused, Err(ConfigError::TooSmall { least }) if least > 1000));
    /// # Ok::<(), ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_hasher(config, RandomState::new())
    }
}

impl<K: Hash + Eq + Clone + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// A cache that hashes its keys by `hasher`. A hasher whose results can be foreseen lets
    /// whoever chooses the keys make them collide; the entries of colliding keys are searched one
    /// by one.
    ///
    /// Keys are cloned for pages that are kept [hot](Config::hot). A key that cannot be goes into
    /// an `Arc`, which look-ups by `&K` see through if `Arc<K>` is hashed as `K` is.
    ///
    /// # Errors
    /// See [`ConfigError`].
    #[doc(alias = "build_with_hasher")]
    pub fn with_hasher(config: Config, hasher: S) -> Result<Self, ConfigError> {
        let shards = config.shard_count()?;
        let (cold, training) = strength(&config)?;
        let Config {
            capacity,
            max_page,
            codec,
            policy,
            checksum,
            always_compress,
            time_to_live,
            source,
            huge_pages,
            hot,
            miss_cost,
            ..
        } = config;
        let finds = codec.is_none() && cold.is_none() && training.is_none();
        let codec = codec.unwrap_or_else(|| Arc::new(Lz4));
        if max_page == 0 || max_page > MAX_PAGE {
            return Err(ConfigError::MaxPage(max_page));
        }
        // Objects of up to 64 KiB have lengths of 2 bytes: beyond that nothing is added without
        // need.
        let piece = max_page.min(MAX_PIECE);
        let all = checksum || time_to_live.is_some() || max_page > MAX_PIECE;
        let trailed = all || piece + TRAILER <= 64 << 10;
        let trailer = if trailed { TRAILER } else { 0 };
        let settings = zpool::Config::new().max_object(piece + trailer).mixed_up_to(MIXED);
        // The pool reserves address space by its cap. A capacity that is too small is refused
        // below.
        let settings = settings.max_bytes(capacity.max(LEAST_CAP));
        let heap = match source {
            Source::Default => !cfg!(unix),
            Source::Kind(SourceKind::Heap) => true,
            Source::Kind(_) | Source::Own(_) => false,
        };
        let pool: Result<Memory<K>, _> = match source {
            Source::Default => Pool::new(with_huge_pages(settings, huge_pages, capacity)),
            Source::Kind(kind) => Pool::new(settings.source(kind)),
            Source::Own(source) => match source.lock().take() {
                Some(source) => Pool::with_boxed_source(settings, source),
                None => return Err(ConfigError::SourceTaken),
            },
        };
        let pool = pool.map_err(ConfigError::Pool)?;
        // Tables that threads share are made for a power of two of them.
        let (cores, threads) = (cores(), cores().next_power_of_two().max(2));
        // More threads than cores may use the cache, and sleep in between.
        let counting = (2 * threads).max(8);
        let own = size_of::<Self>()
            + heap_cost(size_of::<Tier<K>>())
            + Store::<K>::BYTES
            + Table::fixed_bytes(shards)
            + Flights::<K>::FIXED_BYTES
            + Scratch::fixed_bytes(cores)
            + Counters::fixed_bytes(counting);
        // A codec or a policy of the user's may say anything: no capacity holds what overflows.
        let cold_shared = cold.as_ref().map_or(0, |codec| codec.shared_bytes());
        let own = own + if max_page > MAX_PIECE { Large::FIXED_BYTES } else { 0 };
        let charged = own.saturating_add(codec.shared_bytes()).saturating_add(cold_shared);
        let fixed = charged.saturating_add(policy.bytes());
        // The heap source takes and gives back its pages by regions.
        let regions = if heap { 2 * HEAP_REGION } else { 0 };
        let working = working_bytes::<K>(piece, &*codec)
            .saturating_add(long_bytes(max_page))
            .saturating_add(cold.as_ref().map_or(0, |cold| context_bytes(piece, &**cold)))
            .saturating_add(training.as_ref().map_or(0, |(_, needed)| *needed));
        let needed = fixed
            .saturating_add(pool.held_bytes() + regions + Coders::BYTES)
            .saturating_add(working);
        // Those that there is room for, with all contexts at once.
        let mut others = if finds { candidates().split_off(1) } else { Vec::new() };
        let least_with = |others: &[Arc<dyn Codec>]| {
            let contexts = others.iter().map(|other| context_bytes(max_page, &**other));
            with_aside(contexts.fold(needed, usize::saturating_add))
        };
        while !others.is_empty() && capacity < least_with(&others) {
            others.pop();
        }
        let least = least_with(&others);
        if capacity < least {
            return Err(ConfigError::TooSmall { least });
        }
        for codec in [Some(&codec), cold.as_ref()].into_iter().flatten() {
            codec.context(context_size(piece)).map_err(ConfigError::Codec)?;
        }
        pool.set_max_bytes(capacity - aside(capacity));
        assert!(pool.charge(fixed), "{least} bytes hold the {fixed} of an empty cache");
        let training = training.map(|(training, _)| training);
        let training = training.or_else(|| found_training(&others, capacity));
        let coders = Coders::new(&pool, cold, training);
        let refused = |_| zpool::ConfigError::Source(io::ErrorKind::OutOfMemory.into());
        let mut coders = coders.map_err(|error| ConfigError::Pool(refused(error)))?;
        coders.set_others(&others);
        let scratch = Scratch::new(cores, capacity);
        let store = Store::new(pool, codec, coders, scratch, checksum, always_compress, max_page);
        let index = Table::new(shards, &store.pool);
        let counters = Counters::new(counting);
        let tier = Box::new(Tier::new(store, index, policy, counters, capacity, K::clone));
        let mut cache = Self { tier, hasher, time_to_live, charged, least };
        let frames = Hot::<K>::fixed_bytes(hot, capacity, least, threads);
        cache.keep_account(frames.is_some().then_some(hot), finds, miss_cost);
        cache.keep_hot(hot, threads);
        Ok(cache)
    }

    /// The account, if anything is to be found by it and there is room for it.
    fn keep_account(&mut self, share: Option<HotShare>, finds: bool, miss_cost: Option<Duration>) {
        let tier = &mut self.tier;
        let capacity = tier.capacity();
        let bytes = Scales::fixed_bytes(capacity, finds);
        let share = share.filter(|share| *share == HotShare::Auto);
        if share.is_none() && !finds || !tier.store.pool.charge(bytes) {
            return;
        }
        self.charged += bytes;
        self.least += with_aside(bytes);
        let limit = share.map(|share| share.limits(capacity, self.least).0);
        let purpose = Purpose { limit, codec: finds };
        tier.scales = Some(Arc::new(Scales::new(tier.standing(), purpose, miss_cost)));
    }

    /// Tables for frames, if there is room for them.
    fn keep_hot(&mut self, share: HotShare, threads: usize) {
        let tier = &mut self.tier;
        let capacity = tier.capacity();
        let Some(bytes) = Hot::<K>::fixed_bytes(share, capacity, self.least, threads) else {
            return;
        };
        let pool = &tier.store.pool;
        if !pool.charge(bytes) {
            return;
        }
        let least = self.least + with_aside(bytes);
        let limits = share.limits(capacity, least);
        let scales = tier.scales.clone().filter(|_| share == HotShare::Auto);
        if share == HotShare::Auto && scales.is_none() {
            return pool.release(bytes);
        }
        let Some(hot) = Hot::new(pool, share, limits, scales, threads, K::clone) else {
            return pool.release(bytes);
        };
        self.charged += bytes;
        self.least = least;
        tier.hot.insert(Box::new(hot)).start();
    }
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Has `hook` told of every entry that goes, be it replaced, removed, evicted, expired, cleared
    /// or corrupt, after it has gone, in the thread whose call made it go: see [`Removal`]. It is
    /// not told of entries that are dropped with the cache. A second call takes the place of the
    /// first one's hook.
    ///
    /// The hook may call the cache. An insert from inside it never evicts, and may use up the room
    /// that the outer insert was making; a removal from inside it calls the hook again. If the hook
    /// panics, so does the call that made the entry go. A hook that loads a page, as by
    /// `get_or_insert_with`, may wait for another caller's load, and a load that its own caller is
    /// about to store waits for the hook: two such callers can wait for each other for ever. (A
    /// hook that asks for the very key that its caller loads gets an error.) The cache owns the
    /// hook, so a hook that needs the cache holds it weakly:
    ///
    /// ```
    /// use std::sync::{Arc, Weak};
    /// use zcache::{Cache, Config, RemovalCause};
    ///
    /// let cache = Cache::<u64>::new(Config::new(1 << 20))?;
    /// let cache = Arc::new_cyclic(|weak: &Weak<Cache<u64>>| {
    ///     let weak = weak.clone();
    ///     cache.on_removal(move |gone| {
    ///         let Some(cache) = weak.upgrade() else { return };
    ///         if gone.cause() == RemovalCause::Evicted {
    ///             println!("{} was evicted; {} are left", gone.key(), cache.len());
    ///         }
    ///     })
    /// });
    /// # cache.insert(1, &[0; 512])?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("eviction_listener", "lifecycle", "event_listener"))]
    #[must_use]
    pub fn on_removal(mut self, hook: impl Fn(&Removal<'_, K>) + Send + Sync + 'static) -> Self {
        self.tier.set_hook(Box::new(hook));
        self
    }

    /// Has each key count for what `weight` gives: bytes of heap memory that the key points to,
    /// such as the capacity of a `String`. Without this they are not counted. They are charged to
    /// the capacity with the entry, and go back with it;
    /// [`ByteCounts::keys`](crate::ByteCounts::keys) says how many there are. The pieces of a page
    /// of more than 128 KiB have a clone of the key each.
    ///
    /// `weight` gives the same for a key at any time, and for its clones. It is called at an
    /// insert, before anything has changed, and once more when the entry ends; never for a hit. It
    /// must not use the cache. What it says wrongly is counted wrongly, but never more is held than
    /// the capacity allows. Clones of keys for [hot](Config::hot) pages are not counted, nor those
    /// of loads under way.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache: Cache<String> = Cache::new(Config::new(1 << 20))?.weigh_keys(String::capacity);
    /// let path = "/a/long/path/to/a/file/".repeat(20);
    /// let weight = path.capacity();
    /// cache.insert(path.clone(), &[7; 4096])?;
    /// assert_eq!(cache.stats().bytes.keys, weight);
    /// cache.remove(&path);
    /// assert_eq!(cache.stats().bytes.keys, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// The cache has entries, whose keys would not be counted.
    #[doc(alias = "weigher")]
    #[must_use]
    pub fn weigh_keys(mut self, weight: fn(&K) -> usize) -> Self {
        assert_eq!(self.tier.counters.entries(), 0, "keys that are there are not counted");
        self.tier.set_weigh(weight);
        self
    }
}

/// The settings with huge pages, where these are wanted and worth it.
fn with_huge_pages(
    settings: zpool::Config,
    huge_pages: HugePages,
    capacity: usize,
) -> zpool::Config {
    #[cfg(unix)]
    if huge_pages == HugePages::Auto && capacity >= LEAST_HUGE {
        let options = zpool::source::MmapOptions::new().huge_pages(true);
        return settings.source(SourceKind::Mmap(options));
    }
    let _ = (huge_pages, capacity);
    settings
}

/// So many bytes that `bytes` are left when what is set aside of them is gone.
pub(super) fn with_aside(bytes: usize) -> usize {
    bytes.saturating_add(bytes / (ASIDE - 1) + 1)
}

/// What one page needs that is cut into pieces.
fn long_bytes(max_page: usize) -> usize {
    if max_page <= MAX_PIECE {
        return 0;
    }
    let pieces = max_page.div_ceil(MAX_PIECE);
    pieces * (MAX_PIECE + TRAILER).next_multiple_of(4096) + Large::cost(pieces)
}

/// What the smallest cache needs beside its fixed parts to work at all: buffers, a context, a
/// table's first chunks, and room for two of the largest pages.
fn working_bytes<K>(max_page: usize, codec: &dyn crate::codec::Codec) -> usize {
    let object = (max_page + TRAILER).next_multiple_of(4096);
    // A look-up needs two where payloads have no address, and a buffer is there until its successor
    // is.
    let buffers = 3 * zpool::source::PageBuffer::cost(object);
    // Tables by id are pages: the pool's slots and lengths, the policy's nodes and ghosts.
    let pages = 2 * object + 16 * 4096 + 4 * Words::page_bytes();
    let rest = buffers + pages + 1024 * (size_of::<K>() + 64);
    context_bytes(max_page, codec).saturating_add(rest)
}
