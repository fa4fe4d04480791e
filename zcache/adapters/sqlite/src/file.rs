//! A database file: our head, and behind it the file of the file system below.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::ptr;
use std::slice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::ffi::{self, Methods};
use crate::pages::{COUNTER, COUNTER_AT, Checkpoint, Handle, Pages, Read};
use crate::registry::Registry;

/// SQLite knows its first field only.
#[repr(C)]
struct Ours {
    file: ffi::File,
    /// Made by `make`, and dropped by `close`.
    open: ManuallyDrop<Box<Open>>,
}

/// Bytes in front of the file below. SQLite gives memory that is aligned to 8 bytes.
pub(crate) const HEAD: usize = size_of::<Ours>().next_multiple_of(8);

const _: () = assert!(align_of::<Ours>() <= 8);

struct Open {
    below: *mut ffi::File,
    methods: &'static Methods,
    registry: &'static Registry,
    /// `None`: it is not cached.
    pages: Option<Arc<Pages>>,
    handle: Handle,
    /// The first region of the index of the WAL, while it is mapped; else null.
    index: *const AtomicU32,
}

/// Where the file below is.
///
/// # Safety
/// `file` has room for [`HEAD`] bytes and such a file.
pub(crate) unsafe fn below(file: *mut ffi::File) -> *mut ffi::File {
    // SAFETY: the caller's promise.
    unsafe { file.byte_add(HEAD) }
}

/// Says that the file was not opened.
///
/// # Safety
/// As for [`below`], and the file system below has tried to open its file there.
pub(crate) unsafe fn refuse(file: *mut ffi::File) {
    // SAFETY: the caller's promise.
    let below = unsafe { below(file) };
    // SAFETY: whoever fails to open a file sets this field, to null or to what is to be closed.
    let methods = unsafe { (*below).methods };
    // SAFETY: null, or the constants of a file system.
    if let Some(methods) = unsafe { methods.as_ref() } {
        // SAFETY: it is there, so closing is asked for.
        unsafe { (methods.close)(below) };
    }
    // SAFETY: the room is there.
    unsafe { (*file).methods = ptr::null() };
}

/// Makes the head of a file.
///
/// # Safety
/// As for [`below`], and the file below was opened.
pub(crate) unsafe fn make(
    file: *mut ffi::File,
    registry: &'static Registry,
    pages: Option<Arc<Pages>>,
) {
    // SAFETY: the caller's promise.
    let below = unsafe { below(file) };
    // SAFETY: it was opened, so it has methods.
    let methods = unsafe { (*below).methods };
    // SAFETY: they are constants of its file system. Whatever their version, SQLite's header has
    // had all the fields since 2010.
    let methods: &'static Methods = unsafe { &*methods };
    let handle = Handle::default();
    let open = Box::new(Open { below, methods, registry, pages, handle, index: ptr::null() });
    let file_methods = if methods.version >= 2 { &WITH_INDEX } else { &WITHOUT_INDEX };
    let ours = Ours { file: ffi::File { methods: file_methods }, open: ManuallyDrop::new(open) };
    // SAFETY: `HEAD` bytes are there, aligned to 8, and nothing that would have to be dropped.
    unsafe { file.cast::<Ours>().write(ours) };
}

/// # Safety
/// SQLite has called a method of ours with `file`, and uses one file in one thread at a time.
unsafe fn opened<'f>(file: *mut ffi::File) -> &'f mut Open {
    // SAFETY: the file has our methods, so `make` has written the head, and `close` did not run
    // yet.
    unsafe { &mut (*file.cast::<Ours>()).open }
}

impl Open {
    /// Reads from the file below.
    fn read_below(&self, to: &mut [u8], offset: u64) -> c_int {
        if let Some(before) = &self.registry.before_read {
            before();
        }
        self.read_quietly(to, offset)
    }

    fn read_quietly(&self, to: &mut [u8], offset: u64) -> c_int {
        let (len, offset) = (to.len() as c_int, offset as i64);
        // SAFETY: the file below is open, and `to` has `len` bytes.
        unsafe { (self.methods.read)(self.below, to.as_mut_ptr().cast(), len, offset) }
    }

