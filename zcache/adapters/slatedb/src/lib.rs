#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod cache;
mod decoded;
mod packed;

pub use cache::{CompressedCache, Options};
pub use zcache;
