//! Instructions on the paths that matter: what a busy machine cannot blur.
//!
//! A path is run under callgrind, and counted in three parts: what this workspace's code and the
//! standard library take, what the codec takes, and what shared libraries take (memcpy, malloc). The
//! first is what a change here moves, and what is kept in the tree, per compiler.

pub mod callgrind;
pub mod kept;
pub mod paths;
