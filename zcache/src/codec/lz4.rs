//! LZ4.
use super::{Codec, Context, Corrupt};

/// LZ4 blocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lz4;

fn decode(payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
    let len = page.len();
    match lz4::block::decompress_to_buffer(payload, Some(len as i32), page) {
        Ok(got) if got == len => Ok(()),
        _ => Err(Corrupt),
    }
}

impl Codec for Lz4 {
    fn name(&self) -> std::borrow::Cow<'static, str> {
        "lz4".into()
    }
    fn context_bytes(&self, _: usize) -> usize {
        0
    }
    fn context(&self, _: usize) -> std::io::Result<Box<dyn Context>> {
        Ok(Box::new(Self))
    }
    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        Some(decode(payload, page))
    }
}

impl Context for Lz4 {
    fn compress(&mut self, page: &[u8], to: &mut [u8]) -> Option<usize> {
        lz4::block::compress_to_buffer(page, None, false, to).ok()
    }
    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        decode(payload, page)
    }
}
