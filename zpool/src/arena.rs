//! The arena: table, zspages and classes together; where objects are placed and where they end.
//!
//! An object goes to a free slot of the finest class for its length that has one, whatever the
//! level it was built at. So a change of level leaves no slot stranded. When there is none, a class
//! grows by a zspage: that of the level that the population of its group names. Where a small cap
//! and the settings allow it, an object goes to a mixed zspage.

use crate::class::{Claim, Class, Ground};
use crate::config::Config;
use crate::directory::boxed;
use crate::error::AllocError;
use crate::frame::Supply;
use crate::geometry::{Fit, GRAIN, GROUPED, Geometry, LEVELS, Shape};
use crate::handle::{Ended, Handle, Place, Renumbered, Spent, Table};
use crate::ledger::{Ledger, heap_cost, shared_cost};
use crate::ripe::Ripe;
use crate::scratch::{Buffer, Scratch};
use crate::source::PageSource;
use crate::stats::{Counters, count};
use crate::sync::{Arc, AtomicU32, AtomicUsize, Mutex, Once, Ordering, model_bug};
use crate::zspage::{Token, Zspages};

#[derive(Debug)]
pub(crate) struct Arena<T> {
    pub(crate) geometry: Geometry,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) table: Table<T>,
    pub(crate) zspages: Zspages,
    classes: Box<[Once<Box<[Class; 1]>>]>,
    /// Tokens of the classes that no object has needed yet.
    unborn: Mutex<Vec<Option<Token>>>,
    pub(crate) ripe: Ripe,
    pub(crate) scratch: Scratch,
    pub(crate) counters: Counters,
    zero_on_free: bool,
    /// Zspages are mixed while a cap is no more than this.
    mixed_up_to: usize,
    /// Whether readers left something for the next holder of a class's lock.
    untidy: AtomicU32,
    /// Sum of the lengths of all objects that have not ended.
    payload: AtomicUsize,
    /// Pages of frames.
    framed: Arc<AtomicUsize>,
    /// Objects that have not ended, by group (the numbers of other classes stay 0).
    population: Box<[AtomicU32]>,
    /// The last field, so that the tables before it are gone when they are released.
    _tables: Tables,
}

/// What the ledger carries for the tables of a pool. Frames that outlive the pool are under the
/// same cap.
#[derive(Debug)]
struct Tables(Arc<Ledger>);

impl Drop for Tables {
    fn drop(&mut self) {
        self.0.release_tables();
    }
}

/// A class is near if it is larger by one in so many bytes at the most.
const NEAR: usize = 5;

