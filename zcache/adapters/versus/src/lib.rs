//! What the adapters' tables are made with: rows of made text, a load, resident memory of a child
//! process each, and a table of what came of it.
#![forbid(unsafe_code)]

mod child;
mod codec;
mod load;
mod options;
mod program;
mod reads;
mod rows;
mod table;
mod words;

pub use child::{Beside, Setup, Subject};
pub use codec::{maintainer, with_codec};
pub use program::run;
pub use reads::Reads;
pub use rows::{Kind, Rows};
