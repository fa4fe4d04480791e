//! The process of one cache: it replays, and prints a row of what the cache holds.
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::path::PathBuf;

use benches::arguments::Failure;
use benches::codec::{Codec, Engine};
use benches::memory::{self, Memory};
use serde_json::{Value, json};

use crate::caches;
use crate::replay::replay;
use crate::spec::Spec;
use crate::stage::Stage;
use crate::variants::ALLOCATOR;

/// One cache's process.
#[derive(Debug, clap::Args)]
pub(crate) struct Child {
    spec: Spec,
    configured: u64,
    stage: PathBuf,
    #[arg(long)]
    verify: bool,
}

/// Has all code and buffers touched once that are not the cache's.
fn warm(stage: &Stage, engine: &Engine) -> Result<(), Failure> {
    let mut worker = engine.worker(stage.page_size)?;
    let (mut to, mut read) = (vec![0; stage.page_size], vec![0; stage.page_size]);
    for page in stage.file_pages().take(64) {
        let payload = worker.encode(page, &mut to);
        worker.decode(payload, &mut read);
        assert!(read == page, "the codec gives back its pages");
    }
    Ok(())
}

/// Whether growth says what a cache took: an allocator that had free memory before the baseline may
/// have grown by next to nothing. No codec makes a quarter of what LZ4 makes of pages.
fn measured(resident: usize, lz4: usize) -> bool {
    resident > 0 && resident >= lz4 / 4
}

pub(crate) fn run(child: &Child) -> Result<(), Failure> {
    let spec = child.spec;
    let stage = Stage::read(&child.stage)?;
    warm(&stage, &Engine::new(spec.codec, &stage.dictionary)?)?;
    let memory = Memory::own()?;
    memory::trim_heap();
    let baseline = memory.resident()?;
    let cache = caches::make(spec, child.configured, &stage)?;
    let outcome = replay(&*cache, &stage, child.verify)?;
    let resident = memory.resident()?.saturating_sub(baseline);
    let held = (0..stage.page_of.len() as u32).filter(|number| cache.contains((*number).into()));
    let held: Vec<u32> = held.collect();
    // Divided by the resident memory, it says how well a cache packs, whichever pages it keeps.
    let payloads = Engine::new(Codec::Lz4, &[])?.payloads(stage.file_pages(), stage.page_size)?;
    let len = |number: &u32| payloads[stage.page_of[*number as usize] as usize].len();
    let lz4: usize = held.iter().map(len).sum();
    let mib = resident as f64 / f64::from(1 << 20);
    println!(
        "{}",
        json!({
            "kind": "run", "trace": stage.trace, "pages": stage.pages,
            "page_bytes": stage.page_size, "percent": null, "cache": spec.kind.name(),
            "policy": spec.policy(), "codec": spec.codec.to_string(), "allocator": ALLOCATOR,
            "values": if spec.codec == Codec::None { "plain" } else { "compressed" },
            "budget_bytes": null, "configured_bytes": child.configured,
            "resident_bytes": resident,
            "pages_held": held.len(), "held_lz4_bytes": lz4,
            "pages_per_mib": measured(resident, lz4).then(|| held.len() as f64 / mib),
            "requests": outcome.requests, "hits": outcome.hits,
            "hit_ratio": outcome.hits as f64 / outcome.requests.max(1) as f64,
            "verified": outcome.verified,
        })
    );
    Ok(())
}

/// Puts in what the process does not know.
pub(crate) fn label(mut row: Value, budget: u64, percent: Option<f64>) -> Value {
    row["budget_bytes"] = json!(budget);
    row["percent"] = json!(percent);
    row
}
