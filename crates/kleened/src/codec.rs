//! Frames of a monitor, read and written asynchronously.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use kleene_doors::frames::{Frame, HEADER, parse_header};
use kleene_doors::log::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame that a monitor has reason to send: pieces of streams are 64 KiB at most, messages
/// about failures are short.
const LONGEST: usize = 1 << 20;

/// Kinds of frames whose payload is passed on as it is: [`Frame::Stdout`] and [`Frame::Stderr`].
const STDOUT: u8 = 1;
const STDERR: u8 = 2;

/// What a monitor sends to those who are attached.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A piece of output.
    Output(Output),
    /// Anything else.
    Frame(Frame),
}

/// A piece of output as it has come, so that it needn't be copied.
#[derive(Debug)]
pub(crate) struct Output {
    /// The stream it belongs to.
    pub stream: Stream,
    /// Its bytes behind one byte that is free to use.
    bytes: BytesMut,
}

impl Output {
    /// The bytes.
    pub(crate) fn plain(mut self) -> Bytes {
        self.bytes.advance(1);
        self.bytes.freeze()
    }

    /// The bytes behind this one.
    pub(crate) fn behind(mut self, byte: u8) -> Bytes {
        if let Some(first) = self.bytes.first_mut() {
            *first = byte;
        }
        self.bytes.freeze()
    }
}

/// Bytes that are read ahead where frames follow each other closely.
const AHEAD: usize = 4 << 10;

/// Reads frames. Holds at most one of them at a time, beside what came with it in one read.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
    ahead: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader with nothing read yet, for few frames.
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
            ahead: 0,
        }
    }

    /// A reader with nothing read yet, for many frames.
    pub(crate) fn for_many(from: R) -> Self {
        Self {
            ahead: AHEAD,
            ..Self::new(from)
        }
    }

    /// The next frame; `None` at a clean end of file. Nothing is lost when the future is dropped
    /// before it is ready.
    ///
    /// # Errors
    /// Reading failed, the stream ended within a frame, or the bytes are no frame.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        match self.fill().await? {
            true => self.take().map(Some),
            false => Ok(None),
        }
    }

    /// As [`FrameReader::next`], with output as it has come.
    ///
    /// # Errors
    /// The same.
    pub(crate) async fn next_incoming(&mut self) -> io::Result<Option<Incoming>> {
        if !self.fill().await? {
            return Ok(None);
        }
        let stream = match self.buffer.first() {
            Some(&STDOUT) => Stream::Stdout,
            Some(&STDERR) => Stream::Stderr,
            _ => return self.take().map(|frame| Some(Incoming::Frame(frame))),
        };
        let length = self.header()?.map_or(0, |(_, length)| length);
        let mut bytes = self.buffer.split_to(HEADER + length);
        bytes.advance(HEADER - 1);
        Ok(Some(Incoming::Output(Output { stream, bytes })))
    }

    /// Whether the next frame is there already.
    pub(crate) fn has_next(&self) -> bool {
        matches!(self.missing(), Ok(0))
    }

    /// Reads until there is a whole frame; `false` at a clean end of file.
    async fn fill(&mut self) -> io::Result<bool> {
        loop {
            let missing = match self.missing()? {
                0 => return Ok(true),
                missing => missing,
            };
            self.buffer.reserve(missing + self.ahead);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(false),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Kind and payload length of the next frame, as far as they are known.
    fn header(&self) -> io::Result<Option<(u8, usize)>> {
        let head = self.buffer.first_chunk::<HEADER>();
        let header = head.map(|head| parse_header(*head)).transpose();
        header.map_err(io::Error::other)
    }

    /// Bytes that are missing from a whole frame, as far as is known.
    fn missing(&self) -> io::Result<usize> {
        let Some((_, length)) = self.header()? else {
            return Ok(HEADER - self.buffer.len());
        };
        if length > LONGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        Ok((HEADER + length).saturating_sub(self.buffer.len()))
    }

    /// Takes a frame that is there as a whole.
    fn take(&mut self) -> io::Result<Frame> {
        let (kind, length) = self.header()?.unwrap_or_default();
        self.buffer.advance(HEADER);
        let payload = self.buffer.split_to(length).to_vec();
        Frame::decode(kind, payload).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn frames_arrive_in_any_pieces() {
        let frames = [
            Frame::Stdout(vec![1; 100_000]),
            Frame::Stderr(Vec::new()),
            Frame::Started(7),
        ];
        for piece in [1, 3, 4096, 1 << 20] {
            let (mut to, from) = tokio::io::duplex(1024);
            let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
            let writing = tokio::spawn(async move {
                for chunk in bytes.chunks(piece) {
                    to.write_all(chunk).await.unwrap();
                }
            });
            let mut reader = FrameReader::new(from);
            for frame in &frames {
                assert_eq!(reader.next().await.unwrap().as_ref(), Some(frame));
            }
            assert_eq!(reader.next().await.unwrap(), None);
            writing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn output_is_passed_on_as_it_came() {
        let frames = [
            Frame::Stdout(b"out".to_vec()),
            Frame::Started(7),
            Frame::Stderr(Vec::new()),
            Frame::Stderr(b"err".to_vec()),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut reader = FrameReader::for_many(bytes.as_slice());
        let mut next = async || match reader.next_incoming().await.unwrap() {
            Some(Incoming::Output(output)) => {
                let stream = output.stream;
                (Some(stream), output.behind(9).to_vec(), reader.has_next())
            }
            Some(Incoming::Frame(frame)) => (None, frame.encode(), reader.has_next()),
            None => panic!("too few frames"),
        };
        assert_eq!(
            next().await,
            (Some(Stream::Stdout), b"\x09out".to_vec(), true)
        );
        assert_eq!(next().await, (None, Frame::Started(7).encode(), true));
        assert_eq!(next().await, (Some(Stream::Stderr), vec![9], true));
        let Some(Incoming::Output(last)) = reader.next_incoming().await.unwrap() else {
            panic!("output is wanted");
        };
        assert_eq!(
            (last.stream, &last.plain()[..]),
            (Stream::Stderr, &b"err"[..])
        );
        assert!(!reader.has_next());
        assert!(reader.next_incoming().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn damage_is_an_error() {
        for bytes in [
            &[1, 255, 255, 255, 0][..],
            &[99, 0, 0, 0, 0],
            &[1, 9, 0, 0, 0, 1],
        ] {
            let mut reader = FrameReader::new(bytes);
            assert!(reader.next().await.is_err(), "{bytes:?}");
        }
    }
}
