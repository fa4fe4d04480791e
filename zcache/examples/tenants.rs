//! Several tenants in one cache: each has its pages counted, one has a limit, and one is dropped at
//! once.
//!
//! ```sh
//! cargo run --release -p zcache --example tenants
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;

use zcache::{Cache, Config};

/// The page of a tenant's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Page {
    tenant: u32,
    number: u32,
}

const PAGE: usize = 4096;

/// A page of text.
fn read(page: Page) -> Vec<u8> {
    let line = format!("row {} of tenant {}; ", page.number, page.tenant);
    let mut rng = fastrand::Rng::with_seed(u64::from(page.number));
    let mut bytes: Vec<u8> = line.bytes().cycle().take(PAGE).collect();
    bytes[..1200].iter_mut().for_each(|byte| *byte = rng.alphanumeric() as u8);
    bytes
}

/// Asks for one page, and says whether it was there.
fn ask(cache: &Cache<Page>, page: Page) -> Result<bool, Box<dyn Error>> {
    let there = cache.contains_key(&page);
    let load = |to: &mut Vec<u8>| {
        to.extend(read(page));
        Ok::<(), std::io::Error>(())
    };
    cache.get_or_insert_with(&page, load)?;
    Ok(there)
}

/// The hit ratio of tenant 1, who reads 500 pages again and again, beside tenant 2, who reads
/// 20,000 pages once each.
fn shared(limit: Option<u64>) -> Result<(f64, Cache<Page>), Box<dyn Error>> {
    let cache = Cache::new(Config::new(2 << 20).max_page(PAGE))?;
    let cache = cache.with_scopes(|page: &Page| page.tenant)?;
    cache.scope(2).set_limit(limit)?;
    let (mut rng, mut hits) = (fastrand::Rng::with_seed(1), 0);
    for number in 0..20_000 {
        ask(&cache, Page { tenant: 2, number })?;
        let number = rng.u32(..500);
        hits += u32::from(ask(&cache, Page { tenant: 1, number })?);
    }
    Ok((f64::from(hits) / 20_000.0, cache))
}

fn main() -> Result<(), Box<dyn Error>> {
    let (without, _) = shared(None)?;
    let (with, cache) = shared(Some(256 << 10))?;
    println!(
        "tenant 1 hits {:.1} % beside a tenant who scans, {:.1} % where that one has a limit",
        100.0 * without,
        100.0 * with
    );
    assert!(with >= without, "a limit takes nothing from others");

    let scan = cache.scope(2).stats();
    println!("tenant 2 has {} pages in {} KiB of its 256", scan.entries, scan.bytes >> 10);
    assert!(scan.bytes <= 256 << 10 && scan.evicted > 0);

    // Tenant 1 leaves. This takes microseconds, however many pages there are.
    let pages = cache.scope(1).len();
    cache.scope(1).clear();
    println!("{pages} pages of tenant 1 are gone, and their memory is used first");
    assert!(!cache.contains_key(&Page { tenant: 1, number: 1 }));
    assert_eq!((cache.scope(1).len(), cache.stats().ended), (0, pages));
    for number in 0..2000 {
        ask(&cache, Page { tenant: 3, number })?;
    }
    assert_eq!(cache.stats().ended, 0, "it has been used");
    Ok(())
}
