//! The process of one cache: replays, says what it holds, and then answers questions about times.
//!
//! The first line it prints is the row; then one line for each that it reads, until there is no more.

use std::io::{self, BufRead, Write};

use benches::packing::Failure;
use benches::watch;
use serde_json::{Value, json};

use crate::caches;
use crate::engine::Engine;
use crate::memory::Memory;
use crate::options::Child;
use crate::replay::replay;
use crate::spec::{Codec, Kind, Spec};
use crate::stage::Stage;
use crate::timing::Timer;
use crate::variants::ALLOCATOR;

fn say(line: &Value) -> io::Result<()> {
    let mut to = io::stdout().lock();
    writeln!(to, "{line}")?;
    to.flush()
}

/// Has all code and buffers touched once that are not the cache's.
fn warm(stage: &Stage, engine: &Engine) {
    let mut worker = engine.worker(stage.page_size);
    let (mut to, mut read) = (vec![0; stage.page_size], vec![0; stage.page_size]);
    for page in 0..stage.file_pages().min(64) {
        let payload = worker.encode(stage.file_page(page), &mut to);
        worker.decode(payload, &mut read);
        assert!(read == stage.file_page(page), "the codec gives back its pages");
    }
}

fn row(spec: Spec, child: &Child, stage: &Stage) -> Value {
    json!({
        "kind": "run", "trace": stage.trace, "pages": stage.pages, "page_bytes": stage.page_size,
        "percent": null, "cache": spec.kind.name(), "policy": spec.policy(),
        "codec": spec.codec.to_string(), "allocator": ALLOCATOR,
        "values": if spec.codec == Codec::None { "plain" } else { "compressed" },
        "second_pages": stage.second_pages, "budget_bytes": null, "configured_bytes": child.configured,
    })
}

/// Whether growth says what a cache took: an allocator that had free memory before the baseline may have
/// grown by next to nothing. No codec makes a quarter of what LZ4 makes of pages.
fn measured(resident: u64, lz4: u64) -> bool {
    resident > 0 && resident >= lz4 / 4
}

pub(crate) fn run(child: &Child) -> Result<(), Failure> {
    let spec = child.spec;
    let stage = Stage::read(&child.stage)?;
    let engine = Engine::new(spec.codec, &stage.dictionary)?;
    let memory = Memory::open()?;
    warm(&stage, &engine);
    watch::trim_heap();
    let (baseline, glance) = (memory.resident()?, memory.glance()?);
    let cache = caches::make(spec, child.configured, &stage)?;
    let outcome = replay(&*cache, &stage, &memory, child.verify)?;
    let grown = memory.resident()?.saturating_sub(baseline);
    let resident = cache.all_in().unwrap_or(grown);
    let peak = cache.all_in().unwrap_or(outcome.peak.saturating_sub(glance)).max(resident);
    let mut timer = Timer::new(&*cache, &stage, engine);
    let held = timer.pages_held();
    let mut row = row(spec, child, &stage);
    row["resident_bytes"] = json!(resident);
    row["resident_peak_bytes"] = json!(peak);
    row["pages_held"] = json!(held);
    let lz4 = timer.held_lz4_bytes()?;
    row["held_lz4_bytes"] = json!(lz4);
    row["pages_per_mib"] = if measured(resident, lz4) {
        json!(held as f64 / (resident as f64 / f64::from(1 << 20)))
    } else {
        Value::Null
    };
    row["requests"] = json!(outcome.requests);
    // zram has no policy, so a hit ratio would be that of the one put on top of it.
    let evicts = spec.kind != Kind::Zram;
    let ratio = (outcome.hits as f64) / outcome.requests.max(1) as f64;
    row["hits"] = if evicts { json!(outcome.hits) } else { Value::Null };
    row["hit_ratio"] = if evicts { json!(ratio) } else { Value::Null };
    for time in ["hit_ns", "hit_ns_two", "insert_ns", "insert_ns_two", "decode_ns", "encode_ns"] {
        row[time] = Value::Null;
    }
    for time in ["p50_ns", "p99_ns", "p999_ns"] {
        row[time] = Value::Null;
    }
    row["cpu_seconds"] = json!((outcome.cpu_seconds * 1e3).round() / 1e3);
    row["replay_seconds"] = json!((outcome.seconds * 1e3).round() / 1e3);
    row["effective"] = json!([]);
    row["verified"] = json!(outcome.verified);
    row["phases"] = Value::Null;
    say(&row)?;
    for question in io::stdin().lock().lines() {
        say(&timer.answer(&question?)?)?;
    }
    Ok(())
}
