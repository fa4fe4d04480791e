//! The file system: registered by name, over another one, to which all calls are passed on.

use std::error::Error;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use zcache::{Cache, Config, ConfigError, HotShare};

use crate::ffi;
use crate::file;
use crate::pages::Page;
use crate::registry::Registry;

/// How a file system is made.
#[derive(Debug)]
pub struct Options {
    config: Option<Config>,
    base: Option<String>,
    before_read: BeforeRead,
}

#[derive(Default)]
struct BeforeRead(Option<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for BeforeRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

impl Options {
    /// A cache of `capacity_bytes` bytes of resident memory, everything counted: LZ4, and no page
    /// is kept decoded, because SQLite's own cache does that. Over SQLite's default file system.
    #[must_use]
    pub fn new(capacity_bytes: usize) -> Self {
        Self::with_config(Config::new(capacity_bytes).hot(HotShare::Off))
    }

    /// A cache with another codec or policy. Pages longer than its `max_page` are not cached.
    #[must_use]
    pub fn with_config(config: Config) -> Self {
        Self { config: Some(config), base: None, before_read: BeforeRead(None) }
    }

    /// No cache: reads are passed on, for a comparison.
    #[must_use]
    pub fn without_cache() -> Self {
        Self { config: None, base: None, before_read: BeforeRead(None) }
    }

    /// Over the file system of this name, in the place of the default one.
    #[must_use]
    pub fn over(self, base: &str) -> Self {
        Self { base: Some(base.to_owned()), ..self }
    }

    /// Has `f` called before each read of a database file that reaches the file, to count or to
    /// delay it. Not for journals.
    #[must_use]
    pub fn before_read(self, f: impl Fn() + Send + Sync + 'static) -> Self {
        Self { before_read: BeforeRead(Some(Box::new(f))), ..self }
    }

    /// Makes the file system known to SQLite, for connections that ask for it by `name`. It stays
    /// until the process ends.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub fn register(self, name: &str) -> Result<Vfs, RegisterError> {
        let name = CString::new(name).map_err(|_| RegisterError::Name)?;
        let base_name = self.base.clone().map(CString::new).transpose();
        let base_name = base_name.map_err(|_| RegisterError::Name)?;
        // One at a time, so that a name is not taken between the look and the registration.
        static REGISTERING: Mutex<()> = Mutex::new(());
        let _one = REGISTERING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the name ends with a zero, and lives until the call returns.
        if !unsafe { ffi::sqlite3_vfs_find(name.as_ptr()) }.is_null() {
            return Err(RegisterError::Taken);
        }
        let base_name = base_name.as_ref().map_or(ptr::null(), |name| name.as_ptr());
        // SAFETY: a null pointer, or a name that ends with a zero and lives until the call returns.
        let base = unsafe { ffi::sqlite3_vfs_find(base_name) };
        if base.is_null() {
            return Err(RegisterError::NoBase);
        }
        let cache = match self.config {
            Some(config) => {
                let cache =
                    Cache::new(config).and_then(|cache| cache.with_scopes(|page: &Page| page.file));
                Some(Arc::new(cache.map_err(RegisterError::Config)?))
            }
            None => None,
        };
        let registry = Registry::new(cache.clone(), self.before_read.0);
        // SQLite keeps both for as long as the process runs.
        let data: &'static Data = Box::leak(Box::new(Data { base, registry }));
        // SAFETY: what SQLite has found is a file system that is registered, and so stays where it
        // is and is only read.
        let vfs = Box::new(over(unsafe { &*base }, name.into_raw(), data));
        // SAFETY: the file system and its name are never freed, and its functions do what SQLite's
        // documentation asks for.
        match unsafe { ffi::sqlite3_vfs_register(Box::into_raw(vfs), 0) } {
            ffi::OK => Ok(Vfs { cache }),
            code => Err(RegisterError::Refused(code)),
        }
    }
}

/// A file system that is registered. Dropping this does not take it back.
#[derive(Debug, Clone)]
pub struct Vfs {
    cache: Option<Arc<Cache<Page>>>,
}

impl Vfs {
    /// The cache: for its figures, its capacity and a [`Maintainer`](zcache::Maintainer).
    #[must_use]
    pub fn cache(&self) -> Option<&Arc<Cache<Page>>> {
        self.cache.as_ref()
    }
}

/// Why [`Options::register`] has made no file system.
#[derive(Debug)]
#[non_exhaustive]
pub enum RegisterError {
    /// A name with a zero byte.
    Name,
    /// There is a file system of this name.
    Taken,
    /// There is none of the name of the one below.
    NoBase,
    /// The cache's settings.
    Config(ConfigError),
    /// SQLite has refused it, with this code.
    Refused(i32),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("a name of a file system has no zero bytes"),
            Self::Taken => f.write_str("a file system of this name is registered already"),
            Self::NoBase => f.write_str("no file system of the name of the one below"),
            Self::Config(error) => error.fmt(f),
            Self::Refused(code) => write!(f, "SQLite has refused the file system: {code}"),
        }
    }
}

impl Error for RegisterError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        if let Self::Config(error) = self { Some(error) } else { None }
    }
}

/// What a file system of ours points to.
pub(crate) struct Data {
    pub(crate) base: *mut ffi::Vfs,
    pub(crate) registry: Registry,
}

