//! The kernel's packing rules, modelled: the baseline that the pool is held against.
//!
//! No bytes and no pages, just counts, after what is publicly known of zsmalloc as zram uses it:
//! ```text
//! size     16 B steps from 32 B to a page; each object carries a header of 8 B
//! chain    1 to 8 pages, the one with the least tail by share, the shortest of equals
//! class    sizes that come out at the same pages and objects are one
//! huge     one object a page: the header lies outside, so a raw page takes a page
//! place    the fullest zspage of the class that has room; an empty zspage goes back at once
//! compact  at most one zspage of a class is left partly filled
//! all-in   8 B of slab for an object's handle and 56 B for a zspage on top of the pages
//! ```
//! Where the model leaves room it is kinder than the kernel: fullest first is exact here, and
//! compaction leaves nothing behind.

use benches::arguments::Failure;
use benches::codec::Payloads;

use crate::packing::{Allocator, Held, Live};

/// Bytes in a page of the model, and the largest object.
pub(crate) const PAGE: usize = 4096;
const STEP: usize = 16;
const LEAST: usize = 32;
const LONGEST: usize = 8;
const HEADER: usize = 8;
/// Bytes of slab for an object's handle.
pub(crate) const HANDLE: usize = 8;
const ZSPAGE: usize = 56;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    pages: usize,
    objects: usize,
}

#[derive(Debug)]
struct Class {
    shape: Shape,
    inuse: usize,
    /// Zspages by free slots. A full zspage is in none.
    partial: Vec<Vec<u32>>,
}

/// A zspage with room stands at `at` of its class's list for `free`.
#[derive(Debug, Clone, Copy)]
struct Zspage {
    class: u16,
    free: u16,
    at: u32,
}

/// The kernel's allocator, as counts.
#[derive(Debug)]
pub(crate) struct Kernel {
    classes: Vec<Class>,
    /// Class of each size, in steps.
    class_of: Vec<u16>,
    zspages: Vec<Zspage>,
    /// Numbers of zspages that went back.
    vacant: Vec<u32>,
    held: Held,
}

/// The chain with the least tail for objects of `size` bytes.
fn shape(size: usize) -> Shape {
    let tail = |pages: usize| pages * PAGE % size;
    let share = |a: &usize, b: &usize| (tail(*a) * b).cmp(&(tail(*b) * a));
    let pages = (1..=LONGEST).min_by(share).expect("a chain has a page");
    Shape { pages, objects: pages * PAGE / size }
}

impl Kernel {
    /// An empty allocator.
    pub(crate) fn new() -> Self {
        let mut classes: Vec<Class> = Vec::new();
        let mut class_of = vec![0; PAGE / STEP + 1];
        for steps in (LEAST / STEP..=PAGE / STEP).rev() {
            let shape = shape(steps * STEP);
            if classes.last().is_none_or(|larger| larger.shape != shape) {
                let partial = vec![Vec::new(); shape.objects];
                classes.push(Class { shape, inuse: 0, partial });
            }
            class_of[steps] = (classes.len() - 1) as u16;
        }
        let held = Held::default();
        Self { classes, class_of, zspages: Vec::new(), vacant: Vec::new(), held }
    }

    fn class(&self, len: usize) -> u16 {
        let size = (len + HEADER).clamp(LEAST, PAGE);
        self.class_of[size.div_ceil(STEP)]
    }

    /// Stores an object of `len` bytes and returns its zspage.
    pub(crate) fn alloc(&mut self, len: usize) -> u32 {
        assert!(len <= PAGE, "the kernel stores a page at most");
        let number = self.class(len);
        let class = &mut self.classes[usize::from(number)];
        class.inuse += 1;
        self.held.objects += 1;
        self.held.payload_bytes += len;
        // The lists stand by free slots, so the first that is not empty has the fullest zspages.
        let zspage = match class.partial.iter().find_map(|zspages| zspages.last()) {
            Some(fullest) => *fullest,
            None => self.grow(number),
        };
        let free = self.zspages[zspage as usize].free;
        self.relist(zspage, free - 1);
        zspage
    }

    /// Frees an object of `len` bytes in `zspage`.
    pub(crate) fn free(&mut self, zspage: u32, len: usize) {
        self.held.objects -= 1;
        self.held.payload_bytes -= len;
        let Zspage { class: number, free, .. } = self.zspages[zspage as usize];
        let class = &mut self.classes[usize::from(number)];
        class.inuse -= 1;
        let Shape { pages, objects } = class.shape;
        self.relist(zspage, free + 1);
        if usize::from(free) + 1 == objects {
            self.vacant.push(zspage);
            self.charge(pages, false);
        }
    }

    /// Packs every class into full zspages and one more. Counts only: what zspages were named
    /// before is void.
    pub(crate) fn compact(&mut self) {
        let full = |class: &Class| class.inuse.div_ceil(class.shape.objects);
        let zspages: usize = self.classes.iter().map(full).sum();
        let pages: usize = self.classes.iter().map(|class| full(class) * class.shape.pages).sum();
        self.held.page_bytes = pages * PAGE;
        self.held.metadata_bytes = zspages * ZSPAGE;
    }

    /// What is held: handles of all objects are part of the metadata.
    pub(crate) fn held(&self) -> Held {
        let metadata_bytes = self.held.metadata_bytes + self.held.objects * HANDLE;
        Held { metadata_bytes, ..self.held }
    }

    fn grow(&mut self, class: u16) -> u32 {
        let Shape { pages, objects } = self.classes[usize::from(class)].shape;
        self.charge(pages, true);
        // As if it had just been emptied: in no list, every slot free.
        let zspage = Zspage { class, free: objects as u16, at: 0 };
        match self.vacant.pop() {
            Some(number) => {
                self.zspages[number as usize] = zspage;
                number
            }
            None => {
                self.zspages.push(zspage);
                (self.zspages.len() - 1) as u32
            }
        }
    }

