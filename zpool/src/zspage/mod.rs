//! Zspages: chains of single pages that back objects of one size; their slots and their bytes.
//! ```text
//! page entry  zspage (+ JOINED: the next page of the chain follows it in memory)    4 bytes a page
//! record      first page | list links | objects, class, pages | inuse, free slot    20 bytes
//!             owners: one u32 a slot. Used: its handle's index; free: the next free slot;
//!                     pending: index + 1 of the next pending object
//!             mixed: an owner a unit, then what starts in each unit, and a bit where one does
//!             pages: one u32 each, only where their numbers do not follow each other
//! ```
//! A record is one heap block. It changes only by the class's [`Token`], which lives under the
//! class's lock. `class` and `fullness` keep the numbers of a class's zspages apart from others',
//! which is part of this argument. A used slot is a [`Place`]: while one exists, its zspage does.
//! That is the whole argument for bytes: `&Place` lends them shared, `&mut Place` exclusively.
//! Places and tokens of two pools never meet. Readers of whole objects look at page entries only.
//!
//! Invariants: `inuse` counts the places handed out. The free list holds the other slots. A page
//! entry names the zspage of its page from `build` to `dismantle`. `check` asserts them.

use crate::error::AllocError;
use crate::geometry::{GRAIN, LONGEST, MIXED_UNIT, Shape};
use crate::handle::{Ended, Place, Table};
use crate::ledger::{Ledger, heap_cost};
use crate::mapped::Sparse;
use crate::numbers::Numbers;
use crate::source::{Access, Base, PageSource};
use crate::sync::{
    Arc, AtomicPtr, AtomicU32, AtomicUsize, Counter, Leaf, Ordering, Witness, model_bug,
};
use crate::word::NOWHERE;

mod bytes;
mod check;
mod mixed;
mod record;

pub(crate) use bytes::{Mapped, MappedMut};
use record::Record;
pub(crate) use record::{Fill, NONE};

/// In a page entry: the next page of the chain lies behind this one in one piece of memory.
const JOINED: u32 = 1 << 31;
/// The right to change the zspages of one class; it lives under that class's lock.
#[derive(Debug)]
pub(crate) struct Token {
    class: u16,
}

#[derive(Debug)]
pub(crate) struct Zspages {
    source: Arc<dyn PageSource>,
    access: Access,
    /// Locations below this number lie in a line, from this address on.
    line: (u64, Base),
    page_size: usize,
    /// Its `log2`: a division by a number that is not known costs a hit more than all else here.
    page_bits: u32,
    /// Entries, by page; a zspage holds the memory of those that its chain has.
    pages: Sparse<AtomicU32>,
    /// Records, by zspage; null where there is none.
    records: Sparse<AtomicPtr<AtomicU32>>,
    /// Which numbers zspages have.
    ids: Leaf<Numbers>,
    /// Object size of each class, in bytes; of the last one, which is mixed, a unit's.
    sizes: Box<[u32]>,
    /// Ended objects of each class whose release met a taken lock: index + 1 of the newest, or 0.
    pending: Box<[AtomicU32]>,
    pending_count: AtomicUsize,
    /// Pages of all chains.
    chained: Counter,
    witness: Witness,
}

/// Which locations of a source lie in a line, and where it starts: those below a number, which is
/// no more than [`NOWHERE`].
fn line(source: &dyn PageSource) -> (u64, Base) {
    let (pages, base) = source.access().line();
    let grains = u64::from(pages) * (source.page_size() / GRAIN) as u64;
    (grains.min(NOWHERE), base)
}

/// How full a zspage was, and how full it is.
pub(crate) type Change = (Fill, Fill);

/// A place and the zspage that it is in, which is there as long as the place is.
#[derive(Debug)]
pub(crate) struct Home {
    place: Place,
    id: u32,
    class: u16,
}

impl Home {
    /// The class of the zspage.
    pub(crate) fn class(&self) -> u16 {
        self.class
    }
}

/// A zspage on a fullness list, while its class's token is borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Listed<'t>(Record<'t>);

impl Listed<'_> {
    /// How full it is.
    pub(crate) fn fill(self) -> Fill {
        self.0.fill()
    }

    /// The neighbours on its list.
    pub(crate) fn links(self) -> (u32, u32) {
        self.0.links()
    }

    /// Sets the neighbour before.
    pub(crate) fn set_previous(self, to: u32) {
        self.0.set_previous(to);
    }

    /// Sets the neighbour behind.
    pub(crate) fn set_next(self, to: u32) {
        self.0.set_next(to);
    }
}

impl Token {
    /// The class that it is of.
    pub(crate) fn class(&self) -> u16 {
        self.class
    }
}

