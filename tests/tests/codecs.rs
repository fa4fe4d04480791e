//! Codecs on real pages: what they give back, and what they make of payloads that are none.
#![cfg(not(zcache_loom))]

use tests::corpus::{self, PageFile};
use tests::pattern::{self, Random};
use zcache::codec::{
    BadDictionary, Codec, Context, Corrupt, Dictionary, Lz4, TrainError, Zstd, looks_incompressible,
};

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
    let raw = Dictionary::new(&samples[0]).expect("any bytes");
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
        let odd = [0, 1, 2, 7, 13, 255, 256, 511, 4095, 65_535, 65_536, 131_072].map(|len| {
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

/// Digested once: what a context holds does not grow with the dictionary's clones, and each context
/// reads what any other wrote.
#[test]
fn contexts_share_a_dictionary() {
    let sample = corpus::sample();
    let pages: Vec<&[u8]> = sample.pages().take(256).collect();
    let dictionary = Dictionary::train(&pages, 64 << 10).expect("enough samples");
    let plain = zstd();
    let codec = zstd().with_dictionary(&dictionary);
    assert_eq!((plain.shared_bytes(), &*plain.name()), (0, "zstd:3"));
    assert_eq!(&*codec.name(), "zstd:3+dict");
    // Both sides hold the bytes; the encoder has tables over them.
    assert!(codec.shared_bytes() >= 2 * dictionary.as_bytes().len());
    let write = |page: &&[u8]| {
        let mut to = vec![0; 20_000];
        let mut context = codec.context(8192).expect("a context");
        let len = context.compress(page, &mut to).expect("room for anything");
        to.truncate(len);
        to
    };
    let payloads: Vec<Vec<u8>> = pages.iter().step_by(16).map(write).collect();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let clone = codec.clone();
                let mut context = clone.context(8192).expect("a context");
                let mut without = plain.context(8192).expect("a context");
                for (payload, page) in payloads.iter().zip(pages.iter().step_by(16)) {
                    let mut read = vec![0xee; page.len()];
                    assert_eq!(context.decompress(payload, &mut read), Ok(()));
                    assert!(read == *page);
                    let other = without.decompress(payload, &mut read);
                    assert!(other.is_err() || read != *page, "read without its dictionary");
                }
            });
        }
    });
    // A dictionary from its bytes is the same one.
    let again = Dictionary::new(dictionary.as_bytes()).expect("a dictionary");
    let mut context = zstd().with_dictionary(&again).context(8192).expect("a context");
    let mut read = vec![0; pages[0].len()];
    assert_eq!(context.decompress(&payloads[0], &mut read), Ok(()));
    assert!(read == pages[0]);
}

/// What stands in front of a page's blocks is 2 bytes, 3 with a dictionary, and a block's own
/// are 3.
#[test]
fn frames_have_hardly_a_header() {
    let page = pattern::bytes(5, 4096);
    let dictionary = Dictionary::new(b"any bytes that pages have in common").expect("any bytes");
    for (codec, header) in [(zstd(), 2), (zstd().with_dictionary(&dictionary), 3)] {
        let mut context = codec.context(4096).expect("a context");
        let mut to = vec![0; 5000];
        let len = context.compress(&page, &mut to).expect("room for anything");
        assert_eq!(
            len,
            header + 3 + page.len(),
            "{}: a random page is one raw block",
            codec.name()
        );
        // Room that a page which shrinks cannot do with is too little for one that does not.
        assert_eq!(context.compress(&page, &mut to[..4096 * 7 / 8]), None);
        assert_eq!(context.compress(&page, &mut to), Some(len));
    }
}

#[test]
fn training_on_too_little_is_an_error_and_so_are_levels_that_are_none() {
    let error = Dictionary::train(&[[1_u8; 10]], 1000).expect_err("a single sample");
    let message = "1 samples of 10 bytes in all train no dictionary";
    assert!(error.to_string().starts_with(message), "{error}");
    assert!(Dictionary::train::<Vec<u8>>(&[], 1000).is_err());
    // All of one kind: zstd takes them or says no.
    let _ = Dictionary::train(&vec![[0; 4096]; 100], 1000);
    let short = Dictionary::train(&vec![pattern::bytes(1, 4096); 100], 255);
    assert!(matches!(short, Err(TrainError::TooShort(255))));
    let mut bytes = 0xec30_a437_u32.to_le_bytes().to_vec();
    bytes.extend([0xff; 100]);
    assert_eq!(Dictionary::new(&bytes), Err(BadDictionary));
    for raw in [&[][..], &[1], &bytes[1..], &bytes[..4]] {
        let dictionary = Dictionary::new(raw).expect("any bytes");
        let mut context = zstd().with_dictionary(&dictionary).context(100).expect("a context");
        let (mut to, mut read) = ([0; 200], [0; 100]);
        let len = context.compress(&bytes[..100], &mut to).expect("room for anything");
        assert_eq!(context.decompress(&to[..len], &mut read), Ok(()));
        assert_eq!(read, bytes[..100]);
    }
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
    // zstd takes its time, so it gets a few of the pages.
    for (codec, nth) in [(&Lz4 as &dyn Codec, 1), (&zstd(), 8)] {
        let mut context = codec.context(64 << 10).expect("a context");
        let mut to = vec![0; 64 << 10];
        for (name, pages) in pages(nth) {
            let mut shrinks =
                |page: &&Vec<u8>| context.compress(page, &mut to[..page.len() * 7 / 8]).is_some();
            let shrunk = pages.iter().filter(|page| shrinks(page)).count();
            let flagged = pages.iter().filter(|page| looks_incompressible(page));
            let wrong = flagged.filter(|page| shrinks(page)).count();
            // One in a thousand; a single page where there are fewer.
            assert!(wrong <= (shrunk / 1000).max(1), "{name}, {}: {wrong}", codec.name());
        }
    }
}
