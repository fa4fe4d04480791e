//! Codecs on real pages: what they give back, and what they make of payloads that are none.
#![cfg(not(zcache_loom))]

use tests::corpus::{self, PageFile};
use tests::pattern::{self, Random};
use zcache::codec::{Codec, Context, Corrupt, Dictionary, Lz4, Zstd, looks_incompressible};

/// The sample, and the shared files where they are: every `nth` page of each.
fn pages(nth: usize) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut files = vec![corpus::sample()];
    let shared = corpus::shared_files();
    files.extend(shared.iter().map(|path| PageFile::read(path, None).expect("a page file")));
    let some = |file: &PageFile| file.pages().step_by(nth).map(<[u8]>::to_vec).collect();
    files.iter().map(|file| (file.name().to_owned(), some(file))).collect()
}

fn zstd() -> Zstd {
    Zstd::level(3).expect("a level")
}

fn codecs() -> Vec<Box<dyn Codec>> {
    let samples: Vec<Vec<u8>> = corpus::sample().pages().step_by(3).map(<[u8]>::to_vec).collect();
    let dictionary = Dictionary::train(&samples, 16 << 10).expect("enough samples");
    let raw = Dictionary::new(&samples[0]);
    vec![
        Box::new(Lz4),
        Box::new(zstd()),
        Box::new(Zstd::level(-5).expect("a level")),
        Box::new(zstd().with_dictionary(&dictionary)),
        Box::new(zstd().with_dictionary(&raw)),
    ]
}

/// Decodes as the cache does.
fn decode(
    codec: &dyn Codec,
    context: &mut dyn Context,
    payload: &[u8],
    page: &mut [u8],
) -> Result<(), Corrupt> {
    codec.decode(payload, page).unwrap_or_else(|| context.decompress(payload, page))
}

#[test]
fn pages_come_back_whatever_was_in_the_buffer() {
    for codec in codecs() {
        let mut context = codec.context(128 << 10).expect("a context");
        let odd = [0, 1, 2, 13, 511, 65_536, 131_072].map(|len| {
            let mut page = pattern::bytes(len as u64, len);
            page[..len / 2].fill(7);
            page
        });
        let files = pages(37);
        for page in files.iter().flat_map(|(_, pages)| pages).chain(&odd) {
            let mut to = vec![0; page.len() * 2 + 64];
            let len = context.compress(page, &mut to).expect("room for anything");
            let payload = &to[..len];
            for filler in [0, 0xff] {
                let mut read = vec![filler; page.len()];
                let decoded = decode(&*codec, &mut *context, payload, &mut read);
                assert_eq!(decoded, Ok(()), "{}", codec.name());
                assert!(read == *page, "{}", codec.name());
                let mut wrong = vec![filler; page.len() + 1];
                let decoded = decode(&*codec, &mut *context, payload, &mut wrong);
                assert_eq!(decoded, Err(Corrupt), "{} bytes more", codec.name());
                for prefix in [1, 100, page.len() / 3] {
                    let mut start = vec![filler; prefix.min(page.len())];
                    if let Some(decoded) = codec.decode_prefix(payload, page.len(), &mut start) {
                        assert_eq!(decoded, Ok(()));
                        assert!(start == page[..start.len()]);
                    }
                }
            }
            if len > 0 {
                let short = context.compress(page, &mut to[..len - 1]);
                assert!(short.is_none_or(|short| short < len), "{}", codec.name());
            }
        }
    }
}

#[test]
fn payloads_that_are_none_are_errors_or_pages() {
    let sample = corpus::sample();
    for codec in codecs() {
        let mut context = codec.context(16 << 10).expect("a context");
        for page in sample.pages().step_by(500) {
            let mut to = vec![0; 20_000];
            let len = context.compress(page, &mut to).expect("room for anything");
            let payload = to[..len].to_vec();
            let mut read = vec![0; page.len()];
            for cut in 0..len {
                let decoded = decode(&*codec, &mut *context, &payload[..cut], &mut read);
                assert_eq!(decoded, Err(Corrupt), "{} cut at {cut} of {len}", codec.name());
                let _ = codec.decode_prefix(&payload[..cut], page.len(), &mut read[..700]);
            }
            for bit in 0..len * 8 {
                let mut flipped = payload.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let _ = decode(&*codec, &mut *context, &flipped, &mut read);
                let _ = codec.decode_prefix(&flipped, page.len(), &mut read[..700]);
            }
            let mut random = Random::new(7);
            for len in 0..2000 {
                let garbage = pattern::bytes(random.bits(), len);
                let _ = decode(&*codec, &mut *context, &garbage, &mut read);
                let _ = codec.decode_prefix(&garbage, page.len(), &mut read[..700]);
            }
            // After all that the context still works.
            assert_eq!(decode(&*codec, &mut *context, &payload, &mut read), Ok(()));
            assert!(read == page);
        }
    }
}

#[test]
fn a_dictionary_pays_on_pages_it_was_not_trained_on() {
    let pages: Vec<Vec<u8>> = corpus::sample().pages().map(<[u8]>::to_vec).collect();
    let (train, held_out): (Vec<_>, Vec<_>) =
        pages.chunks(64).enumerate().partition(|(n, _)| n % 2 == 0);
    let train: Vec<&Vec<u8>> = train.into_iter().flat_map(|(_, pages)| pages).collect();
    let dictionary = Dictionary::train(&train, 32 << 10).expect("enough samples");
    let sum = |codec: &Zstd| -> usize {
        let mut context = codec.context(8192).expect("a context");
        let mut to = vec![0; 20_000];
        let pages = held_out.iter().flat_map(|(_, pages)| *pages);
        pages.map(|page| context.compress(page, &mut to).expect("room for anything")).sum()
    };
    let (without, with) = (sum(&zstd()), sum(&zstd().with_dictionary(&dictionary)));
    assert!(with * 100 < without * 95, "{with} with, {without} without");
}

#[test]
fn training_on_too_little_is_an_error_and_so_are_levels_that_are_none() {
    assert!(Dictionary::train(&[[1_u8; 10]], 1000).is_err());
    assert!(Dictionary::train::<Vec<u8>>(&[], 1000).is_err());
    for level in [0, 23, -8, i32::MAX] {
        assert_eq!(Zstd::level(level).expect_err("no level").0, level);
    }
}

#[test]
fn random_pages_are_told_from_those_that_shrink() {
    let mut random = Random::new(3);
    let noise: Vec<Vec<u8>> = (0..2000).map(|_| pattern::bytes(random.bits(), 4096)).collect();
    let missed = noise.iter().filter(|page| !looks_incompressible(page)).count();
    assert!(missed <= 10, "{missed} random pages of {}", noise.len());
    let mut context = Lz4.context(64 << 10).expect("a context");
    for (name, pages) in pages(1) {
        let mut to = vec![0; 70_000];
        let shrinks =
            |page: &[u8], to: &mut [u8]| context.compress(page, &mut to[..page.len() * 7 / 8]);
        let mut wrong = 0;
        let mut shrunk = 0;
        let mut shrinks = shrinks;
        for page in &pages {
            if shrinks(page, &mut to).is_some() {
                shrunk += 1;
                wrong += usize::from(looks_incompressible(page));
            }
        }
        assert!(wrong * 1000 <= shrunk, "{name}: {wrong} of {shrunk} pages that LZ4 shrinks");
    }
}
