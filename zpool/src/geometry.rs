//! Pure arithmetic: size -> class -> chain.
//!
//! A class is an object size. The *level* decides which sizes are classes, and how long their
//! chains are. Steps are coarse and chains short while few objects share the pages, because every
//! class in use keeps one zspage partly empty. Steps are fine and chains longer once there are many
//! objects, because then the rounding of each object weighs more.
//!
//! The sizes that share a class at the second level are a *group*, and a group's population decides
//! the level at which its classes grow. The first level has steps that several groups share, and is
//! for a handful of objects a group. It stays longer in a pool that is about full, whose
//! populations will not grow. Classes of all levels have one numbering, by size, and a zspage keeps
//! the chain it was built with.
//! ```text
//! size    rounded up to the level's step; above 8 KiB the step doubles with the size
//! chain   the number of pages with the least tail, a further page priced at the level's `price`
//!         up to 4 KiB: of at most `chain` pages; above: up to 64, with a tail of at most 1/20
//! class   the largest size that comes out at the same pages and objects, so those merge
//! ```
//! Size classes, chains chosen by waste and merging are zsmalloc's. Levels and groups are ours,
//! found by simulation on the page files that `benches`' `density` reads (DESIGN.md has the
//! figures).

/// Sizes and locations count in grains of this many bytes.
pub(crate) const GRAIN: usize = 16;
/// The smallest class.
const LEAST: usize = 32;
/// Up to this size a level caps the chain, and small tables find the class.
const SMALL: usize = 4096;
/// The longest chain, in pages.
pub(crate) const LONGEST: usize = 64;
/// The largest part of a zspage that chains above `SMALL` leave over, if 64 pages allow it.
const TAIL: f64 = 1.0 / 20.0;
/// Grains of a unit of a mixed zspage: at most one object starts in each, so none is shorter.
pub(crate) const MIXED_UNIT: usize = 32;
/// The largest object of a mixed zspage, in bytes.
const MIXED_MOST: usize = 16 << 10;
/// Objects of a mixed zspage that are no longer than this lose much by their unit.
const MIXED_SHORT: usize = MIXED_UNIT * GRAIN - 64;
/// The longest chain of a mixed zspage is the cap by this: a longer one has shorter gaps for what
/// it holds, and takes more of a small pool at once.
const MIXED_SHARE: usize = 16;
/// But no more bytes than this, where a page is no longer.
const MIXED_CHAIN: usize = 128 << 10;
/// The largest `max_object`.
pub(crate) const MAX_OBJECT: usize = 256 << 10;

/// How a zspage is cut: its pages, and the objects that fit in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) pages: u16,
    pub(crate) objects: u16,
}

/// A class as one level sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fit {
    pub(crate) class: u16,
    pub(crate) shape: Shape,
}

/// The rules of a level.
#[derive(Debug, Clone, Copy)]
struct Rule {
    /// Live objects of a group from which on its classes grow at this level.
    from: usize,
    /// The same in a pool that is about full: its populations will stay what they are.
    from_full: usize,
    /// Step between sizes up to 4 KiB, in bytes.
    step: usize,
    /// Step between sizes from 4 to 8 KiB, in bytes.
    large_step: usize,
    /// Longest chain of sizes up to 4 KiB, in units of 4 KiB.
    chain: usize,
    /// The part of a zspage that 4 KiB more of it have to save.
    price: f64,
}

const RULES: [Rule; 4] = [
    Rule { from: 0, from_full: 0, step: 256, large_step: 512, chain: 8, price: 0.03 },
    Rule { from: 4, from_full: 64, step: 32, large_step: 64, chain: 8, price: 0.003 },
    Rule { from: 320, from_full: 320, step: 16, large_step: 16, chain: 12, price: 0.002 },
    Rule { from: 4096, from_full: 4096, step: 16, large_step: 16, chain: 16, price: 0.001 },
];

/// The level whose classes are the groups.
pub(crate) const GROUPED: usize = 1;

pub(crate) const LEVELS: usize = RULES.len();

#[derive(Debug)]
pub(crate) struct Geometry {
    page_size: usize,
    /// Object size of each class, ascending.
    sizes: Box<[u32]>,
    /// The classes of level 0, ascending by size, then those of level 1, and so on.
    fits: Box<[Fit]>,
    /// Where those of each level start in `fits`, and where the last ones end.
    starts: [u16; LEVELS + 1],
    /// Where in `fits` the class for `len` in grains is, up to 4 KiB, at each level.
    small: Box<[[u16; LEVELS]]>,
}

/// The chain for objects of `size` bytes.
fn shape(page_size: usize, size: usize, rule: Rule) -> Shape {
    let least = size.div_ceil(page_size);
    let usual = (rule.chain * SMALL / page_size).max(1);
    let small = size <= SMALL;
    let most = if small { usual.max(least) } else { LONGEST };
    let price = rule.price * (page_size / SMALL) as f64;
    let mut best = (f64::INFINITY, least);
    for pages in least..=most {
        let chain = pages * page_size;
        let tail = (chain % size) as f64 / chain as f64;
        let excess = if !small && tail > TAIL { 10.0 } else { 0.0 };
        let cost = tail + price * (pages - least) as f64 + excess;
        if cost < best.0 {
            best = (cost, pages);
        }
        if !small && pages >= usual * least && best.0 <= TAIL {
            break;
        }
    }
    cut(page_size, best.1, size)
}

