//! How long does each LZ4 engine decode a page? liblz4, which `zcache` has by default, and lz4_flex
//! with the checked decoder, which it has without a C compiler; and the first 512 bytes of a page
//! of 4 KiB, which `zcache` decodes itself. Pages of the sample, and of the shared files where they
//! are; the time is that of one page, and what does not shrink is left out.
#![allow(missing_docs, reason = "criterion's macros make a public function")]

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tests::corpus::{PageFile, sample, shared_files};
use zcache::codec::{Codec, Lz4};

/// Pages of a file, evenly taken: together they fit in the second cache, payloads and all.
const PAGES: usize = 128;
/// Bytes of a prefix, and of the pages that it starts.
const PREFIX: usize = 512;
const PREFIX_OF: usize = 4096;

type Group<'c> = BenchmarkGroup<'c, WallTime>;

fn payloads(file: &PageFile) -> Vec<Vec<u8>> {
    let step = file.pages().len().div_ceil(PAGES);
    let mut context = Lz4.context(file.page_size()).expect("a context");
    let mut to = vec![0; file.page_size() - 1];
    let pages = file.pages().step_by(step);
    pages.filter_map(|page| context.compress(page, &mut to).map(|len| to[..len].to_vec())).collect()
}

/// Times `decode` on one payload after the other.
fn time(group: &mut Group<'_>, row: &str, payloads: &[Vec<u8>], mut decode: impl FnMut(&[u8])) {
    let mut next = payloads.iter().cycle();
    group.bench_function(row, |bencher| {
        bencher.iter(|| decode(black_box(next.next().expect("it goes round"))));
    });
}

fn engines(criterion: &mut Criterion) {
    let named = |file: PageFile| (file.name().to_owned(), file);
    let read = |path| named(PageFile::read(path, None).expect("a page file"));
    let mut files = vec![("sample".to_owned(), sample())];
    files.extend(shared_files().iter().map(|path| read(path)));
    for (name, file) in files {
        let all = payloads(&file);
        if all.is_empty() {
            continue;
        }
        let group = &mut criterion.benchmark_group(format!("lz4_engines/{name}"));
        let mut page = vec![0; file.page_size()];
        time(group, "zcache, liblz4", &all, |payload| {
            assert!(Lz4.decode(payload, &mut page).is_some_and(|read| read.is_ok()));
        });
        time(group, "lz4_flex", &all, |payload| {
            let read = lz4_flex::block::decompress_into(payload, &mut page);
            assert!(read.is_ok_and(|read| read == page.len()));
        });
        let short = file.cut(PREFIX_OF).expect("pages of 4 KiB or more");
        let short = payloads(&short);
        time(group, "whole 4 KiB", &short, |payload| {
            let page = &mut page[..PREFIX_OF];
            assert!(Lz4.decode(payload, page).is_some_and(|read| read.is_ok()));
        });
        time(group, "prefix", &short, |payload| {
            let read = Lz4.decode_prefix(payload, PREFIX_OF, &mut page[..PREFIX]);
            assert!(read.is_some_and(|read| read.is_ok()));
        });
    }
}

/// Many rows, each of them short: seconds a row would be minutes.
fn short_rows() -> Criterion {
    let (warm_up, measure) = (Duration::from_millis(100), Duration::from_millis(400));
    Criterion::default().sample_size(20).warm_up_time(warm_up).measurement_time(measure)
}

criterion_group! { name = benches; config = short_rows(); targets = engines }
criterion_main!(benches);
