//! The word of a handle: one atomic u64 that decides the fate of an object.
//! ```text
//! generation 18 | pins 10 | location 36            generation odd = live; pins 1023 = exclusive
//!
//! FREE  (even, 0, -)  --publish-->  LIVE (g+1, 0, L)
//! LIVE  (g, p, L)     --pin, unpin-->  p+1, p-1       refused: exclusive, full, another generation
//! LIVE  (g, 0, L)     --lock-->  (g, 1023, L)  --unlock(N)-->  (g, 0, N)
//! LIVE  (g, 1, L)     --swing-->  (g, 0, N)           a migration, that one pin being its own
//! LIVE  (g, p, L)     --free-->  DYING (g+1, p, L)    p = 0: ended here; else by the last holder
//! ```
//! Every change is one atomic step, and exactly one caller is told that the object has ended.
//! A failed compare-exchange and a first load may be `Relaxed`: nothing is read through them.

pub(crate) use crate::sync::MAX_PINS;
use crate::sync::{AtomicU64, Ordering, acquire, model_bug};

/// Bits of the location: 16-byte grains of 1 TiB.
pub(crate) const LOCATION_BITS: u32 = 36;
const PIN_BITS: u32 = 10;
/// Bits of the generation; bit 0 of it means live.
pub(crate) const GENERATION_BITS: u32 = 64 - LOCATION_BITS - PIN_BITS;
const PIN: u64 = 1 << LOCATION_BITS;
const PINS: u64 = (1 << PIN_BITS) - 1;
/// The pins of a word that is held exclusively.
pub(crate) const EXCLUSIVE: u64 = PINS;
/// Pins beyond [`MAX_PINS`] for those who hold a lock that others with pins wait for.
const RESERVED: u64 = 1;
const _: () = assert!(MAX_PINS + RESERVED < EXCLUSIVE);
const GENERATION: u64 = 1 << (LOCATION_BITS + PIN_BITS);

/// A location that no object has: that of objects of length 0.
pub(crate) const NOWHERE: u64 = (1 << LOCATION_BITS) - 1;

/// Why a word refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Another generation, or none: the handle is stale.
    Stale,
    /// Mapped in a way that excludes the request.
    Busy,
    /// As many pins as fit.
    Full,
}

/// What letting go of an object came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The object lives on, or others still hold it.
    Kept,
    /// The caller held it last: it ends here, at this location.
    Ended(u64),
}

#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct Word(AtomicU64);

const fn location(word: u64) -> u64 {
    word & NOWHERE
}

const fn pins(word: u64) -> u64 {
    (word >> LOCATION_BITS) & PINS
}

/// The generation in `word`.
pub(crate) const fn generation(word: u64) -> u64 {
    word >> (LOCATION_BITS + PIN_BITS)
}

const fn live(word: u64) -> bool {
    generation(word) & 1 == 1
}

impl Word {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// FREE, the slot held alone: makes the object at `location` live, and gives its generation.
    pub(crate) fn publish(&self, location: u64) -> u64 {
        debug_assert!(location <= NOWHERE);
        let free = self.0.load(Ordering::Relaxed);
        debug_assert!(!live(free), "publishing over a live object");
        let next = generation(free) + 1;
        // Pairs with the Acquire in `pin` and `lock`: bytes, length and record are seen by readers.
        let order = model_bug!(PublishRelaxed, Ordering::Release => Ordering::Relaxed);
        self.0.store(next << (LOCATION_BITS + PIN_BITS) | location, order);
        next
    }

    /// One more shared pin, and the location it protects.
    #[inline]
    pub(crate) fn pin(&self, wanted: u64) -> Result<u64, Refusal> {
        self.pin_if(|seen| generation(seen) == wanted, MAX_PINS).map(location)
    }

    /// One more shared pin on whatever object is live: its generation, and the location. From the
    /// `reserve` where that is asked for.
    #[inline]
    pub(crate) fn pin_live(&self, reserve: bool) -> Result<(u64, u64), Refusal> {
        let most = if reserve { MAX_PINS + RESERVED } else { MAX_PINS };
        let pinned = self.pin_if(|seen| live(seen) || model_bug!(PinDead), most)?;
        Ok((generation(pinned), location(pinned)))
    }

