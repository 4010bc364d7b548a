//! The output that is kept of containers, as a stream of records.

use bytes::{Buf, Bytes, BytesMut};
use kleene_api::LOG_RECORDS;

use crate::body::Download;
use crate::client::{Client, segment};
use crate::containers::of;
use crate::error::ClientError;
use crate::query::Query;

/// Bytes of a record before its data: see [`LOG_RECORDS`].
const HEADER: usize = 13;

/// Longest data that a record has: 64 KiB.
const LONGEST: usize = 64 << 10;

/// Which part of the output is wanted. Times are RFC 3339, or seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what is written from now on, until the container ends.
    pub follow: bool,
    /// Only what was written at this time or later.
    pub since: Option<String>,
    /// Only what was written before this time.
    pub until: Option<String>,
    /// Only this many lines at the end.
    pub tail: Option<u64>,
    /// Standard output, or the terminal.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            follow: false,
            since: None,
            until: None,
            tail: None,
            stdout: true,
            stderr: true,
        }
    }
}

/// Where a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Microseconds since 1970.
    pub time: u64,
    /// Where it came from.
    pub output: Output,
    /// What was written: any piece of it, not always whole lines.
    pub data: Bytes,
}

impl Client {
    /// The output that is kept of a container.
    ///
    /// # Errors
    /// When there is no such container, or an option is bad.
    pub async fn container_logs(
        &self,
        container: &str,
        options: &LogOptions,
    ) -> Result<LogStream, ClientError> {
        self.logs(&of(container, "logs"), options).await
    }

    /// The output that is kept of an execution instance.
    ///
    /// # Errors
    /// When there is none of that id, or an option is bad.
    pub async fn exec_logs(
        &self,
        exec: &str,
        options: &LogOptions,
    ) -> Result<LogStream, ClientError> {
        self.logs(&format!("/exec/{}/logs", segment(exec)), options)
            .await
    }

    async fn logs(&self, path: &str, options: &LogOptions) -> Result<LogStream, ClientError> {
        let tail = options.tail.map(|lines| lines.to_string());
        let query = Query::new(path)
            .text("format", "records")
            .flag("follow", options.follow)
            .flag("stdout", options.stdout)
            .flag("stderr", options.stderr)
            .optional("since", options.since.as_deref())
            .optional("until", options.until.as_deref())
            .optional("tail", tail.as_deref());
        let body = self.download(&query.finish(), LOG_RECORDS).await?;
        Ok(LogStream {
            body,
            records: Records::default(),
        })
    }
}

/// Records as they arrive.
pub struct LogStream {
    body: Download,
    records: Records,
}

impl LogStream {
    /// The next record; `None` at the end. Nothing is lost when the future is dropped before it is
    /// ready.
    ///
    /// # Errors
    /// When the connection breaks, or what comes is no log.
    pub async fn next(&mut self) -> Result<Option<LogRecord>, ClientError> {
        loop {
            if let Some(record) = self.records.take()? {
                return Ok(Some(record));
            }
            match self.body.chunk().await? {
                Some(chunk) => self.records.add(chunk),
                None if self.records.is_empty() => return Ok(None),
                None => return Err(ClientError::protocol("a log that ends within a record")),
            }
        }
    }

    /// The next record if it has arrived already, without waiting: so that a caller can gather many
    /// before it writes them on.
    ///
    /// # Errors
    /// When what came is no log.
    pub fn ready(&mut self) -> Result<Option<LogRecord>, ClientError> {
        self.records.take()
    }
}

/// Bytes of a body in pieces, cut into records. A record that lies in one piece is not copied.
#[derive(Default)]
struct Records {
    /// The record that begins in former pieces, and possibly more.
    joined: BytesMut,
    /// The newest piece, without what was taken.
    piece: Bytes,
}

