//! A decoded page: what stands beside it, how a reader has it, how users keep it.

use bytes::Bytes;
use zpool::{Frame, SharedBytes};

use super::{Hot, LENT};
use crate::index::Tag;
use crate::stats::{add, get};
use crate::store::Millis;
use crate::sync::{Arc, AtomicU32, Counter, Ordering};

/// In `touched`: hit since the hand of this tier came by.
pub(super) const HAND: u32 = 1;
/// In `touched`: hit since the compressed tier's policy looked.
pub(super) const POLICY: u32 = 2;

/// What stands beside a decoded page.
#[derive(Debug)]
pub(crate) struct Head<K> {
    pub(crate) key: K,
    pub(crate) tag: Tag,
    /// The entry that it was decoded from.
    pub(crate) id: u32,
    pub(crate) expiry: Millis,
    touched: AtomicU32,
}

/// A decoded page as its reader has it.
pub(crate) struct Page<'r, K> {
    pub(super) frame: &'r Frame<Head<K>>,
    pub(super) hot: &'r Hot<K>,
}

/// Bytes of a frame in a user's hands.
struct Lent {
    page: SharedBytes,
    /// Bytes of all such pages.
    all: Arc<Counter>,
}

impl<K: Send + Sync> Page<'_, K> {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// The page where it is, unless it is in pieces.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        self.frame.bytes()
    }

    /// The whole page for its reader to keep: the frame's own bytes, unless so many are kept already that frames could not
    /// make way.
    pub(crate) fn keep(&self) -> Bytes {
        let len = self.len() as u64;
        let hot = self.hot;
        let most = hot.limit().max(hot.frames.bytes()) / LENT;
        if get(&hot.lent) + len <= most as u64 {
            if let Some(page) = self.frame.share() {
                add(&hot.lent, len);
                return Bytes::from_owner(Lent { page, all: Arc::clone(&hot.lent) });
            }
        }
        self.start(self.len()).into()
    }

    /// Fills `to`, which is no longer, with the start of the page.
    #[inline]
    pub(crate) fn copy(&self, to: &mut [u8]) {
        self.frame.copy(to);
    }

    /// The first `len` bytes of it, in memory of the caller's.
    pub(crate) fn start(&self, len: usize) -> Vec<u8> {
        match self.bytes() {
            Some(bytes) => bytes[..len].to_vec(),
            None => {
                let mut start = vec![0; len];
                self.copy(&mut start);
                start
            }
        }
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.all.fetch_sub(self.page.len() as u64, Ordering::Relaxed);
    }
}

impl<K> Head<K> {
    pub(crate) fn new(key: K, tag: Tag, id: u32, expiry: Millis) -> Self {
        Self { key, tag, id, expiry, touched: AtomicU32::new(0) }
    }

    pub(crate) fn is_of(&self, tag: Tag, id: u32) -> bool {
        self.tag == tag && self.id == id
    }

    /// A hit. Writes nothing if there was one.
    #[inline]
    pub(super) fn touch(&self) {
        if self.touched.load(Ordering::Relaxed) != HAND | POLICY {
            self.touched.store(HAND | POLICY, Ordering::Relaxed);
        }
    }

    /// Whether there was a hit since `who` asked last.
    pub(super) fn untouch(&self, who: u32) -> bool {
        self.touched.load(Ordering::Relaxed) & who != 0
            && self.touched.fetch_and(!who, Ordering::Relaxed) & who != 0
    }
}
