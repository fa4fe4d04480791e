//! Free slots: how they come back, and which one is handed out.
//! ```text
//! an object ends --push--> `back`, a stack through the words --take_in--> `numbers` --vacant-->
//! ```
//! Coming back waits for no thread: a push is one compare-exchange. A thread that needs a slot
//! takes the stack in, under a lock. So does one that pushes the last of a handful, if the lock is
//! free. A stack that is taken off whole needs no tags.
//!
//! A chunk without a slot in use closes, but for one. Its memory reads as zeros from then on: words
//! that are FREE and whose generation no handle names. When the chunk comes back, its slots start
//! at the highest generation that it had. So handles from before stay stale.

use std::ops::Range;

use super::ended::Spent;
use super::slots::Slot;
use super::table::Table;
use super::token::Vacant;
use crate::error::AllocError;
use crate::ledger::Ledger;
use crate::numbers::{Numbers, Taken};
use crate::sync::{GATHERED, MutexGuard, Ordering, look, model_bug};
use crate::word::{NOWHERE, Word};

/// In the link of a slot that came back: its generations are used up.
const RETIRED: u64 = 1 << 35;
const _: () = assert!(RETIRED > u32::MAX as u64 && RETIRED < NOWHERE);

impl<T> Table<T> {
    /// The lowest free slot.
    ///
    /// # Errors
    /// [`AllocError::OutOfPages`] where the ledger refuses one more, [`AllocError::NoMemory`] where
    /// the system does.
    pub(crate) fn vacant(&self, ledger: &Ledger) -> Result<Vacant<'_, T>, AllocError> {
        let mut numbers = self.numbers.lock();
        if let Some((slot, index)) = self.take_only(&numbers) {
            return Ok(Vacant::new(self, slot, index));
        }
        self.take_in(&mut numbers, ledger);
        self.hand_out(numbers, ledger)
    }

    /// The lowest free slot, if it is below `end`. `None`: there is no such slot, and no memory was
    /// taken for another one; or there is no room under the ledger's cap.
    pub(crate) fn vacant_below(&self, end: u32, ledger: &Ledger) -> Option<Vacant<'_, T>> {
        let mut numbers = self.numbers.lock();
        self.take_in(&mut numbers, ledger);
        if numbers.lowest() >= end as usize {
            return None;
        }
        self.hand_out(numbers, ledger).ok()
    }

    fn hand_out(
        &self,
        mut numbers: MutexGuard<'_, Numbers>,
        ledger: &Ledger,
    ) -> Result<Vacant<'_, T>, AllocError> {
        let end = numbers.end();
        let taken = numbers.take(ledger, |from| self.slots.open(from, ledger));
        if numbers.end() != end {
            self.end.store(numbers.end(), Ordering::Relaxed);
        }
        drop(numbers);
        let Taken { number, start } = taken?;
        let slot = self.slots.get(number).expect("a number that is handed out has memory");
        slot.word.start_at(start.into());
        Ok(Vacant::new(self, slot, number))
    }

    /// The slot that came back, if it is the only one and lower than all that are sorted in: what a
    /// cache does that replaces its entries. Spares sorting it in and out, 250 instructions
    /// (`counts`, insert/same_filled).
    fn take_only(&self, numbers: &Numbers) -> Option<(&Slot<T>, u32)> {
        // Acquire pairs with the Release in `push`, as in `take_in`. Only who holds `numbers` takes
        // off, so the stack is still the same where its head is.
        let order = model_bug!(TakeOnlyRelaxed, Ordering::Acquire => Ordering::Relaxed);
        let head = look(&self.back, order);
        let index = (head as u32).checked_sub(1)?;
        let higher = index >= numbers.floor() && !model_bug!(TakeOnlyHigher);
        if head >> 32 != 1 || higher {
            return None;
        }
        let slot = self.slots.get(index)?;
        let retired = slot.word.linked().1 & RETIRED != 0;
        if retired && !model_bug!(TakeOnlyRetired) {
            return None;
        }
        self.back.compare_exchange(head, 0, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        Some((slot, index))
    }

    /// Puts a FREE slot on the stack; says how many are there.
    pub(super) fn push(&self, index: u32, word: &Word, mark: u64) -> u32 {
        // Release pairs with the Acquire in `take_in`.
        let order = model_bug!(PushRelaxed, Ordering::Release => Ordering::Relaxed);
        let mut head = self.back.load(Ordering::Relaxed);
        loop {
            word.relink(mark | head & u64::from(u32::MAX));
            let count = (head >> 32) + 1;
            let pushed = count << 32 | u64::from(index + 1);
            match self.back.compare_exchange_weak(head, pushed, order, Ordering::Relaxed) {
                Ok(_) => return count as u32,
                Err(now) => head = now,
            }
        }
    }

    /// Gives the slot of an ended object back, or retires it.
    pub(crate) fn recycle(&self, spent: Spent, ledger: &Ledger) {
        let Some(word) = self.word(spent.index()) else { return };
        let mark = if word.recycle(NOWHERE) { 0 } else { RETIRED };
        if self.push(spent.index(), word, mark) % GATHERED == 0 {
            let waits = model_bug!(RecycleWaits).then(|| self.numbers.lock());
            if let Some(mut numbers) = waits.or_else(|| self.numbers.try_lock()) {
                self.take_in(&mut numbers, ledger);
            }
        }
    }

    /// Sorts in all slots that came back.
    pub(super) fn take_in(&self, numbers: &mut Numbers, ledger: &Ledger) {
        if look(&self.back, Ordering::Relaxed) == 0 {
            return;
        }
        // Acquire pairs with the Release in `push`: the links are seen, and what the slots' last
        // users did.
        let order = model_bug!(TakeInRelaxed, Ordering::Acquire => Ordering::Relaxed);
        let end = numbers.end();
        let mut rest = self.back.swap(0, order) as u32;
        while let Some(index) = rest.checked_sub(1) {
            let word = self.word(index).expect("a slot that came back has memory");
            let (generation, link) = word.linked();
            rest = link as u32;
            let closed = if link & RETIRED == 0 {
                numbers.give(index, generation as u32, ledger)
            } else {
                word.wipe();
                numbers.retire(index, ledger)
            };
            self.close(closed, ledger);
        }
        if numbers.end() != end {
            self.end.store(numbers.end(), Ordering::Relaxed);
        }
    }

    fn close(&self, made: Range<usize>, ledger: &Ledger) {
        if !made.is_empty() {
            self.slots.close(made, ledger);
        }
    }

    /// Gives back what no slot in use needs, as far as that is known by what came back.
    pub(crate) fn tidy(&self, ledger: &Ledger) {
        self.take_in(&mut self.numbers.lock(), ledger);
    }

    /// The same, the empty chunk that is kept for the next slots, and memory that the system did
    /// not take so far.
    pub(crate) fn trim(&self, ledger: &Ledger) {
        let mut numbers = self.numbers.lock();
        self.take_in(&mut numbers, ledger);
        let closed = numbers.close_idle(ledger);
        self.close(closed, ledger);
        self.end.store(numbers.end(), Ordering::Relaxed);
        drop(numbers);
        self.slots.trim(ledger);
    }

    /// The slots of the highest chunk in use, if its objects should move to lower ones; or of the
    /// highest one below a slot.
    pub(crate) fn sparse(
        &self,
        spare: usize,
        below: Option<u32>,
        ledger: &Ledger,
    ) -> Option<Range<u32>> {
        let mut numbers = self.numbers.lock();
        self.take_in(&mut numbers, ledger);
        match below {
            Some(end) => numbers.sparse_below(end, spare),
            None => numbers.sparse(spare),
        }
    }

    /// Whether a slot of the chunks in which these are is in use.
    pub(crate) fn uses(&self, slots: Range<u32>, ledger: &Ledger) -> bool {
        let mut numbers = self.numbers.lock();
        self.take_in(&mut numbers, ledger);
        numbers.uses(slots.start as usize..slots.end as usize)
    }

    /// Bytes of pages that the table holds.
    pub(crate) fn mapped(&self) -> usize {
        self.slots.mapped()
    }

    /// Asserts that words and numbers agree, and the memory with both; says how many slots are in
    /// use. The caller is alone.
    pub(crate) fn check(&self, ledger: &Ledger) -> usize {
        let mut numbers = self.numbers.lock();
        self.take_in(&mut numbers, ledger);
        numbers.check();
        let mut made = Vec::new();
        numbers.each_open(|open| made.push(open));
        for index in made.iter().cloned().flatten() {
            let (generation, pins, _) = self.word(index as u32).expect("memory").glance();
            let (start, peak) = numbers.generations(index);
            if numbers.is_free(index) {
                assert!(generation & 1 == 0 && pins == 0, "slot {index} is free");
                assert!(
                    generation <= u64::from(peak),
                    "slot {index} is no older than its chunk knows"
                );
            } else {
                let starts = generation == 0 || generation >= u64::from(start);
                assert!(starts, "slot {index} starts where its chunk does, or is retired");
            }
        }
        self.slots.check(&made);
        numbers.inuse()
    }
}
