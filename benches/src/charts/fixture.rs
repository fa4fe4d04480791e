//! Rows made up for tests of pictures: as many as a full suite has, or fewer.

use std::fmt::Write as _;

use crate::charts::suite::Suite;

/// A suite of `traces` traces, at three budgets each, of seven series.
pub(super) fn suite(traces: usize) -> Suite {
    let sets = [
        ("mem-redis-4k", 4096),
        ("pg-pgbench-8k", 8192),
        ("innodb-debpkgs-16k", 16384),
        ("file-json-4k", 4096),
        ("file-text-novels-4k", 4096),
        ("pg-gitlog-8k", 8192),
        ("mem-node-4k", 4096),
        ("sqlite-wordnet-4k", 4096),
    ];
    let caches = [
        ("moka", "lz4", 0.7),
        ("zcache", "lz4", 1.0),
        ("quick_cache", "lz4", 0.74),
        ("foyer-s3fifo", "lz4", 0.55),
        ("zcache", "zstd:3+dict", 1.4),
        ("foyer-lru", "lz4", 0.57),
        ("moka", "none", 0.33),
    ];
    let mut rows = Vec::new();
    for trace in 0..traces {
        let (pages, bytes) = sets[trace % sets.len()];
        for percent in [5, 10, 25] {
            for (cache, codec, share) in caches {
                let misses = 0.9 - 0.01 * f64::from(percent) * share;
                let hit = if codec == "none" { 150.0 } else { 700.0 * share };
                let decode =
                    if codec == "none" { "null".into() } else { (600.0 * share).to_string() };
                let rate = |cost: f64| 1e9 / (hit + misses * (1000.0 + 1000.0 * cost));
                let mut effective = String::new();
                for cost in [0, 20, 100, 1000] {
                    let comma = if cost == 0 { "" } else { "," };
                    let rate = rate(f64::from(cost));
                    let _ =
                        write!(effective, r#"{comma}{{"miss_us":{cost},"ops_per_second":{rate}}}"#);
                }
                let held = 1100.0 * share * 2048.0 / f64::from(bytes);
                let values = if codec == "none" { "plain" } else { "compressed" };
                rows.push(format!(
                    r#"{{"trace":"trace-{trace}-of-a-long-name","pages":"{pages}","page_bytes":{bytes},
                    "percent":{percent},"cache":"{cache}","codec":"{codec}","values":"{values}",
                    "pages_per_mib":{held},"hit_ratio":{},"hit_ns":{hit},"decode_ns":{decode},
                    "effective":[{effective}],"phases":null}}"#,
                    1.0 - misses
                ));
            }
        }
    }
    let density = r#"{"pages":"mem-redis-4k","objects":2000,"zcache":0.93,"kernel":0.9},
        {"pages":"mem-redis-4k","objects":200000,"zcache":0.97,"kernel":null}"#;
    let scaling = r#"{"cache":"zcache","threads":1,"hits_per_second":1200000},
        {"cache":"zcache","threads":8,"hits_per_second":2100000},
        {"cache":"moka","threads":8,"hits_per_second":1900000}"#;
    let text = format!(
        r#"{{"kind":"suite","date":"2026-01-01","machine":{{"cpu":"a <fast> & quiet one","cores":2,
        "kernel":"6.1"}},"versions":{{"moka":"0.12","zcache":"0.1"}},"full":true,"rows":[{}],
        "density":[{density}],"scaling":[{scaling}]}}"#,
        rows.join(",")
    );
    Suite::parse(&text).expect("a suite")
}
