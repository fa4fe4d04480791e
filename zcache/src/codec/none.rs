//! No compression.
use super::{Codec, Context, Corrupt};

/// Pages as they are.
#[derive(Debug, Clone, Copy, Default)]
pub struct None;

impl Codec for None {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "none".into()
    }
    fn context_bytes(&self, _: usize) -> usize {
        0
    }
    fn context(&self, _: usize) -> std::io::Result<Box<dyn Context>> {
        Ok(Box::new(Self))
    }
    fn is_plain(&self) -> bool {
        true
    }
}

impl Context for None {
    fn compress(&mut self, _: &[u8], _: &mut [u8]) -> Option<usize> {
        Option::None
    }
    fn decompress(&mut self, _: &[u8], _: &mut [u8]) -> Result<(), Corrupt> {
        Err(Corrupt)
    }
}