    fn charge(&mut self, pages: usize, more: bool) {
        let step =
            |count: &mut usize, by: usize| *count = if more { *count + by } else { *count - by };
        step(&mut self.held.page_bytes, pages * PAGE);
        step(&mut self.held.metadata_bytes, ZSPAGE);
    }

    /// Moves a zspage to the list for `free`. Full ones and empty ones are in none.
    fn relist(&mut self, number: u32, free: u16) {
        let Zspage { class, free: before, at } = self.zspages[number as usize];
        let lists = &mut self.classes[usize::from(class)].partial;
        if before != 0 && usize::from(before) < lists.len() {
            let list = &mut lists[usize::from(before)];
            list.swap_remove(at as usize);
            if let Some(moved) = list.get(at as usize) {
                self.zspages[*moved as usize].at = at;
            }
        }
        let mut at = 0;
        if free != 0 && usize::from(free) < lists.len() {
            let list = &mut lists[usize::from(free)];
            at = list.len() as u32;
            list.push(number);
        }
        self.zspages[number as usize] = Zspage { class, free, at };
    }
}

/// The model with payloads to store.
#[derive(Debug)]
pub(crate) struct Modelled<'a> {
    kernel: Kernel,
    payloads: &'a Payloads,
}

impl<'a> Modelled<'a> {
    /// An empty kernel allocator for these payloads.
    pub(crate) fn new(payloads: &'a Payloads) -> Self {
        Self { kernel: Kernel::new(), payloads }
    }
}

impl Allocator for Modelled<'_> {
    type Place = u32;

    fn put(&mut self, payload: u32) -> Result<u32, Failure> {
        Ok(self.kernel.alloc(self.payloads.get(payload).len()))
    }

    fn free(&mut self, (zspage, payload): Live<u32>) -> Result<(), Failure> {
        self.kernel.free(zspage, self.payloads.get(payload).len());
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Failure> {
        self.kernel.compact();
        Ok(())
    }

    fn held(&mut self, _: &[Live<u32>]) -> Result<Held, Failure> {
        Ok(self.kernel.held())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_have_the_least_tail() {
        assert_eq!(shape(2048), Shape { pages: 1, objects: 2 });
        assert_eq!(shape(4096), Shape { pages: 1, objects: 1 });
        assert_eq!(shape(3072), Shape { pages: 3, objects: 4 });
        assert_eq!(shape(1360), Shape { pages: 1, objects: 3 });
        for steps in 2..=256 {
            let size = steps * STEP;
            let Shape { pages, objects } = shape(size);
            assert!(objects >= 1 && objects * size <= pages * PAGE && pages <= LONGEST);
        }
    }

    #[test]
    fn a_header_pushes_half_a_page_out_of_its_class_and_a_raw_page_has_none() {
        let kernel = Kernel::new();
        assert_ne!(kernel.class(2048), kernel.class(2040));
        assert_eq!(kernel.class(2048), kernel.class(2049));
        let raw = &kernel.classes[usize::from(kernel.class(PAGE))];
        assert_eq!(raw.shape, Shape { pages: 1, objects: 1 });
        assert_eq!(kernel.class(0), kernel.class(24));
    }

    /// The law of a fill: each class takes as few zspages as hold its objects.
    #[test]
    fn a_fill_is_as_dense_as_compaction_leaves_it() {
        let mut kernel = Kernel::new();
        let mut rng = fastrand::Rng::with_seed(1);
        (0..5000).for_each(|_| {
            kernel.alloc(rng.usize(0..=PAGE));
        });
        let fill = kernel.held();
        kernel.compact();
        assert_eq!(kernel.held(), fill);
    }

    #[test]
    fn random_replacement_agrees_with_a_naive_model() {
        let mut kernel = Kernel::new();
        let mut rng = fastrand::Rng::with_seed(2);
        let mut live: Vec<(u32, usize)> = Vec::new();
        for _ in 0..20_000 {
            if live.len() > 300 || (!live.is_empty() && rng.bool()) {
                let (zspage, len) = live.swap_remove(rng.usize(..live.len()));
                kernel.free(zspage, len);
            } else {
                // A naive search for the fullest zspage of the class that has room.
                let len = rng.usize(1000..1100);
                let class = kernel.class(len);
                let inuse = |zspage: u32| live.iter().filter(|(other, _)| *other == zspage).count();
                let objects = kernel.classes[usize::from(class)].shape.objects;
                let zspages = live.iter().map(|(zspage, _)| *zspage);
                let open = zspages.filter(|zspage| {
                    kernel.zspages[*zspage as usize].class == class && inuse(*zspage) < objects
                });
                let fullest = open.map(inuse).max();
                let zspage = kernel.alloc(len);
                assert_eq!((inuse(zspage) > 0).then(|| inuse(zspage)), fullest);
                live.push((zspage, len));
            }
            let payload: usize = live.iter().map(|(_, len)| len).sum();
            let mut zspages: Vec<u32> = live.iter().map(|(zspage, _)| *zspage).collect();
            zspages.sort_unstable();
            zspages.dedup();
            let pages = zspages.iter().map(|zspage| {
                let class = kernel.zspages[*zspage as usize].class;
                kernel.classes[usize::from(class)].shape.pages
            });
            let held = kernel.held();
            assert_eq!((held.objects, held.payload_bytes), (live.len(), payload));
            assert_eq!(held.page_bytes, pages.sum::<usize>() * PAGE);
            assert_eq!(held.metadata_bytes, live.len() * HANDLE + zspages.len() * ZSPAGE);
        }
    }
}
