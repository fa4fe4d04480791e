//! Memory whose pages come and go.

mod block;
mod words;

pub use words::{NoMemory, Words};