impl<T> Arena<T> {
    /// An arena over `source`, or the bytes that its own tables would take where `ledger` refuses.
    pub(crate) fn new(
        source: Box<dyn PageSource>,
        ledger: Ledger,
        config: &Config,
    ) -> Result<Self, usize> {
        let Config { max_object, zero_on_free, mixed_up_to, .. } = *config;
        let geometry = Geometry::new(source.page_size(), max_object);
        // The mixed class comes last.
        let count = geometry.sizes().len() + 1;
        let own = size_of::<Self>()
            + geometry.bytes()
            + Zspages::empty_bytes(count - 1)
            + heap_cost(count * size_of::<Once<Box<[Class; 1]>>>())
            + heap_cost(count * size_of::<Option<Token>>())
            + heap_cost(count * size_of::<AtomicU32>())
            + Ripe::bytes(count)
            + shared_cost(size_of::<Ledger>())
            + shared_cost(size_of::<AtomicUsize>());
        ledger.reserve(own).map_err(|_| own)?;
        let ledger = Arc::new(ledger);
        let (zspages, tokens) = Zspages::new(Arc::from(source), geometry.sizes());
        Ok(Self {
            table: Table::new(max_object),
            zspages,
            classes: boxed(count, Once::new).ok_or(own)?,
            population: boxed(count - 1, || AtomicU32::new(0)).ok_or(own)?,
            unborn: Mutex::new(tokens.into_iter().map(Some).collect()),
            ripe: Ripe::new(count).ok_or(own)?,
            geometry,
            _tables: Tables(Arc::clone(&ledger)),
            ledger,
            scratch: Scratch::new(zero_on_free),
            counters: Counters::new(),
            zero_on_free,
            mixed_up_to,
            untidy: AtomicU32::new(0),
            payload: AtomicUsize::new(0),
            framed: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// What frames take their pages from.
    pub(crate) fn supply(&self) -> Supply {
        Supply {
            source: Arc::clone(self.zspages.source()),
            ledger: Arc::clone(&self.ledger),
            framed: Arc::clone(&self.framed),
        }
    }

    /// Pages of frames.
    pub(crate) fn framed(&self) -> usize {
        self.framed.load(Ordering::Relaxed)
    }

    /// Bytes of pages that nobody has: under the caps, and kept by the source.
    pub(crate) fn slack(&self) -> usize {
        let kept = self.ledger.pages().saturating_sub(self.zspages.chained() + self.framed());
        self.ledger.page_headroom() + kept * self.zspages.source().page_size()
    }

    pub(crate) fn ground(&self) -> Ground<'_, T> {
        let Self { zspages, table, ledger, ripe, .. } = self;
        Ground { zspages, table, ledger, ripe }
    }

    pub(crate) fn payload(&self) -> usize {
        self.payload.load(Ordering::Relaxed)
    }

    /// An object of `len` bytes is there from now on.
    pub(crate) fn grew(&self, len: usize) {
        if len != 0 {
            self.payload.fetch_add(len, Ordering::Relaxed);
            self.population[usize::from(self.geometry.group(len))].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// An object of `len` bytes is gone.
    pub(crate) fn shrank(&self, len: usize) {
        if len != 0 {
            self.payload.fetch_sub(len, Ordering::Relaxed);
            self.population[usize::from(self.geometry.group(len))].fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Objects that have not ended, by group.
    pub(crate) fn populations(&self) -> impl Iterator<Item = u32> {
        self.population.iter().map(|group| group.load(Ordering::Relaxed))
    }

    /// The level at which the class for `len` bytes grows.
    #[inline]
    fn level(&self, len: usize) -> usize {
        let group = &self.population[usize::from(self.geometry.group(len))];
        let population = group.load(Ordering::Relaxed) as usize;
        Geometry::level(population, || self.ledger.about_full())
    }

    /// The class for `len` bytes, and the chain to grow it by.
    #[inline]
    fn fit(&self, len: usize) -> Fit {
        self.geometry.fit(len, self.level(len))
    }

    /// The classes that objects have needed so far, each with its number.
    pub(crate) fn classes(&self) -> impl Iterator<Item = (u16, &Class)> {
        let numbered = self.classes.iter().zip(0_u16..);
        numbered.filter_map(|(class, number)| Some((number, &class.get()?[0])))
    }

    /// The classes that a compaction may gain from, each with its number.
    pub(crate) fn ripe(&self) -> impl Iterator<Item = (u16, &Class)> {
        self.ripe.classes().filter_map(|number| Some((number, self.born(number)?)))
    }

    fn born(&self, number: u16) -> Option<&Class> {
        self.classes[usize::from(number)].get().map(|class| &class[0])
    }

    fn class(&self, number: u16) -> Result<&Class, AllocError> {
        self.born(number).map_or_else(|| self.bear(number), Ok)
    }

    /// Makes class `number`.
    #[cold]
    fn bear(&self, number: u16) -> Result<&Class, AllocError> {
        let mut unborn = self.unborn.lock();
        let class = &self.classes[usize::from(number)];
        if unborn[usize::from(number)].is_some() {
            self.ledger.reserve(heap_cost(size_of::<Class>()))?;
            let mut token = unborn[usize::from(number)].take();
            let mixed = number == self.zspages.mixed();
            let born = boxed(1, || Class::new(token.take().expect("made once"), mixed));
            let Some(born) = born.and_then(|born| born.try_into().ok()) else {
                unborn[usize::from(number)] = token;
                self.ledger.release(heap_cost(size_of::<Class>()));
                return Err(AllocError::NoMemory);
            };
            let set = class.set(born).is_ok();
            assert!(set, "a class is born once");
        }
        Ok(&class.get().expect("born above or before")[0])
    }

    /// What an object of `len` bytes costs in bytes of pages just now: its share of its zspage.
    pub(crate) fn slot_bytes(&self, len: usize) -> usize {
        if len == 0 {
            return 0;
        }
        if let Some(grains) = self.mixed(len) {
            return usize::from(grains) * GRAIN;
        }
        let Shape { pages, objects } = self.fit(len).shape;
        // A chain has 4 MiB at the most, and a division of 32 bits takes half the time.
        let bytes = u32::from(pages) * self.zspages.page_size() as u32;
        bytes.div_ceil(objects.into()) as usize
    }

    /// Bytes of the pages by which the class for objects of `len` bytes would grow just now.
    pub(crate) fn zspage_bytes(&self, len: usize) -> usize {
        if len == 0 {
            return 0;
        }
        let page_size = self.zspages.page_size();
        if self.mixed(len).is_some() {
            return len.next_multiple_of(page_size);
        }
        usize::from(self.fit(len).shape.pages) * page_size
    }

    /// Whether there may be mixed zspages.
    #[inline]
    fn mixes(&self) -> bool {
        self.mixed_up_to != 0 && self.ledger.cap() <= self.mixed_up_to
    }

    /// Grains of a mixed zspage for an object of `len` bytes, if such a zspage is made for it.
    #[inline]
    fn mixed(&self, len: usize) -> Option<u16> {
        if self.mixes() { Geometry::mixed(len) } else { None }
    }

    /// A place in a gap of a mixed zspage, for an object that may take one.
    fn place_in_gap(&self, len: usize, owner: u32) -> Option<Place> {
        let group = &self.population[usize::from(self.geometry.group(len))];
        let grains = Geometry::mixed_gap(len, group.load(Ordering::Relaxed) as usize)?;
        let number = self.zspages.mixed();
        let class = self.born(number)?;
        let open = class.has_room() || self.zspages.has_pending(number);
        if open { class.place(self.ground(), (owner, grains)) } else { None }
    }

    /// A place in a mixed zspage: in a gap, or in a new one, as long as there are pages for.
    fn place_mixed(&self, claim: Claim) -> Result<Place, AllocError> {
        let (on, class) = (self.ground(), self.class(self.zspages.mixed())?);
        let mut pages = self.geometry.mixed_pages(self.ledger.cap());
        loop {
            let shape = self.geometry.mixed_shape(pages);
            let placed = class.place_or_grow(on, claim, shape);
            let shorter = self.geometry.mixed_shape(pages / 2);
            if placed.is_ok() || shorter.objects < claim.1 {
                return placed;
            }
            pages /= 2;
        }
    }

    /// A place for `len` bytes, not 0, owned by handle slot `owner`.
    ///
    /// # Errors
    /// Nothing was free, and the class could not grow.
    pub(crate) fn place(&self, len: usize, owner: u32) -> Result<Place, AllocError> {
        let on = self.ground();
        if self.mixes() {
            if let Some(place) = self.place_in_gap(len, owner) {
                return Ok(place);
            }
        }
        let grown = self.level(len);
        let mut last = u16::MAX;
        // Slots of the first level are too wide for those who have a choice.
        for level in (grown.min(GROUPED)..LEVELS).rev() {
            let number = self.geometry.fit(len, level).class;
            if number == last {
                continue;
            }
            last = number;
            let Some(class) = self.born(number) else { continue };
            if class.has_room() || self.zspages.has_pending(number) {
                if let Some(place) = class.place(on, (owner, 1)) {
                    return Ok(place);
                }
            }
        }
        if let Some(grains) = self.mixed(len) {
            return self.place_mixed((owner, grains));
        }
        let fit = self.geometry.fit(len, grown);
        self.class(fit.class)?.place_or_grow(on, (owner, 1), fit.shape)
    }

    /// The same with the shortest chain there is.
    pub(crate) fn place_short(&self, len: usize, owner: u32) -> Result<Place, AllocError> {
        if let Some(grains) = self.mixed(len) {
            return self.place_mixed((owner, grains));
        }
        let number = self.fit(len).class;
        let shape = self.geometry.shortest(number);
        self.class(number)?.place_or_grow(self.ground(), (owner, 1), shape)
    }

    /// A free slot of a class that is little larger, while few objects share each class: more is
    /// lost in free slots then than in wide ones.
    pub(crate) fn place_near(&self, len: usize, owner: u32) -> Option<Place> {
        if self.level(len) >= GROUPED {
            return None;
        }
        let wide = self.geometry.first_class(len + len / NEAR);
        self.place_below(usize::from(wide), len, owner)
    }

    /// A free slot of any class that is large enough, the closest one first.
    pub(crate) fn place_loose(&self, len: usize, owner: u32) -> Option<Place> {
        self.place_below(usize::from(self.zspages.mixed()), len, owner)
    }

    /// A free slot of a class that is large enough, the closest one first, of those below class
    /// `end`.
    fn place_below(&self, end: usize, len: usize, owner: u32) -> Option<Place> {
        let first = usize::from(self.geometry.first_class(len));
        let born = self.classes[first..end].iter().filter_map(Once::get).map(|class| &class[0]);
        let mut open = born.filter(|class| class.has_room());
        open.find_map(|class| class.place(self.ground(), (owner, 1)))
    }

    /// Gives back a place that nobody points at any more, and its handle's slot with it.
    pub(crate) fn release(&self, mut place: Place, slot: Option<Spent>) {
        self.scrub(&mut place);
        let home = self.zspages.home(place);
        let class = self.born(home.class()).expect("a place has a class");
        class.release(self.ground(), home, slot);
    }

    /// Gives the object in slot `index` the lowest free slot, if that is a lower one, `ready` for
    /// it, and nobody holds the object.
    pub(crate) fn renumber(&self, index: u32, ready: impl FnOnce(u32) -> bool) -> Option<Handle> {
        if !self.table.is_alone(index) {
            return None;
        }
        let to = self.table.vacant_below(index, &self.ledger)?;
        if to.index() >= index || !ready(to.index()) {
            return None;
        }
        let owner = |place: &Place, slot: u32| self.zspages.set_owner(place, slot);
        match self.table.renumber(index, to, owner) {
            Renumbered::Moved(handle, spent) => {
                self.table.recycle(spent, &self.ledger);
                Some(handle)
            }
            Renumbered::Held => None,
            Renumbered::Ended(ended, record) => {
                self.end((ended, record));
                None
            }
        }
    }

    fn scrub(&self, place: &mut Place) {
        if self.zero_on_free {
            // A source that cannot store zeros cannot store the next object's bytes either, and
            // whoever writes those is told.
            let _ = self.zspages.scrub(place);
        }
    }

    /// The end of an object: its place and slot go back, then its record is dropped.
    pub(crate) fn end(&self, (ended, record): (Ended, T)) {
        self.shrank(ended.len());
        match ended.split() {
            (Some(place), slot) => self.release(place, Some(slot)),
            (None, slot) => self.table.recycle(slot, &self.ledger),
        }
        drop(record);
    }

    /// The same for a reader, which waits for nobody: where the class's lock is taken, the object
    /// is left to the lock's next holder.
    #[cold]
    pub(crate) fn end_unwaiting(&self, (mut ended, record): (Ended, T)) {
        self.shrank(ended.len());
        ended.with_place(|place| self.scrub(place));
        if let Some(number) = ended.place().map(|place| self.zspages.class_of(place)) {
            self.zspages.suspend(ended);
            // Release pairs with the Acquire in `tidy`. A swap, for a store would hide what other
            // readers have released.
            if model_bug!(UntidyStored) {
                self.untidy.store(1, Ordering::Release);
            } else {
                self.untidy
                    .swap(1, model_bug!(UntidyRelaxed, Ordering::Release => Ordering::Relaxed));
            }
            if let Some(class) = self.born(number) {
                class.try_take_in(self.ground());
            }
        } else {
            self.table.recycle(ended.split().1, &self.ledger);
        }
        drop(record);
    }

    /// Takes in what readers left behind, and gives pages of empty zspages back.
    pub(crate) fn tidy(&self) {
        // Acquire pairs with the Release in `end_unwaiting`: whoever takes the sign away sees what
        // was left before it was given, and a sign given later stays.
        self.untidy.swap(0, model_bug!(TidyRelaxed, Ordering::Acquire => Ordering::Relaxed));
        self.classes().for_each(|(_, class)| class.tidy(self.ground()));
        self.table.tidy(&self.ledger);
    }

    /// Takes in what readers left behind, if they did; says whether.
    pub(crate) fn tidy_up(&self) -> bool {
        // Relaxed: who misses the sign now sees it at the next call.
        let untidy = self.untidy.load(Ordering::Relaxed) != 0;
        if untidy {
            self.tidy();
        }
        untidy
    }

    /// Bytes of metadata in pages of its own.
    pub(crate) fn mapped(&self) -> usize {
        self.table.mapped() + self.zspages.mapped()
    }

    /// Gives back what is held without need: scratch buffers, tables and the source's kept pages.
    pub(crate) fn trim(&self) {
        self.table.trim(&self.ledger);
        self.zspages.trim(&self.ledger);
        self.scratch.trim(&self.ledger);
        self.zspages.source().trim(&self.ledger);
    }

    /// A scratch buffer; an error is counted.
    pub(crate) fn take_scratch(&self, len: usize) -> Result<Buffer, AllocError> {
        let buffer = self.scratch.take(len, &self.ledger);
        buffer.inspect_err(|_| count(&self.counters.no_scratch, 1))
    }

    pub(crate) fn give_scratch(&self, buffer: Buffer) {
        self.scratch.give(buffer, &self.ledger);
    }
}

impl<T> Drop for Arena<T> {
    /// Who holds frames, or bytes of them, holds their source as well: not for the pages of
    /// objects, though.
    fn drop(&mut self) {
        let shared = Arc::strong_count(self.zspages.source()) > 1;
        if shared && !model_bug!(VacateForgotten) {
            self.zspages.vacate(&self.ledger);
        }
    }
}
