//! Pages, and parts of them, in memory of the caller's; and pages in buffers of the cache's, which
//! are lent.

use std::hash::{BuildHasher, Hash};
use std::ops::Range;

use equivalent::Equivalent;

use super::Cache;
use crate::error::{BufferTooSmall, MAX_PIECE};
use crate::index::Tag;
use crate::store::{Entry, LentBuffer, Memory, Trouble, blank_page};
use crate::sync::add;

/// The bytes from `start` on of a page of `len` bytes, `most` of them at the most.
fn part(len: usize, start: usize, most: usize) -> Range<usize> {
    let start = start.min(len);
    start..len.min(start.saturating_add(most))
}

impl<K: Hash + Eq + Send + Sync, S: BuildHasher> Cache<K, S> {
    /// Decodes the bytes of the page of `key` from byte `start` on to the start of `to`: as many as
    /// `to` holds and the page has. Returns how many these are, 0 where the page ends before
    /// `start`. Decodes nothing behind the last byte that is wanted, where the codec can stop
    /// there.
    ///
    /// Where `start` is not 0 and the page is not [hot](crate::Config::hot), what stands in front
    /// is decoded as well, into a buffer of the cache's; of a page of more than 128 KiB, into
    /// memory that is allocated for the call.
    ///
    /// ```
    /// use zcache::{Cache, Config};
    ///
    /// let cache = Cache::new(Config::new(1 << 20))?;
    /// let page: Vec<u8> = (0..=255).cycle().take(4096).collect();
    /// cache.insert(7, &page)?;
    /// let mut header = [0; 24];
    /// assert_eq!(cache.get_range_into(&7, 0, &mut header), Some(24));
    /// assert_eq!(header, page[..24]);
    /// assert_eq!(cache.get_range_into(&7, 4090, &mut header), Some(6)); // the page ends
    /// assert_eq!(header[..6], page[4090..]);
    /// assert_eq!(cache.get_range_into(&8, 0, &mut header), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get_range_into<Q: Hash + Equivalent<K> + ?Sized>(
        &self,
        key: &Q,
        start: usize,
        to: &mut [u8],
    ) -> Option<usize> {
        let tag = self.tag(key);
        let hot = self.tier.hot_page(tag, key, |page| {
            let range = part(page.len(), start, to.len());
            let len = range.len();
            match page.bytes() {
                Some(bytes) => to[..len].copy_from_slice(&bytes[range]),
                None if range.start == 0 => page.copy(&mut to[..len]),
                // A page in pieces is copied from its start only.
                None => return None,
            }
            self.tier.counters.hot_hit();
            Some(len)
        });
        if hot.is_some() {
            return hot;
        }
        if start > 0 {
            let most = to.len();
            let range = |len| part(len, start, most);
            return self.lend(tag, key, range, |bytes| {
                to[..bytes.len()].copy_from_slice(bytes);
                bytes.len()
            });
        }
        loop {
            let entry = self.look_up(tag, key)?;
            let len = entry.record().state().len().min(to.len());
            if let Some(hit) = self.hit(&entry, &mut to[..len]) {
                return hit.then_some(len);
            }
        }
    }

    /// The decoded page of `key` at the start of `to`, and its length: a hit.
    #[inline]
    pub(super) fn hot_into<Q: Equivalent<K> + ?Sized>(
        &self,
        tag: Tag,
        key: &Q,
        to: &mut [u8],
    ) -> Option<Result<usize, BufferTooSmall>> {
        self.tier.hot_page(tag, key, |page| {
            let needed = page.len();
            let Some(to) = to.get_mut(..needed) else {
                return Some(Err(BufferTooSmall { needed }));
            };
            page.copy(to);
            self.tier.counters.hot_hit();
            Some(Ok(needed))
        })
    }

    /// The entry's page at the start of `to`, and its length: a hit, or a miss where that does not
    /// work. `None`: the entry has left the index, and the key is to be looked up again.
    #[inline]
    pub(super) fn hit_into(
        &self,
        entry: &Entry<'_, K>,
        to: &mut [u8],
    ) -> Option<Result<Option<usize>, BufferTooSmall>> {
        let needed = entry.record().state().len();
        if let Some(to) = to.get_mut(..needed) {
            return self.hit(entry, to).map(|hit| Ok(hit.then_some(needed)));
        }
        // Nothing is decoded, but what has expired is a miss and no error.
        match self.decode(entry, &mut []) {
            Ok(()) => Some(Err(BufferTooSmall { needed })),
            Err(Trouble::Left) => None,
            Err(_) => {
                self.tier.counters.miss();
                Some(Ok(None))
            }
        }
    }

    /// What `f` makes of a part of the page of `key`: a hit, or a miss. Which part, `range` says by
    /// the page's length. What stands in front is decoded, too. No entry is pinned while `f` runs.
    pub(super) fn lend<Q: Equivalent<K> + ?Sized, R>(
        &self,
        tag: Tag,
        key: &Q,
        range: impl Fn(usize) -> Range<usize>,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Option<R> {
        loop {
            let entry = self.look_up(tag, key)?;
            let range = range(entry.record().state().len());
            // Of a part without a byte nothing is decoded.
            let end = if range.is_empty() { 0 } else { range.end };
            let Some(mut lent) = self.lent(end) else {
                self.tier.counters.miss();
                return None;
            };
            let hit = self.hit(&entry, lent.bytes_mut());
            drop(entry);
            if let Some(hit) = hit {
                return hit.then(|| f(&lent.bytes()[range.start.min(end)..end]));
            }
        }
    }

    /// Memory for `len` bytes of a page. `None`, and a page that cannot be read is counted: there
    /// is none.
    pub(super) fn lent(&self, len: usize) -> Option<Lent<'_, K>> {
        let lent = if len > MAX_PIECE {
            blank_page(len).map(Lent::Heap)
        } else {
            let mut buffer = self.tier.store.buffer();
            let room = || buffer.stretch(len).map(|_| ()).map_err(|full| Some(full.into()));
            self.tier.with_room(room).is_ok().then_some(Lent::Buffer(buffer, len))
        };
        if lent.is_none() {
            add(&self.tier.counters.unreadable, 1);
        }
        lent
    }
}

/// Memory for a page that is lent.
pub(super) enum Lent<'c, K: Send + Sync> {
    /// So many bytes of a buffer of the cache's.
    Buffer(LentBuffer<'c, Memory<K>>, usize),
    /// No buffer of the cache's is as long as that.
    Heap(Vec<u8>),
}

impl<K: Send + Sync> Lent<'_, K> {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer, len) => buffer.bytes(*len),
            Self::Heap(page) => page,
        }
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Buffer(buffer, len) => buffer.stretch(*len).expect("it is as long"),
            Self::Heap(page) => page,
        }
    }
}

#[cfg(all(test, not(zcache_loom)))]
mod tests {
    use super::part;

    #[test]
    fn a_part_ends_with_its_page() {
        assert_eq!([part(9, 0, 4), part(9, 5, 4), part(9, 6, 4)], [0..4, 5..9, 6..9]);
        assert_eq!([part(9, 9, 4), part(9, 10, 4), part(0, 0, 4)], [9..9, 9..9, 0..0]);
        assert_eq!([part(9, 3, 0), part(9, 3, usize::MAX)], [3..3, 3..9]);
        assert_eq!(part(9, usize::MAX, usize::MAX), 9..9);
    }
}