impl Records {
    fn add(&mut self, piece: Bytes) {
        // What is left of the former piece is the beginning of a record, or there is nothing left.
        self.joined.extend_from_slice(&self.piece);
        self.piece = piece;
    }

    fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.piece.is_empty()
    }

    fn take(&mut self) -> Result<Option<LogRecord>, ClientError> {
        if self.joined.is_empty() {
            return take_whole(&mut self.piece);
        }
        // Only the record that straddles two pieces is put together.
        self.complete(HEADER);
        let Some(header) = Header::parse(&self.joined)? else {
            return Ok(None);
        };
        self.complete(HEADER + header.length);
        if self.joined.len() < HEADER + header.length {
            return Ok(None);
        }
        self.joined.advance(HEADER);
        let data = self.joined.split().freeze();
        Ok(Some(header.record(data)))
    }

    /// Moves bytes over until `size` are joined, as far as there are any.
    fn complete(&mut self, size: usize) {
        let missing = size.saturating_sub(self.joined.len());
        let moved = self.piece.split_to(missing.min(self.piece.len()));
        self.joined.extend_from_slice(&moved);
    }
}

/// The first record of a piece, if it lies in it as a whole.
fn take_whole(piece: &mut Bytes) -> Result<Option<LogRecord>, ClientError> {
    let Some(header) = Header::parse(piece)? else {
        return Ok(None);
    };
    if piece.len() < HEADER + header.length {
        return Ok(None);
    }
    piece.advance(HEADER);
    let data = piece.split_to(header.length);
    Ok(Some(header.record(data)))
}

struct Header {
    time: u64,
    output: Output,
    length: usize,
}

impl Header {
    /// The header at the beginning of some bytes; `None` when they are too few.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ClientError> {
        let Some(header) = bytes.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [t0, t1, t2, t3, t4, t5, t6, t7, output, l0, l1, l2, l3] = *header;
        let output = match output {
            1 => Output::Stdout,
            2 => Output::Stderr,
            _ => return Err(damaged()),
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > LONGEST {
            return Err(damaged());
        }
        Ok(Some(Self {
            time: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
            output,
            length,
        }))
    }

    fn record(&self, data: Bytes) -> LogRecord {
        LogRecord {
            time: self.time,
            output: self.output,
            data,
        }
    }
}

fn damaged() -> ClientError {
    ClientError::protocol("bytes that are no record of a log")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(records: &[LogRecord]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            bytes.extend(record.time.to_le_bytes());
            bytes.push(match record.output {
                Output::Stdout => 1,
                Output::Stderr => 2,
            });
            bytes.extend(u32::try_from(record.data.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&record.data);
        }
        bytes
    }

    #[test]
    fn records_arrive_in_any_pieces() {
        let record = |time, output, data: Vec<u8>| LogRecord {
            time,
            output,
            data: data.into(),
        };
        let sent = [
            record(1, Output::Stdout, b"hello\n".to_vec()),
            record(u64::MAX, Output::Stderr, Vec::new()),
            record(3, Output::Stderr, vec![7; LONGEST]),
            record(4, Output::Stdout, vec![0, 1, 2]),
        ];
        let wire = Bytes::from(bytes(&sent));
        for size in [1, 2, 12, 13, 14, 19, 20, 4096, 65_549, wire.len()] {
            let mut records = Records::default();
            let mut got = Vec::new();
            let mut rest = wire.clone();
            while !rest.is_empty() {
                records.add(rest.split_to(size.min(rest.len())));
                while let Some(record) = records.take().unwrap() {
                    got.push(record);
                }
            }
            assert!(records.is_empty(), "pieces of {size}");
            assert!(got == sent, "pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for wire in [
            vec![0; HEADER],
            bytes(&[LogRecord {
                time: 0,
                output: Output::Stdout,
                data: vec![0; LONGEST + 1].into(),
            }]),
        ] {
            let mut records = Records::default();
            records.add(wire.into());
            assert!(records.take().is_err());
        }
    }
}