    /// One more shared pin, if the word is `wanted` and has less than `most`; the word that it was
    /// added to.
    #[inline(always)]
    fn pin_if(&self, wanted: impl Fn(u64) -> bool, most: u64) -> Result<u64, Refusal> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if !wanted(seen) {
                return Err(Refusal::Stale);
            }
            match pins(seen) {
                EXCLUSIVE => return Err(Refusal::Busy),
                held if held >= most && !model_bug!(PinUnbounded) => {
                    return Err(Refusal::Full);
                }
                _ => {}
            }
            // Acquire pairs with the Release of `publish`, `unlock` and `swing`.
            let order = model_bug!(PinRelaxed, Ordering::Acquire => Ordering::Relaxed);
            match self.0.compare_exchange_weak(seen, seen + PIN, order, Ordering::Relaxed) {
                Ok(_) => return Ok(seen),
                Err(now) => seen = now,
            }
        }
    }

    /// The pin of a migration: if the object is live and exactly at `expected`, its generation.
    pub(crate) fn pin_at(&self, expected: u64) -> Option<u64> {
        let seen = self.0.load(Ordering::Relaxed);
        if !live(seen) || location(seen) != expected && !model_bug!(OwnerBelieved) {
            return None;
        }
        if pins(seen) != 0 {
            return None;
        }
        if model_bug!(MigrateUnpinned) {
            return Some(generation(seen));
        }
        // Acquire as in `pin`: the copy reads bytes.
        let order = model_bug!(PinRelaxed, Ordering::Acquire => Ordering::Relaxed);
        let pinned = self.0.compare_exchange(seen, seen + PIN, order, Ordering::Relaxed);
        pinned.ok().map(generation)
    }

    /// Gives one shared pin back.
    #[inline]
    pub(crate) fn unpin(&self) -> Outcome {
        // Release pairs with the Acquire of whoever ends the object (the fence below, or `free`),
        // moves it (`swing`) or writes to it (`lock`): its bytes are no longer read here.
        let order = model_bug!(UnpinRelaxed, Ordering::Release => Ordering::Relaxed);
        // A pin is there to be taken off, so nothing has to be compared.
        let seen = self.0.fetch_sub(PIN, order);
        debug_assert!(!matches!(pins(seen), 0 | EXCLUSIVE), "unpinned more often than pinned");
        if live(seen) || pins(seen) != 1 {
            return Outcome::Kept;
        }
        if !model_bug!(LastUnpinUnfenced) {
            // Pairs with the Release of the other holders' unpins and of `free`.
            acquire(&self.0);
        }
        Outcome::Ended(location(seen))
    }

    /// The exclusive pin, and the location it protects.
    pub(crate) fn lock(&self, wanted: u64) -> Result<u64, Refusal> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if generation(seen) != wanted {
                return Err(Refusal::Stale);
            }
            if pins(seen) != 0 && !model_bug!(LockIgnoresPins) {
                return Err(Refusal::Busy);
            }
            let locked = seen | EXCLUSIVE << LOCATION_BITS;
            // Acquire pairs with the Release of the readers' `unpin` and of the last writer.
            let order = model_bug!(LockRelaxed, Ordering::Acquire => Ordering::Relaxed);
            match self.0.compare_exchange_weak(seen, locked, order, Ordering::Relaxed) {
                Ok(_) => return Ok(location(seen)),
                Err(now) => seen = now,
            }
        }
    }

    /// Gives the exclusive pin back, the object being at `to` from now on. [`Outcome::Ended`] names
    /// where it was: it was freed meanwhile, and `to` has not been taken.
    pub(crate) fn unlock(&self, to: u64) -> Outcome {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            debug_assert_eq!(pins(seen), EXCLUSIVE, "unlocked without the exclusive pin");
            if !live(seen) && !model_bug!(UnlockForgetsFree) {
                // Pairs with the Release half of `free`. Nobody else changes a dying, exclusive
                // word.
                if !model_bug!(UnlockUnfenced) {
                    acquire(&self.0);
                }
                self.0.store(seen & !(PINS << LOCATION_BITS), Ordering::Relaxed);
                return Outcome::Ended(location(seen));
            }
            let open = generation(seen) << (LOCATION_BITS + PIN_BITS) | to;
            // Release pairs with the Acquire of the next `pin` or `lock`, which reads what was
            // written.
            let order = model_bug!(UnlockRelaxed, Ordering::Release => Ordering::Relaxed);
            match self.0.compare_exchange_weak(seen, open, order, Ordering::Relaxed) {
                Ok(_) => return Outcome::Kept,
                Err(now) => seen = now,
            }
        }
    }

    /// Ends the handle: no pin succeeds from here on. The object ends with its last holder.
    pub(crate) fn free(&self, wanted: u64) -> Result<Outcome, Refusal> {
        // Acquire pairs with the Release of the readers' unpins (this may be the end of the
        // object), Release with the fence of a last unpin (what this thread did to the object is
        // over).
        let order = model_bug!(FreeUnacquired, Ordering::AcqRel => Ordering::Release);
        let order = model_bug!(FreeUnreleased, order => Ordering::Acquire);
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if generation(seen) != wanted && !model_bug!(FreeUnchecked) {
                return Err(Refusal::Stale);
            }
            let dying = seen.wrapping_add(GENERATION);
            match self.0.compare_exchange_weak(seen, dying, order, Ordering::Relaxed) {
                Ok(_) if pins(seen) == 0 || model_bug!(FreeIgnoresPins) => {
                    return Ok(Outcome::Ended(location(seen)));
                }
                Ok(_) => return Ok(Outcome::Kept),
                Err(now) => seen = now,
            }
        }
    }

    /// Moves a live object, pinned once and by the caller, from `from` to `to`; the pin ends with
    /// it. `false`: somebody else holds or freed it; nothing has changed and the pin is still held.
    pub(crate) fn swing(&self, generation: u64, from: u64, to: u64) -> bool {
        let base = generation << (LOCATION_BITS + PIN_BITS);
        let held = if model_bug!(MigrateUnpinned) { 0 } else { PIN };
        // Release pairs with the Acquire of the next `pin`, which reads the copy; Acquire with the
        // Release of earlier readers' unpins, whose place is given away now.
        let order = model_bug!(SwingUnacquired, Ordering::AcqRel => Ordering::Release);
        let order = model_bug!(SwingUnreleased, order => Ordering::Acquire);
        self.0.compare_exchange(base | held | from, base | to, order, Ordering::Relaxed).is_ok()
    }

    /// DYING without holders, held alone: makes it FREE, its location field carrying `link`.
    /// `false`: the generations are used up, and the word is 0 for good.
    pub(crate) fn recycle(&self, link: u64) -> bool {
        let mut generation = generation(self.0.load(Ordering::Relaxed));
        debug_assert_eq!(generation & 1, 0, "recycling a live object");
        if generation == 0 && !model_bug!(WrapStartsOver) {
            self.0.store(0, Ordering::Relaxed);
            return false;
        }
        if model_bug!(ReuseKeepsGeneration) {
            generation -= 2;
        }
        self.set_link(generation, link);
        true
    }

    /// FREE, held alone: starts at this even generation at least.
    pub(crate) fn start_at(&self, least: u64) {
        debug_assert_eq!(least & 1, 0, "a FREE word's generation is even");
        if generation(self.0.load(Ordering::Relaxed)) < least {
            self.set_link(least, NOWHERE);
        }
    }

    /// Its memory goes: 0, which is FREE, in a generation that no handle names.
    pub(crate) fn wipe(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// FREE, held alone or on its way to a free list: changes the link.
    pub(crate) fn relink(&self, link: u64) {
        self.set_link(generation(self.0.load(Ordering::Relaxed)), link);
    }

    fn set_link(&self, generation: u64, link: u64) {
        // Relaxed: the head of the free list carries the order.
        self.0.store(generation << (LOCATION_BITS + PIN_BITS) | link, Ordering::Relaxed);
    }

    /// The generation and the link of a FREE word.
    pub(crate) fn linked(&self) -> (u64, u64) {
        let free = self.0.load(Ordering::Relaxed);
        (generation(free), location(free))
    }

    /// The location of an object that has ended and whose slot is held alone.
    pub(crate) fn last_location(&self) -> u64 {
        location(self.0.load(Ordering::Relaxed))
    }

    /// Generation, pins (1023: exclusive) and location, as they are at this instant.
    pub(crate) fn glance(&self) -> (u64, u64, u64) {
        let seen = self.0.load(Ordering::Relaxed);
        (generation(seen), pins(seen), location(seen))
    }

    /// Its generation and its location, for a caller who goes on to ask for the address of the page
    /// there.
    pub(crate) fn look(&self) -> (u64, u64) {
        // Pairs with the Release in `publish` and `swing`, in front of which the page got its
        // address.
        let seen = self.0.load(Ordering::Acquire);
        (generation(seen), location(seen))
    }

    /// Makes a FREE word one that was used before, up to an even generation, for models of the
    /// wrap.
    #[cfg(all(test, zcache_loom))]
    pub(crate) fn age(&self, generation: u64) {
        self.set_link(generation, NOWHERE);
    }
}