/// `pages` pages cut into objects of `size` bytes.
const fn cut(page_size: usize, pages: usize, size: usize) -> Shape {
    Shape { pages: pages as u16, objects: (pages * page_size / size) as u16 }
}

/// The sizes of one level with their shapes, ascending, merged.
fn level(page_size: usize, max_object: usize, rule: Rule) -> Vec<(usize, Shape)> {
    let mut classes: Vec<(usize, Shape)> = Vec::new();
    let mut len = 1;
    loop {
        let step = match len {
            // A wide step is one of many for sizes that are not small.
            0..=SMALL => rule.step.min((len.next_power_of_two() / 8).max(LEAST)),
            _ => rule.large_step << ((len - 1).ilog2().saturating_sub(12)),
        };
        let shape = shape(page_size, len.max(LEAST).next_multiple_of(step), rule);
        // The largest size that comes out at the same pages and objects is this class too.
        let chain = usize::from(shape.pages) * page_size;
        let size = chain / usize::from(shape.objects) / GRAIN * GRAIN;
        classes.push((size, shape));
        if size >= max_object {
            return classes;
        }
        len = size + 1;
    }
}

impl Geometry {
    /// Classes for objects of up to `max_object` bytes in pages of `page_size` bytes; both checked.
    pub(crate) fn new(page_size: usize, max_object: usize) -> Self {
        let raw = RULES.map(|rule| level(page_size, max_object, rule));
        let mut sizes: Vec<u32> = raw.iter().flatten().map(|(size, _)| *size as u32).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let number = |size: usize| sizes.partition_point(|class| (*class as usize) < size) as u16;
        let fit = |(size, shape): (usize, Shape)| Fit { class: number(size), shape };
        let mut starts = [0; LEVELS + 1];
        for (level, classes) in raw.iter().enumerate() {
            starts[level + 1] = starts[level] + classes.len() as u16;
        }
        let fits = raw.into_iter().flatten().map(fit).collect();
        let sizes = sizes.into_boxed_slice();
        let mut geometry = Self { page_size, sizes, fits, starts, small: Box::default() };
        let row = |len| std::array::from_fn(|level| geometry.search(len, level) as u16);
        geometry.small = (0..=SMALL / GRAIN).map(|grains| row(grains * GRAIN)).collect();
        geometry
    }

    /// Object size of each class, ascending.
    pub(crate) fn sizes(&self) -> &[u32] {
        &self.sizes
    }

