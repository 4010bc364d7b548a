//! Reads output logs piece by piece, as [`kleene_doors::log`] describes them.
//!
//! A [`LogReader`] holds the files of one log or several open, so that their rotation takes nothing
//! away that it hasn't read yet, and reads a bounded piece at a time. It never waits: who follows a
//! log learns from the monitor when there is more, and shows the reader the files anew.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use kleene_doors::log::{
    FILE_HEADER, Record, Stream, next_record, parse_file_header, record_header,
};
use kleene_types::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::io::pread;

/// Bytes that are read at once. More than any record has.
const CHUNK: usize = 512 << 10;

/// Which records are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Selection {
    /// Those of standard output, or the terminal.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
    /// Those of this time or later, in microseconds since 1970.
    pub since: u64,
    /// Those before this time.
    pub until: u64,
}

impl Selection {
    /// Every record.
    pub const ALL: Self = Self {
        stdout: true,
        stderr: true,
        since: 0,
        until: u64::MAX,
    };

    fn takes(&self, record: &Record<'_>) -> bool {
        let stream = match record.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        stream && (self.since..self.until).contains(&record.time)
    }
}

/// How output is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Records as they are in the log.
    Records,
    /// What was written, of both streams in its order.
    Text {
        /// Whether each line begins with its time.
        timestamps: bool,
    },
}

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Some of it; never empty.
    Data(Bytes),
    /// Nothing of what was read was wanted; there may be more.
    Nothing,
    /// That is all there is now.
    End,
}

/// Reads logs.
#[derive(Debug)]
pub struct LogReader {
    files: VecDeque<LogFile>,
    /// The position at which the newest file of the last log begins.
    newest: Option<u64>,
    output: Output,
}

impl LogReader {
    /// A reader of no logs yet.
    pub fn new(selection: Selection, format: Format) -> Self {
        Self {
            files: VecDeque::new(),
            newest: None,
            output: Output {
                selection,
                format,
                skip_lines: 0,
                at_line_start: true,
            },
        }
    }

