//! zstd, with and without a dictionary.

use std::borrow::Cow;
use std::fmt;
use std::io;

use ::zstd::zstd_safe::{
    CCtx, CDict, CParameter, DCtx, DDict, DParameter, FrameFormat, get_error_name,
};
use zpool::source::heap_cost;

use super::cover::cover;
use super::{Codec, Context, Corrupt};
use crate::sync::{Arc, OnceLock};

/// Bytes of a frame's magic number, which no payload keeps.
const MAGIC: usize = 4;
/// What a dictionary that was trained starts with; its number follows.
const DICTIONARY_MAGIC: [u8; 4] = 0xec30_a437_u32.to_le_bytes();
/// The longest page, as a power of two; longer ones get no context.
const MAX_LOG: u32 = 31;
const SIZES: usize = MAX_LOG as usize + 1;
/// The least that a dictionary can be trained to have, zstd's `ZDICT_DICTSIZE_MIN`.
const LEAST_TRAINED: usize = 256;
/// More than any budget holds, yet not so much that a sum of them overflows.
const UNKNOWN: usize = usize::MAX / 8;
/// What tables are stretched with.
static BLANK: [u8; 128 << 10] = [0; 128 << 10];

/// zstd frames without magic number, checksum, number of the dictionary and, without one, page
/// length: 2 to 3 bytes in front of the blocks.
///
/// ```
/// use zcache::{Cache, Config, codec::{Dictionary, Zstd}};
///
/// # let owner = |n: u32| format!("\"owner\": \"user {}\"", n % 97);
/// # let row = |n: u32| format!("{{\"id\": {n}, \"state\": \"open\", {}}}", owner(n));
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
    sizes: Arc<[OnceLock<Most>; SIZES]>,
}

/// The most that a context holds.
#[derive(Debug, Clone, Copy)]
struct Most {
    bytes: usize,
    /// The length of the pages that make it hold so much.
    len: usize,
}

/// No level of zstd's: they are -7 to 22, and not 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Level(pub i32);

/// Why [`Dictionary::train`] made none.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrainError {
    /// A dictionary of at most this many bytes was asked for, which is too short for one: it
    /// has 256.
    TooShort(usize),
    /// The samples are too few, or too much of the same.
    Samples {
        /// Samples given.
        samples: usize,
        /// Bytes they have in all.
        bytes: usize,
        /// What zstd says.
        error: io::Error,
    },
}

/// The bytes start as a trained dictionary does, but do not go on as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadDictionary;

/// The bytes of a dictionary. [`Zstd::with_dictionary`] digests them, once for all contexts.
#[derive(Clone, PartialEq, Eq)]
pub struct Dictionary(Arc<[u8]>);

/// A dictionary as zstd works with it.
struct Digest {
    encoder: CDict<'static>,
    decoder: DDict<'static>,
}

impl Dictionary {
    /// A dictionary that was trained elsewhere, or any bytes that pages are likely to have in
    /// common.
    ///
    /// # Errors
    /// [`BadDictionary`]: the bytes have the magic number of a trained dictionary, and are none.
    pub fn new(bytes: &[u8]) -> Result<Self, BadDictionary> {
        // What either side makes of the bytes depends on no level.
        let (encoder, decoder) = (CDict::try_create(bytes, 1), DDict::try_create(bytes));
        encoder.zip(decoder).map(|_| Self(bytes.into())).ok_or(BadDictionary)
    }

