//! No compression.

use std::borrow::Cow;
use std::io;

use super::{Codec, Context, Corrupt};

/// Pages as they are; same-filled ones still cost nothing. For comparisons, and for pages that are
/// compressed or encrypted already.
#[doc(alias = "None")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Plain;

impl Codec for Plain {
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

    fn decode(&self, payload: &[u8], page: &mut [u8]) -> Option<Result<(), Corrupt>> {
        Some(copy(payload, page.len(), page))
    }

    fn decode_prefix(
        &self,
        payload: &[u8],
        len: usize,
        prefix: &mut [u8],
    ) -> Option<Result<(), Corrupt>> {
        Some(copy(payload, len, prefix))
    }
}

impl Context for Plain {
    fn compress(&mut self, _page: &[u8], _to: &mut [u8]) -> Option<usize> {
        None
    }

    fn decompress(&mut self, payload: &[u8], page: &mut [u8]) -> Result<(), Corrupt> {
        copy(payload, page.len(), page)
    }
}

/// The start of a page of `len` bytes, which is its own payload.
fn copy(payload: &[u8], len: usize, to: &mut [u8]) -> Result<(), Corrupt> {
    let start = payload.get(..to.len()).filter(|_| payload.len() == len).ok_or(Corrupt)?;
    to.copy_from_slice(start);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_its_own_payload() {
        let page = [3, 1, 4, 1, 5];
        let mut read = [0; 6];
        assert_eq!(Plain.compress(&page, &mut read), None);
        assert_eq!(Plain.decompress(&page, &mut read[..5]), Ok(()));
        assert_eq!(read[..5], page);
        assert_eq!(Plain.decode(&page, &mut read), Some(Err(Corrupt)));
        assert_eq!(Plain.decode(&page, &mut read[..4]), Some(Err(Corrupt)));
        assert_eq!(Plain.decode_prefix(&page, 5, &mut read[..2]), Some(Ok(())));
        assert_eq!(Plain.decode_prefix(&page, 5, &mut read), Some(Err(Corrupt)));
        assert_eq!(Plain.decode_prefix(&page, 4, &mut read[..2]), Some(Err(Corrupt)));
        assert_eq!(Plain.decode(&[], &mut []), Some(Ok(())));
    }
}
