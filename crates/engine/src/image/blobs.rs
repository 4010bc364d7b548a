//! Blobs that are on their way: downloaded, unpacked, made or sent. They are kept only as long as
//! somebody needs them, and several may need the same one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use kleene_doors::distribution::Distribution;
use kleene_types::Digest;
use tracing::warn;

/// Who needs which blobs.
#[derive(Debug, Default)]
pub(crate) struct BlobsInUse(Mutex<HashMap<Digest, usize>>);

impl BlobsInUse {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that somebody needs blobs, as long as the answer is kept. Those that nobody needs after
    /// that are discarded if the work is done, and kept for the next try otherwise.
    pub(super) fn need<'b>(
        &'b self,
        distribution: &'b dyn Distribution,
        blobs: impl IntoIterator<Item = Digest>,
    ) -> NeededBlobs<'b> {
        let mut needed = NeededBlobs {
            all: self,
            distribution,
            blobs: Vec::new(),
            done: false,
        };
        blobs.into_iter().for_each(|blob| needed.add(blob));
        needed
    }
}

/// See [`BlobsInUse::need`].
pub(super) struct NeededBlobs<'b> {
    all: &'b BlobsInUse,
    distribution: &'b dyn Distribution,
    blobs: Vec<Digest>,
    done: bool,
}

impl NeededBlobs<'_> {
    /// One more is needed.
    pub(super) fn add(&mut self, blob: Digest) {
        *self.all.lock().entry(blob.clone()).or_insert(0) += 1;
        self.blobs.push(blob);
    }

    /// The work is done.
    pub(super) fn done(&mut self) {
        self.done = true;
    }
}

impl Drop for NeededBlobs<'_> {
    fn drop(&mut self) {
        // With the lock held: nobody may come to need one between the look and its end.
        let mut all = self.all.lock();
        let mut unneeded = Vec::new();
        for blob in self.blobs.drain(..) {
            match all.get_mut(&blob) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    all.remove(&blob);
                    unneeded.push(blob);
                }
            }
        }
        if self.done
            && let Err(problem) = self.distribution.discard(&unneeded)
        {
            // They are removed some time after the next start.
            warn!(%problem, "blobs that nobody needs stay for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use kleene_doors::distribution::{Compression, LayerDescriptor};
    use kleene_oci::fake::FakeDistribution;

    use super::*;

    fn layer(room: &FakeDistribution, text: &str) -> LayerDescriptor {
        let mut write = |to: &mut dyn Write| to.write_all(text.as_bytes());
        room.add_layer(Compression::None, &mut write).unwrap()
    }

    #[test]
    fn the_last_one_discards() {
        let (room, all) = (FakeDistribution::new(), BlobsInUse::default());
        let (shared, own) = (layer(&room, "shared").digest, layer(&room, "own").digest);
        let mut one = all.need(&room, [shared.clone(), own.clone()]);
        let mut other = all.need(&room, [shared.clone()]);
        one.done();
        drop(one);
        assert!(room.has_blob(&shared) && !room.has_blob(&own));
        other.done();
        drop(other);
        assert!(!room.has_blob(&shared) && all.lock().is_empty());
    }

    #[test]
    fn what_has_failed_keeps_its_blobs() {
        let (room, all) = (FakeDistribution::new(), BlobsInUse::default());
        let blob = layer(&room, "x").digest;
        drop(all.need(&room, [blob.clone()]));
        assert!(room.has_blob(&blob) && all.lock().is_empty());
    }
}
