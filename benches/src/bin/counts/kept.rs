//! Counts that are kept in the tree, one file a compiler, and how new ones compare.
//!
//! The bound is for what rustc compiles, [`Count::own`]: 5 % under the compiler that the file is
//! of, 15 % under another one. C compilers and C libraries come in more versions than files can be
//! kept for, so what they made may grow by half: that is no regression of theirs, but work done
//! twice.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::callgrind::Cost;
use benches::arguments::Failure;

/// What `own` may grow by under the same compiler, and shrink by without a word.
pub(crate) const BOUND: f64 = 0.05;
/// The same under another compiler.
pub(crate) const WIDE: f64 = 0.15;
/// What the others may grow by.
pub(crate) const FOREIGN: f64 = 0.5;
/// So few instructions are no growth of what others made.
const FEW: f64 = 32.0;

/// Instructions of one operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Count {
    /// Of this workspace and of the Rust below it.
    pub(crate) own: f64,
    /// Of liblz4 and libzstd.
    pub(crate) codec: f64,
    /// Of shared libraries: memcpy, malloc, system calls.
    pub(crate) shared: f64,
}

/// Paths by name, with their counts.
pub(crate) type Counts = Vec<(String, Count)>;

/// What a symbol of liblz4 or libzstd starts with. Callgrind names by its address what has no
/// symbol: the loops that libzstd has in assembly, which nothing else of the program is.
const CODEC: [&str; 8] = ["LZ4_", "ZSTD_", "HUF_", "FSE_", "HIST_", "BIT_", "XXH", "0x"];

/// Which of the three parts of a [`Count`] an instruction belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// [`Count::own`].
    Own,
    /// [`Count::codec`].
    Codec,
    /// [`Count::shared`].
    Shared,
}

/// The part that a cost of `program` is of.
#[must_use]
pub(crate) fn part(cost: &Cost, program: &Path) -> Part {
    if cost.object != program {
        return Part::Shared;
    }
    let codec = CODEC.iter().any(|prefix| cost.function.starts_with(prefix));
    if codec { Part::Codec } else { Part::Own }
}

impl Count {
    /// What `costs` of `program` make for each of `times` operations.
    #[must_use]
    pub(crate) fn of(costs: &[Cost], program: &Path, times: usize) -> Self {
        let sum = |of: Part| {
            let costs = costs.iter().filter(|cost| part(cost, program) == of);
            let sum: u64 = costs.map(|cost| cost.instructions).sum();
            (sum as f64 / times as f64 * 10.0).round() / 10.0
        };
        Self { own: sum(Part::Own), codec: sum(Part::Codec), shared: sum(Part::Shared) }
    }
}

/// The file of a compiler, `ARCHITECTURE-VERSION`, in `dir`.
#[must_use]
pub(crate) fn file(dir: &Path, compiler: &str) -> PathBuf {
    dir.join(format!("{compiler}.txt"))
}

/// The compilers that `dir` has files of for the same architecture as `compiler`, older ones first.
///
/// # Errors
/// The directory cannot be read.
pub(crate) fn compilers(dir: &Path, compiler: &str) -> io::Result<Vec<String>> {
    let (architecture, _) = split(compiler);
    let names = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?.into_iter();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned));
    let mut names: Vec<String> = names.filter(|name| split(name).0 == architecture).collect();
    names.sort_by_key(|name| split(name).1);
    Ok(names)
}

/// Architecture, and version as numbers.
fn split(compiler: &str) -> (&str, Vec<u32>) {
    let (architecture, version) = compiler.split_once('-').unwrap_or((compiler, ""));
    let number = |part: &str| part.parse().unwrap_or(0);
    (architecture, version.split(['.', '-']).map(number).collect())
}

/// A file's text.
#[must_use]
pub(crate) fn write(counts: &Counts, compiler: &str) -> String {
    let mut text = format!(
        "# Instructions an operation takes, compiled by rustc {compiler}. Written by `.ci/counts \
         --update`.\n\
         # own: this workspace and std; codec: liblz4, libzstd; shared: shared libraries.\n\
         # {:<26} {:>9} {:>9} {:>9}\n",
        "path", "own", "codec", "shared"
    );
    for (name, Count { own, codec, shared }) in counts {
        let _ = writeln!(text, "{name:<28} {own:>9.1} {codec:>9.1} {shared:>9.1}");
    }
    text
}

