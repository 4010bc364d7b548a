//! The protocol between the daemon and a monitor, on a Unix stream socket.
//!
//! A frame is one byte of kind, four bytes of payload length (little-endian) and the payload. Over
//! the *control* stream the daemon sends [`Frame::Start`] and gets [`Frame::Started`] or
//! [`Frame::Failed`], later [`Frame::Exited`]. A further connection begins with [`Frame::Attach`]
//! (then carries the process's streams until [`Frame::Exited`]) or [`Frame::Watch`] (carries
//! [`Frame::Started`] at once, then [`Frame::Exited`]), or with [`Frame::Follow`] (carries
//! [`Frame::Started`] at once, [`Frame::Grown`] whenever there is more in the output log, then
//! [`Frame::Exited`]). Any of them may send [`Frame::Signal`].

use std::io::{self, Read, Write};

use crate::host::{ExitStatus, StartFailure, WindowSize};
use crate::log::Stream;

/// Bytes before the payload.
pub const HEADER: usize = 5;

/// Largest payload that is accepted: 16 MiB (a start message with a large environment).
pub const MAX_PAYLOAD: usize = 16 << 20;

/// Largest piece of a stream in one frame: 64 KiB.
pub const MAX_CHUNK: usize = 64 << 10;

const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Data for the process's standard input.
    Stdin(Vec<u8>),
    /// Standard input has ended.
    StdinEnd,
    /// The client's terminal has a new size.
    Resize(WindowSize),
    /// Send this signal to the process.
    Signal(i32),
    /// This connection wants the process's streams.
    Attach,
    /// This connection only wants to know when the process ends.
    Watch,
    /// What to start, in the monitor's own format.
    Start(Vec<u8>),
    /// Data from standard output, or from the terminal.
    Stdout(Vec<u8>),
    /// Data from standard error.
    Stderr(Vec<u8>),
    /// The process runs; its id on the host.
    Started(u32),
    /// The process could not be started.
    Failed(StartFailure),
    /// The process has ended, and all of its output has been sent.
    Exited(ExitStatus),
    /// This connection wants to know when the output log has grown, and when the process ends.
    Follow,
    /// The output log has grown since the last such frame.
    Grown,
    /// The process has ended, and all of its output has been sent; its container goes on without it, and
    /// [`Frame::Exited`] follows when that ends. For those that are attached.
    LivesOn(ExitStatus),
}

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind isn't known.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// The payload is longer than [`MAX_PAYLOAD`].
    #[error("frame of {0} bytes is too long")]
    TooLong(usize),
    /// The payload doesn't fit the kind.
    #[error("malformed payload of frame kind {0}")]
    Payload(u8),
}

impl Frame {
    fn kind(&self) -> u8 {
        match self {
            Self::Stdin(_) => 0,
            Self::Stdout(_) => STDOUT,
            Self::Stderr(_) => STDERR,
            Self::StdinEnd => 3,
            Self::Resize(_) => 4,
            Self::Signal(_) => 5,
            Self::Attach => 6,
            Self::Watch => 7,
            Self::Start(_) => 8,
            Self::Started(_) => 9,
            Self::Failed(_) => 10,
            Self::Exited(_) => 11,
            Self::Follow => 12,
            Self::Grown => 13,
            Self::LivesOn(_) => 14,
        }
    }

    fn payload(&self) -> Vec<u8> {
        match self {
            Self::Stdin(data) | Self::Stdout(data) | Self::Stderr(data) | Self::Start(data) => {
                data.clone()
            }
            Self::StdinEnd | Self::Attach | Self::Watch | Self::Follow | Self::Grown => Vec::new(),
            Self::Resize(size) => [size.rows.to_le_bytes(), size.columns.to_le_bytes()].concat(),
            Self::Signal(signal) => signal.to_le_bytes().to_vec(),
            Self::Started(pid) => pid.to_le_bytes().to_vec(),
            Self::Failed(failure) => serde_json::to_vec(failure).unwrap_or_default(),
            Self::Exited(status) | Self::LivesOn(status) => {
                serde_json::to_vec(status).unwrap_or_default()
            }
        }
    }

