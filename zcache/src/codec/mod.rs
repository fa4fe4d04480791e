//! Codecs: what makes pages small.
//!
//! [`Lz4`] is the default, `Zstd` (feature `zstd`) compresses better and decodes four to eight
//! times as long, [`Plain`] keeps pages as they are; implement [`Codec`] for your own. Beside them
//! stands what the cache asks before it asks a codec: whether a page is [`same_filled`] or
//! [`looks_incompressible`].

use std::borrow::Cow;
use std::fmt;
use std::io;

use crate::sync::Arc;

mod choice;
#[cfg(feature = "zstd")]
mod cover;
mod fill;
mod form;
mod incompressible;
mod lz4;
mod lz4_prefix;
mod plain;
#[cfg(feature = "zstd")]
mod zstd;

pub(crate) use choice::candidates;
pub use fill::{fill, same_filled};
pub(crate) use form::{CODERS, Form, INLINE, RAW};
pub use incompressible::looks_incompressible;
pub use lz4::Lz4;
pub use plain::Plain;
#[cfg(feature = "zstd")]
pub use zstd::{BadDictionary, Dictionary, Level, TrainError, Zstd};

/// The payload does not decode to a page of that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload does not decode to a page of that length")
    }
}

impl std::error::Error for Corrupt {}

/// What compresses and decodes pages, for all threads of a cache; and for several caches, as an
/// `Arc`.
///
/// The work is done by [`Context`]s. A cache has at most about one for each processor, and fewer
/// where they would take more than an eighth of the capacity; threads wait for each other's. What
/// no page needed for some hundreds of operations is dropped. A codec must not call the cache that
/// it works for: it could wait for itself.
///
/// ```
/// use std::{borrow::Cow, io};
/// use zcache::codec::{Codec, Context, Corrupt};
///
/// /// Stores pages whose second half repeats the first as that half.
/// #[derive(Debug)]
/// struct Halves;
///
/// impl Codec for Halves {
///     fn name(&self) -> Cow<'static, str> {
///         "halves".into()
///     }
///     fn context_bytes(&self, _max_page: usize) -> usize {
///         0 // a unit struct, boxed, is no heap block
///     }
///     fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
///         Ok(Box::new(Halves))
///     }
/// }
///
/// impl Context for Halves {
///     fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
///         let (first, second) = page.split_at(page.len() / 2);
///         let to = to.get_mut(..first.len()).filter(|_| first == second)?;
///         to.copy_from_slice(first);
///         Some(first.len())
///     }
///     fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
///         let (first, second) = page.split_at_mut(page.len() / 2);
///         if payload.len() != first.len() || payload.len() != second.len() {
///             return Err(Corrupt); // never a panic, whatever the payload
///         }
///         first.copy_from_slice(payload);
///         second.copy_from_slice(payload);
///         Ok(())
///     }
/// }
///
/// use zcache::{Cache, Config};
/// let cache = Cache::new(Config::new(4 << 20).codec(Halves))?;
/// let page: Vec<u8> = (0..=255).cycle().take(512).collect();
/// cache.insert(1, &page)?;
/// assert_eq!(cache.get(&1).as_deref(), Some(&page[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Codec: fmt::Debug + Send + Sync {
    /// A short name with what settings there are: `zstd:3+dict`.
    fn name(&self) -> Cow<'static, str>;

    /// The most bytes that one context holds for pages of up to `max_page` bytes, each heap block
    /// at [`zpool::source::heap_cost`]. The cache charges them before it makes one.
    fn context_bytes(&self, max_page: usize) -> usize;

    /// A context for pages of up to `max_page` bytes. It is used by one thread at a time, for any
    /// number of pages.
    ///
    /// # Errors
    /// What the library reports; memory, in most cases.
    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>>;

    /// Bytes that all contexts share, such as a digested dictionary. Charged once a cache.
    fn shared_bytes(&self) -> usize {
        0
    }

    /// A codec like this one, trained on sample pages to a dictionary of at most `dictionary_bytes`
    /// bytes (its own takes the place of one that this has). For
    /// [`Config::train`](crate::Config::train) and
    /// [`Config::auto_codec`](crate::Config::auto_codec).
    ///
    /// # Errors
    /// What the library reports; that the samples are too few or too much of the same, in most
    /// cases. By default, that this codec takes no training.
    fn trained(&self, samples: &[&[u8]], dictionary_bytes: usize) -> io::Result<Arc<dyn Codec>> {
        let _ = (samples, dictionary_bytes);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Bytes that [`trained`](Self::trained) takes while it works, beside the samples and what it
    /// gives. The cache charges them meanwhile.
    fn training_bytes(&self, dictionary_bytes: usize) -> usize {
        let _ = dictionary_bytes;
        0
    }

    /// What [`trained`](Self::trained) gives, with a dictionary of `dictionary_bytes` bytes that
    /// helps nobody: a cache sizes trained codecs and their contexts by it. `None`: this codec
    /// takes no training, or none to a dictionary of that size.
    fn blank(&self, dictionary_bytes: usize) -> Option<Arc<dyn Codec>> {
        let _ = dictionary_bytes;
        None
    }

    /// Whether pages are kept as they are; then no context is ever asked for.
    fn is_plain(&self) -> bool {
        false
    }

    /// As [`Context::compress`], for codecs that need no context to compress: then an insert takes
    /// none. `None`: this codec needs one. It says the same of any page: a new cache asks once,
    /// with a page of 2 bytes.
    fn encode(&self, page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        let _ = (page, to);
        None
    }

    /// As [`Context::decompress`], for codecs that need no context to decode: then a hit touches
    /// none. `None`: this one needs it.
    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        let _ = (payload, page);
        None
    }

    /// Decodes the first `prefix.len()` bytes of a page of `len` bytes, and no more than it has to.
    /// `None`: the whole page has to be decoded.
    fn decode_prefix(
        &self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        let _ = (payload, len, prefix);
        None
    }
}