    /// What the index of the WAL says of checkpoints.
    fn checkpoint(&self) -> Option<Checkpoint> {
        // The number of frames that are back in the file, and the salts of the header's second
        // copy. Whoever starts the WAL anew writes the second copy first, then the first, then the
        // number: in the other order here, a number of 0 is never seen with the salts of a former
        // WAL.
        const WORDS: [usize; 3] = [96 / 4, (48 + 32) / 4, (48 + 36) / 4];
        let word = |at: usize| {
            // SAFETY: the index is mapped, and its first region has 32 KiB.
            let word = unsafe { self.index.add(at) };
            // SAFETY: as above, and aligned to words. SQLite reads these words, and writes them in
            // other processes, with accesses of this size: it relies on their being atomic, too.
            unsafe { &*word }.load(Ordering::Acquire)
        };
        (!self.index.is_null()).then(|| WORDS.map(word))
    }

    fn read(&mut self, to: &mut [u8], offset: u64) -> c_int {
        let Some(pages) = self.pages.clone() else { return self.read_below(to, offset) };
        if offset == COUNTER_AT && to.len() == COUNTER {
            // SQLite compares the counter after a shared lock: so do we.
            let code = self.read_below(to, offset);
            if let (ffi::OK, Ok(counter)) = (code, to[..].try_into()) {
                pages.compared(&mut self.handle, counter);
            }
            return code;
        }
        if !pages.is_candidate(offset, to.len()) {
            return self.read_below(to, offset);
        }
        let checkpoint = self.checkpoint();
        let mut handle = std::mem::take(&mut self.handle);
        let is_usable = pages.renewed(&mut handle, checkpoint, || {
            let mut counter = [0; COUNTER];
            (self.read_below(&mut counter, COUNTER_AT) == ffi::OK).then_some(counter)
        });
        self.handle = handle;
        if !is_usable {
            return self.read_below(to, offset);
        }
        match pages.read(offset, to) {
            Read::Done => ffi::OK,
            Read::Bypass => self.read_below(to, offset),
            Read::Load(lease) => {
                let code = self.read_below(to, offset);
                // Also where the file has ended: such a page is not stored.
                if code == ffi::OK {
                    pages.loaded(lease, to);
                }
                code
            }
        }
    }
}

unsafe extern "C" fn close(file: *mut ffi::File) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    if let Some(pages) = &open.pages {
        pages.unmapped(&mut open.handle);
    }
    // SAFETY: the file below is open, and nobody uses it from here on.
    let code = unsafe { (open.methods.close)(open.below) };
    // SAFETY: the file has our methods, so `make` has written the head.
    let ours = unsafe { &mut *file.cast::<Ours>() };
    // SAFETY: SQLite closes a file once, and calls no other method after.
    unsafe { ManuallyDrop::drop(&mut ours.open) };
    code
}

unsafe extern "C" fn read(file: *mut ffi::File, to: *mut c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    let (Ok(len), Ok(offset)) = (usize::try_from(len), u64::try_from(at)) else {
        return ffi::ERROR;
    };
    // SAFETY: SQLite's buffer has `len` bytes, and nobody else uses it meanwhile. All that is ever
    // done with it before it is filled is writing: bytes that nobody has set are not read.
    let to = unsafe { slice::from_raw_parts_mut(to.cast::<u8>(), len) };
    open.read(to, offset)
}

unsafe extern "C" fn write(
    file: *mut ffi::File,
    from: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    // SAFETY: SQLite's arguments, for the file below.
    let code = unsafe { (open.methods.write)(open.below, from, len, at) };
    if let (Some(pages), Ok(len), Ok(at)) = (&open.pages, usize::try_from(len), u64::try_from(at)) {
        // SAFETY: SQLite's buffer has `len` bytes, which nobody writes meanwhile.
        let data = unsafe { slice::from_raw_parts(from.cast::<u8>(), len) };
        pages.written(&open.handle, at, len, (code == ffi::OK).then_some(data));
    }
    code
}

unsafe extern "C" fn truncate(file: *mut ffi::File, len: i64) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    let mut before = i64::MAX;
    // SAFETY: the file below is open, and `before` lives until the call returns.
    let sized = unsafe { (open.methods.size)(open.below, &mut before) };
    // SAFETY: SQLite's arguments, for the file below.
    let code = unsafe { (open.methods.truncate)(open.below, len) };
    if let (Some(pages), Ok(end)) = (&open.pages, u64::try_from(len)) {
        // A checkpoint sets the length that there is.
        if sized != ffi::OK || before > len {
            pages.cut(end);
        }
    }
    code
}

unsafe extern "C" fn lock(file: *mut ffi::File, level: c_int) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    // SAFETY: SQLite's arguments, for the file below.
    let code = unsafe { (open.methods.lock)(open.below, level) };
    if level == ffi::LOCK_SHARED {
        open.handle.is_compared = false;
    }
    code
}

