//! What a cache tells of itself: its figures, and whether they add up.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hash};

use super::Cache;
use crate::codec::{self, CODERS, Codec, RAW};
use crate::hot::Hot;
use crate::stats::{Candidate, Stats};
use crate::store::Trouble;
use crate::sync::get;
use crate::tier::{Tier, aside};
use crate::worth::{CANDIDATES, Scales};

impl<K, S> Cache<K, S> {
    /// The name of the codec that pages are packed by.
    pub(super) fn codec_name(&self) -> Cow<'static, str> {
        let found = self.tier.scales().filter(|scales| scales.samples().is_some());
        let name = found.and_then(|scales| self.candidate_name(scales.codec()));
        name.unwrap_or_else(|| self.tier.store.codec.name())
    }

    /// The name of a codec that may be chosen; `None` if it was left out.
    fn candidate_name(&self, coder: usize) -> Option<Cow<'static, str>> {
        let store = &self.tier.store;
        match coder.checked_sub(1) {
            _ if coder == usize::from(RAW) => Some(codec::Plain.name()),
            None => Some(store.codec.name()),
            Some(_) => {
                let codec = store.coders.candidate(u8::try_from(coder).ok()?)?;
                Some(codec.name())
            }
        }
    }
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// A snapshot of all figures. Takes many of the cache's locks for a moment, one after the
    /// other, and allocates some kilobytes. Visits no entry: it costs the same whatever the cache
    /// holds, and less than an insert.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(4 << 20))?;
    /// cache.insert(7, &b"much of the same ".repeat(200))?;
    /// let _ = (cache.get(&7), cache.get(&8));
    /// let stats = cache.stats();
    /// assert_eq!((stats.entries, stats.hits, stats.misses), (1, 1, 1));
    /// assert!(stats.compression_ratio() > 10.0 && stats.bytes.held <= stats.bytes.capacity);
    /// println!("{stats}"); // as a table
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        let tier = &self.tier;
        let pool = tier.store.pool.stats();
        let mut stats = Stats::of(&tier.counters, &pool);
        stats.ended = tier.scopes.as_ref().map_or(0, |scopes| scopes.ended_entries());
        stats.codec = self.codec_name().into_owned();
        let coders = &tier.store.coders;
        let cold = coders.cold.as_ref();
        stats.cold_codec = cold.map_or_else(String::new, |codec| codec.name().into_owned());
        if let Some((found, changes)) = tier.scales().and_then(Scales::candidates) {
            self.name_candidates(&mut stats, found, changes);
        }
        let (dictionaries, dictionary_bytes) = coders.trained();
        stats.dictionaries.held = dictionaries;
        let policy = {
            let policy = tier.policy.lock();
            stats.policy = policy.policy().name().to_owned();
            policy.policy().bytes()
        };
        let mut grown = 0;
        if let Some(hot) = &tier.hot {
            stats.frames = hot.frames().len();
            stats.promotions = get(&hot.promotions);
            stats.demotions = get(&hot.demotions);
            stats.bytes.frames = hot.frames().bytes();
            stats.bytes.waiting = hot.frames().waiting_bytes();
            stats.balance = hot.scales().and_then(|scales| scales.balance(tier.standing()));
            grown = hot.grown_bytes();
        }
        let bytes = &mut stats.bytes;
        bytes.capacity = tier.capacity();
        bytes.held = tier.held();
        bytes.index = tier.index.bytes() + self.scope_lines();
        bytes.policy = policy;
        bytes.codec = tier.store.scratch.bytes() + dictionary_bytes;
        bytes.sample = tier.sampler.bytes();
        let large = tier.store.large.as_ref().map_or(0, |large| large.charged());
        bytes.fixed = self.charged + large + coders.table_bytes() + grown + aside(tier.capacity());
        stats.ratios = stats.ratios_now();
        stats
    }

    fn name_candidates(&self, stats: &mut Stats, found: [Candidate; CANDIDATES], changes: u64) {
        for (coder, candidate) in (0..).zip(found) {
            let Some(name) = self.candidate_name(coder) else { continue };
            stats.candidates.push(Candidate { name: name.into_owned(), ..candidate });
        }
        stats.codec_changes = changes;
    }

    /// Asserts every invariant, those of the pool among them. For tests; call it while no other
    /// thread uses the cache.
    ///
    /// # Panics
    /// An invariant does not hold: a bug of this crate.
    pub fn check(&self) {
        let tier = &self.tier;
        tier.store.pool.check();
        let cap = tier.capacity() - aside(tier.capacity());
        assert_eq!(*tier.cap.lock(), cap, "the pool's cap is the capacity's");
        tier.store.scratch.check();
        tier.index.check(&|id| tier.tag_of(id));
        let policy = tier.policy.lock();
        policy.check();
        let pieces = tier.store.large.as_ref().map_or(0, |large| large.pieces());
        let entries = tier.store.pool.len() - pieces;
        assert_eq!(tier.index.len(), entries, "each object has a key, or is a piece");
        assert_eq!(policy.policy().len(), entries, "each entry may be evicted");
        assert_eq!(tier.counters.entries(), entries, "each entry is counted");
        let (mut payload, mut keys, mut by_coder) = (0, 0, [0; CODERS]);
        for id in tier.ids() {
            let Some(entry) = tier.entry(id) else { continue };
            payload += tier.stored_len(&entry);
            let record = entry.record();
            keys += tier.weight_of(&record.key, record.state().len());
            tier.each_coder(&entry, &mut |coder| by_coder[usize::from(coder)] += 1);
            assert_eq!(record.tag, self.tag(&record.key), "tags are the keys'");
            let found = tier.find(record.tag, &record.key).map(|entry| entry.id());
            let expected = (!tier.has_ended(id)).then_some(id);
            assert_eq!(found, expected, "the index leads to each entry, of a scope that goes on");
            assert!(policy.policy().contains(id), "the policy knows each entry");
        }
        for (coder, entries) in (1..).zip(&by_coder[1..]) {
            assert_eq!(tier.store.coders.alive(coder), *entries, "coder {coder}'s entries");
            assert!(*entries == 0 || tier.store.coders.codec(coder).is_some(), "coder {coder}");
        }
        if let Some(hot) = &tier.hot {
            self.check_frames(hot);
        }
        if let Some(scopes) = &tier.scopes {
            let entry = |id| {
                tier.entry(id).map(|entry| (id, Tier::<K>::scope_bytes(tier.stored_len(&entry))))
            };
            scopes.check(tier.ids().filter_map(entry));
        }
        assert_eq!(payload, tier.store.pool.payload_bytes(), "no object is but an entry's");
        assert_eq!(keys as u64, get(&tier.counters.key_bytes), "what keys weigh is counted");
        assert_eq!(self.tier.flights.len(), 0, "no load is under way");
        // Other caches' readers may keep old tables, and end them meanwhile.
        tier.store.coders.settle();
        let reserved = self.reserved(policy.policy().bytes());
        assert_eq!(reserved, tier.store.pool.stats().reserved_bytes, "all that is held is charged");
        let held = tier.held();
        assert!(held <= tier.capacity(), "{held} bytes held of {}", tier.capacity());
    }

    /// What the cache should have charged to the pool, nothing being in use.
    fn reserved(&self, policy: usize) -> usize {
        let tier = &self.tier;
        let codec = tier.store.scratch.bytes();
        let heads = |hot: &Hot<K>| hot.frames().heap_bytes() + hot.grown_bytes();
        let heads = tier.hot.as_deref().map_or(0, heads);
        let coders = &tier.store.coders;
        let trained = coders.trained().1 + coders.table_bytes() + tier.sampler.bytes();
        let keys = get(&tier.counters.key_bytes) as usize;
        let large = tier.store.large.as_ref().map_or(0, |large| large.charged());
        self.charged
            + large
            + keys
            + policy
            + tier.index.bytes()
            + self.scope_lines()
            + codec
            + heads
            + trained
    }

    /// Bytes of what says which scope each entry is of.
    fn scope_lines(&self) -> usize {
        self.tier.scopes.as_ref().map_or(0, |scopes| scopes.bytes())
    }

    /// Each frame is what its entry decodes to, in its slot, and all of them are within the limit.
    fn check_frames(&self, hot: &Hot<K>) {
        let (tier, mut frames) = (&self.tier, 0);
        tier.under(|under| hot.finish_sweep(under));
        tier.collect_frames();
        hot.each(|slot, head, page| {
            frames += 1;
            assert!(hot.is_in_place(head.tag, slot), "a frame is where it is looked for");
            if tier.has_ended(head.id) {
                return;
            }
            let entry = tier.find(head.tag, &head.key).expect("a frame has an entry");
            assert_eq!(entry.id(), head.id, "it is of the entry that the index leads to");
            assert_eq!(Some(head.expiry), tier.store.expiry(&entry).or(Some(head.expiry)));
            let mut decoded = vec![0; entry.record().state().len()];
            match tier.store.read(&entry, 0, &mut decoded) {
                Ok(()) => {
                    assert!(page.start(page.len()) == Some(decoded), "it is the entry's page")
                }
                Err(Trouble::Full(_)) => assert_eq!(page.len(), decoded.len()),
                Err(trouble) => panic!("a frame's entry is readable: {trouble:?}"),
            }
        });
        assert_eq!(frames, hot.frames().len(), "frames are counted");
        tier.collect_frames();
        let (frames, waiting) = (hot.frames().bytes(), hot.frames().waiting_bytes());
        assert_eq!(waiting, 0, "nobody reads, so nothing waits");
        assert!(frames <= hot.most(), "{frames} bytes of frames of {}", hot.most());
        let pages = tier.store.pool.stats();
        let bytes = pages.pages_framed * pages.page_size + hot.frames().heap_bytes();
        assert_eq!(bytes, frames, "frames' bytes are counted");
    }
}
