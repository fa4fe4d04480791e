//! LZ4 blocks, by one of two engines.

use std::borrow::Cow;
use std::io;

use super::lz4_prefix::decode_prefix;
use super::{Codec, Context, Corrupt};

#[cfg(feature = "lz4-c")]
use c as engine;
#[cfg(not(feature = "lz4-c"))]
use flex as engine;

/// LZ4, one block a page, without a length in front.
///
/// There are two engines for the one format; payloads of either are read by both. With the feature
/// `lz4-c`, which is on by default, it is liblz4; it decodes the pages of databases up to seven times
/// as fast (`cargo bench -p benches --bench lz4_engines` compares them). Without it, for builds without
/// a C compiler, it is `lz4_flex`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lz4;

impl Codec for Lz4 {
    fn name(&self) -> Cow<'static, str> {
        "lz4".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        engine::BYTES
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(engine::Encoder::new()))
    }

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        Some(decode(payload, page, engine::decode))
    }

    fn decode_prefix(
        &self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        // Near the end the engine's whole decoding is the faster one.
        (prefix.len() <= len / 2).then(|| decode_prefix(payload, prefix))
    }
}

/// Decodes by `engine`, which says how many bytes that were.
fn decode(
    payload: &[u8],
    page: &mut [u8],
    engine: impl FnOnce(&[u8], &mut [u8]) -> Option<usize>,
) -> Result<(), Corrupt> {
    let len = page.len();
    if engine(payload, page) == Some(len) { Ok(()) } else { Err(Corrupt) }
}

impl Context for engine::Encoder {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        self.encode(page, to)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        decode(payload, page, engine::decode)
    }
}

/// liblz4.
#[cfg(feature = "lz4-c")]
mod c {
    use lz4::block::{compress_to_buffer, decompress_to_buffer};

    /// An encoder has no memory of its own: liblz4's table is on the stack.
    pub(super) const BYTES: usize = 0;

    pub(super) struct Encoder;

    impl Encoder {
        pub(super) const fn new() -> Self {
            Self
        }

        pub(super) fn encode(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
            compress_to_buffer(page, None, false, to).ok()
        }
    }

    #[inline]
    pub(super) fn decode(payload: &[u8], page: &mut [u8]) -> Option<usize> {
        let len = i32::try_from(page.len()).ok()?;
        decompress_to_buffer(payload, Some(len), page).ok()
    }
}

/// lz4_flex.
#[cfg(any(test, not(feature = "lz4-c")))]
mod flex {
    use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into};
    #[cfg(not(feature = "lz4-c"))]
    use zpool::source::heap_cost;

    /// The encoder and its table, of up to 4096 entries of 4 bytes.
    #[cfg(not(feature = "lz4-c"))]
    pub(super) const BYTES: usize = heap_cost(4096 * 4) + heap_cost(size_of::<Encoder>());

    pub(super) struct Encoder(CompressTable);

    impl Encoder {
        pub(super) fn new() -> Self {
            Self(CompressTable::default())
        }

        pub(super) fn encode(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
            compress_into_with_table(page, to, &mut self.0).ok()
        }
    }

    pub(super) fn decode(payload: &[u8], page: &mut [u8]) -> Option<usize> {
        decompress_into(payload, page).ok()
    }
}

#[cfg(all(test, feature = "lz4-c"))]
mod tests {
    use super::*;

    /// A page that has literals, matches near and far, and overlapping ones.
    fn page(seed: u32, len: usize) -> Vec<u8> {
        let mut state = seed;
        let mut page: Vec<u8> = Vec::new();
        while page.len() < len {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let run = (state >> 24) as usize % 40 + 1;
            match state >> 16 & 3 {
                0 => page.extend(std::iter::repeat_n(state as u8, run)),
                1 => page.extend((0..run as u32).map(|n| (state.wrapping_mul(n) >> 13) as u8)),
                _ => {
                    let back = (state >> 8) as usize % page.len().max(1);
                    let from = page.len().saturating_sub(back + 1);
                    page.extend_from_within(from..(from + run).min(page.len()));
                }
            }
        }
        page.truncate(len);
        page
    }

    #[test]
    fn each_engine_reads_what_the_other_wrote() {
        let (mut c, mut flex) = (c::Encoder::new(), flex::Encoder::new());
        for (seed, len) in (0..200).zip([4096, 8192, 16, 5000, 65_536, 100_000].into_iter().cycle())
        {
            let page = page(seed, len);
            let mut to = vec![0; lz4_flex::block::get_maximum_output_size(len)];
            for engine in 0..2 {
                let packed = match engine {
                    0 => c.encode(&page, &mut to),
                    _ => flex.encode(&page, &mut to),
                };
                let payload = &to[..packed.expect("room for anything")];
                let mut read = vec![0xff; len];
                assert_eq!(decode(payload, &mut read, c::decode), Ok(()));
                assert!(read == page);
                read.fill(0);
                assert_eq!(decode(payload, &mut read, flex::decode), Ok(()));
                assert!(read == page);
                let mut longer = vec![0; len + 1];
                assert_eq!(decode(payload, &mut longer, c::decode), Err(Corrupt));
                assert_eq!(decode(payload, &mut longer, flex::decode), Err(Corrupt));
                assert_eq!(decode(payload, &mut read[1..], c::decode), Err(Corrupt));
                assert_eq!(decode(payload, &mut read[1..], flex::decode), Err(Corrupt));
                for prefix in [0, 1, 13, 100, len / 2, len].map(|prefix| prefix.min(len)) {
                    let mut start = vec![0xee; prefix];
                    assert_eq!(decode_prefix(payload, &mut start), Ok(()));
                    assert!(start == page[..prefix], "{prefix} of {len}");
                }
            }
        }
    }
}
