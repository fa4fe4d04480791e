use std::collections::BTreeMap;

use super::*;

const EACH: usize = 128;

/// Numbers, what they should be, and the memory that they have.
struct World {
    numbers: Numbers,
    ledger: Ledger,
    /// Numbers in use, with their generations.
    used: BTreeMap<u32, u32>,
    /// The end of the memory of each chunk that is open.
    open: BTreeMap<usize, usize>,
    /// The generation that each number had last.
    last: BTreeMap<u32, u32>,
}

impl World {
    fn new() -> Self {
        let (used, open, last) = Default::default();
        let ledger = Ledger::new(4096, 0, usize::MAX);
        Self { numbers: Numbers::new(EACH, 100_000), ledger, used, open, last }
    }

    fn take(&mut self) -> u32 {
        let open = &mut self.open;
        let make = |from: usize| {
            let end = (from + 50).min(from / EACH * EACH + EACH);
            assert_eq!(open.insert(from / EACH, end).unwrap_or(from / EACH * EACH), from);
            Ok(end)
        };
        let (floor, told) = (self.numbers.floor(), self.numbers.lowest());
        let Taken { number, start } = self.numbers.take(&self.ledger, make).unwrap();
        assert!(floor <= number, "no free number is below {floor}");
        assert_eq!(told, number as usize, "the number that comes next is known");
        let lowest = (0..).find(|number| !self.used.contains_key(number));
        assert_eq!(Some(number), lowest, "the lowest number is handed out");
        let before = self.last.get(&number).copied();
        let generation = start.max(before.filter(|_| self.kept(number)).unwrap_or(0)) + 1;
        assert!(before.is_none_or(|before| before < generation), "generations go on");
        self.used.insert(number, generation);
        self.last.insert(number, generation);
        number
    }

    /// Whether the number kept its memory since it was in use.
    fn kept(&self, number: u32) -> bool {
        self.numbers.generations(number as usize).0 <= self.last[&number]
    }

    fn give(&mut self, number: u32) {
        let generation = self.used.remove(&number).unwrap();
        let gone = self.numbers.give(number, generation, &self.ledger);
        self.closed(gone);
    }

    fn closed(&mut self, gone: Range<usize>) {
        if !gone.is_empty() {
            assert!(self.used.range(gone.start as u32..gone.end as u32).next().is_none());
            assert_eq!(self.open.remove(&(gone.start / EACH)), Some(gone.end));
        }
    }

    fn check(&self) {
        self.numbers.check();
        let mut open = BTreeMap::new();
        self.numbers.each_open(|made| _ = open.insert(made.start / EACH, made.end));
        assert_eq!(open, self.open);
        assert_eq!(self.numbers.inuse(), self.used.len());
        let highest = self.used.keys().last().map_or(0, |highest| highest + 1);
        assert!(self.numbers.end() >= highest);
        assert!(
            self.numbers.end() as usize <= open.keys().last().map_or(0, |top| (top + 1) * EACH)
        );
    }
}

#[test]
fn the_lowest_number_is_handed_out_and_empty_chunks_close() {
    let mut world = World::new();
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    for round in 0..12 {
        for _ in 0..4 * EACH {
            let up = if round % 2 == 0 { 90 } else { 10 };
            if world.used.is_empty() || random(100) < up {
                world.take();
            } else {
                let nth = random(world.used.len());
                let number = *world.used.keys().nth(nth).unwrap();
                world.give(number);
            }
        }
        world.check();
    }
    while let Some(number) = world.used.keys().next().copied() {
        world.give(number);
        world.check();
    }
    assert!(world.open.len() == 1 && world.numbers.end() <= EACH as u32);
    let gone = world.numbers.close_idle(&world.ledger);
    world.closed(gone);
    assert!(world.open.keys().all(|chunk| *chunk == 0), "the first chunk may stay");
    let entries = heap_cost(world.numbers.chunks.capacity() * size_of::<Chunk>());
    let sets = 3 * Bits::bytes(world.numbers.room);
    let bitmaps = world.open.len() * heap_cost(EACH / 8);
    assert_eq!(world.ledger.held(), entries + sets + bitmaps, "the rest is given back");
}

