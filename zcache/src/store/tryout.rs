//! Pages that are packed and read back to see what that takes; nothing is stored.

use std::time::Instant;

use super::buffers::LentBuffer;
use super::coders::Use;
use super::{Full, Memory, Store, Trouble};
use crate::codec::RAW;

/// What a page is packed into, and what it is read back into.
pub(crate) type Bench<'b, K> = [LentBuffer<'b, Memory<K>>; 2];

impl<K: Send + Sync> Store<K> {
    /// Two buffers for [`try_out`](Self::try_out), long enough for a page.
    ///
    /// # Errors
    /// No memory for them.
    pub(crate) fn trial_buffers(&self, len: usize) -> Result<Bench<'_, K>, Full> {
        let mut buffers = [self.buffer(), self.buffer()];
        for buffer in &mut buffers {
            // New pages are the system's until they are written.
            buffer.stretch(len)?.fill(0);
        }
        Ok(buffers)
    }

    /// Packs a page by a coder that may be chosen, with the newest dictionary if there is one for
    /// it, and reads it back: bytes, and the nanoseconds of either. Nothing is stored.
    ///
    /// # Errors
    /// No memory to work with.
    pub(crate) fn try_out(
        &self,
        page: &[u8],
        chosen: u8,
        [packed, read]: &mut Bench<'_, K>,
    ) -> Result<(usize, [u64; 2]), Trouble> {
        let since = |start: Instant| u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let (to, read) = (packed.stretch(page.len())?, read.stretch(page.len())?);
        if chosen == RAW {
            let start = Instant::now();
            read.copy_from_slice(page);
            return Ok((page.len(), [0, since(start)]));
        }
        let used = (chosen != 0).then(|| self.coders.use_choice(chosen));
        let coder = used.as_ref().map_or(0, Use::number);
        let alone = coder == 0 && self.alone;
        let mut context = if alone { None } else { Some(self.context(page.len(), coder)?) };
        let to = &mut to[..page.len() - 1];
        let start = Instant::now();
        let coded = match &mut context {
            None => self.codec.encode(page, to).flatten(),
            Some(context) => context.get().compress(page, to),
        };
        let encode = since(start);
        let Some(len) = coded.filter(|len| *len <= to.len()) else {
            return Ok((page.len(), [encode, 0]));
        };
        let start = Instant::now();
        let decoded = match &mut context {
            None => self.codec.decode(&to[..len], read).unwrap_or(Ok(())),
            Some(context) => context.get().decompress(&to[..len], read),
        };
        let decode = since(start);
        decoded.map_err(|_| Trouble::Corrupt)?;
        Ok((len, [encode, decode]))
    }
}