    /// What the tables hold in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.sizes) + size_of_val(&*self.fits) + size_of_val(&*self.small)
    }

    /// The class for `len` bytes, from 1 to `max_object`, and its chain at `level`.
    #[inline]
    pub(crate) fn fit(&self, len: usize, level: usize) -> Fit {
        let at = match self.small.get(len.div_ceil(GRAIN)) {
            Some(row) => usize::from(row[level]),
            None => self.search(len, level),
        };
        self.fits[at]
    }

    /// Where in `fits` the smallest class of a level with room for `len` is, or the end of the
    /// level.
    #[cold]
    fn search(&self, len: usize, level: usize) -> usize {
        let start = usize::from(self.starts[level]);
        let fits = &self.fits[start..usize::from(self.starts[level + 1])];
        let less = |fit: &Fit| (self.sizes[usize::from(fit.class)] as usize) < len;
        start + fits.partition_point(less)
    }

    /// The group of `len` bytes: its class at the level whose classes are the groups.
    #[inline]
    pub(crate) fn group(&self, len: usize) -> u16 {
        self.fit(len, GROUPED).class
    }

    /// The level at which a group of `population` live objects grows, in a pool that is about full
    /// or not. There is no hysteresis: what a level decides is only what is built next.
    #[inline]
    pub(crate) fn level(population: usize, full: impl FnOnce() -> bool) -> usize {
        let level = |from: fn(&Rule) -> usize| {
            RULES.iter().rposition(|rule| population >= from(rule)).unwrap_or(0)
        };
        let usual = level(|rule| rule.from);
        // A full pool asks for no smaller populations.
        if population < RULES[usual].from_full && full() {
            return level(|rule| rule.from_full);
        }
        usual
    }

    /// Grains that `len` bytes take in a mixed zspage; `None`, if they are too long for one, or too
    /// short to have one made for them.
    pub(crate) fn mixed(len: usize) -> Option<u16> {
        let fits = len > MIXED_SHORT && len <= MIXED_MOST;
        fits.then(|| len.div_ceil(GRAIN).max(MIXED_UNIT) as u16)
    }

    /// The same where a mixed zspage has a gap: short objects take one too, as long as the
    /// `population` of their group would not fill a page.
    pub(crate) fn mixed_gap(len: usize, population: usize) -> Option<u16> {
        let few = population * MIXED_UNIT * GRAIN < SMALL;
        let short = (len <= MIXED_SHORT && few).then_some(MIXED_UNIT as u16);
        short.or(Self::mixed(len))
    }

    /// The longest chain of a mixed zspage, in pages, in a pool of that cap.
    pub(crate) fn mixed_pages(&self, cap: usize) -> u16 {
        let bytes = (cap / MIXED_SHARE).clamp(2 * MIXED_MOST, MIXED_CHAIN);
        (bytes / self.page_size).max(1) as u16
    }

    /// A mixed zspage of so many pages: it counts grains.
    pub(crate) fn mixed_shape(&self, pages: u16) -> Shape {
        Shape { pages, objects: pages * (self.page_size / GRAIN) as u16 }
    }

    /// The smallest class whose objects have room for `len` bytes.
    pub(crate) fn first_class(&self, len: usize) -> u16 {
        self.sizes.partition_point(|size| (*size as usize) < len) as u16
    }

    /// The shortest chain of a class.
    pub(crate) fn shortest(&self, class: u16) -> Shape {
        let size = self.sizes[usize::from(class)] as usize;
        cut(self.page_size, size.div_ceil(self.page_size), size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_SIZES: [usize; 5] = [4096, 8192, 16384, 32768, 65536];

    fn each(mut f: impl FnMut(&Geometry, usize, usize, usize, Fit)) {
        for page_size in PAGE_SIZES {
            for max_object in [1, 33, 4096, 5000, 64 << 10, MAX_OBJECT] {
                let geometry = Geometry::new(page_size, max_object);
                let lens = (1..=max_object.min(9000)).chain((9000..=max_object).step_by(97));
                for len in lens.chain([max_object]) {
                    for level in 0..LEVELS {
                        f(&geometry, page_size, len, level, geometry.fit(len, level));
                    }
                }
            }
        }
    }

    #[test]
    fn every_length_fits_its_class_and_every_class_its_zspage() {
        each(|geometry, page_size, len, level, fit| {
            let size = geometry.sizes()[usize::from(fit.class)] as usize;
            let (pages, objects) = (usize::from(fit.shape.pages), usize::from(fit.shape.objects));
            assert!(len <= size, "{len} bytes at level {level}: class {size}");
            assert!(size % GRAIN == 0 && pages <= LONGEST && objects >= 1);
            assert!(objects * size <= pages * page_size, "{objects} x {size} in {pages} pages");
            assert!(geometry.first_class(len) <= fit.class);
        });
    }

    #[test]
    fn what_a_length_costs_is_bounded() {
        each(|_, page_size, len, level, fit| {
            let cost = usize::from(fit.shape.pages) * page_size / usize::from(fit.shape.objects);
            // Rounding of at most 1/64 and a tail of at most 1/20, above a page; at the level of a
            // handful of objects, rounding of at most 1/8.
            if len > page_size.max(SMALL) {
                let rounding = if level < GROUPED { 1.0 / 8.0 } else { 1.0 / 64.0 };
                let bound = len as f64 * (1.0 + rounding) / (1.0 - TAIL) + 1.0;
                assert!(cost as f64 <= bound, "{len} bytes at level {level} cost {cost}");
            }
        });
    }

    #[test]
    fn a_class_is_one_shape_at_a_level_and_2048_bytes_fit_half_a_page() {
        each(|geometry, page_size, len, level, fit| {
            let size = geometry.sizes()[usize::from(fit.class)] as usize;
            assert_eq!(geometry.fit(size.min(len.max(1)), level), fit);
            if len == 2048 && page_size == 4096 && geometry.sizes().len() > 50 {
                assert_eq!(size, 2048);
            }
        });
    }

    #[test]
    fn finer_levels_cost_no_more_and_levels_rise_with_the_population() {
        let levels = |full| {
            [0, 3, 4, 63, 64, 319, 320, 4096, usize::MAX].map(|of| Geometry::level(of, || full))
        };
        assert_eq!(levels(false), [0, 0, 1, 1, 1, 1, 2, 3, 3]);
        assert_eq!(levels(true), [0, 0, 0, 0, 1, 1, 2, 3, 3]);
        let geometry = Geometry::new(4096, 64 << 10);
        let mean = |level: usize| -> f64 {
            let cost = |len: usize| {
                let Shape { pages, objects } = geometry.fit(len, level).shape;
                f64::from(pages) * 4096.0 / f64::from(objects) / len as f64
            };
            (512..=4096).map(cost).sum()
        };
        assert!(mean(1) < mean(0) && mean(2) < mean(1));
        assert!(geometry.sizes().len() < 1024, "a record has 10 bits for the class");
        assert!(Geometry::new(4096, MAX_OBJECT).sizes().len() < 1024);
    }
}
