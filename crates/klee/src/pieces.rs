//! Streams in pieces between the connection and the threads that read and write files.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, stream};
use kleene_tree::{Packed, Step, TreeError};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use crate::error::{CommandError, CommandResult, chain};
use crate::progress::Transfer;

/// Bytes of a piece.
const PIECE: usize = 256 << 10;
/// A block of a tar archive.
const BLOCK: usize = 512;

/// Pieces that wait to be taken at most.
pub const WAITING: usize = 4;

/// Reads pieces; `None` among them is the end, and without one the stream is broken.
pub struct PieceReader {
    pieces: Receiver<Option<Bytes>>,
    piece: Bytes,
    ended: bool,
}

impl PieceReader {
    /// Reads what is sent there.
    pub fn new(pieces: Receiver<Option<Bytes>>) -> Self {
        Self {
            pieces,
            piece: Bytes::new(),
            ended: false,
        }
    }
}

impl Read for PieceReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Some(piece)) => self.piece = piece,
                Some(None) => self.ended = true,
                None => return Err(io::Error::other("the transfer was broken off")),
            }
        }
        let count = buffer.len().min(self.piece.len());
        self.piece
            .copy_to_slice(buffer.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Sends what is written in pieces.
pub struct PieceWriter {
    pieces: Sender<io::Result<Bytes>>,
    buffer: BytesMut,
}

impl PieceWriter {
    /// Sends what is left.
    fn finish(&mut self) -> Result<(), TreeError> {
        self.flush().map_err(|source| TreeError::Io {
            step: Step::Writing,
            path: PathBuf::from("the archive's end"),
            source,
        })
    }

    /// Breaks the stream off.
    fn fail(&self) {
        // One that nobody reads any more needs no breaking off.
        let _ = self
            .pieces
            .blocking_send(Err(io::Error::other("the archive can't be made")));
    }

    fn send(&mut self) -> io::Result<()> {
        let piece = self.buffer.split().freeze();
        self.pieces
            .blocking_send(Ok(piece))
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for PieceWriter {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = data.len().min(PIECE - self.buffer.len());
        self.buffer
            .extend_from_slice(data.get(..count).unwrap_or_default());
        if self.buffer.len() == PIECE {
            self.send()?;
            self.buffer.reserve(PIECE);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => self.send(),
        }
    }
}

/// Something that is being packed on a thread of its own.
pub struct Packing(JoinHandle<Result<Packed, TreeError>>);

impl Packing {
    /// Begins: the stream is the archive that `pack` writes, and ends with an error when that fails.
    pub fn start(
        mut progress: Transfer,
        mut note: impl FnMut(&mut Transfer) + Send + 'static,
        pack: impl FnOnce(&mut PieceWriter) -> Result<Packed, TreeError> + Send + 'static,
    ) -> (Self, impl Stream<Item = io::Result<Bytes>> + Send + 'static) {
        let (pieces, mut waiting) = channel::<io::Result<Bytes>>(WAITING);
        let packing = tokio::task::spawn_blocking(move || {
            let mut writer = PieceWriter {
                pieces,
                buffer: BytesMut::with_capacity(PIECE),
            };
            let packed = pack(&mut writer).and_then(|packed| writer.finish().map(|()| packed));
            if packed.is_err() {
                writer.fail();
            }
            packed
        });
        let archive = stream::poll_fn(move |context| {
            let piece = waiting.poll_recv(context);
            if let Poll::Ready(Some(Ok(piece))) = &piece {
                progress.add(piece.len());
                note(&mut progress);
            }
            piece
        });
        (Self(packing), archive)
    }

    /// Waits for its end. `None`: it was broken off because nobody wanted more.
    ///
    /// # Errors
    /// When something can't be packed.
    pub async fn end(self) -> CommandResult<Option<Packed>> {
        match self.0.await {
            Ok(Ok(packed)) => Ok(Some(packed)),
            Ok(Err(TreeError::Io {
                step: Step::Writing,
                ..
            })) => Ok(None),
            Ok(Err(error)) => Err(CommandError::failure(chain(&error))),
            Err(error) => Err(CommandError::failure(format!("packing failed: {error}"))),
        }
    }
}

/// What is to be told about something that was packed.
pub fn remarks(packed: &Packed) -> Vec<String> {
    let mut remarks = Vec::new();
    if packed.skipped_sockets > 0 {
        remarks.push(format!("{} sockets were left out", packed.skipped_sockets));
    }
    if packed.changed > 0 {
        remarks.push(format!(
            "{} files changed while they were read",
            packed.changed
        ));
    }
    remarks
}

/// Leaves out the first entry of a tar archive, that of a directory, with its extended header: so
/// that a directory into which the rest comes keeps its own attributes.
pub struct WithoutFirst<W> {
    to: W,
    block: Vec<u8>,
    /// Blocks of an extended header that are still left out.
    left: u64,
    done: bool,
}

impl<W: Write> WithoutFirst<W> {
    /// Writes the rest there.
    pub fn new(to: W) -> Self {
        Self {
            to,
            block: Vec::with_capacity(BLOCK),
            left: 0,
            done: false,
        }
    }

    /// Looks at one block that is left out.
    fn skipped(&mut self) {
        if self.left > 0 {
            self.left -= 1;
        } else if self.block.get(156) == Some(&b'x') {
            let size = self.block.get(124..135).unwrap_or_default();
            let size = std::str::from_utf8(size).unwrap_or_default();
            let size = u64::from_str_radix(size.trim_matches([' ', '\0']), 8).unwrap_or(0);
            self.left = size.div_ceil(BLOCK as u64);
        } else {
            self.done = true;
        }
        self.block.clear();
    }
}

impl<W: Write> Write for WithoutFirst<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.done {
            return self.to.write(data);
        }
        let count = data.len().min(BLOCK - self.block.len());
        self.block
            .extend_from_slice(data.get(..count).unwrap_or_default());
        if self.block.len() == BLOCK {
            self.skipped();
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}
