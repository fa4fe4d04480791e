//! `versus` as a user calls it: every cache gives a row that can be true, and what is wrong is one
//! line.
#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use serde_json::Value;

fn versus(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_versus"));
    command.args(arguments.split_whitespace()).output().expect("versus starts")
}

fn rows(arguments: &str) -> Vec<Value> {
    let output = versus(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    let text = String::from_utf8(output.stdout).expect("JSON");
    text.lines().map(|line| serde_json::from_str(line).expect("a row a line")).collect()
}

fn number(row: &Value, name: &str) -> f64 {
    row[name].as_f64().unwrap_or_else(|| panic!("{name} of {row}"))
}

/// What holds for every run of a cache that evicts.
fn check(row: &Value, requests: f64) {
    assert_eq!(row["kind"], "run");
    assert_eq!(number(row, "requests"), requests);
    let (hits, ratio) = (number(row, "hits"), number(row, "hit_ratio"));
    assert!(hits > 0.0 && hits < requests && (ratio - hits / requests).abs() < 1e-9, "{row}");
    // All hits were compared.
    assert_eq!(number(row, "verified"), hits);
    let (resident, held) = (number(row, "resident_bytes"), number(row, "pages_held"));
    assert!((number(row, "pages_per_mib") - held / resident * 1048576.0).abs() < 1e-3);
}

const TINY: &str = "--trace zipf:0.9 --requests 6000 --distinct 6000 --verify";

#[test]
fn every_configuration_of_zcache_gives_a_row() {
    let specs = "zcache,zcache/zstd:3/sieve,zcache/zstd:3+dict/lru,zcache/none";
    let rows = rows(&format!("{TINY} --budget 1536KiB --cache {specs}"));
    assert_eq!(rows.len(), 4);
    for (row, (codec, policy)) in rows.iter().zip([
        ("lz4", "s3fifo"),
        ("zstd:3", "sieve"),
        ("zstd:3+dict", "lru"),
        ("none", "s3fifo"),
    ]) {
        assert_eq!((&row["codec"], &row["policy"]), (&codec.into(), &policy.into()));
        assert_eq!(row["budget_bytes"], 3 << 19);
        check(row, 6_000.0);
        let resident = number(row, "resident_bytes");
        assert!(resident <= f64::from(5 << 19), "{row}");
    }
    // What compresses better holds more, and what does not compress the least.
    let held: Vec<f64> = rows.iter().map(|row| number(row, "pages_held")).collect();
    assert!(held[1] > held[0] && held[0] > held[3], "{held:?}");
}

#[cfg(feature = "peers")]
#[test]
fn every_peer_gets_the_memory_that_zcache_took() {
    let peers = "moka,quick_cache,foyer-s3fifo,foyer-lru/lz4_flex";
    let rows = rows(&format!("{TINY} --budget 1536KiB --cache zcache,{peers}"));
    assert_eq!(rows.len(), 5);
    rows.iter().for_each(|row| check(row, 6_000.0));
    let took = number(&rows[0], "resident_bytes");
    for row in &rows[1..] {
        let off = number(row, "resident_bytes") / took - 1.0;
        // Within 1 % where it can be had; a few pages of so small a budget are more.
        assert!(off.abs() < 0.06, "{row}");
        assert!(number(row, "configured_bytes") < took, "a heap takes more than it is told: {row}");
    }
}

#[cfg(feature = "peers")]
#[test]
fn plain_values_are_told_from_compressed_ones() {
    let rows = rows(&format!("{TINY} --budget 1536KiB --configured --cache moka/none,moka"));
    let values: Vec<&str> = rows.iter().filter_map(|row| row["values"].as_str()).collect();
    assert_eq!(values, ["plain", "compressed"]);
    rows.iter().for_each(|row| assert_eq!(row["configured_bytes"], 3 << 19));
    assert!(number(&rows[1], "pages_held") > 2.0 * number(&rows[0], "pages_held"));
}

/// Names of the caches that stand beside each other, and the bare codec's.
fn rivals() -> Vec<&'static str> {
    let mut names = vec!["bare lz4", "zcache"];
    if cfg!(feature = "peers") {
        names.extend(["moka", "quick_cache", "foyer-s3fifo", "foyer-lru"]);
    }
    names
}

/// A ratio to quick_cache's figure; both figures are rounded, and the ratio too.
fn check_ratio(ratio: &Value, ours: f64, theirs: Option<f64>) {
    let Some(theirs) = theirs else { return assert!(ratio.is_null(), "{ratio}, beside none") };
    let ratio = ratio.as_f64().expect("a ratio");
    let (least, most) = ((ours - 0.05) / (theirs + 0.05), (ours + 0.05) / (theirs - 0.05));
    assert!((least - 1e-3..most + 1e-3).contains(&ratio), "{ratio}: {ours} by {theirs}");
}

