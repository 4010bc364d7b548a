//! Reads compressed streams. What they are compressed with is told by their first bytes: names and
//! servers' content types are often wrong.

use std::io::{self, BufRead, Read};

use bzip2::bufread::MultiBzDecoder;
use flate2::bufread::MultiGzDecoder;
use liblzma::bufread::XzDecoder;

/// As many bytes of a stream's beginning as tell how it is compressed.
pub const HEAD: usize = 16;

/// What the decoder of xz may take. The strongest preset needs 65 MiB; an archive can ask for 4 GiB.
const XZ_MEMORY: u64 = 512 << 20;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all, or in a way that isn't known here.
    None,
    /// gzip(1).
    Gzip,
    /// xz(1).
    Xz,
    /// zstd(1).
    Zstd,
    /// bzip2(1).
    Bzip2,
}

/// How a stream that starts like this is compressed.
pub fn compression(head: &[u8]) -> Compression {
    let is_skippable_zstd = matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]);
    match head {
        [0x1f, 0x8b, 8, ..] => Compression::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, ..] => Compression::Bzip2,
        _ if is_skippable_zstd => Compression::Zstd,
        _ => Compression::None,
    }
}

/// Reads a stream that is compressed like this, decompressed. Several compressed streams one after the
/// other count as one.
///
/// # Errors
/// When a decoder can't be set up. What is wrong with the stream comes with reading.
pub fn decoder<'r>(
    compression: Compression,
    input: impl BufRead + 'r,
) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(MultiBzDecoder::new(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Compression::Xz => {
            let flags = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, flags)?;
            Box::new(XzDecoder::new_stream(input, stream))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(compression(b"\x1f\x8b\x08\0"), Compression::Gzip);
        assert_eq!(compression(b"BZh9\x31\x41Y&SY"), Compression::Bzip2);
        assert_eq!(compression(b"BZh9name-of-a-file"), Compression::None);
        assert_eq!(compression(b"\x5a\x2a\x4d\x18rest"), Compression::Zstd);
        assert_eq!(compression(b""), Compression::None);
    }

    #[test]
    fn streams_come_out_as_they_went_in() {
        use std::io::Write;
        let text = b"the same text again and again, the same text again and again";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(text).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(text).unwrap();
        for packed in [
            gzip.finish().unwrap(),
            xz.finish().unwrap(),
            bzip2.finish().unwrap(),
            zstd::encode_all(&text[..], 1).unwrap(),
            text.to_vec(),
        ] {
            let mut twice = packed.clone();
            if packed != text {
                twice.extend(&packed);
            }
            let kind = compression(&twice);
            let mut read = decoder(kind, twice.as_slice()).unwrap();
            let mut out = Vec::new();
            read.read_to_end(&mut out).unwrap();
            assert!(out.starts_with(text), "{kind:?}");
            assert_eq!(
                out.len() / text.len(),
                twice.len() / packed.len(),
                "{kind:?}"
            );
        }
    }
}
