//! LZ4 blocks, by one of two engines.

use std::borrow::Cow;
use std::io;

use super::lz4_prefix::decode_prefix;
use super::{Codec, Context, Corrupt};

#[cfg(feature = "lz4-c")]
use self::c as engine;
#[cfg(not(feature = "lz4-c"))]
use self::flex as engine;

/// LZ4, one block a page, without a length in front.
///
/// There are two engines for the one format; payloads of either are read by both. With the feature
/// `lz4-c`, which is on by default, it is liblz4, which decodes 1.1 to 1.8 times as fast, the most
/// on pages of databases (`cargo bench -p benches --bench lz4_engines`). Without it, for builds
/// without a C compiler, it is `lz4_flex`.
///
/// Decoding needs no [`Context`], and the first bytes of a page are decoded without the rest.
///
/// ```
/// use zcache::codec::{Codec, Lz4};
///
/// let page = b"To see what is in front of one's nose ".repeat(100);
/// let mut payload = vec![0; page.len() / 2];
/// let len = Lz4.context(page.len())?.compress(&page, &mut payload).expect("it shrinks");
///
/// let mut read = vec![0; page.len()];
/// Lz4.decode(&payload[..len], &mut read).expect("needs no context")?;
/// assert_eq!(read, page);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lz4;

impl Codec for Lz4 {
    fn name(&self) -> Cow<'static, str> {
        "lz4".into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        engine::bytes(max_page)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(engine::Encoder::new(max_page)?))
    }

    fn encode(&self, page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        engine::encode(page, to)
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
    use std::io;

    use lz4::block::{compress_to_buffer, decompress_to_buffer};

    /// An encoder has no memory of its own: liblz4's table is on the stack.
    pub(super) const fn bytes(_max_page: usize) -> usize {
        0
    }

    pub(super) struct Encoder;

    impl Encoder {
        pub(super) const fn new(_max_page: usize) -> io::Result<Self> {
            Ok(Self)
        }

        pub(super) fn encode(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
            let room = length(to)?;
            compress_to_buffer(page, None, false, &mut to[..room as usize]).ok()
        }
    }

    #[inline]
    pub(super) fn encode(page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        Some(Encoder.encode(page, to))
    }

    #[inline]
    pub(super) fn decode(payload: &[u8], page: &mut [u8]) -> Option<usize> {
        length(payload)?;
        decompress_to_buffer(payload, Some(length(page)?), page).ok()
    }

    /// A length as liblz4 takes it. The crate hands on the lower 32 bits of any.
    fn length(bytes: &[u8]) -> Option<i32> {
        i32::try_from(bytes.len()).ok()
    }
}

/// lz4_flex.
#[cfg(any(test, not(feature = "lz4-c")))]
mod flex {
    use std::io;

    use lz4_flex::block::{
        CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size,
    };
    use zpool::source::heap_cost;

    /// Entries of an encoder's table; each has 2 bytes, and for long pages 4.
    const ENTRIES: usize = 4096;

    const fn is_long(max_page: usize) -> bool {
        max_page >= u16::MAX as usize
    }

    /// The encoder, its table and its scratch.
    #[cfg_attr(feature = "lz4-c", allow(dead_code, reason = "the other engine's is asked"))]
    pub(super) fn bytes(max_page: usize) -> usize {
        let scratch = heap_cost(get_maximum_output_size(max_page));
        let entry = if is_long(max_page) { size_of::<u32>() } else { size_of::<u16>() };
        // The table asks for an alignment, and may cost another one on either side.
        let encoder = heap_cost(size_of::<Encoder>() + 2 * align_of::<Encoder>());
        scratch + heap_cost(ENTRIES * entry) + encoder
    }

    pub(super) struct Encoder {
        table: CompressTable,
        /// As long as any page's block: lz4_flex gives up at once where it gets less room than
        /// that.
        scratch: Vec<u8>,
    }

    impl Encoder {
        pub(super) fn new(max_page: usize) -> io::Result<Self> {
            let longest = get_maximum_output_size(max_page);
            let mut scratch = Vec::new();
            scratch.try_reserve_exact(longest)?;
            scratch.resize(longest, 0);
            let long = is_long(max_page);
            let table = if long { CompressTable::large() } else { CompressTable::small() };
            Ok(Self { table, scratch })
        }