fn yardstick(rows: &[Value]) -> Option<&Value> {
    rows.iter().find(|row| row["cache"] == "quick_cache")
}

#[test]
fn what_operations_cost_is_told_for_each_cache_beside_the_bare_codec() {
    let sizes = "--keys 40,200 --capacity 1MiB --threads 1,2 --windows 2 --ops 30";
    let rows = rows(&format!("cost {sizes} --json"));
    let names = rivals();
    // Two populations of hits and of misses, and one capacity of inserts.
    assert_eq!(rows.len(), (2 * 2 + 1) * 2 * names.len());
    for rows in rows.chunks(names.len()) {
        assert_eq!(rows.iter().map(|row| &row["cache"]).collect::<Vec<_>>(), names);
        for row in rows {
            assert!(
                ["what", "keys", "capacity_bytes", "threads"]
                    .iter()
                    .all(|of| row[of] == rows[0][of])
            );
            assert_eq!((&row["kind"], &row["page_bytes"]), (&"cost".into(), &4096.into()));
            assert_eq!(number(row, "windows"), 2.0 * number(row, "threads"));
            let [p10, p50] = ["cpu_p10_ns", "cpu_p50_ns"].map(|name| number(row, name));
            assert!(p10 > 1.0 && p10 <= p50 && number(row, "clock_p10_ns") > 1.0, "{row}");
            let theirs = |name| yardstick(rows).map(|theirs| number(theirs, name));
            check_ratio(&row["p10_ratio"], p10, theirs("cpu_p10_ns"));
            check_ratio(&row["p50_ratio"], p50, theirs("cpu_p50_ns"));
            match row["what"].as_str() {
                Some("insert") => {
                    assert_eq!(
                        (&row["keys"], number(row, "capacity_bytes")),
                        (&Value::Null, 1048576.0)
                    );
                    let (held, ours) = (number(row, "held"), number(&rows[1], "held"));
                    assert!(held > 100.0 && (held / ours - 1.0).abs() < 0.1, "{row}");
                }
                _ => assert_eq!(row["held"], row["keys"], "{row}"),
            }
        }
    }
    let output = versus("cost --what hit --keys 40 --threads 1 --windows 1 --ops 10");
    let table = String::from_utf8(output.stdout).expect("a table");
    assert!(output.status.success() && table.contains("\n| hit | 40 keys | 1 | CPU | "), "{table}");
}

#[test]
fn the_tails_of_hits_and_inserts_are_told_for_each_cache() {
    let sizes = "--capacity 1MiB --threads 1,3 --windows 3 --window-ms 50";
    let rows = rows(&format!("tails {sizes} --json"));
    let names = rivals();
    // Hits, and inserts.
    assert_eq!(rows.len(), 2 * 2 * names.len());
    for (at, rows) in rows.chunks(names.len()).enumerate() {
        assert_eq!(rows.iter().map(|row| &row["cache"]).collect::<Vec<_>>(), names);
        for row in rows {
            let (what, threads) = (["hit", "insert"][at % 2], [1, 3][at / 2]);
            assert_eq!((&row["kind"], &row["what"]), (&"tails".into(), &what.into()), "{row}");
            assert_eq!(row["threads"], threads);
            assert!(number(row, "count") > 10.0 && number(row, "held") > 100.0, "{row}");
            for clock in ["clock", "cpu"] {
                let figures = |row: &Value, name| number(&row[format!("{clock}_ns")], name);
                let told = ["p50", "p99", "p999", "max"].map(|name| figures(row, name));
                assert!(told[0] > 1.0 && told.is_sorted(), "{row}");
                // Some window's, so between those of all.
                let window = figures(row, "window_p99");
                assert!((1.0..=told[3]).contains(&window), "{row}");
                for name in ["p50", "p99", "p999", "max", "window_p99"] {
                    let theirs = yardstick(rows).map(|theirs| figures(theirs, name));
                    check_ratio(&row[format!("{clock}_ratio")][name], figures(row, name), theirs);
                }
            }
        }
    }
    let output = versus("tails --capacity 1MiB --threads 1 --windows 1 --window-ms 5");
    let table = String::from_utf8(output.stdout).expect("a table");
    assert!(
        output.status.success() && table.contains("\n| insert | 1 MiB | 1 | cpu | "),
        "{table}"
    );
}

