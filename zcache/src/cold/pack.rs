//! Pages of scans, which are stored as they are and compressed when they are hit.
//!
//! Most pages of a scan are evicted before anybody asks for them, and compressing them is most of
//! what inserting them costs. So an insert with the hint of a scan leaves that to the first hit,
//! which has shown that the page is worth it. The entry's object is exchanged for a compressed one
//! as by `maintain`: the key keeps its page, its time to live and its place in the policy. One hit
//! alone is told to do it, by the compare-exchange that takes the mark of the scan off the record.

use super::recompress::Renewal;
use crate::store::{Entry, Rest};
use crate::sync::Inside;
use crate::tier::{Lack, Spent, Tier};

impl<K: Eq + Send + Sync> Tier<K> {
    /// Compresses the page of an entry that was stored as it is, after its first hit. Where that
    /// fails, for lack of room or since the key was changed, the page stays as it is.
    #[cold]
    #[inline(never)]
    pub(crate) fn pack(&self, entry: &Entry<'_, K>) {
        if Inside::is(self.number) {
            // What a hook or a key's drop does evicts nothing: it is left to the next hit.
            entry.record().set_rest(entry.record().state(), Rest::Unpacked);
            return;
        }
        // Freed already: somebody else has ended it.
        let Ok(entry) = self.store.pool.pin(entry.handle()) else { return };
        let mut spent = Spent::default();
        let mut room = |bytes| self.make_room_of_entries(Lack::Place(bytes), &mut spent);
        self.renew(entry, Renewal::Packed, &mut room);
    }
}
