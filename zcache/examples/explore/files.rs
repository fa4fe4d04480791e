//! Page files by their names: `pg-gitlog-8k.bin`, or `.bin.zst` where zstd packed it.
#![allow(unreachable_pub, reason = "the support library of the tests passes these on")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// zstd frames may look back this far, zstd's most: 2^31 bytes, or 2^30 where addresses have 32
/// bits.
pub const WINDOW_LOG: u32 = if cfg!(target_pointer_width = "64") { 31 } else { 30 };

/// The page files at `path`: itself, or all in the directory, by name. A directory may have none.
///
/// # Errors
/// There is nothing at `path`, or it cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !fs::metadata(path)?.is_dir() {
        return Ok(vec![path.into()]);
    }
    let entries = fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()?.into_iter();
    let paths = entries.map(|entry| entry.path());
    let mut paths: Vec<PathBuf> = paths.filter(|path| stem(path) != file_name(path)).collect();
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The file's name without `.bin` and `.bin.zst`.
#[must_use]
pub fn stem(path: &Path) -> String {
    let name = file_name(path);
    let plain = name.strip_suffix(".zst").unwrap_or(&name);
    plain.strip_suffix(".bin").map_or(name.clone(), str::to_owned)
}

/// The page size that a name ends in: `pg-gitlog-8k` has 8192.
#[must_use]
pub fn named_size(name: &str) -> Option<usize> {
    let (_, size) = name.rsplit_once('-')?;
    size.strip_suffix('k')?.parse::<usize>().ok()?.checked_mul(1024)
}
