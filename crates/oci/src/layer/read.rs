//! Reads a layer's archive out of its blob.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use kleene_doors::distribution::{Compression, DistributionError, LayerDescriptor, LayerRead};
use kleene_types::Digest;
use liblzma::bufread::XzDecoder;

use super::ahead::Ahead;
use crate::blobs::Blobs;
use crate::error::io_error;
use crate::hash::{self, Hasher};

/// Read from a blob at once.
const CHUNK: usize = 256 << 10;

/// Logarithm of the largest window that a zstd stream may ask memory for: 128 MiB, zstd's own limit.
const ZSTD_WINDOW: u32 = 27;

/// What a decoder of xz may take. The strongest preset needs 65 MiB; a stream can ask for 4 GiB.
const XZ_MEMORY: u64 = 512 << 20;

/// A layer being read.
pub(crate) struct LayerReader {
    blobs: Arc<Blobs>,
    layer: LayerDescriptor,
    content: Ahead,
    position: Arc<AtomicU64>,
    error: Option<String>,
}

impl LayerReader {
    /// Opens a layer that is here.
    pub fn open(blobs: &Arc<Blobs>, layer: &LayerDescriptor) -> Result<Self, DistributionError> {
        let missing = || {
            DistributionError::NotFound(format!(
                "the layer {} isn't here any more: get it again",
                layer.digest
            ))
        };
        match blobs.size(&layer.digest) {
            Some(size) if size == layer.size => {}
            Some(_) => {
                // Of no use to anybody.
                let _ = blobs.remove(&layer.digest);
                return Err(missing());
            }
            None => return Err(missing()),
        }
        let failed = |error| io_error(format!("reading the layer {}", layer.digest), error);
        let file = match blobs.open(&layer.digest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
            file => file.map_err(failed)?,
        };
        let position = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            file,
            position: Arc::clone(&position),
        };
        let mut input = BufReader::with_capacity(CHUNK, counted);
        check(input.fill_buf().map_err(failed)?, layer)?;
        let hasher = Hasher::new(layer.diff_id.algorithm());
        let content = decoder(input).and_then(|decoder| Ahead::start(decoder, hasher));
        Ok(Self {
            blobs: Arc::clone(blobs),
            layer: layer.clone(),
            content: content.map_err(failed)?,
            position,
            error: None,
        })
    }

    /// Says what is wrong with the layer. A blob that isn't what its name says is removed.
    fn damaged(&self, why: &str) -> DistributionError {
        let digest = &self.layer.digest;
        let intact = self
            .blobs
            .open(digest)
            .and_then(|file| hash::digest_of(digest.algorithm(), file))
            .is_ok_and(|found| found == *digest);
        if intact {
            return DistributionError::Invalid(format!("the layer {digest} can't be used: {why}"));
        }
        let _ = self.blobs.remove(digest);
        DistributionError::Invalid(format!(
            "the layer {digest} has been damaged on this host's disk and is removed: try again"
        ))
    }
}

impl Read for LayerReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(into);
        if let Err(error) = &read {
            self.error = Some(error.to_string());
        }
        read
    }
}

impl LayerRead for LayerReader {
    fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    fn finish(mut self: Box<Self>) -> Result<Digest, DistributionError> {
        if self.error.is_none() {
            // A failure is remembered.
            let _ = io::copy(&mut self, &mut io::sink());
        }
        if let Some(error) = &self.error {
            return Err(self.damaged(error));
        }
        let found = match self.content.finish() {
            Some(hasher) => hasher.finish(),
            None => return Err(self.damaged("reading it has failed")),
        };
        if found == self.layer.diff_id {
            return Ok(found);
        }
        Err(self.damaged(&format!(
            "its content has the digest {found}, but the image says {}",
            self.layer.diff_id
        )))
    }
}

/// Counts what has been read of a blob.
struct Counted {
    file: File,
    position: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.position.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// What a stream is, by its first bytes: media types are sometimes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Gzip,
    Zstd,
    Xz,
    Bzip2,
}

pub(crate) fn kind(head: &[u8]) -> Kind {
    match head {
        [0x1f, 0x8b, 8, ..] => Kind::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Kind::Zstd,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Kind::Xz,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Kind::Bzip2,
        _ => Kind::Plain,
    }
}

/// Refuses what is neither what its media type says nor one of the other two that layers can be.
fn check(head: &[u8], layer: &LayerDescriptor) -> Result<(), DistributionError> {
    let is_tar = head.get(257..262).is_some_and(|magic| magic == b"ustar")
        || head
            .get(..512)
            .is_some_and(|block| block.iter().all(|b| *b == 0));
    let good = match kind(head) {
        Kind::Gzip | Kind::Zstd => true,
        Kind::Xz | Kind::Bzip2 => false,
        Kind::Plain => layer.compression == Compression::None || is_tar,
    };
    if good {
        return Ok(());
    }
    Err(DistributionError::Invalid(format!(
        "the layer {} isn't compressed the way its image says, nor any other that is known",
        layer.digest
    )))
}

/// Decompresses a stream, whatever it is.
pub(crate) fn decoder<'r>(
    mut input: impl BufRead + Send + 'r,
) -> io::Result<Box<dyn Read + Send + 'r>> {
    Ok(match kind(input.fill_buf()?) {
        Kind::Plain => Box::new(input),
        Kind::Gzip => Box::new(MultiGzDecoder::new(input)),
        Kind::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Kind::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
        Kind::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
    })
}
