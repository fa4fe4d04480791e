//! The bytes of objects: where they are, whether in one piece, and copies across what lies between.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use super::record::Record;
use super::{JOINED, Zspages};
use crate::geometry::GRAIN;
use crate::handle::{Lock, Pin, Place, prefetch};
use crate::source::Access;
use crate::sync::Ordering;
use crate::word::NOWHERE;

/// Bytes of a cache line, and lines that a prefetch asks for.
const LINE: usize = 64;
const PREFETCHED: usize = 4;
/// What is copied at a time between pages without an address.
const BOUNCE: usize = 4096;

#[inline(always)]
fn prefetch_lines(start: *const u8) {
    (0..PREFETCHED).for_each(|line| prefetch(start.wrapping_add(line * LINE)));
}

/// A pinned object with the address of its bytes, where they are one piece of memory.
#[derive(Debug)]
pub(crate) struct Mapped<'p, T> {
    pin: Pin<'p, T>,
    start: Option<NonNull<u8>>,
}

/// An exclusively held object, likewise.
#[derive(Debug)]
pub(crate) struct MappedMut<'p, T> {
    lock: Lock<'p, T>,
    start: Option<NonNull<u8>>,
}

// SAFETY: `start` is an address inside the pool that the pin borrows; the bytes are reached through
// `&self` and `&mut self` only, and the record is `Send + Sync` wherever a table is shared.
unsafe impl<T: Send + Sync> Send for Mapped<'_, T> {}
// SAFETY: as above; `&Mapped` gives `&[u8]` and `&T`.
unsafe impl<T: Send + Sync> Sync for Mapped<'_, T> {}
// SAFETY: as for `Mapped`.
unsafe impl<T: Send + Sync> Send for MappedMut<'_, T> {}
// SAFETY: as for `Mapped`.
unsafe impl<T: Send + Sync> Sync for MappedMut<'_, T> {}

impl<'p, T> Mapped<'p, T> {
    pub(crate) fn pin(&self) -> &Pin<'p, T> {
        &self.pin
    }

    pub(crate) fn into_pin(self) -> Pin<'p, T> {
        self.pin
    }

    /// The object's bytes, unless they cross a seam or have no address.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        let start = self.start?;
        // SAFETY: `Zspages::map` found the pin's `len` bytes there in one piece; the pin keeps the
        // object in place and writers away for as long as `self` is borrowed.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), self.pin.len()) })
    }
}

impl<'p, T> MappedMut<'p, T> {
    pub(crate) fn lock(&self) -> &Lock<'p, T> {
        &self.lock
    }

    /// Overwrites the object with the start of `copy`.
    pub(crate) fn write_back(&mut self, zspages: &Zspages, copy: &[u8]) -> io::Result<()> {
        let len = self.lock.pin().len();
        // SAFETY: the place is lent to one write and stays where it is.
        match unsafe { self.lock.place_mut() } {
            Some(place) => zspages.write_at(place, 0, &copy[..len]),
            None => Ok(()),
        }
    }

    pub(crate) fn into_lock(self) -> Lock<'p, T> {
        self.lock
    }

    /// The object's bytes, unless they cross a seam or have no address.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        let start = self.start?;
        // SAFETY: as in `Mapped::bytes`; the exclusive pin keeps everybody else away.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), self.lock.pin().len()) })
    }

    /// The same for writing.
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let start = self.start?;
        // SAFETY: as above, and `self` is borrowed exclusively.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.lock.pin().len()) })
    }
}

impl Zspages {
    /// The address of a location: callers hold a place in its zspage, or its class's token, so that
    /// the page is taken.
    #[inline]
    fn spot(&self, location: u64) -> Option<NonNull<u8>> {
        let (linear, base) = self.line;
        if location >= linear {
            return self.spot_off_line(location);
        }
        let offset = (location * GRAIN as u64) as usize;
        // SAFETY: the taken page of a location in the line lies at its offset of one allocation.
        Some(unsafe { base.first().add(offset) })
    }

    /// The same of a location that lies in no line with page 0, or has no address.
    #[cold]
    fn spot_off_line(&self, location: u64) -> Option<NonNull<u8>> {
        if matches!(self.access, Access::Unaddressable) {
            return None;
        }
        let (page, offset) = self.split(location);
        // SAFETY: the caller of `spot` vouches for it, and that of `prefetch` for a ranged source's
        // page that was taken once.
        let start = unsafe { self.source.address(page) };
        // SAFETY: `offset < page_size`, inside the page.
        Some(unsafe { start.add(offset) })
    }

