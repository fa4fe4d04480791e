//! The store: a page in, an entry's object out, and back.
//! ```text
//! page -> same-filled? a word's number, no object
//!      -> looks incompressible, and pages that look so did not shrink at the last trial? raw
//!      -> coded, if that is a smaller slot than raw
//! object = payload | expiry 6, if any | checksum 4, if on
//! ```
//! An object's codec and checksum can only change with its bytes. So all of it stands in the record
//! or behind the payload, never in a second place.

use xxhash_rust::xxh3::xxh3_64_with_seed;
use zpool::Pool;

use crate::codec::{Codec, Form, INLINE, RAW, same_filled};
use crate::error::MAX_PIECE;
use crate::index::Tag;
use crate::sync::{Arc, Charge};

mod buffers;
mod charged;
mod clock;
mod coders;
mod contexts;
mod large;
mod read;
mod record;
mod same_filled;
mod sample;
mod scratch;
mod trials;
mod tryout;

pub(crate) use buffers::LentBuffer;
use buffers::LentVec;
pub(crate) use charged::{Charged, Full};
use coders::{COLD, Use};
pub(crate) use coders::{Coders, TRAINABLE, TrainingPlan};
use contexts::{Contexts, LentContext, Loose};
pub(crate) use contexts::{Wanted, context_bytes, context_size};
pub(crate) use large::{Large, Pieces};
pub(crate) use record::{Entry, MAX_MARK, Record, Rest};
use same_filled::Words;
pub(crate) use sample::{Sample, Sampler};
pub(crate) use scratch::Scratch;
use trials::{Trials, Verdict};
pub(crate) use tryout::Bench;

/// Milliseconds since the cache was made.
pub(crate) type Millis = u64;

const EXPIRY: usize = 6;
const CHECKSUM: usize = 4;
/// The most bytes that stand behind a payload.
pub(crate) const TRAILER: usize = EXPIRY + CHECKSUM;
/// No entry expires later than this: about 8900 years.
const LATEST: Millis = (1 << (8 * EXPIRY)) - 1;

/// Zeros for a page of `len` bytes that is the caller's to keep. `None`: the heap has no memory.
pub(crate) fn blank_page(len: usize) -> Option<Vec<u8>> {
    let mut page = Vec::new();
    page.try_reserve_exact(len).ok()?;
    page.resize(len, 0);
    Some(page)
}

/// The pool that holds everything: objects and their records, and what else the cache charges.
pub(crate) type Memory<K> = Pool<Record<K>>;

impl<K: Send + Sync> Charge for Memory<K> {
    fn charge(&self, bytes: usize) -> bool {
        self.reserve(bytes).is_ok()
    }

    fn release(&self, bytes: usize) {
        Pool::release(self, bytes);
    }
}

#[derive(Debug)]
pub(crate) struct Store<K> {
    pub(crate) pool: Memory<K>,
    /// Coder 0.
    pub(crate) codec: Arc<dyn Codec>,
    pub(crate) coders: Coders,
    pub(crate) scratch: Scratch,
    words: Words,
    trials: Trials,
    /// Whether coder 0 compresses without a context.
    alone: bool,
    checksum: bool,
    max_page: usize,
    /// Pages in pieces, where pages may be as long.
    pub(crate) large: Option<Box<Large>>,
}

/// A page as it will be stored: the parts of an object, and what its record has to say.
#[derive(Debug)]
pub(crate) struct Draft<'a, K: Send + Sync> {
    pub(crate) len: usize,
    pub(crate) form: Form,
    pub(crate) expires: bool,
    payload: Payload<'a, K>,
    trailer: [u8; TRAILER],
    trailer_len: usize,
    /// Bytes of the slot that the object takes, where that is known.
    slot: Option<usize>,
    /// Its coder stays as long as it.
    _coder: Option<Use<'a>>,
}

#[derive(Debug)]
enum Payload<'a, K: Send + Sync> {
    Nothing,
    Word([u8; 8]),
    Page(&'a [u8]),
    Coded(LentBuffer<'a, Memory<K>>, usize),
}

/// How a page is stored, and the bytes of a slot that this takes, where they are known.
type Stored<'a, K> = (Form, Payload<'a, K>, Option<usize>);

/// Why a page could not be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its time is over.
    Expired,
    /// The payload is not what was stored.
    Corrupt,
    /// Reading it takes memory that is not to be had.
    Full(Full),
    /// The entry has ended, and its pieces are gone: the key may have another one.
    Left,
}

