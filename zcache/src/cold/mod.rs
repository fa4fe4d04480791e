//! What is done beside the callers: cold entries are compressed again, dictionaries are trained.

mod pack;
mod recompress;
mod train;

pub(crate) use train::{Trained, sample_bytes};
