//! What a codec's contexts hold, asked of the C library that holds it. The figures are those of a
//! whole process, so the test runs in one of its own: where tests run one at a time, no other
//! thread allocates.
#![cfg(all(not(zcache_loom), target_os = "linux", target_env = "gnu"))]

use tests::corpus;
use tests::pattern::{self, Random};
use zcache::codec::{Codec, Context, Dictionary, Lz4, Plain, Zstd};

/// Bytes that the C library has given out and not got back, its own headers counted.
fn held() -> usize {
    // SAFETY: it takes nothing, and changes nothing.
    let info = unsafe { libc::mallinfo2() };
    info.uordblks + info.hblkhd
}

/// Has blocks up to 32 MiB come from the heap, where they cost what they take and not whole pages.
fn keep_blocks_on_the_heap() {
    // SAFETY: a setting, made before there is a second thread that allocates.
    let set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20) };
    assert_eq!(set, 1);
}

fn codecs() -> Vec<Box<dyn Codec>> {
    let sample = corpus::sample();
    let samples: Vec<&[u8]> = sample.pages().step_by(3).collect();
    let small = Dictionary::train(&samples, 4 << 10).expect("enough samples");
    let large = Dictionary::train(&samples, 64 << 10).expect("enough samples");
    let mut codecs: Vec<Box<dyn Codec>> = vec![Box::new(Lz4), Box::new(Plain)];
    for level in [-7, 1, 3, 9, 15, 19] {
        let zstd = Zstd::level(level).expect("a level");
        codecs.push(Box::new(zstd.clone().with_dictionary(&small)));
        codecs.push(Box::new(zstd.clone().with_dictionary(&large)));
        codecs.push(Box::new(zstd));
    }
    codecs
}

/// Whatever pages there are to work on, a context takes nothing and gives nothing back: holes in
/// the C library's heaps would be memory that nobody counts.
fn hold_still(context: &mut dyn Context, max_page: usize, bytes: &[u8], name: &str) {
    let (mut random, mut to) = (Random::new(max_page as u64), vec![0; max_page + 512]);
    let before = held();
    for round in 0..240 {
        // Many are short, some as long as they may be; now and then all are short for a while.
        let most = if round % 120 < 60 { max_page >> (round % 7) } else { max_page >> 4 };
        let halvings = random.below(8);
        let len = if round % 5 == 0 { most } else { 1 + random.below((most >> halvings).max(1)) };
        let _ = context.compress(&bytes[bytes.len() - len..], &mut to);
        assert_eq!(held(), before, "{name}, pages of {max_page}: {len} bytes are page {round}");
    }
}

#[test]
fn contexts_hold_what_they_say_and_hardly_less() {
    let name = "contexts_hold_what_they_say_and_hardly_less";
    tests::limits::in_child(name, hold_what_they_say);
}

fn hold_what_they_say() {
    keep_blocks_on_the_heap();
    let mut bytes = pattern::bytes(1, 64 << 10);
    let sample = corpus::sample();
    let real = sample.pages().flatten();
    bytes[16 << 10..].iter_mut().zip(real).for_each(|(byte, real)| *byte = *real);
    let (mut to, mut read) = (vec![0; 128 << 10], vec![0; 64 << 10]);
    for codec in codecs() {
        for max_page in [4 << 10, 12 << 10, 16 << 10, 64 << 10] {
            let (name, bound) = (codec.name().into_owned(), codec.context_bytes(max_page));
            let mut lens: Vec<usize> = (0..=max_page.ilog2()).map(|log| 1 << log).collect();
            lens.extend((0..5).map(|n| max_page * (n + 1) / 5));
            lens.extend([8193, 16_385, 32_769, 0, 4096]);
            let before = held();
            let mut context = codec.context(max_page).expect("a context");
            let mut most = held() - before;
            for len in lens.into_iter().filter(|len| *len <= max_page) {
                for page in [&bytes[..len], &bytes[bytes.len() - len..]] {
                    if let Some(packed) = context.compress(page, &mut to) {
                        let _ = context.decompress(&to[..packed], &mut read[..len]);
                    }
                    most = most.max(held() - before);
                }
            }
            assert!(most <= bound, "{name}, pages of {max_page}: {most} bytes, said {bound}");
            if max_page.is_power_of_two() {
                let near = bound - bound / 20;
                assert!(most >= near, "{name}, pages of {max_page}: {most} bytes, said {bound}");
            }
            hold_still(&mut *context, max_page, &bytes, &name);
            drop(context);
            // The C library's thread cache keeps small blocks and counts them as given out.
            assert!(held() <= before + 1024, "{name}, pages of {max_page}: not all came back");
        }
    }
}
