//! zstd, with and without a dictionary.

use std::borrow::Cow;
use std::fmt;
use std::io;

use ::zstd::zstd_safe::{
    CCtx, CDict, CParameter, DCtx, DDict, DParameter, FrameFormat, get_error_name,
};
use zpool::source::heap_cost;

use super::{Codec, Context, Corrupt};
use crate::sync::{Arc, OnceLock};

/// Bytes of a frame's magic number, which no payload keeps.
const MAGIC: usize = 4;
/// What a dictionary that was trained starts with; its number follows.
const DICTIONARY_MAGIC: [u8; 4] = 0xec30_a437_u32.to_le_bytes();
/// The largest power of two that a page has, for the table of context sizes.
const SIZES: usize = 18;

/// zstd frames without magic number, checksum, number of the dictionary and, without one, page length:
/// 2 to 3 bytes in front of the blocks.
///
/// ```
/// use zcache::{Cache, Config, codec::{Dictionary, Zstd}};
///
/// # let row = |n: u32| format!("{{\"id\": {n}, \"state\": \"open\", \"owner\": \"user {}\"}}", n % 97);
/// # let page = |n: u32| (0..40).map(|i| row(n * 40 + i)).collect::<String>().into_bytes();
/// # let pages: Vec<Vec<u8>> = (0..500).map(page).collect();
/// let dictionary = Dictionary::train(&pages[..200], 16 << 10)?; // some of the pages there are
/// let codec = Zstd::level(3)?.with_dictionary(&dictionary);
/// let cache = Cache::new(Config::new(8 << 20).codec(codec))?;
/// cache.insert(1, &pages[300])?;
/// assert_eq!(cache.get(&1).as_deref(), Some(&pages[300][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Zstd {
    level: i32,
    digest: Option<Arc<Digest>>,
    /// What a context for pages of 2^n bytes was found to hold.
    sizes: Arc<[OnceLock<usize>; SIZES]>,
}

/// No level of zstd's: they are -7 to 22, and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub i32);

/// Why [`Dictionary::train`] made none: too few samples, or too much of the same.
#[derive(Debug)]
pub struct TrainError(io::Error);

/// The bytes of a dictionary. [`Zstd::with_dictionary`] digests them, once for all contexts.
#[derive(Clone, PartialEq, Eq)]
pub struct Dictionary(Arc<[u8]>);

/// A dictionary as zstd works with it.
struct Digest {
    encoder: CDict<'static>,
    decoder: DDict<'static>,
}

