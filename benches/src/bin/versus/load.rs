//! Traces and page files as the user names them, brought together to a [`Stage`].

use std::collections::HashMap;

use ::tests::corpus::{self, PageFile};
use ::tests::traces::{Request, Trace, zipf_by};
use benches::arguments::{Failure, count};
use benches::codec::Engine;
use zcache::codec::Dictionary;

use crate::pairs;
use crate::spec::Codec;
use crate::stage::{Stage, WRITE};

/// Requests of a made trace, unless told otherwise.
const MADE: usize = 200_000;
/// A dictionary is trained on at most this many times its length.
const SAMPLES: usize = 100;

/// What to replay over what.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Source {
    /// A .u64 or .u64.zst file, the name of a shared one, or zipf:ALPHA, scan, uniform
    #[arg(long, default_value = "")]
    pub(crate) trace: String,
    /// A .bin or .bin.zst file, or the name of a shared one (default: the trace's, see below; for
    /// made traces the sample). Id N has page N modulo the number of pages
    #[arg(long)]
    pub(crate) pages: Option<String>,
    /// Where the name does not end in one; a smaller one cuts the pages
    #[arg(long)]
    pub(crate) page_size: Option<usize>,
    /// The first N of the trace (made ones: 200000)
    #[arg(long, value_parser = count)]
    pub(crate) requests: Option<usize>,
    /// Ids of a made trace (default: four times the pages)
    #[arg(long, value_parser = count)]
    pub(crate) distinct: Option<usize>,
}

fn page_file(name: &str, page_size: Option<usize>) -> Result<PageFile, Failure> {
    let path = pairs::locate(name, pairs::Place::Pages)?;
    // A page size below the file's own cuts its pages.
    let whole = PageFile::read(&path, None);
    match (whole, page_size) {
        (Ok(whole), Some(bytes)) if bytes < whole.page_size() => {
            whole.cut(bytes).ok_or_else(|| format!("{name}: no pages of {bytes} bytes").into())
        }
        (Ok(whole), bytes) if bytes.is_none_or(|bytes| bytes == whole.page_size()) => Ok(whole),
        _ => Ok(PageFile::read(&path, page_size)?),
    }
}

/// The n-th most popular of `distinct` pages is asked for as often as 1/n^alpha says; where it lies
/// is random.
pub(crate) fn zipf(alpha: f64, distinct: usize, requests: usize) -> Vec<u64> {
    let mut ids: Vec<u64> = (0..distinct as u64).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut ids);
    let ranks = zipf_by(alpha, distinct, requests, 1).into_iter();
    ranks.map(|rank| ids[rank as usize]).collect()
}

fn requests(source: &Source, file_pages: usize) -> Result<(String, Vec<Request>), Failure> {
    let count = source.requests.unwrap_or(MADE);
    let distinct = source.distinct.unwrap_or(4 * file_pages);
    let read = |id| Request { id, write: false };
    let name = &source.trace;
    let made = match (name.as_str(), name.strip_prefix("zipf:")) {
        ("scan", _) => (0..count as u64).map(|n| read(n % distinct as u64)).collect(),
        ("uniform", _) => {
            let mut random = fastrand::Rng::with_seed(1);
            (0..count).map(|_| read(random.u64(..distinct as u64))).collect()
        }
        (_, Some(alpha)) => {
            let alpha: f64 = alpha.parse().map_err(|_| format!("{name}: no exponent"))?;
            if !(0.0..=10.0).contains(&alpha) {
                return Err(format!("{name}: an exponent is 0 to 10").into());
            }
            zipf(alpha, distinct, count).into_iter().map(read).collect()
        }
        _ => {
            let trace = Trace::read(&pairs::locate(name, pairs::Place::Traces)?)?;
            let all = trace.requests();
            let cut = source.requests.unwrap_or(all.len());
            return Ok((trace.name().to_owned(), all.take(cut).collect()));
        }
    };
    Ok((name.clone(), made))
}

/// What each page of `file` takes as an LZ4 block.
fn lz4_lengths(file: &PageFile) -> Result<Vec<usize>, Failure> {
    let mut worker = Engine::new(Codec::Lz4, &[])?.worker(file.page_size())?;
    let mut to = vec![0; file.page_size()];
    Ok(file.pages().map(|page| worker.encode(page, &mut to).len()).collect())
}