        pub(super) fn encode(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
            let len = compress_into_with_table(page, &mut self.scratch, &mut self.table).ok()?;
            to.get_mut(..len)?.copy_from_slice(&self.scratch[..len]);
            Some(len)
        }
    }

    /// Its encoder has a table, which is a context.
    #[cfg_attr(feature = "lz4-c", allow(dead_code, reason = "the other engine's is asked"))]
    pub(super) const fn encode(_page: &[u8], _to: &mut [u8]) -> Option<Option<usize>> {
        None
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

    /// Holds both engines, and the decoder of prefixes, against each other.
    fn engines_agree(page: &[u8]) {
        let len = page.len();
        let mut c = c::Encoder::new(len).expect("no memory needed");
        let mut flex = flex::Encoder::new(len).expect("memory");
        let mut to = vec![0; lz4_flex::block::get_maximum_output_size(len)];
        for engine in 0..2 {
            let mut encode = |to: &mut [u8]| match engine {
                0 => c.encode(page, to),
                _ => flex.encode(page, to),
            };
            let packed = encode(&mut to).expect("room for anything");
            // No more room than it takes is enough, and less is not.
            assert_eq!(encode(&mut to[..packed]), Some(packed));
            assert_eq!(encode(&mut to[..packed - 1]), None);
            assert_eq!(encode(&mut to[..packed]), Some(packed));
            let payload = &to[..packed];
            for decoder in [c::decode, flex::decode] {
                let mut read = vec![0xff; len + 1];
                assert_eq!(decode(payload, &mut read[..len], decoder), Ok(()));
                assert!(read[..len] == *page);
                assert_eq!(decode(payload, &mut read, decoder), Err(Corrupt));
                if len > 0 {
                    assert_eq!(decode(payload, &mut read[1..len], decoder), Err(Corrupt));
                }
            }
            for prefix in [0, 1, 13, 100, 512, len / 2, len].map(|prefix| prefix.min(len)) {
                let mut start = vec![0xee; prefix];
                assert_eq!(decode_prefix(payload, &mut start), Ok(()));
                assert!(start == page[..prefix], "{prefix} of {len}");
            }
        }
    }

    #[test]
    fn each_engine_reads_what_the_other_wrote() {
        let lens = [4096, 8192, 0, 1, 12, 13, 16, 5000, 65_535, 65_536, 100_000];
        for (seed, len) in (0..220).zip(lens.into_iter().cycle()) {
            engines_agree(&page(seed, len));
        }
        #[cfg(feature = "zstd")]
        {
            let sample = &include_bytes!("../../examples/data/pg-pgbench-8k.bin.zst")[..];
            let sample = zstd::decode_all(sample).expect("packed by zstd");
            sample.chunks_exact(8192).step_by(11).for_each(engines_agree);
        }
    }

    /// `block` cut at every byte, then with every byte changed in every way.
    fn damaged(block: &[u8]) -> impl Iterator<Item = Vec<u8>> {
        let cut = (0..block.len()).map(|len| block[..len].to_vec());
        let changed = (0..block.len() << 8).map(|n| {
            let mut other = block.to_vec();
            other[n >> 8] = n as u8;
            other
        });
        cut.chain(changed)
    }

    /// Nor does it matter what was in the buffer. liblz4 alone takes a match at offset 0.
    #[test]
    fn damaged_blocks_are_errors_or_the_same_page_by_all() {
        const LEN: usize = 700;
        let mut to = [0; LEN * 2];
        let len = c::Encoder.encode(&page(9, LEN), &mut to).expect("room for anything");
        for (number, block) in damaged(&to[..len]).enumerate() {
            let read = |decoder: fn(&[u8], &mut [u8]) -> Option<usize>, filler| {
                let mut page = [filler; LEN];
                decode(&block, &mut page, decoder).map(|()| page)
            };
            let (by_c, by_flex) = (read(c::decode, 0), read(flex::decode, 0));
            assert!(by_c == read(c::decode, 0xff) && by_flex == read(flex::decode, 0xff));
            assert!(by_flex.is_err() || by_c == by_flex);
            assert!(number >= len || by_c.is_err(), "cut at {number} of {len}");
            for room in [1, 40, 333, LEN] {
                let start = |filler| {
                    let mut start = vec![filler; room];
                    decode_prefix(&block, &mut start).map(|()| start)
                };
                assert_eq!(start(0), start(0xff));
                let expected = by_flex.map(|page| page[..room].to_vec());
                assert!(expected.is_err() || start(0) == expected);
            }
        }
    }
}