    /// Adds a log behind those that it has: its files, the oldest first. They are read up to what
    /// they hold now, so that a busy process can't make this endless.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn add(&mut self, files: Vec<File>) -> io::Result<()> {
        self.newest = None;
        for file in files {
            let end = file.metadata()?.len();
            self.push(file, end)?;
        }
        Ok(())
    }

    /// Adds a log that grows, as the last one. All of it is read, also what comes later: see
    /// [`LogReader::renew`].
    ///
    /// # Errors
    /// When the files can't be read.
    pub fn add_growing(&mut self, files: Vec<File>) -> io::Result<()> {
        self.newest = None;
        self.renew(files).map(drop)
    }

    /// Takes over those files of the last log that have been begun since it was added; whether there
    /// are any.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn renew(&mut self, files: Vec<File>) -> io::Result<bool> {
        let mut new = false;
        for file in files {
            new |= self.push(file, u64::MAX)?;
        }
        Ok(new)
    }

    /// Adds a file, unless it is known already, or isn't (yet) one of a log.
    fn push(&mut self, file: File, end: u64) -> io::Result<bool> {
        let Some(position) = position(&file)? else {
            return Ok(false);
        };
        if self.newest.is_some_and(|newest| position <= newest) {
            return Ok(false);
        }
        self.newest = Some(position);
        self.files.push_back(LogFile {
            file,
            next: FILE_HEADER as u64,
            end,
        });
        Ok(true)
    }

    /// Leaves out all but the last lines of what the files hold. Lines end with a newline of
    /// whichever stream.
    ///
    /// # Errors
    /// When the files can't be read.
    pub fn keep_last_lines(&mut self, lines: u64) -> io::Result<()> {
        // The newest file is counted first, since the others may not matter.
        let mut newlines = 0;
        let mut last_byte = None;
        for index in (0..self.files.len()).rev() {
            let Some(file) = self.files.get_mut(index) else {
                break;
            };
            let count = file.count(&self.output.selection)?;
            if lines == 0 {
                file.next = count.end;
                self.files.drain(..index);
                return Ok(());
            }
            last_byte = last_byte.or(count.last_byte);
            newlines += count.newlines;
            // The last line may have no newline.
            let unended = last_byte.is_some_and(|byte| byte != b'\n');
            let wanted = lines - u64::from(unended);
            if newlines > wanted {
                self.output.skip_lines = newlines - wanted;
                self.files.drain(..index);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The next piece.
    ///
    /// # Errors
    /// When a file can't be read. A file that is damaged ends where the damage begins.
    pub fn read(&mut self) -> io::Result<Piece> {
        loop {
            let Some(file) = self.files.front_mut() else {
                return Ok(Piece::End);
            };
            let (read, data) = self.output.convert(file.peek()?);
            if read > 0 {
                file.next += read as u64;
                return Ok(match data.is_empty() {
                    true => Piece::Nothing,
                    false => Piece::Data(data),
                });
            }
            if self.files.len() == 1 {
                // It stays open, since it may grow.
                return Ok(Piece::End);
            }
            self.files.pop_front();
        }
    }
}

/// The position in a file's header; `None` when there is none, or not the whole of it yet.
fn position(file: &File) -> io::Result<Option<u64>> {
    let mut header = [0; FILE_HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => Ok(parse_file_header(header).ok()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// One file.
#[derive(Debug)]
struct LogFile {
    file: File,
    /// Where the next record begins.
    next: u64,
    /// Where reading ends.
    end: u64,
}

/// What a file holds.
struct Count {
    newlines: u64,
    last_byte: Option<u8>,
    /// Where its last whole record ends.
    end: u64,
}

impl LogFile {
    /// What comes next: whole records, and the beginning of another one.
    fn peek(&self) -> io::Result<Vec<u8>> {
        let end = self.file.metadata()?.len().min(self.end);
        let there = usize::try_from(end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(there.min(CHUNK));
        if there > 0 {
            pread(&self.file, spare_capacity(&mut bytes), self.next)?;
        }
        // An allocator may give more than was asked for.
        bytes.truncate(there);
        Ok(bytes)
    }

    /// Counts what is left of it.
    fn count(&self, selection: &Selection) -> io::Result<Count> {
        let mut left = Self {
            file: self.file.try_clone()?,
            next: self.next,
            // What is added meanwhile isn't counted.
            end: self.file.metadata()?.len().min(self.end),
        };
        let mut count = Count {
            newlines: 0,
            last_byte: None,
            end: self.next,
        };
        loop {
            let bytes = left.peek()?;
            let mut records = Records(&bytes);
            for record in records.by_ref().filter(|record| selection.takes(record)) {
                count.newlines += newlines(record.data);
                count.last_byte = record.data.last().copied().or(count.last_byte);
            }
            let read = bytes.len() - records.0.len();
            if read == 0 {
                return Ok(count);
            }
            left.next += read as u64;
            count.end = left.next;
        }
    }
}

fn newlines(data: &[u8]) -> u64 {
    data.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The whole records at the beginning of some bytes; what is behind them is left.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        // A damaged record can't be skipped, since nobody knows how long it is.
        let record = next_record(self.0).ok()??;
        self.0 = self.0.get(record.size()..)?;
        Some(record)
    }
}

/// Turns what was read into what is wanted.
#[derive(Debug)]
struct Output {
    selection: Selection,
    format: Format,
    /// Lines that are left out before anything is given.
    skip_lines: u64,
    at_line_start: bool,
}

impl Output {
    /// How many bytes were turned into something, and what.
    fn convert(&mut self, mut bytes: Vec<u8>) -> (usize, Bytes) {
        let length = bytes.len();
        let unchanged = self.format == Format::Records
            && self.selection == Selection::ALL
            && self.skip_lines == 0;
        if unchanged {
            let mut records = Records(&bytes);
            records.by_ref().for_each(drop);
            let whole = length - records.0.len();
            bytes.truncate(whole);
            return (whole, bytes.into());
        }
        let mut output = Vec::new();
        let mut records = Records(&bytes);
        // Times make text longer than what it is made of.
        while output.len() < CHUNK
            && let Some(record) = records.next()
        {
            if self.selection.takes(&record) {
                let data = self.skip(record.data);
                self.write(&mut output, Record { data, ..record });
            }
        }
        (length - records.0.len(), output.into())
    }

    /// What of some data is behind the lines to leave out.
    fn skip<'a>(&mut self, mut data: &'a [u8]) -> &'a [u8] {
        while self.skip_lines > 0 {
            let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
                return &[];
            };
            data = data.get(end + 1..).unwrap_or_default();
            self.skip_lines -= 1;
        }
        data
    }

    fn write(&mut self, output: &mut Vec<u8>, record: Record<'_>) {
        match self.format {
            _ if record.data.is_empty() => {}
            Format::Records => {
                let length = u32::try_from(record.data.len()).unwrap_or(u32::MAX);
                output.extend(record_header(record.time, record.stream, length));
                output.extend_from_slice(record.data);
            }
            Format::Text { timestamps: false } => output.extend_from_slice(record.data),
            Format::Text { timestamps: true } => self.write_lines(output, &record),
        }
    }

    fn write_lines(&mut self, output: &mut Vec<u8>, record: &Record<'_>) {
        let time = Timestamp::from_microseconds(record.time);
        let time = time.map_or_else(String::new, |time| format!("{time} "));
        for line in record.data.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start {
                output.extend(time.as_bytes());
            }
            output.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
        }
    }
}

#[cfg(test)]
mod tests;
