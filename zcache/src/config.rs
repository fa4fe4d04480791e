//! What a cache is made of: plain data, validated once by [`Cache::new`](crate::Cache::new).

use std::time::Duration;

use zpool::source::PageSource;

use crate::codec::{Codec, Lz4};
use crate::error::ConfigError;
use crate::policy::{Policy, S3Fifo};
use crate::sync::{Arc, Mutex};

/// Where pages come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Default,
    Kind(zpool::SourceKind),
    /// The first cache that is made takes it.
    Own(Arc<Mutex<Option<Box<dyn PageSource>>>>),
}

/// Whether a cache lies on huge pages of the system's: see [`Config::huge_pages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HugePages {
    /// On huge pages of 2 MiB, where the capacity is 64 MiB or more and the system has them for
    /// those who ask. Elsewhere as with [`Off`](Self::Off).
    Auto,
    /// On pages of the usual size alone.
    #[default]
    Off,
}

/// How much of a cache's capacity holds pages decoded, as well as compressed: see
/// [`Config::hot`].
///
/// ```
/// use zcache::{Cache, Config, HotShare};
///
/// let share = HotShare::Fraction(16); // up to 4 MiB of frames
/// let cache = Cache::new(Config::new(64 << 20).hot(share))?;
/// let page: Vec<u8> = (0..4096).map(|at| (at / 9) as u8).collect();
/// cache.insert(7, &page)?;
/// for _ in 0..10 {
///     assert!(cache.read(&7, |found| found == page) == Some(true));
/// }
/// let stats = cache.stats();
/// // The second hit promoted it.
/// assert_eq!((stats.hits, stats.hot_hits, stats.frames), (10, 8, 1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum HotShare {
    /// As much as is worth more than compressed pages in its place, by what decodings and misses
    /// cost and by how many of them more of either would save. Free memory is used whatever it is
    /// worth; where room is needed, a sixteenth of the capacity stays at first.
    /// [`Stats::balance`](crate::Stats::balance) says how it stands and why.
    #[default]
    Auto,
    /// Nothing: all hits are decoded.
    Off,
    /// So many bytes, or what the least capacity leaves if that is less.
    Bytes(usize),
    /// One byte in so many of the capacity, or what the least capacity leaves of it if that is
    /// less; 0 is nothing.
    Fraction(u32),
}

/// The settings of a [`Cache`](crate::Cache).
///
/// ```
/// use std::time::Duration;
/// use zcache::{Config, policy::Sieve};
///
/// let config = Config::new(64 << 20) // bytes of resident memory, everything counted
///     .policy(Sieve::new())
///     .max_page(16 << 10)
///     .time_to_live(Duration::from_secs(300))
///     .checksum(true);
/// # let _ = config;
/// ```
#[doc(alias("CacheBuilder", "OptionsBuilder"))]
#[derive(Debug)]
pub struct Config {
    pub(crate) capacity: usize,
    pub(crate) max_page: usize,
    /// `None`: one is found.
    pub(crate) codec: Option<Arc<dyn Codec>>,
    pub(crate) cold_codec: Option<Arc<dyn Codec>>,
    pub(crate) dictionary_bytes: usize,
    pub(crate) policy: Box<dyn Policy>,
    pub(crate) checksum: bool,
    pub(crate) always_compress: bool,
    pub(crate) time_to_live: Option<Duration>,
    pub(crate) source: Source,
    pub(crate) huge_pages: HugePages,
    pub(crate) shards: Option<usize>,
    pub(crate) hot: HotShare,
    pub(crate) miss_cost: Option<Duration>,
}

impl Clone for Config {
    /// The same settings for another cache. It has the same codecs, and a policy of its own:
    /// [`Policy::fresh`]. About a page source see [`page_source`](Self::page_source).
    fn clone(&self) -> Self {
        Self {
            codec: self.codec.clone(),
            cold_codec: self.cold_codec.clone(),
            policy: self.policy.fresh(),
            source: self.source.clone(),
            ..*self
        }
    }
}

