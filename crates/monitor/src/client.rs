//! One connection to a monitor: the daemon's control stream, or a client that came later.
//!
//! A monitor outlives daemons, so the other side may be of another version. What each relies on:
//! kinds of frames and their payloads never change, there are only new ones. A monitor passes over
//! a frame of a kind that it doesn't know, as long as it isn't longer than [`MAX_CHUNK`]; but when
//! a connection begins with one, it closes it at once, which tells a newer daemon that there is
//! nothing of that kind to be had. It sends the kinds that the connection's first frame asks for,
//! and no others.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use kleene_doors::frames::{Frame, FrameError, HEADER, MAX_CHUNK, parse_header};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It hasn't said yet.
    New,
    /// It wants to know when the process ends.
    Watch,
    /// It wants the process's streams, too.
    Attach,
    /// It wants to know when the output log grows, and when the process ends.
    Follow,
}

/// A connection with what waits to be sent, and what has been received of a frame.
pub(crate) struct Client {
    stream: UnixStream,
    pub(crate) role: Role,
    waiting: VecDeque<u8>,
    /// The log has grown, which is to be said when nothing else waits.
    growth: bool,
    /// Bytes sent since [`Client::take_progress`].
    progress: usize,
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
            growth: false,
            progress: 0,
            received,
            silent: false,
            gone: false,
        })
    }

    /// Sends whole frames.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        self.send_parts(frames, &[]);
    }

    /// Sends a frame in two parts: now as far as it fits, the rest later. Only that is copied.
    pub(crate) fn send_parts(&mut self, header: &[u8], payload: &[u8]) {
        if self.gone {
            return;
        }
        let mut sent = 0;
        if self.waiting.is_empty() {
            let parts = [IoSlice::new(header), IoSlice::new(payload)];
            match (&self.stream).write_vectored(&parts) {
                Ok(count) => sent = count,
                Err(error) if is_momentary(&error) => {}
                Err(_) => return self.lose(),
            }
        }
        self.progress += sent;
        let of_payload = sent.saturating_sub(header.len());
        self.waiting.extend(header.get(sent..).unwrap_or_default());
        self.waiting
            .extend(payload.get(of_payload..).unwrap_or_default());
    }

    /// Says that the log has grown: at once when nothing waits, else once when nothing waits any
    /// more.
    pub(crate) fn tell_growth(&mut self) {
        self.growth = true;
        self.flush();
    }

    /// Sends what fits.
    pub(crate) fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let (first, _) = self.waiting.as_slices();
            match (&self.stream).write(first) {
                Ok(count) => {
                    self.progress += count;
                    drop(self.waiting.drain(..count));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lose(),
            }
        }
        self.waiting.shrink_to(0);
        if std::mem::take(&mut self.growth) {
            self.send(&Frame::Grown.encode());
        }
    }

    /// Reads what is there; the frames that are complete.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Vec<Frame> {
        match (&self.stream).read(buffer) {
            Ok(0) => self.silent = true,
            Ok(count) => self
                .received
                .extend(buffer.get(..count).unwrap_or_default()),
            Err(error) if is_momentary(&error) => {}
            Err(_) => self.lose(),
        }
        let mut frames = Vec::new();
        loop {
            match next_frame(&mut self.received) {
                Ok(Some(Received::Frame(frame))) => frames.push(frame),
                Ok(Some(Received::Unknown)) if self.role != Role::New => {}
                Ok(None) => return frames,
                Ok(Some(Received::Unknown)) | Err(_) => {
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

    /// Bytes that were sent since this was last asked.
    pub(crate) fn take_progress(&mut self) -> usize {
        std::mem::take(&mut self.progress)
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_momentary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// What a client has sent.
enum Received {
    Frame(Frame),
    /// A frame of a kind that is newer than this monitor.
    Unknown,
}

/// Takes the first frame off the received bytes, if it is complete.
fn next_frame(received: &mut Vec<u8>) -> io::Result<Option<Received>> {
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
    let frame = match Frame::decode(kind, payload.to_vec()) {
        Err(FrameError::Kind(_)) => Received::Unknown,
        other => Received::Frame(other.map_err(io::Error::other)?),
    };
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

    #[test]
    fn what_only_a_newer_daemon_says_is_passed_over() {
        let newer = [&[200, 3, 0, 0, 0][..], b"new", &Frame::Signal(1).encode()].concat();
        for (role, frames) in [(Role::Attach, vec![Frame::Signal(1)]), (Role::New, vec![])] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let mut client = Client::new(theirs, role).unwrap();
            ours.write_all(&newer).unwrap();
            assert_eq!(client.receive(&mut [0; 64]), frames);
            assert_eq!(client.is_gone(), frames.is_empty(), "{role:?}");
        }
    }

    /// Sends in pieces that don't fit the socket, beside a reader who takes them in pieces.
    #[test]
    fn nothing_is_lost_or_torn_where_it_does_not_fit() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(theirs, Role::Follow).unwrap();
        let payload = vec![7; 60_000];
        let header =
            kleene_doors::frames::output_header(kleene_doors::log::Stream::Stdout, payload.len());
        let mut sent = 0;
        while client.waiting() < 200_000 {
            client.send_parts(&header, &payload);
            client.tell_growth();
            sent += 1;
        }
        let mut read = Vec::new();
        while client.waiting() > 0 {
            read.extend(Frame::read(&mut ours).unwrap());
            client.flush();
        }
        drop(client);
        while let Some(frame) = Frame::read(&mut ours).unwrap() {
            read.push(frame);
        }
        let grown = |frame: &Frame| *frame == Frame::Grown;
        let (grown, rest): (Vec<_>, Vec<_>) = read.iter().cloned().partition(grown);
        assert_eq!(rest, vec![Frame::Stdout(payload); sent]);
        assert_eq!(read.last(), Some(&Frame::Grown));
        // Those after frames that didn't wait, and one for all of the rest.
        assert!(grown.len() < sent, "{} of {sent}", grown.len());
    }
}
