//! Where the instructions of a path go, by stage.
//!
//! The compiler inlines most of a path into few functions, so an instruction belongs to the
//! innermost function of its inlining that a rule below knows: what a directory of the pool does
//! for a pin is the pin's.

use std::path::Path;

use addr2line::Loader;

use super::callgrind::Cost;
use super::kept::{Part, part};
use benches::arguments::Failure;

/// A stage, part of a file's path, and what a function's name starts with.
type Rule = (&'static str, &'static str, &'static str);

/// What these functions call is theirs, wherever it stands. The first that fits counts.
const NARROW: &[Rule] = &[
    ("hash", "/sip.rs", ""),
    ("hash", "library/core/src/hash/", ""),
    ("hash", "zcache/src/cache/mod.rs", "tag"),
    ("hash", "zcache/src/cache/mod.rs", "hash"),
    ("hash", "zcache/src/index/mod.rs", "tag"),
    ("unpin", "zpool/src/pinned.rs", "drop"),
    ("unpin", "zpool/src/word.rs", "unpin"),
    ("unpin", "zpool/src/handle/token.rs", "unpin"),
    ("policy", "zcache/src/policy/", ""),
    ("policy", "zcache/src/tier/mod.rs", "mark"),
    ("policy", "zcache/src/tier/mod.rs", "set_mark"),
    ("policy", "zcache/src/tier/mod.rs", "tag"),
    ("policy", "zcache/src/tier/life.rs", "policy_forgets"),
    ("policy", "zcache/src/tier/life.rs", "queue"),
    ("mark", "zcache/src/store/record.rs", "hit"),
    ("pin", "zpool/src/pinned.rs", ""),
    ("pin", "zpool/src/handle/token.rs", "pin"),
    ("pin", "zpool/src/handle/table.rs", "pin"),
    ("pin", "zpool/src/word.rs", "pin"),
    ("pin", "zpool/src/zspage/bytes.rs", "map"),
    ("pin", "zpool/src/zspage/bytes.rs", "bytes<"),
    ("pin", "zpool/src/pool.rs", "pin"),
    ("pin", "zcache/src/tier/mod.rs", "pin_"),
    ("pin", "zcache/src/tier/mod.rs", "is_equal"),
    ("statistics", "zcache/src/stats/", ""),
    ("codec's call", "zcache/src/codec/lz4", ""),
    ("codec's call", "zcache/src/codec/zstd", ""),
    ("codec's call", "zcache/src/codec/none", ""),
    ("codec's call", "zcache/src/codec/mod.rs", ""),
    ("codec's call", "/src/block/mod.rs", ""),
    ("codec's call", "/zstd", ""),
    ("incompressible?", "zcache/src/codec/incompressible.rs", ""),
    ("incompressible?", "zcache/src/store/trials.rs", ""),
    ("same-filled?", "zcache/src/codec/fill.rs", ""),
    ("same-filled?", "zcache/src/store/same_filled.rs", ""),
    ("loan", "zcache/src/store/scratch.rs", ""),
    ("loan", "zcache/src/store/buffers.rs", ""),
    ("loan", "zcache/src/store/contexts.rs", ""),
    ("loan", "zcache/src/store/clock.rs", ""),
    ("loan", "zpool/src/source/buffer.rs", ""),
    ("read", "zcache/src/store/mod.rs", "read"),
    ("read", "zcache/src/store/mod.rs", "decode"),
    ("slot_bytes", "zpool/src/arena.rs", "slot_bytes"),
    ("slot_bytes", "zpool/src/pool", "slot_bytes"),
    ("room", "zpool/src/compact.rs", ""),
    ("room", "zpool/src/source/", ""),
    ("room", "zpool/src/class.rs", "sparse"),
    ("free", "zpool/src/pool.rs", "free"),
    ("free", "zpool/src/arena.rs", "release"),
    ("free", "zpool/src/arena.rs", "end"),
    ("free", "zpool/src/class.rs", "release"),
    ("free", "zpool/src/class.rs", "give"),
    ("free", "zpool/src/class.rs", "take_in"),
    ("free", "zpool/src/zspage/mod.rs", "release"),
    ("free", "zpool/src/handle/table.rs", "free"),
    ("free", "zpool/src/handle/table.rs", "recycle"),
    ("free", "zcache/src/tier/life.rs", "bury"),
    ("free", "zcache/src/tier/life.rs", "withdraw"),
    ("free", "zcache/src/tier/life.rs", "gone"),
    ("zspage's records, fullness", "zpool/src/zspage/mod.rs", "record"),
    ("index", "zcache/src/index/mod.rs", ""),
    ("index", "zcache/src/index/table", ""),
    ("index", "zcache/src/tier/mod.rs", "find"),
    ("pin", "zpool/src/arena.rs", "pin"),
];

/// Whose the rest is.
const WIDE: &[Rule] = &[
    ("zspage's records, fullness", "zpool/src/zspage/mod.rs", "slot"),
    ("draft", "zcache/src/store/mod.rs", ""),
    ("room", "zcache/src/tier/evict.rs", ""),
    ("zspage's records, fullness", "zpool/src/zspage/record.rs", ""),
    ("zspage's records, fullness", "zpool/src/fullness.rs", ""),
    ("alloc", "zpool/src/pool/alloc.rs", ""),
    ("alloc", "zpool/src/arena.rs", ""),
    ("alloc", "zpool/src/class.rs", ""),
    ("alloc", "zpool/src/ledger.rs", ""),
    ("alloc", "zpool/src/zspage/", ""),
    ("alloc", "zpool/src/handle/", ""),
    ("insert, enter, publish", "zcache/src/tier/", ""),
    ("insert, enter, publish", "zcache/src/index/flight.rs", ""),
    ("insert, enter, publish", "zcache/src/sync/real.rs", ""),
    ("insert, enter, publish", "zcache/src/cache/mod.rs", "insert"),
    ("insert, enter, publish", "zcache/src/cache/mod.rs", "terms"),
    ("get_into", "zcache/src/cache/mod.rs", ""),
    ("measuring", "benches/src/bin/counts/", ""),
];

/// The stage of an instruction that was inlined so, innermost first; functions with their files.
fn stage(frames: &[(String, String)]) -> &'static str {
    let stage = |rules: &'static [Rule]| {
        frames.iter().find_map(|(function, file)| {
            let fits =
                |(_, part, start): &&Rule| file.contains(part) && function.starts_with(start);
            rules.iter().find(fits).map(|(stage, ..)| *stage)
        })
    };
    stage(NARROW).or_else(|| stage(WIDE)).unwrap_or("other")
}

