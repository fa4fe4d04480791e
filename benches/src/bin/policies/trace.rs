//! Traces by their names.

use std::path::Path;

use benches::arguments::Failure;
use tests::traces::{self, Trace};

use crate::made;
use crate::played::Played;

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