    /// Trains a dictionary of at most `max_bytes` bytes, 256 or more, on sample pages: a hundred
    /// times as many bytes of them as the dictionary shall have, evenly taken over all pages, is
    /// what works well. Takes seconds for some MiB.
    ///
    /// A dictionary is no gain on every kind of page: compare, with and without, on pages that it
    /// was not trained on.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn train<P: AsRef<[u8]>>(samples: &[P], max_bytes: usize) -> Result<Self, TrainError> {
        if max_bytes < LEAST_TRAINED {
            return Err(TrainError::TooShort(max_bytes));
        }
        let trained = ::zstd::dict::from_samples(samples, max_bytes).map_err(|error| {
            let bytes = samples.iter().map(|sample| sample.as_ref().len()).sum();
            TrainError::Samples { samples: samples.len(), bytes, error }
        })?;
        Ok(Self(trained.into()))
    }

    /// The dictionary's bytes, to keep it for later.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Zstd {
    /// zstd at a level: 1 to 22, slower and smaller, or -1 to -7, faster and larger. Decoding takes
    /// about the same time at all of them. 3 is zstd's own default.
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

    /// zstd at this level with a dictionary, which is digested here, once for all contexts. Pages
    /// are read back with the same dictionary only.
    ///
    /// # Panics
    /// There is no memory for it.
    #[must_use]
    pub fn with_dictionary(self, dictionary: &Dictionary) -> Self {
        self.digested(&dictionary.0).expect("memory for a dictionary")
    }

    /// zstd at this level with a dictionary of these bytes; `None` for want of memory.
    fn digested(&self, dictionary: &[u8]) -> Option<Self> {
        let mut bytes = dictionary.to_vec();
        if bytes.starts_with(&DICTIONARY_MAGIC) && bytes.len() >= 8 {
            // Number 0 is none: so frames do not name their dictionary, which is this codec's only
            // one.
            bytes[4..8].fill(0);
        }
        let encoder = CDict::try_create(&bytes, self.level)?;
        let digest = Digest { encoder, decoder: DDict::try_create(&bytes)? };
        let sizes = Arc::new([const { OnceLock::new() }; SIZES]);
        Some(Self { level: self.level, digest: Some(Arc::new(digest)), sizes })
    }

    /// A context whose tables are as large as pages of `stretch` bytes make them, and stay so.
    fn make(&self, stretch: usize) -> io::Result<Worker> {
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
        let (digest, stretch) = (self.digest.clone(), stretch.min(BLANK.len()));
        let mut worker = Worker { encoder, decoder, digest, stretch, last: 0 };
        worker.stretch();
        Ok(worker)
    }

    /// What a context for pages of up to 2^`log` bytes holds at the most; `None` for want of
    /// memory.
    fn most(&self, log: u32) -> Option<Most> {
        let most = &self.sizes[log as usize];
        match most.get() {
            Some(most) => Some(*most),
            Option::None => self.measure(1 << log).ok().map(|found| *most.get_or_init(|| found)),
        }
    }

    /// What a context holds once it has worked on pages of every size up to `max_page`, a power of
    /// two.
    ///
    /// Measured, since zstd's own estimate is not to be had by safe calls. zstd chooses its tables
    /// by level, dictionary and length, not by what is in a page, and changes its mind at powers of
    /// two; so a page at each of them and one just above make it take the most that it ever will.
    fn measure(&self, max_page: usize) -> io::Result<Most> {
        let mut worker = self.make(0)?;
        let (mut page, mut to) = (Vec::new(), Vec::new());
        page.try_reserve_exact(max_page)?;
        page.resize(max_page, 0);
        to.try_reserve_exact(max_page + 64)?;
        to.resize(max_page + 64, 0);
        let powers = (0..=max_page.ilog2()).map(|log| 1 << log);
        let mut most = Most { bytes: 0, len: 0 };
        for len in powers.flat_map(|power| [power / 2 + 1, power]) {
            let page = &mut page[..len];
            let coded = worker.compress(page, &mut to).ok_or(io::ErrorKind::OutOfMemory)?;
            worker.decompress(&to[..coded], page).map_err(io::Error::other)?;
            if worker.bytes() > most.bytes {
                most = Most { bytes: worker.bytes(), len };
            }
        }
        Ok(Most { bytes: most.bytes + heap_cost(size_of::<Worker>()), ..most })
    }
}

