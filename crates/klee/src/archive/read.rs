//! Archives that are read here.

use std::fs::File;
use std::io::{self, Chain, Cursor, IsTerminal, Read};
use std::path::Path;
use std::thread;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use futures_util::{Stream, stream};
use tokio::sync::mpsc::{Receiver, channel};

use crate::error::{CommandError, CommandResult};
use crate::pieces::WAITING;
use crate::progress::{Shown, Transfer};

/// Bytes that are sent at once.
const PIECE: usize = 256 << 10;
/// A block of a tar archive.
const BLOCK: usize = 512;

/// What an archive seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tar archive.
    Tar,
    /// Something that was compressed by gzip.
    Gzip,
    /// Something that was compressed by this program.
    Compressed(&'static str),
    /// Nothing at all.
    Empty,
    /// Something else.
    Other,
}

impl Kind {
    /// By the first block.
    fn of(block: &[u8]) -> Self {
        const MAGIC: [(&[u8], &str); 3] = [
            (b"\xfd7zXZ\0", "xz"),
            (b"BZh", "bzip2"),
            (b"\x28\xb5\x2f\xfd", "zstd"),
        ];
        let compressed = MAGIC.iter().find(|(magic, _)| block.starts_with(magic));
        match compressed {
            _ if block.is_empty() => Self::Empty,
            _ if block.starts_with(b"\x1f\x8b") => Self::Gzip,
            Some((_, program)) => Self::Compressed(program),
            None if is_tar(block) => Self::Tar,
            None => Self::Other,
        }
    }
}

/// Whether a block is a header with its checksum (POSIX, pax, "ustar Header Block"), or the mark at
/// the end of an archive without entries.
fn is_tar(block: &[u8]) -> bool {
    if block.len() < BLOCK {
        return false;
    }
    if block.iter().all(|byte| *byte == 0) {
        return true;
    }
    let field = block.get(148..156).unwrap_or_default();
    let text = String::from_utf8_lossy(field);
    let told = u64::from_str_radix(text.trim_matches([' ', '\0']), 8).ok();
    let sum = |bytes: Option<&[u8]>| -> u64 {
        let bytes = bytes.unwrap_or_default();
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    };
    let blanks = 8 * u64::from(b' ');
    told == Some(sum(block.get(..148)) + blanks + sum(block.get(156..BLOCK)))
}

/// Something that is read.
pub struct Source {
    /// What has been read of it to see what it is, and the rest.
    reader: Chain<Cursor<Vec<u8>>, Box<dyn Read + Send>>,
    /// Bytes in all, if it is a file.
    size: Option<u64>,
    /// What it seems to be.
    pub kind: Kind,
}

impl Source {
    /// Opens a file; none, or `-`: standard input.
    ///
    /// # Errors
    /// When it is a terminal, or can't be read.
    pub fn open(path: Option<&Path>) -> CommandResult<Self> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else {
            if io::stdin().is_terminal() {
                return Err(CommandError::usage(
                    "an archive doesn't come from a terminal: give it by a file or a pipe",
                ));
            }
            return Self::of(Box::new(io::stdin()), None)
                .map_err(|error| failed("standard input", &error));
        };
        let open = || {
            let file = File::open(path)?;
            let found = file.metadata()?;
            Self::of(Box::new(file), found.is_file().then_some(found.len()))
        };
        open().map_err(|error| failed(&format!("'{}'", path.display()), &error))
    }

    fn of(mut reader: Box<dyn Read + Send>, size: Option<u64>) -> io::Result<Self> {
        let mut block = Vec::with_capacity(BLOCK);
        (&mut reader).take(BLOCK as u64).read_to_end(&mut block)?;
        Ok(Self {
            kind: Kind::of(&block),
            reader: Cursor::new(block).chain(reader),
            size,
        })
    }

    /// All of it as text, which has this name in errors.
    ///
    /// # Errors
    /// When it is none, or can't be read.
    pub fn text(mut self, name: &str) -> CommandResult<String> {
        let mut text = String::new();
        match self.reader.read_to_string(&mut text) {
            Ok(_) => Ok(text),
            Err(error) => Err(failed(name, &error)),
        }
    }

    /// Its pieces as they are, with the progress on standard error.
    pub fn stream(
        self,
        shown: Shown,
    ) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> + 'static {
        counted(pieces_of(self.reader), Transfer::of(self.size, shown))
    }

    /// The pieces of the tar archive that it is, or that is compressed in it.
    ///
    /// # Errors
    /// When it is none, or one that has to be decompressed by another program.
    pub fn tar(
        self,
        shown: Shown,
    ) -> CommandResult<impl Stream<Item = io::Result<Bytes>> + Send + use<> + 'static> {
        let (pieces, size) = match self.kind {
            Kind::Tar => (pieces_of(self.reader), self.size),
            Kind::Gzip => (pieces_of(MultiGzDecoder::new(self.reader)), None),
            kind => return Err(no_archive(kind)),
        };
        Ok(counted(pieces, Transfer::of(size, shown)))
    }
}

