//! The kernel itself: the same pages in `/dev/zram0`, where it exists and the user is root.
//!
//! The device must be idle. It is reset and gets its algorithm back when a [`Zram`] is dropped; a
//! program that is killed in between leaves it configured (`echo 1 > /sys/block/zram0/reset`). The
//! kernel compresses with its own LZ4 and stores no same-filled pages, so its payload differs a
//! little.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use ::tests::corpus::PageFile;
use benches::arguments::Failure;

use crate::kernel::HANDLE;
use crate::packing::{Allocator, Held, Live};

const SYSFS: &str = "/sys/block/zram0";
const DEVICE: &str = "/dev/zram0";
const PAGE: usize = 4096;
const ALGORITHM: &str = "lz4";

/// A page as O_DIRECT wants it.
#[repr(align(4096))]
struct Aligned([u8; PAGE]);

/// The device, holding pages of one file.
pub(crate) struct Zram<'a> {
    pages: &'a PageFile,
    file: Option<File>,
    /// The algorithm to give back.
    before: String,
    page: Box<Aligned>,
    /// Pages of the device that hold nothing of use.
    vacant: Vec<u32>,
}

fn get(name: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(SYSFS).join(name))
}

fn set(name: &str, value: &str) -> io::Result<()> {
    fs::write(Path::new(SYSFS).join(name), value)
}

/// The bracketed word of a list of algorithms.
fn chosen(list: &str) -> Option<&str> {
    list.split_once('[')?.1.split_once(']').map(|(name, _)| name)
}

/// What the device's driver or the file system said, as one line.
fn tried<T>(what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| format!("{DEVICE}: {what}: {error} (root is needed)").into())
}

impl<'a> Zram<'a> {
    /// Sets the idle device up for `count` pages out of `pages`.
    pub(crate) fn new(pages: &'a PageFile, count: usize) -> Result<Self, Failure> {
        if pages.page_size() != PAGE {
            return Err(format!("zram takes pages of {PAGE} bytes").into());
        }
        if tried("reading its size", get("disksize"))?.trim() != "0" {
            return Err(format!("{DEVICE} is in use").into());
        }
        let list = tried("reading its algorithms", get("comp_algorithm"))?;
        let before = chosen(&list).unwrap_or("lzo-rle").to_owned();
        tried("choosing lz4", set("comp_algorithm", ALGORITHM))?;
        let (page, vacant) = (Box::new(Aligned([0; PAGE])), (0..count as u32).rev().collect());
        // From here on, dropping it restores the device.
        let mut zram = Self { pages, file: None, before, page, vacant };
        tried("setting its size", set("disksize", &(count * PAGE).to_string()))?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_DIRECT).open(DEVICE);
        zram.file = Some(tried("opening it", file)?);
        Ok(zram)
    }
}

impl Drop for Zram<'_> {
    fn drop(&mut self) {
        self.file = None;
        // Nothing can be done about a kernel that refuses; the next user is told that it is in use.
        let _ = set("reset", "1");
        let _ = set("comp_algorithm", &self.before);
    }
}

impl Allocator for Zram<'_> {
    type Place = u32;

    fn put(&mut self, payload: u32) -> Result<u32, Failure> {
        let slot = self.vacant.pop().ok_or("the device is full")?;
        self.page.0.copy_from_slice(self.pages.page(payload as usize));
        let file = self.file.as_ref().ok_or("the device is closed")?;
        file.write_all_at(&self.page.0, u64::from(slot) * PAGE as u64)?;
        Ok(slot)
    }

    /// The page stays until the next one is written over it.
    fn free(&mut self, (slot, _): Live<u32>) -> Result<(), Failure> {
        self.vacant.push(slot);
        Ok(())
    }

    fn compact(&mut self) -> Result<(), Failure> {
        Ok(set("compact", "1")?)
    }

    /// Of the metadata only the handles are known: the slab of zspages is one that the kernel
    /// shares with others.
    fn held(&mut self, _: &[Live<u32>]) -> Result<Held, Failure> {
        let mm_stat = get("mm_stat")?;
        let fields: Vec<usize> =
            mm_stat.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [original, payload_bytes, page_bytes, _, _, same, ..] = fields[..] else {
            return Err("mm_stat has fewer fields than expected".into());
        };
        // Same-filled pages are no objects.
        let objects = (original / PAGE).saturating_sub(same);
        Ok(Held { objects, payload_bytes, page_bytes, metadata_bytes: objects * HANDLE })
    }
}

#[cfg(test)]
mod tests {
    use super::chosen;

    #[test]
    fn the_bracketed_algorithm_is_the_chosen_one() {
        assert_eq!(chosen("lzo-rle lzo [lz4] zstd\n"), Some("lz4"));
        assert_eq!(chosen("lz4"), None);
    }
}
