//! Compaction: objects move out of sparse zspages into free slots of fuller ones, so that whole
//! chains of pages come free.
//!
//! A note says which classes may have something to gain; it changes as objects come and go
//! (`ripe`). A look finds none in most cases, and takes no lock then.
//!
//! One step takes the class that frees the most pages for the fewest bytes moved, and empties its
//! sparsest zspage. It holds the class's lock to pick an object and a place for it. It copies with
//! no lock held, under a pin of its own. Then it swings the word if no other thread pins the object
//! at that instant. Otherwise the object stays for a later step. Readers never wait for it, and a
//! writer at most for the copy of the one object it wants.

use crate::arena::Arena;
use crate::class::{Class, Emptying, Prospect};
use crate::stats::count;

/// What a call of [`Pool::compact`](crate::Pool::compact) did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// Pages of zspages that were emptied.
    pub pages_freed: usize,
    /// Bytes of objects copied to a new place.
    pub bytes_moved: usize,
    /// Objects copied to a new place.
    pub objects_moved: usize,
    /// Nothing is left that moving could free, but for objects that are mapped just now; of mixed
    /// zspages, that nothing is known of, without another try.
    pub done: bool,
}

/// What this call has given up on: zspages that kept an object which somebody holds, and classes
/// with more of them than fit here.
struct Failed {
    zspages: [u32; 32],
    count: usize,
    classes: [u64; 16],
}

impl Failed {
    fn zspages(&self) -> &[u32] {
        &self.zspages[..self.count]
    }

    fn class(&self, number: u16) -> bool {
        self.classes[usize::from(number) / 64] >> (number % 64) & 1 == 1
    }

    fn add(&mut self, number: u16, zspage: Option<u32>) {
        match (zspage, self.zspages.get_mut(self.count)) {
            (Some(id), Some(next)) => {
                *next = id;
                self.count += 1;
            }
            _ => self.classes[usize::from(number) / 64] |= 1 << (number % 64),
        }
    }
}

/// Moves objects until `budget` bytes have moved or nothing is left to gain; passes the budget by
/// less than one object.
pub(crate) fn compact<T>(arena: &Arena<T>, budget: usize) -> Compaction {
    // What readers left empty needs no moving, and no class would be chosen for it.
    arena.tidy_up();
    if arena.ripe.is_empty() {
        count(&arena.counters.compactions, 1);
        return Compaction { done: true, ..Compaction::default() };
    }
    let mut did = Compaction::default();
    let mut failed = Failed { zspages: [0; 32], count: 0, classes: [0; 16] };
    let mut ranking = Ranking::default();
    let mut contested = false;
    loop {
        if ranking.is_empty() {
            let busy = ranking.fill(arena, &failed);
            did.done = ranking.is_empty() && !busy && !contested;
        }
        if did.bytes_moved >= budget {
            break;
        }
        let Some((number, class)) = ranking.pop() else { break };
        if let Err(zspage) = empty_one(arena, class, budget, failed.zspages(), &mut did) {
            // No zspage: another thread was faster, and this class may be worth another call.
            contested |= zspage.is_none();
            failed.add(number, zspage);
        }
        ranking.rank(arena, &failed, number, class);
    }
    let counters = &arena.counters;
    count(&counters.compactions, 1);
    count(&counters.pages_freed, did.pages_freed);
    count(&counters.bytes_moved, did.bytes_moved);
    count(&counters.objects_moved, did.objects_moved);
    did
}

/// The classes with a zspage that frees the most pages for each byte that has to move, best last. A
/// look at all that are ripe fills it; one that was worked on is ranked anew.
#[derive(Default)]
struct Ranking<'a> {
    best: [Option<(u64, u16, &'a Class)>; 8],
    count: usize,
}

impl<'a> Ranking<'a> {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn pop(&mut self) -> Option<(u16, &'a Class)> {
        self.count = self.count.checked_sub(1)?;
        self.best[self.count].map(|(_, number, class)| (number, class))
    }

    /// Looks at all ripe classes; says whether another compaction is emptying a zspage of one.
    fn fill<T>(&mut self, arena: &'a Arena<T>, failed: &Failed) -> bool {
        arena
            .ripe()
            .fold(false, |busy, (number, class)| self.rank(arena, failed, number, class) | busy)
    }

    /// Ranks one class; says whether another compaction is emptying a zspage of it.
    fn rank<T>(
        &mut self,
        arena: &Arena<T>,
        failed: &Failed,
        number: u16,
        class: &'a Class,
    ) -> bool {
        if failed.class(number) {
            return false;
        }
        let (pages, inuse) = match class.prospect(arena.ground(), failed.zspages()) {
            Prospect::Nothing => return false,
            Prospect::Busy => return true,
            Prospect::Gain { pages, inuse } => (pages, inuse),
        };
        let cost = usize::from(inuse) * arena.zspages.weight(number);
        let worth = u64::from(pages) * (1 << 32) / cost.max(1) as u64;
        let below = |entry: &Option<(u64, u16, &Class)>| entry.is_some_and(|(w, ..)| w < worth);
        let at = self.best[..self.count].partition_point(below);
        if self.count < self.best.len() {
            self.best[at..=self.count].rotate_right(1);
            self.best[at] = Some((worth, number, class));
            self.count += 1;
        } else if at > 0 {
            self.best[..at].rotate_left(1);
            self.best[at - 1] = Some((worth, number, class));
        }
        false
    }
}

/// A zspage off its list, which goes back to one also when a record's `Drop` panics.
struct Opened<'a, T> {
    arena: &'a Arena<T>,
    class: &'a Class,
    at: Option<Emptying>,
}

impl<T> Opened<'_, T> {
    /// Puts the zspage back; says how many pages that freed.
    fn close(&mut self) -> usize {
        self.at.take().map_or(0, |at| self.class.end(self.arena.ground(), at))
    }
}

impl<T> Drop for Opened<'_, T> {
    fn drop(&mut self) {
        self.close();
    }
}

/// Empties the sparsest zspage of a class that is not in `tried`, as far as the budget lets it.
///
/// # Errors
/// The zspage, if there was one: it kept an object that could not be moved.
fn empty_one<T>(
    arena: &Arena<T>,
    class: &Class,
    budget: usize,
    tried: &[u32],
    did: &mut Compaction,
) -> Result<(), Option<u32>> {
    let on = arena.ground();
    let at = class.begin(on, tried).ok_or(None)?;
    let id = at.id();
    let mut opened = Opened { arena, class, at: Some(at) };
    while did.bytes_moved < budget {
        let next = opened.at.as_mut().and_then(|at| class.next(on, at));
        let Some((pin, mut to)) = next else { break };
        let len = pin.len();
        let copied = pin.place().map_or(Ok(()), |from| arena.zspages.copy(from, &mut to));
        if copied.is_err() {
            count(&arena.counters.load_failures, 1);
        }
        let swung = if copied.is_ok() { pin.swing(to) } else { Err((pin, to)) };
        match swung {
            Ok(left) => {
                did.bytes_moved += len;
                did.objects_moved += 1;
                arena.release(left, None);
            }
            Err((pin, to)) => {
                arena.release(to, None);
                if let Some(ended) = pin.unpin() {
                    arena.end(ended);
                }
            }
        }
    }
    let freed = opened.close();
    did.pages_freed += freed;
    if freed == 0 && did.bytes_moved < budget { Err(Some(id)) } else { Ok(()) }
}
