//! A concurrent, keyed, in-process store of compressed pages.
#![forbid(unsafe_code)]

pub mod codec;
pub mod policy;
