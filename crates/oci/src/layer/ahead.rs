//! Decompresses and hashes on a thread of its own, ahead of whoever writes what comes out: both take
//! about as long as the writing.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use crate::hash::Hasher;
use crate::pieces::{self, PIECE, WAITING};

/// What a stream holds, read ahead.
pub(super) struct Ahead {
    /// What the thread has read. `None`: nobody wants to know any more.
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    /// Buffers that it can use again.
    spare: Sender<Vec<u8>>,
    piece: Vec<u8>,
    /// How much of the piece has been handed out.
    taken: usize,
    thread: Option<JoinHandle<Hasher>>,
}

impl Ahead {
    /// Starts to read; everything goes through the hasher.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(from: Box<dyn Read + Send>, hasher: Hasher) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(WAITING);
        let (spare, spares) = channel();
        let work = move || read(from, hasher, &sender, &spares);
        let thread = Builder::new().name("layer".to_owned()).spawn(work)?;
        Ok(Self {
            pieces: Some(pieces),
            spare,
            piece: Vec::new(),
            taken: 0,
            thread: Some(thread),
        })
    }

    /// The hasher, when all has been read; `None` after a failure of the thread.
    pub fn finish(&mut self) -> Option<Hasher> {
        self.pieces = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // The thread finds nobody to give the next piece to.
        let _ = self.finish();
    }
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() {
            let next = self.pieces.as_ref().and_then(|pieces| pieces.recv().ok());
            let piece = next.transpose()?.unwrap_or_default();
            let used = std::mem::replace(&mut self.piece, piece);
            self.taken = 0;
            // When the thread has ended it needs no more.
            let _ = self.spare.send(used);
        }
        let rest = self.piece.get(self.taken..).unwrap_or_default();
        let length = rest.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..length), rest.get(..length)) {
            to.copy_from_slice(from);
        }
        self.taken += length;
        Ok(length)
    }
}

/// Reads to the end, or until nobody takes any more.
fn read(
    mut from: Box<dyn Read + Send>,
    mut hasher: Hasher,
    to: &SyncSender<io::Result<Vec<u8>>>,
    spares: &Receiver<Vec<u8>>,
) -> Hasher {
    loop {
        let mut piece = spares.try_recv().unwrap_or_default();
        let read = pieces::next(&mut from, &mut piece);
        hasher.update(&piece);
        let is_last = piece.len() < PIECE;
        let taken = piece.is_empty() || to.send(Ok(piece)).is_ok();
        if let Err(error) = read {
            // Whoever has gone away doesn't mind.
            let _ = to.send(Err(error));
        }
        if is_last || !taken {
            return hasher;
        }
    }
}

#[cfg(test)]
mod tests {
    use kleene_types::DigestAlgorithm;

    use super::*;
    use crate::hash::digest;

    fn start(from: impl Read + Send + 'static) -> Ahead {
        Ahead::start(Box::new(from), Hasher::new(DigestAlgorithm::Sha256)).unwrap()
    }

    #[test]
    fn everything_comes_and_is_hashed() {
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 7 * PIECE + 5] {
            let content: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut ahead = start(io::Cursor::new(content.clone()));
            let mut found = Vec::new();
            ahead.read_to_end(&mut found).unwrap();
            assert!(found == content, "{length}");
            assert_eq!(ahead.read(&mut [0]).unwrap(), 0);
            let expected = digest(DigestAlgorithm::Sha256, &content);
            assert_eq!(ahead.finish().unwrap().finish(), expected, "{length}");
        }
    }

    #[test]
    fn a_failure_comes_after_what_was_read_before_it() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut ahead = start(io::Cursor::new(b"abc").chain(Broken));
        let mut found = Vec::new();
        let error = ahead.read_to_end(&mut found).unwrap_err();
        assert_eq!(
            (found.as_slice(), error.to_string()),
            (&b"abc"[..], "broken".to_owned())
        );
    }

    #[test]
    fn nobody_has_to_read_to_the_end() {
        let mut ahead = start(io::repeat(7));
        ahead.read_exact(&mut [0; 10]).unwrap();
        drop(ahead);
    }
}