/// Reads a file's text.
///
/// # Errors
/// A line is not a name and three numbers, or a name comes twice.
pub(crate) fn read(text: &str) -> Result<Counts, Failure> {
    let mut counts: Counts = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let numbers: Vec<f64> = words.map(str::parse).collect::<Result<_, _>>()?;
        let &[own, codec, shared] = &numbers[..] else {
            return Err(format!("not a name and three numbers: `{line}`").into());
        };
        if counts.iter().any(|(other, _)| other == name) {
            return Err(format!("`{name}` comes twice").into());
        }
        counts.push((name.to_owned(), Count { own, codec, shared }));
    }
    Ok(counts)
}

/// How new counts compare with kept ones, as lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// What has to be answered for.
    pub(crate) grown: Vec<String>,
    /// What may be kept from now on.
    pub(crate) shrunk: Vec<String>,
}

/// Compares; `bound` is what `own` may change by.
#[must_use]
pub(crate) fn compare(kept: &Counts, new: &Counts, bound: f64) -> Verdict {
    let mut verdict = Verdict::default();
    let find = |counts: &Counts, name: &str| {
        counts.iter().find(|(other, _)| other == name).map(|(_, count)| *count)
    };
    for (name, new) in new {
        let Some(kept) = find(kept, name) else {
            verdict.grown.push(format!("{name}: no count is kept of it; --update keeps one"));
            continue;
        };
        let line = |what: &str, kept: f64, new: f64| {
            let change = (new / kept - 1.0) * 100.0;
            format!("{name}: {what} {kept:.1} -> {new:.1} instructions, {change:+.1} %")
        };
        if new.own > kept.own * (1.0 + bound) {
            verdict.grown.push(line("own", kept.own, new.own));
        } else if new.own < kept.own * (1.0 - bound) {
            verdict.shrunk.push(line("own", kept.own, new.own));
        }
        let foreign =
            [("codec", kept.codec, new.codec), ("shared libraries", kept.shared, new.shared)];
        for (what, kept, new) in foreign {
            if new > kept * (1.0 + FOREIGN) + FEW {
                verdict.grown.push(line(what, kept, new));
            }
        }
    }
    let gone = kept.iter().filter(|(name, _)| find(new, name).is_none());
    verdict.grown.extend(gone.map(|(name, _)| format!("{name}: kept, but there is no such path")));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(own: f64, codec: f64, shared: f64) -> Counts {
        vec![("hit/lz4".to_owned(), Count { own, codec, shared })]
    }

    #[test]
    fn what_is_written_is_read_again() {
        let counts = counts(412.5, 3000.0, 0.0);
        assert_eq!(read(&write(&counts, "x86_64-1.95.0")).expect("readable"), counts);
        assert!(read("hit 1 2").is_err());
        assert!(read("hit 1 2 x").is_err());
        assert!(read("hit 1 2 3\nhit 1 2 3").is_err());
    }

    #[test]
    fn growth_beyond_the_bound_is_told_and_so_is_shrinking() {
        let kept = counts(100.0, 1000.0, 100.0);
        assert_eq!(compare(&kept, &counts(104.9, 1400.0, 180.0), BOUND), Verdict::default());
        assert_eq!(compare(&kept, &counts(105.1, 1000.0, 100.0), BOUND).grown.len(), 1);
        assert_eq!(compare(&kept, &counts(94.9, 1000.0, 100.0), BOUND).shrunk.len(), 1);
        assert_eq!(compare(&kept, &counts(110.0, 1000.0, 100.0), WIDE), Verdict::default());
        assert_eq!(compare(&kept, &counts(100.0, 2000.0, 200.0), BOUND).grown.len(), 2);
    }

    #[test]
    fn paths_come_and_go_by_update_only() {
        let kept = counts(100.0, 0.0, 0.0);
        assert_eq!(compare(&kept, &Counts::new(), BOUND).grown.len(), 1);
        assert_eq!(compare(&Counts::new(), &kept, BOUND).grown.len(), 1);
    }

    #[test]
    fn versions_are_ordered_as_numbers() {
        let versions = ["x86_64-1.100.0", "x86_64-1.95.0", "x86_64-1.95.1"].map(split);
        assert!(versions[1] < versions[2] && versions[2] < versions[0]);
    }

    #[test]
    fn instructions_belong_to_who_made_them() {
        let cost = |object: &str, function: &str| Cost {
            object: object.into(),
            function: function.into(),
            address: 0,
            instructions: 10,
        };
        let costs = [
            cost("/bin/counts", "zcache::cache::Cache<K,S>::get_into"),
            cost("/bin/counts", "LZ4_decompress_safe"),
            cost("/lib/libc.so.6", "memcpy"),
        ];
        let count = Count::of(&costs, Path::new("/bin/counts"), 10);
        assert_eq!(count, Count { own: 1.0, codec: 1.0, shared: 1.0 });
    }
}
