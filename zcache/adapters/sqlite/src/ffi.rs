//! SQLite's interface for virtual file systems, as its documentation gives it: "The OS Interface Or
//! VFS", `sqlite3_vfs` and `sqlite3_io_methods`. Layouts only grow at their ends.
//!
//! Declared here, so that this package works with any SQLite that the program links, by whatever
//! other package.

use std::ffi::{c_char, c_int, c_void};

pub(crate) const OK: c_int = 0;
pub(crate) const ERROR: c_int = 1;

/// A flag of `xOpen`: the main file of a database.
pub(crate) const OPEN_MAIN_DB: c_int = 0x100;

/// The level of a lock of the file: `SQLITE_LOCK_SHARED`.
pub(crate) const LOCK_SHARED: c_int = 1;

pub(crate) const SHM_UNLOCK: c_int = 1;
pub(crate) const SHM_EXCLUSIVE: c_int = 8;

/// A bit of `xDeviceCharacteristics`: groups of writes can be taken back.
pub(crate) const IOCAP_BATCH_ATOMIC: c_int = 0x4000;

/// An open file: SQLite knows its first field only.
#[repr(C)]
pub(crate) struct File {
    pub(crate) methods: *const Methods,
}

type Simple = unsafe extern "C" fn(*mut File, c_int) -> c_int;

/// What a file can do.
#[repr(C)]
pub(crate) struct Methods {
    pub(crate) version: c_int,
    pub(crate) close: unsafe extern "C" fn(*mut File) -> c_int,
    pub(crate) read: unsafe extern "C" fn(*mut File, *mut c_void, c_int, i64) -> c_int,
    pub(crate) write: unsafe extern "C" fn(*mut File, *const c_void, c_int, i64) -> c_int,
    pub(crate) truncate: unsafe extern "C" fn(*mut File, i64) -> c_int,
    pub(crate) sync: Simple,
    pub(crate) size: unsafe extern "C" fn(*mut File, *mut i64) -> c_int,
    pub(crate) lock: Simple,
    pub(crate) unlock: Simple,
    pub(crate) check_reserved: unsafe extern "C" fn(*mut File, *mut c_int) -> c_int,
    pub(crate) control: unsafe extern "C" fn(*mut File, c_int, *mut c_void) -> c_int,
    pub(crate) sector: unsafe extern "C" fn(*mut File) -> c_int,
    pub(crate) traits: unsafe extern "C" fn(*mut File) -> c_int,
    // Version 2. Files of version 1 may have none of them.
    pub(crate) shm_map:
        Option<unsafe extern "C" fn(*mut File, c_int, c_int, c_int, *mut *mut c_void) -> c_int>,
    pub(crate) shm_lock: Option<unsafe extern "C" fn(*mut File, c_int, c_int, c_int) -> c_int>,
    pub(crate) shm_barrier: Option<unsafe extern "C" fn(*mut File)>,
    pub(crate) shm_unmap: Option<Simple>,
}

type Symbol = Option<unsafe extern "C" fn()>;

/// A virtual file system.
#[repr(C)]
pub(crate) struct Vfs {
    pub(crate) version: c_int,
    pub(crate) file_size: c_int,
    pub(crate) max_path: c_int,
    pub(crate) next: *mut Vfs,
    pub(crate) name: *const c_char,
    pub(crate) data: *mut c_void,
    pub(crate) open:
        unsafe extern "C" fn(*mut Vfs, *const c_char, *mut File, c_int, *mut c_int) -> c_int,
    pub(crate) delete: unsafe extern "C" fn(*mut Vfs, *const c_char, c_int) -> c_int,
    pub(crate) access: unsafe extern "C" fn(*mut Vfs, *const c_char, c_int, *mut c_int) -> c_int,
    pub(crate) full_path:
        unsafe extern "C" fn(*mut Vfs, *const c_char, c_int, *mut c_char) -> c_int,
    // Builds without extensions have none of these four.
    pub(crate) dl_open: Option<unsafe extern "C" fn(*mut Vfs, *const c_char) -> *mut c_void>,
    pub(crate) dl_error: Option<unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char)>,
    pub(crate) dl_symbol:
        Option<unsafe extern "C" fn(*mut Vfs, *mut c_void, *const c_char) -> Symbol>,
    pub(crate) dl_close: Option<unsafe extern "C" fn(*mut Vfs, *mut c_void)>,
    pub(crate) randomness: unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char) -> c_int,
    pub(crate) sleep: unsafe extern "C" fn(*mut Vfs, c_int) -> c_int,
    pub(crate) time: unsafe extern "C" fn(*mut Vfs, *mut f64) -> c_int,
    pub(crate) last_error: Option<unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char) -> c_int>,
    // Version 2.
    pub(crate) time_int64: Option<unsafe extern "C" fn(*mut Vfs, *mut i64) -> c_int>,
}

unsafe extern "C" {
    /// The file system of a name, or the default one for a null pointer.
    pub(crate) fn sqlite3_vfs_find(name: *const c_char) -> *mut Vfs;
    /// Makes a file system known, as the default one or beside it.
    pub(crate) fn sqlite3_vfs_register(vfs: *mut Vfs, default: c_int) -> c_int;
}
