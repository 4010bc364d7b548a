//! The output log: the process's last output, in at most two files of a bounded size.
//!
//! See [`kleene_doors::log`] for the format. A file that is full becomes the older one of the two,
//! and replaces the one that was.

use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kleene_doors::log::{FILE_HEADER, MAX_DATA, RECORD_HEADER, Stream, file_header, record_header};

use crate::status::{OUTPUT_LOG, OUTPUT_LOG_OLD};

/// The least that a log may occupy: less would hold no more than a line or two.
const LEAST: u64 = 64 << 10;

/// The log in an execution instance's directory.
pub(crate) struct Log {
    directory: PathBuf,
    /// Bytes that each of the files may have.
    capacity: u64,
    /// Bytes of data that a record may have, to fit into a file.
    longest: usize,
    file: Option<File>,
    size: u64,
    /// Bytes of all records so far.
    position: u64,
}

impl Log {
    /// An empty log, whose first file is made with the first output. Both files together occupy at
    /// most `limit` bytes, or [`LEAST`] if that is more.
    pub(crate) fn new(directory: &Path, limit: u64) -> Self {
        let capacity = limit.max(LEAST) / 2;
        let headers = FILE_HEADER + RECORD_HEADER;
        let longest = usize::try_from(capacity).unwrap_or(usize::MAX) - headers;
        Self {
            directory: directory.to_owned(),
            capacity,
            longest: longest.min(MAX_DATA),
            file: None,
            size: 0,
            position: 0,
        }
    }

    /// Adds a piece of output. A full disk loses pieces, never parts of one, and never stops the
    /// process.
    pub(crate) fn write(&mut self, stream: Stream, data: &[u8]) {
        for piece in data.chunks(self.longest) {
            if self.append(stream, piece).is_err()
                && let Some(file) = &self.file
            {
                // What a failed write has left behind. If it stays, readers stop there.
                drop(file.set_len(self.size));
            }
        }
    }

    fn append(&mut self, stream: Stream, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).map_err(io::Error::other)?;
        let header = record_header(now(), stream, length);
        let size = (header.len() + data.len()) as u64;
        if self.size + size > self.capacity {
            self.retire()?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.size = FILE_HEADER as u64;
                none.insert(create(&self.directory.join(OUTPUT_LOG), self.position)?)
            }
        };
        write_whole(file, &header, data)?;
        self.size += size;
        self.position += size;
        Ok(())
    }

    /// Makes the file the older one.
    fn retire(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            let [file, old] = [OUTPUT_LOG, OUTPUT_LOG_OLD].map(|name| self.directory.join(name));
            fs::rename(file, old)?;
            self.file = None;
        }
        Ok(())
    }
}

/// Makes a file whose first record has this position.
fn create(path: &Path, position: u64) -> io::Result<File> {
    let mut file = File::options().append(true).create_new(true).open(path)?;
    match write_whole(&mut file, &file_header(position), &[]) {
        Ok(()) => Ok(file),
        Err(error) => {
            fs::remove_file(path)?;
            Err(error)
        }
    }
}

/// Writes both parts by one system call. Files take less than all only when the disk is full.
fn write_whole(file: &mut File, header: &[u8], data: &[u8]) -> io::Result<()> {
    let parts = [IoSlice::new(header), IoSlice::new(data)];
    match file.write_vectored(&parts)? == header.len() + data.len() {
        true => Ok(()),
        false => Err(ErrorKind::StorageFull.into()),
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_doors::log::{next_record, parse_file_header};

    /// A file's position, and its records' streams and data.
    fn read(directory: &Path, name: &str) -> (u64, Vec<(Stream, Vec<u8>)>) {
        let bytes = fs::read(directory.join(name)).unwrap();
        let (header, mut rest) = bytes.split_first_chunk().unwrap();
        let mut records = Vec::new();
        while let Some(record) = next_record(rest).unwrap() {
            records.push((record.stream, record.data.to_vec()));
            rest = &rest[record.size()..];
        }
        assert!(rest.is_empty(), "a torn record");
        (parse_file_header(*header).unwrap(), records)
    }

    fn size(records: &[(Stream, Vec<u8>)]) -> u64 {
        let sizes = records.iter().map(|(_, data)| RECORD_HEADER + data.len());
        sizes.sum::<usize>() as u64
    }

    #[test]
    fn files_go_on_where_the_ones_before_ended() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut log = Log::new(path, 200_000);
        assert!(!path.join(OUTPUT_LOG).exists());
        log.write(Stream::Stderr, b"first");
        assert_eq!(
            read(path, OUTPUT_LOG),
            (0, vec![(Stream::Stderr, b"first".to_vec())])
        );
        for byte in 0..100_u8 {
            log.write(Stream::Stdout, &vec![byte; 5_000]);
        }
        let (old_position, old) = read(path, OUTPUT_LOG_OLD);
        let (position, records) = read(path, OUTPUT_LOG);
        assert_eq!(old_position + size(&old), position);
        let all = (RECORD_HEADER as u64 + 5) + 100 * (RECORD_HEADER as u64 + 5_000);
        assert_eq!(position + size(&records), all);
        assert_eq!(records.last().unwrap().1, [99; 5_000]);
        for name in [OUTPUT_LOG, OUTPUT_LOG_OLD] {
            assert!(fs::metadata(path.join(name)).unwrap().len() <= 100_000);
        }
    }

    #[test]
    fn a_limit_too_small_for_anything_is_raised() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut log = Log::new(path, 1);
        let data: Vec<u8> = (0..MAX_DATA).map(|n| (n % 251) as u8).collect();
        log.write(Stream::Stdout, &data);
        let mut kept = read(path, OUTPUT_LOG_OLD).1;
        kept.extend(read(path, OUTPUT_LOG).1);
        let kept: Vec<u8> = kept.into_iter().flat_map(|(_, data)| data).collect();
        assert!(kept.len() > 30 << 10);
        assert!(data.ends_with(&kept));
        for name in [OUTPUT_LOG, OUTPUT_LOG_OLD] {
            assert!(fs::metadata(path.join(name)).unwrap().len() <= LEAST / 2);
        }
    }

    #[test]
    fn a_directory_that_is_gone_stops_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = Log::new(directory.path(), LEAST);
        log.write(Stream::Stdout, b"kept");
        drop(directory);
        log.write(Stream::Stdout, &vec![0; log.longest]);
        assert_eq!(log.position, RECORD_HEADER as u64 + 4);
    }
}
