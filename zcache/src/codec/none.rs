//! No compression.

use std::borrow::Cow;
use std::io;

use super::{Codec, Context, Corrupt};

/// Pages as they are; same-filled ones still cost nothing. For comparisons, and for pages that are
/// compressed or encrypted already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct None;

impl Codec for None {
    fn name(&self) -> Cow<'static, str> {
        "none".into()
    }

    fn context_bytes(&self, _max_page: usize) -> usize {
        0
    }

    fn context(&self, _max_page: usize) -> io::Result<Box<dyn Context>> {
        Ok(Box::new(Self))
    }

    fn is_plain(&self) -> bool {
        true
    }
}

impl Context for None {
    fn compress(&mut self, _page: &[u8], _to: &mut [u8]) -> Option<usize> {
        Option::None
    }

    fn decompress(&mut self, _payload: &[u8], _page: &mut [u8]) -> Result<(), Corrupt> {
        // It never compresses, so nothing is its work.
        Err(Corrupt)
    }
}
