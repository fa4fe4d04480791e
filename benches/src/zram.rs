//! The kernel itself: the same pages in `/dev/zram0`, where it exists and the user is root.
//!
//! The device must be idle. It is reset and gets its algorithm back when a [`Device`] is dropped; a
//! program killed in between leaves it configured (`echo 1 > /sys/block/zram0/reset`). The kernel
//! compresses with its own LZ4 and stores no same-filled pages, so its payload differs a little.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::kernel::HANDLE;
use crate::packing::{Allocator, Failure, Held, Live};
use ::tests::corpus::PageFile;

const SYSFS: &str = "/sys/block/zram0";
const DEVICE: &str = "/dev/zram0";
const PAGE: usize = 4096;
const ALGORITHM: &str = "lz4";

/// Why the kernel's own figure cannot be had. Prints as one line.
#[derive(Debug)]
#[non_exhaustive]
pub enum ZramError {
    /// There is no zram device.
    Missing,
    /// Somebody uses the device.
    Busy,
    /// Not permitted, or the kernel refused: what was tried, and what it said.
    Refused(&'static str, io::Error),
    /// The pages are not 4 KiB.
    PageSize(usize),
}

impl fmt::Display for ZramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "there is no {DEVICE}"),
            Self::Busy => write!(f, "{DEVICE} is in use"),
            Self::Refused(what, error) => write!(f, "{DEVICE}: {what}: {error} (root is needed)"),
            Self::PageSize(bytes) => write!(f, "zram takes pages of {PAGE} bytes, not {bytes}"),
        }
    }
}

impl std::error::Error for ZramError {}

/// A page as O_DIRECT wants it.
#[repr(align(4096))]
struct Aligned([u8; PAGE]);

/// The device, set up and open. Reading and writing want memory that is aligned to a page, whole pages of
/// it, and place them at whole pages.
#[derive(Debug)]
pub struct Device {
    file: Option<File>,
    /// The algorithm to give back.
    before: String,
}

/// What the kernel says of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Objects stored: pages but those that are same-filled.
    pub objects: usize,
    /// Sum of their lengths.
    pub payload_bytes: usize,
    /// Bytes of all pages.
    pub page_bytes: usize,
}

/// The device, holding pages of one file.
pub struct Zram<'a> {
    file: &'a PageFile,
    device: Device,
    page: Box<Aligned>,
    /// Pages of the device that hold nothing of use.
    vacant: Vec<u32>,
}

impl fmt::Debug for Zram<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zram").field("vacant", &self.vacant.len()).finish_non_exhaustive()
    }
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

impl Device {
    /// Sets the idle device up for `pages` pages of 4 KiB.
    ///
    /// # Errors
    /// See [`ZramError`]; the device is as before then.
    pub fn new(pages: usize) -> Result<Self, ZramError> {
        if !Path::new(DEVICE).exists() {
            return Err(ZramError::Missing);
        }
        let refused = |what| move |error| ZramError::Refused(what, error);
        if get("disksize").map_err(refused("reading its size"))?.trim() != "0" {
            return Err(ZramError::Busy);
        }
        let list = get("comp_algorithm").map_err(refused("reading its algorithms"))?;
        let before = chosen(&list).unwrap_or("lzo-rle").to_owned();
        set("comp_algorithm", ALGORITHM).map_err(refused("choosing lz4"))?;
        // From here on, dropping it restores the device.
        let mut device = Self { file: None, before };
        set("disksize", &(pages * PAGE).to_string()).map_err(refused("setting its size"))?;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_DIRECT).open(DEVICE);
        device.file = Some(file.map_err(refused("opening it"))?);
        Ok(device)
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::Error::other("the device is closed"))
    }

    /// Writes `bytes` from page `page` on.
    ///
    /// # Errors
    /// The kernel's: alignment, the end of the device, memory.
    pub fn write(&self, page: u64, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all_at(bytes, page * PAGE as u64)
    }

    /// Fills `bytes` from page `page` on.
    ///
    /// # Errors
    /// The kernel's: alignment, the end of the device.
    pub fn read(&self, page: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.file()?.read_exact_at(bytes, page * PAGE as u64)
    }

    /// What it holds now, from `mm_stat`.
    ///
    /// # Errors
    /// It cannot be read, or does not say so.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let mm_stat = get("mm_stat")?;
        let fields: Result<Vec<usize>, _> = mm_stat.split_whitespace().map(str::parse).collect();
        let fields = fields?;
        let (Some(original), Some(payload), Some(used), Some(same)) =
            (fields.first(), fields.get(1), fields.get(2), fields.get(5))
        else {
            return Err("mm_stat has fewer fields than expected".into());
        };
        let objects = (original / PAGE).saturating_sub(*same);
        Ok(Usage { objects, payload_bytes: *payload, page_bytes: *used })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.file = None;
        // Nothing can be done about a kernel that refuses; the next user is told that it is in use.
        let _ = set("reset", "1");
        let _ = set("comp_algorithm", &self.before);
    }
}

impl<'a> Zram<'a> {
    /// Sets the idle device up for `pages` pages out of `file`.
    ///
    /// # Errors
    /// See [`ZramError`]; the device is as before then.
    pub fn new(file: &'a PageFile, pages: usize) -> Result<Self, ZramError> {
        if file.page_size() != PAGE {
            return Err(ZramError::PageSize(file.page_size()));
        }
        let vacant = (0..pages as u32).rev().collect();
        let page = Box::new(Aligned([0; PAGE]));
        Ok(Self { file, device: Device::new(pages)?, page, vacant })
    }
}

impl Allocator for Zram<'_> {
    type Place = u32;

    fn put(&mut self, payload: u32) -> Result<u32, Failure> {
        let slot = self.vacant.pop().ok_or("the device is full")?;
        let page = self.file.pages().nth(payload as usize).ok_or("no such page")?;
        self.page.0.copy_from_slice(page);
        self.device.write(slot.into(), &self.page.0)?;
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

    /// Of the metadata only the handles are known: the slab of zspages is one that the kernel shares with
    /// others.
    fn held(&mut self, _: &[Live<u32>]) -> Result<Held, Failure> {
        let Usage { objects, payload_bytes, page_bytes } = self.device.usage()?;
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
