//! The codecs: the same code for a peer's values and for the bare row.

use std::sync::Arc;

use benches::packing::Failure;
use zcache::codec::{self, Context, Dictionary, Lz4, Zstd};

use crate::spec::Codec;
use crate::stage::Stage;

/// A codec, ready to make encoders and decoders of. A payload as long as the page is the page.
#[derive(Debug, Clone)]
pub(crate) enum Engine {
    Plain,
    Flex,
    Codec(Arc<dyn codec::Codec>),
}

/// One thread's side of an [`Engine`].
pub(crate) enum Worker {
    Plain,
    Flex(Vec<u8>),
    Codec(Arc<dyn codec::Codec>, Box<dyn Context>),
}

impl Engine {
    pub(crate) fn new(codec: Codec, dictionary: &[u8]) -> Result<Self, Failure> {
        Ok(match codec {
            Codec::None => Self::Plain,
            Codec::Flex => Self::Flex,
            Codec::Lz4 => Self::Codec(Arc::new(Lz4)),
            Codec::Zstd(level, with) => Self::Codec(Arc::new(zstd(level, with, dictionary)?)),
        })
    }

    /// # Panics
    /// The codec has no memory for a context.
    pub(crate) fn worker(&self, page_size: usize) -> Worker {
        match self {
            Self::Plain => Worker::Plain,
            Self::Flex => {
                Worker::Flex(vec![0; lz4_flex::block::get_maximum_output_size(page_size)])
            }
            Self::Codec(codec) => {
                let context = codec.context(page_size).expect("memory for a context");
                Worker::Codec(Arc::clone(codec), context)
            }
        }
    }

    /// What is stored for each page of the file.
    pub(crate) fn payloads(&self, stage: &Stage) -> Vec<Vec<u8>> {
        let mut worker = self.worker(stage.page_size);
        let mut to = vec![0; stage.page_size];
        let pages = 0..stage.file_pages();
        pages.map(|page| worker.encode(stage.file_page(page), &mut to).to_vec()).collect()
    }
}

/// zstd, with the dictionary if asked for.
pub(crate) fn zstd(level: i32, with: bool, dictionary: &[u8]) -> Result<Zstd, Failure> {
    let plain = Zstd::level(level).map_err(|level| format!("zstd has no level {}", level.0))?;
    if !with {
        return Ok(plain);
    }
    let dictionary = Dictionary::new(dictionary).map_err(|_| "the dictionary is none")?;
    Ok(plain.with_dictionary(&dictionary))
}

impl Worker {
    /// What is stored for `page`: made in `to`, of a page's length, or the page itself.
    pub(crate) fn encode<'a>(&mut self, page: &'a [u8], to: &'a mut [u8]) -> &'a [u8] {
        let len = match self {
            Self::Plain => None,
            Self::Flex(room) => {
                let len = lz4_flex::block::compress_into(page, room).ok();
                let len = len.filter(|len| *len < page.len());
                len.inspect(|&len| to[..len].copy_from_slice(&room[..len]))
            }
            Self::Codec(_, context) => context.compress(page, &mut to[..page.len() - 1]),
        };
        len.map_or(page, |len| &to[..len])
    }

    /// # Panics
    /// The payload does not decode to a page.
    pub(crate) fn decode(&mut self, payload: &[u8], to: &mut [u8]) {
        if payload.len() == to.len() {
            to.copy_from_slice(payload);
            return;
        }
        let whole = match self {
            Self::Plain => false,
            Self::Flex(_) => {
                lz4_flex::block::decompress_into(payload, to).is_ok_and(|len| len == to.len())
            }
            Self::Codec(codec, context) => {
                codec.decode(payload, to).unwrap_or_else(|| context.decompress(payload, to)).is_ok()
            }
        };
        assert!(whole, "a payload of this codec");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_engine_gives_back_its_pages() {
        let sample = ::tests::corpus::sample();
        let mut noise = vec![0; sample.page_size()];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        for codec in [Codec::Lz4, Codec::Flex, Codec::Zstd(3, false), Codec::None] {
            let mut worker = Engine::new(codec, &[]).unwrap().worker(sample.page_size());
            let (mut to, mut read) = (noise.clone(), noise.clone());
            for page in sample.pages().step_by(101).chain([&noise[..]]) {
                let payload = worker.encode(page, &mut to).to_vec();
                assert!(payload.len() <= page.len());
                worker.decode(&payload, &mut read);
                assert_eq!(read, page, "{codec}");
            }
        }
    }
}
