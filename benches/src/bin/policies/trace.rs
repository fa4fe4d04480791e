//! Traces in a form that is fast to play.

use std::path::Path;

use benches::arguments::Failure;
use tests::traces::{self, Trace};

use crate::made;

/// The pages asked for, numbered as they first appear.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) name: String,
    pub(crate) pages: Vec<u32>,
    pub(crate) distinct: usize,
}

impl Played {
    fn new(trace: &Trace, requests: usize) -> Self {
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

/// The traces of a list of names, of which no more than the first `requests` are played.
pub(crate) fn read(names: &[String], requests: Option<usize>) -> Result<Vec<Played>, Failure> {
    let requests = requests.unwrap_or(usize::MAX);
    let mut all = Vec::new();
    for name in names {
        let files = match name.as_str() {
            "shared" => traces::shared_files(),
            "made" => {
                all.extend(made::all(requests));
                continue;
            }
            name if made::is(name) => {
                all.push(made::named(name, requests));
                continue;
            }
            name => {
                let is = |path: &&std::path::PathBuf| {
                    path.file_name()
                        .is_some_and(|file| file.to_string_lossy().split('.').next() == Some(name))
                };
                match traces::shared_files().iter().find(is) {
                    Some(path) => vec![path.clone()],
                    None => traces::files(Path::new(name))?,
                }
            }
        };
        for file in files {
            all.push(Played::new(&Trace::read(&file)?, requests));
        }
    }
    if all.is_empty() { Err("there are no shared traces here: name one".into()) } else { Ok(all) }
}
