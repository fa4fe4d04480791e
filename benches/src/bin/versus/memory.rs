//! What the system says this process holds and has used.
//!
//! `smaps_rollup` counts page by page and is exact; `status` is quick and may lag by some pages a
//! processor. Neither call allocates, so that looking does not change what is seen. Linux only: elsewhere there is
//! no such file, and no run.

use std::fs::File;
use std::io::{self, Read, Seek};

use benches::packing::Failure;

/// Files of `/proc` that are read again and again.
#[derive(Debug)]
pub(crate) struct Memory {
    rollup: File,
    status: File,
}

/// The kibibytes that follow `name` in a text of `/proc`, as bytes.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

fn read<'a>(mut file: &File, to: &'a mut [u8]) -> io::Result<&'a str> {
    file.rewind()?;
    let len = file.read(to)?;
    std::str::from_utf8(&to[..len]).map_err(io::Error::other)
}

impl Memory {
    pub(crate) fn open() -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/self/{name}"));
        Ok(Self { rollup: open("smaps_rollup")?, status: open("status")? })
    }

    /// Anonymous memory and memory of memfds, in bytes; exact.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let mut to = [0; 4096];
        let text = read(&self.rollup, &mut to)?;
        let anonymous =
            field(text, "Anonymous:").ok_or("smaps_rollup names no anonymous memory")?;
        Ok(anonymous + field(text, "Pss_Shmem:").unwrap_or(0))
    }

    /// The same by `status`.
    pub(crate) fn glance(&self) -> Result<u64, Failure> {
        let mut to = [0; 4096];
        let text = read(&self.status, &mut to)?;
        let anonymous = field(text, "RssAnon:").ok_or("status names no anonymous memory")?;
        Ok(anonymous + field(text, "RssShmem:").unwrap_or(0))
    }
}

/// Seconds that processors spent on all threads of this process that still run.
pub(crate) fn cpu_seconds() -> Result<f64, Failure> {
    let mut nanoseconds = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let on = text.split_whitespace().next().ok_or("schedstat is empty")?;
        nanoseconds += on.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_seen() {
        const BYTES: usize = 32 << 20;
        let memory = Memory::open().unwrap();
        // Tests beside this one hold memory too, and give it back between two looks.
        let is_seen = |_| {
            let before = memory.resident().unwrap();
            let block = std::hint::black_box(vec![1_u8; BYTES]);
            let after = memory.resident().unwrap();
            assert!(memory.glance().unwrap() > block.len() as u64);
            after >= before + BYTES as u64
        };
        assert!((0..100).any(is_seen));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "Rss: 9 kB\nAnonHugePages: 8 kB\nAnonymous:   7 kB\n";
        assert_eq!(field(text, "Anonymous:"), Some(7 << 10));
        assert_eq!(field(text, "Pss_Shmem:"), None);
    }
}