#[test]
fn a_number_with_memory_is_better_than_none() {
    let mut world = World::new();
    let all: Vec<u32> = (0..3 * EACH).map(|_| world.take()).collect();
    // The first two chunks are empty, and the second one closes; the last one has a free number.
    all[..2 * EACH].iter().for_each(|number| world.give(*number));
    (0..EACH).for_each(|_| _ = world.take());
    world.give(all[2 * EACH + 7]);
    let refused = world.numbers.take(&world.ledger, |from| {
        assert_eq!(from, EACH, "the closed chunk is asked first");
        Err(AllocError::OutOfPages)
    });
    assert_eq!(refused.map(|taken| taken.number), Ok(all[2 * EACH + 7]));
    for error in [AllocError::OutOfPages, AllocError::NoMemory] {
        assert_eq!(world.numbers.take(&world.ledger, |_| Err(error)), Err(error));
    }
    world.used.insert(all[2 * EACH + 7], 0);
    world.check();
}

#[test]
fn a_chunk_with_a_retired_number_closes_for_good() {
    let mut world = World::new();
    let all: Vec<u32> = (0..3 * EACH).map(|_| world.take()).collect();
    world.used.remove(&all[EACH]);
    let gone = world.numbers.retire(all[EACH], &world.ledger);
    assert!(gone.is_empty());
    (0..EACH).for_each(|number| world.give(number as u32));
    (EACH + 1..2 * EACH).for_each(|number| world.give(number as u32));
    assert!(world.open.keys().copied().eq([0, 2]));
    assert_eq!((world.numbers.retired(), world.numbers.sparse(1)), (EACH, None));
    world.check();
    (0..EACH).for_each(|_| _ = world.take());
    let taken = world.numbers.take(&world.ledger, |from| Ok(from + 1)).unwrap();
    assert_eq!(taken.number as usize, 3 * EACH, "no number of the second chunk comes back");
}

#[test]
fn few_users_of_a_high_chunk_are_named_while_lower_ones_have_room() {
    let mut world = World::new();
    let all: Vec<u32> = (0..10 * EACH).map(|_| world.take()).collect();
    assert_eq!(world.numbers.sparse(0), None);
    all.iter().filter(|number| **number % 16 != 0).for_each(|number| world.give(*number));
    let mut moved = 0;
    while let Some(range) = world.numbers.sparse(8) {
        let users: Vec<u32> = world.used.range(range.clone()).map(|(number, _)| *number).collect();
        assert!(!users.is_empty() && world.used.range(range.end..).next().is_none());
        for user in users {
            assert!(world.take() < range.start, "there is room below");
            world.give(user);
            moved += 1;
        }
        world.check();
    }
    assert_eq!(world.numbers.sparse_below(u32::MAX, 0), None);
    // All fit into the first chunk, and one is kept for the next number.
    assert_eq!((world.used.len(), moved), (10 * EACH / 16, 9 * EACH / 16));
    assert_eq!(world.open.len(), 2);
}

#[test]
fn a_chunk_that_is_stuck_hides_none_below() {
    let mut world = World::new();
    let all: Vec<u32> = (0..6 * EACH).map(|_| world.take()).collect();
    all.iter().filter(|number| **number % 16 != 0).for_each(|number| world.give(*number));
    let (mut end, mut named) = (u32::MAX, Vec::new());
    while let Some(range) = world.numbers.sparse_below(end, 0) {
        end = range.start;
        named.push(end as usize / EACH);
    }
    assert_eq!(named, [5, 4, 3, 2, 1], "there is nothing below the first");
    let users = |chunk: usize| (chunk * EACH..(chunk + 1) * EACH).filter(|at| at % 16 == 0);
    users(4).chain(users(3)).for_each(|number| world.give(number as u32));
    let below = |end: usize, spare| world.numbers.sparse_below((end * EACH) as u32, spare);
    assert_eq!(below(5, 0).map(|range| range.start as usize / EACH), Some(2));
    // Two chunks below it have so many numbers that are free.
    let (users, free) = (EACH / 16, 2 * (EACH - EACH / 16));
    assert!(below(3, free - users).is_some() && below(3, free - users + 1).is_none());
    world.check();
}