/// That something isn't a tar archive.
pub fn no_archive(kind: Kind) -> CommandError {
    match kind {
        Kind::Compressed(program) => {
            CommandError::failure(format!("the archive is compressed by {program}")).hint(format!(
                "decompress it on the way: {program} -dc FILE | klee …"
            ))
        }
        Kind::Empty => CommandError::failure("there is no archive: the input is empty"),
        Kind::Tar | Kind::Gzip | Kind::Other => {
            CommandError::failure("this is no tar archive, neither plain nor compressed by gzip")
        }
    }
}

fn failed(what: &str, error: &io::Error) -> CommandError {
    CommandError::failure(format!("can't read {what}: {error}"))
}

fn counted(
    mut pieces: Receiver<io::Result<Bytes>>,
    mut progress: Transfer,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    stream::poll_fn(move |context| {
        let piece = pieces.poll_recv(context);
        if let std::task::Poll::Ready(Some(Ok(piece))) = &piece {
            progress.add(piece.len());
        }
        piece
    })
}

/// Reads on a thread of its own, one that nobody waits for: what it reads may never end. The pieces
/// end with an error when it can't be read.
fn pieces_of(mut reader: impl Read + Send + 'static) -> Receiver<io::Result<Bytes>> {
    let (pieces, waiting) = channel(WAITING);
    thread::spawn(move || {
        loop {
            let mut piece = Vec::with_capacity(PIECE);
            let read = (&mut reader).take(PIECE as u64).read_to_end(&mut piece);
            let last = piece.is_empty() || read.is_err();
            let piece = read.map(|_| Bytes::from(piece));
            let wanted = piece.as_ref().map_or(true, |piece| !piece.is_empty());
            if wanted && pieces.blocking_send(piece).is_err() || last {
                return;
            }
        }
    });
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_the_first_block() {
        let archive = |name: &str| {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            builder.append_data(&mut header, name, &b"x"[..]).unwrap();
            builder.into_inner().unwrap()
        };
        let empty = tar::Builder::new(Vec::new()).into_inner().unwrap();
        for (bytes, kind) in [
            (archive("a"), Kind::Tar),
            (archive("é"), Kind::Tar),
            (empty, Kind::Tar),
            (b"\x1f\x8b\x08".to_vec(), Kind::Gzip),
            (b"\xfd7zXZ\0".to_vec(), Kind::Compressed("xz")),
            (b"BZh9".to_vec(), Kind::Compressed("bzip2")),
            (b"\x28\xb5\x2f\xfd".to_vec(), Kind::Compressed("zstd")),
            (b"FROM base\nRUN x\n".to_vec(), Kind::Other),
            (vec![b'x'; BLOCK], Kind::Other),
            (Vec::new(), Kind::Empty),
        ] {
            let source = Source::of(Box::new(Cursor::new(bytes.clone())), None).unwrap();
            assert_eq!(source.kind, kind, "{bytes:?}");
            let mut again = Vec::new();
            let mut reader = source.reader;
            reader.read_to_end(&mut again).unwrap();
            assert_eq!(again, bytes);
        }
    }
}