unsafe extern "C" fn unlock(file: *mut ffi::File, level: c_int) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    if level < ffi::LOCK_SHARED {
        open.handle.is_compared = false;
    }
    // SAFETY: SQLite's arguments, for the file below.
    unsafe { (open.methods.unlock)(open.below, level) }
}

unsafe extern "C" fn traits(file: *mut ffi::File) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    // SAFETY: the file below is open.
    let traits = unsafe { (open.methods.traits)(open.below) };
    // Writes that can be taken back as a group would be in the cache before they are in the file.
    traits & !ffi::IOCAP_BATCH_ATOMIC
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::File,
    region: c_int,
    size: c_int,
    extend: c_int,
    to: *mut *mut c_void,
) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    let Some(map) = open.methods.shm_map else { return ffi::ERROR };
    // SAFETY: SQLite's arguments, for the file below.
    let code = unsafe { map(open.below, region, size, extend, to) };
    // SAFETY: it points to a variable of SQLite's, which the call has set.
    let found = unsafe { *to };
    if region == 0 && code == ffi::OK && !found.is_null() {
        open.index = found.cast();
        if let Some(pages) = &open.pages {
            pages.mapped(&mut open.handle);
        }
    }
    code
}

/// The lock of a checkpoint in the index of the WAL.
const CHECKPOINTS: c_int = 1;

/// The first of the locks of readers that use the WAL. Whoever starts it anew has all four, and
/// whoever else has this one exclusively has it alone.
const READERS: c_int = 4;

/// Whether an exclusive lock is one under which nobody else changes the file: see the head of
/// `pages.rs`.
fn is_alone(first: c_int, n: c_int) -> bool {
    (first..first + n).contains(&CHECKPOINTS) || (first == READERS && n > 1)
}

unsafe extern "C" fn shm_lock(file: *mut ffi::File, first: c_int, n: c_int, flags: c_int) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    let Some(lock) = open.methods.shm_lock else { return ffi::ERROR };
    let concerned = flags & ffi::SHM_EXCLUSIVE != 0 && is_alone(first, n);
    let unlocks = flags & ffi::SHM_UNLOCK != 0;
    if concerned && unlocks {
        let now = open.checkpoint();
        if let Some(pages) = &open.pages {
            pages.unlocks(&mut open.handle, now);
        }
    }
    // SAFETY: SQLite's arguments, for the file below.
    let code = unsafe { lock(open.below, first, n, flags) };
    if concerned && !unlocks && code == ffi::OK {
        let now = open.checkpoint();
        if let Some(pages) = &open.pages {
            pages.locked(&mut open.handle, now);
        }
    }
    code
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::File) {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    if let Some(barrier) = open.methods.shm_barrier {
        // SAFETY: the file below is open.
        unsafe { barrier(open.below) }
    }
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::File, delete: c_int) -> c_int {
    // SAFETY: a method of ours, called with its file.
    let open = unsafe { opened(file) };
    open.index = ptr::null();
    if let Some(pages) = &open.pages {
        pages.unmapped(&mut open.handle);
    }
    let Some(unmap) = open.methods.shm_unmap else { return ffi::ERROR };
    // SAFETY: SQLite's arguments, for the file below.
    unsafe { unmap(open.below, delete) }
}

/// Defines methods that pass their arguments on to the file below.
macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::File, $($argument: $kind),*) -> c_int {
            // SAFETY: a method of ours, called with its file.
            let open = unsafe { opened(file) };
            // SAFETY: SQLite's arguments, for the method that they are meant for.
            unsafe { (open.methods.$name)(open.below, $($argument),*) }
        }
    )*};
}

pass_on! {
    sync(flags: c_int);
    size(to: *mut i64);
    check_reserved(to: *mut c_int);
    control(what: c_int, argument: *mut c_void);
    sector();
}

/// Methods of a file that has no index of a WAL.
static WITHOUT_INDEX: Methods = Methods {
    version: 1,
    close,
    read,
    write,
    truncate,
    sync,
    size,
    lock,
    unlock,
    check_reserved,
    control,
    sector,
    traits,
    shm_map: None,
    shm_lock: None,
    shm_barrier: None,
    shm_unmap: None,
};

/// Methods of a file that may have one. There is no version 3: what is mapped into memory would be
/// read beside the cache.
static WITH_INDEX: Methods = Methods {
    version: 2,
    shm_map: Some(shm_map),
    shm_lock: Some(shm_lock),
    shm_barrier: Some(shm_barrier),
    shm_unmap: Some(shm_unmap),
    ..WITHOUT_INDEX
};
