//! The directory of blobs: `blobs/ALGORITHM/HEX`, beginnings of them as `HEX.part`, and files whose
//! digest isn't known yet in `incoming`.
//!
//! It is a cache. Nothing in it waits for the disk; a file that a power failure has damaged is found
//! by its size or digest when it is used, and removed.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use kleene_doors::distribution::Collected;
use kleene_types::{Digest, DigestAlgorithm};

use crate::error::Trouble;

const ALGORITHMS: [DigestAlgorithm; 2] = [DigestAlgorithm::Sha256, DigestAlgorithm::Sha512];

/// The directory.
#[derive(Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
    /// What this process's incoming files begin with.
    prefix: String,
    number: AtomicU64,
    /// Blobs that somebody is making.
    busy: Mutex<HashSet<Digest>>,
    bell: Condvar,
}

/// The right to make a blob.
pub(crate) struct Making<'b> {
    blobs: &'b Blobs,
    digest: Digest,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut busy = self.blobs.lock();
        busy.remove(&self.digest);
        self.blobs.bell.notify_all();
    }
}

/// A new file that becomes a blob, or goes away.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub file: File,
    pub place: Place,
}

/// Where a new file is.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    kept: bool,
}

impl Place {
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.kept {
            // Otherwise found and removed later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Blobs {
    /// Uses a directory, which is made when it is needed.
    pub fn new(root: PathBuf) -> Self {
        // A process of the same number before a reboot was another one.
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or_default().as_nanos();
        Self {
            root,
            prefix: format!("{}-{started:x}-", process::id()),
            number: AtomicU64::new(0),
            busy: Mutex::default(),
            bell: Condvar::new(),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.directory(digest.algorithm()).join(digest.hex())
    }

    fn part_path(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}.part", digest.hex());
        self.directory(digest.algorithm()).join(name)
    }

    fn directory(&self, algorithm: DigestAlgorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    fn incoming_directory(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The size of a blob that is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Whether the blob is here, in its full size. Then it counts as used now.
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        let here = self.size(digest) == Some(size);
        if here && let Ok(file) = File::open(self.path(digest)) {
            // Nobody depends on it: it is for those who clean up.
            let _ = file.set_modified(SystemTime::now());
        }
        here
    }

    pub fn open(&self, digest: &Digest) -> io::Result<File> {
        File::open(self.path(digest))
    }

    /// The beginning of a blob, which may be empty.
    pub fn part(&self, digest: &Digest) -> io::Result<File> {
        make_directory(&self.directory(digest.algorithm()))?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.part_path(digest))
    }

    /// The beginning has become the whole.
    pub fn complete(&self, digest: &Digest) -> io::Result<()> {
        fs::rename(self.part_path(digest), self.path(digest))
    }

    pub fn remove_part(&self, digest: &Digest) {
        // What can't be removed now is found and removed later.
        let _ = fs::remove_file(self.part_path(digest));
    }

    /// A new, empty file.
    pub fn incoming(&self) -> io::Result<Incoming> {
        make_directory(&self.incoming_directory())?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{number}", self.prefix);
        let path = self.incoming_directory().join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Incoming {
            file,
            place: Place { path, kept: false },
        })
    }

    /// Makes a new file a blob. The digest is the file's.
    pub fn keep(&self, mut place: Place, digest: &Digest) -> io::Result<()> {
        make_directory(&self.directory(digest.algorithm()))?;
        fs::rename(&place.path, self.path(digest))?;
        place.kept = true;
        Ok(())
    }