    /// The address of a page, likewise.
    fn address(&self, page: u32) -> Option<NonNull<u8>> {
        self.spot((u64::from(page) << self.page_bits) / GRAIN as u64)
    }

    /// Where `len` bytes at `place` start, if they are one piece of memory.
    #[inline(always)]
    fn piece(&self, place: &Place, len: usize) -> Option<NonNull<u8>> {
        assert!(len <= place.room(), "an object ends inside its place");
        let (mut page, offset) = self.split(place.location());
        let start = self.spot(place.location())?;
        let mut reach = self.page_size - offset;
        while reach < len {
            if self.entry(page).load(Ordering::Relaxed) & JOINED == 0 {
                return None;
            }
            (page, reach) = (page + 1, reach + self.page_size);
        }
        Some(start)
    }

    /// A pinned object with its address, if it has one.
    #[inline(always)]
    pub(crate) fn map<'p, T>(&self, pin: Pin<'p, T>) -> Mapped<'p, T> {
        let start = match pin.place() {
            Some(place) => {
                self.witness.read(place.location() * GRAIN as u64, pin.len());
                self.piece(place, pin.len())
            }
            None => Some(NonNull::dangling()),
        };
        Mapped { pin, start }
    }

    /// An exclusively held object, likewise.
    pub(crate) fn map_mut<'p, T>(&self, lock: Lock<'p, T>) -> MappedMut<'p, T> {
        let start = match lock.pin().place() {
            Some(place) => {
                self.witness.write(place.location() * GRAIN as u64, lock.pin().len());
                self.piece(place, lock.pin().len())
            }
            None => Some(NonNull::dangling()),
        };
        MappedMut { lock, start }
    }

    /// The last moment at which a shared map reads, or an exclusive one writes, for models.
    #[inline(always)]
    pub(crate) fn touch(&self, place: Option<&Place>, written: bool) {
        if let Some(place) = place {
            let at = place.location() * GRAIN as u64;
            if written {
                self.witness.write(at, place.room());
            } else {
                self.witness.read(at, place.room());
            }
        }
    }

    /// The first `len` bytes at `place`, unless they cross a seam or have no address.
    #[inline]
    pub(crate) fn bytes<'a>(&'a self, place: &'a Place, len: usize) -> Option<&'a [u8]> {
        let start = self.piece(place, len)?;
        self.witness.read(place.location() * GRAIN as u64, len);
        // SAFETY: `piece` found `len <= room` bytes in one piece, initialised by the source's
        // contract; borrowing the place keeps its zspage there and writers away.
        Some(unsafe { std::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// The same for writing.
    pub(crate) fn bytes_mut<'a>(
        &'a self,
        place: &'a mut Place,
        len: usize,
    ) -> Option<&'a mut [u8]> {
        let start = self.piece(place, len)?;
        self.witness.write(place.location() * GRAIN as u64, len);
        // SAFETY: as in `bytes`; the place is borrowed exclusively, and so are its bytes.
        Some(unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Calls `f` with the page, the offset in it and the range of `len`, for each page touched by
    /// the `len` bytes that start `skip` bytes behind the start of `place`.
    fn walk(
        &self,
        place: &Place,
        skip: usize,
        len: usize,
        mut f: impl FnMut(u32, usize, Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let (page, offset) = self.split(place.location());
        let record = self.record(self.id_of(place));
        let mut from = record.position(page) * self.page_size + offset + skip;
        let mut at = 0;
        while at < len {
            let (nth, offset) = (from / self.page_size, from % self.page_size);
            let end = len.min(at + self.page_size - offset);
            f(record.page(nth), offset, at..end)?;
            (at, from) = (end, from + end - at);
        }
        Ok(())
    }

    /// Copies `to.len()` bytes out, from `skip` bytes behind the start of `place`, whatever lies
    /// between them.
    pub(crate) fn read_at(&self, place: &Place, skip: usize, to: &mut [u8]) -> io::Result<()> {
        assert!(skip + to.len() <= place.room(), "an object ends inside its place");
        self.witness.read(place.location() * GRAIN as u64 + skip as u64, to.len());
        self.walk(place, skip, to.len(), |page, offset, range| {
            let to = &mut to[range];
            let Some(start) = self.address(page) else {
                return self.source.read(page, offset, to);
            };
            // SAFETY: `walk` stays inside the page.
            let from = unsafe { start.add(offset) };
            // SAFETY: as in `bytes`, for this page's part; `to` is memory of the caller's.
            unsafe { from.copy_to_nonoverlapping(NonNull::from(&mut *to).cast(), to.len()) };
            Ok(())
        })
    }

    /// Copies `from` to `skip` bytes behind the start of `place`, whatever lies between its bytes.
    pub(crate) fn write_at(&self, place: &mut Place, skip: usize, from: &[u8]) -> io::Result<()> {
        assert!(skip + from.len() <= place.room(), "an object ends inside its place");
        self.witness.write(place.location() * GRAIN as u64 + skip as u64, from.len());
        self.walk(place, skip, from.len(), |page, offset, range| {
            let from = &from[range];
            let Some(start) = self.address(page) else {
                return self.source.write(page, offset, from);
            };
            // SAFETY: `walk` stays inside the page.
            let to = unsafe { start.add(offset) };
            // SAFETY: as in `bytes_mut`, for this page's part.
            unsafe { to.copy_from_nonoverlapping(NonNull::from(from).cast(), from.len()) };
            Ok(())
        })
    }

    /// Copies the object at `from` to `to`.
    pub(crate) fn copy(&self, from: &Place, to: &mut Place) -> io::Result<()> {
        let len = from.room();
        if let Some(bytes) = self.bytes(from, len) {
            return self.write_at(to, 0, bytes);
        }
        if let Some(bytes) = self.bytes_mut(to, len) {
            return self.read_at(from, 0, bytes);
        }
        // Neither side is one piece of memory: through a small buffer.
        let mut bounce = [0; BOUNCE];
        for at in (0..len).step_by(BOUNCE) {
            let part = &mut bounce[..BOUNCE.min(len - at)];
            self.read_at(from, at, part)?;
            self.write_at(to, at, part)?;
        }
        Ok(())
    }

    /// Overwrites the whole slot of a place with zeros.
    pub(crate) fn scrub(&self, place: &mut Place) -> io::Result<()> {
        let record = self.record(self.id_of(place));
        let size = self.room(record, self.slot_of(record, place));
        // SAFETY: the caller's own place under a second name, with the room that its slot has, for
        // as long as the first is borrowed.
        let mut whole = unsafe { Place::new(place.location(), size) };
        for at in (0..size).step_by(BOUNCE) {
            self.write_at(&mut whole, at, &[0; BOUNCE][..BOUNCE.min(size - at)])?;
        }
        Ok(())
    }

    /// Hints the processor that the bytes at a location are about to be read: the first lines, it
    /// guesses the rest. An object is or was at the location, or it is none.
    #[inline]
    pub(crate) fn prefetch(&self, location: u64) {
        let (linear, base) = self.line;
        if location < linear {
            let offset = (location * GRAIN as u64) as usize;
            prefetch_lines(base.first().as_ptr().wrapping_add(offset));
        } else if location != NOWHERE {
            self.prefetch_off_line(location);
        }
    }

    /// The same where a page's address has to be asked for.
    #[cold]
    fn prefetch_off_line(&self, location: u64) {
        if matches!(self.access, Access::Ranged(..)) {
            if let Some(start) = self.spot_off_line(location) {
                prefetch_lines(start.as_ptr());
            }
        }
    }

    /// Marks a slot as out of bounds for AddressSanitizer, which knows nothing of slots, or as in.
    #[cfg(zpool_asan)]
    pub(super) fn shade(&self, record: Record<'_>, location: u64, len: usize, out: bool) {
        unsafe extern "C" {
            fn __asan_poison_memory_region(at: *const u8, len: usize);
            fn __asan_unpoison_memory_region(at: *const u8, len: usize);
        }
        let (page, offset) = self.split(location);
        let (mut at, end) = (record.position(page) * self.page_size + offset, len);
        let end = at + end;
        while at < end {
            let (nth, offset) = (at / self.page_size, at % self.page_size);
            let count = (end - at).min(self.page_size - offset);
            if let Some(start) = self.address(record.page(nth)) {
                let at = start.as_ptr().wrapping_add(offset);
                if out {
                    // SAFETY: marks shadow memory of a part of one of our pages.
                    unsafe { __asan_poison_memory_region(at, count) };
                } else {
                    // SAFETY: as above.
                    unsafe { __asan_unpoison_memory_region(at, count) };
                }
            }
            at += count;
        }
    }

    #[cfg(not(zpool_asan))]
    #[inline(always)]
    pub(super) fn shade(&self, _record: Record<'_>, _location: u64, _len: usize, _out: bool) {}

    /// The same for all pages of a zspage.
    pub(super) fn shade_all(&self, id: u32, out: bool) {
        if cfg!(zpool_asan) {
            let record = self.record(id);
            let len = usize::from(record.pages()) * self.page_size;
            self.shade(record, self.location_at(record, 0), len, out);
        }
    }
}