impl Trouble {
    /// The heap has no memory for the page.
    pub(crate) const fn no_memory() -> Self {
        Self::Full(Full::NoMemory)
    }
}

impl From<Full> for Trouble {
    fn from(full: Full) -> Self {
        Self::Full(full)
    }
}

impl<K: Send + Sync> Draft<'_, K> {
    /// Payload and trailer.
    pub(crate) fn parts(&self) -> [&[u8]; 2] {
        let payload = match &self.payload {
            Payload::Nothing => &[],
            Payload::Word(word) => &word[..],
            Payload::Page(page) => page,
            Payload::Coded(buffer, len) => buffer.bytes(*len),
        };
        [payload, &self.trailer[..self.trailer_len]]
    }

    /// Bytes of the object.
    pub(crate) fn bytes(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Bytes of the slot that the object takes.
    pub(crate) fn slot_bytes(&self, pool: &Memory<K>) -> usize {
        self.slot.unwrap_or_else(|| pool.slot_bytes(self.bytes()))
    }
}

impl<K: Send + Sync> Store<K> {
    /// What a store takes on the heap beside its pool and its benches.
    pub(crate) const BYTES: usize = Words::BYTES;

    #[inline(always)]
    pub(crate) fn new(
        pool: Memory<K>,
        codec: Arc<dyn Codec>,
        coders: Coders,
        scratch: Scratch,
        checksum: bool,
        always_compress: bool,
        max_page: usize,
    ) -> Self {
        let (words, trials) = (Words::new(), Trials::new(always_compress));
        // A page as it may come: no codec is ever asked for less than a byte of one.
        let alone = codec.encode(&[0, 1], &mut [0]).is_some();
        let large = (max_page > MAX_PIECE).then(|| Box::new(Large::new()));
        Self { pool, codec, coders, scratch, words, trials, alone, checksum, max_page, large }
    }

    pub(crate) fn max_page(&self) -> usize {
        self.max_page
    }

    /// The longest page, or piece of one, that is stored as one object.
    pub(crate) fn max_piece(&self) -> usize {
        self.max_page.min(MAX_PIECE)
    }

    /// The longest page that fits however it is stored, with or without a time to go at.
    pub(crate) fn longest(&self, expires: bool) -> usize {
        let trailer = self.trailer_len(Form::Raw, expires);
        self.max_piece().min(self.pool.max_object() - trailer)
    }