impl Dictionary {
    /// A dictionary that was trained elsewhere, or any bytes that pages are likely to have in common.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// Trains a dictionary of at most `max_bytes` bytes on sample pages: a hundred times as many bytes
    /// of them as the dictionary shall have, evenly taken over all pages, is what works well. Takes
    /// seconds for some MiB.
    ///
    /// A dictionary is no gain on every kind of page: compare the pages held with and without.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn train<P: AsRef<[u8]>>(samples: &[P], max_bytes: usize) -> Result<Self, TrainError> {
        let trained = ::zstd::dict::from_samples(samples, max_bytes).map_err(TrainError)?;
        Ok(Self(trained.into()))
    }

    /// The dictionary's bytes, to keep it for later.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Zstd {
    /// zstd at a level: 1 to 22, slower and smaller, or -1 to -7, faster and larger. Decoding takes about
    /// the same time at all of them. 3 is zstd's own default.
    ///
    /// # Errors
    /// [`Level`]: there is no such level.
    pub fn level(level: i32) -> Result<Self, Level> {
        if level == 0 || !(-7..=22).contains(&level) {
            return Err(Level(level));
        }
        let sizes = Arc::new([const { OnceLock::new() }; SIZES]);
        Ok(Self { level, digest: Option::None, sizes })
    }

    /// The same level with a dictionary.
    #[must_use]
    pub fn with_dictionary(self, dictionary: &Dictionary) -> Self {
        let mut bytes = dictionary.0.to_vec();
        if bytes.starts_with(&DICTIONARY_MAGIC) && bytes.len() >= 8 {
            // Number 0 is none: so frames do not name their dictionary, which is this codec's only one.
            bytes[4..8].fill(0);
        }
        let encoder = CDict::create(&bytes, self.level);
        let digest = Digest { encoder, decoder: DDict::create(&bytes) };
        let sizes = Arc::new([const { OnceLock::new() }; SIZES]);
        Self { digest: Some(Arc::new(digest)), sizes, ..self }
    }

    fn make(&self) -> io::Result<Worker> {
        let failed = |code: usize| io::Error::other(get_error_name(code));
        let memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let mut encoder = CCtx::try_create().ok_or_else(memory)?;
        let mut decoder = DCtx::try_create().ok_or_else(memory)?;
        for parameter in [
            CParameter::CompressionLevel(self.level),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            encoder.set_parameter(parameter).map_err(failed)?;
        }
        decoder.set_parameter(DParameter::Format(FrameFormat::Magicless)).map_err(failed)?;
        Ok(Worker { encoder, decoder, digest: self.digest.clone() })
    }

    /// A context that has worked on pages of every size up to `max_page` already, so that it holds what
    /// it ever will.
    fn make_warm(&self, max_page: usize) -> io::Result<Worker> {
        let mut worker = self.make()?;
        let mut page = vec![0; max_page];
        let mut state = 1_u32;
        page.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 28) as u8;
        });
        let mut to = vec![0; max_page + 512];
        let mut len = max_page;
        while len >= 256 {
            if let Some(packed) = worker.compress(&page[..len], &mut to) {
                let decoded = worker.decompress(&to[..packed], &mut vec![0; len]);
                debug_assert!(decoded.is_ok());
            }
            len = len / 2 + 1;
        }
        Ok(worker)
    }
}

impl Codec for Zstd {
    fn name(&self) -> Cow<'static, str> {
        let dictionary = if self.digest.is_some() { "+dict" } else { "" };
        format!("zstd:{}{dictionary}", self.level).into()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        let size = max_page.next_power_of_two().ilog2().min(SIZES as u32 - 1);
        *self.sizes[size as usize].get_or_init(|| {
            let worker = self.make_warm(1 << size).map_or(0, |worker| worker.bytes());
            worker + heap_cost(size_of::<Worker>())
        })
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        debug_assert!(max_page <= 1 << (SIZES - 1));
        Ok(Box::new(self.make()?))
    }

    fn shared_bytes(&self) -> usize {
        self.digest.as_ref().map_or(0, |digest| {
            let digested = digest.encoder.sizeof() + digest.decoder.sizeof();
            digested + heap_cost(size_of::<Digest>())
        })
    }
}

struct Worker {
    encoder: CCtx<'static>,
    decoder: DCtx<'static>,
    digest: Option<Arc<Digest>>,
}

impl Worker {
    /// What zstd holds, in a handful of blocks.
    fn bytes(&self) -> usize {
        heap_cost(self.encoder.sizeof()) + heap_cost(self.decoder.sizeof()) + 64
    }
}

impl Context for Worker {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        let Some(digest) = &self.digest else {
            return self.encoder.compress2(to, page).ok();
        };
        // This call of zstd's knows no other format than the one with the magic number.
        let len = self.encoder.compress_using_cdict(to, page, &digest.encoder).ok()?;
        to.copy_within(MAGIC..len, 0);
        Some(len - MAGIC)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        let len = page.len();
        let decoded = match &self.digest {
            Some(digest) => self.decoder.decompress_using_ddict(page, payload, &digest.decoder),
            Option::None => self.decoder.decompress(page, payload),
        };
        if decoded == Ok(len) { Ok(()) } else { Err(Corrupt) }
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digest").field("bytes", &self.encoder.sizeof()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dictionary").field("len", &self.0.len()).finish()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "zstd has no level {}: wanted is -7 to 22, and not 0", self.0)
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no dictionary can be trained on these samples (too few?): {}", self.0)
    }
}

impl std::error::Error for Level {}

impl std::error::Error for TrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}
