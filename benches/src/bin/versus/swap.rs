//! The kernel's zram as a store of pages: direct reads and writes of whole pages, 4 KiB at least.
//!
//! zram evicts nothing. Pages go in until it takes the memory that it may, all-in; from then on each new one
//! is written over the oldest. All-in is what `mm_stat` says of pages, a handle's slot of 8 bytes an object, 56 bytes a
//! zspage (as many as the model of the kernel's rules has for the same pages), and 16 bytes an entry of zram's
//! table, as far as the table is used.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError, RwLock};

use benches::kernel::{Kernel, PAGE};
use benches::packing::Failure;
use benches::zram::Device;

use crate::contestant::Contestant;
use crate::engine::{Engine, Worker};
use crate::spec::Codec;
use crate::stage::Stage;

/// Bytes of an entry of zram's table.
const ENTRY: u64 = 16;
/// Inserts between two looks at the memory while it grows.
const LOOK: usize = 32;

/// Which pages the device holds.
struct Index {
    slots: HashMap<u64, u32>,
    /// The key in each slot; slots are used in their order.
    keys: Vec<u64>,
    /// The slot to write over next, once it is full.
    oldest: Option<usize>,
    model: Kernel,
}

pub(crate) struct Swap {
    device: Device,
    page_size: usize,
    most: u64,
    /// Pages of the stage fit.
    capacity: usize,
    index: RwLock<Index>,
    /// Compresses for the model, into the scratch beside it.
    worker: Mutex<(Worker, Vec<u8>)>,
}

thread_local! {
    /// Room for a page and for starting it at a boundary.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with an aligned buffer of `len` bytes.
fn aligned<R>(len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
    ROOM.with_borrow_mut(|room| {
        room.resize(len + PAGE, 0);
        let start = room.as_ptr().align_offset(PAGE);
        f(&mut room[start..start + len])
    })
}

impl Swap {
    /// The idle device, to take `most` bytes.
    pub(crate) fn new(most: u64, stage: &Stage) -> Result<Self, Failure> {
        let page_size = stage.page_size;
        if page_size % PAGE != 0 {
            return Err(format!("zram takes pages of {PAGE} bytes, not {page_size}").into());
        }
        let capacity = stage.page_of.len();
        let index =
            Index { slots: HashMap::new(), keys: Vec::new(), oldest: None, model: Kernel::new() };
        let worker = Mutex::new((Engine::new(Codec::Lz4, &[])?.worker(PAGE), vec![0; PAGE]));
        let device = Device::new(capacity * page_size / PAGE)?;
        Ok(Self { device, page_size, most, capacity, index: RwLock::new(index), worker })
    }

    fn taken(&self, index: &Index) -> Result<u64, Failure> {
        let usage = self.device.usage()?;
        let model = index.model.held();
        // Of the model only what a zspage takes beside its pages, by the objects that there really are.
        let each = model.metadata_bytes as f64 / model.objects.max(1) as f64;
        let table = (index.keys.len() * self.page_size / PAGE) as u64 * ENTRY;
        Ok(usage.page_bytes as u64 + (usage.objects as f64 * each) as u64 + table)
    }

    /// The slot for a new page, and whether it is one more.
    fn slot(&self, index: &mut Index) -> (usize, bool) {
        let held = index.keys.len();
        let full = held == self.capacity
            || (held % LOOK == 0 && self.taken(index).expect("mm_stat") >= self.most);
        if full && index.oldest.is_none() && held > 0 {
            index.oldest = Some(0);
        }
        match index.oldest {
            Some(oldest) => {
                index.oldest = Some((oldest + 1) % held);
                (oldest, false)
            }
            None => (held, true),
        }
    }

    fn store(&self, index: &mut Index, key: u64, page: &[u8]) -> usize {
        if let Some(slot) = index.slots.get(&key) {
            return *slot as usize;
        }
        let (slot, more) = self.slot(index);
        if more {
            index.keys.push(key);
            let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            let (worker, scratch) = &mut *worker;
            for part in page.chunks(PAGE) {
                let len = worker.encode(part, scratch).len();
                index.model.alloc(len);
            }
        } else {
            let old = std::mem::replace(&mut index.keys[slot], key);
            index.slots.remove(&old);
        }
        index.slots.insert(key, slot as u32);
        slot
    }

    fn place(&self, slot: usize) -> u64 {
        (slot * (self.page_size / PAGE)) as u64
    }
}

/// # Panics
/// The device refuses: a figure of it would be worth nothing.
impl Contestant for Swap {
    fn get(&self, key: u64, to: &mut [u8]) -> bool {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = index.slots.get(&key).copied() else { return false };
        aligned(to.len(), |page| {
            self.device.read(self.place(slot as usize), page).expect("the device is read");
            to.copy_from_slice(page);
        });
        true
    }

    fn insert(&self, key: u64, page: &[u8]) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        let slot = self.store(&mut index, key, page);
        aligned(page.len(), |room| {
            room.copy_from_slice(page);
            self.device.write(self.place(slot), room).expect("the device is written");
        });
    }

    fn contains(&self, key: u64) -> bool {
        self.index.read().unwrap_or_else(PoisonError::into_inner).slots.contains_key(&key)
    }

    fn all_in(&self) -> Option<u64> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        self.taken(&index).ok()
    }
}