    pub(crate) fn buffer(&self) -> LentBuffer<'_, Memory<K>> {
        self.scratch.buffer(&self.pool)
    }

    /// An empty vector for a page that the caller's code writes.
    pub(crate) fn vec(&self) -> LentVec<'_, Memory<K>> {
        // A vector that grows as it is written to gets twice as long as the page at the most.
        self.scratch.vec(2 * self.max_page, &self.pool)
    }

    /// A context of a coder for pages of up to `len` bytes.
    ///
    /// # Errors
    /// No memory for it. [`Trouble::Corrupt`]: there is no such coder.
    pub(crate) fn context(
        &self,
        len: usize,
        coder: u8,
    ) -> Result<LentContext<'_, Memory<K>>, Trouble> {
        if let Some(context) = self.scratch.context(len, coder, &self.pool) {
            return Ok(context);
        }
        let made = |codec| self.scratch.context_of(Wanted { len, coder, codec }, &self.pool);
        if coder == 0 {
            return Ok(made(&*self.codec)?);
        }
        let codec = self.coders.codec(coder).ok_or(Trouble::Corrupt)?;
        Ok(made(&*codec)?)
    }

    /// A context of a codec that is no coder yet, for pages of up to `len` bytes.
    ///
    /// # Errors
    /// No memory for it.
    pub(crate) fn loose_context(
        &self,
        len: usize,
        codec: &dyn Codec,
    ) -> Result<Loose<'_, Memory<K>>, Full> {
        Contexts::make_loose(len, codec, &self.pool)
    }

    /// Coders that decode without a context, if they do: a trained one never does.
    #[inline]
    fn plain(&self, coder: u8) -> Option<&dyn Codec> {
        match coder {
            0 => Some(&*self.codec),
            COLD => self.coders.cold.as_deref(),
            _ => None,
        }
    }

    /// Bytes that `form` and the settings put behind a payload.
    fn trailer_len(&self, form: Form, expires: bool) -> usize {
        let expiry = if expires { EXPIRY } else { 0 };
        let empty = !expires && matches!(form, Form::Filled(word) if word != INLINE);
        // An object without a byte of its own has nothing to check.
        expiry + if self.checksum && !empty { CHECKSUM } else { 0 }
    }

    /// What is stored for the entry of a page of `len` bytes that is in pieces.
    pub(crate) fn draft_of_pieces(
        &self,
        tag: Tag,
        len: usize,
        expiry: Option<Millis>,
    ) -> Draft<'_, K> {
        self.finish(tag, len, expiry, (Form::Pieces, Payload::Nothing, None), None)
    }

    /// Makes of `page`, which is no longer than [`max_piece`](Self::max_piece), what is stored for
    /// it.
    ///
    /// # Errors
    /// No memory to compress with.
    pub(crate) fn draft<'a>(
        &'a self,
        tag: Tag,
        page: &'a [u8],
        expiry: Option<Millis>,
    ) -> Result<Draft<'a, K>, Full> {
        self.draft_as(tag, page, expiry, false)
    }

    /// The same. A page that is `unpacked` is not compressed, if it fits as it is.
    ///
    /// # Errors
    /// No memory to compress with.
    pub(crate) fn draft_as<'a>(
        &'a self,
        tag: Tag,
        page: &'a [u8],
        expiry: Option<Millis>,
        unpacked: bool,
    ) -> Result<Draft<'a, K>, Full> {
        let mut coder = None;
        let stored = match same_filled(page) {
            Some(word) => match self.words.number(word) {
                Some(number) => (Form::Filled(number), Payload::Nothing, None),
                None => (Form::Filled(INLINE), Payload::Word(word.to_ne_bytes()), None),
            },
            None if unpacked && page.len() <= self.longest(expiry.is_some()) => {
                (Form::Raw, Payload::Page(page), None)
            }
            None => {
                coder = self.coders.writer();
                let number = coder.as_ref().map_or(0, Use::number);
                // A page of one byte less is not worth a decoding: the slot has to be a smaller one
                // than raw.
                let coded = self.compress(tag, page, expiry.is_some(), number, usize::MAX)?;
                coded.unwrap_or((Form::Raw, Payload::Page(page), None))
            }
        };
        Ok(self.finish(tag, page.len(), expiry, stored, coder))
    }

    /// A [`draft`](Self::draft) of a page that is stored as it is, if it is a smaller one.
    ///
    /// # Errors
    /// No memory to compress with.
    pub(crate) fn draft_packed<'a>(
        &'a self,
        tag: Tag,
        page: &'a [u8],
        expiry: Option<Millis>,
    ) -> Result<Option<Draft<'a, K>>, Full> {
        let draft = self.draft(tag, page, expiry)?;
        Ok((draft.form != Form::Raw).then_some(draft))
    }

    /// A draft of the page by the stronger coder, if that takes less than `bound` bytes of a slot.
    ///
    /// # Errors
    /// No memory to compress with.
    pub(crate) fn redraft<'a>(
        &'a self,
        tag: Tag,
        page: &'a [u8],
        expiry: Option<Millis>,
        bound: usize,
    ) -> Result<Option<Draft<'a, K>>, Full> {
        let Some(coder) = self.coders.stronger() else { return Ok(None) };
        let coded = self.compress(tag, page, expiry.is_some(), coder.number(), bound)?;
        Ok(coded.map(|coded| self.finish(tag, page.len(), expiry, coded, Some(coder))))
    }

    /// The same by what was chosen, [`RAW`] among them, if it can.
    ///
    /// # Errors
    /// No memory to compress with.
    pub(crate) fn repack<'a>(
        &'a self,
        tag: Tag,
        page: &'a [u8],
        expiry: Option<Millis>,
        (chosen, bound): (u8, usize),
    ) -> Result<Option<Draft<'a, K>>, Full> {
        if chosen == RAW {
            let raw = (Form::Raw, Payload::Page(page), None);
            return Ok(Some(self.finish(tag, page.len(), expiry, raw, None)));
        }
        let used = self.coders.use_choice(chosen);
        let coded = self.compress(tag, page, expiry.is_some(), used.number(), bound)?;
        Ok(coded.map(|coded| self.finish(tag, page.len(), expiry, coded, Some(used))))
    }

    /// A draft of what is behind the payload as well.
    fn finish<'a>(
        &self,
        tag: Tag,
        len: usize,
        expiry: Option<Millis>,
        (form, payload, slot): Stored<'a, K>,
        coder: Option<Use<'a>>,
    ) -> Draft<'a, K> {
        let expires = expiry.is_some();
        let trailer_len = self.trailer_len(form, expires);
        let trailer = [0; TRAILER];
        let mut draft =
            Draft { len, form, expires, payload, trailer, trailer_len, slot, _coder: coder };
        if let Some(at) = expiry {
            draft.trailer[..EXPIRY].copy_from_slice(&at.min(LATEST).to_le_bytes()[..EXPIRY]);
        }
        let expiry_len = if expires { EXPIRY } else { 0 };
        if trailer_len > expiry_len {
            let sum = sum(tag, len, form, draft.parts()[0], &draft.trailer[..expiry_len]);
            draft.trailer[expiry_len..trailer_len].copy_from_slice(&sum.to_le_bytes());
        }
        draft
    }

    /// What a coder makes of a page, if that takes a slot of less than `bound` bytes and less than
    /// the page as it is.
    fn compress<'a>(
        &'a self,
        tag: Tag,
        page: &[u8],
        expires: bool,
        coder: u8,
        bound: usize,
    ) -> Result<Option<Stored<'a, K>>, Full> {
        let plain = self.plain(coder).is_some_and(Codec::is_plain) || self.coders.is_raw(coder);
        if page.is_empty() || plain {
            return Ok(None);
        }
        let verdict = self.trials.verdict(tag, page, coder);
        if verdict == Verdict::Skip {
            return Ok(None);
        }
        let form = Form::Coded(coder);
        let behind = self.trailer_len(form, expires);
        // Raw it may not fit at all: see `longest`.
        let (most, raw) = (self.pool.max_object(), page.len() + behind);
        let raw = if raw > most { usize::MAX } else { self.pool.slot_bytes(raw) };
        let room = (page.len() - 1).min(most - behind);
        let Some((buffer, coded)) = self.code(page, coder, room)? else { return Ok(None) };
        let coded = coded.filter(|len| *len <= room);
        let slot = coded.map_or(usize::MAX, |len| self.pool.slot_bytes(len + behind));
        match verdict {
            Verdict::Try => self.trials.learn(coder, slot < raw),
            _ if slot >= raw => self.trials.beware(),
            _ => {}
        }
        let coded = coded.filter(|_| slot < raw.min(bound));
        Ok(coded.map(|len| (form, Payload::Coded(buffer, len), Some(slot))))
    }

    /// What a coder makes of a page in at most `room` bytes, and how long that is, if it fits.
    /// `None`: there is no such coder.
    ///
    /// # Errors
    /// No memory to compress with.
    #[allow(clippy::type_complexity, reason = "a buffer, and what is in it")]
    fn code(
        &self,
        page: &[u8],
        coder: u8,
        room: usize,
    ) -> Result<Option<(LentBuffer<'_, Memory<K>>, Option<usize>)>, Full> {
        // The context comes first: threads that wait for one have no buffer. It goes back at once:
        // room is made for the page next, and that may call user code.
        let mut context = if coder == 0 && self.alone {
            None
        } else {
            match self.context(page.len(), coder) {
                Ok(context) => Some(context),
                Err(Trouble::Full(full)) => return Err(full),
                Err(_) => return Ok(None),
            }
        };
        let mut buffer = self.buffer();
        let to = &mut buffer.stretch(page.len())?[..room];
        let coded = match &mut context {
            None => self.codec.encode(page, to).flatten(),
            Some(context) => context.get().compress(page, to),
        };
        drop(context);
        Ok(Some((buffer, coded)))
    }
}

/// The checksum of a payload and what follows it: whose it is and what it stands for count, so that
/// two payloads that change places are noticed.
fn sum(tag: Tag, len: usize, form: Form, payload: &[u8], expiry: &[u8]) -> u32 {
    let form = match form {
        Form::Raw => 0,
        Form::Coded(coder) => 1 << 62 | u64::from(coder) << 52,
        Form::Filled(_) => 2 << 62,
        Form::Pieces => 3 << 62,
    };
    let seed = u64::from(tag) | (len as u64) << 32 | form;
    let sum = xxh3_64_with_seed(payload, seed);
    let sum = if expiry.is_empty() { sum } else { xxh3_64_with_seed(expiry, sum) };
    (sum ^ sum >> 32) as u32
}
