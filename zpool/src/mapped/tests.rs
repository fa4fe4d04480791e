use super::*;
use crate::ledger::Ledger;

fn ledger() -> Ledger {
    Ledger::new(4096, 0, usize::MAX)
}

/// An element of 40 bytes: the fifth part of a page's row crosses into the next page.
struct Wide([AtomicU32; 10]);

// SAFETY: as its parts.
unsafe impl Blank for Wide {
    fn blank() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    fn wipe(&self) {}
}

#[test]
fn every_index_has_its_own_place() {
    let mut expected = 0;
    for block in 0..20 {
        let (first, count) = extent(block);
        assert_eq!(first, expected);
        assert_eq!((block_of(first as u32), block_of((first + count - 1) as u32)), (block, block));
        expected += count;
    }
    assert_eq!(extent(BLOCKS - 1).0 + extent(BLOCKS - 1).1, 1 << 32);
    assert_eq!(block_of(u32::MAX), BLOCKS - 1);
}

#[test]
fn elements_stay_where_they_are_and_keep_their_values() {
    let (ledger, array) = (ledger(), Sparse::<Wide>::new());
    let mut known: Vec<*const Wide> = Vec::new();
    let mut end = 0;
    while end < 20_000 {
        let next = array.next_end(end);
        assert!(next > end);
        let pages = array.pages_below(end)..array.pages_below(end + 1);
        array.open(pages, next, &ledger).unwrap();
        for index in end..next {
            let element = array.get(index as u32).unwrap();
            assert_eq!(element.0[9].load(Ordering::Relaxed), 0);
            element.0.iter().for_each(|part| part.store(index as u32, Ordering::Relaxed));
            known.push(element);
        }
        end = next;
        array.check(0..array.pages_below(end));
    }
    for (index, at) in known.iter().enumerate() {
        let element = array.get(index as u32).unwrap();
        assert!(ptr::eq(element, *at));
        assert!(element.0.iter().all(|part| part.load(Ordering::Relaxed) == index as u32));
    }
    assert!([20_500, 1 << 20, u32::MAX].iter().all(|index| array.get(*index).is_none()));
    let bytes = end * size_of::<Wide>();
    assert!((bytes..bytes + bytes / 50).contains(&ledger.held()), "{} of {bytes}", ledger.held());
}

#[test]
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn pages_that_nobody_holds_go_and_read_as_blank() {
    let (ledger, array) = (ledger(), Sparse::<AtomicU32>::new());
    let each = page_bytes() / 4;
    let end = 6 * each;
    array.open(0..6, end, &ledger).unwrap();
    array.open(2..4, end, &ledger).unwrap();
    (0..end).for_each(|index| array.get(index as u32).unwrap().store(7, Ordering::Relaxed));
    let value = |page: usize| array.get((page * each) as u32).unwrap().load(Ordering::Relaxed);
    let full = ledger.held();
    array.close(1..6, &ledger);
    array.check(2..4);
    // Before a look maps the system's page of zeros there.
    assert!(resident(&array, 2) && !resident(&array, 4) && !resident(&array, 5));
    // Page 0 is of the heap's blocks, and pages 2 and 3 are held once more.
    assert!((0..6).map(value).eq([7, 0, 7, 7, 0, 0]));
    assert_eq!(full - ledger.held(), 3 * page_bytes());
    array.close(2..4, &ledger);
    assert_eq!((value(2), array.mapped()), (0, 0));
    array.open(4..5, end, &ledger).unwrap();
    assert_eq!((value(4), array.mapped()), (0, page_bytes()));
    array.check(4..5);
}

/// Whether the system has memory for a page of the array.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn resident(array: &Sparse<AtomicU32>, page: usize) -> bool {
    let element = ptr::from_ref(array.get((page * page_bytes() / 4) as u32).unwrap());
    let mut answer = 0_u8;
    let start = element.cast_mut().cast();
    // SAFETY: asks about one page of the array's and writes one byte of ours.
    let asked = unsafe { libc::mincore(start, page_bytes(), (&raw mut answer).cast()) };
    assert_eq!(asked, 0);
    answer & 1 == 1
}

/// A process has some 65,000 mappings.
#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_small_array_takes_few_mappings() {
    let ledger = ledger();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let open = |_| {
        let array = Sparse::<AtomicU32>::new();
        let end = 8 * array.each_page();
        array.open(0..8, end, &ledger).unwrap();
        array
    };
    let before = maps();
    let arrays: Vec<_> = (0..200).map(open).collect();
    assert!(maps() < before + 3 * arrays.len(), "{} and {}", before, maps());
}

