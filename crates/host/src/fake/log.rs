//! Output logs, in the format of [`kleene_doors::log`].

#[cfg(not(target_os = "freebsd"))]
#[path = "log/memory.rs"]
mod storage;
#[cfg(target_os = "freebsd")]
#[path = "log/temporary.rs"]
mod storage;

use std::fs::File;
use std::io::{self, Write};

use kleene_doors::log::{MAX_DATA, RECORD_HEADER, Stream, file_header, record_header};
use kleene_types::Timestamp;
use storage::Storage;

/// As many files as are kept.
const KEPT: usize = 2;

/// A process's log, in files that go with it.
#[derive(Default)]
pub(super) struct Log {
    files: Vec<Storage>,
    /// Bytes of all records so far.
    position: u64,
    begin_file: bool,
}

impl Log {
    /// Writes records of one piece of output.
    pub fn append(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        for chunk in data.chunks(MAX_DATA) {
            let length = u32::try_from(chunk.len()).map_err(io::Error::other)?;
            let header = record_header(Timestamp::now().microseconds(), stream, length);
            self.file()?.write_all(&[&header, chunk].concat())?;
            self.position += (RECORD_HEADER + chunk.len()) as u64;
        }
        Ok(())
    }

    /// Begins a new file with the next record.
    pub fn rotate(&mut self) {
        self.begin_file = true;
    }

    /// The files for reading from their beginnings, the oldest first.
    pub fn open(&self) -> io::Result<Vec<File>> {
        self.files.iter().map(Storage::open).collect()
    }

    /// The file that is written now.
    fn file(&mut self) -> io::Result<&File> {
        if self.begin_file || self.files.is_empty() {
            let storage = Storage::new()?;
            (&storage.file).write_all(&file_header(self.position))?;
            self.files.push(storage);
            self.begin_file = false;
            let old = self.files.len().saturating_sub(KEPT);
            self.files.drain(..old);
        }
        let last = self.files.last().map(|storage| &storage.file);
        last.ok_or_else(|| io::Error::other("no file"))
    }
}
