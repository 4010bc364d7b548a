//! Frames of a monitor, read and written asynchronously.

use std::io;

use bytes::{Buf, BytesMut};
use kleene_doors::frames::{Frame, HEADER, parse_header};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest frame that a monitor has reason to send: pieces of streams are 64 KiB at most, messages
/// about failures are short.
const LONGEST: usize = 1 << 20;

/// Reads frames. Holds at most one of them at a time, beside what came with it in one read.
pub(crate) struct FrameReader<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader with nothing read yet.
    pub(crate) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
        }
    }

    /// The next frame; `None` at a clean end of file. Nothing is lost when the future is dropped
    /// before it is ready.
    ///
    /// # Errors
    /// Reading failed, the stream ended within a frame, or the bytes are no frame.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let missing = match self.missing()? {
                0 => return self.take().map(Some),
                missing => missing,
            };
            self.buffer.reserve(missing);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Bytes that are missing from a whole frame, as far as is known.
    fn missing(&self) -> io::Result<usize> {
        let Some(head) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(HEADER - self.buffer.len());
        };
        let (_, length) = parse_header(*head).map_err(io::Error::other)?;
        if length > LONGEST {
            return Err(io::Error::other(format!("a frame of {length} bytes")));
        }
        Ok((HEADER + length).saturating_sub(self.buffer.len()))
    }

    fn take(&mut self) -> io::Result<Frame> {
        let head = self.buffer.first_chunk::<HEADER>().copied();
        let (kind, length) = parse_header(head.unwrap_or_default()).map_err(io::Error::other)?;
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