#[test]
fn what_no_cap_has_room_for_is_not_opened() {
    let ledger = Ledger::new(4096, 0, 3 * page_bytes());
    let array = Sparse::<AtomicU32>::new();
    let each = page_bytes() / 4;
    array.open(0..1, each, &ledger).unwrap();
    let before = ledger.held();
    assert_eq!(array.open(1..4, 4 * each, &ledger), Err(AllocError::OutOfPages));
    assert_eq!(array.mapped(), 0, "nothing is half open");
    array.check(0..1);
    assert!(ledger.held() < before + 100);
    array.open(1..2, 2 * each, &ledger).unwrap();
    assert_eq!(array.mapped(), page_bytes());
}

/// Opens page after page of an array, up to `pages`, and says at which pages 2 MiB were charged.
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn open_all(array: &Sparse<AtomicU32>, pages: usize, ledger: &Ledger) -> Vec<usize> {
    let mut huge = Vec::new();
    for page in 0..pages {
        let before = array.mapped();
        array.open(page..page + 1, (page + 1) * array.each_page(), ledger).unwrap();
        if array.mapped() - before == HUGE_PAGE {
            huge.push(page);
        }
        (page * array.each_page()..(page + 1) * array.each_page())
            .for_each(|index| array.get(index as u32).unwrap().store(7, Ordering::Relaxed));
    }
    array.check(0..pages);
    huge
}

#[test]
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn a_long_array_is_on_huge_pages_that_are_charged_whole() {
    let (ledger, array) = (ledger().with_huge_tables(true), Sparse::<AtomicU32>::new());
    if page_bytes() != 4096 {
        return;
    }
    let huge = open_all(&array, 1100, &ledger);
    if huge.is_empty() {
        return; // the system has none
    }
    // The first 2 MiB are in several blocks.
    assert_eq!((huge, array.mapped()), (vec![512, 1024], 511 * 4096 + 2 * HUGE_PAGE));
    let value = |page: usize| array.get((page * 1024) as u32).unwrap().load(Ordering::Relaxed);
    assert!((0..1100).all(|page| value(page) == 7));
    // Pages that nobody holds are kept, and go with the last one.
    array.close(600..1024, &ledger);
    array.check((0..600).chain(1024..1100));
    assert_eq!(array.mapped(), 511 * 4096 + 2 * HUGE_PAGE);
    array.open(700..701, 1024, &ledger).unwrap();
    array.close(700..701, &ledger);
    array.close(512..600, &ledger);
    array.check((0..512).chain(1024..1100));
    assert_eq!((array.mapped(), value(600)), (511 * 4096 + HUGE_PAGE, 0));
    // What is kept of the other one goes when it is asked for, and nobody's bytes change.
    array.trim(&ledger);
    array.check((0..512).chain(1024..1100));
    assert_eq!(array.mapped(), (511 + 76) * 4096);
    assert!(!resident(&array, 1100) && resident(&array, 1099));
    assert!((1024..1100).all(|page| value(page) == 7));
    array.close(0..512, &ledger);
    array.close(1024..1100, &ledger);
    assert_eq!(array.mapped(), 0);
    // And once more.
    array.open(512..513, 1024, &ledger).unwrap();
    array.check(512..513);
    assert_eq!((array.mapped(), value(512), value(513)), (HUGE_PAGE, 0, 0));
}

#[test]
#[cfg(all(any(target_os = "linux", target_os = "android"), not(miri)))]
fn an_array_has_huge_pages_where_there_is_room_and_they_are_wanted() {
    let cap = Ledger::new(4096, 0, 4 << 20).with_huge_tables(true);
    for ledger in [ledger(), cap] {
        let array = Sparse::<AtomicU32>::new();
        assert_eq!(open_all(&array, 900, &ledger), []);
        assert_eq!(array.mapped(), 899 * 4096);
    }
}

#[test]
#[cfg(all(target_os = "linux", not(miri)))]
fn a_block_on_huge_pages_is_two_mappings() {
    let (ledger, array) = (ledger().with_huge_tables(true), Sparse::<AtomicU32>::new());
    open_all(&array, 5000, &ledger);
    let block = block_of(4096 * 1024);
    let start = ptr::from_ref(array.get(extent(block).0 as u32).unwrap()).addr();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let starts = maps.lines().map(|line| line.split('-').next().unwrap());
    let starts = starts.map(|start| usize::from_str_radix(start, 16).unwrap());
    let inside = |at: &usize| (start + 1..start + extent(block).1 * 4).contains(at);
    assert_eq!(starts.filter(inside).count(), 1, "a border: up to where it is open");
}
