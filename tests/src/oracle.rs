//! A pool held against a map of byte strings.
//!
//! [`PoolOracle::step`] applies one operation to the pool and to the map, compares what the pool
//! answers with what the map says, and ends in [`Pool::check`]. After each step:
//!
//! 1. counters, lengths and records agree: live objects, payload, objects freed under a guard,
//!    slots in use, refusals by cause;
//! 2. what is held adds up, and is under its cap unless the cap was lowered below it;
//! 3. every object has its own bytes: all of them are read while they are few, else every 16 steps,
//!    and every guard held is read as well. Contents come from [`pattern`] with a seed of their
//!    own, so two objects that share a byte show it;
//! 4. a call that failed has changed none of this.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zpool::{AllocError, Config, Handle, MapError, Pool, ReadError, Stale, WriteError};

use crate::ops::{End, Len, Mode, PoolOp};
use crate::pattern::{self, Random};
use crate::records::{Tally, Tracked};
use crate::setups::Setup;

mod budget;
mod held;
mod ids;

use held::Held;

/// Objects up to which each step reads all of them.
const FEW: usize = 12;
/// Guards held at once.
const MOST_HELD: usize = 6;
/// Freed handles remembered.
const MOST_DEAD: usize = 500;

#[derive(Debug)]
struct Object {
    bytes: Vec<u8>,
    record: u32,
}

/// What a pool should say. Borrows the pool, for the guards it holds.
#[derive(Debug)]
pub struct PoolOracle<'p> {
    live: HashMap<Handle, Object>,
    /// The live handles in the order in which operations pick them.
    order: Vec<Handle>,
    dead: Vec<Handle>,
    held: Vec<Held<'p>>,
    /// Guards lost to `mem::forget`: the handle, whether it was exclusive, whether it holds a new
    /// place.
    lost: Vec<(Handle, bool, bool)>,
    /// Objects freed under a guard: length and record.
    dying: HashMap<Handle, (usize, u32)>,
    tally: Tally,
    seeds: Random,
    foreign: Option<(Pool, Handle)>,
    /// Bytes reserved for the user.
    reserved: usize,
    caps: (usize, usize),
    capped: bool,
    mixed: bool,
    /// Whether the page source may fail.
    faulty: bool,
    before: (usize, usize),
    stale: u64,
    busy: u64,
    too_large: u64,
    steps: usize,
}

/// Replays `ops` on a pool made as `setup` says, empties and drops it: the whole test.
///
/// # Panics
/// The pool answers otherwise than a map of byte strings would.
pub fn replay(setup: &Setup, ops: impl IntoIterator<Item = PoolOp>) {
    let pool = setup.pool();
    let mut oracle = PoolOracle::new(setup);
    ops.into_iter().for_each(|op| oracle.step(&pool, op));
    let tally = oracle.drain(&pool);
    drop(pool);
    tally.assert_each_dropped_once();
}

