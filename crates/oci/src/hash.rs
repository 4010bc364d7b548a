//! Computes digests.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use kleene_types::{Digest, DigestAlgorithm};
use ring::digest::{Context, SHA256, SHA512};

use crate::pieces::WAITING;

/// Computes a digest of what it is given, piece by piece.
pub(crate) struct Hasher {
    algorithm: DigestAlgorithm,
    context: Context,
    length: u64,
}

impl Hasher {
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        let context = Context::new(match algorithm {
            DigestAlgorithm::Sha256 => &SHA256,
            DigestAlgorithm::Sha512 => &SHA512,
        });
        Self {
            algorithm,
            context,
            length: 0,
        }
    }

    pub fn update(&mut self, data: &[u8]) {
        self.context.update(data);
        self.length += data.len() as u64;
    }

    /// How many bytes it has been given.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn finish(self) -> Digest {
        Digest::of_hash(self.algorithm, self.context.finish().as_ref())
    }
}

/// Computes a digest on a thread of its own.
pub(crate) struct HashingAside {
    pieces: SyncSender<Vec<u8>>,
    /// Buffers that were hashed.
    spare: Receiver<Vec<u8>>,
    thread: JoinHandle<Hasher>,
}

impl HashingAside {
    /// Goes on with a hasher.
    ///
    /// # Errors
    /// When there can be no further thread.
    pub fn start(mut hasher: Hasher) -> io::Result<Self> {
        let (pieces, receiver) = sync_channel::<Vec<u8>>(WAITING);
        let (sender, spare) = channel();
        let work = move || {
            for piece in receiver {
                hasher.update(&piece);
                // Nobody has to want it back.
                let _ = sender.send(piece);
            }
            hasher
        };
        Ok(Self {
            pieces,
            spare,
            thread: Builder::new().name("digest".to_owned()).spawn(work)?,
        })
    }

    /// Takes a piece, and gives a buffer for the next one.
    pub fn update(&mut self, piece: Vec<u8>) -> Vec<u8> {
        // That the thread has failed is found at the end.
        let _ = self.pieces.send(piece);
        self.spare.try_recv().unwrap_or_default()
    }

    /// The hasher, which has seen everything.
    pub fn finish(self) -> io::Result<Hasher> {
        drop(self.pieces);
        let joined = self.thread.join();
        joined.map_err(|_| io::Error::other("computing a digest has failed"))
    }
}

/// The digest of some bytes.
pub(crate) fn digest(algorithm: DigestAlgorithm, data: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(data);
    hasher.finish()
}

/// The digest of all that can be read, in pieces of 128 KiB.
pub(crate) fn digest_of(algorithm: DigestAlgorithm, mut from: impl Read) -> io::Result<Digest> {
    let mut hasher = Hasher::new(algorithm);
    io::copy(&mut from, &mut Hashing::new(io::sink(), &mut hasher))?;
    Ok(hasher.finish())
}

/// Hashes what is written through it.
pub(crate) struct Hashing<'h, W> {
    inner: W,
    hasher: &'h mut Hasher,
}

impl<'h, W> Hashing<'h, W> {
    pub fn new(inner: W, hasher: &'h mut Hasher) -> Self {
        Self { inner, hasher }
    }
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hasher.update(data.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(
            digest(DigestAlgorithm::Sha256, b"abc").as_str(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let sha512 = digest_of(DigestAlgorithm::Sha512, &b"abc"[..]).unwrap();
        assert!(
            sha512
                .as_str()
                .starts_with("sha512:ddaf35a193617abacc417349ae204131")
        );
    }
}