    /// The frame's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let payload = self.payload();
        let mut bytes = header(self.kind(), payload.len()).to_vec();
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// The frame of a kind and payload, after [`parse_header`].
    ///
    /// # Errors
    /// When they don't fit each other.
    pub fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, FrameError> {
        let malformed = || FrameError::Payload(kind);
        let number = |payload: &[u8]| <[u8; 4]>::try_from(payload).map_err(|_| malformed());
        Ok(match kind {
            0 => Self::Stdin(payload),
            STDOUT => Self::Stdout(payload),
            STDERR => Self::Stderr(payload),
            3 => Self::StdinEnd,
            4 => {
                let [r0, r1, c0, c1] = number(&payload)?;
                Self::Resize(WindowSize {
                    rows: u16::from_le_bytes([r0, r1]),
                    columns: u16::from_le_bytes([c0, c1]),
                })
            }
            5 => Self::Signal(i32::from_le_bytes(number(&payload)?)),
            6 => Self::Attach,
            7 => Self::Watch,
            8 => Self::Start(payload),
            9 => Self::Started(u32::from_le_bytes(number(&payload)?)),
            10 => Self::Failed(serde_json::from_slice(&payload).map_err(|_| malformed())?),
            11 => Self::Exited(serde_json::from_slice(&payload).map_err(|_| malformed())?),
            12 => Self::Follow,
            13 => Self::Grown,
            14 => Self::LivesOn(serde_json::from_slice(&payload).map_err(|_| malformed())?),
            _ => return Err(FrameError::Kind(kind)),
        })
    }

    /// Reads one frame; `None` at a clean end of file.
    ///
    /// # Errors
    /// Reading failed, the stream ended within a frame, or the bytes are no frame.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0_u8; HEADER];
        loop {
            match from.read(&mut head[..1]) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                // `read_exact` goes on by itself.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        from.read_exact(&mut head[1..])?;
        let (kind, length) = parse_header(head).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        from.read_exact(&mut payload)?;
        Self::decode(kind, payload)
            .map(Some)
            .map_err(io::Error::other)
    }

    /// Writes the frame.
    ///
    /// # Errors
    /// Writing failed.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.encode())
    }
}

/// The bytes before `length` bytes of output, at most [`MAX_CHUNK`], for who sends output without
/// copying it: with the output behind it, a whole [`Frame::Stdout`] or [`Frame::Stderr`].
pub fn output_header(stream: Stream, length: usize) -> [u8; HEADER] {
    match stream {
        Stream::Stdout => header(STDOUT, length),
        Stream::Stderr => header(STDERR, length),
    }
}

/// The bytes before a payload of `length` bytes.
fn header(kind: u8, length: usize) -> [u8; HEADER] {
    // Payloads are cut to MAX_CHUNK or checked against MAX_PAYLOAD where they are made.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [kind, a, b, c, d]
}

/// Kind and payload length of a frame's first bytes.
///
/// # Errors
/// When the payload would be longer than [`MAX_PAYLOAD`].
pub fn parse_header(head: [u8; HEADER]) -> Result<(u8, usize), FrameError> {
    let [kind, a, b, c, d] = head;
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_PAYLOAD {
        Err(FrameError::TooLong(length))
    } else {
        Ok((kind, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kleene_types::Timestamp;

    #[test]
    fn frames_survive_the_wire() {
        let frames = [
            Frame::Stdin(b"in".to_vec()),
            Frame::StdinEnd,
            Frame::Resize(WindowSize {
                rows: 24,
                columns: 80,
            }),
            Frame::Signal(15),
            Frame::Attach,
            Frame::Watch,
            Frame::Follow,
            Frame::Grown,
            Frame::Start(b"{}".to_vec()),
            Frame::Stdout(vec![0, 255]),
            Frame::Stderr(Vec::new()),
            Frame::Started(4711),
            Frame::Failed(StartFailure {
                code: 127,
                message: "no".into(),
            }),
            Frame::Exited(ExitStatus {
                code: 137,
                finished: Timestamp::now(),
                out_of_memory: true,
            }),
            Frame::LivesOn(ExitStatus {
                code: 0,
                finished: Timestamp::now(),
                out_of_memory: false,
            }),
        ];
        let mut wire = Vec::new();
        for frame in &frames {
            frame.write(&mut wire).unwrap();
        }
        let mut wire = wire.as_slice();
        for frame in frames {
            assert_eq!(Frame::read(&mut wire).unwrap(), Some(frame));
        }
        assert_eq!(Frame::read(&mut wire).unwrap(), None);
    }

    #[test]
    fn output_needs_no_copy() {
        for (stream, frame) in [
            (Stream::Stdout, Frame::Stdout(b"out".to_vec())),
            (Stream::Stderr, Frame::Stderr(b"err".to_vec())),
        ] {
            let header = output_header(stream, 3);
            assert_eq!(frame.encode().split_at(HEADER).0, header);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(Frame::read(&mut [99_u8, 0, 0, 0, 0].as_slice()).is_err());
        assert!(Frame::read(&mut [5_u8, 1, 0, 0, 0, 1].as_slice()).is_err());
        assert!(Frame::read(&mut [0_u8, 255, 255, 255, 255].as_slice()).is_err());
        assert!(Frame::read(&mut [0_u8, 1].as_slice()).is_err());
    }
}
