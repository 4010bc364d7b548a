//! Streams in pieces that threads hand to each other.

use std::io::{self, Read};

/// Bytes of a piece.
pub(crate) const PIECE: usize = 256 << 10;

/// How many pieces may wait for a thread.
pub(crate) const WAITING: usize = 4;

/// Makes a buffer the next piece of a stream: it is shorter than [`PIECE`] only at the end, and after
/// a failure, which comes along with what was read before it.
pub(crate) fn next(from: &mut dyn Read, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.resize(PIECE, 0);
    let mut filled = 0;
    let result = loop {
        let rest = piece.get_mut(filled..).unwrap_or_default();
        if rest.is_empty() {
            break Ok(());
        }
        match from.read(rest) {
            Ok(0) => break Ok(()),
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    piece.truncate(filled);
    result
}
