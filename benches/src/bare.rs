//! Array -> (pointer, length): what a look-up costs without a cache. No cache can be cheaper.

/// Payloads back to back, each with a copy of its own for every key: as cold as a cache's.
#[derive(Debug)]
pub struct Bare {
    bytes: Vec<u8>,
    /// Start and length.
    places: Vec<(usize, u32)>,
}

impl Bare {
    /// For each key its own copy of one of `payloads`: `chosen` has the payload of key 0, of key 1
    /// and so on.
    ///
    /// # Panics
    /// There is no such payload.
    #[must_use]
    pub fn new(payloads: &[Vec<u8>], chosen: impl ExactSizeIterator<Item = usize> + Clone) -> Self {
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
    #[inline]
    pub fn payload(&self, key: usize) -> &[u8] {
        let (start, len) = self.places[key];
        &self.bytes[start..start + len as usize]
    }
}
