#![doc = include_str!("../README.md")]

mod ffi;
mod file;
#[forbid(unsafe_code)]
mod pages;
#[forbid(unsafe_code)]
mod registry;
mod vfs;

pub use pages::Page;
pub use vfs::{Options, RegisterError, Vfs};
pub use zcache;
