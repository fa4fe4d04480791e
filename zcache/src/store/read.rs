//! An entry's object back to the bytes of its page.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zpool::MapError;

use super::{EXPIRY, Entry, Millis, Record, Store, Trouble, sum};
use crate::codec::{Form, INLINE, fill};
use crate::error::MAX_PIECE;
use crate::sync::pause;

impl<K: Send + Sync> Store<K> {
    /// Fills `to` with the first `to.len()` bytes of the page, no more than it has.
    ///
    /// # Errors
    /// See [`Trouble`].
    #[inline]
    pub(crate) fn read(
        &self,
        entry: &Entry<'_, K>,
        now: Millis,
        to: &mut [u8],
    ) -> Result<(), Trouble> {
        match entry.bytes() {
            Some(object) => self.decode(entry, object, now, to),
            None => self.read_scattered(entry, now, to),
        }
    }

    /// The same over a seam, or from pages without an address.
    #[cold]
    fn read_scattered(
        &self,
        entry: &Entry<'_, K>,
        now: Millis,
        to: &mut [u8],
    ) -> Result<(), Trouble> {
        let state = entry.record().state();
        let bare = state.form() == Form::Raw && self.trailer_len(Form::Raw, state.expires()) == 0;
        if bare && to.len() == entry.len() {
            return entry.read_into(to).map(|_| ()).map_err(|_| Trouble::Corrupt);
        }
        let mut buffer = self.buffer();
        let object = buffer.stretch(entry.len())?;
        entry.read_into(object).map_err(|_| Trouble::Corrupt)?;
        self.decode(entry, object, now, to)
    }

    /// Fills `page` with the whole page, and says when its time is over, if ever.
    ///
    /// # Errors
    /// See [`Trouble`].
    pub(crate) fn read_whole(
        &self,
        entry: &Entry<'_, K>,
        now: Millis,
        page: &mut [u8],
    ) -> Result<Option<Millis>, Trouble> {
        let (state, mut buffer) = (entry.record().state(), self.buffer());
        let object = match entry.bytes() {
            Some(object) => object,
            None => {
                let object = buffer.stretch(entry.len())?;
                entry.read_into(object).map_err(|_| Trouble::Corrupt)?;
                object
            }
        };
        self.decode(entry, object, now, page)?;
        let at = object.len() - self.trailer_len(state.form(), state.expires());
        Ok(state.expires().then(|| millis(&object[at..at + EXPIRY])))
    }

    /// Whether the entry's time is over at `now`.
    ///
    /// # Errors
    /// [`Trouble::Full`], and [`Trouble::Corrupt`] where the object cannot be read.
    pub(crate) fn expired(&self, entry: &Entry<'_, K>, now: Millis) -> Result<bool, Trouble> {
        if !entry.record().state().expires() {
            return Ok(false);
        }
        match self.read(entry, now, &mut []) {
            Ok(()) => Ok(false),
            Err(Trouble::Expired) => Ok(true),
            Err(trouble) => Err(trouble),
        }
    }

    /// When the entry's time is over; the end of time where that never comes. `None`: the object is
    /// not one piece of memory that could be looked at in passing.
    pub(crate) fn expiry(&self, entry: &Entry<'_, K>) -> Option<Millis> {
        let state = entry.record().state();
        if !state.expires() {
            return Some(Millis::MAX);
        }
        let object = entry.bytes()?;
        let at = object.len().checked_sub(self.trailer_len(state.form(), true))?;
        Some(millis(object.get(at..at + EXPIRY)?))
    }

