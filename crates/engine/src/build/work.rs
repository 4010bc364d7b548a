//! Directories that builds work in, and what builds use at this moment.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use kleene_doors::files::{FilesOf, UnpackOptions};
use kleene_doors::storage::Root;
use kleene_types::{ExecId, VolumeName};
use tracing::warn;

use crate::{Engine, EngineError};

/// Where builds work, beneath the directory of the daemon's metadata.
const WORK: &str = "build";

/// Where the caches of `RUN --mount=type=cache` are.
const CACHES: &str = "build-cache";

/// A private directory that goes with this value.
#[derive(Debug)]
pub(super) struct WorkDirectory(PathBuf);

impl WorkDirectory {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file that everybody may read and execute.
    pub(super) fn write_executable(&self, name: &str, content: &[u8]) -> Result<(), EngineError> {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        fs::write(&path, content)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .map_err(failed("writing", &path))
    }

    /// The directory as a tree to copy into.
    pub(super) fn root(&self) -> Root {
        Root::Directory {
            path: self.0.clone(),
        }
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        if let Err(problem) = fs::remove_dir_all(&self.0) {
            // The daemon's next start removes it.
            warn!(directory = %self.0.display(), %problem, "what a build has left");
        }
    }
}

/// The context of a build that a client has sent. It goes with this value.
#[derive(Debug)]
pub struct ReceivedContext(WorkDirectory);

impl ReceivedContext {
    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// What builds use, which others mustn't remove meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Builds {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    volumes: HashMap<VolumeName, usize>,
    caches: HashMap<String, usize>,
    locked: HashMap<String, ()>,
}

impl Builds {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a build mounts volumes, as long as the answer is kept.
    pub(super) fn use_volumes(&self, volumes: Vec<VolumeName>) -> VolumesInUse<'_> {
        let mut state = self.lock();
        for volume in &volumes {
            *state.volumes.entry(volume.clone()).or_insert(0) += 1;
        }
        VolumesInUse {
            builds: self,
            volumes,
        }
    }

    /// Whether a build mounts a volume.
    pub(crate) fn uses_volume(&self, volume: &VolumeName) -> bool {
        self.lock().volumes.contains_key(volume)
    }

    /// Notes that a cache is used, as long as the answer is kept; with `alone` not before nobody else
    /// uses it alone, too.
    pub(super) fn use_cache(&self, name: &str, alone: bool) -> CacheInUse<'_> {
        let mut state = self.lock();
        while alone && state.locked.contains_key(name) {
            state = self
                .free
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *state.caches.entry(name.to_owned()).or_insert(0) += 1;
        if alone {
            state.locked.insert(name.to_owned(), ());
        }
        CacheInUse {
            builds: self,
            name: name.to_owned(),
            alone,
        }
    }

    /// Whether somebody uses a cache.
    pub(super) fn uses_cache(&self, name: &str) -> bool {
        self.lock().caches.contains_key(name)
    }
}

/// See [`Builds::use_volumes`].
#[derive(Debug)]
pub(super) struct VolumesInUse<'b> {
    builds: &'b Builds,
    volumes: Vec<VolumeName>,
}

impl Drop for VolumesInUse<'_> {
    fn drop(&mut self) {
        let mut state = self.builds.lock();
        for volume in &self.volumes {
            release(&mut state.volumes, volume);
        }
    }
}

/// See [`Builds::use_cache`].
#[derive(Debug)]
pub(super) struct CacheInUse<'b> {
    builds: &'b Builds,
    name: String,
    alone: bool,
}

impl Drop for CacheInUse<'_> {
    fn drop(&mut self) {
        let mut state = self.builds.lock();
        release(&mut state.caches, &self.name);
        if self.alone {
            state.locked.remove(&self.name);
        }
        drop(state);
        self.builds.free.notify_all();
    }
}

fn release<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// Makes a private directory, and those above it.
fn make_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn failed(what: &str, path: &Path) -> impl FnOnce(io::Error) -> EngineError {
    let context = format!("{what} '{}' failed", path.display());
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::NoSpace(format!(
            "{context}: no space left: free some space and try again"
        )),
        _ => EngineError::Internal {
            context: format!("{context}: {error}"),
            source: Box::new(error),
        },
    }
}

impl Engine {
    /// A new private directory for a build.
    pub(super) fn work_directory(&self) -> Result<WorkDirectory, EngineError> {
        let above = self.storage.info().metadata.join(WORK);
        let path = above.join(ExecId::random().as_str());
        make_private(&path).map_err(failed("making the directory", &path))?;
        Ok(WorkDirectory(path))
    }

    /// Unpacks the context of a build that a client sends as a tar archive. Everything in it belongs
    /// to root, as what is copied from a context does.
    ///
    /// # Errors
    /// When the archive is damaged or hostile; nothing of it is left then.
    pub fn receive_context(&self, from: &mut dyn Read) -> Result<ReceivedContext, EngineError> {
        let directory = self.work_directory()?;
        let of = FilesOf::Stopped {
            root: directory.root(),
            mounts: Vec::new(),
        };
        // COPY leaves devices out as well.
        let options = UnpackOptions {
            keep_owner: false,
            skip_devices: true,
        };
        self.host
            .write_archive(&of, Path::new("/"), from, options)?;
        Ok(ReceivedContext(directory))
    }

    /// Removes what the builds of a daemon that has died have left.
    pub(crate) fn remove_build_leftovers(&self) -> Result<(), EngineError> {
        let path = self.storage.info().metadata.join(WORK);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(failed("removing", &path)),
        }
    }

    /// The directory of a cache.
    pub(super) fn cache_directory(&self, name: &str) -> Result<PathBuf, EngineError> {
        let path = self.storage.info().metadata.join(CACHES).join(name);
        make_private(&path).map_err(failed("making the directory", &path))?;
        Ok(path)
    }

    /// Removes the caches that no build uses. Answers the bytes that come free, or would.
    pub(crate) fn prune_caches(&self, dry_run: bool) -> Result<u64, EngineError> {
        let above = self.storage.info().metadata.join(CACHES);
        let entries = match fs::read_dir(&above) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(failed("reading", &above))?,
        };
        let mut bytes = 0;
        for entry in entries {
            let entry = entry.map_err(failed("reading", &above))?;
            let path = entry.path();
            if self.builds.uses_cache(&entry.file_name().to_string_lossy()) {
                continue;
            }
            bytes += occupied(&path).map_err(failed("measuring", &path))?;
            if !dry_run {
                fs::remove_dir_all(&path).map_err(failed("removing", &path))?;
            }
        }
        Ok(bytes)
    }
}

/// Bytes that a tree's files occupy. Links aren't followed.
fn occupied(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::symlink_metadata(path)?;
    let mut bytes = meta.blocks() * 512;
    if meta.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes += occupied(&entry?.path())?;
        }
    }
    Ok(bytes)
}