impl Zspages {
    /// Zspages over `source` for classes of these object sizes and a mixed one, with their tokens.
    pub(crate) fn new(source: Arc<dyn PageSource>, sizes: &[u32]) -> (Self, Vec<Token>) {
        let sizes: Box<[u32]> =
            sizes.iter().copied().chain([(MIXED_UNIT * GRAIN) as u32]).collect();
        assert!(sizes.len() <= record::CLASSES, "a record has room for the number of a class");
        assert!(sizes.iter().all(|size| *size as usize % GRAIN == 0), "slots start at grains");
        let tokens = (0..sizes.len()).map(|class| Token { class: class as u16 }).collect();
        let records = Sparse::new();
        let zspages = Self {
            access: source.access(),
            line: line(&*source),
            page_size: source.page_size(),
            page_bits: source.page_size().trailing_zeros(),
            source,
            pages: Sparse::new(),
            ids: Leaf::new(Numbers::new(records.each_page(), NONE)),
            records,
            pending: sizes.iter().map(|_| AtomicU32::new(0)).collect(),
            pending_count: AtomicUsize::new(0),
            chained: Counter::new(0),
            sizes,
            witness: Witness::new(),
        };
        (zspages, tokens)
    }

    /// What it holds in bytes before there is a zspage.
    pub(crate) const fn empty_bytes(classes: usize) -> usize {
        2 * heap_cost((classes + 1) * size_of::<u32>())
    }

    pub(crate) fn source(&self) -> &Arc<dyn PageSource> {
        &self.source
    }

    pub(crate) fn page_size(&self) -> usize {
        self.page_size
    }

    /// The number of the mixed class.
    pub(crate) fn mixed(&self) -> u16 {
        self.sizes.len() as u16 - 1
    }

    /// Bytes of what a class counts.
    pub(crate) fn weight(&self, class: u16) -> usize {
        if class == self.mixed() { GRAIN } else { self.size(class) }
    }

    /// Object size of a class, in bytes; a unit of the mixed one.
    pub(crate) fn size(&self, class: u16) -> usize {
        self.sizes[usize::from(class)] as usize
    }

    #[inline]
    fn entry(&self, page: u32) -> &AtomicU32 {
        self.pages.get(page).expect("a taken page has an entry")
    }

    fn slot(&self, id: u32) -> &AtomicPtr<AtomicU32> {
        self.records.get(id).expect("a zspage has a record")
    }

