//! The pool on the course, with every sampled object verified at every station.

use benches::arguments::Failure;
use benches::codec::Payloads;
use zpool::{Config, Handle, Pool, SourceKind};

use crate::packing::{Allocator, Held, Live};
use crate::unbacked::Unbacked;

/// Objects looked at when a station is verified: every object while there are not more.
const SAMPLE: usize = 10_000;
/// Bytes a call of `compact` may move.
const STEP: usize = 1 << 20;

/// A pool that stores payloads.
#[derive(Debug)]
pub(crate) struct Pooled<'a> {
    pool: Pool,
    payloads: &'a Payloads,
    /// Whether the pages have bytes.
    backed: bool,
    buffer: Vec<u8>,
    /// Handle slots made so far, at each station passed.
    slots: Vec<usize>,
}

impl<'a> Pooled<'a> {
    /// A pool over a source of zpool's own.
    pub(crate) fn new(payloads: &'a Payloads, source: SourceKind) -> Result<Self, Failure> {
        let pool = Pool::new(Self::config(payloads).source(source))?;
        Ok(Self::over(pool, payloads, true))
    }

    /// A pool over pages without memory: sizes count, bytes are neither stored nor compared.
    pub(crate) fn of_sizes(payloads: &'a Payloads) -> Result<Self, Failure> {
        let pool = Pool::with_source(Self::config(payloads), Unbacked::new())?;
        Ok(Self::over(pool, payloads, false))
    }

    /// The default config, with larger objects only where the payloads need them.
    fn config(payloads: &Payloads) -> Config {
        let lens = (0..payloads.count() as u32).map(|payload| payloads.get(payload).len());
        Config::new().max_object(lens.max().unwrap_or(0).max(64 << 10))
    }

    fn over(pool: Pool, payloads: &'a Payloads, backed: bool) -> Self {
        let lens = (0..payloads.count() as u32).map(|payload| payloads.get(payload).len());
        let buffer = vec![0; lens.max().unwrap_or(0)];
        Self { pool, payloads, backed, buffer, slots: Vec::new() }
    }

    /// Handle slots made so far, at each station passed.
    pub(crate) fn slots(&self) -> &[usize] {
        &self.slots
    }

    /// Compares a sample of the objects with their payloads.
    fn verify(&mut self, live: &[Live<Handle>]) -> Result<(), Failure> {
        let step = (live.len() / SAMPLE).max(1);
        for (handle, payload) in live.iter().step_by(step) {
            let payload = self.payloads.get(*payload);
            let same = if self.backed {
                let len = self.pool.read_into(*handle, &mut self.buffer)?;
                &self.buffer[..len] == payload
            } else {
                self.pool.object_len(*handle)? == payload.len()
            };
            if !same {
                return Err("an object is not what was stored".into());
            }
        }
        Ok(())
    }
}

impl Allocator for Pooled<'_> {
    type Place = Handle;

    fn put(&mut self, payload: u32) -> Result<Handle, Failure> {
        Ok(self.pool.alloc(self.payloads.get(payload))?)
    }

    fn free(&mut self, (handle, _): Live<Handle>) -> Result<(), Failure> {
        Ok(self.pool.free(handle)?)
    }

    fn compact(&mut self) -> Result<(), Failure> {
        while !self.pool.compact(STEP).done {}
        Ok(())
    }

    fn held(&mut self, live: &[Live<Handle>]) -> Result<Held, Failure> {
        self.pool.trim();
        let stats = self.pool.stats();
        let payload: usize = live.iter().map(|(_, at)| self.payloads.get(*at).len()).sum();
        if (stats.objects, stats.payload_bytes) != (live.len(), payload) {
            return Err("the pool's counts are not those of the objects stored".into());
        }
        self.verify(live)?;
        self.slots.push(stats.handle_slots);
        Ok(Held {
            objects: stats.objects,
            payload_bytes: stats.payload_bytes,
            page_bytes: stats.page_bytes,
            metadata_bytes: stats.metadata_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::Course;

    #[test]
    fn sizes_alone_pack_as_bytes_do() {
        let payloads = Payloads::random(500, 100..=9000, 4);
        let mut stored = Pooled::new(&payloads, SourceKind::Memfd).expect("a pool");
        let mut counted = Pooled::of_sizes(&payloads).expect("a pool");
        let stored = Course::run(&mut stored, 500, 3000, 0).expect("stored");
        let counted = Course::run(&mut counted, 500, 3000, 0).expect("counted");
        for (stored, counted) in stored.stations().into_iter().zip(counted.stations()) {
            assert_eq!(
                (stored.payload_bytes, stored.page_bytes),
                (counted.payload_bytes, counted.page_bytes)
            );
        }
    }
}
