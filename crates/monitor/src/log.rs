//! The output log: the process's last output, in at most two files of a bounded size.
//!
//! See [`crate::status::OUTPUT_LOG`] for the format.

use std::fs::{self, File};
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::status::{OUTPUT_LOG, OUTPUT_LOG_OLD};

/// Size of one file.
const LIMIT: u64 = 16 << 20;

/// Which stream a piece came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout = 1,
    Stderr = 2,
}

/// The log in the working directory.
pub(crate) struct Log {
    file: Option<File>,
    size: u64,
}

impl Log {
    /// An empty log, whose file is made with the first output.
    pub(crate) fn new() -> Self {
        Self {
            file: None,
            size: 0,
        }
    }

    /// Adds a piece of output. A full disk loses pieces, never parts of one, and never stops the
    /// process.
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8]) {
        if self.append(stream, data).is_err()
            && let Some(file) = &self.file
        {
            // What a failed write has left behind. If it stays, readers stop there.
            drop(file.set_len(self.size));
        }
    }

    fn append(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(data.len() + 13);
        record.extend(now.to_le_bytes());
        record.push(stream as u8);
        record.extend(length.to_le_bytes());
        record.extend(data);
        if self.file.is_none() || self.size + record.len() as u64 > LIMIT {
            self.rotate()?;
        }
        if let Some(file) = &mut self.file {
            file.write_all(&record)?;
            self.size += record.len() as u64;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            fs::rename(OUTPUT_LOG, OUTPUT_LOG_OLD)?;
            self.file = None;
        }
        self.file = Some(
            File::options()
                .append(true)
                .create_new(true)
                .open(OUTPUT_LOG)?,
        );
        self.size = 0;
        Ok(())
    }
}
