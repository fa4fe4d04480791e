//! The course every allocator is sent over: fill, replace at random four times over, compact.

use benches::arguments::Failure;
use benches::order::Order;

/// Replacements after the fill, per object.
const CHURN: usize = 4;

/// An object: where the allocator put it, and which payload it is.
pub(crate) type Live<P> = (P, u32);

/// What an allocator holds at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Live objects.
    pub(crate) objects: usize,
    /// Sum of their lengths.
    pub(crate) payload_bytes: usize,
    /// Bytes of all pages.
    pub(crate) page_bytes: usize,
    /// Bytes of everything else.
    pub(crate) metadata_bytes: usize,
}

impl Held {
    /// Payload per byte of pages.
    pub(crate) fn pages_density(&self) -> f64 {
        self.payload_bytes as f64 / self.page_bytes.max(1) as f64
    }

    /// Payload per byte of pages and metadata.
    pub(crate) fn density(&self) -> f64 {
        self.payload_bytes as f64 / (self.page_bytes + self.metadata_bytes).max(1) as f64
    }
}

/// Something that stores payloads and can say what that takes.
pub(crate) trait Allocator {
    /// Names a stored object.
    type Place: Copy;

    /// Stores payload number `payload`.
    fn put(&mut self, payload: u32) -> Result<Self::Place, Failure>;

    /// Frees an object.
    fn free(&mut self, object: Live<Self::Place>) -> Result<(), Failure>;

    /// Compacts until nothing is left to gain. The last thing that is asked for; no object is freed
    /// after it.
    fn compact(&mut self) -> Result<(), Failure>;

    /// What is held just now, with these objects live.
    fn held(&mut self, live: &[Live<Self::Place>]) -> Result<Held, Failure>;
}

/// What an allocator held at the three stations of the course.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    /// After the fill.
    pub(crate) fill: Held,
    /// After each object was replaced four times on average, at random.
    pub(crate) churned: Held,
    /// After compaction of that.
    pub(crate) compacted: Held,
}

impl Course {
    pub(crate) fn stations(&self) -> [&Held; 3] {
        [&self.fill, &self.churned, &self.compacted]
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn stations_mut(&mut self) -> [&mut Held; 3] {
        [&mut self.fill, &mut self.churned, &mut self.compacted]
    }

    /// Sends `allocator` over the course with `objects` objects out of `payloads` payloads.
    pub(crate) fn run<A: Allocator>(
        allocator: &mut A,
        payloads: usize,
        objects: usize,
        seed: u64,
    ) -> Result<Self, Failure> {
        let mut order = Order::new(payloads, seed);
        let mut live = Vec::with_capacity(objects);
        for _ in 0..objects {
            let payload = order.next_payload();
            live.push((allocator.put(payload)?, payload));
        }
        let fill = allocator.held(&live)?;
        for _ in 0..CHURN * objects {
            let object = &mut live[order.pick(objects)];
            allocator.free(*object)?;
            let payload = order.next_payload();
            *object = (allocator.put(payload)?, payload);
        }
        let churned = allocator.held(&live)?;
        allocator.compact()?;
        Ok(Self { fill, churned, compacted: allocator.held(&live)? })
    }
}