impl<'p> PoolOracle<'p> {
    /// For a fresh pool of `setup`.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self {
            live: HashMap::new(),
            order: Vec::new(),
            dead: Vec::new(),
            held: Vec::new(),
            lost: Vec::new(),
            dying: HashMap::new(),
            tally: Tally::default(),
            seeds: Random::new(1),
            foreign: None,
            reserved: 0,
            caps: (setup.max_bytes, setup.max_pages),
            mixed: setup.mixed,
            capped: setup.max_bytes != usize::MAX || setup.max_pages != usize::MAX,
            faulty: false,
            before: (0, 0),
            stale: 0,
            busy: 0,
            too_large: 0,
            steps: 0,
        }
    }

    /// From now on the pool's page source may fail: errors that say so are right.
    #[must_use]
    pub fn faulty(mut self) -> Self {
        self.faulty = true;
        self
    }

    /// Applies `op` to both, compares, and checks the pool.
    ///
    /// # Panics
    /// They disagree.
    pub fn step(&mut self, pool: &'p Pool<Tracked>, op: PoolOp) {
        self.apply(pool, op);
        self.steps += 1;
        self.compare(pool);
        if self.live.len() <= FEW || self.steps % 16 == 0 {
            self.read_all(pool);
        }
    }

    /// Lets all guards go, reads every object, frees all and gives back what can be given back.
    ///
    /// # Panics
    /// They disagree, or something is left.
    pub fn drain(mut self, pool: &'p Pool<Tracked>) -> Tally {
        self.read_all(pool);
        while !self.held.is_empty() {
            self.release(pool, 0, End::Drop);
        }
        self.compare(pool);
        self.read_all(pool);
        while !self.order.is_empty() {
            self.free(pool, 0);
        }
        pool.trim();
        self.unreserve(pool, usize::MAX);
        self.compare(pool);
        let stats = pool.stats();
        if self.lost.is_empty() {
            assert_eq!((stats.payload_bytes, stats.pages), (0, 0), "an empty pool holds no page");
            assert_eq!(self.tally.alive(), 0, "an empty pool holds no record");
        }
        self.tally
    }

    fn apply(&mut self, pool: &'p Pool<Tracked>, op: PoolOp) {
        match op {
            PoolOp::Alloc(len) => self.alloc(pool, len),
            PoolOp::AllocWith(len, panics) => self.alloc_with(pool, len, panics),
            PoolOp::AllocParts(len, split) => self.alloc_parts(pool, len, split),
            PoolOp::TryAlloc(len, split) => self.try_alloc(pool, len, split),
            PoolOp::Reserve(bytes) => self.reserve(pool, bytes as usize),
            PoolOp::Unreserve(bytes) => self.unreserve(pool, bytes as usize),
            PoolOp::Use(pick, mode, end) => {
                if self.hold(pool, pick, mode) {
                    self.release(pool, self.held.len() - 1, end);
                }
            }
            PoolOp::Hold(pick, mode) if self.held.len() < MOST_HELD => {
                self.hold(pool, pick, mode);
            }
            PoolOp::Release(pick, end) if !self.held.is_empty() => {
                self.release(pool, usize::from(pick) % self.held.len(), end);
            }
            PoolOp::Hold(..) | PoolOp::Release(..) => {}
            PoolOp::ReadInto(pick, slack) => self.read_into(pool, pick, slack),
            PoolOp::Record(pick) => self.record(pool, pick),
            PoolOp::Free(pick) if !self.order.is_empty() => {
                self.free(pool, usize::from(pick) % self.order.len());
            }
            PoolOp::UseStale(pick) if !self.dead.is_empty() => {
                let handle = self.dead[usize::from(pick) % self.dead.len()];
                self.refused(pool, handle);
                self.slot_of_the_dead(pool, handle);
            }
            PoolOp::Free(_) | PoolOp::UseStale(_) => {}
            PoolOp::UseForeign => {
                let (_, handle) = self.foreign.get_or_insert_with(|| {
                    let pool = Pool::new(Config::new().max_object(64)).expect("a second pool");
                    let handle = pool.alloc(b"elsewhere").expect("an empty pool has room");
                    (pool, handle)
                });
                let handle = *handle;
                self.refused(pool, handle);
            }
            PoolOp::UseForged(bits) => self.forged(pool, bits),
            PoolOp::UseFlipped(pick, bit) => {
                if let Some(handle) = self.pick(pick) {
                    self.forged(pool, handle.to_bits() ^ 1 << (bit % 64));
                }
            }
            PoolOp::Compact(budget) => self.compact(pool, budget as usize),
            PoolOp::CompactAll => self.compact(pool, usize::MAX),
            PoolOp::Trim => pool.trim(),
            PoolOp::CapBytes(percent) => {
                self.before.0 = pool.held_bytes();
                self.caps.0 = (pool.held_bytes() / 100).saturating_mul(percent.into());
                pool.set_max_bytes(self.caps.0);
                self.capped = true;
            }
            PoolOp::CapPages(percent) => {
                self.caps.1 = pool.stats().pages.saturating_mul(percent.into()).div_ceil(100);
                pool.set_max_pages(self.caps.1);
                self.capped = true;
            }
            PoolOp::Uncap => {
                self.caps = (usize::MAX, usize::MAX);
                pool.set_max_bytes(usize::MAX);
                pool.set_max_pages(usize::MAX);
            }
        }
    }

    fn pick(&self, pick: u16) -> Option<Handle> {
        self.order.get(usize::from(pick) % self.order.len().max(1)).copied()
    }

    /// Shared and exclusive guards on an object.
    fn guards(&self, handle: Handle) -> (usize, usize) {
        let held = self.held.iter().map(|held| (held.handle, held.exclusive()));
        let all = held.chain(self.lost.iter().map(|(handle, exclusive, _)| (*handle, *exclusive)));
        all.filter(|(of, _)| *of == handle).fold((0, 0), |(shared, alone), (_, exclusive)| {
            (shared + usize::from(!exclusive), alone + usize::from(exclusive))
        })
    }

    fn alloc(&mut self, pool: &Pool<Tracked>, len: Len) {
        let max_object = pool.max_object();
        let bytes = pattern::bytes(self.seeds.bits(), len.of(max_object).min(max_object + 9));
        let record = self.tally.issue();
        let number = record.number();
        let made = pool.alloc_record(record, &bytes);
        self.allocated(pool, made, bytes.len(), number, false, bytes);
    }

    fn alloc_with(&mut self, pool: &Pool<Tracked>, len: Len, panics: bool) {
        let len = len.of(pool.max_object());
        let bytes = pattern::bytes(self.seeds.bits(), len.min(pool.max_object()));
        let record = self.tally.issue();
        let number = record.number();
        let fill = |to: &mut [u8]| {
            assert_eq!(to.len(), len, "the closure gets what was asked for");
            assert!(to.iter().all(|byte| *byte == 0), "the closure sees zeros");
            to.copy_from_slice(&bytes);
            if panics {
                resume_unwind(Box::new("planned"));
            }
        };
        let call = AssertUnwindSafe(|| pool.alloc_record_with(record, len, fill));
        match catch_unwind(call) {
            Ok(made) => self.allocated(pool, made, len, number, true, bytes),
            Err(_) if panics => assert_eq!(self.tally.drops(number), 1, "nothing is stored"),
            Err(payload) => resume_unwind(payload),
        }
    }

    /// Judges what an allocation of `len` bytes came to.
    fn allocated(
        &mut self,
        pool: &Pool<Tracked>,
        made: Result<Handle, AllocError>,
        len: usize,
        record: u32,
        needs_copy: bool,
        bytes: Vec<u8>,
    ) {
        match made {
            Ok(handle) => {
                assert!(len <= pool.max_object(), "{len} bytes are too many");
                assert!(!self.dead.contains(&handle), "a handle is given out once");
                assert!(self.live.insert(handle, Object { bytes, record }).is_none());
                self.order.push(handle);
            }
            Err(error) => {
                assert_eq!(self.tally.drops(record), 1, "a refused record is dropped");
                self.no_room(pool, len, error, needs_copy);
            }
        }
    }

    /// Whether `error` was right for a place of `len` bytes.
    fn no_room(&mut self, pool: &Pool<Tracked>, len: usize, error: AllocError, needs_copy: bool) {
        match error {
            AllocError::TooLarge(size) => {
                assert!(size == len && len > pool.max_object());
                self.too_large += 1;
            }
            AllocError::OutOfPages if self.faulty => {}
            AllocError::OutOfPages => {
                assert!(self.capped && len <= pool.max_object(), "{len} bytes: {error}");
                let stats = pool.stats();
                let used = stats.objects + stats.pinned_after_free + stats.retired_slots;
                let room =
                    |class: &&zpool::ClassStats| class.size >= len && class.inuse < class.objects;
                let slot = stats.classes.iter().find(room);
                // Gaps of mixed zspages are no slots.
                let slot = slot.filter(|_| !self.mixed);
                let fits = slot.is_some() && stats.handle_slots > used && !needs_copy;
                assert!(!fits, "{len} bytes were refused beside {slot:?}");
            }
            AllocError::Source | AllocError::NoMemory => assert!(self.faulty, "{error}"),
            _ => panic!("an unknown error: {error}"),
        }
    }

    /// Whether `error` was right for a map.
    fn no_map(&mut self, error: MapError, busy: bool) {
        match error {
            MapError::Busy => {
                assert!(busy, "busy for no reason");
                self.busy += 1;
            }
            MapError::OutOfMemory => assert!(!busy && (self.capped || self.faulty), "{error}"),
            MapError::Source => assert!(!busy && self.faulty, "{error}"),
            _ => panic!("a live object was not mapped: {error}"),
        }
    }

    /// Maps an object and keeps the guard. `false`: it was refused, rightly.
    fn hold(&mut self, pool: &'p Pool<Tracked>, pick: u16, mode: Mode) -> bool {
        let Some(handle) = self.pick(pick) else { return false };
        let (shared, exclusive) = self.guards(handle);
        let alone = matches!(mode, Mode::Mut | Mode::Write(_));
        let busy = exclusive > 0 || shared > 0 && alone;
        let seed = self.seeds.bits();
        let object = &self.live[&handle];
        let made = match mode {
            Mode::Shared => Held::shared(pool, handle),
            Mode::Pinned | Mode::ById => Held::pinned(pool, handle, mode == Mode::ById),
            Mode::Mut => Held::exclusive_over(pool, handle, seed),
            Mode::Write(len) => {
                let len = len.of(pool.max_object());
                match Held::replacing(pool, handle, len, seed) {
                    Ok(held) => Ok(held),
                    Err(WriteError::Map(error)) => Err(error),
                    Err(WriteError::Alloc(error)) => {
                        let too_large = matches!(error, AllocError::TooLarge(_));
                        assert!(!busy || too_large, "a map that was refused asked for pages");
                        self.no_room(pool, len, error, true);
                        return false;
                    }
                    Err(error) => panic!("an unknown error: {error}"),
                }
            }
        };
        match made {
            Ok(held) => {
                assert!(!busy, "{mode:?} of an object that is mapped {shared} + {exclusive} times");
                held.assert_was(&object.bytes, object.record);
                self.held.push(held);
                true
            }
            Err(error) => {
                let unpinned = matches!(mode, Mode::Pinned | Mode::ById);
                assert!(!unpinned || error != MapError::OutOfMemory, "a pin needs no memory");
                self.no_map(error, busy);
                false
            }
        }
    }

    /// Lets guard `at` go; what it wrote takes effect as `end` says.
    fn release(&mut self, _pool: &Pool<Tracked>, at: usize, end: End) {
        let held = self.held.remove(at);
        held.assert_unchanged();
        let handle = held.handle;
        if end == End::Forget {
            self.lost.push((handle, held.exclusive(), held.has_new_place()));
            if let (Some(object), Some(bytes)) = (self.live.get_mut(&handle), held.forget()) {
                object.bytes = bytes;
            }
            return;
        }
        // A source that may fail has to be asked whether it did.
        let unsure = self.faulty && matches!(end, End::Drop | End::Panic);
        let end = if unsure { End::Finish } else { end };
        let is_mut = held.is_mut();
        match held.end(end) {
            Ok(Some(bytes)) => {
                if let Some(object) = self.live.get_mut(&handle) {
                    object.bytes = bytes;
                }
            }
            Ok(None) => {}
            Err(_) => {
                assert!(self.faulty, "stored");
                if is_mut && self.live.contains_key(&handle) {
                    self.forget_object(handle);
                }
            }
        }
        if self.guards(handle) == (0, 0) {
            if let Some((_, record)) = self.dying.remove(&handle) {
                assert_eq!(self.tally.drops(record), 1, "the last guard ends a freed object");
            }
        }
    }

    /// The object is gone.
    fn forget_object(&mut self, handle: Handle) -> Object {
        self.order.retain(|live| *live != handle);
        if self.dead.len() < MOST_DEAD {
            self.dead.push(handle);
        }
        self.live.remove(&handle).expect("a live object")
    }

    fn free(&mut self, pool: &Pool<Tracked>, at: usize) {
        let handle = self.order[at];
        assert_eq!(pool.free(handle), Ok(()));
        let object = self.forget_object(handle);
        let held = self.guards(handle) != (0, 0);
        if held {
            self.dying.insert(handle, (object.bytes.len(), object.record));
        }
        let drops = self.tally.drops(object.record);
        assert_eq!(drops, u8::from(!held), "a record ends with its object's last guard");
    }

    fn read_into(&mut self, pool: &Pool<Tracked>, pick: u16, slack: i8) {
        let Some(handle) = self.pick(pick) else { return };
        let busy = self.guards(handle).1 > 0;
        let bytes = &self.live[&handle].bytes;
        let room = bytes.len().saturating_add_signed(slack.into());
        let mut to = vec![0xee; room];
        match pool.read_into(handle, &mut to) {
            Ok(len) => {
                assert!(!busy && len == bytes.len() && to[..len] == **bytes, "read_into");
                assert!(to[len..].iter().all(|byte| *byte == 0xee), "nothing beyond the object");
            }
            Err(ReadError::BufferTooSmall(len)) => {
                assert!(!busy && len == bytes.len() && room < len);
                assert!(to.iter().all(|byte| *byte == 0xee), "nothing is written");
            }
            Err(ReadError::Map(MapError::OutOfMemory)) => panic!("read_into needs no memory"),
            Err(ReadError::Map(error)) => self.no_map(error, busy),
            Err(error) => panic!("an unknown error: {error}"),
        }
    }

    fn record(&mut self, pool: &Pool<Tracked>, pick: u16) {
        let Some(handle) = self.pick(pick) else { return };
        let busy = self.guards(handle).1 > 0;
        let Object { bytes, record } = &self.live[&handle];
        let (expected, record) = ((bytes.len(), *record), record);
        match pool.with_record(handle, Tracked::number) {
            Ok(number) => {
                assert!(!busy && number == *record);
                assert_eq!(pool.object_len(handle), Ok(expected.0));
            }
            Err(error) => {
                assert_eq!(pool.object_len(handle), Err(error));
                self.busy += 1;
                self.no_map(error, busy);
            }
        }
    }

    fn forged(&mut self, pool: &Pool<Tracked>, bits: u64) {
        match Handle::from_bits(bits) {
            Some(handle) if !self.live.contains_key(&handle) => self.refused(pool, handle),
            Some(handle) => assert!(pool.contains(handle)),
            None => assert!(bits & 1 == 0, "0 and even bits name nothing"),
        }
    }

    /// Every call refuses `handle`.
    fn refused(&mut self, pool: &Pool<Tracked>, handle: Handle) {
        assert_stale(pool, handle);
        self.stale += STALE_CALLS;
    }

    fn compact(&mut self, pool: &Pool<Tracked>, budget: usize) {
        let before = pool.stats();
        let did = pool.compact(budget);
        assert!(did.bytes_moved < budget.saturating_add(pool.max_object()), "{did:?} of {budget}");
        assert!(did.done || did.bytes_moved >= budget, "{did:?} stopped short of {budget}");
        let after = pool.stats();
        let pages = |stats: &zpool::PoolStats| stats.classes.iter().map(|c| c.pages).sum::<usize>();
        let freed = pages(&before) - pages(&after);
        let empty = before.classes.iter().any(|class| class.groups[0] > 0);
        assert!(freed == did.pages_freed || freed > did.pages_freed && empty, "{freed}: {did:?}");
        assert_eq!(
            after.compaction.bytes_moved - before.compaction.bytes_moved,
            did.bytes_moved as u64
        );
        if did.done && self.held.is_empty() && self.lost.is_empty() && !self.faulty && !self.mixed {
            for class in after.classes.iter().filter(|c| c.shortest_chain == c.longest_chain) {
                let fewest = class.inuse.div_ceil(class.objects / class.zspages);
                assert_eq!(class.zspages, fewest, "compacted: {class:?}");
            }
        }
    }

    /// Points 1 and 2 of the head of this file.
    fn compare(&mut self, pool: &Pool<Tracked>) {
        pool.check();
        let stats = pool.stats();
        assert_eq!((pool.len(), pool.is_empty()), (self.live.len(), self.live.is_empty()));
        assert_eq!(stats.objects, self.live.len());
        assert_eq!((stats.pinned_after_free, stats.pending), (self.dying.len(), 0));
        let live = self.live.values().map(|object| object.bytes.len());
        let lens: Vec<usize> = live.chain(self.dying.values().map(|(len, _)| *len)).collect();
        assert_eq!(stats.payload_bytes, lens.iter().sum::<usize>());
        let fresh = self.held.iter().filter(|held| held.has_new_place()).count()
            + self.lost.iter().filter(|(_, _, fresh)| *fresh).count();
        let slots: usize = stats.classes.iter().map(|class| class.inuse).sum();
        assert_eq!(slots, lens.iter().filter(|len| **len > 0).count() + fresh, "slots in use");
        let failures = stats.failures;
        assert_eq!(
            (failures.stale, failures.busy, failures.too_large),
            (self.stale, self.busy, self.too_large),
        );
        assert_eq!(stats.page_bytes, stats.pages * stats.page_size);
        let held = stats.page_bytes + stats.metadata_bytes + stats.reserved_bytes;
        assert_eq!((held, stats.reserved_bytes), (pool.held_bytes(), self.reserved));
        let bytes = (stats.page_bytes, stats.payload_bytes);
        assert_eq!((pool.page_bytes(), pool.payload_bytes()), bytes);
        self.compare_ids(pool, stats.handle_slots);
        assert!(stats.peak_bytes >= pool.held_bytes());
        let in_use: usize = stats.classes.iter().map(|class| class.pages).sum();
        assert_eq!(in_use + stats.pages_kept, stats.pages);
        let now = (pool.held_bytes(), stats.pages);
        assert!(now.0 <= self.caps.0.max(self.before.0), "{now:?}, capped at {:?}", self.caps);
        assert!(now.1 <= self.caps.1.max(self.before.1), "{now:?}, capped at {:?}", self.caps);
        self.before = now;
    }

    /// Point 3 of the head of this file.
    fn read_all(&mut self, pool: &Pool<Tracked>) {
        self.held.iter().for_each(Held::assert_unchanged);
        let mut buffer = vec![0; pool.max_object()];
        for (handle, object) in &self.live {
            assert!(pool.contains(*handle));
            if self.guards(*handle).1 > 0 {
                continue;
            }
            match pool.map(*handle) {
                Ok(map) => {
                    assert!(*map == *object.bytes, "an object of {} bytes", object.bytes.len());
                    assert_eq!(map.record().number(), object.record);
                }
                Err(MapError::OutOfMemory) if self.capped || self.faulty => {
                    match pool.read_into(*handle, &mut buffer) {
                        Ok(len) => assert!(buffer[..len] == *object.bytes, "{len} bytes"),
                        Err(error) => assert!(self.faulty, "{error}"),
                    }
                }
                Err(error) => assert!(self.faulty && error == MapError::Source, "{error}"),
            }
        }
    }
}

/// How many calls [`assert_stale`] makes that count as failures.
pub const STALE_CALLS: u64 = 8;

/// Every call refuses `handle`.
///
/// # Panics
/// One does not.
pub fn assert_stale<T: Send + Sync>(pool: &Pool<T>, handle: Handle) {
    assert_eq!(pool.map(handle).err(), Some(MapError::Stale));
    assert_eq!(pool.pin(handle).err(), Some(MapError::Stale));
    assert_eq!(pool.map_mut(handle).err(), Some(MapError::Stale));
    assert_eq!(pool.map_write(handle, 1).err(), Some(WriteError::Map(MapError::Stale)));
    assert_eq!(pool.read_into(handle, &mut [0; 9]), Err(ReadError::Map(MapError::Stale)));
    assert_eq!(pool.with_record(handle, |_| ()), Err(MapError::Stale));
    assert_eq!(pool.object_len(handle), Err(MapError::Stale));
    assert_eq!(pool.free(handle), Err(Stale));
    assert!(!pool.contains(handle));
    pool.prefetch(handle);
    pool.prefetch_bytes(handle);
}
