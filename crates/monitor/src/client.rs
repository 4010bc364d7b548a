//! One connection to a monitor: the daemon's control stream, or a client that came later.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use kleene_doors::frames::{Frame, HEADER, MAX_CHUNK, parse_header};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It hasn't said yet.
    New,
    /// It wants to know when the process ends.
    Watch,
    /// It wants the process's streams, too.
    Attach,
}

/// A connection with what waits to be sent, and what has been received of a frame.
pub(crate) struct Client {
    stream: UnixStream,
    pub(crate) role: Role,
    waiting: VecDeque<u8>,
    received: Vec<u8>,
    /// The other side sends nothing more.
    silent: bool,
    /// The other side is gone.
    gone: bool,
}

impl Client {
    /// Takes a connection over.
    pub(crate) fn new(stream: UnixStream, role: Role) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let (waiting, received) = (VecDeque::new(), Vec::new());
        Ok(Self {
            stream,
            role,
            waiting,
            received,
            silent: false,
            gone: false,
        })
    }

    /// Sends bytes of whole frames: now as far as they fit, the rest later.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.gone {
            return;
        }
        self.waiting.extend(bytes);
        self.flush();
    }

    /// Sends what fits.
    pub(crate) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match (&self.stream).write(first) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lose(),
            }
        }
        self.waiting.shrink_to(0);
    }

    /// Reads what is there; the frames that are complete.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Vec<Frame> {
        match (&self.stream).read(buffer) {
            Ok(0) => self.silent = true,
            Ok(count) => self
                .received
                .extend(buffer.get(..count).unwrap_or_default()),
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
            Err(_) => self.lose(),
        }
        let mut frames = Vec::new();
        loop {
            match next_frame(&mut self.received) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return frames,
                Err(_) => {
                    // What speaks another language can't be understood from here on.
                    self.lose();
                    return frames;
                }
            }
        }
    }

    /// Gives the connection up.
    pub(crate) fn lose(&mut self) {
        self.gone = true;
        self.waiting = VecDeque::new();
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.silent
    }

    /// Bytes that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Takes the first frame off the received bytes, if it is complete.
fn next_frame(received: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let Some(head) = received.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let (kind, length) = parse_header(*head).map_err(io::Error::other)?;
    if length > MAX_CHUNK {
        return Err(io::Error::other("no client sends frames of this size"));
    }
    let Some(payload) = received.get(HEADER..HEADER + length) else {
        return Ok(None);
    };
    let frame = Frame::decode(kind, payload.to_vec()).map_err(io::Error::other)?;
    drop(received.drain(..HEADER + length));
    if received.is_empty() {
        received.shrink_to(0);
    }
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_from_pieces() {
        let wire = [
            Frame::Stdin(b"abc".to_vec()).encode(),
            Frame::StdinEnd.encode(),
        ]
        .concat();
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(theirs, Role::Attach).unwrap();
        let mut frames = Vec::new();
        for byte in wire {
            ours.write_all(&[byte]).unwrap();
            frames.extend(client.receive(&mut [0; 16]));
        }
        assert_eq!(frames, [Frame::Stdin(b"abc".to_vec()), Frame::StdinEnd]);
        assert!(!client.is_gone());
        drop(ours);
        assert!(client.receive(&mut [0; 16]).is_empty());
        assert!(client.is_silent());
    }

    #[test]
    fn nonsense_ends_the_connection() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(theirs, Role::New).unwrap();
        ours.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        assert!(client.receive(&mut [0; 64]).is_empty());
        assert!(client.is_gone());
    }
}