    #[inline]
    fn decode(
        &self,
        entry: &Entry<'_, K>,
        object: &[u8],
        now: Millis,
        to: &mut [u8],
    ) -> Result<(), Trouble> {
        let (record, state) = (entry.record(), entry.record().state());
        let (len, form) = (state.len_of_one(), state.form());
        let trailer_len = self.trailer_len(form, state.expires());
        let payload_len = object.len().checked_sub(trailer_len).ok_or(Trouble::Corrupt)?;
        let (payload, trailer) = object.split_at(payload_len);
        if trailer_len != 0 {
            self.inspect(record, payload, trailer, now)?;
        }
        match form {
            Form::Raw => {
                to.copy_from_slice(payload.get(..to.len()).ok_or(Trouble::Corrupt)?);
                Ok(())
            }
            Form::Coded(coder) if to.len() == len => self.decode_whole(coder, payload, to),
            Form::Coded(_) if to.is_empty() => Ok(()),
            Form::Coded(coder) => self.decode_prefix(coder, payload, len, to),
            Form::Filled(INLINE) => {
                let word = payload.try_into().map_err(|_| Trouble::Corrupt)?;
                fill(u64::from_ne_bytes(word), to);
                Ok(())
            }
            Form::Filled(number) => {
                fill(self.words.word(number), to);
                Ok(())
            }
            Form::Pieces => self.read_pieces(entry.id(), to),
        }
    }

    /// Fills `to` with the start of a page in pieces.
    #[cold]
    fn read_pieces(&self, id: u32, to: &mut [u8]) -> Result<(), Trouble> {
        let large = self.large.as_ref().ok_or(Trouble::Corrupt)?;
        for (number, to) in to.chunks_mut(MAX_PIECE).enumerate() {
            let handle = large.piece(id, number).ok_or(Trouble::Left)?;
            // Nobody but a reader pins it, for one decoding.
            let piece = loop {
                match self.pool.pin(handle) {
                    Ok(piece) => break piece,
                    Err(MapError::TooManyMaps) => pause(),
                    Err(_) => return Err(Trouble::Left),
                }
            };
            // Pieces have no time of their own.
            let read = self.read(&piece, 0, to);
            // The last one to hold a piece drops its clone of the key. A panic in that is
            // swallowed: the caller drops the entry's own key next, and a second panic would end
            // the process.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(piece)));
            read?;
        }
        Ok(())
    }

    /// Checks what stands behind a payload.
    fn inspect(
        &self,
        record: &Record<K>,
        payload: &[u8],
        trailer: &[u8],
        now: Millis,
    ) -> Result<(), Trouble> {
        let state = record.state();
        let (expiry, checksum) = trailer.split_at(if state.expires() { EXPIRY } else { 0 });
        if !checksum.is_empty() {
            let sum = sum(record.tag, state.len(), state.form(), payload, expiry);
            if sum.to_le_bytes() != checksum {
                return Err(Trouble::Corrupt);
            }
        }
        if !expiry.is_empty() && millis(expiry) <= now {
            return Err(Trouble::Expired);
        }
        Ok(())
    }

    #[inline]
    fn decode_whole(&self, coder: u8, payload: &[u8], to: &mut [u8]) -> Result<(), Trouble> {
        match self.plain(coder).and_then(|codec| codec.decode(payload, to)) {
            Some(decoded) => decoded.map_err(|_| Trouble::Corrupt),
            None => {
                let mut context = self.context(to.len(), self.coders.reader(coder))?;
                context.get().decompress(payload, to).map_err(|_| Trouble::Corrupt)
            }
        }
    }

    fn decode_prefix(
        &self,
        coder: u8,
        payload: &[u8],
        len: usize,
        to: &mut [u8],
    ) -> Result<(), Trouble> {
        let codec = self.plain(coder);
        if let Some(decoded) = codec.and_then(|codec| codec.decode_prefix(payload, len, to)) {
            return decoded.map_err(|_| Trouble::Corrupt);
        }
        let mut buffer = self.buffer();
        let page = buffer.stretch(len)?;
        self.decode_whole(coder, payload, page)?;
        to.copy_from_slice(&page[..to.len()]);
        Ok(())
    }
}

/// An expiry out of its bytes.
fn millis(expiry: &[u8]) -> Millis {
    let mut at = [0; 8];
    at[..expiry.len()].copy_from_slice(expiry);
    Millis::from_le_bytes(at)
}