impl Config {
    /// A cache of `capacity_bytes` bytes of resident memory: pages, metadata, index, policy,
    /// contexts of the codec, what readers still hold of entries that are gone. [`Lz4`],
    /// [`S3Fifo`], pages of up to 64 KiB, no expiry; the checksum is on in debug builds.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self {
            capacity: capacity_bytes,
            max_page: 64 << 10,
            codec: Some(Arc::new(Lz4)),
            cold_codec: None,
            dictionary_bytes: 0,
            policy: Box::new(S3Fifo::new()),
            checksum: cfg!(debug_assertions),
            always_compress: false,
            time_to_live: None,
            source: Source::Default,
            huge_pages: HugePages::default(),
            shards: None,
            hot: HotShare::default(),
            miss_cost: None,
        }
    }

    /// The longest page in bytes, 1 to [`MAX_PAGE`](crate::MAX_PAGE), 16 MiB. Default: 64 KiB. The
    /// least capacity depends on it: set it to the size of your pages.
    ///
    /// A page of more than [`MAX_PIECE`](crate::MAX_PIECE), 128 KiB, is cut into pieces of that
    /// length, each compressed by itself. It comes and goes as a whole: a hit gives all of it, and
    /// nobody sees pieces of two pages. A piece takes an object with a clone of the key and 13
    /// bytes of tables, a page some 300 bytes and a lock for a moment on each hit and each piece of
    /// it. It is never kept decoded, nor compressed again by `maintain`.
    ///
    /// On two cores a cache takes at least
    ///
    /// | | LZ4 | zstd:3 | with a dictionary of 16 KiB |
    /// |---|---|---|---|
    /// | 8 KiB | 0.23 MB | 0.67 MB | 1.14 MB |
    /// | 64 KiB | 0.52 MB | 1.93 MB | 2.4 MB |
    ///
    /// ```
    /// use zcache::{Cache, Config, InsertError};
    ///
    /// let cache = Cache::new(Config::new(8 << 20).max_page(1 << 20))?;
    /// cache.insert(1, &vec![7; 1 << 20])?; // in eight pieces
    /// let refused = cache.insert(2, &vec![7; (1 << 20) + 1]);
    /// assert!(matches!(refused, Err(InsertError::TooLarge { .. })));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn max_page(self, bytes: usize) -> Self {
        Self { max_page: bytes, ..self }
    }

    /// What compresses the pages. Default: [`Lz4`]. One codec may serve several caches: an `Arc` of
    /// one is a codec too.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use zcache::{Cache, Config, codec::Zstd};
    ///
    /// let codec = Arc::new(Zstd::level(3)?);
    /// let of = |bytes| Config::new(bytes).codec(Arc::clone(&codec));
    /// let [small, large] = [8 << 20, 64 << 20].map(of);
    /// let cache: Cache<u64> = Cache::new(small)?;
    /// assert_eq!(cache.stats().codec, "zstd:3");
    /// # let _ = large;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn codec(self, codec: impl Codec + 'static) -> Self {
        Self { codec: Some(Arc::new(codec)), ..self }
    }

    /// Has the cache find what compresses the pages: nothing, [`Lz4`], or, with the feature `zstd`,
    /// zstd at level 1 or 3. It starts with [`Lz4`]. Some of the first pages inserted, and one in
    /// 1024 later on, are compressed and read back by each codec. Small models of the cache tell
    /// how many misses each would have. The cache changes to the codec that makes a request clearly
    /// cheaper, hits and misses. What is there is compressed again, up to four pages with each
    /// insert, and more with [`Cache::maintain`](crate::Cache::maintain). From 32 MiB on,
    /// `maintain` also trains a dictionary of 32 KiB for zstd at level 3, on a sample of what is
    /// inserted. It is used if pages that were held out get 5 % smaller, and replaced when the
    /// pages change.
    ///
    /// Tell it what a miss costs by [`miss_cost`](Self::miss_cost), or read what is missed between
    /// the look-up and the insert. [`Stats::candidates`](crate::Stats::candidates) says what was
    /// found and why. Codecs whose contexts the capacity has no room for are left out. With a
    /// [cold codec](Self::cold_codec) or [training](Self::train) pages are compressed by [`Lz4`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zcache::{Cache, Config};
    ///
    /// let config = Config::new(64 << 20).auto_codec().miss_cost(Duration::from_millis(1));
    /// let cache = Cache::<u64>::new(config)?;
    /// assert_eq!(cache.stats().codec, "lz4");
    /// # Ok::<(), zcache::ConfigError>(())
    /// ```
    #[must_use]
    pub fn auto_codec(self) -> Self {
        Self { codec: None, ..self }
    }

    /// A stronger codec for cold entries: [`Cache::maintain`](crate::Cache::maintain) compresses
    /// again what was not hit for a sweep of its hand, and keeps that where it takes a smaller
    /// slot. Inserts use [`codec`](Self::codec) as before, so a page that is inserted again is back
    /// with it. A hit on a recompressed entry takes the stronger codec's time. Default: none.
    ///
    /// ```
    /// use zcache::{Cache, Config, codec::Zstd};
    ///
    /// let config = Config::new(8 << 20).max_page(4096).cold_codec(Zstd::level(3)?);
    /// let cache = Cache::new(config)?;
    /// let rows: String = (0..150).map(|n| format!("{n}: {} of {}; ", n * n, n % 97)).collect();
    /// cache.insert(7, rows.as_bytes())?;
    /// // The hand comes by twice, and the page is not hit in between.
    /// let [first, second] = [(); 2].map(|()| cache.maintain(1 << 20).recompression.recompressed);
    /// assert_eq!(first + second, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn cold_codec(self, codec: impl Codec + 'static) -> Self {
        Self { cold_codec: Some(Arc::new(codec)), ..self }
    }

    /// Has [`Cache::maintain`](crate::Cache::maintain) train dictionaries of at most
    /// `dictionary_bytes` bytes, 0 for none, on a sample of the pages that are inserted: for the
    /// [cold codec](Self::cold_codec) where there is one, else for the [codec](Self::codec) itself,
    /// which then compresses what is inserted afterwards. With zstd, 256 bytes or more; 16 KiB is
    /// good for pages of 4 to 16 KiB. A dictionary is used only if it makes held-out pages at least
    /// 5 % smaller. Default: 0.
    ///
    /// The sample takes a hundred times as many bytes while it is collected, up to 1/16 of the
    /// capacity, and a dictionary some 0.5 MB as long as it is used: both count.
    #[must_use]
    pub fn train(self, dictionary_bytes: usize) -> Self {
        Self { dictionary_bytes, ..self }
    }

    /// Who goes when room is needed. Default: [`S3Fifo`].
    ///
    /// ```
    /// use zcache::{Cache, Config, policy::Lru};
    ///
    /// let cache: Cache<u64> = Cache::new(Config::new(4 << 20).policy(Lru::new()))?;
    /// assert_eq!(cache.stats().policy, "lru");
    /// # Ok::<(), zcache::ConfigError>(())
    /// ```
    #[doc(alias("eviction_policy", "with_eviction_config"))]
    #[must_use]
    pub fn policy(self, policy: impl Policy + 'static) -> Self {
        Self { policy: Box::new(policy), ..self }
    }

    /// Whether each payload carries a checksum, 4 bytes, keyed by its entry and verified before it
    /// is decoded. Without one, a flipped bit in memory decodes to a wrong page more often than
    /// not. Default: on in debug builds, off in release builds.
    #[must_use]
    pub fn checksum(self, yes: bool) -> Self {
        Self { checksum: yes, ..self }
    }

    /// Whether every page is compressed, also one that [looks incompressible]. Otherwise such pages
    /// are stored as they are, but for one of 256, which is a trial. Where it shrinks, the others
    /// are compressed as well, until another trial does not shrink.
    ///
    /// Switched on, a page of 4 KiB that the codec cannot shrink takes 0.6 us longer to insert with
    /// LZ4, and 2.9 us with zstd at level 3. That is worth it where pages that look random and
    /// shrink come mixed with pages that do not shrink. Default: off.
    ///
    /// [looks incompressible]: crate::codec::looks_incompressible
    #[must_use]
    pub fn always_compress(self, yes: bool) -> Self {
        Self { always_compress: yes, ..self }
    }

    /// The time to live of pages that are inserted without one of their own, rounded up to
    /// milliseconds; with zero no page is ever hit. Costs 6 bytes a page. Default: for ever.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20).time_to_live(Duration::from_secs(300)))?;
    /// cache.insert(7, &[1; 4096])?; // a miss in five minutes
    /// assert!(cache.get(&7).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("ttl", "expire_after_write"))]
    #[must_use]
    pub fn time_to_live(self, time: Duration) -> Self {
        Self { time_to_live: Some(time), ..self }
    }

    /// How much of the capacity may hold pages decoded that are hit repeatedly, in *frames*: a hit
    /// on such a page takes no lock, writes nothing that other threads write, and is little more
    /// than a copy. Its compressed copy stays, so that a frame goes at no cost when another page is
    /// hotter, or where room is needed.
    ///
    /// Of a cache's pages, those have no frames that are stored as they are or same-filled, and
    /// those that would fill less than half of one, which is whole pages of the pool's source; nor
    /// has a cache whose source gives its pages no addresses, or that is hardly larger than the
    /// least. A hit that makes a frame may evict as an insert does, so that the removal hook may be
    /// called.
    ///
    /// Default: [`HotShare::Auto`]. A frame has a clone of its key, made and dropped under no lock;
    /// a panic in that drop is swallowed. The key's `Eq` runs on it under no lock either. Heap
    /// memory that the clone points to is not counted.
    #[must_use]
    pub fn hot(self, share: HotShare) -> Self {
        Self { hot: share, ..self }
    }

    /// What a miss costs the user beside the insert that answers it: what [`HotShare::Auto`] and
    /// [`auto_codec`](Self::auto_codec) weigh against decodings. Default: measured, from a miss to
    /// the end of its key's insert; 100 us until the first one.
    /// [`Cache::set_miss_cost`](crate::Cache::set_miss_cost) changes it later.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zcache::{Cache, Config};
    ///
    /// // A read of 2 ms: many entries are worth more than fast hits.
    /// let config = Config::new(64 << 20).miss_cost(Duration::from_millis(2));
    /// let cache = Cache::<u64>::new(config)?;
    /// let balance = cache.stats().balance.expect("the share of hot pages is found");
    /// assert_eq!(balance.miss, Duration::from_millis(2));
    /// # Ok::<(), zcache::ConfigError>(())
    /// ```
    #[must_use]
    pub fn miss_cost(self, time: Duration) -> Self {
        Self { miss_cost: Some(time), ..self }
    }

    /// Where the pool's pages come from: see [`zpool::SourceKind`]. Default: the pool's own
    /// default. From [`Memfd`](zpool::SourceKind::Memfd), each hit copies the payload first.
    ///
    /// ```
    /// use zcache::{Cache, Config, SourceKind};
    ///
    /// let config = Config::new(4 << 20).source(SourceKind::Heap); // no address space is reserved
    /// let cache = Cache::new(config)?;
    /// cache.insert(7, &[1; 4096])?;
    /// assert!(cache.get(&7).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn source(self, source: zpool::SourceKind) -> Self {
        Self { source: Source::Kind(source), ..self }
    }

    /// Takes the pool's pages from a source of your own, in the place of [`source`](Self::source).
    /// What it keeps beside pages in use it has to charge to the pool's ledger: see
    /// [`zpool::source::PageSource`]. It may fail: what cannot be read is a miss, and its entry
    /// goes.
    ///
    /// One pool uses it. Of the clones of these settings the first one that makes a cache takes the
    /// source, and the others get [`ConfigError::SourceTaken`].
    ///
    /// ```
    /// use zcache::{Cache, Config, zpool::source::File};
    ///
    /// let pages = File::temporary(4096)?; // a file without a name
    /// let cache = Cache::new(Config::new(4 << 20).page_source(pages))?;
    /// cache.insert(7, &[1; 4096])?;
    /// assert!(cache.get(&7).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn page_source(self, source: impl PageSource + 'static) -> Self {
        Self { source: Source::Own(Arc::new(Mutex::new(Some(Box::new(source))))), ..self }
    }

    /// Whether compressed pages, and tables longer than 2 MiB, lie on huge pages. With
    /// [`HugePages::Auto`] a hit among 100,000 entries takes a tenth less time, and one among a
    /// million a fifth less.
    ///
    /// As much is held as without them, and within the same capacity: a huge page is charged before
    /// the system has one back it, and split where its free pages are wanted elsewhere. What they
    /// cost: while the cache grows, one insert in a thousand or so waits until the system has
    /// filled 2 MiB with zeros, 0.1 to 0.4 ms, and several ms in a virtual machine whose host has
    /// to find the memory first, or where the system has to move other memory out of the way. All
    /// other inserts take less time, because they have no page to wait for. A cache that is emptied
    /// may keep 2 MiB more. In a program that forks without `exec`, or locks its memory later, what
    /// the cache gives back may be free for others only when memory is short.
    ///
    /// For Linux that says `madvise` or `always` in `/sys/kernel/mm/transparent_hugepage/enabled`;
    /// decided when the cache is made, by its capacity then. With a [`source`](Self::source) or a
    /// [`page_source`](Self::page_source) of your own, that decides. Default: [`HugePages::Off`].
    #[must_use]
    pub fn huge_pages(self, huge_pages: HugePages) -> Self {
        Self { huge_pages, ..self }
    }

    /// The index's shards, a power of two from 2 to 65536. Default: one for 16 MiB of capacity, 16
    /// to
    /// 1024. Writers of a shard take turns for a few hundred nanoseconds; readers wait for nobody.
    ///   A shard costs 64 bytes, and some hundreds more in room for its next entries: with a shard
    ///   for each 1,500 entries an entry takes 8.4 bytes of the index, with one for 6,000 it takes
    ///   7.9.
    #[doc(alias("num_segments", "with_shards"))]
    #[must_use]
    pub fn shards(self, amount: usize) -> Self {
        Self { shards: Some(amount), ..self }
    }

    pub(crate) fn shard_count(&self) -> Result<usize, ConfigError> {
        let fit = (self.capacity >> 24).clamp(16, 1024).next_power_of_two();
        let shards = self.shards.unwrap_or(fit);
        let fits = shards.is_power_of_two() && (2..=1 << 16).contains(&shards);
        if fits { Ok(shards) } else { Err(ConfigError::Shards(shards)) }
    }
}
