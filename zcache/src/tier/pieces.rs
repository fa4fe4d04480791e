//! Pages that are longer than an object can be: their pieces are made before their entry, and freed
//! with it. See [`Large`](crate::store::Large).

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool::{Handle, MapError};

use super::Tier;
use super::evict::{Lack, Reach, Spent};
use crate::codec::Form;
use crate::error::MAX_PIECE;
use crate::index::Tag;
use crate::store::{Draft, Entry, Full, Large, Pieces, Record};
use crate::sync::{Charge, Inside, pause};

/// The pieces of a page that has no entry yet. Dropped, they go again.
pub(super) struct Cut<'t, K: Send + Sync> {
    tier: &'t Tier<K>,
    handles: Vec<Handle>,
    /// Bytes of their objects.
    bytes: usize,
    /// What is charged for them beside these.
    charged: usize,
}

/// What user code panicked with.
pub(super) type Panic = Box<dyn Any + Send>;

/// Goes on with a panic that had to wait, unless there is one already: a second one would end the
/// process.
pub(crate) fn rethrow(panic: Option<Panic>) {
    if let Some(panic) = panic.filter(|_| !std::thread::panicking()) {
        std::panic::resume_unwind(panic);
    }
}

impl<K: Send + Sync> Drop for Cut<'_, K> {
    fn drop(&mut self) {
        let panic = self.tier.free_pieces(&self.handles);
        self.tier.store.pool.release(self.charged);
        rethrow(panic);
    }
}

