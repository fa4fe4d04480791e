//! A cache's figures for Prometheus, by way of the `metrics` facade and its exporter.
//!
//! A server lets the exporter open its port (`PrometheusBuilder::install`), and calls
//! `Stats::publish` now and then, or when it is scraped. Here the text that would be scraped is
//! printed.
//!
//! ```sh
//! cargo run --release -p zcache --example metrics --features metrics
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::error::Error;

use metrics_exporter_prometheus::PrometheusBuilder;
use zcache::{Cache, Config};

/// The value of a figure of the cache `pages` in the exposition.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('{'))?;
    let (labels, value) = line.split_once("} ")?;
    assert_eq!(labels, r#"cache="pages""#);
    value.parse().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let cache = Cache::new(Config::new(4 << 20))?;
    for page in 0_u64..100 {
        cache.insert(page, format!("page {page} ").repeat(500).as_bytes())?;
    }
    let found = (0..120).filter(|page| cache.get(page).is_some()).count();
    assert_eq!(found, 100);

    // `install_recorder` makes it the recorder of the whole process.
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || cache.stats().publish("zcache", "pages"));
    let text = handle.render();

    let shown = ["zcache_hits_total", "zcache_misses_total", "zcache_entries", "zcache_held_bytes"];
    let is_shown = |line: &&str| shown.contains(&line.split('{').next().unwrap_or_default());
    text.lines().filter(is_shown).for_each(|line| println!("{line}"));
    assert_eq!(value(&text, "zcache_hits_total"), Some(100.0));
    assert_eq!(value(&text, "zcache_misses_total"), Some(20.0));
    assert_eq!(value(&text, "zcache_entries"), Some(100.0));
    assert_eq!(value(&text, "zcache_held_bytes"), Some(cache.held_bytes() as f64));

    // Counters are absolute: publishing again, as each scrape does, adds nothing twice.
    assert!(cache.get(&0).is_some());
    metrics::with_local_recorder(&recorder, || cache.stats().publish("zcache", "pages"));
    assert_eq!(value(&handle.render(), "zcache_hits_total"), Some(101.0));
    Ok(())
}
