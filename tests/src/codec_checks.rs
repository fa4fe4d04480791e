//! What must hold of any codec, for any page and for any payload: for the tests and the fuzz
//! targets.

use std::fmt;

use zcache::codec::{self, Codec, Context, Corrupt, Dictionary, Lz4, Zstd};

use crate::alloc;
use crate::corpus;

/// Bytes on either side of a buffer that a codec must not touch.
const GUARD: usize = 64;
/// The most bytes that a codec may allocate at once to decode: what it has to say of an error.
const MESSAGE: usize = 128;
/// The longest page there is.
pub const LONGEST: usize = zcache::MAX_PIECE;

/// A codec, and a context that is used for ever, as the cache uses one.
pub struct Subject {
    codec: Box<dyn Codec>,
    context: Box<dyn Context>,
}

/// Every codec there is, with and without dictionaries.
///
/// # Panics
/// One cannot be made.
#[must_use]
pub fn subjects() -> Vec<Subject> {
    let sample = corpus::sample();
    let samples: Vec<&[u8]> = sample.pages().step_by(3).collect();
    let trained = Dictionary::train(&samples, 16 << 10).expect("enough samples");
    let raw = Dictionary::new(samples[0]).expect("any bytes");
    let zstd = |level| Zstd::level(level).expect("a level");
    let codecs: [Box<dyn Codec>; 7] = [
        Box::new(Lz4),
        Box::new(codec::Plain),
        Box::new(zstd(3)),
        Box::new(zstd(-5)),
        Box::new(zstd(9)),
        Box::new(zstd(3).with_dictionary(&trained)),
        Box::new(zstd(1).with_dictionary(&raw)),
    ];
    codecs.into_iter().map(Subject::new).collect()
}

impl Subject {
    fn new(codec: Box<dyn Codec>) -> Self {
        let context = codec.context(LONGEST).expect("a context");
        Self { codec, context }
    }

    /// The payload of a page, in at most `room` bytes.
    ///
    /// # Panics
    /// It is said to be longer than that.
    pub fn compress(&mut self, page: &[u8], room: usize) -> Option<Vec<u8>> {
        let mut to = vec![0xa5; room + GUARD];
        let len = self.context.compress(page, &mut to[..room])?;
        assert!(len <= room, "{self:?}: {len} bytes in {room}");
        assert!(to[room..].iter().all(|byte| *byte == 0xa5), "{self:?}: passed its room");
        to.truncate(len);
        Some(to)
    }

    /// A page comes back as it was, whole and in part, and not at another length.
    ///
    /// # Panics
    /// It does not.
    pub fn round_trip(&mut self, page: &[u8], room: usize) {
        let payload = match self.compress(page, page.len() * 2 + 64) {
            Some(payload) => payload,
            None if self.codec.is_plain() => page.to_vec(),
            None => panic!("{self:?}: no room for {} bytes in twice as many", page.len()),
        };
        assert_eq!(self.decode_anything(&payload, page.len()), Some(page.to_vec()), "{self:?}");
        for part in [0, 1, 100, page.len() / 3, page.len() / 2, page.len()] {
            let mut start = vec![0xee; part.min(page.len())];
            let decoded = self.codec.decode_prefix(&payload, page.len(), &mut start);
            let right = decoded.is_none_or(|decoded| decoded == Ok(()) && page.starts_with(&start));
            assert!(right, "{self:?}: the first {part} of {} bytes", page.len());
        }
        if let Some(tight) = self.compress(page, room) {
            assert_eq!(self.decode_anything(&tight, page.len()), Some(page.to_vec()), "{self:?}");
        }
        let others = [page.len() + 1, page.len().saturating_sub(1), 0];
        for len in others.into_iter().filter(|len| *len != page.len()) {
            assert_eq!(self.decode_anything(&payload, len), None, "{self:?}: {len} bytes");
        }
    }

    /// The page of `len` bytes that `payload` decodes to, if it does: the same whatever was in the
    /// buffer, without a byte beside it, and without an allocation to speak of.
    ///
    /// # Panics
    /// One of these does not hold.
    pub fn decode_anything(&mut self, payload: &[u8], len: usize) -> Option<Vec<u8>> {
        let page = self.twice(len, |subject, page| {
            let decoded = subject.codec.decode(payload, page);
            Some(decoded.unwrap_or_else(|| subject.context.decompress(payload, page)))
        });
        let page = page.expect("either way decodes");
        for part in [len, len.saturating_sub(1), len / 2, len / 3, 100, 1, 0] {
            let part = part.min(len);
            let start =
                self.twice(part, |subject, start| subject.codec.decode_prefix(payload, len, start));
            // A part may be refused of what no encoder makes: liblz4 takes an offset of 0 for
            // zeros.
            if let (Some(Some(start)), Some(page)) = (start, &page) {
                assert!(start == page[..part], "{self:?}: {part} of {len} bytes");
            }
        }
        page
    }

    /// Runs `decode` over a buffer of zeros and over one of ones. `None`: it does not do this.
    fn twice(
        &mut self,
        len: usize,
        mut decode: impl FnMut(&mut Self, &mut [u8]) -> Option<Result<(), Corrupt>>,
    ) -> Option<Option<Vec<u8>>> {
        let mut over = |filler: u8| {
            let mut buffer = vec![filler; GUARD + len + GUARD];
            let page = &mut buffer[GUARD..GUARD + len];
            let (decoded, largest) = alloc::largest(|| decode(self, page));
            assert!(largest <= MESSAGE, "{self:?}: it allocates {largest} bytes to decode");
            let (front, back) = (&buffer[..GUARD], &buffer[GUARD + len..]);
            let untouched = front.iter().chain(back).all(|byte| *byte == filler);
            assert!(untouched, "{self:?}: passed its {len} bytes");
            buffer.truncate(GUARD + len);
            decoded.map(|decoded| decoded.ok().map(|()| buffer.split_off(GUARD)))
        };
        let (zeros, ones) = (over(0), over(0xff));
        assert!(zeros == ones, "{self:?}: {len} bytes depend on what was in the buffer");
        zeros
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.codec.name())
    }
}
