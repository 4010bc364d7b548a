//! Files in memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use rustix::fs::MemfdFlags;

pub(super) struct Storage {
    pub file: File,
}

impl Storage {
    pub fn new() -> io::Result<Self> {
        let file = rustix::fs::memfd_create("kleene-fake-log", MemfdFlags::CLOEXEC)?;
        Ok(Self { file: file.into() })
    }

    /// For reading, from its beginning.
    pub fn open(&self) -> io::Result<File> {
        File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}
