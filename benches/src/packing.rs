//! The course every allocator is sent over: fill, replace at random four times over, compact.

use std::error::Error;

use crate::order::Order;

/// Replacements after the fill, per object.
const CHURN: usize = 4;

/// What went wrong, as one line for the user.
pub type Failure = Box<dyn Error + Send + Sync>;

/// An object: where the allocator put it, and which payload it is.
pub type Live<P> = (P, u32);

/// What an allocator holds at an instant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Live objects.
    pub objects: usize,
    /// Sum of their lengths.
    pub payload_bytes: usize,
    /// Bytes of all pages.
    pub page_bytes: usize,
    /// Bytes of everything else.
    pub metadata_bytes: usize,
}

impl Held {
    /// Payload per byte of pages.
    #[must_use]
    pub fn pages_density(&self) -> f64 {
        self.payload_bytes as f64 / self.page_bytes.max(1) as f64
    }

    /// Payload per byte of pages and metadata.
    #[must_use]
    pub fn density(&self) -> f64 {
        self.payload_bytes as f64 / (self.page_bytes + self.metadata_bytes).max(1) as f64
    }
}

/// Something that stores payloads and can say what that takes.
pub trait Allocator {
    /// Names a stored object.
    type Place: Copy;

    /// Stores payload number `payload`.
    ///
    /// # Errors
    /// It could not.
    fn put(&mut self, payload: u32) -> Result<Self::Place, Failure>;

    /// Frees an object.
    ///
    /// # Errors
    /// It could not.
    fn free(&mut self, object: Live<Self::Place>) -> Result<(), Failure>;

    /// Compacts until nothing is left to gain. The last thing that is asked for; no object is freed
    /// after it.
    ///
    /// # Errors
    /// It could not.
    fn compact(&mut self) -> Result<(), Failure>;

    /// What is held just now, with these objects live.
    ///
    /// # Errors
    /// It could not be told, or an object is not what was stored.
    fn held(&mut self, live: &[Live<Self::Place>]) -> Result<Held, Failure>;
}

/// What an allocator held at the three stations of the course.
#[derive(Debug, Clone, Copy)]
pub struct Course {
    /// After the fill.
    pub fill: Held,
    /// After each object was replaced four times on average, at random.
    pub churned: Held,
    /// After compaction of that.
    pub compacted: Held,
}

/// Stores `objects` objects in `order`.
///
/// # Errors
/// The allocator's.
pub fn fill<A: Allocator>(
    allocator: &mut A,
    order: &mut Order,
    objects: usize,
) -> Result<Vec<Live<A::Place>>, Failure> {
    let mut live = Vec::with_capacity(objects);
    for _ in 0..objects {
        let payload = order.next_payload();
        live.push((allocator.put(payload)?, payload));
    }
    Ok(live)
}

impl Course {
    /// Sends `allocator` over the course with `objects` objects out of `payloads` payloads.
    ///
    /// # Errors
    /// The allocator's.
    pub fn run<A: Allocator>(
        allocator: &mut A,
        payloads: usize,
        objects: usize,
        seed: u64,
    ) -> Result<Self, Failure> {
        let mut order = Order::new(payloads, seed);
        let mut live = fill(allocator, &mut order, objects)?;
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
