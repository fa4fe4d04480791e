//! Statistics as others read them: written and read back, published, compared, and as a table.
#![cfg(not(zcache_loom))]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString,
    Unit,
};
use serde_json::{Value, json};
use tests::callbacks::page;
use zcache::{Cache, Config, Ratios, Stats};

/// A cache with something of most figures.
fn used() -> Cache<u64> {
    let config = Config::new(4 << 20).max_page(8192).auto_codec();
    let cache: Cache<u64> = Cache::new(config).unwrap().weigh_keys(|_| 8);
    for key in 0..3000 {
        cache.insert(key, &page(key, 2000 + key as usize % 2000)).unwrap();
        let _ = (cache.get(&key), cache.get(&key), cache.get(&(key + 5000)));
    }
    cache.insert(1, &[0; 4096]).unwrap();
    assert!(cache.insert(2, &[0; 9000]).is_err());
    cache
}

/// The numbers in `value`, by their paths.
fn numbers(value: &Value, path: &str, to: &mut BTreeMap<String, f64>) {
    let under = |name: &dyn std::fmt::Display| match path {
        "" => name.to_string(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Number(number) => {
            assert!(to.insert(path.into(), number.as_f64().unwrap()).is_none())
        }
        Value::Object(fields) => fields.iter().for_each(|(name, v)| numbers(v, &under(name), to)),
        Value::Array(all) => all.iter().enumerate().for_each(|(at, v)| numbers(v, &under(&at), to)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn all_numbers(stats: &Stats) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    numbers(&serde_json::to_value(stats).unwrap(), "", &mut all);
    all
}

/// Puts a number of its own into each place for one: the n-th is `step` times n.
fn number_all(value: &mut Value, step: u64, next: &mut u64) {
    match value {
        Value::Number(_) => {
            *next += 1;
            *value = json!(*next * step);
        }
        Value::Object(fields) => fields.values_mut().for_each(|v| number_all(v, step, next)),
        Value::Array(all) => all.iter_mut().for_each(|v| number_all(v, step, next)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Statistics in which each figure is there, and no two are the same.
fn made(step: u64) -> Stats {
    let mut value = serde_json::to_value(used().stats()).unwrap();
    let fields = value.as_object_mut().unwrap();
    assert!(fields["balance"].is_object(), "a hot share that is found");
    let candidates = fields["candidates"].as_array_mut().unwrap();
    candidates.truncate(2);
    candidates.iter_mut().for_each(|one| one["request_nanoseconds"] = json!(0));
    fields["ratios"]["compression"] = json!(0);
    fields["stored_sizes"] = json!([{ "up_to_bytes": 0, "objects": 0 }]);
    number_all(&mut value, step, &mut 0);
    value["stored_sizes"][0]["up_to_bytes"] = json!(1024);
    serde_json::from_value(value).unwrap()
}

/// What others read of `stats`. Their ratios may differ in the last bit: serde_json reads so.
fn read_back(stats: &Stats) -> Stats {
    let text = serde_json::to_string(stats).unwrap();
    let mut read: Stats = serde_json::from_str(&text).unwrap();
    let all = |of: Ratios| [of.hit, of.effective, of.compression.unwrap_or(-1.0)];
    let pairs = all(read.ratios).into_iter().zip(all(stats.ratios));
    pairs.for_each(|(read, written)| assert!((read - written).abs() < 1e-9, "{text}"));
    read.ratios = stats.ratios;
    read
}

#[test]
fn statistics_are_read_back_as_they_were_written() {
    for stats in [used().stats(), Stats::default(), made(3)] {
        assert_eq!(read_back(&stats), stats);
    }
    let cache: Cache<(u8, u8)> = Cache::new(Config::new(1 << 20)).unwrap();
    let cache = cache.with_scopes(|key| key.0.into()).unwrap();
    cache.insert((1, 2), b"page").unwrap();
    let scope = cache.scope(1).stats();
    let text = serde_json::to_string(&scope).unwrap();
    assert_eq!(serde_json::from_str::<zcache::ScopeStats>(&text).unwrap(), scope);
    // All pages same-filled: there is no ratio, and the rest can be read all the same.
    let filled: Cache<u64> = Cache::new(Config::new(1 << 20)).unwrap();
    filled.insert(1, &[0; 4096]).unwrap();
    let stats = filled.stats();
    assert_eq!((stats.ratios.compression, stats.bytes.payload), (None, 0));
    assert_eq!(read_back(&stats), stats);
}

#[test]
fn times_sizes_and_ratios_have_names_and_are_numbers() {
    let stats = used().stats();
    let value = serde_json::to_value(&stats).unwrap();
    let total = u64::try_from(stats.decode.total.as_nanos()).unwrap();
    assert!(total > 0 && value["decode"]["total_nanoseconds"] == json!(total), "{value}");
    let balance = stats.balance.unwrap();
    for (name, time) in [
        ("decode_nanoseconds", balance.decode),
        ("miss_nanoseconds", balance.miss),
        ("frame_worth_nanoseconds", balance.frame_worth),
        ("entry_worth_nanoseconds", balance.entry_worth),
    ] {
        assert_eq!(value["balance"][name], json!(time.as_nanos() as u64), "{name}");
    }
    assert!(value["candidates"][0]["encode_nanoseconds"].is_u64(), "{value}");
    let size = stats.stored_sizes[0];
    let written = json!({ "up_to_bytes": size.up_to_bytes, "objects": size.objects });
    assert_eq!(value["stored_sizes"][0], written);
    assert_eq!(value["ratios"]["hit"], json!(stats.hit_ratio()));
    assert_eq!(stats.ratios.compression, Some(stats.compression_ratio()));
    assert_eq!(stats.ratios.effective, stats.effective_ratio());
    assert!((0.5..0.7).contains(&stats.ratios.hit) && stats.ratios.effective > 1.0);
}

/// What is published under a name and labels, with what is said of the name.
#[derive(Default)]
struct Board {
    values: Arc<Mutex<BTreeMap<String, f64>>>,
    described: Mutex<BTreeMap<String, (Option<Unit>, String)>>,
}

struct Place(String, Arc<Mutex<BTreeMap<String, f64>>>);

impl Place {
    fn put(&self, value: f64) {
        let old = self.1.lock().unwrap().insert(self.0.clone(), value);
        assert_eq!(old, None, "{} is published once", self.0);
    }
}

impl CounterFn for Place {
    fn increment(&self, _: u64) {
        panic!("counts are absolute");
    }
    fn absolute(&self, value: u64) {
        assert!(self.0.split('{').next().unwrap().ends_with("_total"), "{}", self.0);
        self.put(value as f64);
    }
}

impl GaugeFn for Place {
    fn increment(&self, _: f64) {
        panic!("gauges are set");
    }
    fn decrement(&self, _: f64) {
        panic!("gauges are set");
    }
    fn set(&self, value: f64) {
        assert!(!self.0.contains("_total"), "{}", self.0);
        self.put(value);
    }
}

impl Board {
    fn place(&self, key: &Key) -> Arc<Place> {
        let labels: Vec<String> =
            key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
        Arc::new(Place(format!("{}{{{}}}", key.name(), labels.join(",")), self.values.clone()))
    }
    fn describe(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        let told = (unit, text.to_string());
        let old = self.described.lock().unwrap().insert(name.as_str().into(), told.clone());
        assert!(old.is_none_or(|old| old == told), "{name:?}");
    }
}

impl Recorder for Board {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }
    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(name, unit, text);
    }
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("there is none");
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.place(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.place(key))
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("there is none");
    }
}

#[test]
fn every_figure_is_published_with_a_unit_and_a_description() {
    // Numbers so far apart that no two of them, as seconds or as they are, are equal.
    let stats = made(1009);
    let board = Board::default();
    let (prefix, cache) = (String::from("my_app"), format!("shard {}", 3));
    metrics::with_local_recorder(&board, || stats.publish(&prefix, &cache));
    let values = board.values.lock().unwrap();
    for (path, number) in all_numbers(&stats) {
        if path.starts_with("ratios.") || path.ends_with(".up_to_bytes") {
            continue; // made of the others; a label
        }
        let seconds = number / 1e9;
        let is = |value: f64| value == number || (value - seconds).abs() < 1e-15;
        let published: Vec<&String> =
            values.iter().filter(|(_, value)| is(**value)).map(|(name, _)| name).collect();
        assert_eq!(published.len(), 1, "{path}, {number}: {published:?}");
        let is_time = path.ends_with("_nanoseconds");
        assert_eq!(is_time, published[0].contains("seconds"), "{path}: {published:?}");
    }
    let described = board.described.lock().unwrap();
    for name in values.keys() {
        assert!(name.starts_with("my_app_") && name.contains("{cache=shard 3"), "{name}");
        let (unit, text) = &described[name.split('{').next().unwrap()];
        assert!(text.len() > 6, "{name} is described: {text:?}");
        let expected = [
            ("_bytes", Unit::Bytes),
            ("_nanoseconds", Unit::Nanoseconds),
            ("_seconds", Unit::Seconds),
        ];
        let base = name.split('{').next().unwrap().trim_end_matches("_total");
        let expected = expected.iter().find(|(end, _)| base.ends_with(end));
        assert_eq!(*unit, Some(expected.map_or(Unit::Count, |(_, unit)| *unit)), "{name}");
    }
    assert_eq!(values["my_app_candidate_in_use{cache=shard 3,codec=lz4}"], 1.0);
    // Sizes that nothing has are there as 0, so that nothing is left of what was published before.
    let sizes = values.iter().filter(|(name, _)| name.starts_with("my_app_stored_objects"));
    let sizes: Vec<f64> = sizes.map(|(_, value)| *value).collect();
    assert!(sizes.len() > 40 && sizes.iter().filter(|objects| **objects > 0.0).count() == 1);
}

#[test]
fn what_is_stored_has_a_published_size() {
    let board = Board::default();
    let stats = used().stats();
    metrics::with_local_recorder(&board, || stats.publish("zcache", "pages"));
    let values = board.values.lock().unwrap();
    let sizes = values.iter().filter(|(name, _)| name.starts_with("zcache_stored_objects"));
    let published: f64 = sizes.map(|(_, value)| *value).sum();
    let stored: usize = stats.stored_sizes.iter().map(|size| size.objects).sum();
    assert_eq!(published, stored as f64);
    assert!(published > 100.0);
}

#[test]
fn a_difference_has_counts_of_the_time_between_and_the_rest_as_it_is() {
    // Figures that are no counts, by the starts of their paths.
    const AS_IT_IS: [&str; 14] = [
        "balance.decode",
        "balance.entry",
        "balance.frame_worth",
        "balance.limit",
        "balance.miss",
        "bytes.",
        "candidates.",
        "dictionaries.held",
        "ended",
        "entries",
        "frames",
        "raw",
        "same_filled",
        "stored_sizes.",
    ];
    let (earlier, later) = (made(10), made(17));
    let [before, now, since] = [&earlier, &later, &later.since(&earlier)].map(all_numbers);
    let mut counts = 0;
    for (path, number) in &since {
        let as_it_is = AS_IT_IS.iter().any(|start| path.starts_with(start));
        if path.starts_with("ratios.") {
            continue;
        }
        counts += usize::from(!as_it_is);
        let expected = if as_it_is { now[path] } else { now[path] - before[path] };
        assert_eq!(*number, expected, "{path}");
    }
    assert_eq!((since.len(), counts), (now.len(), 35), "each figure is of one kind");
    let between = later.since(&earlier);
    assert_eq!(between.ratios.hit, between.hit_ratio());
    let backwards = earlier.since(&later);
    assert_eq!((backwards.hits, backwards.decode.samples, backwards.removals.evicted), (0, 0, 0));
    let cache = used();
    let stats = cache.stats();
    let none = stats.since(&stats);
    assert_eq!((none.hits, none.misses, none.ratios.hit), (0, 0, 0.0));
    assert_eq!((none.entries, none.bytes), (stats.entries, stats.bytes));
}

/// The sizes in a row of the table, in KiB, and what their last digits leave open.
fn sizes(row: &str) -> (f64, f64) {
    let words: Vec<&str> = row.split_whitespace().collect();
    let size = |pair: &[&str]| {
        let unit = match pair[1].trim_end_matches(',') {
            "KiB" => 1.0,
            "MiB" => 1024.0,
            _ => return None,
        };
        Some((pair[0].parse::<f64>().unwrap() * unit, 0.05 * unit))
    };
    words.windows(2).filter_map(size).fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn rows_of_the_table_add_up_to_what_is_held() {
    let cache = used();
    let stats = cache.stats();
    assert!(stats.bytes.frames > 0 && stats.bytes.keys > 0, "{stats}");
    // As it is, and with each figure as large as it may be.
    let mut full = stats.clone();
    let parts = &mut full.bytes;
    (parts.waiting, parts.sample) = (300 << 10, 5 << 20);
    parts.held += (300 << 10) + (5 << 20) - stats.bytes.waiting - stats.bytes.sample;
    for stats in [stats, full] {
        let table = stats.to_string();
        let rows: Vec<&str> = table.lines().collect();
        let at = rows.iter().position(|row| row.starts_with("held")).unwrap();
        let (held, parts) =
            (rows[at].split(" of ").next().unwrap(), rows[at + 1..at + 3].join(" "));
        let ((held, open), (sum, more)) = (sizes(held), sizes(&parts));
        assert!(held > 1000.0 && (held - sum).abs() <= open + more, "{held} and {sum} in\n{table}");
        assert!(rows[at..at + 3].iter().all(|row| row.len() < 120), "{table}");
    }
}
