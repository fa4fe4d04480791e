//! A codec of one's own: postings lists, whose sorted numbers are stored as their differences.
//!
//! A page is a list of 64-bit numbers, most of them a little above the one before. General codecs
//! see little in that. This one writes each difference in groups of 7 bits, as many as it needs.
//!
//! ```sh
//! cargo run --release -p zcache --example own_codec
//! ```
#![allow(clippy::print_stdout, reason = "a program's answers")]

use std::borrow::Cow;
use std::error::Error;
use std::io;

use zcache::codec::{Codec, Context, Corrupt, Lz4};
use zcache::{Cache, Config};

const WORD: usize = size_of::<u64>();

/// The codec is what all threads share. It makes contexts, which one thread at a time works with.
#[derive(Debug, Clone, Copy)]
struct Differences;

impl Codec for Differences {
    fn name(&self) -> Cow<'static, str> {
        "differences".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        0 // a box of nothing is no heap block; tables would count, for the cache charges them
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(Self))
    }
}

impl Context for Differences {
    /// `None` where the page does not get shorter than `to`, or is no list: it is kept as it is.
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        let (mut before, mut len) = (0_u64, 0);
        if page.len() % WORD != 0 {
            return None;
        }
        for word in page.chunks_exact(WORD) {
            let number = u64::from_le_bytes(word.try_into().ok()?);
            let mut rest = number.wrapping_sub(before);
            loop {
                let more = if rest > 0x7f { 0x80 } else { 0 };
                *to.get_mut(len)? = rest as u8 & 0x7f | more;
                (rest, len) = (rest >> 7, len + 1);
                if more == 0 {
                    break;
                }
            }
            before = number;
        }
        Some(len)
    }

    /// Any bytes may come: they decode to a page of this length, or are corrupt. Never a panic.
    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        let (mut before, mut bytes) = (0_u64, payload.iter());
        let mut words = page.chunks_exact_mut(WORD);
        for word in &mut words {
            let (mut difference, mut shift) = (0, 0);
            loop {
                let byte = bytes.next().ok_or(Corrupt)?;
                difference |= u64::from(byte & 0x7f).checked_shl(shift).ok_or(Corrupt)?;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            before = before.wrapping_add(difference);
            word.copy_from_slice(&before.to_le_bytes());
        }
        let is_whole = words.into_remainder().is_empty() && bytes.next().is_none();
        if is_whole { Ok(()) } else { Err(Corrupt) }
    }
}

/// The list of a term: where it comes up, some 100 words apart.
fn postings(term: u64) -> Vec<u8> {
    let (mut at, mut random) = (0, term.wrapping_mul(2) + 1);
    let next = |_| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        at += 1 + (random >> 33) % 200;
        u64::to_le_bytes(at)
    };
    (0..512).flat_map(next).collect()
}

/// Bytes of pages for each byte of payload, when all pages are in and were found again.
fn ratio(codec: impl Codec + 'static) -> Result<f64, Box<dyn Error>> {
    let cache = Cache::new(Config::new(4 << 20).max_page(4096).codec(codec))?;
    for term in 0..500 {
        cache.insert(term, &postings(term))?;
    }
    for term in 0..500 {
        assert_eq!(cache.get(&term).as_deref(), Some(&postings(term)[..]));
    }
    Ok(cache.stats().compression_ratio())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (own, lz4) = (ratio(Differences)?, ratio(Lz4)?);
    println!("differences: {own:.2} times smaller, LZ4: {lz4:.2} times");
    assert!(own > 4.0 && own > 2.0 * lz4);

    // What is no list is kept as it is, and what is corrupt says so.
    let cache = Cache::new(Config::new(1 << 20).codec(Differences))?;
    cache.insert(1, b"not a multiple of eight bytes")?;
    assert_eq!(cache.get(&1).as_deref(), Some(&b"not a multiple of eight bytes"[..]));
    assert_eq!(Differences.decompress(&[0xff; 20], &mut [0; 8]), Err(Corrupt));
    Ok(())
}
