//! Traces in a form that is fast to play.

use tests::traces::Trace;

/// The pages asked for, numbered as they first appear.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) name: String,
    pub(crate) pages: Vec<u32>,
    pub(crate) distinct: usize,
}

impl Played {
    pub(crate) fn new(trace: &Trace, requests: usize) -> Self {
        let (mut pages, _) = trace.dense();
        pages.truncate(requests);
        Self::of(trace.name(), pages)
    }

    /// Of pages that are numbered as they first appear.
    pub(crate) fn of(name: &str, pages: Vec<u32>) -> Self {
        let distinct = pages.iter().max().map_or(0, |last| *last as usize + 1);
        Self { name: name.to_owned(), pages, distinct }
    }

    /// Entries that are so many percent of the pages.
    pub(crate) fn entries(&self, percent: f64) -> usize {
        ((self.distinct as f64 * percent / 100.0).round() as usize).max(1)
    }

    /// A number of requests in percent of all.
    pub(crate) fn percent(&self, hits: usize) -> f64 {
        hits as f64 / self.pages.len() as f64 * 100.0
    }
}
