//! LRU, as near as a cache comes whose hits write a mark only.

use std::ops::Range;

use zpool::NoMemory;

use super::links::Links;
use super::search::Search;
use super::{Entries, Policy, Priority};

/// Least recently used: one list, entries enter at its head and go at its tail.
///
/// What it is exactly depends on what it is told:
/// - marks, as by the cache: CLOCK, an approximation. An entry at the tail that was hit since it
///   was last there goes back to the head once, however often it was hit;
/// - each hit, by [`touch`](Policy::touch): LRU itself;
/// - neither: FIFO.
///
/// [`Priority::Low`] enters at the tail; `High` is as `Normal`, but for its mark.
///
/// ```
/// use std::cell::Cell;
/// use zcache::policy::{Entries, Lru, Policy, Priority};
///
/// struct Marks([Cell<u8>; 3]);
///
/// impl Entries for Marks {
///     fn mark(&self, id: u32) -> Option<u8> {
///         Some(self.0[id as usize].get())
///     }
///     fn set_mark(&self, id: u32, mark: u8) {
///         self.0[id as usize].set(mark);
///     }
///     fn tag(&self, id: u32) -> u32 {
///         id.wrapping_mul(0x9e37_79b9)
///     }
/// }
///
/// let (mut lru, marks) = (Lru::new(), Marks(Default::default()));
/// for id in 0..3 {
///     let _charge = lru.growth(id); // a budget is asked for this first
///     lru.grow(id)?;
///     lru.insert(id, marks.tag(id), Priority::Normal);
/// }
/// marks.set_mark(0, 1); // a hit
/// assert_eq!(lru.evict(&marks, 100), Some(1));
/// # Ok::<(), zcache::NoMemory>(())
/// ```
#[derive(Debug)]
pub struct Lru {
    links: Links<1>,
}

impl Lru {
    /// One without entries, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self { links: Links::new() }
    }
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Lru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn fresh(&self) -> Box<dyn Policy> {
        Box::new(Self::new())
    }

    fn max_mark(&self) -> u8 {
        1
    }

    fn growth(&self, id: u32) -> usize {
        self.links.growth(id)
    }

    fn grow(&mut self, id: u32) -> Result<(), NoMemory> {
        self.links.grow(id)
    }

    fn shrink(&mut self, in_use: &dyn Fn(Range<u32>) -> bool) -> usize {
        self.links.shrink(in_use)
    }

    fn insert(&mut self, id: u32, _tag: u32, priority: Priority) {
        match priority {
            Priority::Low => self.links.push_tail(0, id),
            Priority::Normal | Priority::High => self.links.push_head(0, id),
        }
    }

    fn remove(&mut self, id: u32) -> bool {
        self.links.remove(id)
    }

    fn replace(&mut self, old: u32, new: u32) {
        self.links.replace(old, new);
    }

    fn touch(&mut self, id: u32) {
        if self.links.remove(id) {
            self.links.push_head(0, id);
        }
    }

    fn evict(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        let mut search = Search::new(entries, effort);
        let found = search.second_chance(&mut self.links, 0, |_, _, _| {});
        found.or_else(|| search.spared.inspect(|id| _ = self.links.remove(*id)))
    }

    fn evict_unspared(&mut self, entries: &dyn Entries, effort: usize) -> Option<u32> {
        Search::new(entries, effort).second_chance(&mut self.links, 0, |_, _, _| {})
    }

    fn contains(&self, id: u32) -> bool {
        self.links.list(id).is_some()
    }

    fn len(&self) -> usize {
        self.links.total()
    }

    fn bytes(&self) -> usize {
        self.links.bytes()
    }

    fn check(&self) {
        self.links.check();
    }
}
