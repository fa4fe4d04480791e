//! Compaction: objects move out of sparse zspages into free slots of fuller ones, so that whole
//! chains of pages come free.
//!
//! One step takes the class that frees the most pages for the fewest bytes moved and empties its
//! sparsest zspage. It holds the class's lock to pick an object and a place for it, copies with no
//! lock held, under a pin of its own, then swings the word if nobody else pins the object at that
//! instant; else the object stays for a later step. Readers never wait for it, and a writer at most
//! for the copy of the one object it wants.

use crate::arena::Arena;
use crate::class::Class;

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
    /// Nothing is left that moving could free, but for objects that are mapped just now.
    pub done: bool,
}

/// Classes that this call has given up on, by number.
struct Stuck([u64; 64]);

impl Stuck {
    fn has(&self, class: u16) -> bool {
        self.0[usize::from(class) / 64] >> (class % 64) & 1 == 1
    }

    fn add(&mut self, class: u16) {
        self.0[usize::from(class) / 64] |= 1 << (class % 64);
    }
}

/// Moves objects until `budget` bytes have moved or nothing is left to gain; passes the budget by
/// less than one object.
pub(crate) fn compact<T>(arena: &Arena<T>, budget: usize) -> Compaction {
    let mut did = Compaction::default();
    let mut stuck = Stuck([0; 64]);
    while did.bytes_moved < budget {
        let Some((number, class)) = richest(arena, &stuck) else {
            did.done = true;
            break;
        };
        let before = did.pages_freed;
        empty_one(arena, class, budget, &mut did);
        if did.pages_freed == before {
            stuck.add(number);
        }
    }
    did
}

/// The class whose sparsest zspage frees the most pages for each byte that has to move.
fn richest<'a, T>(arena: &'a Arena<T>, stuck: &Stuck) -> Option<(u16, &'a Class)> {
    let open = arena.classes().filter(|(number, class)| class.has_room() && !stuck.has(*number));
    let worth = |(number, class): (u16, &'a Class)| {
        let (pages, inuse) = class.gain(arena.ground())?;
        let cost = usize::from(inuse) * arena.zspages.size(number);
        Some((u64::from(pages) * (1 << 32) / cost.max(1) as u64, number, class))
    };
    let best = open.filter_map(worth).max_by_key(|(worth, ..)| *worth);
    best.map(|(_, number, class)| (number, class))
}

/// Empties the sparsest zspage of a class, as far as the budget and mapped objects let it.
fn empty_one<T>(arena: &Arena<T>, class: &Class, budget: usize, did: &mut Compaction) {
    let on = arena.ground();
    let Some(mut at) = class.begin(on) else { return };
    while did.bytes_moved < budget {
        let Some((pin, generation, mut to)) = class.next(on, &mut at) else { break };
        let len = pin.len();
        let copied = pin.place().is_some_and(|from| arena.zspages.copy(from, &mut to).is_ok());
        let swung = if copied { pin.swing(generation, to) } else { Err((pin, to)) };
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
    did.pages_freed += class.end(on, at);
}
