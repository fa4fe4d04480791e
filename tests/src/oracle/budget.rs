//! What allocations that give the record back, and memory of the user's, should come to.

use zpool::{AllocError, Handle, Pool};

use super::PoolOracle;
use crate::ops::Len;
use crate::pattern;
use crate::records::Tracked;

type Made = Result<Handle, (AllocError, Tracked)>;

/// `bytes` in two parts, the first being `split` 255ths of them.
fn parts(bytes: &[u8], split: u8) -> [&[u8]; 2] {
    let (first, second) = bytes.split_at(bytes.len() * usize::from(split) / 255);
    [first, second]
}

impl PoolOracle<'_> {
    pub(super) fn alloc_parts(&mut self, pool: &Pool<Tracked>, len: Len, split: u8) {
        self.alloc_by(pool, len, |record, bytes| {
            pool.alloc_record_parts(record, parts(bytes, split))
        });
    }

    /// Whatever comes of it, nothing moves, and what is refused is no failure.
    pub(super) fn try_alloc(&mut self, pool: &Pool<Tracked>, len: Len, split: u8) {
        let before = pool.stats();
        let refused = self.alloc_by(pool, len, |record, bytes| {
            pool.try_alloc_record(record, parts(bytes, split))
        });
        let after = pool.stats();
        let failed = after.failures.out_of_pages - before.failures.out_of_pages;
        assert_eq!((after.compaction, failed), (before.compaction, 0));
        if matches!(refused, Some(AllocError::OutOfPages | AllocError::NoMemory)) {
            assert!(self.capped || self.faulty, "nothing is at hand in a pool without caps");
            let inuse = |stats: &zpool::PoolStats| -> usize {
                stats.classes.iter().map(|class| class.inuse).sum()
            };
            assert_eq!(inuse(&after), inuse(&before));
        }
    }

    /// What `alloc` is refused with, if it is: the record comes back then. That there was room for
    /// it is for the caller to find out.
    fn alloc_by(
        &mut self,
        pool: &Pool<Tracked>,
        len: Len,
        alloc: impl FnOnce(Tracked, &[u8]) -> Made,
    ) -> Option<AllocError> {
        let max_object = pool.max_object();
        let bytes = pattern::bytes(self.seeds.bits(), len.of(max_object).min(max_object + 9));
        let (record, len) = (self.tally.issue(), bytes.len());
        let number = record.number();
        let made = alloc(record, &bytes).map_err(|(error, record)| {
            assert_eq!((record.number(), self.tally.drops(number)), (number, 0));
            error
        });
        let refused = made.err();
        match refused {
            Some(AllocError::OutOfPages) => {}
            _ => self.allocated(pool, made, len, number, false, bytes),
        }
        refused
    }

    /// It fits, or it does not: nothing makes room for it.
    pub(super) fn reserve(&mut self, pool: &Pool<Tracked>, bytes: usize) {
        let before = pool.held_bytes();
        let fits = bytes == 0 || bytes <= self.caps.0.saturating_sub(before);
        let expected = if fits { Ok(()) } else { Err(AllocError::OutOfPages) };
        assert_eq!(pool.reserve(bytes), expected, "{bytes} beside {before}");
        let taken = if fits { bytes } else { 0 };
        assert_eq!(pool.held_bytes(), before + taken);
        self.reserved += taken;
    }

    pub(super) fn unreserve(&mut self, pool: &Pool<Tracked>, bytes: usize) {
        let bytes = bytes.min(self.reserved);
        pool.release(bytes);
        self.reserved -= bytes;
    }
}
