//! Codecs: what makes pages small.

use std::borrow::Cow;
use std::fmt;
use std::io;

mod fill;
mod lz4;
mod none;
mod sample;

pub use fill::{fill, same_filled};
pub use lz4::Lz4;
pub use none::None;
pub use sample::looks_incompressible;

/// The payload does not decode to a page of that length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the payload does not decode to the page")
    }
}

impl std::error::Error for Corrupt {}

/// A codec.
pub trait Codec: fmt::Debug + Send + Sync {
    /// Its name: `zstd:3`.
    fn name(&self) -> Cow<'static, str>;
    /// Most bytes that one context holds, for pages of up to `max_page` bytes.
    fn context_bytes(&self, max_page: usize) -> usize;
    /// Makes a context.
    ///
    /// # Errors
    /// The library has none.
    fn context(&self, max_page: usize) -> io::Result<Box<dyn Context>>;
    /// Bytes that all contexts share.
    fn shared_bytes(&self) -> usize {
        0
    }
    /// Whether pages are kept as they are.
    fn is_plain(&self) -> bool {
        false
    }
    /// Decodes without a context.
    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        let _ = (payload, page);
        Option::None
    }
    /// Decodes the first bytes.
    fn decode_prefix(
        &self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        let _ = (payload, len, prefix);
        Option::None
    }
}

/// A context.
pub trait Context: Send {
    /// Compresses.
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize>;
    /// Decodes.
    ///
    /// # Errors
    /// Corrupt.
    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt>;
    /// Decodes the first bytes.
    fn decompress_prefix(
        &mut self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        let _ = (payload, len, prefix);
        Option::None
    }
}