impl<K: Send + Sync> Cut<'_, K> {
    /// Bytes of the pieces' objects.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<K: Send + Sync> Tier<K> {
    /// Bytes that are stored for an entry, those of its pieces among them.
    #[inline]
    pub(crate) fn stored_len(&self, entry: &Entry<'_, K>) -> usize {
        entry.len() + self.pieces_len(entry)
    }

    #[inline]
    fn pieces_len(&self, entry: &Entry<'_, K>) -> usize {
        match &self.store.large {
            Some(large) if entry.record().state().form() == Form::Pieces => large.bytes(entry.id()),
            _ => 0,
        }
    }

    /// Stores the pieces of `page`, which has a key with this tag.
    ///
    /// # Errors
    /// What is lacking, if room would help. Nothing is stored then.
    pub(super) fn cut(&self, tag: Tag, key: &K, page: &[u8]) -> Result<Cut<'_, K>, Option<Lack>> {
        let (pool, count) = (&self.store.pool, page.len().div_ceil(MAX_PIECE));
        let mut cut = Cut { tier: self, handles: Vec::new(), bytes: 0, charged: 0 };
        let cost = Large::cost(count);
        self.insist(&mut Spent::default(), |_| {
            pool.charge(cost).then_some(()).ok_or(Some(Lack::Bytes(cost)))
        })?;
        cut.charged = cost;
        if cut.handles.try_reserve_exact(count).is_err() {
            return Err(Some(Lack::NoMemory));
        }
        for piece in page.chunks(MAX_PIECE) {
            // Each of them is worth as much room as a page of its length.
            let mut spent = Spent::default();
            let draft = self.insist(&mut spent, |_| {
                self.store.draft(tag, piece, None).map_err(|full| Some(full.into()))
            })?;
            self.pay(draft.bytes(), draft.slot_bytes(pool), &mut spent).map_err(Some)?;
            cut.handles.push(self.place_piece(tag, key, &draft, &mut spent)?);
            cut.bytes += draft.bytes();
        }
        Ok(cut)
    }

    /// An object for the draft of a piece, with a clone of the key in its record.
    fn place_piece(
        &self,
        tag: Tag,
        key: &K,
        draft: &Draft<'_, K>,
        spent: &mut Spent,
    ) -> Result<Handle, Option<Lack>> {
        let pool = &self.store.pool;
        let key = {
            // As in `bury`: what the key's clone inserts evicts nothing.
            let _inside = Inside::enter(self.number);
            (self.clone)(key)
        };
        let mut record = Some(Record::new(key, tag, draft.len, draft.form, false, 0));
        let placed = self.insist(spent, |reach| {
            let given = record.take().expect("a failed attempt gives the record back");
            let made = match reach {
                Reach::AtHand => pool.try_alloc_record_at(given, draft.parts(), |_| true),
                Reach::Top => pool.alloc_record_parts_at(given, draft.parts(), |_| true),
            };
            made.map_err(|(error, back)| {
                record = Some(back);
                Lack::of(error, draft.bytes())
            })
        });
        let _inside = Inside::enter(self.number);
        drop(record);
        let handle = placed?;
        self.store.coders.entered(coder(&self.pin_piece(handle)));
        Ok(handle)
    }

    /// Entry `id`, which nobody else knows yet, has the pieces of `cut` from now on.
    ///
    /// # Errors
    /// What is lacking.
    pub(super) fn keep_pieces(&self, id: u32, mut cut: Cut<'_, K>) -> Result<(), Option<Lack>> {
        let Some(large) = &self.store.large else { return Err(None) };
        let handles = std::mem::take(&mut cut.handles).into_boxed_slice();
        let pieces = Pieces { handles, bytes: cut.bytes };
        let charged = std::mem::take(&mut cut.charged);
        if let Err((full, pieces)) = large.put(id, pieces) {
            (cut.handles, cut.charged) = (pieces.handles.into_vec(), charged);
            return Err(Some(Full::into(full)));
        }
        self.counters.has_pieces(cut.bytes);
        if let Some(scopes) = &self.scopes {
            scopes.grow_by(scopes.slot_of(id), cut.bytes as u64);
        }
        Ok(())
    }

    /// The pieces of entry `id` go, which is off the index. What the drop of a key panicked with.
    pub(super) fn end_pieces(&self, id: u32) -> Option<Panic> {
        let pieces = self.store.large.as_ref()?.take(id)?;
        let panic = self.free_pieces(&pieces.handles);
        self.store.pool.release(Large::cost(pieces.handles.len()));
        panic
    }

    /// All of them go, also where the drop of a key panics; with what the first one did.
    fn free_pieces(&self, handles: &[Handle]) -> Option<Panic> {
        // As in `bury`.
        let _inside = Inside::enter(self.number);
        let mut first = None;
        for handle in handles {
            let coder = coder(&self.pin_piece(*handle));
            match catch_unwind(AssertUnwindSafe(|| self.store.pool.free(*handle))) {
                Ok(freed) => debug_assert!(freed.is_ok(), "a piece ends once"),
                Err(panic) => _ = first.get_or_insert(panic),
            }
            self.store.coders.left(coder);
        }
        first
    }

    /// The coders of an entry's objects, for whoever checks them.
    pub(crate) fn each_coder(&self, entry: &Entry<'_, K>, f: &mut dyn FnMut(u8)) {
        let form = entry.record().state().form();
        if let Form::Coded(coder) = form {
            f(coder);
        }
        let Some(large) = self.store.large.as_ref().filter(|_| form == Form::Pieces) else {
            return;
        };
        let piece = |number| large.piece(entry.id(), number);
        for handle in (0..).map_while(piece) {
            self.each_coder(&self.pin_piece(handle), f);
        }
    }

    /// A piece that nobody has freed. Only more than a thousand readers at once can be in the way.
    fn pin_piece(&self, handle: Handle) -> Entry<'_, K> {
        loop {
            match self.store.pool.pin(handle) {
                Ok(piece) => return piece,
                Err(MapError::TooManyMaps) => pause(),
                Err(error) => panic!("a piece of an entry is not in the pool: {error}"),
            }
        }
    }
}

/// The number of an entry's coder; 0 for those that have none as well.
pub(super) fn coder<K: Send + Sync>(entry: &Entry<'_, K>) -> u8 {
    match entry.record().state().form() {
        Form::Coded(coder) => coder,
        Form::Raw | Form::Filled(_) | Form::Pieces => 0,
    }
}