/// A dictionary of `bytes` bytes, trained on a sample of the pages.
pub(crate) fn dictionary(stage: &Stage, bytes: usize) -> Result<Vec<u8>, Failure> {
    let step = stage.bytes.len().div_ceil(SAMPLES * bytes).max(1);
    let samples: Vec<&[u8]> = stage.file_pages().step_by(step).collect();
    Ok(Dictionary::train(&samples, bytes)?.as_bytes().to_vec())
}

/// Pages in a random order, which no request names yet. Pages that consist of one word are left
/// out: zcache stores nothing for those, so a time of them says nothing about others.
pub(crate) fn pages(name: Option<&str>, page_size: usize) -> Result<Stage, Failure> {
    let file = match name {
        Some(name) => page_file(name, Some(page_size))?,
        None => sample(page_size)?,
    };
    let lengths = lz4_lengths(&file)?;
    let varied = |page: &&[u8]| page.chunks_exact(8).any(|word| *word != page[..8]);
    let mut stage =
        Stage { pages: file.name().into(), page_size: file.page_size(), ..Stage::default() };
    for (page, len) in file.pages().zip(lengths).filter(|(page, _)| varied(page)) {
        stage.page_of.push(stage.page_of.len() as u32);
        stage.bytes.extend_from_slice(page);
        stage.lz4_bytes += len as u64;
    }
    if stage.page_of.is_empty() {
        return Err(format!("{}: no page of it takes room in a cache", stage.pages).into());
    }
    fastrand::Rng::with_seed(1).shuffle(&mut stage.page_of);
    Ok(stage)
}

/// The sample, cut.
fn sample(page_size: usize) -> Result<PageFile, Failure> {
    let cut = corpus::sample().cut(page_size);
    cut.ok_or_else(|| format!("the sample has no pages of {page_size} bytes").into())
}

/// Reads and joins it all.
pub(crate) fn stage(source: &Source) -> Result<Stage, Failure> {
    if source.trace.is_empty() {
        return Err("which trace? give --trace (see --help)".into());
    }
    let named = source.pages.as_deref().or_else(|| pairs::pages_of(&source.trace));
    let page_size = source.page_size.or_else(|| match source.pages {
        None => pairs::page_size_of(&source.trace),
        Some(_) => None,
    });
    let file = match (named, page_size) {
        (Some(name), _) => page_file(name, page_size)?,
        (None, _) if !pairs::is_made(&source.trace) => {
            return Err(format!("{}: which pages? give --pages", source.trace).into());
        }
        (None, Some(bytes)) => sample(bytes)?,
        (None, None) => corpus::sample(),
    };
    let (trace, requests) = requests(source, file.pages().len())?;
    let lengths = lz4_lengths(&file)?;
    let (pages, page_size) = (file.name().into(), file.page_size());
    let mut stage = Stage { trace, pages, page_size, ..Stage::default() };
    file.pages().for_each(|page| stage.bytes.extend_from_slice(page));
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    for request in &requests {
        let number = *numbers.entry(request.id).or_insert_with(|| {
            let page = (request.id % lengths.len() as u64) as usize;
            stage.page_of.push(page as u32);
            stage.lz4_bytes += lengths[page] as u64;
            stage.page_of.len() as u32 - 1
        });
        stage.requests.push(number | if request.write { WRITE } else { 0 });
    }
    Ok(stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_trace_runs_over_the_sample() {
        let source = Source { trace: "zipf:0.9".into(), requests: Some(5000), ..Source::default() };
        let stage = stage(&source).unwrap();
        assert_eq!((stage.requests.len(), stage.page_size), (5000, 8192));
        assert!(stage.page_of.len() > 1000);
        assert!(stage.lz4_bytes < (stage.page_of.len() * stage.page_size) as u64 / 3);
    }

    #[test]
    fn popular_pages_are_asked_for_as_the_law_says() {
        let mut counts = vec![0_u32; 100];
        for id in zipf(1.0, 100, 100_000) {
            counts[id as usize] += 1;
        }
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let share = f64::from(counts[0]) / f64::from(counts[1]);
        assert!((1.9..2.1).contains(&share), "{share}");
    }
}
