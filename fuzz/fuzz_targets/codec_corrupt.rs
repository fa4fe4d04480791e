//! Any bytes as a payload for a page of any length: an error or a page, the same whatever was in
//! the buffer, without a panic, an overrun, or an allocation by a length that is claimed.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use tests::alloc::Watched;
use tests::codec_checks::{LONGEST, Subject, subjects};

#[global_allocator]
static WATCHED: Watched = Watched;

static SUBJECTS: LazyLock<Mutex<Vec<Subject>>> = LazyLock::new(|| Mutex::new(subjects()));

// Which codec, the length that is claimed, the payload.
fuzz_target!(|bytes: &[u8]| {
    let Some((&[subject, len @ ..], payload)) = bytes.split_first_chunk::<4>() else { return };
    let len = u32::from_le_bytes([len[0], len[1], len[2], 0]) as usize % (LONGEST + 1);
    let mut subjects = SUBJECTS.lock().expect("no panic is survived here");
    let subject = usize::from(subject) % subjects.len();
    let _ = subjects[subject].decode_anything(payload, len);
});
