//! Caches beside each other in one process, filled with the same pages under the same keys.
//!
//! All values are LZ4 blocks by the same engine. The first rival is the bare codec: an array of
//! payloads, a copy for each key.

use std::sync::atomic::{AtomicU64, Ordering};

use benches::arguments::Failure;
use benches::bare::Bare;
use benches::codec::Engine;

use crate::caches;
use crate::contestant::Contestant;
use crate::packed::Packed;
use crate::spec::{Codec, Kind, Spec};
use crate::stage::Stage;

/// What the bare codec's row is called.
const BARE: &str = "bare lz4";
/// Keys that the bare codec's row holds beside full caches, at most: their payloads are far more
/// than the processor's caches hold.
const COLD: u64 = 100_000;
/// A full cache has seen this many times the pages whose payloads fill it.
const TURNOVERS: u64 = 3;
/// How far from zcache's number of entries a full peer may be, and how often it is made for that.
const EXACT: (f64, usize) = (0.02, 4);
/// Bytes beside its payload that an entry takes at most in any of the caches.
const ASIDE: u64 = 200;
/// Room that is left in a cache that shall hold all keys: its shards are not filled evenly.
const SLACK: u64 = 64 << 20;
/// A thread's own keys: so many, above all others.
const STRETCH: u64 = 1 << 32;
/// Keys from here on are never stored.
const ABSENT: u64 = 1 << 62;

/// A cache under its name.
pub(crate) struct Rival {
    pub(crate) name: String,
    pub(crate) cache: Box<dyn Contestant>,
    /// Entries that it held when it had been filled.
    pub(crate) held: u64,
}

/// The rivals, and keys that no rival has seen.
pub(crate) struct Rivals<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) all: Vec<Rival>,
    stretch: AtomicU64,
}

/// The page of a key.
pub(crate) fn page(stage: &Stage, key: u64) -> &[u8] {
    stage.page((key % stage.page_of.len() as u64) as u32)
}

/// A key that is never stored.
pub(crate) fn absent(random: &mut fastrand::Rng) -> u64 {
    ABSENT | random.u64(..)
}

impl<'a> Rivals<'a> {
    fn new(stage: &'a Stage) -> Self {
        Self { stage, all: Vec::new(), stretch: AtomicU64::new(STRETCH) }
    }

    /// All hold the keys below `keys`, and have room for more.
    pub(crate) fn roomy(stage: &'a Stage, specs: &[Spec], keys: u64) -> Result<Self, Failure> {
        let mut rivals = Self::new(stage);
        rivals.bare(keys)?;
        let capacity = 2 * keys * (stage.mean_lz4() + ASIDE) + SLACK;
        for spec in specs {
            let rival = filled(*spec, capacity, stage, keys)?;
            if rival.held != keys {
                return Err(format!("{spec} holds {} of {keys} keys", rival.held).into());
            }
            rivals.all.push(rival);
        }
        Ok(rivals)
    }

    /// All are full, so that every new key costs another its place. zcache, which is the first of
    /// `specs`, takes `capacity` bytes; the others are told what makes them hold as many entries.
    pub(crate) fn full(stage: &'a Stage, specs: &[Spec], capacity: u64) -> Result<Self, Failure> {
        let keys = TURNOVERS * (capacity / stage.mean_lz4().max(1) + 1);
        let first = filled(specs[0], capacity, stage, keys)?;
        let wanted = first.held;
        if wanted == 0 || wanted == keys {
            return Err(format!("{} holds {wanted} of {keys} keys", first.name).into());
        }
        let mut rivals = Self::new(stage);
        rivals.bare(wanted.min(COLD))?;
        rivals.all.push(first);
        for spec in &specs[1..] {
            rivals.all.push(match spec.kind {
                Kind::Zcache => filled(*spec, capacity, stage, keys)?,
                _ => holding(*spec, wanted, stage, keys)?,
            });
        }
        Ok(rivals)
    }

    fn bare(&mut self, keys: u64) -> Result<(), Failure> {
        let engine = Engine::new(Codec::Lz4, &[])?;
        let payloads = engine.payloads(self.stage.file_pages(), self.stage.page_size)?;
        let pages = &self.stage.page_of;
        let chosen = (0..usize::try_from(keys)?).map(|key| pages[key % pages.len()] as usize);
        let bare = Packed::new(Bare::new(&payloads, chosen), engine, self.stage.page_size);
        self.all.push(Rival { name: BARE.into(), cache: Box::new(bare), held: keys });
        Ok(())
    }

    /// The one that goes by the capacity; it comes after the bare codec.
    pub(crate) fn zcache(&self) -> &Rival {
        &self.all[1]
    }

    /// The first of the keys that are only for the thread that asks.
    pub(crate) fn fresh(&self) -> u64 {
        self.stretch.fetch_add(STRETCH, Ordering::Relaxed)
    }
}

fn filled(spec: Spec, told: u64, stage: &Stage, keys: u64) -> Result<Rival, Failure> {
    let cache = caches::make(spec, told, stage)?;
    (0..keys).for_each(|key| cache.insert(key, page(stage, key)));
    cache.settle();
    let held = (0..keys).filter(|key| cache.contains(*key)).count() as u64;
    Ok(Rival { name: spec.short(), cache, held })
}

/// The peer with `wanted` entries, about.
fn holding(spec: Spec, wanted: u64, stage: &Stage, keys: u64) -> Result<Rival, Failure> {
    let mut told = wanted * (stage.mean_lz4() + ASIDE / 4);
    for attempt in 1.. {
        let rival = filled(spec, told, stage, keys)?;
        let share = rival.held as f64 / wanted as f64;
        if (share - 1.0).abs() <= EXACT.0 || attempt == EXACT.1 {
            return Ok(rival);
        }
        told = (told as f64 / share.clamp(0.5, 2.0)) as u64;
    }
    unreachable!("some attempt is the last")
}
