//! The format of output logs: written by monitors, read by the daemon.
//!
//! A log is one file or several, each of a bounded size. A file begins with a header: eight bytes
//! [`MAGIC`], and eight bytes with the *position* of its first record, which is the number of bytes
//! of all records before it, however long ago they were thrown away. So a reader that knows its
//! position finds its place again after the files were rotated. Records follow: eight bytes of
//! microseconds since 1970, one byte of stream, four bytes of length, and the data. All numbers are
//! little-endian.

/// The first bytes of a file.
pub const MAGIC: [u8; 8] = *b"kleenlog";

/// Bytes of a file's header.
pub const FILE_HEADER: usize = 16;

/// Bytes of a record before its data.
pub const RECORD_HEADER: usize = 13;

/// Most bytes of data in one record: 64 KiB.
pub const MAX_DATA: usize = crate::frames::MAX_CHUNK;

/// What a log of an execution instance may occupy when nobody says otherwise: 32 MiB.
pub const DEFAULT_LIMIT: u64 = 32 << 20;

/// Which stream a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its byte in a record.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Stdout => 1,
            Self::Stderr => 2,
        }
    }
}

/// One piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Microseconds since 1970.
    pub time: u64,
    /// Where it came from.
    pub stream: Stream,
    /// What was written.
    pub data: &'a [u8],
}

impl Record<'_> {
    /// Bytes of the whole record.
    pub fn size(&self) -> usize {
        RECORD_HEADER + self.data.len()
    }
}

/// Bytes that are not a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log is damaged")]
pub struct Damaged;

/// A file's header.
pub fn file_header(position: u64) -> [u8; FILE_HEADER] {
    let mut header = [0; FILE_HEADER];
    let (magic, rest) = header.split_at_mut(MAGIC.len());
    magic.copy_from_slice(&MAGIC);
    rest.copy_from_slice(&position.to_le_bytes());
    header
}

/// The position in a file's header.
///
/// # Errors
/// When it is none.
pub fn parse_file_header(header: [u8; FILE_HEADER]) -> Result<u64, Damaged> {
    let (magic, position) = header.split_first_chunk::<8>().ok_or(Damaged)?;
    let position = position.first_chunk::<8>().ok_or(Damaged)?;
    match *magic == MAGIC {
        true => Ok(u64::from_le_bytes(*position)),
        false => Err(Damaged),
    }
}

/// The bytes of a record before its data. `length` is at most [`MAX_DATA`].
pub fn record_header(time: u64, stream: Stream, length: u32) -> [u8; RECORD_HEADER] {
    let mut header = [0; RECORD_HEADER];
    let fields = time.to_le_bytes().into_iter();
    let fields = fields.chain([stream.byte()]).chain(length.to_le_bytes());
    for (place, byte) in header.iter_mut().zip(fields) {
        *place = byte;
    }
    header
}

/// The first record of some bytes; `None` when they don't hold the whole of it.
///
/// # Errors
/// The bytes are no record.
pub fn next_record(bytes: &[u8]) -> Result<Option<Record<'_>>, Damaged> {
    let Some((header, rest)) = bytes.split_first_chunk::<RECORD_HEADER>() else {
        return Ok(None);
    };
    let [t0, t1, t2, t3, t4, t5, t6, t7, stream, l0, l1, l2, l3] = *header;
    let stream = match stream {
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        _ => return Err(Damaged),
    };
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > MAX_DATA {
        return Err(Damaged);
    }
    Ok(rest.get(..length).map(|data| Record {
        time: u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        stream,
        data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_written() {
        let mut bytes = record_header(1_700_000_000_000_001, Stream::Stderr, 5).to_vec();
        bytes.extend(b"hello");
        for end in 0..bytes.len() {
            assert_eq!(next_record(&bytes[..end]), Ok(None));
        }
        bytes.extend(b"more");
        let record = next_record(&bytes).unwrap().unwrap();
        assert_eq!(record.time, 1_700_000_000_000_001);
        assert_eq!(
            (record.stream, record.data),
            (Stream::Stderr, &b"hello"[..])
        );
        assert_eq!(record.size(), bytes.len() - 4);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(next_record(&[0; RECORD_HEADER]), Err(Damaged));
        let long = record_header(0, Stream::Stdout, u32::MAX);
        assert_eq!(next_record(&long), Err(Damaged));
        assert_eq!(parse_file_header([0; FILE_HEADER]), Err(Damaged));
        assert_eq!(parse_file_header(file_header(4711)), Ok(4711));
    }
}
