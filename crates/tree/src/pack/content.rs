//! The content of a regular file: whole, or where it has data.

use std::io::Write;
use std::os::fd::BorrowedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::Failure;
use super::header::{BLOCK, padding};
use crate::error::{InStep, Step};
use crate::meta::Meta;

/// As much as is read at once.
const CHUNK: usize = 128 << 10;

/// As many pieces as a sparse file is packed in; the last one then reaches to the end.
const MAX_PIECES: usize = 1 << 16;

const ZEROS: [u8; 4096] = [0; 4096];

/// Part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
}

/// What of a file goes into the archive.
pub(super) struct Content {
    pieces: Vec<Piece>,
    /// The map in front of the data, in whole blocks, when the file has holes.
    map: Option<Vec<u8>>,
}

impl Content {
    /// Finds out where an open file has data.
    pub fn of(file: BorrowedFd<'_>, meta: &Meta) -> Result<Self, Failure> {
        let whole = Piece {
            start: 0,
            end: meta.size,
        };
        // Asking every file would take longer than reading most of them.
        if meta.blocks.saturating_mul(512) < meta.size
            && let Some(pieces) = data(file, meta.size).step(Step::Reading)?
            && pieces != [whole]
        {
            let map = Some(map(&pieces, meta.size));
            return Ok(Self { pieces, map });
        }
        Ok(Self {
            pieces: vec![whole],
            map: None,
        })
    }

    /// The map of a file with holes.
    pub fn sparse_map(&self) -> Option<&[u8]> {
        self.map.as_deref()
    }

    /// Bytes of data.
    pub fn data(&self) -> u64 {
        self.pieces
            .iter()
            .map(|piece| piece.end - piece.start)
            .sum()
    }

    /// Bytes in the archive, without padding.
    pub fn stored(&self) -> u64 {
        self.data() + self.sparse_map().map_or(0, |map| map.len() as u64)
    }
}

/// Reads files into the archive.
#[derive(Default)]
pub(super) struct Contents {
    buffer: Vec<u8>,
}

impl Contents {
    /// Writes exactly what was announced, with its padding; `false` when the file has become
    /// shorter, and zeros stand for what is missing.
    pub fn write(
        &mut self,
        file: BorrowedFd<'_>,
        content: &Content,
        to: &mut dyn Write,
    ) -> Result<bool, Failure> {
        to.write_all(content.sparse_map().unwrap_or_default())?;
        let mut whole = true;
        for piece in &content.pieces {
            whole &= self.piece(file, *piece, to)?;
        }
        to.write_all(padding(content.stored()))?;
        Ok(whole)
    }

    fn piece(
        &mut self,
        file: BorrowedFd<'_>,
        piece: Piece,
        to: &mut dyn Write,
    ) -> Result<bool, Failure> {
        self.buffer.resize(CHUNK, 0);
        let mut position = piece.start;
        while position < piece.end {
            let left = piece.end - position;
            let wanted = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
            let buffer = self.buffer.get_mut(..wanted).unwrap_or_default();
            let read = match rustix::io::pread(file, &mut *buffer, position) {
                Err(Errno::INTR) => continue,
                read => read.step(Step::Reading)?,
            };
            if read == 0 {
                write_zeros(left, to)?;
                return Ok(false);
            }
            to.write_all(buffer.get(..read).unwrap_or_default())?;
            position += read as u64;
        }
        Ok(true)
    }
}

fn write_zeros(mut count: u64, to: &mut dyn Write) -> std::io::Result<()> {
    while count > 0 {
        let some = usize::try_from(count).map_or(ZEROS.len(), |count| count.min(ZEROS.len()));
        to.write_all(ZEROS.get(..some).unwrap_or_default())?;
        count -= some as u64;
    }
    Ok(())
}

/// Where a file has data, in whole blocks; `None` when the file system doesn't know.
fn data(file: BorrowedFd<'_>, size: u64) -> rustix::io::Result<Option<Vec<Piece>>> {
    let block = BLOCK as u64;
    let mut pieces: Vec<Piece> = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            // Nothing but a hole up to the end.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) if pieces.len() < MAX_PIECES => end,
            Ok(_) => size,
            // It has become shorter.
            Err(Errno::NXIO) => break,
            Err(errno) => return Err(errno),
        };
        // GNU tar reads each piece from a block of its own.
        let start = start - start % block;
        let end = end.next_multiple_of(block).min(size);
        if start >= end {
            break;
        }
        match pieces.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => pieces.push(Piece { start, end }),
        }
        position = end;
    }
    Ok(Some(pieces))
}

/// The map in front of the data: decimal lines, padded to whole blocks. A file that ends with a hole
/// has an empty piece at its end.
fn map(pieces: &[Piece], size: u64) -> Vec<u8> {
    let end = Piece {
        start: size,
        end: size,
    };
    let last = pieces.last().is_none_or(|last| last.end < size);
    let pieces = pieces.iter().copied().chain(last.then_some(end));
    let mut text = format!("{}\n", pieces.clone().count());
    for Piece { start, end } in pieces {
        text.push_str(&format!("{start}\n{}\n", end - start));
    }
    let mut map = text.into_bytes();
    map.extend_from_slice(padding(map.len() as u64));
    map
}