    /// Waits until nobody else is making this blob.
    pub fn make<'b>(
        &'b self,
        digest: &Digest,
        mut waiting: impl FnMut() -> Result<(), Trouble>,
    ) -> Result<Making<'b>, Trouble> {
        let mut busy = self.lock();
        while !busy.insert(digest.clone()) {
            drop(busy);
            waiting()?;
            busy = self.lock();
            if busy.contains(digest) {
                // Rung by whoever is done; now and then, to hear of being called off.
                let waited = self.bell.wait_timeout(busy, Duration::from_millis(100));
                busy = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        drop(busy);
        Ok(Making {
            blobs: self,
            digest: digest.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a blob, if it is here.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes what has been untouched for so long and isn't to be kept.
    pub fn collect(&self, keep: &[Digest], unused_for: Duration) -> io::Result<Collected> {
        let mut collected = Collected::default();
        for algorithm in ALGORITHMS {
            let kept: HashSet<&str> = keep
                .iter()
                .filter(|digest| digest.algorithm() == algorithm)
                .map(Digest::hex)
                .collect();
            // Held, so that nobody begins to make what is being removed.
            let busy = self.lock();
            let is_busy = |hex: &str| {
                let digest: Result<Digest, _> = format!("{}:{hex}", algorithm.as_str()).parse();
                digest.is_ok_and(|digest| busy.contains(&digest))
            };
            let stays = |name: &str| {
                let hex = name.strip_suffix(".part").unwrap_or(name);
                kept.contains(name) || is_busy(hex)
            };
            sweep(
                &self.directory(algorithm),
                unused_for,
                stays,
                &mut collected,
            )?;
        }
        let stays = |name: &str| name.starts_with(&self.prefix);
        sweep(
            &self.incoming_directory(),
            unused_for,
            stays,
            &mut collected,
        )?;
        Ok(collected)
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sweep(
    directory: &Path,
    unused_for: Duration,
    stays: impl Fn(&str) -> bool,
    collected: &mut Collected,
) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&stays) {
            continue;
        }
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        // What was touched in the future was touched just now.
        let age = metadata.modified()?.elapsed().unwrap_or_default();
        if metadata.is_file() && age >= unused_for {
            fs::remove_file(entry.path())?;
            collected.blobs += 1;
            collected.bytes += metadata.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::hash::digest;

    fn blob(blobs: &Blobs, content: &[u8]) -> Digest {
        let digest = digest(DigestAlgorithm::Sha256, content);
        let mut incoming = blobs.incoming().unwrap();
        incoming.file.write_all(content).unwrap();
        blobs.keep(incoming.place, &digest).unwrap();
        digest
    }

    fn age(path: &Path) {
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(long_ago).unwrap();
    }

    #[test]
    fn nobody_else_may_look_in() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().join("a/b"));
        let digest = blob(&blobs, b"x");
        for (path, mode) in [
            ("a", 0o700),
            ("a/b/blobs/sha256", 0o700),
            ("a/b/incoming", 0o700),
        ] {
            let metadata = fs::metadata(dir.path().join(path)).unwrap();
            assert_eq!(metadata.mode() & 0o777, mode, "{path}");
        }
        assert_eq!(
            fs::metadata(blobs.path(&digest)).unwrap().mode() & 0o777,
            0o600
        );
        assert!(blobs.has(&digest, 1) && !blobs.has(&digest, 2));
        blobs.remove(&digest).unwrap();
        blobs.remove(&digest).unwrap();
        assert!(!blobs.has(&digest, 1));
    }

    #[test]
    fn what_is_given_up_goes_away() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().to_owned());
        drop(blobs.incoming().unwrap());
        assert_eq!(
            fs::read_dir(dir.path().join("incoming")).unwrap().count(),
            0
        );
    }

    #[test]
    fn only_what_is_old_and_unwanted_is_collected() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().to_owned());
        assert_eq!(
            blobs.collect(&[], Duration::ZERO).unwrap(),
            Collected::default()
        );
        let [old, kept, new, part, busy] =
            [b"old", b"kep", b"new", b"par", b"bus"].map(|content| blob(&blobs, content));
        for digest in [&part, &busy] {
            fs::rename(blobs.path(digest), blobs.part_path(digest)).unwrap();
            age(&blobs.part_path(digest));
        }
        for digest in [&old, &kept] {
            age(&blobs.path(digest));
        }
        let stale = dir.path().join("incoming/1-2-3");
        fs::write(&stale, "xx").unwrap();
        age(&stale);
        let own = blobs.incoming().unwrap();
        age(&own.place.path);
        let making = blobs.make(&busy, || Ok(())).unwrap();
        let collected = blobs.collect(std::slice::from_ref(&kept), Duration::from_secs(60));
        assert_eq!(collected.unwrap(), Collected { blobs: 3, bytes: 8 });
        assert!(blobs.has(&kept, 3) && blobs.has(&new, 3));
        assert!(blobs.part_path(&busy).exists() && own.place.path.exists());
        drop(making);
        assert_eq!(
            blobs.collect(&[], Duration::from_secs(60)).unwrap().blobs,
            1
        );
    }

    #[test]
    fn one_at_a_time_makes_a_blob() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(dir.path().to_owned());
        let digest = digest(DigestAlgorithm::Sha256, b"x");
        let making = blobs.make(&digest, || Ok(())).unwrap();
        let refused = blobs.make(&digest, || Err(Trouble::Cancelled));
        assert!(matches!(refused, Err(Trouble::Cancelled)));
        std::thread::scope(|scope| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let (blobs, digest) = (&blobs, &digest);
            let waiting = scope.spawn(move || {
                blobs
                    .make(digest, || {
                        let _ = sender.send(());
                        Ok(())
                    })
                    .map(drop)
            });
            receiver.recv().unwrap();
            drop(making);
            waiting.join().unwrap().unwrap();
        });
    }
}
