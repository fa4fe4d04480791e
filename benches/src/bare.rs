//! Array -> (pointer, length) -> codec: what a hit costs without a cache. No cache can be cheaper.

use std::fmt;
use std::io;

use ::tests::corpus::PageFile;
use zcache::codec::{Codec, Context};

/// Payloads back to back, each with a copy of its own for every key: as cold as a cache's.
#[derive(Debug)]
pub struct Bare {
    bytes: Vec<u8>,
    /// Start and length.
    places: Vec<(usize, u32)>,
}

/// What a thread decodes with.
pub struct Decoder<'b> {
    bare: &'b Bare,
    codec: &'b dyn Codec,
    context: Box<dyn Context>,
}

impl Bare {
    /// The pages of `file` one after the other under the keys below `entries`, each compressed
    /// alone, or as it is where that does not shrink it.
    ///
    /// # Errors
    /// The codec has no context to give.
    pub fn new(file: &PageFile, codec: &dyn Codec, entries: usize) -> io::Result<Self> {
        let mut context = codec.context(file.page_size())?;
        let mut to = vec![0; file.page_size()];
        let packed: Vec<Vec<u8>> = file
            .pages()
            .take(entries)
            .map(|page| match context.compress(page, &mut to[..page.len() - 1]) {
                Some(len) => to[..len].to_vec(),
                None => page.to_vec(),
            })
            .collect();
        Ok(Self::of(&packed, (0..entries).map(|key| key % packed.len())))
    }

    /// For each key its own copy of one of `payloads`: `chosen` has the payload of key 0, of key 1
    /// and so on.
    ///
    /// # Panics
    /// There is no such payload.
    #[must_use]
    pub fn of(payloads: &[Vec<u8>], chosen: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
        let bytes = chosen.clone().map(|at| payloads[at].len()).sum();
        let (mut bytes, mut places) = (Vec::with_capacity(bytes), Vec::with_capacity(chosen.len()));
        for at in chosen {
            places.push((bytes.len(), payloads[at].len() as u32));
            bytes.extend_from_slice(&payloads[at]);
        }
        Self { bytes, places }
    }

    /// Keys.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.places.len()
    }

    /// Bytes of all payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What is stored under `key`.
    ///
    /// # Panics
    /// There is no such key.
    #[must_use]
    pub fn payload(&self, key: usize) -> &[u8] {
        let (start, len) = self.places[key];
        &self.bytes[start..start + len as usize]
    }

    /// For one thread; `codec` is what the payloads are of, and `page_size` what they decode to.
    ///
    /// # Errors
    /// The codec has no context to give.
    pub fn decoder<'b>(
        &'b self,
        codec: &'b dyn Codec,
        page_size: usize,
    ) -> io::Result<Decoder<'b>> {
        Ok(Decoder { bare: self, codec, context: codec.context(page_size)? })
    }
}

impl Decoder<'_> {
    /// Decodes the page of `key` to the whole of `to`.
    ///
    /// # Panics
    /// There is no such key, or `to` is no page.
    #[inline]
    pub fn decode(&mut self, key: usize, to: &mut [u8]) {
        let payload = self.bare.payload(key);
        if payload.len() == to.len() {
            return to.copy_from_slice(payload);
        }
        let decoded = match self.codec.decode(payload, to) {
            Some(decoded) => decoded,
            None => self.context.decompress(payload, to),
        };
        decoded.expect("a payload of this codec");
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ::tests::corpus;
    use zcache::codec::{Lz4, None, Zstd};

    use super::*;

    #[test]
    fn every_key_decodes_to_its_page() {
        let file = corpus::sample();
        let zstd = Zstd::level(3).expect("a level of zstd's");
        for codec in [&None as &dyn Codec, &Lz4, &zstd] {
            let bare = Bare::new(&file, codec, 100).expect("payloads");
            let mut decoder = bare.decoder(codec, file.page_size()).expect("a context");
            let mut to = vec![0; file.page_size()];
            for key in 0..100 {
                decoder.decode(key, &mut to);
                assert_eq!(to, file.page(key % file.pages().len()));
            }
        }
    }
}
