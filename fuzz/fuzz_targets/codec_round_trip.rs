//! Any page by every codec comes back as it was, whole and in part, and at no other length.
#![no_main]

use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use tests::alloc::Watched;
use tests::codec_checks::{LONGEST, Subject, subjects};

#[global_allocator]
static WATCHED: Watched = Watched;

static SUBJECTS: LazyLock<Mutex<Vec<Subject>>> = LazyLock::new(|| Mutex::new(subjects()));

// Which codec, how often the bytes are repeated, the room for the payload, the bytes.
fuzz_target!(|bytes: &[u8]| {
    let Some((&[subject, times, room], part)) = bytes.split_first_chunk() else { return };
    let mut subjects = SUBJECTS.lock().expect("no panic is survived here");
    let subject = usize::from(subject) % subjects.len();
    let mut page = part.repeat(1 + usize::from(times));
    page.truncate(LONGEST);
    subjects[subject].round_trip(&page, page.len() * usize::from(room) / 255);
});
