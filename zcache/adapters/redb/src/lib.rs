#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod backend;
mod blocks;

pub use backend::CachedBackend;
pub use blocks::{BLOCK, Block, BlockCache};
pub use zcache;