fn over(base: &ffi::Vfs, name: *const c_char, data: &'static Data) -> ffi::Vfs {
    ffi::Vfs {
        version: base.version.min(2),
        file_size: file::HEAD as c_int + base.file_size,
        max_path: base.max_path,
        next: ptr::null_mut(),
        name,
        data: ptr::from_ref(data).cast_mut().cast(),
        open,
        delete,
        access,
        full_path,
        dl_open: base.dl_open.and(Some(dl_open)),
        dl_error: base.dl_error.and(Some(dl_error)),
        dl_symbol: base.dl_symbol.and(Some(dl_symbol)),
        dl_close: base.dl_close.and(Some(dl_close)),
        randomness,
        sleep,
        time,
        last_error: base.last_error.and(Some(last_error)),
        // A file system of version 1 ends before this field.
        time_int64: if base.version >= 2 { base.time_int64.and(Some(time_int64)) } else { None },
    }
}

/// # Safety
/// `vfs` is one that [`over`] has made.
unsafe fn data(vfs: *mut ffi::Vfs) -> &'static Data {
    // SAFETY: the caller's promise.
    let data = unsafe { (*vfs).data };
    // SAFETY: `over` has set it to a `Data` that is never freed.
    unsafe { &*data.cast::<Data>() }
}

/// # Safety
/// As [`data`].
unsafe fn base(vfs: *mut ffi::Vfs) -> (*mut ffi::Vfs, &'static ffi::Vfs) {
    // SAFETY: the caller's promise.
    let base = unsafe { data(vfs) }.base;
    // SAFETY: it was found when ours was registered, and whoever unregisters a file system that
    // another one stands on breaks SQLite's rules.
    (base, unsafe { &*base })
}

/// Defines functions that pass their arguments on to the file system below.
macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?: $found:expr;)*) => {$(
        unsafe extern "C" fn $name(vfs: *mut ffi::Vfs, $($argument: $kind),*) $(-> $result)? {
            // SAFETY: SQLite calls it with the file system that has it.
            let (base, functions) = unsafe { base(vfs) };
            let function = $found(functions);
            // SAFETY: SQLite's arguments, for the function that they are meant for.
            unsafe { function(base, $($argument),*) }
        }
    )*};
}

/// A function that the file system below is known to have: ours has it only then.
fn had<F: Copy>(function: Option<F>) -> F {
    function.expect("asked when this file system was made")
}

pass_on! {
    delete(name: *const c_char, sync: c_int) -> c_int: |vfs: &ffi::Vfs| vfs.delete;
    access(name: *const c_char, flags: c_int, to: *mut c_int) -> c_int:
        |vfs: &ffi::Vfs| vfs.access;
    full_path(name: *const c_char, len: c_int, to: *mut c_char) -> c_int:
        |vfs: &ffi::Vfs| vfs.full_path;
    dl_open(name: *const c_char) -> *mut c_void: |vfs: &ffi::Vfs| had(vfs.dl_open);
    dl_error(len: c_int, to: *mut c_char): |vfs: &ffi::Vfs| had(vfs.dl_error);
    dl_symbol(library: *mut c_void, name: *const c_char) -> Option<unsafe extern "C" fn()>:
        |vfs: &ffi::Vfs| had(vfs.dl_symbol);
    dl_close(library: *mut c_void): |vfs: &ffi::Vfs| had(vfs.dl_close);
    randomness(len: c_int, to: *mut c_char) -> c_int: |vfs: &ffi::Vfs| vfs.randomness;
    sleep(micros: c_int) -> c_int: |vfs: &ffi::Vfs| vfs.sleep;
    time(to: *mut f64) -> c_int: |vfs: &ffi::Vfs| vfs.time;
    last_error(len: c_int, to: *mut c_char) -> c_int: |vfs: &ffi::Vfs| had(vfs.last_error);
    time_int64(to: *mut i64) -> c_int: |vfs: &ffi::Vfs| had(vfs.time_int64);
}

unsafe extern "C" fn open(
    vfs: *mut ffi::Vfs,
    name: *const c_char,
    file: *mut ffi::File,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite calls it with the file system that has it.
    let (base, functions) = unsafe { base(vfs) };
    if flags & ffi::OPEN_MAIN_DB == 0 {
        // Journals and temporary files: the file is the other file system's alone.
        // SAFETY: SQLite's arguments; there is more room for the file than the other one asks for.
        return unsafe { (functions.open)(base, name, file, flags, out) };
    }
    // SAFETY: `file` has room for our head and a file of the other file system behind it.
    let below = unsafe { file::below(file) };
    // SAFETY: as above, and `below` has all the room that the other file system asks for.
    let code = unsafe { (functions.open)(base, name, below, flags, out) };
    if code != ffi::OK {
        // SAFETY: the room is there, and SQLite looks at this field even where opening has failed.
        unsafe { file::refuse(file) };
        return code;
    }
    // SAFETY: a name that is not null ends with a zero.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
    // SAFETY: as above.
    let registry = &unsafe { data(vfs) }.registry;
    // SAFETY: the room is there, and the file below was opened.
    unsafe { file::make(file, registry, registry.pages(name)) };
    ffi::OK
}