/// Instructions of each of `times` operations by stage, most first.
///
/// # Errors
/// `program` has no debug information.
pub(crate) fn stages(
    costs: &[Cost],
    program: &Path,
    times: usize,
) -> Result<Vec<(&'static str, f64)>, Failure> {
    let failed = |error| format!("{}: {error}", program.display());
    let loader = Loader::new(program).map_err(failed)?;
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for cost in costs {
        let stage = match part(cost, program) {
            Part::Codec => "codec",
            Part::Shared => "shared libraries",
            Part::Own => stage(&frames(&loader, cost.address)?),
        };
        match sums.iter_mut().find(|(other, _)| *other == stage) {
            Some((_, sum)) => *sum += cost.instructions,
            None => sums.push((stage, cost.instructions)),
        }
    }
    sums.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    Ok(sums.into_iter().map(|(stage, sum)| (stage, sum as f64 / times as f64)).collect())
}

fn frames(loader: &Loader, address: u64) -> Result<Vec<(String, String)>, Failure> {
    let mut found = loader.find_frames(address).map_err(|error| error.to_string())?;
    let mut frames = Vec::new();
    while let Some(frame) = found.next()? {
        let function = frame.function.as_ref().and_then(|name| name.demangle().ok());
        let file = frame.location.and_then(|location| location.file);
        let function = short(&function.unwrap_or_default()).to_owned();
        frames.push((function, file.unwrap_or_default().to_owned()));
    }
    Ok(frames)
}

/// A function's own name, without the path to it.
fn short(function: &str) -> &str {
    let head = function.split('<').next().filter(|head| !head.is_empty());
    match head {
        // `zpool::arena::Arena<T>::place`: an outermost frame, by its symbol.
        Some(_) if function.contains(">::") => function.rsplit("::").next().unwrap_or(function),
        Some(head) if head.contains("::") => {
            let path = head.trim_end_matches(':').len();
            let start = head[..path].rfind("::").map_or(0, |at| at + 2);
            &function[start..]
        }
        Some(_) => function,
        None => function.rsplit("::").next().unwrap_or(function),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(function, file)| ((*function).into(), (*file).into())).collect()
    }

    #[test]
    fn what_is_inlined_is_of_the_innermost_function_that_a_rule_knows() {
        let pin = frames(&[
            ("load", "library/core/src/sync/atomic.rs"),
            ("get<u64>", "x/zpool/src/directory.rs"),
            ("pin_index<u64>", "x/zpool/src/handle/table.rs"),
            ("look", "x/zcache/src/index/table.rs"),
            ("get_into", "x/zcache/src/cache/mod.rs"),
        ]);
        assert_eq!(stage(&pin), "pin");
        assert_eq!(stage(&pin[3..]), "index");
        assert_eq!(stage(&pin[4..]), "get_into");
        assert_eq!(stage(&pin[..1]), "other");
        let drop = frames(&[("drop<u64>", "x/zpool/src/pinned.rs")]);
        assert_eq!(stage(&drop), "unpin");
    }

    #[test]
    fn functions_have_their_own_names() {
        assert_eq!(short("zpool::arena::Arena<T>::place"), "place");
        assert_eq!(short("pin_index<u64>"), "pin_index<u64>");
        assert_eq!(short("zpool::fullness::group"), "group");
        assert_eq!(short("<zpool::pinned::Pinned<T> as core::ops::drop::Drop>::drop"), "drop");
        assert_eq!(
            short("put<zpool::pinned::Pinned<u64>, {closure#1}>"),
            "put<zpool::pinned::Pinned<u64>, {closure#1}>"
        );
    }
}
