//! Makes a layer's blob of its archive.

use std::io::{self, BufWriter, Write};

use flate2::GzBuilder;
use kleene_doors::distribution::{Compression, DistributionError, LayerDescriptor};
use kleene_types::DigestAlgorithm;

use crate::blobs::Blobs;
use crate::error::io_error;
use crate::hash::{Hasher, Hashing};

/// Written to a blob at once.
const CHUNK: usize = 256 << 10;

/// zstd's own default.
const ZSTD_LEVEL: i32 = 3;

/// What writes an archive.
pub(crate) type Producer<'p> = &'p mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Makes a blob of the archive that `produce` writes.
pub(crate) fn add(
    blobs: &Blobs,
    compression: Compression,
    produce: Producer<'_>,
) -> Result<LayerDescriptor, DistributionError> {
    let failed = |error| io_error("making a layer", error);
    let incoming = blobs.incoming().map_err(failed)?;
    let mut blob = Hasher::new(DigestAlgorithm::Sha256);
    let mut diff = Hasher::new(DigestAlgorithm::Sha256);
    let file = BufWriter::with_capacity(CHUNK, &incoming.file);
    let output = Hashing::new(file, &mut blob);
    compress(output, compression, &mut diff, produce).map_err(failed)?;
    let (size, digest) = (blob.length(), blob.finish());
    blobs.keep(incoming.place, &digest).map_err(failed)?;
    Ok(LayerDescriptor {
        digest,
        size,
        compression,
        diff_id: diff.finish(),
    })
}

fn compress(
    output: impl Write,
    compression: Compression,
    diff: &mut Hasher,
    produce: Producer<'_>,
) -> io::Result<()> {
    let mut output = match compression {
        Compression::None => {
            let mut output = output;
            produce(&mut Hashing::new(&mut output, diff))?;
            return output.flush();
        }
        Compression::Gzip => {
            // Without a date or a name, so that the same archive makes the same blob.
            let level = flate2::Compression::default();
            let mut encoder = GzBuilder::new().write(output, level);
            produce(&mut Hashing::new(&mut encoder, diff))?;
            encoder.finish()?
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(output, ZSTD_LEVEL)?;
            encoder.include_checksum(true)?;
            produce(&mut Hashing::new(&mut encoder, diff))?;
            encoder.finish()?
        }
    };
    output.flush()
}
