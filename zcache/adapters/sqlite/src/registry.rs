//! The files that are open: connections to the same file share its pages.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use zcache::Cache;

use crate::pages::{Page, Pages};

/// What a file is known by, whatever name it is opened by.
#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = std::path::PathBuf;

#[cfg(unix)]
fn identity(name: &CStr) -> Option<Identity> {
    use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[cfg(not(unix))]
fn identity(name: &CStr) -> Option<Identity> {
    std::fs::canonicalize(name.to_str().ok()?).ok()
}

/// Called before each read of a database file that reaches the file.
type Hook = Box<dyn Fn() + Send + Sync>;

/// What a file system of ours knows.
pub(crate) struct Registry {
    /// `None`: nothing is cached.
    pub(crate) cache: Option<Arc<Cache<Page>>>,
    pub(crate) before_read: Option<Hook>,
    files: Mutex<HashMap<Identity, Weak<Pages>>>,
}

impl Registry {
    pub(crate) fn new(cache: Option<Arc<Cache<Page>>>, before_read: Option<Hook>) -> Self {
        Self { cache, before_read, files: Mutex::default() }
    }

    /// The pages of a file that was opened. `None`: it is not cached, because there is no cache or
    /// nothing is found by its name.
    pub(crate) fn pages(&self, name: Option<&CStr>) -> Option<Arc<Pages>> {
        let cache = self.cache.as_ref()?;
        let identity = identity(name?)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pages) = files.get(&identity).and_then(Weak::upgrade) {
            return Some(pages);
        }
        files.retain(|_, pages| pages.strong_count() > 0);
        let pages = Arc::new(Pages::new(cache));
        files.insert(identity, Arc::downgrade(&pages));
        Some(pages)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("cache", &self.cache).finish_non_exhaustive()
    }
}