/// What one compression or decoding at a time works with.
pub trait Context: Send {
    /// Compresses `page` into the start of `to` and returns the length. `None`: it does not fit
    /// there; `to` is as long as a payload may be to be worth storing, less than the page.
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize>;

    /// Decodes `payload` to the whole of `page`.
    ///
    /// # Errors
    /// [`Corrupt`]. Any payload may come, and `page` may be of any length: that is never a panic,
    /// nor memory by a length that the payload claims. What is in `page` then is anything.
    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt>;
}

impl<C: Codec + ?Sized> Codec for Arc<C> {
    fn name(&self) -> Cow<'static, str> {
        (**self).name()
    }

    fn context_bytes(&self, max_page: usize) -> usize {
        (**self).context_bytes(max_page)
    }

    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>> {
        (**self).context(max_page)
    }

    fn shared_bytes(&self) -> usize {
        (**self).shared_bytes()
    }

    fn trained(&self, samples: &[&[u8]], dictionary_bytes: usize) -> io::Result<Arc<dyn Codec>> {
        (**self).trained(samples, dictionary_bytes)
    }

    fn training_bytes(&self, dictionary_bytes: usize) -> usize {
        (**self).training_bytes(dictionary_bytes)
    }

    fn blank(&self, dictionary_bytes: usize) -> Option<Arc<dyn Codec>> {
        (**self).blank(dictionary_bytes)
    }

    fn is_plain(&self) -> bool {
        (**self).is_plain()
    }

    fn encode(&self, page: &[u8], to: &mut [u8]) -> Option<Option<usize>> {
        (**self).encode(page, to)
    }

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        (**self).decode(payload, page)
    }

    fn decode_prefix(
        &self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        (**self).decode_prefix(payload, len, prefix)
    }
}