    /// The record of a zspage: callers hold its class's token, or a place in it.
    fn record(&self, id: u32) -> Record<'_> {
        let block = self.slot(id).load(Ordering::Relaxed);
        assert!(!block.is_null(), "zspage {id} exists");
        // SAFETY: `build` put a record there, and `dismantle` clears the pointer before it drops
        // the box; that takes the token and finds no place handed out, and a caller has either.
        unsafe { Record::borrow(block) }
    }

    /// A place with the zspage that holds it.
    pub(crate) fn home(&self, place: Place) -> Home {
        let id = self.id_of(&place);
        Home { id, class: self.record(id).class(), place }
    }

    /// The class whose zspage holds `place`.
    pub(crate) fn class_of(&self, place: &Place) -> u16 {
        self.record(self.id_of(place)).class()
    }

    fn id_of(&self, place: &Place) -> u32 {
        self.entry(self.split(place.location()).0).load(Ordering::Relaxed) & !JOINED
    }

    /// Page number and byte offset of a location.
    #[inline]
    fn split(&self, location: u64) -> (u32, usize) {
        let at = location * GRAIN as u64;
        ((at >> self.page_bits) as u32, at as usize & (self.page_size - 1))
    }

    /// Makes a zspage of `shape` in the token's class, all slots free, on no list.
    ///
    /// # Errors
    /// No page, or no memory for its bookkeeping: which of the two said no, the ledger or the
    /// system. Nothing has changed.
    pub(crate) fn build(
        &self,
        token: &mut Token,
        shape: Shape,
        ledger: &Ledger,
    ) -> Result<u32, AllocError> {
        let id = self.take_id(ledger)?;
        let mut chain = [NONE; LONGEST];
        let chain = &mut chain[..usize::from(shape.pages)];
        let built = self.take_chain(chain, ledger).and_then(|()| {
            let record = self.enter(chain, ledger).and_then(|()| {
                let record = self.new_record(token, shape, chain, ledger);
                record.inspect_err(|_| self.leave(chain, ledger))
            });
            record.inspect_err(|_| self.source.give(chain, ledger))
        });
        let block = match built {
            Ok(block) => block,
            Err(error) => {
                self.put_id(id, ledger);
                return Err(error);
            }
        };
        self.slot(id).store(block, Ordering::Relaxed);
        for (nth, page) in chain.iter().enumerate() {
            let joined = chain.get(nth + 1).is_some_and(|next| self.follows(*page, *next));
            let entry = id | if joined { JOINED } else { 0 };
            self.entry(*page).store(entry, Ordering::Relaxed);
        }
        self.chained.fetch_add(chain.len(), Ordering::Relaxed);
        self.shade_all(id, true);
        Ok(id)
    }

    /// Whether the source says that `next` lies behind `page` in one piece of memory.
    fn follows(&self, page: u32, next: u32) -> bool {
        next == page + 1 && self.source.joined(page)
    }

    /// Takes pages for `chain`, the one behind the last whenever it is free.
    fn take_chain(&self, chain: &mut [u32], ledger: &Ledger) -> Result<(), AllocError> {
        for nth in 0..chain.len() {
            let last = nth.checked_sub(1).map(|before| chain[before]);
            let taken = self.source.take(last, chain.len() - nth - 1, ledger);
            let taken = taken.map_err(AllocError::from).and_then(|page| {
                if (u64::from(page) + 1) * (self.page_size / GRAIN) as u64 <= NOWHERE {
                    return Ok(page);
                }
                // No location can name its bytes.
                self.source.give(&[page], ledger);
                Err(AllocError::OutOfPages)
            });
            match taken {
                Ok(page) => chain[nth] = page,
                Err(error) => {
                    self.source.give(&chain[..nth], ledger);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A record on the heap, charged.
    fn new_record(
        &self,
        token: &Token,
        shape: Shape,
        chain: &[u32],
        ledger: &Ledger,
    ) -> Result<*mut AtomicU32, AllocError> {
        let mixed = token.class == self.mixed();
        let words = record::words(shape, mixed, record::is_run(chain));
        let cost = heap_cost(words * size_of::<AtomicU32>());
        ledger.reserve(cost)?;
        match record::new(shape, token.class, mixed, chain) {
            Some(words) => Ok(Box::into_raw(words).cast()),
            None => {
                ledger.release(cost);
                Err(AllocError::NoMemory)
            }
        }
    }

    /// The pages of memory on which the entries of a chain lie, each once where entries follow each
    /// other.
    fn sheets(&self, chain: &[u32]) -> impl Iterator<Item = usize> {
        let mut last = None;
        let sheets = chain.iter().map(|page| self.pages.page_of(*page as usize));
        sheets.filter(move |sheet| last.replace(*sheet) != Some(*sheet))
    }

    /// Sees to it that the pages of a chain have entries. An error has changed nothing.
    fn enter(&self, chain: &[u32], ledger: &Ledger) -> Result<(), AllocError> {
        let end = chain.iter().max().map_or(0, |page| *page as usize + 1);
        for (nth, sheet) in self.sheets(chain).enumerate() {
            if let Err(error) = self.pages.open(sheet..sheet + 1, end, ledger) {
                let entered = self.sheets(chain).take(nth);
                entered.for_each(|sheet| self.pages.close(sheet..sheet + 1, ledger));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The chain needs its entries no more.
    fn leave(&self, chain: &[u32], ledger: &Ledger) {
        self.sheets(chain).for_each(|sheet| self.pages.close(sheet..sheet + 1, ledger));
    }

    /// The lowest number that no zspage has.
    fn take_id(&self, ledger: &Ledger) -> Result<u32, AllocError> {
        let taken = self.ids.lock().take(ledger, |from| {
            let end = self.records.next_end(from);
            let pages = self.records.pages_below(from)..self.records.pages_below(end);
            self.records.open(pages, end, ledger).map(|()| end)
        });
        taken.map(|taken| taken.number)
    }

    fn put_id(&self, id: u32, ledger: &Ledger) {
        let mut ids = self.ids.lock();
        let closed = ids.give(id, 0, ledger);
        if !closed.is_empty() {
            let pages =
                self.records.pages_below(closed.start)..self.records.pages_below(closed.end);
            self.records.close(pages, ledger);
        }
    }

    fn exists(&self, id: u32) -> bool {
        !self.slot(id).load(Ordering::Relaxed).is_null()
    }

    /// Gives back what the system did not take of entries and records when they went.
    pub(crate) fn trim(&self, ledger: &Ledger) {
        self.pages.trim(ledger);
        self.records.trim(ledger);
    }

    /// Bytes of pages that entries and records hold.
    pub(crate) fn mapped(&self) -> usize {
        self.pages.mapped() + self.records.mapped()
    }

    /// Takes the record of a zspage out of its slot, to be dropped.
    fn take_record(&self, id: u32) -> Box<[AtomicU32]> {
        let block = self.slot(id).swap(std::ptr::null_mut(), Ordering::Relaxed);
        assert!(!block.is_null(), "zspage {id} exists");
        // SAFETY: the box that `new_record` made, out of its slot. Nobody else looks at it: a
        // caller has the token with no place handed out (`dismantle`), or `&mut self` (`vacate`,
        // `drop`).
        unsafe { Record::unbox(block) }
    }

    /// Gives the pages of an unused zspage, on no list, back to the source; `id` is free again.
    pub(crate) fn dismantle(&self, token: &mut Token, id: u32, ledger: &Ledger) {
        let record = self.record(id);
        assert_eq!(record.class(), token.class, "a zspage changes by its class's token");
        assert_eq!(record.fill().inuse, 0, "a zspage goes when its last object is gone");
        self.demolish(id, ledger);
        self.put_id(id, ledger);
    }

    /// The same of one that nobody will look at any more.
    fn demolish(&self, id: u32, ledger: &Ledger) {
        self.shade_all(id, false);
        let record = self.record(id);
        let pages = usize::from(record.pages());
        let mut chain = [NONE; LONGEST];
        for (nth, page) in chain[..pages].iter_mut().enumerate() {
            *page = record.page(nth);
            self.entry(*page).store(NONE, Ordering::Relaxed);
        }
        let length = self.take_record(id).len();
        ledger.release(heap_cost(length * size_of::<AtomicU32>()));
        self.leave(&chain[..pages], ledger);
        self.chained.fetch_sub(pages, Ordering::Relaxed);
        self.source.give(&chain[..pages], ledger);
    }

    /// Pages of all chains.
    pub(crate) fn chained(&self) -> usize {
        self.chained.load(Ordering::Relaxed)
    }

    /// Gives all pages back to a source that others hold when this goes.
    pub(crate) fn vacate(&mut self, ledger: &Ledger) {
        let end = self.ids.lock().end();
        for id in 0..end {
            if self.exists(id) {
                self.demolish(id, ledger);
            }
        }
        self.source.trim(ledger);
    }

    /// Hands out a free slot of zspage `id`, or `grains` of a mixed one, to the handle `owner`;
    /// says how full it was and is.
    pub(crate) fn place(
        &self,
        token: &mut Token,
        id: u32,
        owner: u32,
        grains: u16,
    ) -> Option<(Place, Change)> {
        let record = self.record(id);
        assert_eq!(record.class(), token.class, "a zspage changes by its class's token");
        if record.is_mixed() {
            return self.place_mixed(record, owner, grains);
        }
        let (slot, fill) = (record.free(), record.fill());
        let entry = record.owner(slot)?;
        let now = Fill { inuse: fill.inuse + 1, open: fill.open - 1, ..fill };
        record.set_use(now.inuse, entry.load(Ordering::Relaxed) as u16);
        entry.store(owner, Ordering::Relaxed);
        let (location, size) = (self.start(record, slot), self.size(token.class));
        self.shade(record, location, size, false);
        // SAFETY: the slot came off the free list, so no other place of it exists.
        Some((unsafe { Place::new(location, size) }, (fill, now)))
    }

    /// Takes a place back; its zspage comes out, and how full that was and is.
    pub(crate) fn release(&self, token: &mut Token, home: Home) -> (u32, Change) {
        let Home { id, place, .. } = home;
        let record = self.record(id);
        assert_eq!(record.class(), token.class, "a zspage changes by its class's token");
        if record.is_mixed() {
            return (id, self.release_mixed(record, &place));
        }
        let slot = self.slot_of(record, &place);
        self.witness.write(place.location() * GRAIN as u64, self.size(token.class));
        self.shade(record, place.location(), self.size(token.class), true);
        let (entry, fill) = (record.owner(slot).expect("a place is a slot"), record.fill());
        entry.store(record.free().into(), Ordering::Relaxed);
        let now = Fill { inuse: fill.inuse - 1, open: fill.open + 1, ..fill };
        record.set_use(now.inuse, slot);
        (id, (fill, now))
    }

    /// The slot of a place in its zspage, or its unit.
    fn slot_of(&self, record: Record<'_>, place: &Place) -> u16 {
        let (page, offset) = self.split(place.location());
        let at = (record.position(page) << self.page_bits) + offset;
        // A chain has 4 MiB at the most, and a division of 32 bits takes half the time.
        (at as u32 / self.size(record.class()) as u32) as u16
    }

    /// Where a slot starts, or what starts in a unit.
    fn start(&self, record: Record<'_>, slot: u16) -> u64 {
        let at = if record.is_mixed() {
            usize::from(record.span(slot).0) * GRAIN
        } else {
            usize::from(slot) * self.size(record.class())
        };
        self.location_at(record, at)
    }

    /// The location `at` bytes behind the start of a zspage.
    fn location_at(&self, record: Record<'_>, at: usize) -> u64 {
        let page = u64::from(record.page(at >> self.page_bits));
        ((page << self.page_bits) + (at & (self.page_size - 1)) as u64) / GRAIN as u64
    }

    /// Where slot `slot` of zspage `id` starts.
    pub(crate) fn location(&self, _token: &Token, id: u32, slot: u16) -> u64 {
        self.start(self.record(id), slot)
    }

    /// How full a zspage is.
    pub(crate) fn fill(&self, _token: &Token, id: u32) -> Fill {
        self.record(id).fill()
    }

    /// Notes a new owner of a place, which the caller holds.
    pub(crate) fn set_owner(&self, place: &Place, owner: u32) {
        let record = self.record(self.id_of(place));
        let entry = record.owner(self.slot_of(record, place)).expect("a place is a slot");
        entry.store(owner, Ordering::Relaxed);
    }

    /// Places of zspage `id` that have an owner entry.
    pub(crate) fn slots(&self, _token: &Token, id: u32) -> u16 {
        self.record(id).slots()
    }

    /// The owner entry of a slot: a hint, believed only if that handle's word points back here.
    pub(crate) fn owner(&self, _token: &Token, id: u32, slot: u16) -> Option<u32> {
        self.record(id).owner(slot).map(|owner| owner.load(Ordering::Relaxed))
    }

    /// Bytes of a slot, or of what starts in a unit.
    fn room(&self, record: Record<'_>, slot: u16) -> usize {
        if record.is_mixed() {
            usize::from(record.span(slot).1) * GRAIN
        } else {
            self.size(record.class())
        }
    }

    /// A zspage of the token's class as its fullness list has it.
    pub(crate) fn listed<'t>(&'t self, _token: &'t Token, id: u32) -> Listed<'t> {
        Listed(self.record(id))
    }

    /// Leaves an ended object to the next holder of its class's lock.
    pub(crate) fn suspend(&self, ended: Ended) {
        let Some(place) = ended.place() else { return };
        let record = self.record(self.id_of(place));
        let head = &self.pending[usize::from(record.class())];
        let link = record.owner(self.slot_of(record, place)).expect("a place is a slot");
        self.witness.write(place.location() * GRAIN as u64, 1);
        self.pending_count.fetch_add(1, Ordering::Relaxed);
        let index = ended.suspend();
        let order = model_bug!(SuspendRelaxed, Ordering::Release => Ordering::Relaxed);
        let mut newest = head.load(Ordering::Relaxed);
        loop {
            link.store(newest, Ordering::Relaxed);
            // Release pairs with the Acquire in `resume`: the link and the object's end are seen.
            match head.compare_exchange_weak(newest, index + 1, order, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => newest = now,
            }
        }
    }

    /// The ended objects that were left to the holder of this token.
    pub(crate) fn resume<'z, T>(
        &'z self,
        token: &Token,
        table: &'z Table<T>,
    ) -> impl Iterator<Item = Ended> + use<'z, T> {
        let head = &self.pending[usize::from(token.class)];
        // Acquire pairs with the Release in `suspend`.
        let mut next = head.swap(0, Ordering::Acquire);
        std::iter::from_fn(move || {
            let index = next.checked_sub(1)?;
            // SAFETY: `suspend` pushed the index once, and this walk took the list off its head.
            let ended = unsafe { table.resume(index) };
            let place = ended.place()?;
            let record = self.record(self.id_of(place));
            next = record.owner(self.slot_of(record, place))?.load(Ordering::Relaxed);
            self.pending_count.fetch_sub(1, Ordering::Relaxed);
            Some(ended)
        })
    }

    /// Ended objects that wait for their class's lock.
    pub(crate) fn pending(&self) -> usize {
        self.pending_count.load(Ordering::Relaxed)
    }

    /// Whether ended objects of this class wait.
    #[inline]
    pub(crate) fn has_pending(&self, class: u16) -> bool {
        self.pending[usize::from(class)].load(Ordering::Relaxed) != 0
    }
}

impl Drop for Zspages {
    fn drop(&mut self) {
        for id in 0..self.ids.lock().end() {
            if self.exists(id) {
                self.shade_all(id, false);
                drop(self.take_record(id));
            }
        }
    }
}
