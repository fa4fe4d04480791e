//! How a page is stored, as its record says it.

/// How a page is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The object is the page.
    Raw,
    /// The object is what the coder with this number made of the page.
    Coded(u8),
    /// The page repeats the word with this number; [`INLINE`]: the object is the word.
    Filled(u8),
    /// The object is empty: the page is cut into pieces, which are objects of their own.
    Pieces,
}

/// The word's number that means: the object is the word.
pub(crate) const INLINE: u8 = 127;

/// No coder's number: pages are stored as they are.
pub(crate) const RAW: u8 = 3;

/// Coders have numbers below this.
pub(crate) const CODERS: usize = 32;
