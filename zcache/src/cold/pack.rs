//! Pages of scans, which are stored as they are and compressed when they are hit.
//!
//! Most pages of a scan are evicted before anybody asks for them, and compressing them is most of
//! what inserting them costs. So an insert with the hint of a scan leaves that to the first hit,
//! which has shown that the page is worth it. The entry's object is exchanged for a compressed one
//! as by `maintain`. The key keeps its page, its time to live and its place in the policy. Only one
//! hit is told to do it, by the compare-exchange that takes the mark of the scan off the record.

use crate::store::{Entry, Rest};
use crate::sync::Inside;
use crate::tier::{Lack, Outcome, Renewal, Spent, Tier};

impl<K: Eq + Send + Sync> Tier<K> {
    /// A hit on an entry, of which `page` was read. Whether the page is `unpacked` is what the
    /// entry's mark said.
    #[inline]
    pub(crate) fn warmed(&self, entry: &Entry<'_, K>, page: &[u8], unpacked: bool) {
        if unpacked || self.hot.is_some() {
            self.after_hit(entry, page, unpacked);
        }
    }

    /// One function for both, so that hits have one call less.
    #[inline(never)]
    fn after_hit(&self, entry: &Entry<'_, K>, page: &[u8], unpacked: bool) {
        if unpacked {
            // Stored as it is, it is no page for a frame.
            self.pack(entry);
        } else if let Some(hot) = &self.hot {
            self.consider(hot, entry, page);
        }
    }

    /// Compresses the page of an entry that was stored as it is, after its first hit. Where that
    /// fails, as for lack of room, the page stays as it is.
    #[cold]
    fn pack(&self, entry: &Entry<'_, K>) {
        if Inside::is(self.number) {
            // What a hook or a key's drop does evicts nothing: it is left to the next hit.
            entry.record().set_rest(entry.record().state(), Rest::Unpacked);
            return;
        }
        // Freed already: somebody else has ended it.
        let Ok(again) = self.store.pool.pin(entry.handle()) else { return };
        let mut spent = Spent::default();
        let mut room = |bytes| self.make_room_of_entries(Lack::Place(bytes), &mut spent);
        if self.renew(again, Renewal::Packed, &mut room) == Outcome::Lost {
            // Somebody walks over all entries, and the next hit may do it. Or it has gone.
            entry.record().set_rest(entry.record().state(), Rest::Unpacked);
        }
    }
}
