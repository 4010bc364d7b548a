//! Temporary files: FreeBSD can't open a file in memory again.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(super) struct Storage {
    pub file: File,
    path: PathBuf,
}

impl Storage {
    pub fn new() -> io::Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kleene-fake-log-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        Ok(Self {
            file: File::create_new(&path)?,
            path,
        })
    }

    /// For reading, from its beginning.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // A temporary file that stays harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}