impl Codec for Zstd {
    fn name(&self) -> Cow<'static, str> {
        let dictionary = if self.digest.is_some() { "+dict" } else { "" };
        format!("zstd:{}{dictionary}", self.level).into()
    }

    /// Measured at the first call for a power of two, in some milliseconds at the most. Where that
    /// fails for want of memory, it is more than any budget.
    fn context_bytes(&self, max_page: usize) -> usize {
        let most = log(max_page).and_then(|log| self.most(log));
        most.map_or(UNKNOWN, |most| most.bytes)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        let log = log(max_page).ok_or(io::ErrorKind::InvalidInput)?;
        let most = self.most(log).ok_or(io::ErrorKind::OutOfMemory)?;
        // A box of one, which may be refused.
        let mut worker = Vec::new();
        worker.try_reserve_exact(1)?;
        worker.push(self.make(most.len)?);
        let worker: Result<Box<[Worker; 1]>, _> = worker.into_boxed_slice().try_into();
        Ok(worker.unwrap_or_else(|_| unreachable!("one was pushed")))
    }

    fn shared_bytes(&self) -> usize {
        self.digest.as_ref().map_or(0, |digest| {
            let digested = digest.encoder.sizeof() + digest.decoder.sizeof();
            digested + heap_cost(size_of::<Digest>())
        })
    }

    /// With a dictionary of the pieces of samples that most of them have. Not that of
    /// [`Dictionary::train`], for which zstd takes some 12 MiB.
    fn trained(&self, samples: &[&[u8]], dictionary_bytes: usize) -> io::Result<Arc<dyn Codec>> {
        let dictionary = cover(samples, dictionary_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        if dictionary.len() < LEAST_TRAINED {
            return Err(io::Error::other("the samples have too little in common"));
        }
        let digested = self.digested(&dictionary).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(digested))
    }

    fn training_bytes(&self, dictionary_bytes: usize) -> usize {
        super::cover::bytes(dictionary_bytes)
    }

    fn blank(&self, dictionary_bytes: usize) -> Option<Arc<dyn Codec>> {
        let bytes = (dictionary_bytes >= LEAST_TRAINED).then(|| vec![0; dictionary_bytes])?;
        Some(Arc::new(self.digested(&bytes)?))
    }
}

/// The power of two that pages of up to `max_page` bytes are rounded up to.
fn log(max_page: usize) -> Option<u32> {
    let size = max_page.checked_next_power_of_two()?;
    Some(size.ilog2()).filter(|log| *log <= MAX_LOG)
}

struct Worker {
    encoder: CCtx<'static>,
    decoder: DCtx<'static>,
    digest: Option<Arc<Digest>>,
    /// Pages of this length make the encoder's tables as large as they get; 0 lets them come and
    /// go.
    stretch: usize,
    /// The length of the last page.
    last: usize,
}

impl Worker {
    /// What zstd holds, in three blocks: an encoder, its tables, a decoder. None costs as much as
    /// 24 bytes more than it has.
    fn bytes(&self) -> usize {
        self.encoder.sizeof() + self.decoder.sizeof() + 3 * 24
    }

    fn encode(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        match &self.digest {
            Some(digest) => self.encoder.compress_using_cdict(to, page, &digest.encoder).ok(),
            Option::None => self.encoder.compress2(to, page).ok(),
        }
    }

    /// Has the tables as large as they get.
    ///
    /// zstd gives its tables up for smaller ones where a page needs less than a third of what the
    /// page before has left, and takes larger ones soon after: time, and holes in the
    /// general-purpose allocator's heaps that nobody counts.
    fn stretch(&mut self) {
        // There is no room for what comes of it, as is found out when the tables are there.
        let _ = self.encode(&BLANK[..self.stretch], &mut []);
        self.last = self.stretch;
    }
}

impl Context for [Worker; 1] {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        self[0].compress(page, to)
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        self[0].decompress(payload, page)
    }
}

impl Context for Worker {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        // What tables take grows no faster than a page's length, beside what all pages need.
        if self.last + 3 * page.len() < self.stretch {
            self.stretch();
        }
        self.last = page.len();
        let coded = self.encode(page, to)?;
        if self.digest.is_none() {
            return Some(coded);
        }
        // The call with a dictionary knows no other format than the one with the magic number.
        to.copy_within(MAGIC..coded, 0);
        Some(coded - MAGIC)
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
        match self {
            Self::TooShort(bytes) => {
                write!(f, "a dictionary has {LEAST_TRAINED} bytes or more, not {bytes}")
            }
            Self::Samples { samples, bytes, error } => write!(
                f,
                "{samples} samples of {bytes} bytes in all train no dictionary, being too few or \
                 too much alike (zstd says: {error})"
            ),
        }
    }
}

impl fmt::Display for BadDictionary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes start as a zstd dictionary, and are none")
    }
}

impl std::error::Error for Level {}

impl std::error::Error for BadDictionary {}

impl std::error::Error for TrainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::TooShort(_) => Option::None,
            Self::Samples { error, .. } => Some(error),
        }
    }
}