#[test]
fn what_is_wrong_is_one_line_and_exit_code_2() {
    for arguments in [
        "--trace no-such-trace",
        "--trace zipf:x",
        "--trace scan --cache mokka",
        "--trace scan --pages no-such-pages",
        "--trace scan --percent 0",
        "--trace scan --requests 0",
        "--trace scan --budget 1",
        "--frob",
        "cost --frob",
        "cost --keys 0",
        "cost --threads 65",
        "cost --what hits",
        "cost --windows 0",
        "cost --ops 0",
        "shares --share 1/0",
        "shares --memory 0%",
        "shares --miss 5",
        "shares --codec lz4_flex",
        "suite --allocators tcmalloc",
        "child zcache",
        "cost --cache zcache/none",
        "cost --capacity 1MiB,x",
        "cost --pages no-such-pages",
        "tails --keys 300",
        "tails --window-ms 0",
        "tails --threads 0",
        // zcache refuses it, and says so.
        "cost --what insert --capacity 1KiB",
    ] {
        let output = versus(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{arguments}: {errors}");
    }
}

#[test]
fn help_lists_the_pairs() {
    let output = versus("--help");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success());
    assert!(text.contains("cloudphysics-io-4k") && text.contains("-> mem-redis-4k"), "{text}");
}

#[test]
fn a_suite_leaves_its_rows_and_a_table() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display();
    let what = "--traces zipf:0.9 --percents 50,70 --requests 6000 --untimed --allocators system";
    let output = versus(&format!("suite {what} --out {out}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name| std::fs::read_to_string(dir.path().join(name)).expect("a result");
    let suite: Value = serde_json::from_str(&read("suite.json")).expect("JSON");
    let caches = if cfg!(feature = "peers") { 6 } else { 2 };
    let rows = suite["rows"].as_array().expect("rows");
    assert_eq!((suite["kind"].as_str(), rows.len()), (Some("suite"), 2 * caches));
    assert!(rows.iter().all(|row| number(row, "hit_ratio") > 0.0));
    assert!(["cost", "tails"].iter().all(|list| suite[list].as_array().is_some_and(Vec::is_empty)));
    let page = read("suite.md");
    assert!(page.contains("\n| zipf:0.9 | 50 % = "), "{page}");
    assert!(!cfg!(feature = "peers") || page.contains("\nOf 2 rows of hit ratios"), "{page}");
}

#[test]
fn a_suite_with_times_has_what_operations_cost_and_their_tails() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().display();
    let what = "--traces zipf:0.9 --percents 10 --requests 3000 --allocators system";
    let output = versus(&format!("suite {what} --out {out}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name| std::fs::read_to_string(dir.path().join(name)).expect("a result");
    let suite: Value = serde_json::from_str(&read("suite.json")).expect("JSON");
    let caches: Vec<&str> = rivals();
    for (list, settings) in [("cost", 2 * (2 * 2 + 2)), ("tails", 2 * 2 * 2)] {
        let rows = suite[list].as_array().expect("rows");
        assert_eq!(rows.len(), settings * caches.len(), "{list}");
        assert!(rows.iter().all(|row| row["kind"] == list), "{list}");
    }
    let page = read("suite.md");
    let head = |first: &str| format!("\n| {first} | {} | ", caches.join(" | "));
    assert_eq!(page.matches(&head(" |  | threads | by")).count(), 2, "{page}");
    assert_eq!(page.matches("\n| insert | 2 MiB | ").count(), 2 + 2 * 2, "{page}");
}

#[test]
fn shares_stand_beside_each_other_in_a_table_and_in_a_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("shares.csv");
    let what = "shares --quick --share none,1/8 --miss 5us,1ms --memory 50%";
    let output = versus(&format!("{what} --csv {}", file.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = String::from_utf8(output.stdout).expect("tables");
    assert_eq!(tables.matches("a miss costs 1000 us").count(), 2, "{tables}");
    let csv = std::fs::read_to_string(file).expect("rows");
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    // Two codecs, two costs, two shares, under a head.
    assert_eq!(lines.len(), 1 + 8);
    let column = |name: &str| lines[0].iter().position(|head| *head == name).expect("a column");
    for line in &lines[1..] {
        let number = |name: &str| line[column(name)].parse::<f64>().expect("a number");
        assert!(number("hit_ratio") > 0.0 && number("hit_ns") > 1.0, "{csv}");
        assert_eq!(number("hot_hit_ratio") > 0.0, line[column("share")] == "1/8", "{csv}");
        assert!(number("to_best_fixed") >= 1.0 && number("effective_us") > 0.0, "{csv}");
    }
}
